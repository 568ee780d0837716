use std::time::Duration;

use super::{Arrivals, Report, Work, run::Run};
use crate::{admission::Rules, limit::Limit, strategy::Strategy};

/// Callers, a gate and a backend, over some phases.
#[derive(Clone, Debug)]
pub struct Scenario {
    pub(super) name: String,
    pub(super) backend: Backend,
    pub(super) phases: Vec<Phase>,
    pub(super) arrivals: Arrivals,
    pub(super) callers: Callers,
    pub(super) rules: Rules,
    pub(super) tick: Duration,
}

impl Scenario {
    /// A scenario without phases: Poisson callers that wait as long as it takes and do not retry; a request over the
    /// limit is refused at once.
    pub fn new(name: impl Into<String>, backend: Backend) -> Self {
        Self {
            name: name.into(),
            backend,
            phases: Vec::new(),
            arrivals: Arrivals::Poisson,
            callers: Callers::default(),
            rules: Rules {
                strategy: Strategy::DropNewest,
                max_waiting: 0,
                max_wait: None,
            },
            tick: Duration::from_millis(100),
        }
    }

    /// Adds a phase.
    #[must_use]
    pub fn phase(mut self, phase: Phase) -> Self {
        self.phases.push(phase);
        self
    }

    /// Adds a phase at an even load.
    #[must_use]
    pub fn seconds(self, seconds: u64, load: f64) -> Self {
        self.phase(Phase::new(Duration::from_secs(seconds), load))
    }

    /// How callers come. Default: [`Arrivals::Poisson`].
    #[must_use]
    pub fn arrivals(mut self, arrivals: Arrivals) -> Self {
        self.arrivals = arrivals;
        self
    }

    /// How callers behave. Default: [`Callers::default`].
    #[must_use]
    pub fn callers(mut self, callers: Callers) -> Self {
        self.callers = callers;
        self
    }

    /// Up to `max_waiting` requests wait at the gate, for `max_wait` at most; further ones are refused. Default: none.
    #[must_use]
    pub fn waiting(mut self, max_waiting: usize, max_wait: Option<Duration>) -> Self {
        self.rules = Rules {
            strategy: Strategy::Block,
            max_waiting,
            max_wait,
        };
        self
    }

    /// Up to `max_waiting` requests wait at the gate; when they are that many, a further one evicts the oldest.
    #[must_use]
    pub fn drop_oldest(mut self, max_waiting: usize) -> Self {
        self.rules = Rules {
            strategy: Strategy::DropOldest,
            max_waiting,
            max_wait: None,
        };
        self
    }

    /// The step of the report's series. Default: 100 ms.
    #[must_use]
    pub fn tick(mut self, tick: Duration) -> Self {
        self.tick = tick;
        self
    }

    /// What it is called.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// What is behind the gate.
    pub fn backend(&self) -> &Backend {
        &self.backend
    }

    /// Its phases.
    pub fn phases(&self) -> &[Phase] {
        &self.phases
    }

    /// Plays it with a gate that has this limit. The same seed brings the same callers at the same times, with streams of the same
    /// length, whatever the limit. Work is drawn in the order in which requests are let in: the same for the same limit, and otherwise
    /// spread in the same way.
    pub fn run(&self, limit: Box<dyn Limit>, seed: u64) -> Report {
        Run::new(self, limit, seed).play()
    }
}

/// A part of a scenario in which the load, or its slope, is the same, and the backend as well.
#[derive(Clone, Copy, Debug)]
pub struct Phase {
    lasts: Duration,
    from: f64,
    to: f64,
    pub(super) workers: f64,
    pub(super) slower: f64,
}

impl Phase {
    /// An even load, as a multiple of what the backend can do when it is well.
    pub fn new(lasts: Duration, load: f64) -> Self {
        Self::ramp(lasts, load, load)
    }

    /// A load that goes evenly from `from` to `to`.
    pub fn ramp(lasts: Duration, from: f64, to: f64) -> Self {
        Self {
            lasts,
            from,
            to,
            workers: 1.0,
            slower: 1.0,
        }
    }

    /// The backend has this share of its workers, at least one. Default: 1.
    #[must_use]
    pub fn workers(mut self, share: f64) -> Self {
        self.workers = share;
        self
    }

    /// Work that begins in this phase takes this many times as long. Default: 1.
    #[must_use]
    pub fn slower(mut self, times: f64) -> Self {
        self.slower = times;
        self
    }

    /// How long it lasts.
    pub fn lasts(&self) -> Duration {
        self.lasts
    }

