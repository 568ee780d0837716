//! How a service before an LLM refuses, in words that its clients understand.

use std::time::Duration;

use bytes::Bytes;
use http::{
    HeaderMap, HeaderName, HeaderValue, Response, StatusCode, header::CONTENT_TYPE, request,
};

use super::RequestId;
use crate::{Reason, Rejected, protocol::put_hint};

const ANTHROPIC_VERSION: HeaderName = HeaderName::from_static("anthropic-version");
const MESSAGES: &str = "/v1/messages";
/// What Anthropic's API says when it is overloaded.
const OVERLOADED: u16 = 529;

/// Whose API a request speaks: which words it uses, which its answer does, and how it is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Dialect {
    /// Chat completions, completions, responses, and whoever is compatible.
    OpenAi,
    /// Messages.
    Anthropic,
}

/// The answer to a refused request, in the [dialect of its path](Dialect::of):
///
/// ```
/// use tower_backpressure::{BackpressureLayer, limit::Aimd, llm};
///
/// let layer = BackpressureLayer::adaptive(Aimd::default()).respond(llm::refuse);
/// # let _ = layer;
/// ```
pub fn refuse(asked: &request::Parts, rejected: &Rejected) -> Response<Bytes> {
    Dialect::of(asked).refuse(asked, rejected)
}

/// As [`refuse`], in the dialect that `classify` says:
///
/// ```
/// use tower_backpressure::{BackpressureLayer, llm::{self, Dialect}};
///
/// let layer = BackpressureLayer::drop_newest(100).respond(llm::refuse_as(|head| {
///     match head.uri.path().starts_with("/claude") {
///         true => Dialect::Anthropic,
///         false => Dialect::OpenAi,
///     }
/// }));
/// # let _ = layer;
/// ```
pub fn refuse_as<F>(
    classify: F,
) -> impl Fn(&request::Parts, &Rejected) -> Response<Bytes> + Send + Sync + 'static
where
    F: Fn(&request::Parts) -> Dialect + Send + Sync + 'static,
{
    move |asked, rejected| classify(asked).refuse(asked, rejected)
}

/// Says when to come back, so that every SDK does: `Retry-After` in whole seconds and `retry-after-ms`, spread by up to 25 % upwards so
/// that callers told the same do not come back together, between 1 ms and 60 s. A wait above 60 s, which some SDKs shorten to
/// half a second, is told as it is, with `x-should-retry: false`.
pub fn hint(headers: &mut HeaderMap, retry_after: Duration) {
    put_hint(headers, Some(spread(retry_after).as_millis() as u64));
}

impl Dialect {
    /// The dialect of a request: Anthropic's where the path has `/v1/messages`, at its end or before a `/`, or where there is a header
    /// `anthropic-version`, which Anthropic's SDKs send with whatever they ask; else OpenAI's.
    pub fn of(asked: &request::Parts) -> Self {
        let path = asked.uri.path();
        let of_messages = path.find(MESSAGES).is_some_and(|at| {
            let rest = &path[at + MESSAGES.len()..];
            rest.is_empty() || rest.starts_with('/')
        });
        match of_messages || asked.headers.contains_key(ANTHROPIC_VERSION) {
            true => Dialect::Anthropic,
            false => Dialect::OpenAi,
        }
    }

    /// The answer to a refused request.
    pub fn refuse(self, asked: &request::Parts, rejected: &Rejected) -> Response<Bytes> {
        let status = match rejected.is_by_rate() && rejected.reason() != Reason::Draining {
            true => StatusCode::TOO_MANY_REQUESTS,
            false => self.overloaded(),
        };
        let id = RequestId::of(&asked.headers);
        self.error(status, &rejected.to_string(), &id)
    }

    /// The status of a service that is overloaded: 503, or Anthropic's 529.
    pub fn overloaded(self) -> StatusCode {
        let anthropic = StatusCode::from_u16(OVERLOADED);
        match self {
            Dialect::OpenAi => StatusCode::SERVICE_UNAVAILABLE,
            Dialect::Anthropic => anthropic.unwrap_or(StatusCode::SERVICE_UNAVAILABLE),
        }
    }

    /// A response that is an error, with the request's id in its headers. When to come back is said with [`hint`].
    pub fn error(self, status: StatusCode, message: &str, id: &RequestId) -> Response<Bytes> {
        let mut response = Response::new(self.body(status, message, id));
        *response.status_mut() = status;
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        id.put(headers);
        response
    }

    /// The event that ends a stream with an error, such as when the service shuts down before the answer is complete. It goes between
    /// two events ([`is_between_events`](super::sse::Reader::is_between_events)), and nothing comes after it.
    pub fn error_event(self, status: StatusCode, message: &str, id: &RequestId) -> Bytes {
        self.body(status, message, id)
    }

    fn body(self, status: StatusCode, message: &str, id: &RequestId) -> Bytes {
        let _ = (status, message, id);
        Bytes::new()
    }
}

fn spread(retry_after: Duration) -> Duration {
    retry_after
}
