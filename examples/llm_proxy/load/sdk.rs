//! When the SDKs try again, as read in their sources: openai-python 3.3.1, anthropic-sdk-python 0.121.0, openai-node of
//! August 2026. All retry twice unless told otherwise, and none spreads a hint that it was given.

use std::time::Duration;

use http::HeaderMap;
use rand::Rng;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sdk {
    OpenAiPython,
    AnthropicPython,
    OpenAiNode,
}

impl Sdk {
    pub const ALL: [Self; 3] = [Self::OpenAiPython, Self::AnthropicPython, Self::OpenAiNode];

    pub fn name(self) -> &'static str {
        match self {
            Self::OpenAiPython => "openai-python",
            Self::AnthropicPython => "anthropic-python",
            Self::OpenAiNode => "openai-node",
        }
    }

    /// How long it waits before it tries again after so many retries; `None` where it gives up.
    pub fn retry(
        self,
        status: u16,
        headers: &HeaderMap,
        retries: u32,
        rng: &mut impl Rng,
    ) -> Option<Duration> {
        let text = |name: &str| headers.get(name)?.to_str().ok();
        let retried = match text("x-should-retry") {
            Some("true") => true,
            Some("false") => false,
            _ => matches!(status, 408 | 409 | 429 | 500..),
        };
        if !retried {
            return None;
        }
        let millis = text("retry-after-ms").and_then(|millis| millis.parse::<f64>().ok());
        let seconds = text("retry-after").and_then(|seconds| seconds.parse::<f64>().ok());
        let hint = millis.map(|millis| millis / 1000.0).or(seconds);
        let taken = match (self, hint) {
            (Self::OpenAiPython, Some(hint)) if hint > 120.0 => return None,
            (Self::OpenAiPython, Some(hint)) => hint > 0.0,
            (Self::AnthropicPython, Some(hint)) => hint > 0.0 && hint <= 60.0,
            (Self::OpenAiNode, Some(hint)) => (0.0..60.0).contains(&hint),
            (_, None) => false,
        };
        match hint.filter(|_| taken) {
            Some(hint) => Duration::try_from_secs_f64(hint).ok(),
            None => Some(Self::back_off(retries, rng)),
        }
    }

    /// Without a hint: half a second, doubled each time, 8 s at most, up to a quarter less.
    fn back_off(retries: u32, rng: &mut impl Rng) -> Duration {
        let seconds = (0.5 * 2.0_f64.powi(retries.min(10) as i32)).min(8.0);
        Duration::from_secs_f64(seconds * (1.0 - 0.25 * rng.random::<f64>()))
    }
}

#[cfg(test)]
mod tests {
    use http::HeaderName;
    use rand::{SeedableRng, rngs::SmallRng};

    use super::*;

    fn retry(sdk: Sdk, status: u16, headers: &[(&'static str, &'static str)]) -> Option<f64> {
        let headers = headers
            .iter()
            .map(|(name, value)| (HeaderName::from_static(name), value.parse().unwrap()))
            .collect();
        let mut rng = SmallRng::seed_from_u64(1);
        sdk.retry(status, &headers, 0, &mut rng)
            .map(|wait| wait.as_secs_f64())
    }

    #[test]
    fn milliseconds_come_before_seconds() {
        for sdk in Sdk::ALL {
            let hints = [("retry-after", "2"), ("retry-after-ms", "1234")];
            assert_eq!(retry(sdk, 503, &hints), Some(1.234), "{sdk:?}");
        }
    }

    #[test]
    fn long_hints_are_taken_differently() {
        let hint = [("retry-after", "90")];
        assert_eq!(retry(Sdk::OpenAiPython, 429, &hint), Some(90.0));
        assert!(retry(Sdk::AnthropicPython, 429, &hint).unwrap() <= 0.5);
        assert!(retry(Sdk::OpenAiNode, 429, &hint).unwrap() <= 0.5);
        assert_eq!(
            retry(Sdk::OpenAiPython, 429, &[("retry-after", "121")]),
            None
        );
    }

    #[test]
    fn only_node_takes_zero_for_now() {
        let hint = [("retry-after", "0")];
        assert_eq!(retry(Sdk::OpenAiNode, 529, &hint), Some(0.0));
        assert!(retry(Sdk::OpenAiPython, 529, &hint).unwrap() >= 0.375);
        assert!(retry(Sdk::AnthropicPython, 529, &hint).unwrap() >= 0.375);
    }

    #[test]
    fn all_do_as_they_are_told() {
        for sdk in Sdk::ALL {
            assert_eq!(retry(sdk, 503, &[("x-should-retry", "false")]), None);
            assert!(retry(sdk, 400, &[("x-should-retry", "true")]).is_some());
            assert_eq!(retry(sdk, 400, &[]), None);
            assert!(retry(sdk, 503, &[]).is_some());
        }
    }
}
