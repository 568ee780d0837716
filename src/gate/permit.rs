use std::{fmt, sync::Arc, time::Duration};

use super::Gate;
use crate::limit::{Outcome, Sample};

/// The right to run. Dropping it gives the slot back; there is no other way to lose it.
///
/// Holding and learning are two acts. The slot is held until [`release`](Permit::release) or the drop; the latency is
/// sampled once, at [`sample`](Permit::sample), which may come long before (a stream holds its slot to its end, but its
/// latency is that of its first frame) or after. A permit dropped without a sample was that of a request whose caller
/// left.
pub struct Permit {
    gate: Arc<Gate>,
    in_flight: usize,
    /// `None` where nobody needs a time.
    started: Option<Duration>,
    outcome: Outcome,
    sampled: bool,
    released: bool,
}

impl Permit {
    #[inline]
    pub(super) fn new(gate: Arc<Gate>, in_flight: usize, started: Option<Duration>) -> Self {
        Self {
            gate,
            in_flight,
            started,
            outcome: Outcome::Cancelled,
            sampled: false,
            released: false,
        }
    }

    /// The request begins now, not when the permit was taken.
    pub(crate) fn restart(&mut self) {
        if self.started.is_some() {
            self.started = Some(self.gate.clock.now());
        }
    }

    /// The latency is known, and how the request went so far. Only the first call counts.
    #[inline]
    pub(crate) fn sample(&mut self, outcome: Outcome) {
        if self.sampled {
            return;
        }
        self.sampled = true;
        self.outcome = outcome;
        if let Some(started) = self.started {
            self.sample_since(started, outcome);
        }
    }

    /// How the request went in the end, where that is known only after the sample: a stream that began well may still
    /// end in an overload, which the limit is then told as well.
    #[cfg(feature = "http")]
    pub(crate) fn settle(&mut self, outcome: Outcome) {
        if !self.sampled {
            return self.sample(outcome);
        }
        let news = outcome == Outcome::Overload && self.outcome != Outcome::Overload;
        self.outcome = outcome;
        if let (true, Some(started)) = (news, self.started) {
            self.learn(self.gate.clock.now(), started, outcome);
        }
    }

    /// Gives the slot back; if the request is not over, before it is.
    #[inline]
    pub(crate) fn release(&mut self) {
        if !self.released {
            self.released = true;
            self.gate.release(self.outcome);
        }
    }

    fn sample_since(&self, started: Duration, outcome: Outcome) {
        let now = self.gate.clock.now();
        if matches!(outcome, Outcome::Success | Outcome::Overload) {
            let gate = &self.gate;
            gate.recording.latency(
                &gate.settings.name,
                &gate.slots,
                now.saturating_sub(started),
            );
        }
        self.learn(now, started, outcome);
    }

    fn learn(&self, now: Duration, started: Duration, outcome: Outcome) {
        if outcome != Outcome::Ignore {
            self.gate.learn(Sample {
                at: now,
                latency: now.saturating_sub(started),
                in_flight: self.in_flight,
                outcome,
            });
        }
    }
}

impl Drop for Permit {
    #[inline]
    fn drop(&mut self) {
        if !self.sampled {
            // A handler that panicked says nothing about load.
            let outcome = if std::thread::panicking() {
                Outcome::Ignore
            } else {
                Outcome::Cancelled
            };
            self.sample(outcome);
        }
        self.release();
    }
}

impl fmt::Debug for Permit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Permit")
            .field("gate", &self.gate.settings.name)
            .field("released", &self.released)
            .finish_non_exhaustive()
    }
}
