//! What one machine has taken from the store and not spent yet, so that it need not ask for every request.
//!
//! ```text
//!            draw, put            take, give_back              close
//!   closed ────────────► open ──────────────────────► open ───────────► closed, the rest goes back
//! ```
//!
//! A lease is open for a term, which ends by time even if slices were added meanwhile: one that could be prolonged would keep from
//! others what a trickle of requests never needs.

use std::time::Duration;

use super::{LEASE_TERM, budget::Budget, script::Standing};

#[derive(Debug, Default)]
pub(super) struct Lease {
    /// For each limit. Empty: none was ever taken.
    left: Vec<u64>,
    /// How much was taken in this term, as far as time has not given it back since. No more than that can go back.
    drawn: Vec<u64>,
    /// When the newest slice was taken, by the store's time in microseconds.
    taken: u64,
    /// Counts the leases.
    term: u64,
    open: bool,
    /// For each limit; `None` where the store has got something back since.
    seen: Vec<Option<Seen>>,
    /// When it answered last.
    answered: Duration,
}

/// What the store had left of a limit when it answered last. It need not be asked for more before that can be there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Seen {
    remaining: u64,
    /// When there is one more.
    next: Duration,
    /// How long each further one takes.
    unit: Duration,
    /// Not to be relied on any longer: others give something back.
    until: Duration,
}

/// What a cost was taken from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Taken {
    pub(super) term: u64,
    /// The store's time, in microseconds.
    pub(super) at: u64,
}

/// What a machine has to ask the store for.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Draw {
    /// Taken from the lease already.
    held: Vec<u64>,
    from: Taken,
    pub(super) costs: Vec<u64>,
    pub(super) wants: Vec<u64>,
}

/// What the store gave of a limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Grant {
    spent: u64,
    /// Everything that was spent before, time had given back.
    afresh: bool,
}

impl Lease {
    /// Takes the costs if there is enough of everything.
    pub(super) fn take(&mut self, costs: &[u64]) -> Option<Taken> {
        let enough = self.open && self.left.iter().zip(costs).all(|(left, cost)| left >= cost);
        enough.then(|| {
            subtract(&mut self.left, costs);
            self.taken()
        })
    }

    /// How long it takes until so much is there, if the store has not got it, as far as we know.
    ///
    /// Who `came` before it answered has waited for that answer, and keeps to it. Otherwise each in a line of many that move up
    /// slowly would ask for what has come back meanwhile, and the line would grow.
    pub(super) fn refused(&self, came: Duration, now: Duration, costs: &[u64]) -> Option<Duration> {
        let now = match came <= self.answered {
            true => self.answered,
            false => now,
        };
        (self.seen.iter().zip(costs).zip(&self.left))
            .filter_map(|((seen, cost), left)| seen.as_ref()?.wait(now, cost.saturating_sub(*left)))
            .max()
    }

    /// The store has answered.
    pub(super) fn saw(&mut self, now: Duration, seen: impl Iterator<Item = Seen>) {
        self.answered = now;
        self.seen.clear();
        self.seen.extend(seen.map(Some));
    }

    /// Sets aside what there is of the costs, and says what is missing, and how much more is wanted to have a slice left.
    pub(super) fn draw(&mut self, costs: &[u64], slices: &[u64]) -> Draw {
        self.left.resize(costs.len(), 0);
        let held: Vec<u64> = self
            .left
            .iter()
            .zip(costs)
            .map(|(left, cost)| *left.min(cost))
            .collect();
        subtract(&mut self.left, &held);
        let costs: Vec<u64> = costs
            .iter()
            .zip(&held)
            .map(|(cost, held)| cost - held)
            .collect();
        let wants = (costs.iter().zip(slices).zip(&self.left))
            .map(|((cost, slice), left)| (*cost).max(slice.saturating_sub(*left)))
            .collect();
        Draw {
            held,
            from: self.taken(),
            costs,
            wants,
        }
    }

    /// The store gave `grants` at `at`: what was drawn for is taken from it, the rest stays here. Returns whether a term begins.
    pub(super) fn put(&mut self, draw: &Draw, grants: &[Grant], at: u64) -> (Taken, bool) {
        for ((left, grant), cost) in self.left.iter_mut().zip(grants).zip(&draw.costs) {
            *left += grant.spent.saturating_sub(*cost);
        }
        let begins = !self.open;
        if begins {
            self.open = true;
            self.term += 1;
        }
        self.drawn.resize(grants.len(), 0);
        for (drawn, grant) in self.drawn.iter_mut().zip(grants) {
            let before = if begins || grant.afresh { 0 } else { *drawn };
            *drawn = before + grant.spent;
        }
        self.taken = at;
        (self.taken(), begins)
    }

