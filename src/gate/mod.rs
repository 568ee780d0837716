//! What enforces a limit: lets requests in, has them wait, turns them away, and takes permits back.
//!
//! The thin shell around [`Admission`]: it reads the clock, wakes tasks, counts, and tells the limit's algorithm how
//! requests fared. Where nobody waits an admission is one compare-and-swap and a release one subtraction; the lock is
//! that of the queue, taken when somebody joins, asks or leaves it, or when a permit comes back while somebody waits.
//!
//! ```text
//!            try_admit ───────────────► Permit ──► drop: slot back, sample to the limit
//!               │ full                    ▲
//!               ▼                         │
//!            arrive ───► Waiter ──────────┤
//!               │           │             │
//!               ▼           ▼             │
//!            Rejected    Rejected      served as permits come back
//! ```

mod clock;
mod handle;
#[cfg(all(test, backpressure_loom))]
mod interleavings;
mod learner;
mod permit;
mod usher;
mod waiter;

use std::{
    fmt,
    hash::{BuildHasher, Hasher, RandomState},
    sync::Arc,
    task::Waker,
    time::Duration,
};

use tokio::sync::Notify;

use self::{clock::Clock, usher::Usher};
use crate::{
    BackpressureMetrics, Reason, Rejected,
    admission::{Admission, Arrival, Rules},
    events,
    limit::{Outcome, Sample},
    metrics::Recording,
    pace::{Counts, Pace, jittered},
    queue::{Kind, Ticket},
    slots::{Slots, Turn, Word},
    sync::{AtomicU64, AtomicUsize, Mutex, Ordering, lock},
};

pub use self::handle::Handle;
pub(crate) use self::{learner::Learner, permit::Permit, waiter::Waiter};

/// The hint of a refusal is worked out anew once in so many, since a clock costs more than the refusal.
const REFUSALS_PER_HINT: u64 = 32;
/// Whether a recorder has been installed meanwhile is looked up once in so many requests.
const REQUESTS_PER_LOOK: u64 = 64;
/// Episodes that begin within this time of each other are one.
const EPISODE: Duration = Duration::from_secs(1);

/// Everything about a gate that does not change once it is shared.
#[derive(Debug)]
pub(crate) struct Settings {
    pub(crate) name: String,
    pub(crate) shadow: bool,
    pub(crate) rules: Rules,
}

/// Laid out so that what every request writes lies on the cache line of the `Arc`'s own count, which every request writes
/// as well, and what requests only read lies on others.
#[repr(C)]
pub(crate) struct Gate {
    slots: Slots,
    completed: AtomicU64,
    rejected: AtomicU64,
    /// Callers that left while they waited.
    left: AtomicU64,
    waiting: AtomicUsize,
    hint_nanos: AtomicU64,
    settings: Settings,
    learner: Option<Learner>,
    recording: Recording,
    queue: Mutex<Line>,
    watch: Mutex<Watch>,
    clock: Clock,
    seed: u64,
    drained: Notify,
    earlier: Arc<Notify>,
}

/// What the queue's lock guards.
#[derive(Debug)]
struct Line {
    admission: Admission<Waker>,
    /// When the usher looks next; `None` while there is none.
    usher_due: Option<Duration>,
}

/// What is looked at now and then, not at every request.
#[derive(Debug, Default)]
struct Watch {
    pace: Pace,
    episodes: u64,
    last_full: Option<Duration>,
}

/// What became of an arrival that found no slot.
#[derive(Debug)]
pub(crate) enum Found {
    Permit(Permit),
    Wait(Waiter),
    Rejected(Rejected),
}

/// What has to be done about the usher once the queue's lock is free.
enum Errand {
    None,
    Send(Duration),
    Hurry,
}

