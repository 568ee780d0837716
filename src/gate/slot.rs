//! A slot on its way from being taken to the call for which it was taken.
//!
//! ```text
//! Claim ──► Begun ──► Permit        the service is asked at once: all stays in registers
//!   └─────► Slot ──► Begun ──► …    the call has to wait for the service, or for the answer of another machine
//! ```

use std::{fmt, mem, time::Duration};

use super::{
    Charge, Gate, Holder,
    hold::Lent,
    permit::{Permit, Rare, Started},
    watch::Lack,
};
use crate::{
    Demand, Reason, Rejected,
    contained::contained,
    limit::Outcome,
    rate::{Deciding, Decision, Receipt},
    room::Full,
};

/// A slot that was taken for a call whose service is being readied. Dropping it gives the slot back as if nothing had been. It
/// borrows the gate, as [`Begun`] does and for the same reason.
pub(crate) struct Claim<'a> {
    gate: &'a Holder,
    /// 0 once it is in other hands.
    in_flight: u32,
    spent: Option<Spent>,
}

impl<'a> Claim<'a> {
    #[inline]
    pub(super) fn new(gate: &'a Holder, in_flight: u32, spent: Option<Spent>) -> Self {
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
        let now = self.spent.filter(|spent| spent.taken).map(|spent| spent.at);
        Begun::under(self.gate, in_flight, self.spent, now)
    }

    /// The call has to wait for the service.
    pub(crate) fn keep(mut self) -> Slot {
        let in_flight = mem::take(&mut self.in_flight);
        Slot::new(self.gate.clone(), in_flight, self.spent)
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

/// A slot that was taken for the call that is being made. Dropping it, as happens if the service panics in its `call`, gives
/// the slot back.
///
/// It borrows the gate, so that all of it stays in registers, and the [`Permit`] is made where it is to be kept. A permit that
/// is moved right after it was made is read in wider parts than it was written in, which stalls for longer than all the rest
/// of an admission takes.
pub(crate) struct Begun<'a> {
    gate: &'a Holder,
    /// As wide as a register, for the same reason.
    in_flight: u64,
    started: Started,
    rare: Option<Box<Rare>>,
}

/// The gate above had no room for the call, whose slot has gone back.
pub(crate) struct Refused<'a> {
    pub(crate) rejected: Rejected,
    pub(crate) gate: &'a Gate,
}

impl<'a> Begun<'a> {
    /// Like [`new`](Self::new), once the gate above has a slot for it as well, if there is one. `now` where it is known.
    #[inline(always)]
    fn under(
        gate: &'a Holder,
        in_flight: u32,
        spent: Option<Spent>,
        now: Option<Duration>,
    ) -> Result<Self, Refused<'a>> {
        match &gate.above {
            None => Ok(Self::new(gate, in_flight, spent)),
            Some(above) => Self::under_another(gate, in_flight, spent, now, above),
        }
    }

    #[inline(never)]
    fn under_another(
        gate: &'a Holder,
        in_flight: u32,
        spent: Option<Spent>,
        now: Option<Duration>,
        above: &Holder,
    ) -> Result<Self, Refused<'a>> {
        let demand = spent.and_then(|spent| spent.demand);
        let (in_flight_above, spent_above) = match above.take_or_reject(now, demand) {
            Ok(taken) => taken,
            Err(rejected) => {
                gate.refused_above(spent);
                return Err(Refused { rejected, gate });
            }
        };
        let charge = spent.and_then(|spent| Charge::of(spent, gate));
        if let Some(charge) = &charge {
            charge.also(spent_above.and_then(|spent| Charge::of(spent, above)));
        }
        let (started, pupil) = gate.begin_under(above, in_flight_above);
        Ok(Self {
            gate,
            in_flight: in_flight.into(),
            started,
            rare: Rare::of(charge, pupil),
        })
    }

    /// A call begins on a slot that was taken at `gate`, which is no key's: from now on it is in the numbers.
    #[inline(always)]
    pub(super) fn new(gate: &'a Holder, in_flight: u32, spent: Option<Spent>) -> Self {
        debug_assert!(gate.above.is_none(), "a slot above comes back as well");
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
        self.rare.as_ref()?.charge()
    }

    /// The call has been made.
    #[inline]
    pub(crate) fn permit(mut self) -> Permit {
        let rare = self.rare.take();
        let (gate, in_flight, started) = (self.gate, self.in_flight as u32, self.started);
        mem::forget(self);
        // SAFETY: the slot is in use, and now nobody else's.
        #[allow(unsafe_code)]
        let gate = unsafe { Lent::new(gate) };
        Permit::new(gate, in_flight, started, rare)
    }
}

impl Drop for Begun<'_> {
    #[cold]
    fn drop(&mut self) {
        // What panicked says nothing about load.
        self.gate.release_both(Outcome::Ignore);
    }
}

/// What was spent of the rates for a request, and when.
#[derive(Clone, Copy, Debug)]
pub(super) struct Spent {
    pub(super) at: Duration,
    /// `None` for what every request asks for; then there is nothing to correct.
    pub(super) demand: Option<Demand>,
    /// Not of one that is let in only since the gate is in the shadow: there is nothing to give back, and nobody else to ask.
    pub(super) taken: bool,
}

impl Spent {
    pub(super) fn new(at: Duration, demand: Option<Demand>) -> Self {
        Self {
            at,
            demand,
            taken: true,
        }
    }

    /// What was asked for by one who is let in although there was no room.
    pub(super) fn nothing(demand: Option<Demand>) -> Option<Self> {
        Some(Self {
            at: Duration::ZERO,
            demand: Some(demand?),
            taken: false,
        })
    }

    pub(super) fn demand(self) -> Demand {
        self.demand.unwrap_or_default()
    }
}

/// A slot that was taken for a call that has not been made yet. Dropping it gives the slot back as if nothing had been.
pub(crate) struct Slot {
    gate: Holder,
    /// How many were in flight when it was taken, this one included. 0 once it is in other hands.
    in_flight: u32,
    /// With rates.
    spent: Option<Spent>,
    /// Of a rate that is counted elsewhere.
    receipt: Option<Receipt>,
}

impl Slot {
    pub(super) fn new(gate: Holder, in_flight: u32, spent: Option<Spent>) -> Self {
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
        let begun = match Begun::under(&self.gate, in_flight, self.spent, None) {
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
        if self.spent.is_none_or(|spent| !spent.taken) {
            return None;
        }
        let demand = self.spent.map(Spent::demand).unwrap_or_default();
        Some(remote.spend(&demand))
    }

    /// What it answered. Refused there, a request takes nothing here.
    pub(crate) fn decided(&mut self, decision: Decision) -> Result<(), Rejected> {
        let (reason, lack) = match decision {
            Decision::Admitted { receipt, .. } => {
                self.receipt = Some(receipt);
                return Ok(());
            }
            Decision::Short { short, quota } => {
                let demand = self.spent.map(Spent::demand).unwrap_or_default();
                let lack = Lack::elsewhere(short, demand, quota);
                (Full::Rate(short).reason(), Some(lack))
            }
            Decision::Unavailable => (Reason::Unavailable, None),
        };
        let rejected = self.gate.reject(reason, Duration::ZERO, lack);
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