    /// The store gave nothing: what was set aside is here again. If that lease is over it has to go back to the store, and is
    /// returned, with the time when it was taken.
    pub(super) fn put_back(&mut self, draw: Draw) -> Option<(Vec<u64>, u64)> {
        if self.open && draw.from.term == self.term {
            for (left, held) in self.left.iter_mut().zip(&draw.held) {
                *left += held;
            }
            return None;
        }
        self.goes_back(&draw.held);
        Some((draw.held, draw.from.at))
    }

    /// Gives back what was not needed after all. Returns what has to go back to the store: all of it if that lease is over, and
    /// what is more than a slice.
    pub(super) fn give_back(&mut self, taken: Taken, costs: &[u64], slices: &[u64]) -> Vec<u64> {
        let rest: Vec<u64> = if self.open && taken.term == self.term {
            (self.left.iter_mut().zip(costs).zip(slices))
                .map(|((left, cost), slice)| {
                    let kept = (*cost).min(slice.saturating_sub(*left));
                    *left += kept;
                    cost - kept
                })
                .collect()
        } else {
            costs.to_vec()
        };
        self.goes_back(&rest);
        rest
    }

    /// Takes what there is of what is owed. Returns what the store has to be told of.
    pub(super) fn owe(&mut self, costs: &[u64]) -> Vec<u64> {
        if !self.open {
            return costs.to_vec();
        }
        (self.left.iter_mut().zip(costs))
            .map(|(left, cost)| {
                let here = (*cost).min(*left);
                *left -= here;
                cost - here
            })
            .collect()
    }

    /// Ends this term, or whichever there is. Returns what has to go back, and when it was taken.
    pub(super) fn close(&mut self, term: Option<u64>) -> Option<(Vec<u64>, u64)> {
        if !self.open || term.is_some_and(|term| term != self.term) {
            return None;
        }
        self.open = false;
        let rest: Vec<u64> = self
            .left
            .iter()
            .zip(&self.drawn)
            .map(|(left, drawn)| *left.min(drawn))
            .collect();
        self.left.fill(0);
        self.goes_back(&rest);
        Some((rest, self.taken))
    }

    pub(super) fn is_open(&self) -> bool {
        self.open
    }

    fn taken(&self) -> Taken {
        Taken {
            term: self.term,
            at: self.taken,
        }
    }

    /// The store has more again than was seen.
    fn goes_back(&mut self, rest: &[u64]) {
        for (seen, _) in (self.seen.iter_mut().zip(rest)).filter(|(_, rest)| **rest > 0) {
            *seen = None;
        }
    }
}

impl Grant {
    pub(super) fn new(budget: &Budget, standing: &Standing) -> Self {
        let alone = (standing.spent.saturating_mul(budget.period)).div_ceil(budget.count);
        Self {
            spent: standing.spent,
            afresh: standing.reset_after <= alone,
        }
    }
}

impl Seen {
    pub(super) fn new(budget: &Budget, standing: &Standing, now: Duration) -> Self {
        let below_full = budget.burst.saturating_sub(standing.remaining + 1);
        let later = below_full.saturating_mul(budget.period) / budget.count;
        let nanos = u128::from(budget.period) * 1000 / u128::from(budget.count);
        Self {
            remaining: standing.remaining,
            next: now + Duration::from_micros(standing.reset_after.saturating_sub(later)),
            unit: Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX)),
            until: now + LEASE_TERM,
        }
    }

    /// Until the store has `missing`. `None` where it has that by now, or where we do not know.
    fn wait(&self, now: Duration, missing: u64) -> Option<Duration> {
        let after_next = missing.checked_sub(self.remaining.saturating_add(1))?;
        let each = u32::try_from(after_next).unwrap_or(u32::MAX);
        let there = self.next.saturating_add(self.unit.saturating_mul(each));
        (now < self.until && now < there).then(|| there - now)
    }
}

fn subtract(from: &mut [u64], less: &[u64]) {
    for (from, less) in from.iter_mut().zip(less) {
        *from -= less;
    }
}

#[cfg(test)]
mod tests;
