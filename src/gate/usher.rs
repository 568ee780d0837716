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

use tokio::sync::Notify;

use super::{Gate, clock::Clock};

pub(super) struct Usher {
    gate: Weak<Gate>,
    clock: Clock,
    due: Duration,
    /// Rings when something is due earlier than was thought.
    earlier: Arc<Notify>,
    /// Still on duty: whatever ends it now must not leave the queue to itself.
    on_duty: bool,
}

impl Usher {
    /// Sends the usher to look at the queue when it is `due`. `false` where there is no runtime to run it.
    #[cfg(not(backpressure_loom))]
    pub(super) fn send(gate: &Arc<Gate>, due: Duration) -> bool {
        let Ok(runtime) = tokio::runtime::Handle::try_current() else {
            return false;
        };
        let usher = Self {
            gate: Arc::downgrade(gate),
            clock: gate.clock,
            due,
            earlier: Arc::clone(&gate.earlier),
            on_duty: true,
        };
        runtime.spawn(usher.run());
        true
    }

    /// Under the model checker the usher is a thread, to which every time has come.
    #[cfg(backpressure_loom)]
    pub(super) fn send(gate: &Arc<Gate>, mut due: Duration) -> bool {
        let gate = Arc::clone(gate);
        loom::thread::spawn(move || {
            while let Some(next) = gate.usher_turn(due) {
                due = next;
            }
        });
        true
    }

    #[cfg_attr(backpressure_loom, allow(dead_code))]
    async fn run(mut self) {
        loop {
            match self.clock.at(self.due) {
                Some(due) => {
                    let _ = tokio::time::timeout_at(due, self.earlier.notified()).await;
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

impl Drop for Usher {
    /// The runtime that ran it has ended; those who wait in another must not wait for it.
    fn drop(&mut self) {
        if self.on_duty {
            if let Some(gate) = self.gate.upgrade() {
                gate.usher_lost();
            }
        }
    }
}
