//! gRPC's words for a refusal, and its way of saying how a call went.
//!
//! A refusal is a *trailers-only* response: status 200, no body, `grpc-status` among the headers. Anything else, an HTTP
//! 503 or an error of the service, reaches a gRPC client as `UNKNOWN` or `INTERNAL`, which it does not retry. The status
//! and the push-back header are those of gRPC's proposal A6 (client retries).

use http::{HeaderMap, HeaderName, HeaderValue, Response, header::CONTENT_TYPE};

use crate::{Rejected, limit::Outcome};

const GRPC: &str = "application/grpc";
const STATUS: HeaderName = HeaderName::from_static("grpc-status");
const MESSAGE: HeaderName = HeaderName::from_static("grpc-message");
const PUSHBACK: HeaderName = HeaderName::from_static("grpc-retry-pushback-ms");
const UNAVAILABLE: HeaderValue = HeaderValue::from_static("14");

/// Whether a message with these headers is gRPC, in any of its encodings.
pub(super) fn speaks(headers: &HeaderMap) -> bool {
    headers
        .get(CONTENT_TYPE)
        .is_some_and(|value| is_grpc(value.as_bytes()))
}

/// Whether this content type is gRPC, in any of its encodings.
pub(super) fn is_grpc(content_type: &[u8]) -> bool {
    starts_with_ignore_case(content_type, GRPC.as_bytes())
}

/// How a call went, as its headers or trailers say; `None` where they do not.
pub(super) fn outcome(headers: &HeaderMap) -> Option<Outcome> {
    Some(match headers.get(STATUS)?.as_bytes() {
        b"0" => Outcome::Success,
        // DEADLINE_EXCEEDED, RESOURCE_EXHAUSTED, UNAVAILABLE
        b"4" | b"8" | b"14" => Outcome::Overload,
        _ => Outcome::Ignore,
    })
}

/// The head of a refusal of a request with these headers.
pub(super) fn refusal(asked: &HeaderMap, rejected: &Rejected) -> Response<()> {
    let mut response = Response::new(());
    let headers = response.headers_mut();
    // gRPC-Web clients insist on their own content type; no other variant needs to be told apart.
    let content_type = match asked.get(CONTENT_TYPE) {
        Some(value) if starts_with_ignore_case(value.as_bytes(), b"application/grpc-web") => {
            value.clone()
        }
        _ => HeaderValue::from_static(GRPC),
    };
    headers.insert(CONTENT_TYPE, content_type);
    headers.insert(STATUS, UNAVAILABLE);
    // Printable ASCII without a percent sign: nothing that gRPC wants encoded.
    if let Ok(message) = HeaderValue::from_str(&rejected.to_string()) {
        headers.insert(MESSAGE, message);
    }
    let pushback = rejected.retry_after().as_millis().max(1) as u64;
    headers.insert(PUSHBACK, HeaderValue::from(pushback));
    response
}

fn starts_with_ignore_case(value: &[u8], prefix: &[u8]) -> bool {
    value
        .get(..prefix.len())
        .is_some_and(|start| start.eq_ignore_ascii_case(prefix))
}