    /// The mean load, as a multiple of what the backend can do when it is well.
    pub fn load(&self) -> f64 {
        (self.from + self.to) / 2.0
    }

    pub(super) fn loads(&self) -> (f64, f64) {
        (self.from, self.to)
    }

    pub(super) fn nanos(&self) -> u64 {
        self.lasts.as_nanos() as u64
    }
}

/// What does the work.
#[derive(Clone, Copy, Debug)]
pub struct Backend {
    pub(super) workers: usize,
    pub(super) mean: Duration,
    pub(super) work: Work,
    /// Of the knee; `None` for workers with a queue.
    pub(super) knee: Option<f64>,
    pub(super) refuses_beyond: Option<usize>,
    pub(super) rate: Option<f64>,
    pub(super) failing: f64,
    pub(super) stream: Option<Duration>,
}

impl Backend {
    /// So many workers behind one first-in-first-out queue without bound; a request takes `mean` on average.
    ///
    /// # Panics
    ///
    /// If there are no workers or the work takes no time.
    #[track_caller]
    pub fn workers(workers: usize, mean: Duration) -> Self {
        assert!(workers > 0, "a backend has a worker");
        assert!(!mean.is_zero(), "work takes time");
        Self {
            workers,
            mean,
            work: Work::Exponential,
            knee: None,
            refuses_beyond: None,
            rate: None,
            failing: 0.0,
            stream: None,
        }
    }

    /// No queue: everything begins at once, and beyond `knee` running at once a request takes
    /// `(running / knee)^steepness` times as long. With a steepness above 1 too much concurrency costs throughput.
    ///
    /// # Panics
    ///
    /// Like [`workers`](Self::workers).
    #[track_caller]
    pub fn knee(knee: usize, mean: Duration, steepness: f64) -> Self {
        Self {
            knee: Some(steepness),
            ..Self::workers(knee, mean)
        }
    }

    /// How the work is spread. Default: exponential.
    #[must_use]
    pub fn work(mut self, work: Work) -> Self {
        self.work = work;
        self
    }

    /// With more than so many inside, it answers a further request within 2 % of the mean work that it is overloaded.
    #[must_use]
    pub fn refuses_beyond(mut self, inside: usize) -> Self {
        self.refuses_beyond = Some(inside);
        self
    }

    /// It takes so many requests per second, and a tenth of a second's worth at once; further ones it answers with an
    /// overload.
    #[must_use]
    pub fn rate(mut self, per_second: f64) -> Self {
        self.rate = Some(per_second);
        self
    }

    /// This share of requests fails at once, for reasons that have nothing to do with load.
    #[must_use]
    pub fn failing(mut self, share: f64) -> Self {
        self.failing = share;
        self
    }

    /// After the work comes the head, with which the caller is content; then a stream of exponential length follows
    /// that keeps the worker and the slot.
    #[must_use]
    pub fn streaming(mut self, mean: Duration) -> Self {
        self.stream = Some(mean);
        self
    }

    /// How many workers it has when it is well; or its knee.
    pub fn size(&self) -> usize {
        self.workers
    }

    /// The mean work of a request when it is well.
    pub fn mean(&self) -> Duration {
        self.mean
    }

    /// What it can do when it is well, in requests per second.
    pub fn capacity(&self) -> f64 {
        let held = self.mean + self.stream.unwrap_or_default();
        let can = self.workers as f64 / held.as_secs_f64();
        self.rate.map_or(can, |rate| rate.min(can))
    }
}

/// How callers behave.
#[derive(Clone, Copy, Debug, Default)]
pub struct Callers {
    pub(super) patience: Option<Duration>,
    pub(super) noticed: bool,
    pub(super) retries: u8,
    pub(super) backoff: Duration,
    pub(super) obedient: bool,
}

impl Callers {
    /// Callers that leave when there is no answer after `patience`. The slot is free from then on, but the backend
    /// notices nothing and works on.
    pub fn patient(patience: Duration) -> Self {
        Self {
            patience: Some(patience),
            ..Self::default()
        }
    }

    /// The backend notices that a caller has left and drops the work.
    #[must_use]
    pub fn noticed(mut self) -> Self {
        self.noticed = true;
        self
    }

    /// Callers that were refused, or left, come back up to `times` times: after about `backoff`, then twice that.
    #[must_use]
    pub fn retrying(mut self, times: u8, backoff: Duration) -> Self {
        self.retries = times;
        self.backoff = backoff;
        self
    }

    /// Callers that retry after what the gate's refusal told them.
    #[must_use]
    pub fn obedient(mut self) -> Self {
        self.obedient = true;
        self
    }
}
