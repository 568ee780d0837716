use std::{fmt, mem, sync::Arc, time::Duration};

use super::{Charge, Gate};
use crate::{
    Demand, Reason, Rejected,
    contained::contained,
    limit::{Outcome, Sample},
    rate::{Deciding, Decision, Receipt},
    room::Full,
};

/// A slot that was taken for a call whose service is being readied. Dropping it gives the slot back as if nothing had been. It borrows
/// the gate, as [`Begun`] does and for the same reason.
pub(crate) struct Claim<'a> {
    gate: &'a Arc<Gate>,
    /// 0 once it is in other hands.
    in_flight: u32,
    spent: Option<Spent>,
}

impl<'a> Claim<'a> {
    #[inline]
    pub(super) fn new(gate: &'a Arc<Gate>, in_flight: u32, spent: Option<Spent>) -> Self {
        Self {
            gate,
            in_flight,
            spent,
        }
    }

    /// The call is made.
    #[inline(always)]
    pub(crate) fn begin(mut self) -> Result<Begun<'a>, Refused<'a>> {
        let in_flight = mem::take(&mut self.in_flight);
        Begun::under(self.gate, in_flight, self.spent)
    }

    /// The call has to wait for the service.
    pub(crate) fn keep(mut self) -> Slot {
        let in_flight = mem::take(&mut self.in_flight);
        Slot::new(Arc::clone(self.gate), in_flight, self.spent)
    }
}

impl Drop for Claim<'_> {
    #[inline]
    fn drop(&mut self) {
        if self.in_flight != 0 {
            self.gate.unused(self.spent);
        }
    }
}

/// A slot that was taken for the call that is being made. Dropping it, as happens if the service panics in its `call`, gives the slot
/// back.
///
/// It borrows the gate, so that all of it stays in registers, and the [`Permit`] is made where it is to be kept. A permit that
/// is moved right after it was made is read in wider parts than it was written in, which stalls for longer than all the rest
/// of an admission takes.
pub(crate) struct Begun<'a> {
    gate: &'a Arc<Gate>,
    /// As wide as a register, for the same reason.
    in_flight: u64,
    started: Started,
    rare: Option<Box<Rare>>,
}

/// What few permits have, in one place, so that those without it look for it once.
#[derive(Default)]
struct Rare {
    /// To be settled when all is over, which may be later than the slot comes back.
    charge: Option<Charge>,
    /// That of the gate above, which goes the same way.
    above: Option<Permit>,
}

/// The gate above had no room for the call, whose slot has gone back.
pub(crate) struct Refused<'a> {
    pub(crate) rejected: Rejected,
    pub(crate) gate: &'a Gate,
}

impl<'a> Begun<'a> {
    /// Like [`new`](Self::new), once the gate above has a permit for it as well, if there is one.
    #[inline(always)]
    fn under(
        gate: &'a Arc<Gate>,
        in_flight: u32,
        spent: Option<Spent>,
    ) -> Result<Self, Refused<'a>> {
        match &gate.above {
            None => Ok(Self::new(gate, in_flight, spent)),
            Some(above) => Self::under_another(gate, in_flight, spent, above),
        }
    }

    #[inline(never)]
    fn under_another(
        gate: &'a Arc<Gate>,
        in_flight: u32,
        spent: Option<Spent>,
        above: &Arc<Gate>,
    ) -> Result<Self, Refused<'a>> {
        match above.begin_or_reject(spent.and_then(|spent| spent.demand)) {
            Ok(begun) => {
                let permit = begun.permit();
                let mut begun = Self::new(gate, in_flight, spent);
                if let Some(charge) = begun.charge() {
                    charge.also(permit.charged().cloned());
                }
                begun.rare.get_or_insert_default().above = Some(permit);
                Ok(begun)
            }
            Err(rejected) => {
                gate.refused_above(spent);
                Err(Refused { rejected, gate })
            }
        }
    }

    /// A call begins on a slot that was taken at `gate`: from now on it is in the numbers.
    #[inline]
    pub(super) fn new(gate: &'a Arc<Gate>, in_flight: u32, spent: Option<Spent>) -> Self {
        Self {
            gate,
            in_flight: in_flight.into(),
            started: gate.begin(),
            rare: spent.and_then(|spent| Rare::charged(spent, gate)),
        }
    }

    /// What the request was charged, if that differs from what others are.
    #[inline]
    pub(crate) fn charge(&self) -> Option<&Charge> {
        self.rare.as_ref()?.charge.as_ref()
    }

    /// The call has been made.
    #[inline]
    pub(crate) fn permit(mut self) -> Permit {
        let rare = self.rare.take();
        let permit = Permit::new(
            Arc::clone(self.gate),
            self.in_flight as u32,
            self.started,
            rare,
        );
        mem::forget(self);
        permit
    }
}

