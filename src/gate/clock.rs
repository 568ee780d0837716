//! The one place that reads the time. It is tokio's, so that tests can pause it.

use std::time::Duration;

use tokio::time::Instant;

/// Time since the gate was made.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Clock {
    born: Instant,
}

impl Clock {
    #[allow(clippy::disallowed_methods, reason = "the one place")]
    pub(crate) fn new() -> Self {
        Self {
            born: Instant::now(),
        }
    }

    pub(crate) fn born(&self) -> Instant {
        self.born
    }

    #[cfg(not(backpressure_loom))]
    #[allow(clippy::disallowed_methods, reason = "the one place")]
    #[inline]
    pub(crate) fn now(&self) -> Duration {
        Instant::now().saturating_duration_since(self.born)
    }

    /// Stands still under the model checker, which wants every run to take the same turns.
    #[cfg(backpressure_loom)]
    pub(crate) fn now(&self) -> Duration {
        Duration::ZERO
    }

    /// `None` where the time lies beyond what the platform can name, which is as good as never.
    pub(crate) fn at(&self, time: Duration) -> Option<Instant> {
        self.born.checked_add(time)
    }
}
