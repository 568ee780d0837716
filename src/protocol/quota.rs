//! How much is left of the rates, for clients that would rather slow down than be refused.

use std::fmt::Write;

use http::{HeaderMap, HeaderName, HeaderValue};

use crate::rate::Quota;

const POLICY: HeaderName = HeaderName::from_static("ratelimit-policy");
const STANDING: HeaderName = HeaderName::from_static("ratelimit");
const X_LIMIT: HeaderName = HeaderName::from_static("x-ratelimit-limit");
const X_REMAINING: HeaderName = HeaderName::from_static("x-ratelimit-remaining");
const X_RESET: HeaderName = HeaderName::from_static("x-ratelimit-reset");
/// The largest integer of a structured field (RFC 9651, section 3.3.1).
const LARGEST: u64 = 999_999_999_999_999;

/// Headers that tell how much is left of a rate. None are sent unless asked for with
/// [`rate_headers`](crate::BackpressureLayer::rate_headers).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum RateHeaders {
    /// `RateLimit-Policy` and `RateLimit`, one entry for each rate (IETF draft-ietf-httpapi-ratelimit-headers-10):
    /// `"default";q=100;w=2` and `"default";r=37;t=2`.
    RateLimit,
    /// `X-RateLimit-Limit`, `X-RateLimit-Remaining` and `X-RateLimit-Reset` (seconds until all is back), of the rate of which
    /// the smallest share is left.
    XRateLimit,
}

/// Says how the rates stand. Times are rounded up to whole seconds.
pub(super) fn tell(
    kind: RateHeaders,
    quotas: impl Iterator<Item = Quota>,
    headers: &mut HeaderMap,
) {
    match kind {
        RateHeaders::RateLimit => tell_all(quotas, headers),
        RateHeaders::XRateLimit => {
            let share = |quota: &Quota| quota.remaining as f64 / quota.limit.max(1) as f64;
            if let Some(quota) = quotas.min_by(|a, b| share(a).total_cmp(&share(b))) {
                headers.insert(X_LIMIT, HeaderValue::from(quota.limit));
                headers.insert(X_REMAINING, HeaderValue::from(quota.remaining));
                headers.insert(X_RESET, HeaderValue::from(seconds(quota.reset_after)));
            }
        }
    }
}

fn tell_all(quotas: impl Iterator<Item = Quota>, headers: &mut HeaderMap) {
    let (mut policy, mut standing) = (String::new(), String::new());
    for (nth, quota) in quotas.enumerate() {
        let name = match nth {
            0 => String::from("\"default\""),
            nth => format!(", \"default-{}\"", nth + 1),
        };
        let (limit, remaining) = (quota.limit.min(LARGEST), quota.remaining.min(LARGEST));
        let (window, reset) = (seconds(quota.window).max(1), seconds(quota.reset_after));
        // Writing to a string does not fail.
        let _ = write!(policy, "{name};q={limit};w={window}");
        let _ = write!(standing, "{name};r={remaining};t={reset}");
    }
    for (name, value) in [(POLICY, policy), (STANDING, standing)] {
        if let (false, Ok(value)) = (value.is_empty(), HeaderValue::try_from(value)) {
            headers.insert(name, value);
        }
    }
}

fn seconds(duration: std::time::Duration) -> u64 {
    let up = u64::from(duration.subsec_nanos() > 0);
    duration.as_secs().saturating_add(up).min(LARGEST)
}
