//! Whether the store answers.
//!
//! ```text
//!         a call fails or is late
//!   up ─────────────────────────────► down ◄─┐ no answer, or an error: again in a while
//!    ▲                                  │    │
//!    └──────── a probe has written ─────┴────┘
//! ```
//!
//! While it is down nobody asks and nobody waits: requests are decided by the policy at once. One small task probes whether it can
//! be written to, and ends when it can, so that the store is found again without any request paying for the attempt.

use std::{future::Future, time::Duration};

use tokio::sync::watch;

/// Between two probes of a store that does not answer.
pub(super) const PROBE_EVERY: Duration = Duration::from_millis(100);

#[derive(Debug)]
pub(super) struct Health {
    down: watch::Sender<bool>,
}

impl Health {
    pub(super) fn new() -> Self {
        Self {
            down: watch::Sender::new(false),
        }
    }

    pub(super) fn is_down(&self) -> bool {
        *self.down.borrow()
    }

    /// A call failed. Returns whether that is news, and somebody has to probe.
    pub(super) fn fell(&self) -> bool {
        self.down
            .send_if_modified(|down| !std::mem::replace(down, true))
    }

    /// A probe was answered.
    pub(super) fn rose(&self) {
        self.down.send_replace(false);
    }

    /// Ready as soon as the store answers, as far as we know.
    pub(super) fn up(&self) -> impl Future<Output = ()> + use<> {
        let mut down = self.down.subscribe();
        async move {
            // The sender is gone with the rate itself: nobody is left to wait for.
            let _ = down.wait_for(|down| !down).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;

    #[test]
    fn only_the_first_failure_is_news() {
        let health = Health::new();
        assert!(!health.is_down());
        assert!(health.fell());
        assert!(!health.fell());
        assert!(health.is_down());
        health.rose();
        assert!(!health.is_down());
        assert!(health.fell());
    }

    #[test]
    fn who_waits_is_woken_when_the_store_is_back() {
        let health = Health::new();
        assert!(health.up().now_or_never().is_some());
        health.fell();
        let mut up = Box::pin(health.up());
        assert!(up.as_mut().now_or_never().is_none());
        health.rose();
        assert!(up.now_or_never().is_some());
    }
}
