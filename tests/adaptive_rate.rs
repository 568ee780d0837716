//! What an adaptive rate makes of upstreams that refuse what is too much, in virtual time.

use std::{collections::BTreeMap, ops::Range, time::Duration};

use fastrand::Rng;
use tower_backpressure::{
    limit::{Outcome, Sample},
    rate::{AdaptiveRate, Rate, Short, SlidingWindow, TokenBucket},
};

/// How long a refusal takes.
const QUICK: Duration = Duration::from_millis(30);

/// How an upstream counts.
#[derive(Debug)]
enum Upstream {
    Bucket(TokenBucket),
    Sliding(SlidingWindow),
    /// Begins anew at each full second after this.
    Fixed {
        phase: Duration,
        window: u64,
        used: u64,
        limit: u64,
    },
}

impl Upstream {
    fn fixed(limit: u64, phase: Duration) -> Self {
        Self::Fixed {
            phase,
            window: 0,
            used: 0,
            limit,
        }
    }

    fn serves(&mut self, now: Duration) -> bool {
        match self {
            Self::Bucket(bucket) => bucket.spend(now, 1).is_ok(),
            Self::Sliding(window) => window.spend(now, 1).is_ok(),
            Self::Fixed {
                phase,
                window,
                used,
                limit,
            } => {
                let this = (now + *phase).as_secs();
                if this != *window {
                    (*window, *used) = (this, 0);
                }
                *used += 1;
                *used <= *limit
            }
        }
    }

    fn change(&mut self, now: Duration, to: u64) {
        match self {
            Self::Bucket(bucket) => bucket.set_per_second(now, to as f64),
            Self::Sliding(window) => window.set_per_second(now, to as f64),
            Self::Fixed { limit, .. } => *limit = to,
        }
    }
}

/// How callers come.
#[derive(Clone, Copy, Debug)]
enum Callers {
    /// So many per second, knowing nothing of each other; those who are refused leave.
    Poisson(f64),
    /// There is always one who waits for the next token.
    Waiting,
}

/// What happened, by the second.
#[derive(Debug, Default)]
struct Play {
    served: Vec<u64>,
    refused: Vec<u64>,
}

impl Play {
    /// Served per second.
    fn mean(&self, seconds: Range<usize>) -> f64 {
        let n = seconds.len() as f64;
        self.served[seconds].iter().sum::<u64>() as f64 / n
    }
}

struct Scene {
    rate: AdaptiveRate,
    upstream: Upstream,
    callers: Callers,
    /// Of an answer that is no refusal.
    latency: Duration,
    retry_after: Option<Duration>,
    changes: Vec<(u64, u64)>,
    seed: u64,
}

impl Scene {
    fn new(upstream: Upstream, callers: Callers, seed: u64) -> Self {
        Self {
            rate: AdaptiveRate::default(),
            upstream,
            callers,
            latency: QUICK,
            retry_after: None,
            changes: Vec::new(),
            seed,
        }
    }

    fn name(&self) -> String {
        let Self {
            upstream,
            callers,
            seed,
            ..
        } = self;
        format!("{upstream:?}, {callers:?}, seed {seed}")
    }

    fn play(mut self, seconds: usize) -> Play {
        let mut rng = Rng::with_seed(self.seed);
        let mut play = Play::default();
        let mut answers = BTreeMap::new();
        let mut now = Duration::ZERO;
        loop {
            now += self.until_next(now, &mut rng);
            while let Some(answer) = answers.first_entry().filter(|answer| *answer.key() <= now) {
                self.rate.observe(&answer.remove());
            }
            while now.as_secs() >= play.served.len() as u64 {
                self.change(play.served.len() as u64);
                play.served.push(0);
                play.refused.push(0);
            }
            if play.served.len() > seconds {
                return play;
            }
            if self.rate.spend(now, 1).is_err() {
                continue;
            }
            let mut sample = if self.upstream.serves(now) {
                *play.served.last_mut().expect("one for this second") += 1;
                Sample::new(now + self.latency, self.latency, 1, Outcome::Success)
            } else {
                *play.refused.last_mut().expect("one for this second") += 1;
                Sample::new(now + QUICK, QUICK, 1, Outcome::Overload)
            };
            if sample.outcome == Outcome::Overload {
                sample.retry_after = self.retry_after;
            }
            // No two answers at one time.
            while answers.contains_key(&sample.at) {
                sample.at += Duration::from_nanos(1);
            }
            answers.insert(sample.at, sample);
        }
    }

