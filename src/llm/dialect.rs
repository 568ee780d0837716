//! How a service before an LLM refuses, in words that its clients understand.

use std::time::Duration;

use bytes::Bytes;
use http::{
    HeaderMap, HeaderName, HeaderValue, Response, StatusCode, header::CONTENT_TYPE, request,
};

use super::{RequestId, json};
use crate::{
    Reason, Rejected,
    protocol::{LONGEST_TAKEN, put_hint},
};

const ANTHROPIC_VERSION: HeaderName = HeaderName::from_static("anthropic-version");
const MESSAGES: &str = "/v1/messages";
/// What Anthropic's API says when it is overloaded.
const OVERLOADED: u16 = 529;
const SPREAD: f64 = 0.25;

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

/// Says when to come back, so that every SDK does: `Retry-After` in whole seconds and `retry-after-ms`, spread by up to 25 %
/// upwards so that callers told the same do not come back together, between 1 ms and 60 s. A wait above 60 s, which some SDKs
/// shorten to half a second, is told as it is, with `x-should-retry: false`.
pub fn hint(headers: &mut HeaderMap, retry_after: Duration) {
    put_hint(headers, Some(millis(spread(retry_after))));
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
        // What a limit says is spread already; what a rate says is exact, and the same for all that are refused together.
        let after = match rejected.is_by_rate() {
            true => spread(rejected.retry_after()),
            false => rejected.retry_after(),
        };
        let told = Rejected::new(
            rejected.reason(),
            after,
            rejected.limit(),
            rejected.waited(),
        );
        let mut response = self.error(status, &told.to_string(), &id);
        let after = (!rejected.is_final()).then(|| millis(told.retry_after()));
        put_hint(response.headers_mut(), after);
        response
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
        let mut response = Response::new(Bytes::from(self.body(status, message, id)));
        *response.status_mut() = status;
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        id.put(headers);
        response
    }

    /// The event that ends a stream with an error, such as when the service shuts down before the answer is complete. It goes between
    /// two events ([`is_between_events`](super::sse::Reader::is_between_events)), and nothing comes after it.
    pub fn error_event(self, status: StatusCode, message: &str, id: &RequestId) -> Bytes {
        let body = self.body(status, message, id);
        let event = match self {
            Dialect::OpenAi => format!("data: {body}\n\n"),
            Dialect::Anthropic => format!("event: error\ndata: {body}\n\n"),
        };
        event.into()
    }

    fn body(self, status: StatusCode, message: &str, id: &RequestId) -> String {
        let message = json::quoted(message);
        match self {
            Dialect::OpenAi => {
                let (kind, code) = openai_kind(status.as_u16());
                let code = code.map_or(String::from("null"), json::quoted);
                format!(
                    r#"{{"error":{{"message":{message},"type":"{kind}","param":null,"code":{code}}}}}"#
                )
            }
            Dialect::Anthropic => {
                let kind = anthropic_kind(status.as_u16());
                format!(
                    r#"{{"type":"error","error":{{"type":"{kind}","message":{message}}},"request_id":"{id}"}}"#
                )
            }
        }
    }
}

/// The type and the code of an error.
fn openai_kind(status: u16) -> (&'static str, Option<&'static str>) {
    match status {
        401 => ("authentication_error", Some("invalid_api_key")),
        403 => ("permission_error", None),
        404 => ("not_found_error", None),
        408 | 504 => ("timeout_error", Some("timeout")),
        429 => ("rate_limit_error", Some("rate_limit_exceeded")),
        503 | OVERLOADED => ("server_error", Some("server_is_overloaded")),
        400..500 => ("invalid_request_error", None),
        _ => ("server_error", None),
    }
}

fn anthropic_kind(status: u16) -> &'static str {
    match status {
        401 => "authentication_error",
        402 => "billing_error",
        403 => "permission_error",
        404 => "not_found_error",
        413 => "request_too_large",
        408 | 504 => "timeout_error",
        429 => "rate_limit_error",
        503 | OVERLOADED => "overloaded_error",
        400..500 => "invalid_request_error",
        _ => "api_error",
    }
}

/// So that callers told the same do not come back together, and none too early.
fn spread(retry_after: Duration) -> Duration {
    if retry_after > LONGEST_TAKEN {
        return retry_after;
    }
    retry_after
        .mul_f64(1.0 + SPREAD * fastrand::f64())
        .min(LONGEST_TAKEN)
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).map_or(u64::MAX, |millis| millis.max(1))
}

#[cfg(test)]
mod tests;
