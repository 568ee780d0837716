//! The limits that are compared: ours, fixed ones, and those of other crates through their public traits.
//!
//! Peers have their own defaults. Where an algorithm cannot do without a latency threshold it is told four mean service
//! times, which nobody would know in practice; where its defaults forbid a limit below 20 it is shown a second time
//! without. What they call in flight is the number at admission here, and the number at completion in their own crates.

pub mod calls;
mod congestion;
pub mod counted;
pub mod decisions;
pub mod keepalive;
pub mod limited;
pub mod load;
pub mod plots;
pub mod report;
pub mod rounds;
pub mod scores;
pub mod soak;
pub mod tokens;
pub mod vector;
pub mod waiters;

use std::fmt;

use congestion_limiter::limits;
use tower_backpressure::{
    limit::{Aimd, Fixed, Gradient2, Limit, MAX_LIMIT, Outcome, Sample, Vegas},
    sim::Scenario,
};
use tower_resilience_adaptive::{Algorithm, ConcurrencyAlgorithm as _};

use self::congestion::Congestion;

/// A limit in the comparison.
pub struct Contender {
    /// What the table calls it.
    pub name: &'static str,
    make: fn(&Scenario) -> Box<dyn Limit>,
}

impl fmt::Debug for Contender {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name)
    }
}

impl Contender {
    /// A new one for each scenario.
    pub fn make(&self, scenario: &Scenario) -> Box<dyn Limit> {
        (self.make)(scenario)
    }
}

/// In the order of the table.
pub fn contenders() -> Vec<Contender> {
    let contender = |name, make| Contender { name, make };
    vec![
        contender("none", |_| Box::new(Fixed::new(MAX_LIMIT))),
        contender("the right fixed limit", |s| {
            Box::new(Fixed::new(workers(s)))
        }),
        contender("twice the right one", |s| {
            Box::new(Fixed::new(2 * workers(s)))
        }),
        contender("Aimd", |_| Box::new(Aimd::default())),
        contender("Aimd, told 4 means", |s| {
            Box::new(Aimd::default().latency_threshold(4 * s.backend().mean()))
        }),
        contender("Gradient2", |_| Box::new(Gradient2::default())),
        contender("Vegas", |_| Box::new(Vegas::default())),
        contender("tower-acc Aimd, told 4 means", |s| {
            let aimd = tower_acc::Aimd::builder().timeout(4 * s.backend().mean());
            Box::new(Acc(aimd.build()))
        }),
        contender("tower-acc Aimd, told, 1..10000", |s| {
            let aimd = tower_acc::Aimd::builder().timeout(4 * s.backend().mean());
            Box::new(Acc(aimd.min_limit(1).max_limit(10_000).build()))
        }),
        contender("tower-acc Gradient2", |_| {
            Box::new(Acc(tower_acc::Gradient2::default()))
        }),
        contender("tower-acc Vegas", |_| {
            Box::new(Acc(tower_acc::Vegas::default()))
        }),
        contender("tower-resilience Aimd, told", |s| {
            let aimd = tower_resilience_adaptive::Aimd::builder();
            let aimd = aimd.latency_threshold(4 * s.backend().mean()).build();
            Box::new(Resilience(Algorithm::Aimd(aimd.expect("its own defaults"))))
        }),
        contender("tower-resilience Vegas", |_| {
            let vegas = tower_resilience_adaptive::Vegas::builder().build();
            Box::new(Resilience(Algorithm::Vegas(
                vegas.expect("its own defaults"),
            )))
        }),
        contender("tower-resilience Gradient2", |_| {
            let gradient = tower_resilience_adaptive::Gradient2::builder().build();
            Box::new(Resilience(Algorithm::Gradient2(
                gradient.expect("its own defaults"),
            )))
        }),
        contender("congestion-limiter Aimd", |_| {
            Box::new(Congestion::new(limits::Aimd::new_with_initial_limit(10)))
        }),
        contender("congestion-limiter Gradient", |_| {
            Box::new(Congestion::new(limits::Gradient::new_with_initial_limit(
                10,
            )))
        }),
        contender("congestion-limiter Vegas", |_| {
            Box::new(Congestion::new(limits::Vegas::new_with_initial_limit(10)))
        }),
    ]
}

fn workers(scenario: &Scenario) -> usize {
    scenario.backend().size()
}

/// An algorithm of tower-acc.
struct Acc<A>(A);

impl<A: tower_acc::Algorithm + 'static + Send> Limit for Acc<A> {
    fn limit(&self) -> usize {
        self.0.max_concurrency()
    }

    fn update(&mut self, sample: &Sample) -> usize {
        let failed = sample.outcome == Outcome::Overload;
        let left = sample.outcome == Outcome::Cancelled;
        self.0
            .update(sample.latency, sample.in_flight, failed, left);
        self.limit()
    }
}

/// An algorithm of tower-resilience-adaptive.
struct Resilience(Algorithm);

impl Limit for Resilience {
    fn limit(&self) -> usize {
        self.0.limit()
    }

    fn update(&mut self, sample: &Sample) -> usize {
        match sample.outcome {
            Outcome::Success => self
                .0
                .record_success_with_load(sample.latency, sample.in_flight),
            Outcome::Overload => self.0.record_failure(),
            _ => self.0.record_dropped(),
        }
        self.limit()
    }
}
