//! The right to run, and what becomes of it.

use std::{fmt, sync::Arc, time::Duration};

use super::{Charge, Gate};
use crate::limit::{Outcome, Sample};

/// The right to run. Dropping it gives the slot back; there is no other way to lose it.
///
/// Holding and learning are two acts. The slot is held until [`release`](Permit::release) or the drop; the latency is
/// sampled once, at [`sample`](Permit::sample), which may come long before (a stream holds its slot to its end, but its
/// latency is that of its first frame) or after. A permit dropped without a sample was that of a request whose caller
/// left. What is said of a permit of a key's gate holds for the slot of the gate above as well, which goes the same way.
pub struct Permit {
    gate: Arc<Gate>,
    started: Started,
    /// To be settled when all is over, which may be later than the slot comes back.
    charge: Option<Charge>,
    in_flight: InFlight,
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
        gate: Arc<Gate>,
        in_flight: InFlight,
        started: Started,
        charge: Option<Charge>,
    ) -> Self {
        Self {
            gate,
            started,
            charge,
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
        if let Some(charge) = &self.charge {
            charge.set(cost);
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
        if news && self.started.is_known() {
            let now = self.gate.clock.now();
            self.learn(now, self.latency(now), outcome, None);
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
            self.gate.release_both(self.in_flight, self.outcome);
        }
    }

    /// A service that was dropped before it had answered may have something to say.
    #[cfg(feature = "http")]
    #[inline(never)]
    fn hear(&mut self) {
        if let Some(report) = self.charge.as_ref().and_then(Charge::report).cloned() {
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
        if outcome == Outcome::Ignore {
            return;
        }
        let sample = |in_flight: u32| {
            let mut sample = Sample::new(now, latency, in_flight as usize, outcome);
            sample.retry_after = retry_after;
            sample
        };
        if let Some(above) = &self.gate.above {
            above.observe(
                sample(self.in_flight.above()),
                self.started.is_picked_above(),
            );
        }
        self.gate
            .observe(sample(self.in_flight.here()), self.started.is_picked());
    }
}

impl Drop for Permit {
    #[inline]
    fn drop(&mut self) {
        #[cfg(feature = "http")]
        if self.charge.is_some() && !self.running {
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
        self.give_back();
        if let Some(charge) = &self.charge {
            charge.end();
        }
    }
}

/// How many were in flight when a request was let in, itself included, at its gate and at the one above.
#[derive(Clone, Copy)]
pub(super) struct InFlight(u64);

impl InFlight {
    #[inline]
    pub(super) fn alone(here: u32) -> Self {
        Self(here.into())
    }

    #[inline]
    pub(super) fn under(here: u32, above: u32) -> Self {
        Self(u64::from(above) << 32 | u64::from(here))
    }

    fn here(self) -> u32 {
        self.0 as u32
    }

    /// 0 if there is no gate above.
    #[inline]
    pub(super) fn above(self) -> u32 {
        (self.0 >> 32) as u32
    }
}

/// When a request began, in nanoseconds since the gate was made, and whether the limit and that of the gate above learn from it;
/// or that nobody needs to know.
#[derive(Clone, Copy)]
pub(super) struct Started(u64);

impl Started {
    pub(super) const UNKNOWN: Self = Self(u64::MAX);
    const PICKED: u64 = 1 << 63;
    const PICKED_ABOVE: u64 = 1 << 62;
    /// 146 years.
    const NANOS: u64 = Self::PICKED_ABOVE - 1;

    #[inline]
    pub(super) fn new(at: Duration, picked: bool, picked_above: bool) -> Self {
        let nanos = at.as_nanos() as u64 & Self::NANOS;
        let here = if picked { Self::PICKED } else { 0 };
        let above = if picked_above { Self::PICKED_ABOVE } else { 0 };
        Self(nanos | here | above)
    }

    #[inline]
    fn is_known(self) -> bool {
        self.0 != Self::UNKNOWN.0
    }

    fn is_picked(self) -> bool {
        self.0 & Self::PICKED != 0
    }

    fn is_picked_above(self) -> bool {
        self.0 & Self::PICKED_ABOVE != 0
    }

    fn at(self) -> Duration {
        Duration::from_nanos(self.0 & Self::NANOS)
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
