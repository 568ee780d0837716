//! What enforces a limit: lets requests in, has them wait, turns them away, and takes permits back.
//!
//! The thin shell around [`Admission`]: it reads the clock, wakes tasks, counts, and tells the limit's algorithm how
//! requests fared. Where nobody waits an admission is one compare-and-swap and a release one subtraction; the lock is
//! that of the queue, taken when somebody joins, asks or leaves it, or when a permit comes back while somebody waits.
//!
//! ```text
//!            try_take ────────────────► Slot ──► Permit ──► drop: slot back, sample to the limit
//!               │ full                    ▲ begin
//!               ▼                         │
//!            arrive ───► Waiter ──────────┤
//!               │           │             │
//!               ▼           ▼             │
//!            refused     refused       served as permits come back
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

use self::{clock::Clock, permit::Started, usher::Usher};
use crate::{
    BackpressureMetrics, Reason, Rejected,
    admission::{Admission, Arrival, Rules},
    events,
    limit::{Outcome, Sample},
    metrics::Recording,
    pace::{self, Counts, Pace},
    queue::{Kind, Ticket},
    slots::{Slots, Turn, Word},
    sync::{AtomicBool, AtomicU64, AtomicUsize, Mutex, Ordering, lock},
};

pub use self::handle::Handle;
pub(crate) use self::{
    learner::Learner,
    permit::{Permit, Slot},
    waiter::Waiter,
};

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
    /// Those that came and were neither let in nor refused: they left while they waited, or were ready and never called.
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
    /// The runtime has no timer, as an usher found out by panicking. There is no use in sending another.
    no_timer: AtomicBool,
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
    /// At all times, for who looks.
    lately: Pace,
    /// While full: an idle minute says nothing about how fast a queue is worked off.
    drain: Pace,
    episodes: u64,
    last_full: Option<Duration>,
}

/// What became of an arrival that found no slot.
#[derive(Debug)]
pub(crate) enum Found {
    Slot(Slot),
    Wait(Waiter),
    Rejected(Reason),
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
            hint_nanos: AtomicU64::new(pace::UNKNOWN.as_nanos() as u64),
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
            no_timer: AtomicBool::new(false),
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

    /// Takes a slot if there is one. Never waits, never locks.
    #[inline(always)]
    pub(crate) fn try_take(self: &Arc<Self>, turn: Turn) -> Option<Slot> {
        let in_flight = self.slots.try_take(turn).ok()?;
        Some(Slot::new(Arc::clone(self), in_flight))
    }

    /// Takes a slot, or turns the request away. Never waits, never locks where there is a slot.
    #[inline(always)]
    pub(crate) fn take_or_reject(self: &Arc<Self>) -> Result<Slot, Rejected> {
        match self.slots.try_take(Turn::AfterTheQueue) {
            Ok(in_flight) => Ok(Slot::new(Arc::clone(self), in_flight)),
            Err(word) => self.full(word),
        }
    }

    fn full(self: &Arc<Self>, word: Word) -> Result<Slot, Rejected> {
        let reason = if word.draining() {
            Reason::Draining
        } else {
            Reason::Limit
        };
        let rejected = self.reject(reason, Duration::ZERO);
        if self.settings.shadow {
            let in_flight = self.slots.take_anyway();
            return Ok(Slot::new(Arc::clone(self), in_flight));
        }
        Err(rejected)
    }

    /// A request that found no slot waits for one, if it may.
    pub(crate) fn arrive(self: &Arc<Self>, kind: Kind, waker: &Waker) -> Found {
        self.note_full();
        let waker = waker.clone();
        let arrival = self.with_queue(|admission, slots, now, wake| {
            admission.arrive(slots, kind, now, waker, wake)
        });
        match arrival {
            Arrival::Admitted(in_flight) => Found::Slot(Slot::new(Arc::clone(self), in_flight)),
            Arrival::Waiting(ticket) => Found::Wait(Waiter::new(Arc::clone(self), kind, ticket)),
            Arrival::Rejected(reason) => Found::Rejected(reason),
        }
    }

    /// A slot is put to use. Gives the time, if anybody needs it.
    #[inline(always)]
    fn begin(&self) -> Started {
        self.recording.admitted(self);
        if self.recording.wants_time() || self.learner.as_ref().is_some_and(Learner::learns) {
            Started::at(self.clock.now())
        } else {
            Started::UNKNOWN
        }
    }

    /// A slot comes back that was never put to use.
    #[cold]
    fn unused(self: &Arc<Self>) {
        self.left.fetch_add(1, Ordering::Relaxed);
        let word = self.slots.give_back();
        self.recording.in_flight(self);
        self.look_after(word);
    }

    /// A slot comes back.
    #[inline]
    fn release(self: &Arc<Self>, outcome: Outcome) {
        let nth = self.completed.fetch_add(1, Ordering::Relaxed);
        if nth % REQUESTS_PER_LOOK == 0 {
            self.recording.look_again(self);
        }
        let word = self.slots.give_back();
        self.recording.completed(self, outcome);
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
        self.recording.limit(self);
        events::limit_moved(&self.settings.name, before, after);
        if after > before && self.slots.read().waiting() {
            self.with_queue(|admission, slots, now, wake| admission.turn(slots, now, wake));
        }
    }

    /// Counts a refusal and says when to come back.
    pub(crate) fn reject(&self, reason: Reason, waited: Duration) -> Rejected {
        let nth = self.rejected.fetch_add(1, Ordering::Relaxed);
        let first = self.note_full();
        if !first && nth % REFUSALS_PER_HINT == 0 {
            self.observe();
        }
        self.recording.rejected(self, reason);
        let hint = Duration::from_nanos(self.hint_nanos.load(Ordering::Relaxed));
        Rejected {
            reason,
            retry_after: pace::jittered(hint, self.seed.wrapping_add(nth)),
            limit: self.slots.read().limit(),
            waited,
        }
    }

