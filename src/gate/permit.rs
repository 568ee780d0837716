//! The right to run, and what becomes of it.

use std::{fmt, sync::Arc, time::Duration};

use super::{Charge, Gate, hold::Lent, slot::Spent};
use crate::limit::{Outcome, Sample};

/// The right to run. Dropping it gives the slot back; there is no other way to lose it.
///
/// Holding and learning are two acts. The slot is held until [`release`](Permit::release) or the drop; the latency is
/// sampled once, at [`sample`](Permit::sample), which may come long before (a stream holds its slot to its end, but its
/// latency is that of its first frame) or after. A permit dropped without a sample was that of a request whose caller
/// left. What is said of a permit of a key's gate holds for the slot of the gate above as well, which goes the same way.
pub struct Permit {
    gate: Lent,
    started: Started,
    rare: Option<Box<Rare>>,
    in_flight: u32,
    outcome: Outcome,
    sampled: bool,
    released: bool,
    /// Code of others that makes or reads the answer is running: the inner future, a closure, the body. If the permit is
    /// dropped meanwhile, that code has panicked.
    running: bool,
}

impl Permit {
    #[inline(always)]
    pub(super) fn new(
        gate: Lent,
        in_flight: u32,
        started: Started,
        rare: Option<Box<Rare>>,
    ) -> Self {
        Self {
            gate,
            started,
            rare,
            in_flight,
            outcome: Outcome::Cancelled,
            sampled: false,
            released: false,
            running: false,
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
        self.sample_hinted(outcome, None);
    }

    /// Likewise, and the service said when to come back.
    #[inline]
    pub(crate) fn sample_hinted(&mut self, outcome: Outcome, retry_after: Option<Duration>) {
        if self.sampled {
            return;
        }
        self.sampled = true;
        self.outcome = outcome;
        if self.is_timed() {
            self.timed(outcome, retry_after);
        }
    }

    /// Likewise, with a latency that the service knows better.
    #[cfg(feature = "http")]
    pub(crate) fn sample_told(&mut self, outcome: Outcome, latency: Duration) {
        if self.sampled {
            return;
        }
        self.sampled = true;
        self.outcome = outcome;
        if self.started.is_known() {
            self.record(outcome, latency);
            self.learn(self.gate.clock.now(), latency, outcome, None);
        }
    }

    /// Whether anybody may want to know how long it takes and how it goes. Nobody does of a fixed limit without a recorder, and
    /// of the requests that an adaptive one passes over.
    #[inline]
    pub(crate) fn is_timed(&self) -> bool {
        self.started.is_known()
    }

    #[cfg(feature = "http")]
    pub(crate) fn gate(&self) -> &Gate {
        &self.gate
    }

    /// Whether it is of use to anybody when the service says to come back.
    #[cfg(feature = "http")]
    pub(crate) fn wants_hint(&self) -> bool {
        let above = self.gate.above.as_ref();
        !self.sampled && (self.gate.room.learns() || above.is_some_and(|above| above.room.learns()))
    }

    /// What the request really cost.
    pub(crate) fn charge(&self, cost: u64) {
        if let Some(charge) = self.charged() {
            charge.set(cost);
        }
    }

    /// What the request was charged, if that differs from what others are.
    #[inline]
    fn charged(&self) -> Option<&Charge> {
        self.rare.as_ref()?.charge.as_ref()
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
        if news && self.started.is_known() {
            let now = self.gate.clock.now();
            self.learn(now, self.latency(now), outcome, None);
        }
    }

    /// Gives the slot back before the request is over. As far as is known it ends with `outcome`.
    #[cfg(any(feature = "http", all(test, backpressure_loom)))]
    pub(crate) fn release(&mut self, outcome: Outcome) {
        if !self.sampled {
            self.outcome = outcome;
        }
        if !self.released {
            self.gate.keep();
            self.released = true;
            self.gate.release_both(self.outcome);
        }
    }

    /// A service that was dropped before it had answered may have something to say.
    #[cfg(feature = "http")]
    #[inline(never)]
    fn hear(&mut self) {
        if let Some(report) = self.charged().and_then(Charge::report).cloned() {
            report.tell(self);
        }
    }

    #[inline(never)]
    fn timed(&self, outcome: Outcome, retry_after: Option<Duration>) {
        let now = self.gate.clock.now();
        let latency = self.latency(now);
        self.record(outcome, latency);
        self.learn(now, latency, outcome, retry_after);
    }

    fn latency(&self, now: Duration) -> Duration {
        now.saturating_sub(self.started.at())
    }

    fn record(&self, outcome: Outcome, latency: Duration) {
        if matches!(outcome, Outcome::Success | Outcome::Overload) {
            self.gate.shown().recording.latency(latency);
        }
    }

    fn learn(
        &self,
        now: Duration,
        latency: Duration,
        outcome: Outcome,
        retry_after: Option<Duration>,
    ) {
        let (picked, told_above) = (self.started.is_picked(), self.rare.is_some());
        let told = picked || self.gate.room.learns();
        if outcome == Outcome::Ignore || !told && !told_above {
            return;
        }
        let mut sample = Sample::new(now, latency, self.in_flight as usize, outcome);
        sample.retry_after = retry_after;
        if told_above {
            self.learn_above(sample);
        }
        if told {
            self.gate.observe(sample, picked);
        }
    }

    #[inline(never)]
    fn learn_above(&self, mut sample: Sample) {
        let pupil = self.rare.as_ref().and_then(|rare| rare.above.as_ref());
        if let (Some(above), Some(pupil)) = (&self.gate.above, pupil) {
            sample.in_flight = pupil.in_flight as usize;
            above.observe(sample, pupil.picked);
        }
    }
}

impl Drop for Permit {
    #[inline]
    fn drop(&mut self) {
        #[cfg(feature = "http")]
        if self.rare.is_some() && !self.running {
            self.hear();
        }
        if !self.sampled {
            self.sample(if self.running {
                // What panicked says nothing about load.
                Outcome::Ignore
            } else {
                Outcome::Cancelled
            });
        }
        if !self.released {
            // The gate may go with it.
            return self.gate.release_both(self.outcome);
        }
        // SAFETY: it was kept when the slot was given back.
        #[allow(unsafe_code)]
        unsafe {
            self.gate.let_go();
        }
    }
}

/// When a request began, in nanoseconds since the gate was made, and whether the limit learns from it; or that nobody
/// needs to know.
#[derive(Clone, Copy)]
pub(super) struct Started(u64);

impl Started {
    pub(super) const UNKNOWN: Self = Self(u64::MAX);
    const PICKED: u64 = 1 << 63;