impl Gate {
    pub(crate) fn new(limit: usize, settings: Settings, learner: Option<Learner>) -> Self {
        Self {
            slots: Slots::new(limit),
            completed: AtomicU64::new(0),
            rejected: AtomicU64::new(0),
            left: AtomicU64::new(0),
            waiting: AtomicUsize::new(0),
            hint_nanos: AtomicU64::new(0),
            queue: Mutex::new(Line {
                admission: Admission::new(settings.rules),
                usher_due: None,
            }),
            settings,
            learner,
            recording: Recording::new(),
            watch: Mutex::new(Watch::default()),
            clock: Clock::new(),
            seed: RandomState::new().build_hasher().finish(),
            drained: Notify::new(),
            earlier: Arc::new(Notify::new()),
        }
    }

    /// Settings can change as long as nobody else holds the gate.
    pub(crate) fn settings_mut(&mut self) -> &mut Settings {
        &mut self.settings
    }

    /// To be called after the rules have changed.
    pub(crate) fn apply_rules(&mut self) {
        lock(&self.queue).admission = Admission::new(self.settings.rules);
    }

    pub(crate) fn settings(&self) -> &Settings {
        &self.settings
    }

    /// Whether a request that finds no slot may wait.
    pub(crate) fn may_wait(&self) -> bool {
        self.settings.rules.max_waiting > 0 && !self.settings.shadow
    }

    /// Lets a request in if there is a slot for it now. Never waits, never locks.
    #[inline]
    pub(crate) fn try_admit(self: &Arc<Self>, turn: Turn) -> Option<Permit> {
        let in_flight = self.slots.try_take(turn).ok()?;
        Some(self.admitted(in_flight))
    }

    /// Lets a request in, or turns it away.
    #[inline]
    pub(crate) fn admit_or_reject(self: &Arc<Self>) -> Result<Permit, Rejected> {
        match self.slots.try_take(Turn::AfterTheQueue) {
            Ok(in_flight) => Ok(self.admitted(in_flight)),
            Err(word) => {
                let reason = if word.draining() {
                    Reason::Draining
                } else {
                    Reason::Limit
                };
                let rejected = self.reject(reason, Duration::ZERO);
                if self.settings.shadow {
                    Ok(self.admitted(self.slots.take_anyway()))
                } else {
                    Err(rejected)
                }
            }
        }
    }

    /// A request that found no slot waits for one, if it may.
    pub(crate) fn arrive(self: &Arc<Self>, kind: Kind, waker: &Waker) -> Found {
        self.note_full();
        let waker = waker.clone();
        let arrival = self.with_queue(|admission, slots, now, wake| {
            admission.arrive(slots, kind, now, waker, wake)
        });
        match arrival {
            Arrival::Admitted(in_flight) => Found::Permit(self.admitted(in_flight)),
            Arrival::Waiting(ticket) => Found::Wait(Waiter::new(Arc::clone(self), kind, ticket)),
            Arrival::Rejected(reason) => Found::Rejected(self.reject(reason, Duration::ZERO)),
        }
    }

    /// A slot was taken: whoever took it gets its permit.
    #[inline]
    fn admitted(self: &Arc<Self>, in_flight: usize) -> Permit {
        self.recording.admitted(&self.settings.name, &self.slots);
        let times =
            self.learner.as_ref().is_some_and(Learner::learns) || self.recording.wants_time();
        let started = times.then(|| self.clock.now());
        Permit::new(Arc::clone(self), in_flight, started)
    }

    /// A slot comes back.
    #[inline]
    fn release(self: &Arc<Self>, outcome: Outcome) {
        let nth = self.completed.fetch_add(1, Ordering::Relaxed);
        if nth % REQUESTS_PER_LOOK == 0 {
            self.recording.look_again(&self.settings.name, &self.slots);
        }
        let word = self.slots.give_back();
        self.recording
            .completed(&self.settings.name, &self.slots, outcome);
        if word.waiting() || word.draining() {
            self.look_after(word);
        }
    }

    /// Somebody waits for a slot, or for the last permit.
    #[cold]
    fn look_after(self: &Arc<Self>, word: Word) {
        if word.waiting() {
            self.with_queue(|admission, slots, now, wake| admission.turn(slots, now, wake));
        }
        self.drained_by(word);
    }

