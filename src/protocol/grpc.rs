//! gRPC's words for a refusal, and its way of saying how a call went.
//!
//! A refusal is a *trailers-only* response: status 200, no body, `grpc-status` among the headers. Anything else, an HTTP
//! 503 or an error of the service, reaches a gRPC client as `UNKNOWN` or `INTERNAL`, which it does not retry. The status
//! and the push-back header are those of gRPC's proposal A6 (client retries).

use http::{
    HeaderMap, HeaderName, HeaderValue, Response,
    header::{CACHE_CONTROL, CONTENT_TYPE},
};

use crate::{Reason, Rejected, limit::Outcome};

const GRPC: &str = "application/grpc";
const GRPC_WEB: &str = "application/grpc-web";
/// The longest content type that a refusal repeats. Those of gRPC-Web's clients have half of that.
const LONGEST_ECHO: usize = 64;
const STATUS: HeaderName = HeaderName::from_static("grpc-status");
const MESSAGE: HeaderName = HeaderName::from_static("grpc-message");
const PUSHBACK: HeaderName = HeaderName::from_static("grpc-retry-pushback-ms");
const RESOURCE_EXHAUSTED: HeaderValue = HeaderValue::from_static("8");
const UNAVAILABLE: HeaderValue = HeaderValue::from_static("14");

/// The two kinds that differ in what a refusal has to say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Variant {
    Native,
    Web,
}

/// Whether a message with these headers is gRPC, in any of its encodings. Of several content types the first counts.
pub(super) fn speaks(headers: &HeaderMap) -> bool {
    headers.get(CONTENT_TYPE).is_some_and(is_grpc)
}

/// Whether this content type is gRPC, in any of its encodings.
pub(super) fn is_grpc(content_type: &HeaderValue) -> bool {
    variant(content_type).is_some()
}

/// `None` where a content type is not gRPC's, though it may begin like one.
fn variant(content_type: &HeaderValue) -> Option<Variant> {
    let rest = strip_prefix(content_type.as_bytes(), GRPC)?;
    let (rest, variant) = match strip_prefix(rest, "-web") {
        Some(rest) => (strip_prefix(rest, "-text").unwrap_or(rest), Variant::Web),
        None => (rest, Variant::Native),
    };
    let ends_here = matches!(rest.first(), None | Some(b'+' | b';' | b' ' | b'\t'));
    ends_here.then_some(variant)
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
    headers.insert(CONTENT_TYPE, content_type(asked));
    // Only a POST can be gRPC, but anybody can say that a GET is, and a cache may keep a 200 for those who ask honestly.
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    let by_rate = rejected.is_by_rate() && rejected.reason() != Reason::Draining;
    headers.insert(
        STATUS,
        if by_rate {
            RESOURCE_EXHAUSTED
        } else {
            UNAVAILABLE
        },
    );
    // Printable ASCII without a percent sign: nothing that gRPC wants encoded.
    if let Ok(message) = HeaderValue::from_str(&rejected.to_string()) {
        headers.insert(MESSAGE, message);
    }
    let pushback = match rejected.is_final() {
        // Below 0 it tells the client not to try again.
        true => HeaderValue::from_static("-1"),
        false => HeaderValue::from(rejected.retry_after().as_millis().max(1) as u64),
    };
    headers.insert(PUSHBACK, pushback);
    response
}

/// gRPC-Web clients insist on their own content type, in the encoding they asked for. What is echoed is short and
/// printable.
fn content_type(asked: &HeaderMap) -> HeaderValue {
    match asked.get(CONTENT_TYPE) {
        Some(value) if variant(value) == Some(Variant::Web) => {
            let printable = |byte: &u8| (b' '..=b'~').contains(byte);
            if value.len() <= LONGEST_ECHO && value.as_bytes().iter().all(printable) {
                value.clone()
            } else {
                HeaderValue::from_static(GRPC_WEB)
            }
        }
        _ => HeaderValue::from_static(GRPC),
    }
}

fn strip_prefix<'a>(value: &'a [u8], prefix: &str) -> Option<&'a [u8]> {
    let (start, rest) = value.split_at_checked(prefix.len())?;
    start
        .eq_ignore_ascii_case(prefix.as_bytes())
        .then_some(rest)
}
