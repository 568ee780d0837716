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

/// Which retry this is by the client's own count (`x-stainless-retry-count`): 0 for the first attempt, 255 for 255 and more.
/// `None` where it does not say.
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

#[cfg(test)]
mod tests {
    use http::{HeaderName, HeaderValue};

    use super::*;

    fn headers(headers: &[(&'static str, &[u8])]) -> HeaderMap {
        let headers = headers.iter().map(|(name, value)| {
            let value = HeaderValue::from_bytes(value).unwrap();
            (HeaderName::from_static(name), value)
        });
        headers.collect()
    }

    #[test]
    fn the_earliest_deadline_counts() {
        let read: (&str, &[u8]) = (READ_TIMEOUT, b"600.5");
        let whole: (&str, &[u8]) = (TIMEOUT, b"30");
        let grpc: (&str, &[u8]) = (GRPC_TIMEOUT, b"500m");
        assert_eq!(deadline(&headers(&[])), None);
        assert_eq!(
            deadline(&headers(&[read])),
            Some(Duration::from_secs_f64(600.5))
        );
        assert_eq!(
            deadline(&headers(&[read, whole])),
            Some(Duration::from_secs(30))
        );
        assert_eq!(
            deadline(&headers(&[read, whole, grpc])),
            Some(Duration::from_millis(500))
        );
    }

    #[test]
    fn grpcs_units_are_known() {
        for (text, expected) in [
            ("1H", Some(3_600_000_000_000)),
            ("2M", Some(120_000_000_000)),
            ("3S", Some(3_000_000_000)),
            ("4m", Some(4_000_000)),
            ("5u", Some(5_000)),
            ("99999999n", Some(99_999_999)),
            ("0S", Some(0)),
            ("99999999H", Some(359_999_996_400_000_000_000)),
            ("100000000S", None),
            ("S", None),
            ("1", None),
            ("1h", None),
            ("-1S", None),
            ("1.5S", None),
            ("", None),
        ] {
            let found = deadline(&headers(&[(GRPC_TIMEOUT, text.as_bytes())]));
            assert_eq!(found.map(|found| found.as_nanos()), expected, "{text}");
        }
    }

    #[test]
    fn what_cannot_be_is_no_deadline() {
        for nonsense in [
            &b""[..],
            b"soon",
            b"-1",
            b"0",
            b"0.9",
            b"NaN",
            b"inf",
            b"1e300",
            b"\xff",
            b"None",
            b"1 2",
            b"not_given",
        ] {
            for name in [READ_TIMEOUT, TIMEOUT] {
                assert_eq!(
                    deadline(&headers(&[(name, nonsense)])),
                    None,
                    "{nonsense:?}"
                );
            }
        }
        assert_eq!(deadline(&headers(&[(GRPC_TIMEOUT, "1é".as_bytes())])), None);
    }

    #[test]
    fn retries_are_a_small_number() {
        for (text, expected) in [
            ("0", Some(0)),
            (" 2 ", Some(2)),
            ("255", Some(255)),
            ("256", Some(255)),
            ("99999999999999999999999", Some(255)),
            ("", None),
            ("-1", None),
            ("+1", None),
            ("two", None),
        ] {
            let found = retry_count(&headers(&[(RETRY_COUNT, text.as_bytes())]));
            assert_eq!(found, expected, "{text:?}");
        }
        assert_eq!(retry_count(&headers(&[])), None);
    }
}
