//! The scenarios by which limits are compared, and how they are scored.
//!
//! Five services, from one worker to 400, with four shapes of work, each under nine courses of events. Callers come
//! without regard to the answers, as a Poisson process, and leave after ten mean service times, which the backend does
//! not notice. A request over the limit is refused at once.
//!
//! The score of a phase is the share of callers served in time, compared with the best of ten fixed limits, chosen for
//! that phase when all was known.

use std::time::Duration;

use super::{Backend, Callers, Phase, Report, Scenario, Work};
use crate::limit::{Fixed, Limit};

/// Workers and the mean work of the five services.
pub const SERVICES: [(usize, Duration); 5] = [
    (1, Duration::from_millis(50)),
    (4, Duration::from_millis(50)),
    (20, Duration::from_millis(20)),
    (100, Duration::from_millis(20)),
    (400, Duration::from_millis(100)),
];

/// The four shapes of work.
pub const SHAPES: [Work; 4] = [
    Work::Fixed,
    Work::Exponential,
    Work::Lognormal(1.2),
    Work::Bimodal,
];

/// What the fixed limits are, as multiples of the workers.
pub const FIXED: [f64; 10] = [0.25, 0.5, 0.75, 1.0, 1.25, 1.6, 2.2, 3.0, 4.0, 6.0];

/// Phases in which even the best fixed limit serves less than this share of what could be served are left out.
const HOPELESS: f64 = 0.05;

/// All 180 scenarios.
pub fn scenarios() -> Vec<Scenario> {
    let mut all = Vec::new();
    for (workers, mean) in SERVICES {
        for shape in SHAPES {
            let backend = Backend::workers(workers, mean).work(shape);
            all.extend(courses(backend));
        }
    }
    all
}

/// The nine courses of events for one backend.
pub fn courses(backend: Backend) -> Vec<Scenario> {
    let seconds = |s, load| Phase::new(Duration::from_secs(s), load);
    let scenario = |name: &str, backend: Backend, phases: Vec<Phase>| {
        let full = format!(
            "{name} {}x{:?} {:?}",
            backend.size(),
            backend.mean(),
            backend.work
        );
        let patient = Callers::patient(backend.mean() * 10);
        let empty = Scenario::new(full, backend).callers(patient);
        phases.into_iter().fold(empty, Scenario::phase)
    };
    let most = (1.25 * backend.size() as f64) as usize + 1;
    let (calm, burst) = (seconds(30, 0.3), seconds(4, 8.0));
    vec![
        scenario("under", backend, vec![seconds(60, 0.5)]),
        scenario("near", backend, vec![seconds(60, 0.9)]),
        scenario("x2", backend, vec![seconds(20, 0.5), seconds(60, 2.0)]),
        scenario("x10", backend, vec![seconds(20, 0.5), seconds(60, 10.0)]),
        scenario("cold-x3", backend, vec![seconds(60, 3.0)]),
        scenario(
            "drop",
            backend,
            vec![
                seconds(30, 0.8),
                seconds(40, 0.8).workers(0.25),
                seconds(40, 0.8),
            ],
        ),
        scenario(
            "slower",
            backend,
            vec![
                seconds(30, 0.8),
                seconds(40, 0.8).slower(3.0),
                seconds(40, 0.8),
            ],
        ),
        scenario("burst", backend, vec![calm, burst, calm, burst, calm]),
        scenario(
            "refuse",
            backend.refuses_beyond(most),
            vec![seconds(20, 0.5), seconds(60, 3.0)],
        ),
    ]
}

/// What the best fixed limit serves in each phase of a scenario, in callers; `None` for hopeless phases.
pub fn best_fixed(scenario: &Scenario, seed: u64) -> Vec<Option<u64>> {
    let workers = scenario.backend().size() as f64;
    let mut best = vec![0; scenario.phases().len()];
    let mut last = 0;
    for times in FIXED {
        let limit = (workers * times).round().max(1.0) as usize;
        if limit == last {
            continue;
        }
        last = limit;
        let report = scenario.run(Box::new(Fixed::new(limit)), seed);
        for (best, tally) in best.iter_mut().zip(&report.phases) {
            *best = tally.served.max(*best);
        }
    }
    let phases = scenario.phases().iter().zip(best);
    let capacity = scenario.backend().capacity();
    phases
        .map(|(phase, best)| {
            let possible = capacity * phase.load().min(1.0) * phase.lasts().as_secs_f64();
            (best as f64 >= HOPELESS * possible).then_some(best)
        })
        .collect()
}

/// What a limit reached, phase by phase, as a share of the best fixed limit.
pub fn shares(report: &Report, best: &[Option<u64>]) -> Vec<Option<f64>> {
    let phases = report.phases.iter().zip(best);
    phases
        .map(|(tally, best)| best.map(|best| tally.served as f64 / best.max(1) as f64))
        .collect()
}

/// Plays scenarios with a limit made anew for each.
pub fn play<'a>(
    scenarios: impl IntoIterator<Item = &'a Scenario>,
    mut limit: impl FnMut(&Scenario) -> Box<dyn Limit>,
    seed: u64,
) -> Vec<Report> {
    let scenarios = scenarios.into_iter();
    scenarios.map(|s| s.run(limit(s), seed)).collect()
}

/// Scores, put in order.
#[derive(Clone, Debug)]
pub struct Scores(Vec<f64>);

impl FromIterator<f64> for Scores {
    fn from_iter<I: IntoIterator<Item = f64>>(scores: I) -> Self {
        let mut scores: Vec<f64> = scores.into_iter().collect();
        scores.sort_by(f64::total_cmp);
        Self(scores)
    }
}

impl Scores {
    /// How many there are.
    pub fn count(&self) -> usize {
        self.0.len()
    }

    /// Their mean; 0 if there are none.
    pub fn mean(&self) -> f64 {
        self.0.iter().sum::<f64>() / self.0.len().max(1) as f64
    }

    /// The score below which this share of all lies; 0 if there are none.
    pub fn quantile(&self, share: f64) -> f64 {
        let last = self.0.len().saturating_sub(1) as f64;
        let index = (share * last).round() as usize;
        self.0.get(index).copied().unwrap_or(0.0)
    }

    /// The lowest.
    pub fn min(&self) -> f64 {
        self.quantile(0.0)
    }
}
