//! The one small task beside a queue.
//!
//! Two things in a queue happen by time alone: a waiter's `max_wait` ends, and a waiter that was called has not come, so
//! that the next one must be. A timer for each waiter would do for the first; but the second may be due when every
//! waiter sleeps, and a permit may come back on a thread that knows no timer at all. So the gate spawns one task when
//! somebody waits for a time, and the task ends when nobody does any more.

use std::{
    sync::{Arc, Weak},
    time::Duration,
};

#[cfg(not(backpressure_loom))]
pub(super) use tokio::runtime::Handle as Runtime;
use tokio::sync::Notify;

use super::{Gate, clock::Clock};
#[cfg(not(backpressure_loom))]
use crate::sync::{Ordering, lock};

pub(super) struct Usher {
    gate: Weak<Gate>,
    clock: Clock,
    due: Duration,
    /// Rings when something is due earlier than was thought.
    earlier: Arc<Notify>,
    /// Still on duty: whatever ends it now must not leave the queue to itself.
    on_duty: bool,
    /// Whether its timer is being set, at which tokio panics where there is none.
    sets_timer: bool,
}

/// Where an usher can be sent from.
#[cfg(not(backpressure_loom))]
pub(super) struct AtHand<'a> {
    gate: &'a Arc<Gate>,
    runtime: Runtime,
}

/// Under the model checker the usher is a thread, to which every time has come.
#[cfg(backpressure_loom)]
pub(super) struct AtHand<'a> {
    gate: &'a Arc<Gate>,
}

#[cfg(backpressure_loom)]
pub(super) type Runtime = std::convert::Infallible;

/// The one that this thread runs.
#[cfg(not(backpressure_loom))]
pub(super) fn runtime() -> Option<Runtime> {
    Runtime::try_current().ok()
}

#[cfg(backpressure_loom)]
pub(super) fn runtime() -> Option<Runtime> {
    None
}

impl Usher {
    /// `None` where there is no runtime to run it, neither here nor where those who wait came from, or one that has no timer.
    #[cfg(not(backpressure_loom))]
    pub(super) fn at_hand(gate: &Arc<Gate>) -> Option<AtHand<'_>> {
        if gate.no_timer.load(Ordering::Relaxed) {
            return None;
        }
        let runtime = runtime().or_else(|| lock(&gate.queue).runtime.clone())?;
        Some(AtHand { gate, runtime })
    }

    #[cfg(backpressure_loom)]
    pub(super) fn at_hand(gate: &Arc<Gate>) -> Option<AtHand<'_>> {
        Some(AtHand { gate })
    }

    #[cfg_attr(backpressure_loom, allow(dead_code))]
    async fn run(mut self) {
        loop {
            match self.clock.at(self.due) {
                Some(due) => {
                    self.sets_timer = true;
                    let ring = tokio::time::timeout_at(due, self.earlier.notified());
                    self.sets_timer = false;
                    let _ = ring.await;
                }
                None => self.earlier.notified().await,
            }
            let Some(gate) = self.gate.upgrade() else {
                break;
            };
            match gate.usher_turn(gate.clock.now()) {
                Some(due) => self.due = due,
                None => break,
            }
        }
        self.on_duty = false;
    }
}

impl AtHand<'_> {
    /// Sends an usher to look at the queue when it is `due`.
    #[cfg(not(backpressure_loom))]
    pub(super) fn send(self, due: Duration) {
        let usher = Usher {
            gate: Arc::downgrade(self.gate),
            clock: self.gate.clock,
            due,
            earlier: Arc::clone(&self.gate.earlier),
            on_duty: true,
            sets_timer: false,
        };
        self.runtime.spawn(usher.run());
    }

    #[cfg(backpressure_loom)]
    pub(super) fn send(self, mut due: Duration) {
        let gate = Arc::clone(self.gate);
        loom::thread::spawn(move || {
            while let Some(next) = gate.usher_turn(due) {
                due = next;
            }
        });
    }
}

impl Drop for Usher {
    /// The runtime that ran it has ended, or it has no timer, at which tokio panics. Those who wait must not wait for it.
    fn drop(&mut self) {
        if self.on_duty {
            if let Some(gate) = self.gate.upgrade() {
                gate.usher_lost(self.sets_timer);
            }
        }
    }
}
