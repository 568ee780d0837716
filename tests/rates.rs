//! Whatever is done to a rate, it lets in no more than it may.

use std::{sync::Arc, time::Duration};

use proptest::{
    prelude::{ProptestConfig, prop_oneof, proptest},
    strategy::Strategy,
    test_runner::RngSeed,
};
use tower_backpressure::{
    Demand,
    rate::{Rate, Requests, SlidingWindow, TokenBucket},
};

/// A bucket's clock goes by ticks of at most a nanosecond, and may be ahead by one.
const GRAIN: Duration = Duration::from_nanos(2);

#[derive(Clone, Debug)]
enum Op {
    /// So many nanoseconds.
    Pass(u64),
    StepBack(u64),
    Spend(u64),
    Owe(u64),
    /// Of one of those that were let in.
    Refund(usize),
    Set(f64),
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        3 => (0..30_000_000u64).prop_map(Op::Pass),
        1 => (0..3_000_000_000u64).prop_map(Op::Pass),
        1 => (0..50_000_000u64).prop_map(Op::StepBack),
        8 => (0..12u64).prop_map(Op::Spend),
        1 => (0..15u64).prop_map(Op::Owe),
        3 => (0..1000usize).prop_map(Op::Refund),
    ]
}

fn op_with_changes() -> impl Strategy<Value = Op> {
    prop_oneof![20 => op(), 1 => (0..5000u32).prop_map(|rate| Op::Set(f64::from(rate) / 7.0))]
}

/// What was let in, what was given back of it, and what the rate was.
#[derive(Default)]
struct Ledger {
    spent: Vec<Spent>,
    /// Of everything that was let in (and, below 0, given back), in order.
    flow: Vec<(Duration, f64)>,
    rates: Vec<(Duration, f64)>,
}

struct Spent {
    /// The latest time there had been, whatever the clock said.
    at: Duration,
    cost: u64,
    refunded: bool,
}

impl Ledger {
    /// The most that came between any two times above what the rate gives between them.
    fn most_above_the_rate(&self) -> f64 {
        let mut most = 0.0f64;
        for (index, &(from, first)) in self.flow.iter().enumerate() {
            let mut came = 0.0;
            // What takes nothing does not tell the bucket the time either.
            if first <= 0.0 {
                continue;
            }
            for &(to, cost) in &self.flow[index..] {
                came += cost;
                // A refund lets nothing in, and its time may be one that the clock has stepped back to.
                if cost > 0.0 {
                    most = most.max(came - self.given(from, to));
                }
            }
        }
        most
    }

    fn given(&self, from: Duration, to: Duration) -> f64 {
        let ends = self.rates.iter().skip(1).map(|&(end, _)| end);
        let parts = self.rates.iter().zip(ends.chain([Duration::MAX]));
        let part = |(&(begin, rate), end): (&(Duration, f64), Duration)| {
            let time = to.min(end).saturating_sub(from.max(begin));
            time.as_secs_f64() * rate
        };
        parts.map(part).sum()
    }

    /// The most in any interval shorter than `window` of what was not given back.
    fn most_within(&self, window: Duration) -> u64 {
        let kept = |spent: &&Spent| !spent.refunded;
        let from = |(index, first): (usize, &Spent)| {
            let rest = self.spent[index..].iter();
            let within = rest.take_while(|spent| spent.at < first.at + window);
            within.filter(kept).map(|spent| spent.cost).sum()
        };
        self.spent.iter().enumerate().map(from).max().unwrap_or(0)
    }
}