    /// Whatever led to this word, it may have brought the last permit back.
    fn drained_by(&self, word: Word) {
        if word.draining() && word.in_flight() == 0 {
            self.drained.notify_waiters();
        }
    }

    /// Tells the limit how a request went.
    fn learn(self: &Arc<Self>, sample: Sample) {
        let Some(learner) = &self.learner else {
            return;
        };
        if let Some((before, after)) = learner.learn(sample, &self.slots) {
            self.limit_moved(before, after);
        }
    }

    fn set_limit(self: &Arc<Self>, limit: usize) {
        let before = match &self.learner {
            Some(learner) => learner.set_limit(limit, &self.slots),
            None => self.slots.set_limit(limit).limit(),
        };
        if before != limit {
            self.limit_moved(before, limit);
        }
    }

    fn limit_moved(self: &Arc<Self>, before: usize, after: usize) {
        self.recording.limit(&self.settings.name, &self.slots);
        events::limit_moved(&self.settings.name, before, after);
        if after > before && self.slots.read().waiting() {
            self.with_queue(|admission, slots, now, wake| admission.turn(slots, now, wake));
        }
    }

    /// Counts a refusal and says when to come back.
    fn reject(&self, reason: Reason, waited: Duration) -> Rejected {
        let nth = self.rejected.fetch_add(1, Ordering::Relaxed);
        let first = reason != Reason::Draining && self.note_full();
        if !first && nth % REFUSALS_PER_HINT == 0 {
            self.observe();
        }
        self.recording
            .rejected(&self.settings.name, &self.slots, reason);
        let hint = Duration::from_nanos(self.hint_nanos.load(Ordering::Relaxed));
        Rejected {
            reason,
            retry_after: jittered(hint, self.seed.wrapping_add(nth)),
            limit: self.slots.read().limit(),
            waited,
        }
    }

    /// Notes that a request found no slot; whether that is the first of an episode.
    fn note_full(&self) -> bool {
        let word = self.slots.read();
        let first = self.slots.found_full(word);
        if first {
            self.episode(word);
        }
        first
    }

    #[cold]
    fn episode(&self, word: Word) {
        let now = self.observe();
        let mut watch = lock(&self.watch);
        let last = watch.last_full.replace(now);
        if last.is_none_or(|last| now.saturating_sub(last) >= EPISODE) {
            watch.episodes += 1;
            events::full(&self.settings.name, word.limit(), word.in_flight());
        }
    }

    /// Works out the pace and the hint.
    fn observe(&self) -> Duration {
        let now = self.clock.now();
        let counts = self.counts();
        let waiting = self.waiting();
        let mut watch = lock(&self.watch);
        watch.pace.observe(now, counts);
        let hint = watch.pace.retry_after(now, counts.completed, waiting);
        self.hint_nanos
            .store(hint.as_nanos() as u64, Ordering::Relaxed);
        now
    }

    fn counts(&self) -> Counts {
        Counts {
            completed: self.completed.load(Ordering::Relaxed),
            rejected: self.rejected.load(Ordering::Relaxed),
        }
    }

    fn waiting(&self) -> usize {
        self.waiting.load(Ordering::Relaxed)
    }

    fn snapshot(&self) -> BackpressureMetrics {
        let peak_depth = lock(&self.queue).admission.peak_waiting();
        let now = self.clock.now();
        let counts = self.counts();
        let word = self.slots.read();
        let waiting = self.waiting();
        let mut watch = lock(&self.watch);
        let throughput_rate = watch.pace.throughput(now, counts.completed);
        watch.pace.observe(now, counts);
        let present = (word.in_flight() + waiting) as u64;
        let mut produced_count = present + counts.completed + self.left.load(Ordering::Relaxed);
        // In the shadow a request that is refused is let in as well; it came once.
        if !self.settings.shadow {
            produced_count += counts.rejected;
        }
        BackpressureMetrics {
            current_depth: waiting,
            peak_depth,
            dropped_count: counts.rejected,
            produced_count,
            consumed_count: counts.completed,
            throughput_rate,
            backpressure_events: watch.episodes,
            current_rate_limit: word.limit() as f64,
        }
    }

