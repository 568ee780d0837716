//! A machine's own share of a rate, for as long as the store does not answer.

use std::time::Duration;

use super::budget::Budget;
use crate::rate::{Rate, Short, TokenBucket};

/// A bucket for each limit.
#[derive(Debug)]
pub(super) struct Local(Vec<TokenBucket>);

impl Local {
    pub(super) fn new(budgets: &[Budget], share: f64) -> Self {
        Self(budgets.iter().map(|budget| budget.share(share)).collect())
    }

    /// Spends the costs, all or none.
    ///
    /// What is more than this machine's share of the burst passes when the share is all there, and is owed: no request that the
    /// whole burst has room for is refused for good because the store is away.
    pub(super) fn spend(&self, now: Duration, costs: &[u64]) -> Result<(), Short> {
        for (done, (bucket, cost)) in self.0.iter().zip(costs).enumerate() {
            if let Err(short) = bucket.spend(now, at_once(bucket, now, *cost)) {
                for (bucket, cost) in self.0.iter().zip(costs).take(done) {
                    bucket.refund(now, now, at_once(bucket, now, *cost));
                }
                return Err(short);
            }
        }
        for (bucket, cost) in self.0.iter().zip(costs) {
            let rest = cost - at_once(bucket, now, *cost);
            if rest > 0 {
                bucket.owe(now, rest);
            }
        }
        Ok(())
    }

    /// Corrects what was spent at `spent`.
    pub(super) fn settle(&self, now: Duration, spent: Duration, was: &[u64], is: &[u64]) {
        for (bucket, (was, is)) in self.0.iter().zip(was.iter().zip(is)) {
            match is.checked_sub(*was) {
                Some(0) => {}
                Some(more) => bucket.owe(now, more),
                None => bucket.refund(now, spent, was - is),
            }
        }
    }

    pub(super) fn is_full(&self, now: Duration) -> bool {
        self.0.iter().all(|bucket| {
            let quota = bucket.quota(now);
            quota.remaining == quota.limit
        })
    }
}

fn at_once(bucket: &TokenBucket, now: Duration, cost: u64) -> u64 {
    cost.min(bucket.quota(now).limit)
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Duration = Duration::from_secs(5);

    /// A tenth of 100 requests and of 1000 tokens per second.
    fn tenth() -> Local {
        let budgets = [Budget::per_second(100), Budget::per_second(1000)];
        Local::new(&budgets, 0.1)
    }

    #[test]
    fn all_is_spent_or_nothing() {
        let local = tenth();
        local.spend(NOW, &[1, 60]).unwrap();
        let wait = Duration::from_millis(200);
        assert_eq!(local.spend(NOW, &[1, 60]), Err(Short::Wait(wait)));
        // None of the refused request's cost was kept.
        local.spend(NOW, &[9, 40]).unwrap();
        local.spend(NOW, &[1, 0]).unwrap_err();
    }

    #[test]
    fn more_than_the_share_of_the_burst_is_owed() {
        let local = tenth();
        local.spend(NOW, &[1, 500]).unwrap();
        let wait = Duration::from_secs(4);
        assert_eq!(local.spend(NOW, &[1, 0]), Err(Short::Wait(wait)));
        local.spend(NOW + wait, &[1, 0]).unwrap();
    }

    #[test]
    fn what_was_spent_is_corrected() {
        let local = tenth();
        local.spend(NOW, &[1, 100]).unwrap();
        local.settle(NOW, NOW, &[1, 100], &[1, 30]);
        local.spend(NOW, &[1, 70]).unwrap();
        local.settle(NOW, NOW, &[1, 70], &[1, 170]);
        let wait = Duration::from_secs(1);
        assert_eq!(local.spend(NOW, &[1, 0]), Err(Short::Wait(wait)));
    }

    #[test]
    fn it_is_full_until_something_is_spent_and_again_after_a_while() {
        let local = tenth();
        assert!(local.is_full(NOW));
        local.spend(NOW, &[0, 1]).unwrap();
        assert!(!local.is_full(NOW));
        assert!(local.is_full(NOW + Duration::from_millis(10)));
    }
}