impl Drop for Begun<'_> {
    #[cold]
    fn drop(&mut self) {
        // What panicked says nothing about load.
        if let Some(above) = self.rare.as_mut().and_then(|rare| rare.above.as_mut()) {
            above.sample(Outcome::Ignore);
        }
        self.gate.release(Outcome::Ignore);
        if let Some(charge) = self.charge() {
            charge.end();
        }
    }
}

impl Rare {
    fn charged(spent: Spent, gate: &Arc<Gate>) -> Option<Box<Self>> {
        let charge = Some(Charge::new(gate, spent.demand?, spent.at));
        Some(Box::new(Self {
            charge,
            above: None,
        }))
    }
}

/// What was spent of the rates for a request, and when.
#[derive(Clone, Copy, Debug)]
pub(super) struct Spent {
    pub(super) at: Duration,
    /// `None` for what every request asks for; then there is nothing to correct.
    demand: Option<Demand>,
}

impl Spent {
    pub(super) fn new(at: Duration, demand: Option<Demand>) -> Self {
        Self { at, demand }
    }

    pub(super) fn demand(self) -> Demand {
        self.demand.unwrap_or_default()
    }
}

/// A slot that was taken for a call that has not been made yet. Dropping it gives the slot back as if nothing had been.
pub(crate) struct Slot {
    gate: Arc<Gate>,
    /// How many were in flight when it was taken, this one included. 0 once it is in other hands.
    in_flight: u32,
    /// With rates.
    spent: Option<Spent>,
    /// Of a rate that is counted elsewhere.
    receipt: Option<Receipt>,
}

impl Slot {
    pub(super) fn new(gate: Arc<Gate>, in_flight: u32, spent: Option<Spent>) -> Self {
        Self {
            gate,
            in_flight,
            spent,
            receipt: None,
        }
    }

    /// The call is made. `None` if it was made before.
    pub(crate) fn begin(&mut self) -> Result<Option<Begun<'_>>, Refused<'_>> {
        let in_flight = match mem::take(&mut self.in_flight) {
            0 => return Ok(None),
            in_flight => in_flight,
        };
        let receipt = self.receipt.take();
        let begun = match Begun::under(&self.gate, in_flight, self.spent) {
            Ok(begun) => begun,
            Err(refused) => {
                if let Some(receipt) = receipt {
                    contained(|| receipt.refund());
                }
                return Err(refused);
            }
        };
        if let (Some(charge), Some(receipt)) = (begun.charge(), receipt) {
            charge.keep(receipt);
        }
        Ok(Some(begun))
    }

    /// Asks the rate that is counted elsewhere, if there is one.
    pub(crate) fn ask_remote(&self) -> Option<Deciding> {
        let remote = self.gate.settings.remote.as_ref()?;
        let demand = self.spent.map(Spent::demand).unwrap_or_default();
        Some(remote.spend(&demand))
    }