    fn until_next(&self, now: Duration, rng: &mut Rng) -> Duration {
        match self.callers {
            Callers::Poisson(rate) => Duration::from_secs_f64(-(1.0 - rng.f64()).ln() / rate),
            Callers::Waiting => match self.rate.check(now, 1) {
                Err(Short::Wait(wait)) => wait,
                _ => Duration::ZERO,
            },
        }
    }

    fn change(&mut self, second: u64) {
        for &(at, to) in &self.changes {
            if at == second {
                self.upstream.change(Duration::from_secs(at), to);
            }
        }
    }
}

/// Each of them serves 100 per second.
fn upstreams() -> Vec<fn() -> Upstream> {
    vec![
        || Upstream::Bucket(TokenBucket::per_second(100).burst(5)),
        || Upstream::Bucket(TokenBucket::per_second(100).burst(20)),
        || Upstream::Bucket(TokenBucket::per_second(100)),
        || Upstream::fixed(100, Duration::ZERO),
        || Upstream::fixed(100, Duration::from_millis(370)),
        || Upstream::Sliding(SlidingWindow::new(100, Duration::from_secs(1))),
    ]
}

const CALLERS: [Callers; 4] = [
    Callers::Poisson(130.0),
    Callers::Poisson(300.0),
    Callers::Poisson(2000.0),
    Callers::Waiting,
];

/// Every upstream with all kinds of callers, on ten seeds.
fn scenes() -> impl Iterator<Item = Scene> {
    upstreams().into_iter().flat_map(|upstream| {
        CALLERS.into_iter().flat_map(move |callers| {
            (1..=10).map(move |seed| Scene::new(upstream(), callers, seed))
        })
    })
}

#[test]
fn an_upstream_is_found_in_twenty_seconds_and_held() {
    let (mut served, mut refused, mut seconds) = (0, 0, 0);
    for scene in scenes() {
        let name = scene.name();
        let play = scene.play(80);
        for from in (20..80).step_by(10) {
            let mean = play.mean(from..from + 10);
            assert!(
                (88.0..=110.0).contains(&mean),
                "{name}: {mean} from {from} s on"
            );
        }
        let mean = play.mean(20..80);
        assert!((90.0..=110.0).contains(&mean), "{name}: {mean}");
        served += play.served[20..].iter().sum::<u64>();
        refused += play.refused[20..].iter().sum::<u64>();
        seconds += 60;
    }
    let mean = served as f64 / f64::from(seconds);
    assert!(mean > 97.5, "{mean} per second were served");
    let share = refused as f64 / (served + refused) as f64;
    assert!(share < 0.005, "{share} were refused");
}

#[test]
fn a_change_of_the_upstream_is_followed_in_twenty_seconds() {
    for mut scene in scenes() {
        let name = scene.name();
        scene.changes = vec![(40, 30), (100, 100)];
        let play = scene.play(160);
        let low = play.mean(60..100);
        assert!((27.0..=33.0).contains(&low), "{name}: {low} of 30");
        let high = play.mean(120..160);
        assert!((90.0..=110.0).contains(&high), "{name}: {high} of 100");
    }
}

#[test]
fn answers_may_take_long_if_refusals_come_soon() {
    for mut scene in scenes() {
        let name = scene.name();
        scene.latency = Duration::from_secs(5);
        let mean = scene.play(80).mean(20..80);
        assert!((90.0..=110.0).contains(&mean), "{name}: {mean}");
    }
}

#[test]
fn a_hint_to_come_back_in_a_second_does_not_hold_the_rate_down() {
    for mut scene in scenes() {
        let name = scene.name();
        scene.retry_after = Some(Duration::from_secs(1));
        let mean = scene.play(80).mean(20..80);
        assert!((90.0..=110.0).contains(&mean), "{name}: {mean}");
    }
}

#[test]
fn an_upstream_that_refuses_all_is_asked_less_and_less_and_found_again() {
    for mut scene in scenes() {
        let name = scene.name();
        scene.changes = vec![(40, 0), (70, 100)];
        let play = scene.play(130);
        let asked = play.refused[60..70].iter().sum::<u64>();
        assert!(asked <= 10, "{name}: {asked} in vain in ten seconds");
        let back = play.mean(100..130);
        assert!((90.0..=110.0).contains(&back), "{name}: {back} of 100");
    }
}