    /// Refuses everybody who has no permit yet.
    fn drain(self: &Arc<Self>) {
        self.with_queue(|admission, slots, _, wake| admission.drain(slots, wake));
        self.drained_by(self.slots.read());
    }

    /// A waiter's caller has left.
    fn leave(self: &Arc<Self>, ticket: Ticket) {
        self.left.fetch_add(1, Ordering::Relaxed);
        let word = self.with_queue(|admission, slots, now, wake| {
            admission.leave(slots, ticket, now, wake);
            slots.read()
        });
        self.drained_by(word);
    }

    /// The usher looks at the queue; when it has to look again.
    fn usher_turn(self: &Arc<Self>, now: Duration) -> Option<Duration> {
        let mut wake = Vec::new();
        let due = {
            let mut line = lock(&self.queue);
            line.admission.turn(&self.slots, now, &mut wake);
            self.show_waiting(&line);
            line.usher_due = line.admission.next_due();
            line.usher_due
        };
        wake.into_iter().for_each(Waker::wake);
        due
    }

    /// The usher has gone with its runtime.
    fn usher_lost(self: &Arc<Self>) {
        lock(&self.queue).usher_due = None;
        self.call_all();
    }

    /// Where nobody can find out who comes when called, everybody is.
    fn call_all(self: &Arc<Self>) {
        let now = self.clock.now();
        let mut wake = Vec::new();
        lock(&self.queue).admission.call_all(now, &mut wake);
        wake.into_iter().for_each(Waker::wake);
    }

    /// Does something about the queue, wakes those it concerns, and sees to it that the queue is looked at in time.
    fn with_queue<R>(
        self: &Arc<Self>,
        f: impl FnOnce(&mut Admission<Waker>, &Slots, Duration, &mut Vec<Waker>) -> R,
    ) -> R {
        let now = self.clock.now();
        let mut wake = Vec::new();
        let (result, errand) = {
            let mut line = lock(&self.queue);
            let result = f(&mut line.admission, &self.slots, now, &mut wake);
            self.show_waiting(&line);
            (result, line.errand())
        };
        match errand {
            Errand::None => {}
            Errand::Hurry => self.earlier.notify_one(),
            Errand::Send(due) => {
                if !Usher::send(self, due) {
                    lock(&self.queue).usher_due = None;
                    if self.slots.read().free() > 0 {
                        self.call_all();
                    }
                }
            }
        }
        wake.into_iter().for_each(Waker::wake);
        result
    }

    fn show_waiting(&self, line: &Line) {
        let waiting = line.admission.waiting();
        if self.waiting.swap(waiting, Ordering::Relaxed) != waiting {
            self.recording
                .waiting(&self.settings.name, &self.slots, waiting);
        }
    }
}

impl Line {
    fn errand(&mut self) -> Errand {
        let Some(due) = self.admission.next_due() else {
            return Errand::None;
        };
        match self.usher_due {
            Some(planned) if planned <= due => Errand::None,
            planned => {
                self.usher_due = Some(due);
                match planned {
                    Some(_) => Errand::Hurry,
                    None => Errand::Send(due),
                }
            }
        }
    }
}

impl Drop for Gate {
    fn drop(&mut self) {
        // The usher need not sleep on for a queue that is no more.
        self.earlier.notify_one();
    }
}

impl fmt::Debug for Gate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let word = self.slots.read();
        f.debug_struct("Gate")
            .field("name", &self.settings.name)
            .field("limit", &word.limit())
            .field("in_flight", &word.in_flight())
            .field("waiting", &self.waiting())
            .finish_non_exhaustive()
    }
}
