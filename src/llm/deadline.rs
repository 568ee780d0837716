//! How long a client is going to wait, and how often it has tried.
//!
//! The SDKs of OpenAI and Anthropic say both with every request and nobody listens: work is begun for callers that will have left
//! before its first token.

use std::time::Duration;

use http::HeaderMap;

/// Set from the timeout between two reads of an answer: until the head of a whole answer, until the first event of a stream.
const READ_TIMEOUT: &str = "x-stainless-read-timeout";
const TIMEOUT: &str = "x-stainless-timeout";
const RETRY_COUNT: &str = "x-stainless-retry-count";
const GRPC_TIMEOUT: &str = "grpc-timeout";

/// How long after it sent the request the client gives up if nothing has come: the earliest of `x-stainless-read-timeout`,
/// `x-stainless-timeout` (seconds) and `grpc-timeout`. `None` where it does not say, or says what cannot be.
///
/// Under a second from the SDKs is passed over: some of them cut off fractions, and 0 is what is left of 900 ms.
pub fn deadline(headers: &HeaderMap) -> Option<Duration> {
    let text = |name| headers.get(name)?.to_str().ok();
    let read = text(READ_TIMEOUT).and_then(seconds);
    let whole = text(TIMEOUT).and_then(seconds);
    let grpc = text(GRPC_TIMEOUT).and_then(grpc_timeout);
    [read, whole, grpc].into_iter().flatten().min()
}

/// Which retry this is by the client's own count (`x-stainless-retry-count`): 0 for the first attempt, 255 for 255 and more. `None`
/// where it does not say.
pub fn retry_count(headers: &HeaderMap) -> Option<u8> {
    let count = headers.get(RETRY_COUNT)?.to_str().ok()?.trim();
    let is_number = !count.is_empty() && count.bytes().all(|byte| byte.is_ascii_digit());
    is_number.then(|| count.parse().unwrap_or(u8::MAX))
}

fn seconds(text: &str) -> Option<Duration> {
    let seconds: f64 = text.trim().parse().ok()?;
    let duration = Duration::try_from_secs_f64(seconds).ok()?;
    (duration >= Duration::from_secs(1)).then_some(duration)
}

/// At most eight digits and a unit (gRPC over HTTP/2, "Timeout").
fn grpc_timeout(text: &str) -> Option<Duration> {
    let text = text.trim();
    let (number, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    if number.len() > 8 || !number.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let number: u64 = number.parse().ok()?;
    Some(match unit {
        "H" => Duration::from_secs(number * 3600),
        "M" => Duration::from_secs(number * 60),
        "S" => Duration::from_secs(number),
        "m" => Duration::from_millis(number),
        "u" => Duration::from_micros(number),
        "n" => Duration::from_nanos(number),
        _ => return None,
    })
}
