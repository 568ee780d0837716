use super::MAX_LIMIT;
use crate::{ConfigError, config::at_least_one};

/// Between what a limit moves, and where it begins.
#[derive(Clone, Copy, Debug)]
pub(super) struct Bounds {
    pub(super) min: usize,
    pub(super) max: usize,
    usual: usize,
    chosen: Option<usize>,
}

impl Bounds {
    /// From 1 to 10 000. Begins with `usual`, or with what is nearest to it in bounds, unless told where.
    pub(super) fn new(usual: usize) -> Self {
        Self {
            min: 1,
            max: 10_000,
            usual,
            chosen: None,
        }
    }

    pub(super) fn begin_with(&mut self, initial: usize) {
        self.chosen = Some(initial);
    }

    pub(super) fn initial(&self) -> usize {
        self.chosen.unwrap_or_else(|| self.keep(self.usual))
    }

    /// `limit`, kept in bounds. Not by `clamp`, which panics where the bounds are the wrong way round.
    pub(super) fn keep(&self, limit: usize) -> usize {
        limit.min(self.max).max(self.min)
    }

    /// `limit`, kept in bounds.
    pub(super) fn keep_real(&self, limit: f64) -> f64 {
        limit.min(self.max as f64).max(self.min as f64)
    }

    pub(super) fn validate(&self) -> Result<(), ConfigError> {
        let Self { min, max, .. } = *self;
        at_least_one("min", min)?;
        if max > MAX_LIMIT {
            return Err(ConfigError::new("max", max, format!("at most {MAX_LIMIT}")));
        }
        if max < min {
            let expected = format!("at least min, which is {min}");
            return Err(ConfigError::new("max", max, expected));
        }
        match self.chosen {
            Some(initial) if initial < min || initial > max => {
                let expected = format!("between min, {min}, and max, {max}");
                Err(ConfigError::new("initial", initial, expected))
            }
            _ => Ok(()),
        }
    }
}
