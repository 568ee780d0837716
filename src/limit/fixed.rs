use super::{Limit, MAX_LIMIT, Sample};
use crate::{ConfigError, config};

/// Always the same limit, until [`Handle::set_limit`](crate::Handle::set_limit) changes it.
///
/// ```
/// use tower_backpressure::{BackpressureLayer, limit::Fixed};
///
/// let layer = BackpressureLayer::adaptive(Fixed::new(20));
/// # let _ = layer;
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fixed {
    limit: usize,
}

impl Fixed {
    /// A limit of `limit` requests.
    ///
    /// # Panics
    ///
    /// If `limit` is 0.
    #[track_caller]
    pub fn new(limit: usize) -> Self {
        config::built(Self::try_new(limit))
    }

    /// Like [`new`](Self::new), for numbers that come from a file.
    ///
    /// # Errors
    ///
    /// If `limit` is 0.
    pub fn try_new(limit: usize) -> Result<Self, ConfigError> {
        let limit = config::at_least_one("limit", limit)?.min(MAX_LIMIT);
        Ok(Self { limit })
    }
}

impl Limit for Fixed {
    fn limit(&self) -> usize {
        self.limit
    }

    fn update(&mut self, _: &Sample) -> usize {
        self.limit
    }

    fn set_limit(&mut self, limit: usize) -> usize {
        self.limit = limit;
        limit
    }

    fn learns(&self) -> bool {
        false
    }
}
