//! When a service that is overloaded says to come back (RFC 9110, section 10.2.3), for a rate that learns from it.

use std::time::Duration;

use http::{
    HeaderMap, HeaderName,
    header::{DATE, RETRY_AFTER},
};

pub(super) const RETRY_AFTER_MS: HeaderName = HeaderName::from_static("retry-after-ms");

/// The exact hint in milliseconds that LLM providers send beside the standard one, else that, as seconds or as a date. A date is
/// compared with the response's own: clocks of two machines differ.
pub(crate) fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let text = |name| headers.get(name)?.to_str().ok().map(str::trim);
    if let Some(millis) = text(RETRY_AFTER_MS).and_then(|text| text.parse::<f64>().ok()) {
        return Duration::try_from_secs_f64(millis / 1000.0).ok();
    }
    let hint = text(RETRY_AFTER)?;
    if let Ok(seconds) = hint.parse() {
        return Duration::try_from_secs_f64(seconds).ok();
    }
    let date = httpdate::parse_http_date(hint).ok()?;
    let sent = httpdate::parse_http_date(text(DATE)?).ok()?;
    Some(date.duration_since(sent).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    fn hint(headers: &[(HeaderName, &'static str)]) -> Option<Duration> {
        let headers = headers
            .iter()
            .map(|(name, value)| (name.clone(), HeaderValue::from_static(value)));
        retry_after(&headers.collect())
    }

    #[test]
    fn milliseconds_come_before_seconds() {
        let seconds = (RETRY_AFTER, "2");
        assert_eq!(
            hint(std::slice::from_ref(&seconds)),
            Some(Duration::from_secs(2))
        );
        let both = [seconds, (RETRY_AFTER_MS, "1234.5")];
        assert_eq!(hint(&both), Some(Duration::from_micros(1_234_500)));
    }

    #[test]
    fn a_date_is_compared_with_the_responses_own() {
        let date = (RETRY_AFTER, "Tue, 24 Nov 2026 22:04:40 GMT");
        let sent = (DATE, "Tue, 24 Nov 2026 22:04:36 GMT");
        let both = [date.clone(), sent];
        assert_eq!(hint(&both), Some(Duration::from_secs(4)));
        let later = [date.clone(), (DATE, "Tue, 24 Nov 2026 23:00:00 GMT")];
        assert_eq!(hint(&later), Some(Duration::ZERO));
        assert_eq!(hint(&[date]), None);
    }

    #[test]
    fn nonsense_is_no_hint() {
        for nonsense in ["", "soon", "-1", "NaN", "1e300", "inf"] {
            assert_eq!(hint(&[(RETRY_AFTER, nonsense)]), None, "{nonsense}");
        }
    }
}
