//! What the layer has to know about the requests it holds back: how to refuse one, and how to see how one went.
//!
//! `Http` speaks HTTP and gRPC, whichever a request came in; [`Plain`] suits every other `Service + Clone`. Without the
//! feature `http` a layer has no protocol until `.plain()` gives it one.

#[cfg(feature = "http")]
mod accept;
#[cfg(feature = "http")]
mod body;
#[cfg(feature = "http")]
mod content;
#[cfg(feature = "http")]
mod grpc;
#[cfg(feature = "http")]
mod head;
#[cfg(feature = "http")]
mod hint;
#[cfg(feature = "http")]
mod http;
mod plain;
#[cfg(feature = "http")]
mod quota;
#[cfg(feature = "http")]
mod refusal;

use self::sealed::Sealed;
use crate::{
    Charge, Demand, Rejected,
    gate::{Gate, Holder, Permit},
};

pub use self::plain::{Classify, Cost, Exempt, PerKey, Plain, Policy, Settle};
#[cfg(feature = "http")]
pub use self::{
    body::ResponseBody,
    http::{Http, ReleaseAt, SampleAt},
    quota::RateHeaders,
};

#[cfg(feature = "llm")]
pub(crate) use self::{
    content::is_event_stream,
    hint::retry_after,
    http::outcome_of,
    refusal::{LONGEST_TAKEN, put_hint},
};

/// The protocol of a layer as it is made.
#[cfg(feature = "http")]
pub(crate) type Default = Http;
#[cfg(not(feature = "http"))]
pub(crate) type Default = NoHttp;

/// Stands where `Http` would, in a build without it: such a layer can be set up, and used after `.plain()`. So code that
/// compiles without the feature also compiles with it.
#[cfg(not(feature = "http"))]
#[derive(Clone, Copy, Debug)]
pub struct NoHttp;

/// How the layer refuses a request and reads an answer.
///
/// Implemented by `Http` and [`Plain`]; it cannot be implemented elsewhere.
pub trait Protocol<Req, Res, E>: Sees + Clone {
    /// What is answered.
    type Response;
    /// What goes wrong.
    type Error;
    /// What has to be remembered of a request until its answer.
    type Asked;

    /// What there is to see of a request before it is let in. Leaves it as it was.
    fn look(&self, request: &mut Req, gate: &Holder) -> Seen;

    /// What of it a call takes along, once its request was looked at.
    fn to_answer(&self) -> Self {
        self.clone()
    }

    /// Hands the charge of a request to the service.
    fn hand(&self, request: &mut Req, charge: &Charge);

    /// To be called just before the request goes to the inner service.
    fn asked(&self, request: &Req) -> Self::Asked;

    /// The answer to a request that was refused.
    fn refuse(
        &self,
        request: Req,
        rejected: Rejected,
        gate: &Gate,
    ) -> Result<Self::Response, Self::Error>;

    /// The inner service has answered: what goes out. The permit goes with it if it is needed for longer.
    fn answer(
        &self,
        asked: Self::Asked,
        answer: Result<Res, E>,
        permit: Option<Permit>,
    ) -> Result<Self::Response, Self::Error>;

    /// The inner service is no more.
    fn error(&self, error: E) -> Self::Error;
}

/// What was seen of a request before it was let in.
#[derive(Clone, Debug, Default)]
pub struct Seen {
    /// The gate is none of its business.
    pub(crate) exempt: bool,
    /// What it asks for, where that is not what all do.
    pub(crate) demand: Option<Demand>,
    /// The gate of its key.
    pub(crate) gate: Option<Holder>,
}

/// Whether requests have to be seen before they can be let in. Cannot be implemented elsewhere.
pub trait Sees: Sealed {
    /// If so, nobody can be made to wait before there is a request.
    fn sees_requests(&self) -> bool;
}

mod sealed {
    /// Keeps room for what protocols will have to know later.
    pub trait Sealed {}
}