    #[inline]
    pub(super) fn new(at: Duration, picked: bool) -> Self {
        let nanos = at.as_nanos() as u64 & !Self::PICKED;
        Self(if picked { nanos | Self::PICKED } else { nanos })
    }

    #[inline]
    pub(super) fn is_known(self) -> bool {
        self.0 != Self::UNKNOWN.0
    }

    fn is_picked(self) -> bool {
        self.0 & Self::PICKED != 0
    }

    fn at(self) -> Duration {
        Duration::from_nanos(self.0 & !Self::PICKED)
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

/// What few permits have, in one place, so that those without it look for it once.
pub(super) struct Rare {
    /// To be settled when all is over, which may be later than the slot comes back.
    charge: Option<Charge>,
    above: Option<Pupil>,
}

/// What the gate above has to know of the call to learn from it.
pub(super) struct Pupil {
    pub(super) in_flight: u32,
    pub(super) picked: bool,
}

impl Drop for Rare {
    fn drop(&mut self) {
        if let Some(charge) = &self.charge {
            charge.end();
        }
    }
}

impl Rare {
    #[inline]
    pub(super) fn charged(spent: Spent, gate: &Arc<Gate>) -> Option<Box<Self>> {
        spent.demand?;
        Self::of(Charge::of(spent, gate), None)
    }

    #[inline(never)]
    pub(super) fn of(charge: Option<Charge>, above: Option<Pupil>) -> Option<Box<Self>> {
        let is_any = charge.is_some() || above.is_some();
        is_any.then(|| Box::new(Self { charge, above }))
    }

    pub(super) fn charge(&self) -> Option<&Charge> {
        self.charge.as_ref()
    }
}
