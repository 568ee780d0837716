//! One call after another through each layer, in the way in which axum makes them: clone the service, ready it, call it,
//! poll the answer to its end.
//!
//! The service behind the layer is at once ready with a constant, so that what is left is the layer. A call that is to be
//! refused finds the limit held full by calls that are never answered.

pub(crate) mod drive;
mod http;
mod stacks;
mod told;
pub mod worker;

use std::fmt;

pub use self::{
    drive::{Ask, Constant, hold},
    stacks::stacks,
};

/// A layer before the constant service, in one of the situations that are measured.
#[derive(Clone)]
pub struct Stack {
    /// What the table calls it.
    pub name: &'static str,
    /// What happens to its calls.
    pub path: Path,
    /// It reports to a recorder, and is measured with one as well.
    pub reports: bool,
    make: fn() -> Shared,
}

/// What happens to a call.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum Path {
    /// It is let in by a limit that stays.
    Admitted,
    /// It is let in by a limit that finds itself.
    Adaptive,
    /// The same, at the pace of a server and not at that of a loop, at which a limit may look at a few of the calls only.
    Paced,
    /// It is refused, since the limit is held full.
    Refused,
    /// It is let in, and is of HTTP's types.
    Http,
    /// It is refused in HTTP's words.
    HttpRefused,
}

impl Path {
    /// In the order of the tables.
    pub const ALL: [Self; 6] = [
        Self::Admitted,
        Self::Adaptive,
        Self::Paced,
        Self::Refused,
        Self::Http,
        Self::HttpRefused,
    ];

    /// The heading.
    pub fn title(self) -> &'static str {
        match self {
            Self::Admitted => "admitted, limit fixed",
            Self::Adaptive => "admitted, limit adaptive",
            Self::Paced => "limit adaptive, 90 calls per ms",
            Self::Refused => "refused",
            Self::Http => "HTTP's types, admitted",
            Self::HttpRefused => "HTTP's types, refused",
        }
    }

    /// The name of the stack to which the others are compared.
    pub fn reference(self) -> &'static str {
        match self {
            Self::Admitted => "tower GlobalConcurrencyLimit",
            Self::Adaptive | Self::Paced => "tower-acc Aimd",
            Self::Refused => "tower limit + LoadShed",
            Self::Http => "bare HTTP service",
            Self::HttpRefused => "a constant 503",
        }
    }

    /// On how many threads it is measured.
    pub fn threads(self) -> &'static [usize] {
        match self {
            Self::Paced => &[1],
            _ => &[1, 2],
        }
    }

    /// Whether its calls are let in.
    pub fn admits(self) -> bool {
        !matches!(self, Self::Refused | Self::HttpRefused)
    }
}

/// One limit, and the loops that share it.
pub type Shared = Box<dyn Fn() -> Loop>;

/// Makes so many calls on one thread.
pub type Loop = Box<dyn FnMut(u64) -> Tally + Send>;

/// What became of the calls of a loop.
#[derive(Clone, Copy, Debug, Default)]
pub struct Tally {
    /// How many were let in.
    pub admitted: u64,
    /// How often one was not ready, or its answer not there, at once.
    pub pending: u64,
}

impl Stack {
    /// A new limit.
    pub fn make(&self) -> Shared {
        (self.make)()
    }
}

impl fmt::Debug for Stack {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Stack")
            .field("name", &self.name)
            .field("path", &self.path)
            .finish_non_exhaustive()
    }
}
