//! What a request uses, in tokens, and what that costs.

use crate::{ConfigError, config::built};

/// Tokens that one request has used, or is expected to use.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// Of the prompt, all of them.
    pub prompt: u64,
    /// Of these, what the provider read from its cache.
    pub cached: u64,
    /// Of the answer, with what was thought and not shown.
    pub output: u64,
}

/// What a token costs, in whatever the rate counts. Default: every token 1, as in limits of tokens per minute.
///
/// ```
/// use tower_backpressure::llm::{Usage, Weights};
///
/// // In millionths of a dollar: 3 for a token of the prompt, a tenth of that from the cache, 15 for one of the answer.
/// let price = Weights::new(3.0, 15.0).cached(0.3);
/// let usage = Usage { prompt: 2000, cached: 1000, output: 100 };
/// assert_eq!(price.cost(&usage), 3000 + 300 + 1500);
/// ```
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Weights {
    prompt: f64,
    cached: f64,
    output: f64,
}

impl Weights {
    /// What a token of the prompt and one of the answer costs; from the cache as much as any of the prompt.
    ///
    /// # Panics
    ///
    /// If one of them is negative or not finite.
    #[track_caller]
    pub fn new(prompt: f64, output: f64) -> Self {
        built(Self::try_new(prompt, output))
    }

    /// As [`new`](Self::new), for numbers from a file.
    ///
    /// # Errors
    ///
    /// If one of them is negative or not finite.
    pub fn try_new(prompt: f64, output: f64) -> Result<Self, ConfigError> {
        let prompt = weight("prompt", prompt)?;
        let output = weight("output", output)?;
        Ok(Self {
            prompt,
            cached: prompt,
            output,
        })
    }

    /// What a token of the prompt costs that the provider read from its cache. Default: as much as any.
    ///
    /// # Panics
    ///
    /// If it is negative or not finite.
    #[track_caller]
    #[must_use]
    pub fn cached(self, cached: f64) -> Self {
        built(self.try_cached(cached))
    }

    /// As [`cached`](Self::cached), for a number from a file.
    ///
    /// # Errors
    ///
    /// If it is negative or not finite.
    pub fn try_cached(self, cached: f64) -> Result<Self, ConfigError> {
        let cached = weight("cached", cached)?;
        Ok(Self { cached, ..self })
    }

    /// What `usage` costs, rounded up. For [`Demand::of`](crate::Demand::of) before, for [`Charge::set`](crate::Charge::set)
    /// after.
    pub fn cost(&self, usage: &Usage) -> u64 {
        let cached = usage.cached.min(usage.prompt);
        let fresh = usage.prompt - cached;
        let cost = self.prompt * fresh as f64
            + self.cached * cached as f64
            + self.output * usage.output as f64;
        // What does not fit becomes the most there is.
        cost.ceil() as u64
    }
}

impl Default for Weights {
    fn default() -> Self {
        Self {
            prompt: 1.0,
            cached: 1.0,
            output: 1.0,
        }
    }
}

fn weight(field: &'static str, weight: f64) -> Result<f64, ConfigError> {
    if weight.is_finite() && weight >= 0.0 {
        return Ok(weight);
    }
    Err(ConfigError::new(field, weight, "0 or more"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn usage(prompt: u64, cached: u64, output: u64) -> Usage {
        Usage {
            prompt,
            cached,
            output,
        }
    }

    #[test]
    fn every_token_costs_one_if_not_said_otherwise() {
        assert_eq!(Weights::default().cost(&usage(100, 40, 10)), 110);
        assert_eq!(Weights::new(1.0, 1.0), Weights::default());
    }

    #[test]
    fn a_cost_is_rounded_up_and_has_an_end() {
        assert_eq!(Weights::new(0.0, 0.3).cost(&usage(9, 0, 1)), 1);
        assert_eq!(Weights::new(0.0, 0.0).cost(&usage(9, 0, 9)), 0);
        let most = usage(u64::MAX, 0, u64::MAX);
        assert_eq!(Weights::new(f64::MAX, 5.0).cost(&most), u64::MAX);
    }

    #[test]
    fn no_more_is_cached_than_there_was() {
        assert_eq!(
            Weights::new(2.0, 0.0).cached(1.0).cost(&usage(10, 99, 0)),
            10
        );
    }

    #[test]
    fn weights_that_cannot_be_are_refused() {
        for weight in [-1.0, f64::NAN, f64::INFINITY] {
            assert_eq!(Weights::try_new(weight, 1.0).unwrap_err().field(), "prompt");
            assert_eq!(Weights::try_new(1.0, weight).unwrap_err().field(), "output");
            assert_eq!(
                Weights::default().try_cached(weight).unwrap_err().field(),
                "cached"
            );
        }
    }
}
