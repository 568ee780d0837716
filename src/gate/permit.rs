use std::{fmt, sync::Arc, time::Duration};

use super::Gate;
use crate::limit::{Outcome, Sample};

/// A slot that was taken for a call that has not been made yet. Dropping it gives the slot back as if nothing had been.
pub(crate) struct Slot {
    /// `None` once the call has begun. Taken out by itself, since a slot that is moved as a whole right after it was made
    /// is read in wider parts than it was written in, which stalls for longer than all the rest of an admission takes.
    gate: Option<Arc<Gate>>,
    in_flight: u32,
}

impl Slot {
    #[inline(always)]
    pub(super) fn new(gate: Arc<Gate>, in_flight: usize) -> Self {
        Self {
            gate: Some(gate),
            in_flight: in_flight as u32,
        }
    }

    /// Whether the call has yet to begin.
    pub(crate) fn is_held(&self) -> bool {
        self.gate.is_some()
    }

    /// The call begins: from now on it is in the numbers. `None` if it had begun before.
    #[inline(always)]
    pub(crate) fn begin(&mut self) -> Option<Permit> {
        let gate = self.gate.take()?;
        let started = gate.begin();
        Some(Permit::new(gate, self.in_flight, started))
    }
}

impl Drop for Slot {
    #[inline]
    fn drop(&mut self) {
        if let Some(gate) = self.gate.take() {
            gate.unused();
        }
    }
}

impl fmt::Debug for Slot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Slot").finish_non_exhaustive()
    }
}

/// The right to run. Dropping it gives the slot back; there is no other way to lose it.
///
/// Holding and learning are two acts. The slot is held until [`release`](Permit::release) or the drop; the latency is
/// sampled once, at [`sample`](Permit::sample), which may come long before (a stream holds its slot to its end, but its
/// latency is that of its first frame) or after. A permit dropped without a sample was that of a request whose caller
/// left.
pub struct Permit {
    gate: Arc<Gate>,
    started: Started,
    in_flight: u32,
    outcome: Outcome,
    sampled: bool,
    released: bool,
    /// The service's or the body's code is running; if the permit is dropped meanwhile, that code has panicked. So from the
    /// beginning, with the service's `call`, until its future has been polled.
    running: bool,
}

impl Permit {
    #[inline(always)]
    fn new(gate: Arc<Gate>, in_flight: u32, started: Started) -> Self {
        Self {
            gate,
            started,
            in_flight,
            outcome: Outcome::Cancelled,
            sampled: false,
            released: false,
            running: true,
        }
    }

    /// To be set while code runs that may panic, and cleared after it.
    #[inline]
    pub(crate) fn running(&mut self, running: bool) {
        self.running = running;
    }

    #[cfg(feature = "http")]
    pub(crate) fn is_running(&self) -> bool {
        self.running
    }

    /// The latency is known, and how the request went so far. Only the first call counts.
    #[inline]
    pub(crate) fn sample(&mut self, outcome: Outcome) {
        if self.sampled {
            return;
        }
        self.sampled = true;
        self.outcome = outcome;
        if let Some(started) = self.started.get() {
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
        if let (true, Some(started)) = (news, self.started.get()) {
            self.learn(self.gate.clock.now(), started, outcome);
        }
    }

    /// Gives the slot back before the request is over. As far as is known it ends with `outcome`.
    #[cfg(feature = "http")]
    pub(crate) fn release(&mut self, outcome: Outcome) {
        if !self.sampled {
            self.outcome = outcome;
        }
        self.give_back();
    }

    #[inline]
    fn give_back(&mut self) {
        if !self.released {
            self.released = true;
            self.gate.release(self.outcome);
        }
    }

    fn sample_since(&self, started: Duration, outcome: Outcome) {
        let now = self.gate.clock.now();
        if matches!(outcome, Outcome::Success | Outcome::Overload) {
            self.gate
                .recording
                .latency(&self.gate, now.saturating_sub(started));
        }
        self.learn(now, started, outcome);
    }

    fn learn(&self, now: Duration, started: Duration, outcome: Outcome) {
        if outcome != Outcome::Ignore {
            let latency = now.saturating_sub(started);
            self.gate
                .learn(Sample::new(now, latency, self.in_flight as usize, outcome));
        }
    }
}

impl Drop for Permit {
    #[inline]
    fn drop(&mut self) {
        if !self.sampled {
            self.sample(if self.running {
                // What panicked says nothing about load.
                Outcome::Ignore
            } else {
                Outcome::Cancelled
            });
        }
        self.give_back();
    }
}

/// When a request began, in nanoseconds since the gate was made, or that nobody needs to know.
#[derive(Clone, Copy)]
pub(super) struct Started(u64);

impl Started {
    pub(super) const UNKNOWN: Self = Self(u64::MAX);

    #[inline]
    pub(super) fn at(time: Duration) -> Self {
        Self(time.as_nanos() as u64)
    }

    #[inline]
    fn get(self) -> Option<Duration> {
        (self.0 != Self::UNKNOWN.0).then(|| Duration::from_nanos(self.0))
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
