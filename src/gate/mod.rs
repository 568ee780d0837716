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

pub(crate) mod clock;
mod handle;
#[cfg(all(test, backpressure_loom))]
mod interleavings;
mod learner;
mod line;
mod permit;
mod usher;
mod waiter;
mod watch;

use std::{
    fmt,
    hash::{BuildHasher, Hasher, RandomState},
    sync::Arc,
    task::Waker,
    time::Duration,
};

use tokio::sync::Notify;

use self::{clock::Clock, line::Line, permit::Started, watch::Watch};
use crate::{
    Reason, Rejected,
    admission::{Arrival, Rules},
    events,
    limit::{Outcome, Sample},
    metrics::Recording,
    pace,
    queue::Kind,
    slots::{Slots, Turn, Word},
    sync::{AtomicBool, AtomicU64, AtomicUsize, Mutex, Ordering, lock},
};

pub use self::handle::Handle;
pub(crate) use self::{
    learner::Learner,
    permit::{Permit, Slot},
    waiter::Waiter,
};

/// Whether a recorder has been installed meanwhile is looked up once in so many requests.
const REQUESTS_PER_LOOK: u64 = 64;

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

/// What became of an arrival that found no slot.
#[derive(Debug)]
pub(crate) enum Found {
    Slot(Slot),
    Wait(Waiter),
    Rejected(Reason),
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
            queue: Mutex::new(Line::new(settings.rules)),
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
        *lock(&self.queue) = Line::new(self.settings.rules);
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
        let (before, after) = match &self.learner {
            Some(learner) => learner.set_limit(limit, &self.slots),
            None => (self.slots.set_limit(limit).limit(), limit),
        };
        if before != after {
            self.limit_moved(before, after);
        }
    }

    fn limit_moved(self: &Arc<Self>, before: usize, after: usize) {
        self.recording.limit(self);
        events::limit_moved(&self.settings.name, before, after);
        if after > before && self.slots.read().waiting() {
            self.with_queue(|admission, slots, now, wake| admission.turn(slots, now, wake));
        }
    }

    #[cfg(feature = "metrics")]
    pub(crate) fn slots(&self) -> &Slots {
        &self.slots
    }

    pub(crate) fn waiting(&self) -> usize {
        self.waiting.load(Ordering::Relaxed)
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
