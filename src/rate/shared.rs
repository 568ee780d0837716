//! One rate for several layers.

use std::{sync::Arc, time::Duration};

use super::{Epoch, Quota, Rate, Short};
use crate::{ConfigError, Demand, limit::Sample};

/// Everything but [`Rate::cost`], done by the rate within.
macro_rules! forward {
    ($this:ident => $inner:expr) => {
        fn check(&$this, now: Duration, cost: u64) -> Result<(), Short> {
            $inner.check(now, cost)
        }

        #[inline]
        fn spend(&$this, now: Duration, cost: u64) -> Result<(), Short> {
            $inner.spend(now, cost)
        }

        fn owe(&$this, now: Duration, cost: u64) {
            $inner.owe(now, cost);
        }

        fn refund(&$this, now: Duration, spent: Duration, cost: u64) {
            $inner.refund(now, spent, cost);
        }

        fn quota(&$this, now: Duration) -> Quota {
            $inner.quota(now)
        }

        fn per_second(&$this) -> f64 {
            $inner.per_second()
        }

        fn set_per_second(&$this, now: Duration, per_second: f64) {
            $inner.set_per_second(now, per_second);
        }

        fn observe(&$this, sample: &Sample) {
            $inner.observe(sample);
        }

        fn learns(&$this) -> bool {
            $inner.learns()
        }

        fn epoch(&$this) -> Option<&Epoch> {
            $inner.epoch()
        }

        fn validate(&$this) -> Result<(), ConfigError> {
            $inner.validate()
        }
    };
}
pub(super) use forward;

/// What is spent through one is spent for all.
///
/// ```
/// use std::{sync::Arc, time::Duration};
/// use tower_backpressure::rate::{Rate, TokenBucket};
///
/// let budget = Arc::new(TokenBucket::per_second(10));
/// let same = Arc::clone(&budget);
/// assert!(budget.spend(Duration::ZERO, 10).is_ok());
/// assert!(same.spend(Duration::ZERO, 1).is_err());
/// ```
impl<R: Rate + ?Sized> Rate for Arc<R> {
    forward!(self => (**self));

    fn cost(&self, demand: &Demand) -> u64 {
        (**self).cost(demand)
    }
}

impl<R: Rate + ?Sized> Rate for Box<R> {
    forward!(self => (**self));

    fn cost(&self, demand: &Demand) -> u64 {
        (**self).cost(demand)
    }
}
