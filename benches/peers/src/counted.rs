//! An upstream that counts: it serves so many requests a second and answers 429 above. In virtual time.

use std::{collections::BTreeMap, time::Duration};

use fastrand::Rng;
use tower_backpressure::{
    limit::{Aimd, Limit, Outcome, Sample},
    rate::{AdaptiveRate, Rate, TokenBucket},
};

use crate::{Acc, vector::Vector};

/// What the upstream serves in a second.
pub const SERVED: u64 = 100;
/// How many callers come in a second, knowing nothing of each other. Who is refused leaves.
pub const CALLERS: u64 = 300;
/// How long an answer takes that is no refusal.
pub const LATENCY: Duration = Duration::from_millis(200);
const REFUSAL: Duration = Duration::from_millis(30);
const SECONDS: usize = 60;
/// Until then it may look for the rate.
pub const SETTLED: usize = 20;
/// So long is the worst stretch.
const STRETCH: usize = 10;

/// What holds the callers back.
pub enum Holds {
    /// A rate.
    Rate(Box<dyn Rate>),
    /// A limit on how many are in flight.
    Limit(Box<dyn Limit>),
    /// Likewise, by Vector's rules.
    Vector(Vector),
}

/// How it went once it had settled, per second, as shares of what the upstream serves.
#[derive(Clone, Copy, Debug)]
pub struct Held {
    /// Served.
    pub served: f64,
    /// Served in the worst ten seconds in a row.
    pub worst: f64,
    /// Let through, and refused by the upstream.
    pub refused: f64,
}

/// One who is compared: its name, and how it is made.
pub type Contender = (&'static str, fn() -> Holds);

/// Who is compared.
pub fn contenders() -> Vec<Contender> {
    vec![
        ("AdaptiveRate", || {
            Holds::Rate(Box::new(AdaptiveRate::default()))
        }),
        ("Aimd", || Holds::Limit(Box::new(Aimd::default()))),
        ("tower-acc Aimd", || {
            Holds::Limit(Box::new(Acc(tower_acc::Aimd::default())))
        }),
        ("tower-acc Gradient2", || {
            Holds::Limit(Box::new(Acc(tower_acc::Gradient2::default())))
        }),
        ("tower-acc Vegas", || {
            Holds::Limit(Box::new(Acc(tower_acc::Vegas::default())))
        }),
        ("Vector's rules", || Holds::Vector(Vector::default())),
    ]
}

/// Plays a minute.
pub fn play(mut holds: Holds, seed: u64) -> Held {
    let mut random = Rng::with_seed(seed);
    let upstream = TokenBucket::per_second(SERVED).burst(SERVED / 10);
    let mut answers: BTreeMap<Duration, Sample> = BTreeMap::new();
    let (mut served, mut refused) = ([0.0; SECONDS], [0.0; SECONDS]);
    let mut now = Duration::ZERO;
    loop {
        now += Duration::from_secs_f64(-(1.0 - random.f64()).ln() / CALLERS as f64);
        let Some(second) = Some(now.as_secs() as usize).filter(|second| *second < SECONDS) else {
            return held(&served, &refused);
        };
        while let Some(answer) = answers.first_entry().filter(|answer| *answer.key() <= now) {
            let sample = answer.remove();
            match &mut holds {
                Holds::Rate(rate) => rate.observe(&sample),
                Holds::Limit(limit) => drop(limit.update(&sample)),
                Holds::Vector(limit) => drop(limit.update(&sample)),
            }
        }
        let admitted = match &holds {
            Holds::Rate(rate) => rate.spend(now, 1).is_ok(),
            Holds::Limit(limit) => answers.len() < limit.limit(),
            Holds::Vector(limit) => answers.len() < limit.limit(),
        };
        if !admitted {
            continue;
        }
        let in_flight = answers.len() + 1;
        if let Holds::Vector(limit) = &mut holds {
            limit.start(in_flight);
        }
        let (latency, outcome) = if upstream.spend(now, 1).is_ok() {
            served[second] += 1.0;
            (LATENCY, Outcome::Success)
        } else {
            refused[second] += 1.0;
            (REFUSAL, Outcome::Overload)
        };
        let mut at = now + latency;
        // No two answers at one time.
        while answers.contains_key(&at) {
            at += Duration::from_nanos(1);
        }
        answers.insert(at, Sample::new(at, latency, in_flight, outcome));
    }
}

fn held(served: &[f64], refused: &[f64]) -> Held {
    let share = |counts: &[f64]| counts.iter().sum::<f64>() / counts.len() as f64 / SERVED as f64;
    let stretches = served[SETTLED..].windows(STRETCH).map(share);
    Held {
        served: share(&served[SETTLED..]),
        worst: stretches.fold(f64::INFINITY, f64::min),
        refused: share(&refused[SETTLED..]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_a_limit_the_upstream_serves_what_it_can_and_refuses_the_rest() {
        let none = Holds::Limit(Box::new(tower_backpressure::limit::Fixed::new(1 << 20)));
        let held = play(none, 1);
        assert!((held.served - 1.0).abs() < 0.02, "{held:?}");
        assert!((held.refused - 2.0).abs() < 0.1, "{held:?}");
    }

    #[test]
    fn a_limit_of_its_latency_times_its_rate_is_nearly_all_it_serves() {
        let in_flight = (SERVED as f64 * LATENCY.as_secs_f64()) as usize;
        let right = Holds::Limit(Box::new(tower_backpressure::limit::Fixed::new(in_flight)));
        let held = play(right, 1);
        assert!(held.served > 0.9 && held.refused < 0.1, "{held:?}");
    }
}
