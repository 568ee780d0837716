//! HTTP's words for a refusal.

use std::{
    fmt::{self, Write},
    time::Duration,
};

use bytes::Bytes;
use http::{
    HeaderMap, HeaderName, HeaderValue, Response, StatusCode,
    header::{ACCEPT, CONTENT_TYPE, RETRY_AFTER},
    request,
};

use super::{accept, hint::RETRY_AFTER_MS};
use crate::{Reason, Rejected};

const SHOULD_RETRY: HeaderName = HeaderName::from_static("x-should-retry");
/// The SDKs of OpenAI and Anthropic take no longer hint at its word; told so, they do not come back too early instead.
pub(crate) const LONGEST_TAKEN: Duration = Duration::from_secs(60);

/// In bytes: enough for a body as a rule, so that it is written where it stays.
const ROOM: usize = 256;

/// The refusal of a request with this head that is not gRPC.
pub(super) fn refusal(asked: &request::Parts, rejected: &Rejected) -> Response<Bytes> {
    let retry_after =
        (!rejected.is_final()).then(|| rejected.retry_after().as_millis().max(1) as u64);
    let (content_type, body) = if accept::prefers_text(asked.headers.get_all(ACCEPT)) {
        ("text/plain; charset=utf-8", format!("{rejected}\n"))
    } else {
        ("application/json", json(rejected, retry_after))
    };
    let mut response = Response::new(Bytes::from(body));
    *response.status_mut() = status(rejected);
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    put_hint(headers, retry_after);
    response
}

/// When to come back, in milliseconds; `None` is never.
pub(crate) fn put_hint(headers: &mut HeaderMap, retry_after: Option<u64>) {
    let seconds = retry_after.map(|millis| millis.div_ceil(1000));
    if let (Some(millis), Some(seconds)) = (retry_after, seconds) {
        headers.insert(RETRY_AFTER, HeaderValue::from(seconds));
        headers.insert(RETRY_AFTER_MS, HeaderValue::from(millis));
    }
    if seconds.is_none_or(|seconds| seconds > LONGEST_TAKEN.as_secs()) {
        headers.insert(SHOULD_RETRY, HeaderValue::from_static("false"));
    }
}

fn json(rejected: &Rejected, retry_after: Option<u64>) -> String {
    let error = match rejected.is_by_rate() {
        true => "rate_limited",
        false => "overloaded",
    };
    let reason = rejected.reason().as_str();
    let retry_after: &dyn fmt::Display = match &retry_after {
        Some(millis) => millis,
        None => &"null",
    };
    let mut json = String::with_capacity(ROOM);
    // There is nothing that could fail.
    let _ = write!(
        json,
        r#"{{"error":"{error}","reason":"{reason}","message":"{rejected}","retry_after_ms":{retry_after}}}"#
    );
    json
}

fn status(rejected: &Rejected) -> StatusCode {
    match rejected.reason() {
        Reason::Draining => StatusCode::SERVICE_UNAVAILABLE,
        _ if rejected.is_by_rate() => StatusCode::TOO_MANY_REQUESTS,
        _ => StatusCode::SERVICE_UNAVAILABLE,
    }
}
