//! Everything a request needs to be let in: a slot, and room in every rate. One decision, all of it or nothing.
//!
//! With a limit alone that is one compare-and-swap, and with one rate alone one more, in the rate. Several of them cannot be
//! taken one after the other: what is taken from the first and given back when the second refuses has meanwhile refused
//! somebody else. So a lock makes several one; and those who give back need none.

use std::{cmp::Ordering, time::Duration};

use tokio::time::Instant;

use crate::{
    ConfigError, Demand, Reason,
    limit::Sample,
    rate::{Contained, Rate, Shift, Short},
    slots::{Slots, Turn, Word},
    sync::{Mutex, lock},
};

/// In so many steps a demand is made to fit a rate, whatever it takes for a cost.
#[cfg(feature = "llm")]
const STEPS: usize = 16;

#[derive(Debug)]
#[repr(C)]
pub(crate) struct Room {
    pub(crate) slots: Slots,
    /// Apart, so that a gate without rates has nothing of them on its cache lines.
    rates: Option<Box<Rates>>,
}

#[derive(Debug)]
struct Rates {
    list: Vec<Kept>,
    /// Nothing but the one rate has to have room.
    alone: bool,
    deciding: Mutex<()>,
}

#[derive(Debug)]
struct Kept {
    rate: Contained<Box<dyn Rate>>,
    /// From the gate's times to the rate's.
    shift: Shift,
    learns: bool,
}

/// What stood in the way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Full {
    Slots(Word),
    Rate(Short),
}

impl Full {
    pub(crate) fn reason(self) -> Reason {
        match self {
            Full::Slots(word) if word.draining() => Reason::Draining,
            Full::Slots(_) => Reason::Limit,
            Full::Rate(Short::Wait(_)) => Reason::Rate,
            Full::Rate(Short::Never { .. }) => Reason::OverBurst,
        }
    }

    /// What a rate lacked.
    pub(crate) fn short(self) -> Option<Short> {
        match self {
            Full::Slots(_) => None,
            Full::Rate(short) => Some(short),
        }
    }
}

impl Room {
    pub(crate) fn new(limit: usize) -> Self {
        Self {
            slots: Slots::new(limit),
            rates: None,
        }
    }

    /// One more rate that a request has to find room in. `limited` if the slots are a limit, and not only counted.
    pub(crate) fn add(&mut self, rate: Box<dyn Rate>, limited: bool) -> Result<(), ConfigError> {
        rate.validate()?;
        match &mut self.rates {
            Some(rates) => {
                rates.list.push(Kept::new(rate));
                rates.alone = false;
            }
            None => {
                self.rates = Some(Box::new(Rates {
                    list: vec![Kept::new(rate)],
                    alone: !limited,
                    deciding: Mutex::new(()),
                }));
            }
        }
        Ok(())
    }

    /// Times are measured from when the gate was made, and it was at `born`.
    pub(crate) fn measure_from(&mut self, born: Instant) {
        for kept in self.rates.iter_mut().flat_map(|rates| &mut rates.list) {
            if let Some(epoch) = kept.rate.get().epoch() {
                kept.shift = epoch.shift(born);
            }
        }
    }

    #[inline]
    pub(crate) fn has_rates(&self) -> bool {
        self.rates.is_some()
    }

    fn rates(&self) -> &[Kept] {
        self.rates.as_deref().map_or(&[], |rates| &rates.list)
    }