    /// Somebody who waited in `poll_ready` was refused there; that is counted when the refused call is made, or never.
    pub(crate) fn refused_early(&self) {
        self.left.fetch_add(1, Ordering::Relaxed);
    }

    /// It is made now, or need not be refused after all.
    pub(crate) fn not_refused_early(&self) {
        self.left.fetch_sub(1, Ordering::Relaxed);
    }

    /// Notes that a request found no slot; whether that is the first of an episode.
    fn note_full(&self) -> bool {
        let word = self.slots.read();
        let first = !word.draining() && self.slots.found_full(word);
        if first {
            self.episode(word);
        }
        first
    }

    #[cold]
    fn episode(&self, word: Word) {
        let now = self.clock.now();
        let counts = self.counts();
        let begins = {
            let mut watch = lock(&self.watch);
            let last = watch.last_full.replace(now);
            let begins = last.is_none_or(|last| now.saturating_sub(last) >= EPISODE);
            if begins {
                watch.episodes += 1;
                watch.drain.restart(now, counts);
            }
            begins
        };
        self.observe();
        // Not under the lock: a subscriber may well look at the gate.
        if begins {
            events::full(&self.settings.name, word.limit(), word.in_flight());
        }
    }

    /// Works out the pace and the hint.
    fn observe(&self) {
        let now = self.clock.now();
        let counts = self.counts();
        let waiting = self.waiting();
        let mut watch = lock(&self.watch);
        watch.lately.observe(now, counts);
        watch.drain.observe(now, counts);
        let hint = watch.drain.retry_after(now, counts.completed, waiting);
        self.hint_nanos
            .store(hint.as_nanos() as u64, Ordering::Relaxed);
    }

    fn counts(&self) -> Counts {
        Counts {
            completed: self.completed.load(Ordering::Relaxed),
            rejected: self.rejected.load(Ordering::Relaxed),
        }
    }

    #[cfg(feature = "metrics")]
    pub(crate) fn slots(&self) -> &Slots {
        &self.slots
    }

    pub(crate) fn waiting(&self) -> usize {
        self.waiting.load(Ordering::Relaxed)
    }

    fn snapshot(&self) -> BackpressureMetrics {
        let (present, peak_depth) = {
            let line = lock(&self.queue);
            (line.admission.present(), line.admission.peak_waiting())
        };
        let now = self.clock.now();
        let counts = self.counts();
        let word = self.slots.read();
        let mut produced_count = counts.completed
            + self.left.load(Ordering::Relaxed)
            + (present + word.in_flight()) as u64;
        // In the shadow a request that is refused is let in as well; it came once.
        if !self.settings.shadow {
            produced_count += counts.rejected;
        }
        let mut watch = lock(&self.watch);
        let throughput_rate = watch.lately.throughput(now, counts.completed);
        watch.lately.observe(now, counts);
        BackpressureMetrics {
            current_depth: self.waiting(),
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
        let (spent, word) = self.with_queue(|admission, slots, now, wake| {
            let spent = admission.leave(slots, ticket, now, wake);
            (spent, slots.read())
        });
        drop(spent);
        self.drained_by(word);
    }

    /// The usher looks at the queue; when it has to look again.
    fn usher_turn(self: &Arc<Self>, now: Duration) -> Option<Duration> {
        let mut wake = Vec::new();
        let due = {
            let mut line = lock(&self.queue);
            line.admission.turn(&self.slots, now, &mut wake);
            self.count_waiting(&line);
            line.usher_due = line.admission.next_due();
            line.usher_due
        };
        self.recording.waiting(self);
        wake.into_iter().for_each(Waker::wake);
        self.drained_by(self.slots.read());
        due
    }

    /// The usher has gone, with its runtime or because that has no timer.
    fn usher_lost(self: &Arc<Self>, no_timer: bool) {
        self.no_timer.fetch_or(no_timer, Ordering::Relaxed);
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
    ///
    /// Nothing of anybody else's runs under the lock, but the cloning of wakers.
    fn with_queue<R>(
        self: &Arc<Self>,
        f: impl FnOnce(&mut Admission<Waker>, &Slots, Duration, &mut Vec<Waker>) -> R,
    ) -> R {
        let now = self.clock.now();
        let usher = Usher::at_hand(self);
        let mut wake = Vec::new();
        let (result, errand) = {
            let mut line = lock(&self.queue);
            let result = f(&mut line.admission, &self.slots, now, &mut wake);
            self.count_waiting(&line);
            (result, line.errand(usher.is_some()))
        };
        match (errand, usher) {
            (Errand::Hurry, _) => self.earlier.notify_one(),
            (Errand::Send(due), Some(usher)) => usher.send(due),
            // Without an usher nobody would find out that one who was called does not come.
            (_, None) if self.slots.read().free() > 0 => self.call_all(),
            _ => {}
        }
        wake.into_iter().for_each(Waker::wake);
        self.recording.waiting(self);
        result
    }

    fn count_waiting(&self, line: &Line) {
        self.waiting
            .store(line.admission.waiting(), Ordering::Relaxed);
    }
}

impl Line {
    fn errand(&mut self, can_send: bool) -> Errand {
        let Some(due) = self.admission.next_due() else {
            return Errand::None;
        };
        match self.usher_due {
            None if !can_send => Errand::None,
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