    /// What it answered. Refused there, a request takes nothing here.
    pub(crate) fn decided(&mut self, decision: Decision) -> Result<(), Rejected> {
        let (reason, short) = match decision {
            Decision::Admitted { receipt, .. } => {
                self.receipt = Some(receipt);
                return Ok(());
            }
            Decision::Short { short, .. } => (Full::Rate(short).reason(), Some(short)),
            Decision::Unavailable => (Reason::Unavailable, None),
        };
        let rejected = self.gate.reject(reason, Duration::ZERO, short);
        if self.gate.settings.shadow {
            return Ok(());
        }
        if mem::take(&mut self.in_flight) != 0 {
            // It is among the refused already.
            self.gate.take_back(self.spent);
        }
        Err(rejected)
    }

    pub(crate) fn gate(&self) -> &Gate {
        &self.gate
    }

    /// The slot without its guard: to be given back by hand.
    pub(super) fn keep(mut self) -> u32 {
        mem::take(&mut self.in_flight)
    }
}

impl Drop for Slot {
    #[inline]
    fn drop(&mut self) {
        if self.in_flight != 0 {
            self.gate.unused(self.spent);
            if let Some(receipt) = self.receipt.take() {
                contained(|| receipt.refund());
            }
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
    fn new(gate: Arc<Gate>, in_flight: u32, started: Started, rare: Option<Box<Rare>>) -> Self {
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
        if self.rare.is_some() || self.started.is_known() {
            self.timed(outcome, retry_after);
        }
    }

    /// Likewise, with a latency that the service knows better.
    #[cfg(feature = "http")]
    pub(crate) fn sample_told(&mut self, outcome: Outcome, latency: Duration) {
        if self.sampled {
            return;
        }
        if let Some(above) = self.above_mut() {
            above.sample_told(outcome, latency);
        }
        self.sampled = true;
        self.outcome = outcome;
        if self.started.is_known() {
            self.record(outcome, latency);
            self.learn(self.gate.clock.now(), latency, outcome, None);
        }
    }

    #[cfg(feature = "http")]
    pub(crate) fn gate(&self) -> &Gate {
        &self.gate
    }

    /// Whether it is of use to anybody when the service says to come back.
    #[cfg(feature = "http")]
    pub(crate) fn wants_hint(&self) -> bool {
        !self.sampled
            && (self.gate.room.learns()
                || self
                    .rare
                    .as_ref()
                    .and_then(|rare| rare.above.as_ref())
                    .is_some_and(Self::wants_hint))
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

    #[inline]
    fn above_mut(&mut self) -> Option<&mut Self> {
        self.rare.as_mut()?.above.as_mut()
    }

    /// How the request went in the end, where that is known only after the sample: a stream that began well may still
    /// end in an overload, which the limit is then told as well.
    #[cfg(feature = "http")]
    pub(crate) fn settle(&mut self, outcome: Outcome) {
        if !self.sampled {
            return self.sample(outcome);
        }
        if let Some(above) = self.above_mut() {
            above.settle(outcome);
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
            if self.rare.is_some() {
                self.give_back_above();
            }
            self.gate.release(self.outcome);
        }
    }

    #[inline(never)]
    fn give_back_above(&mut self) {
        let outcome = self.outcome;
        if let Some(above) = self.above_mut() {
            above.outcome = outcome;
            above.give_back();
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
    fn timed(&mut self, outcome: Outcome, retry_after: Option<Duration>) {
        if let Some(above) = self.above_mut() {
            above.sample_hinted(outcome, retry_after);
        }
        if !self.started.is_known() {
            return;
        }
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
            self.gate.recording.latency(latency);
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
        let mut sample = Sample::new(now, latency, self.in_flight as usize, outcome);
        sample.retry_after = retry_after;
        if self.gate.room.learns() {
            self.gate.observe(&sample);
        }
        if self.started.is_picked() {
            self.gate.learn(sample);
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
        self.give_back();
        if let Some(charge) = self.charged() {
            charge.end();
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
    fn is_known(self) -> bool {
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
