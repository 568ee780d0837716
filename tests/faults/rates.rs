//! Rates, every function of which is a point.

use std::{future::poll_fn, task::Poll, time::Duration};

use tower_backpressure::{
    Demand,
    rate::{Deciding, Decision, Quota, Rate, Receipt, RemoteRate, Short, TokenBucket},
};

use crate::{points::point, stage};

/// Three at once, and one in five ticks.
#[derive(Debug)]
pub struct Metered(TokenBucket);

impl Metered {
    pub fn new() -> Self {
        Self(TokenBucket::per_second(200).burst(3))
    }
}

impl Rate for Metered {
    fn check(&self, now: Duration, cost: u64) -> Result<(), Short> {
        point("rate.check");
        self.0.check(now, cost)
    }

    fn spend(&self, now: Duration, cost: u64) -> Result<(), Short> {
        point("rate.spend");
        self.0.spend(now, cost)
    }

    fn owe(&self, now: Duration, cost: u64) {
        self.0.owe(now, cost);
    }

    fn refund(&self, now: Duration, spent: Duration, cost: u64) {
        point("rate.refund");
        self.0.refund(now, spent, cost);
    }

    fn quota(&self, now: Duration) -> Quota {
        point("rate.quota");
        self.0.quota(now)
    }

    fn per_second(&self) -> f64 {
        point("rate.per_second");
        self.0.per_second()
    }

    fn cost(&self, demand: &Demand) -> u64 {
        point("rate.cost");
        demand.cost()
    }
}

/// Takes a tick to decide, and refuses every third.
#[derive(Debug)]
pub struct Far;

impl RemoteRate for Far {
    fn spend(&self, _: &Demand) -> Deciding {
        point("remote.spend");
        let from = stage::now() + 1;
        let refuses = stage::current() % 3 == 2;
        Box::pin(poll_fn(move |_| {
            point("remote.decide");
            if stage::now() < from {
                stage::next_tick();
                return Poll::Pending;
            }
            if refuses {
                let short = Short::Wait(Duration::from_secs(1));
                return Poll::Ready(Decision::Short { short, quota: None });
            }
            let receipt = Receipt::new(|_| point("remote.correct"));
            Poll::Ready(Decision::Admitted {
                receipt,
                quota: None,
            })
        }))
    }
}
