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
    /// How much came with the newest slice.
    newest: Vec<u64>,
    /// When the newest slice was taken, by the store's time in microseconds.
    taken: u64,
    /// Counts the leases.
    term: u64,
    open: bool,
    /// For each limit; `None` where the store has got something back since.
    seen: Vec<Option<Seen>>,
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
    pub(super) costs: Vec<u64>,
    pub(super) wants: Vec<u64>,
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
    pub(super) fn refused(&self, now: Duration, costs: &[u64]) -> Option<Duration> {
        (self.seen.iter().zip(costs).zip(&self.left))
            .filter_map(|((seen, cost), left)| seen.as_ref()?.wait(now, cost.saturating_sub(*left)))
            .max()
    }

    /// The store has answered.
    pub(super) fn saw(&mut self, seen: impl Iterator<Item = Seen>) {
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
        Draw { held, costs, wants }
    }

    /// The store gave `granted` at `at`: what was drawn for is taken from it, the rest stays here. Returns whether a term begins.
    pub(super) fn put(&mut self, draw: &Draw, granted: &[u64], at: u64) -> (Taken, bool) {
        for ((left, granted), cost) in self.left.iter_mut().zip(granted).zip(&draw.costs) {
            *left += granted.saturating_sub(*cost);
        }
        self.newest = granted.to_vec();
        self.taken = at;
        let begins = !self.open;
        if begins {
            self.open = true;
            self.term += 1;
        }
        (self.taken(), begins)
    }

    /// The store gave nothing: what was set aside is here again.
    pub(super) fn put_back(&mut self, draw: Draw) {
        for (left, held) in self.left.iter_mut().zip(&draw.held) {
            *left += held;
        }
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
    ///
    /// More than the newest slice was does not go back: it was taken longer ago, by a request that was settled down since.
    pub(super) fn close(&mut self, term: Option<u64>) -> Option<(Vec<u64>, u64)> {
        if !self.open || term.is_some_and(|term| term != self.term) {
            return None;
        }
        self.open = false;
        let rest: Vec<u64> = self
            .left
            .iter()
            .zip(&self.newest)
            .map(|(left, newest)| *left.min(newest))
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
mod tests {
    use super::*;

    const SLICES: [u64; 2] = [10, 1000];

    /// A lease of a slice of each, of which one request and its 100 tokens have been taken.
    fn lease() -> (Lease, Taken) {
        let mut lease = Lease::default();
        let draw = lease.draw(&[1, 100], &SLICES);
        assert_eq!(
            (&draw.costs[..], &draw.wants[..]),
            (&[1, 100][..], &SLICES[..])
        );
        let (taken, begins) = lease.put(&draw, &SLICES, 5);
        assert!(begins);
        (lease, taken)
    }

    #[test]
    fn nothing_is_taken_before_there_is_a_lease() {
        assert_eq!(Lease::default().take(&[1]), None);
        assert_eq!(Lease::default().take(&[0]), None);
    }

    #[test]
    fn all_is_taken_or_nothing() {
        let (mut lease, first) = lease();
        assert_eq!(lease.take(&[1, 901]), None);
        assert_eq!(lease.take(&[1, 900]), Some(first));
        assert_eq!(lease.take(&[1, 1]), None);
        assert_eq!(lease.take(&[8, 0]), Some(first));
        assert_eq!(lease.take(&[1, 0]), None);
    }

    #[test]
    fn what_is_missing_is_drawn_and_the_slice_topped_up() {
        let (mut lease, first) = lease();
        let draw = lease.draw(&[1, 1200], &SLICES);
        assert_eq!(draw.costs, [0, 300]);
        assert_eq!(draw.wants, [2, 1000]);
        // What was set aside is nobody else's.
        assert_eq!(lease.take(&[1, 1]), None);
        let (taken, begins) = lease.put(&draw, &[2, 500], 9);
        assert!(!begins);
        assert_eq!(taken, Taken { at: 9, ..first });
        assert_eq!(lease.close(None), Some((vec![2, 200], 9)));
    }

    #[test]
    fn a_lease_never_holds_more_than_a_slice() {
        let (mut lease, _) = lease();
        for cost in 0..2000 {
            let draw = lease.draw(&[1, cost], &SLICES);
            let granted: Vec<u64> = draw.wants.clone();
            lease.put(&draw, &granted, 9);
            assert!(lease.left[0] <= SLICES[0] && lease.left[1] <= SLICES[1]);
        }
    }

    #[test]
    fn what_was_set_aside_in_vain_is_there_again() {
        let (mut lease, first) = lease();
        let draw = lease.draw(&[1, 1200], &SLICES);
        lease.put_back(draw);
        assert_eq!(lease.take(&[9, 900]), Some(first));
    }

    const MS: Duration = Duration::from_millis(1);

    /// Of 100 requests and of 10,000 tokens per second, so much is left.
    fn seen(requests: u64, tokens: u64) -> impl Iterator<Item = Seen> {
        let standing = |budget: Budget, remaining| {
            let missing = (budget.burst - remaining) * budget.period;
            let standing = Standing {
                spent: 0,
                remaining,
                wait: 0,
                reset_after: missing.div_ceil(budget.count),
            };
            Seen::new(&budget, &standing, Duration::ZERO)
        };
        let requests = standing(Budget::per_second(100), requests);
        [
            requests,
            standing(Budget::per_second(10_000).burst(10_000), tokens),
        ]
        .into_iter()
    }

    #[test]
    fn the_store_is_not_asked_for_what_it_cannot_have_yet() {
        let (mut lease, _) = lease();
        lease.saw(seen(0, 0));
        // There are 9 requests and 900 tokens here. A token takes 0.1 ms, a request 10 ms.
        assert_eq!(lease.refused(Duration::ZERO, &[9, 900]), None);
        assert_eq!(lease.refused(Duration::ZERO, &[1, 1200]), Some(30 * MS));
        assert_eq!(lease.refused(10 * MS, &[1, 1200]), Some(20 * MS));
        assert_eq!(lease.refused(10 * MS, &[1, 1000]), None);
        assert_eq!(lease.refused(10 * MS, &[11, 1200]), Some(20 * MS));
        assert_eq!(lease.refused(15 * MS, &[11, 1200]), Some(15 * MS));
        assert_eq!(lease.refused(30 * MS, &[1, 1200]), None);
    }

    #[test]
    fn the_store_is_asked_for_what_it_had() {
        let (mut lease, _) = lease();
        lease.saw(seen(1, 300));
        assert_eq!(lease.refused(Duration::ZERO, &[10, 1200]), None);
        assert_eq!(lease.refused(Duration::ZERO, &[10, 1201]), Some(MS / 10));
        assert_eq!(lease.refused(Duration::ZERO, &[11, 1200]), Some(10 * MS));
    }

    #[test]
    fn what_the_store_had_is_believed_for_a_term() {
        let (mut lease, _) = lease();
        lease.saw(seen(0, 0));
        let almost = LEASE_TERM - MS;
        assert_eq!(lease.refused(almost, &[200, 0]), Some(911 * MS));
        assert_eq!(lease.refused(LEASE_TERM, &[200, 0]), None);
    }

    #[test]
    fn a_debt_is_waited_for() {
        let budget = Budget::per_second(10).burst(5);
        let standing = Standing {
            spent: 0,
            remaining: 0,
            wait: 0,
            reset_after: 930_000,
        };
        let seen = Seen::new(&budget, &standing, MS);
        assert_eq!(seen.wait(MS, 0), None);
        assert_eq!(seen.wait(MS, 1), Some(530 * MS));
        assert_eq!(seen.wait(MS, 3), Some(730 * MS));
    }

    #[test]
    fn what_goes_back_to_the_store_may_be_asked_for_at_once() {
        let (mut lease, taken) = lease();
        lease.saw(seen(0, 0));
        assert_eq!(lease.give_back(taken, &[0, 0], &SLICES), [0, 0]);
        assert_eq!(lease.refused(Duration::ZERO, &[11, 0]), Some(20 * MS));
        // This stays here.
        assert_eq!(lease.give_back(taken, &[1, 100], &SLICES), [0, 0]);
        assert_eq!(lease.refused(Duration::ZERO, &[11, 0]), Some(10 * MS));
        assert_eq!(lease.give_back(taken, &[1, 0], &SLICES), [1, 0]);
        assert_eq!(lease.refused(Duration::ZERO, &[11, 0]), None);
        assert_eq!(lease.refused(Duration::ZERO, &[0, 1010]), Some(MS));
        lease.close(None);
        assert_eq!(lease.refused(Duration::ZERO, &[0, 1010]), None);
    }

    #[test]
    fn what_came_back_goes_to_the_store_with_the_rest() {
        let (mut lease, taken) = lease();
        assert_eq!(lease.give_back(taken, &[1, 100], &SLICES), [0, 0]);
        assert_eq!(lease.close(None), Some((SLICES.to_vec(), 5)));
    }

    #[test]
    fn what_comes_back_too_late_goes_to_the_store() {
        let (mut lease, taken) = lease();
        assert_eq!(lease.close(Some(taken.term)), Some((vec![9, 900], 5)));
        assert_eq!(lease.give_back(taken, &[1, 100], &SLICES), [1, 100]);
        let draw = lease.draw(&[0, 0], &SLICES);
        lease.put(&draw, &[5, 500], 20);
        assert_eq!(lease.give_back(taken, &[1, 100], &SLICES), [1, 100]);
    }

    #[test]
    fn what_is_more_than_a_slice_goes_to_the_store() {
        let (mut lease, taken) = lease();
        assert_eq!(lease.give_back(taken, &[4, 50], &SLICES), [3, 0]);
    }

    #[test]
    fn what_is_owed_is_taken_from_here_first() {
        let (mut lease, taken) = lease();
        assert_eq!(lease.owe(&[0, 1000]), [0, 100]);
        assert_eq!(lease.take(&[1, 1]), None);
        lease.close(None);
        assert_eq!(lease.owe(&[1, 5]), [1, 5]);
        assert_eq!(lease.close(Some(taken.term)), None);
    }

    #[test]
    fn another_term_is_not_ended() {
        let (mut lease, taken) = lease();
        assert_eq!(lease.close(Some(taken.term + 1)), None);
        assert!(lease.is_open());
    }
}