    /// How each rate stands.
    pub(crate) fn quotas(&self, now: Duration) -> impl Iterator<Item = crate::rate::Quota> + '_ {
        let quota = move |kept: &Kept| kept.at(now, |rate, now| rate.quota(now));
        self.rates().iter().filter_map(quota)
    }

    /// The rate in force, of the first.
    pub(crate) fn per_second(&self) -> Option<f64> {
        self.rates().first()?.rate.with(|rate| rate.per_second())
    }

    /// Changes the first rate.
    pub(crate) fn set_per_second(&self, now: Duration, per_second: f64) {
        if let Some(kept) = self.rates().first() {
            kept.at(now, |rate, now| rate.set_per_second(now, per_second));
        }
    }

    /// Takes a slot and spends `demand` of every rate at `now`, or says what stood in the way and takes nothing. Gives the
    /// number in flight, this one included.
    pub(crate) fn try_take(&self, turn: Turn, now: Duration, demand: Demand) -> Result<u32, Full> {
        match &self.rates {
            None => self.slots.try_take(turn).map_err(Full::Slots),
            Some(rates) if rates.alone => rates.spend(&self.slots, turn, now, demand),
            Some(rates) => {
                let _one_at_a_time = lock(&rates.deciding);
                rates.check(now, demand).map_err(Full::Rate)?;
                rates.spend(&self.slots, turn, now, demand)
            }
        }
    }

    /// When there is room in every rate for one who asks for `demand` behind `waiting` others, who ask for `ahead` all in all: of
    /// the rate that takes longest, how long that is and the most that can be spent there at once.
    pub(crate) fn outlook(
        &self,
        now: Duration,
        demand: Demand,
        waiting: usize,
        ahead: u64,
    ) -> Option<(Duration, u64)> {
        // A rate says what one request costs, so that the others' are taken for equal.
        let each = Demand::of(ahead.div_ceil(waiting.max(1) as u64));
        let outlook = |rate: &dyn Rate, now| {
            let wait = match rate.check(now, rate.cost(&demand)) {
                Err(Short::Wait(wait)) => wait,
                _ => Duration::ZERO,
            };
            let before = waiting as f64 * rate.cost(&each) as f64 / rate.per_second();
            let before = match waiting {
                0 => Duration::ZERO,
                _ => Duration::try_from_secs_f64(before).unwrap_or(Duration::MAX),
            };
            (wait.saturating_add(before), rate.quota(now).limit)
        };
        let outlooks = self.rates().iter().filter_map(|kept| kept.at(now, outlook));
        outlooks.max_by_key(|(wait, _)| *wait)
    }

    /// Whether there is room in every rate; if not, what is lacked the longest.
    pub(crate) fn check_rates(&self, now: Duration, demand: Demand) -> Result<(), Short> {
        self.rates
            .as_ref()
            .map_or(Ok(()), |rates| rates.check(now, demand))
    }

    /// As much of `demand` as can ever be spent at once.
    #[cfg(feature = "llm")]
    pub(crate) fn at_most(&self, now: Duration, demand: Demand) -> Demand {
        let rates = self.rates().iter();
        rates.fold(demand, |demand, kept| kept.at_most(now, demand))
    }

    /// The call for which all this was taken at `spent` never began.
    pub(crate) fn give_back(&self, now: Duration, spent: Duration, demand: Demand) -> Word {
        self.refund(now, spent, demand);
        self.slots.give_back()
    }

    pub(crate) fn refund(&self, now: Duration, spent: Duration, demand: Demand) {
        for kept in self.rates() {
            let spent = kept.shift.of(spent);
            kept.at(now, |rate, now| rate.refund(now, spent, rate.cost(&demand)));
        }
    }

    /// What was spent at `spent` for `reserved` turned out to be for `actual`.
    pub(crate) fn settle(&self, now: Duration, spent: Duration, reserved: Demand, actual: Demand) {
        for kept in self.rates() {
            let spent = kept.shift.of(spent);
            kept.at(now, |rate, now| {
                let (reserved, actual) = (rate.cost(&reserved), rate.cost(&actual));
                match actual.cmp(&reserved) {
                    Ordering::Greater => rate.owe(now, actual - reserved),
                    Ordering::Less => rate.refund(now, spent, reserved - actual),
                    Ordering::Equal => {}
                }
            });
        }
    }

    /// Whether a rate wants to know how requests went.
    pub(crate) fn learns(&self) -> bool {
        self.rates().iter().any(|kept| kept.learns)
    }

    /// Tells the rates how a request went. Whether one of them has moved.
    pub(crate) fn observe(&self, sample: &Sample) -> bool {
        let mut moved = false;
        for kept in self.rates().iter().filter(|kept| kept.learns) {
            let has_moved = kept.at(sample.at, |rate, at| {
                let before = rate.per_second();
                rate.observe(&Sample { at, ..*sample });
                rate.per_second() != before
            });
            moved |= has_moved == Some(true);
        }
        moved
    }
}

impl Rates {
    fn check(&self, now: Duration, demand: Demand) -> Result<(), Short> {
        let check = |kept: &Kept| kept.at(now, |rate, now| rate.check(now, rate.cost(&demand)));
        let lacking = self.list.iter().filter_map(|kept| check(kept)?.err());
        match lacking.reduce(longer) {
            Some(short) => Err(short),
            None => Ok(()),
        }
    }

    fn spend(&self, slots: &Slots, turn: Turn, now: Duration, demand: Demand) -> Result<u32, Full> {
        // Before anything is spent: it would be missing for others until it was given back.
        slots.look(turn).map_err(Full::Slots)?;
        for (nth, kept) in self.list.iter().enumerate() {
            let spent = kept.at(now, |rate, now| rate.spend(now, rate.cost(&demand)));
            if let Some(Err(short)) = spent {
                // It has more than one gate, and another was quicker.
                self.unspend(nth, now, demand);
                return Err(Full::Rate(short));
            }
        }
        // Slots are also taken without the lock, if by few.
        slots.try_take(turn).map_err(|word| {
            self.unspend(self.list.len(), now, demand);
            Full::Slots(word)
        })
    }

    fn unspend(&self, first: usize, now: Duration, demand: Demand) {
        for kept in &self.list[..first] {
            kept.at(now, |rate, now| rate.refund(now, now, rate.cost(&demand)));
        }
    }
}

impl Kept {
    fn new(rate: Box<dyn Rate>) -> Self {
        Self {
            learns: rate.learns(),
            shift: Shift::default(),
            rate: Contained::new(rate),
        }
    }

    #[cfg(feature = "llm")]
    fn at_most(&self, now: Duration, mut demand: Demand) -> Demand {
        // Where costs are in proportion to demands, the first step is enough.
        for _ in 0..STEPS {
            let cost = self.rate.with(|rate| rate.cost(&demand)).unwrap_or(0);
            let checked = self.at(now, |rate, now| rate.check(now, cost));
            let Some(Err(Short::Never { most })) = checked else {
                break;
            };
            let fits = u128::from(demand.cost()) * u128::from(most) / u128::from(cost.max(1));
            demand = Demand::of(fits as u64);
        }
        demand
    }

    /// What it says at a time of the gate's. `None` if it has panicked, now or before.
    #[inline]
    fn at<R>(&self, time: Duration, f: impl FnOnce(&dyn Rate, Duration) -> R) -> Option<R> {
        self.rate.with(|rate| f(rate, self.shift.of(time)))
    }
}

/// Of two lacks the one that lasts longer.
fn longer(a: Short, b: Short) -> Short {
    match (a, b) {
        (Short::Wait(a), Short::Wait(b)) => Short::Wait(a.max(b)),
        (never @ Short::Never { .. }, _) | (_, never) => never,
    }
}

#[cfg(all(test, not(backpressure_loom)))]
mod tests;
