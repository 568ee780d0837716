use std::time::Duration;

use super::{Epoch, Quota, Rate, Short, shared::forward};
use crate::{ConfigError, Demand, limit::Sample};

/// Counts requests, whatever they cost.
///
/// Where one rate counts tokens and another requests, both see the same [`Demand`]. This one takes 1 for each.
///
/// ```
/// use tower_backpressure::{
///     Demand,
///     rate::{Rate, Requests, TokenBucket},
/// };
///
/// let requests = Requests::new(TokenBucket::per_minute(60));
/// assert_eq!(requests.cost(&Demand::of(3000)), 1);
/// ```
#[derive(Debug)]
pub struct Requests<R> {
    inner: R,
}

impl<R: Rate> Requests<R> {
    /// `inner`, in requests.
    pub fn new(inner: R) -> Self {
        Self { inner }
    }
}

impl<R: Rate> Rate for Requests<R> {
    forward!(self => self.inner);

    fn cost(&self, _: &Demand) -> u64 {
        1
    }
}