/// Does it all, with costs in units of `unit`. Debts are let in whatever the rate says, so the ledger leaves them out.
fn play(rate: &dyn Rate, ops: &[Op], unit: u64) -> Ledger {
    let mut ledger = Ledger {
        rates: vec![(Duration::ZERO, rate.per_second())],
        ..Ledger::default()
    };
    let mut told = Vec::new();
    let (mut now, mut latest) = (Duration::ZERO, Duration::ZERO);
    for op in ops {
        match *op {
            Op::Pass(nanos) => now += Duration::from_nanos(nanos),
            // Not to before the rate was what it is now.
            Op::StepBack(nanos) => {
                let (since, _) = ledger.rates[ledger.rates.len() - 1];
                now = now.saturating_sub(Duration::from_nanos(nanos)).max(since);
            }
            Op::Spend(cost) if rate.spend(now, cost * unit).is_ok() => {
                let (at, cost) = (latest.max(now), cost * unit);
                told.push(now);
                ledger.spent.push(Spent {
                    at,
                    cost,
                    refunded: false,
                });
                ledger.flow.push((now, cost as f64));
            }
            Op::Spend(_) => {}
            Op::Owe(cost) => rate.owe(now, cost * unit),
            Op::Refund(which) => {
                let which = which % told.len().max(1);
                if let Some(spent) = ledger.spent.get_mut(which).filter(|spent| !spent.refunded) {
                    rate.refund(now, told[which], spent.cost);
                    spent.refunded = true;
                    ledger.flow.push((now, -(spent.cost as f64)));
                }
            }
            Op::Set(per_second) => {
                // Otherwise what the clock has to catch up would be given at the new rate.
                now = latest.max(now);
                rate.set_per_second(now, per_second * unit as f64);
                ledger.rates.push((now, rate.per_second()));
            }
        }
        latest = latest.max(now);
        let left = rate.quota(now).remaining;
        if left > 0 {
            assert_eq!(rate.check(now, left), Ok(()), "what is left can be spent");
        }
        assert!(rate.check(now, left + 1).is_err(), "and no more");
    }
    ledger
}

const RATES: [(u64, u64); 6] = [
    (1, 1_000_000_000),
    (7, 1_000_000_000),
    (333, 1_000_000_000),
    (50_000, 60_000_000_000),
    (999_999, 1_000_000_000),
    (1_000_000_000, 1_000_000_000),
];

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 500,
        rng_seed: RngSeed::Fixed(7),
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn a_bucket_lets_in_no_more_than_rate_times_time_and_the_burst(
        ops in proptest::collection::vec(op_with_changes(), 1..200),
        rate in 0..RATES.len(),
        burst in 1..40u64,
        unit in prop_oneof![1..2u64, 1..1_000_000u64],
    ) {
        let (n, period) = RATES[rate];
        let bucket = TokenBucket::per(n, Duration::from_nanos(period)).burst(burst * unit);
        let ledger = play(&bucket, &ops, unit);
        let most = ledger.most_above_the_rate();
        // A grain at each change, and what the ledger's own floats are untrue by.
        let grains: f64 = ledger.rates.iter().map(|&(_, rate)| GRAIN.as_secs_f64() * rate).sum();
        let allowed = (burst * unit) as f64 * (1.0 + 1e-9) + grains + 1e-6;
        assert!(most <= allowed, "{most} above the rate, but the burst is {burst} times {unit}");
    }

    #[test]
    fn a_window_never_has_more_than_its_limit_in_it(
        ops in proptest::collection::vec(op(), 1..200),
        limit in prop_oneof![1..30u64, 900..3000u64],
        millis in 1..500u64,
    ) {
        let window = Duration::from_millis(millis);
        let rate = SlidingWindow::new(limit, window);
        let most = play(&rate, &ops, limit.div_ceil(30)).most_within(window);
        assert!(most <= limit, "{most} in a window, but the limit is {limit}");
    }
}

#[test]
fn a_rate_behind_a_pointer_or_counting_requests_is_the_same_rate() {
    let bucket = Arc::new(TokenBucket::per_second(10));
    let boxed: Box<dyn Rate> = Box::new(Arc::clone(&bucket));
    let requests = Requests::new(boxed);
    let now = Duration::from_secs(3);
    assert_eq!(requests.cost(&Demand::of(7)), 1);
    assert_eq!(bucket.cost(&Demand::of(7)), 7);
    requests.spend(now, 4).unwrap();
    assert_eq!(bucket.quota(now).remaining, 6);
    requests.refund(now, now, 1);
    requests.owe(now, 5);
    assert_eq!(bucket.quota(now), requests.quota(now));
    assert_eq!(requests.check(now, 3), bucket.check(now, 3));
    requests.set_per_second(now, 20.0);
    assert_eq!((bucket.per_second(), requests.per_second()), (20.0, 20.0));
    assert!(!requests.learns() && requests.validate().is_ok());
}
