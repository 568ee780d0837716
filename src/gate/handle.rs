#[cfg(feature = "llm")]
use std::time::Duration;
use std::{any::Any, future::Future, pin::pin, sync::Arc};

use super::Holder;
use crate::{BackpressureMetrics, ConfigError, config, limit::MAX_LIMIT};
#[cfg(feature = "llm")]
use crate::{Reason, Rejected};

/// The gates of all keys, whatever the keys are.
pub(crate) trait Keys: Send + Sync {
    fn find(&self, key: &dyn Any) -> Option<Holder>;
    fn drain(&self);
    #[cfg_attr(not(feature = "metrics"), allow(dead_code))]
    fn held(&self) -> usize;
}

/// Looks at a gate, moves its limit, drains it. Cheap to clone; works from any thread.
///
/// ```
/// use tower_backpressure::BackpressureLayer;
///
/// let layer = BackpressureLayer::drop_newest(100);
/// let handle = layer.handle();
///
/// handle.set_limit(50);
/// assert_eq!(handle.limit(), 50);
/// assert_eq!(handle.in_flight(), 0);
/// ```
#[derive(Clone, Debug)]
pub struct Handle {
    gate: Holder,
}

impl Handle {
    pub(crate) fn new(gate: Holder) -> Self {
        Self { gate }
    }

    /// The name of the gate: the value of the label `gate` in metrics.
    pub fn name(&self) -> &str {
        self.gate.settings.name.as_str()
    }

    /// A handle on the gate of one key of `.per_key(..)`; this one shows the sum of all. `None` for a key that has no gate now:
    /// none of its requests has come, or not for a while. As long as the handle is kept the key's gate is, too, and so is what was
    /// set on it. `K` is what the closure of `per_key` gives; any other type finds nothing.
    pub fn key<K: 'static>(&self, key: &K) -> Option<Handle> {
        self.gate.keys()?.find(key).map(Handle::new)
    }

    /// How many requests may be in flight. [`MAX_LIMIT`] where there is only a rate.
    pub fn limit(&self) -> usize {
        self.gate.room.slots.read().limit()
    }

    /// How many requests hold a permit. Above the limit only after the limit was lowered, until permits come back, and
    /// under `.shadow()`.
    pub fn in_flight(&self) -> usize {
        self.gate.room.slots.read().in_flight()
    }

    /// How many requests wait for a permit.
    pub fn waiting(&self) -> usize {
        self.gate.waiting()
    }

    /// The rate in force, in requests per second or whatever is counted; of several the first. `None` where there is none.
    pub fn rate(&self) -> Option<f64> {
        self.gate.room.per_second()
    }

    /// Whether the next request would have to wait or be refused for want of a slot, or of room in a rate.
    pub fn is_overloaded(&self) -> bool {
        let word = self.gate.room.slots.read();
        word.in_flight() >= word.limit() || self.waiting() > 0 || self.gate.is_over_rate()
    }

    /// All numbers at this moment. Takes the queue's lock for an instant.
    pub fn snapshot(&self) -> BackpressureMetrics {
        self.gate.snapshot()
    }

    /// Moves the limit, up or down, under load. Values above [`MAX_LIMIT`] are taken for it.
    ///
    /// Raised, it lets waiting requests in at once. Lowered, it interrupts nobody: as permits come back nobody is let in
    /// until fewer requests are in flight than the new limit. An adaptive limit goes on from `limit`, within its own bounds
    /// and as far as its algorithm implements [`Limit::set_limit`](crate::limit::Limit::set_limit).
    ///
    /// # Panics
    ///
    /// If `limit` is 0. To let nobody in, [`drain`](Self::drain).
    #[track_caller]
    pub fn set_limit(&self, limit: usize) {
        config::built(self.try_set_limit(limit));
    }

    /// Like [`set_limit`](Self::set_limit), for numbers that come from outside.
    ///
    /// # Errors
    ///
    /// If `limit` is 0.
    pub fn try_set_limit(&self, limit: usize) -> Result<(), ConfigError> {
        let limit = config::at_least_one("limit", limit)?.min(MAX_LIMIT);
        self.gate.set_limit(limit);
        Ok(())
    }

    /// Changes the rate, of several the first, under load. What is left of its burst, or owed, stays the same number. 0 lets in what
    /// is left of the burst and nothing more. An adaptive rate goes on from there, within its own bounds. Without effect where
    /// there is no rate, or one whose [`Rate::set_per_second`](crate::rate::Rate::set_per_second) does nothing.
    ///
    /// # Panics
    ///
    /// If `per_second` is below 0, or no number.
    #[track_caller]
    pub fn set_rate(&self, per_second: f64) {
        config::built(self.try_set_rate(per_second));
    }

    /// Like [`set_rate`](Self::set_rate), for numbers that come from outside.
    ///
    /// # Errors
    ///
    /// If `per_second` is below 0, or no number.
    pub fn try_set_rate(&self, per_second: f64) -> Result<(), ConfigError> {
        if !(per_second >= 0.0 && per_second.is_finite()) {
            return Err(ConfigError::new("rate", per_second, "a number from 0 up"));
        }
        self.gate.set_rate(per_second);
        Ok(())
    }

    /// Turns away a request that has not come to the gate, or has left it after it had waited. `None` where nobody is refused.
    #[cfg(feature = "llm")]
    pub(crate) fn reject(&self, reason: Reason, waited: Duration) -> Option<Rejected> {
        let rejected = self.gate.reject(reason, waited, None);
        (!self.gate.settings.shadow).then_some(rejected)
    }

    /// Refuses everybody who has no permit yet, those who wait included, and resolves when the last permit is back.
    ///
    /// An instance under `block` that turned ready keeps its slot until it is called or dropped; the drain waits for it.
    ///
    /// Draining begins with the call, whether or not the future is ever polled, and does not end. Exempt requests are
    /// let through as before, so that a health probe can say that the service is going.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future stops the waiting, not the draining; call it again to wait again.
    ///
    /// # Examples
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() {
    /// use std::time::Duration;
    /// use tower_backpressure::BackpressureLayer;
    ///
    /// let handle = BackpressureLayer::drop_newest(100).handle();
    /// if tokio::time::timeout(Duration::from_secs(30), handle.drain()).await.is_err() {
    ///     eprintln!("{} requests are cut short", handle.in_flight());
    /// }
    /// # }
    /// ```
    pub fn drain(&self) -> impl Future<Output = ()> + Send + use<> {
        let gate = Arc::clone(&self.gate);
        gate.drain();
        // After the gate above, so that a key that comes now finds it draining.
        if let Some(keys) = gate.keys() {
            keys.drain();
        }
        async move {
            loop {
                let mut drained = pin!(gate.drained.notified());
                drained.as_mut().enable();
                if gate.room.slots.read_latest().in_flight() == 0 {
                    return;
                }
                drained.await;
            }
        }
    }
}
