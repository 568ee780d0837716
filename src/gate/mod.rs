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

mod above;
mod admit;
mod charge;
pub(crate) mod clock;
mod handle;
mod hold;
#[cfg(all(test, backpressure_loom))]
mod interleavings;
mod learner;
mod line;
mod name;
mod parked;
mod permit;
#[cfg(feature = "http")]
mod report;
mod slot;
mod usher;
mod waiter;
mod watch;

use std::{
    fmt,
    hash::{BuildHasher, Hasher, RandomState},
    sync::{Arc, Weak},
    time::Duration,
};

use tokio::sync::Notify;

use self::{clock::Clock, line::Line, slot::Spent, watch::Watch};
#[cfg(feature = "llm")]
use crate::contained::contained;
use crate::{
    ConfigError, Demand, Reason,
    admission::Rules,
    events,
    limit::{MAX_LIMIT, Sample},
    metrics::Recording,
    pace,
    rate::{Rate, RemoteRate},
    room::Room,
    slots::Word,
    sync::{AtomicBool, AtomicU64, AtomicUsize, Mutex, Ordering, lock},
};

#[cfg(feature = "http")]
pub use self::report::Report;
pub use self::{charge::Charge, handle::Handle};
pub(crate) use self::{
    handle::Keys,
    hold::Holder,
    learner::Learner,
    name::Name,
    parked::Parked,
    permit::Permit,
    slot::{Begun, Claim, Refused, Slot},
    waiter::Waiter,
};

/// Everything about a gate that does not change once it is shared.
#[derive(Debug)]
pub(crate) struct Settings {
    pub(crate) name: Name,
    pub(crate) max_keys: usize,
    pub(crate) shadow: bool,
    pub(crate) rules: Rules,
    /// To be asked when all that is here has room.
    pub(crate) remote: Option<Arc<dyn RemoteRate>>,
}

/// Laid out so that all that requests write is on one cache line, which goes to and fro between the threads that do, and what they
/// only read on the next.
#[repr(C, align(64))]
pub struct Gate {
    /// Of those who may let somebody in.
    holders: AtomicU64,
    completed: AtomicU64,
    room: Room,
    rejected: AtomicU64,
    /// Those that came and were neither let in nor refused: they left while they waited, or were ready and never called.
    left: AtomicU64,
    waiting: AtomicUsize,
    /// What they ask for, all in all.
    demanded: AtomicU64,
    clock: Clock,
    /// Of a key's gate: the one that all keys share.
    above: Option<Holder>,
    /// The gates of the keys below this one. They hold this one, so that it must not hold them.
    keys: Option<Weak<dyn Keys>>,
    learner: Option<Box<Learner>>,
    recording: Recording,
    settings: Settings,
    hint_nanos: AtomicU64,
    peak_below: AtomicUsize,
    queue: Mutex<Line>,
    watch: Mutex<Watch>,
    seed: u64,
    drained: Notify,
    earlier: Arc<Notify>,
    /// The runtime has no timer, as an usher found out by panicking. There is no use in sending another.
    no_timer: AtomicBool,
    #[cfg(backpressure_loom)]
    alive: hold::Alive,
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
            holders: AtomicU64::new(1),
            room: Room::new(limit),
            completed: AtomicU64::new(0),
            rejected: AtomicU64::new(0),
            left: AtomicU64::new(0),
            waiting: AtomicUsize::new(0),
            demanded: AtomicU64::new(0),
            hint_nanos: AtomicU64::new(pace::UNKNOWN.as_nanos() as u64),
            queue: Mutex::new(Line::new(settings.rules)),
            settings,
            above: None,
            keys: None,
            peak_below: AtomicUsize::new(0),
            learner: learner.map(Box::new),
            recording: Recording::new(),
            watch: Mutex::new(Watch::default()),
            clock: Clock::new(),
            seed: RandomState::new().build_hasher().finish(),
            drained: Notify::new(),
            earlier: Arc::new(Notify::new()),
            no_timer: AtomicBool::new(false),
            #[cfg(backpressure_loom)]
            alive: hold::Alive::default(),
        }
    }

    /// Settings can change as long as nobody else holds the gate.
    pub(crate) fn settings_mut(&mut self) -> &mut Settings {
        &mut self.settings
    }

    /// One more rate that a request has to find room in.
    pub(crate) fn add_rate(&mut self, rate: Box<dyn Rate>) -> Result<(), ConfigError> {
        let limited = self.room.slots.read().limit() < MAX_LIMIT || self.learner.is_some();
        self.room.add(rate, limited)?;
        self.room.measure_from(self.clock.born());
        Ok(())
    }

    /// To be called after the rules have changed.
    pub(crate) fn apply_rules(&mut self) {
        *lock(&self.queue) = Line::new(self.settings.rules);
    }

    pub(crate) fn settings(&self) -> &Settings {
        &self.settings
    }

    /// Whether a request has to find room in a rate as well.
    #[inline]
    pub(crate) fn has_rates(&self) -> bool {
        self.room.has_rates()
            || self.has_remote()
            || self.above.as_ref().is_some_and(|above| above.has_rates())
    }

    /// Whether it is to be remembered what a request asked for. Without a rate there is nothing to spend, but a request that asks
    /// for something has a [`Charge`] all the same.
    #[inline]
    pub(crate) fn spends(&self, demand: Option<Demand>) -> bool {
        demand.is_some() || self.has_rates()
    }

    /// Whether a rate is to be asked that is counted elsewhere.
    #[inline]
    pub(crate) fn has_remote(&self) -> bool {
        self.settings.remote.is_some()
    }

    /// Whether a request that finds no slot may wait.
    pub(crate) fn may_wait(&self) -> bool {
        self.settings.rules.max_waiting > 0 && !self.settings.shadow
    }

    /// As much of `demand` as can ever be let in at once; for the rest no waiting would make room.
    #[cfg(feature = "llm")]
    pub(crate) fn at_most(&self, mut demand: Demand) -> Demand {
        if self.room.has_rates() {
            demand = self.room.at_most(self.clock.now(), demand);
        }
        if let Some(remote) = &self.settings.remote {
            demand = contained(|| remote.at_most(&demand)).unwrap_or(demand);
        }
        match &self.above {
            Some(above) => above.at_most(demand),
            None => demand,
        }
    }

    /// A slot comes back that was never put to use, and what was spent for it.
    #[cold]
    fn unused(self: &Arc<Self>, spent: Option<Spent>) {
        self.count_left();
        self.take_back(spent);
    }

    fn count_left(&self) {
        self.left.fetch_add(1, Ordering::Relaxed);
        if let Some(above) = &self.above {
            above.left.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn take_back(self: &Arc<Self>, spent: Option<Spent>) {
        let spent = spent.filter(|spent| spent.taken);
        if let Some(spent) = spent {
            let now = self.clock.now();
            self.room.refund(now, spent.at, spent.demand());
        }
        let word = self.room.slots.give_back();
        self.recording.in_flight(self);
        if spent.is_some() {
            self.more_room();
        }
        self.look_after(word);
    }

    /// Somebody waits for a slot, or for the last permit.
    #[cold]
    fn look_after(self: &Arc<Self>, word: Word) {
        if word.waiting() {
            self.with_queue(|admission, room, now, wake| admission.turn(room, now, wake));
        }
        self.drained_by(word);
    }

    /// What was spent for a request turned out to be for another.
    fn settle(self: &Arc<Self>, spent: Duration, before: Demand, after: Demand) {
        self.room.settle(self.clock.now(), spent, before, after);
        self.more_room();
    }

    /// A rate may have more room than those who wait know.
    fn more_room(self: &Arc<Self>) {
        // The latest, since whoever joins the queue meanwhile may not see what has changed.
        if self.room.slots.read_latest().waiting() {
            self.with_queue(|admission, room, now, wake| admission.more_room(room, now, wake));
        }
    }

    /// How a request went, which the rates learn from, and the limit if it is picked for that.
    #[inline]
    fn observe(self: &Arc<Self>, sample: Sample, picked: bool) {
        if self.room.has_rates() && self.room.observe(&sample) {
            self.recording.rate(self);
            self.more_room();
        }
        if picked {
            self.learn(sample);
        }
    }

    /// How its rates stand.
    #[cfg(feature = "http")]
    pub(crate) fn quotas(&self) -> Vec<crate::rate::Quota> {
        self.room.quotas(self.clock.now()).collect()
    }

    fn is_over_rate(&self) -> bool {
        self.room.has_rates()
            && self
                .room
                .check_rates(self.clock.now(), Demand::default())
                .is_err()
    }

    fn set_rate(self: &Arc<Self>, per_second: f64) {
        self.room.set_per_second(self.clock.now(), per_second);
        self.recording.rate(self);
        self.more_room();
    }

    /// Tells the limit how a request went.
    fn learn(self: &Arc<Self>, sample: Sample) {
        let Some(learner) = &self.learner else {
            return;
        };
        if let Some((before, after)) = learner.learn(sample, &self.room.slots) {
            self.limit_moved(before, after);
        }
    }

    fn set_limit(self: &Arc<Self>, limit: usize) {
        let (before, after) = match &self.learner {
            Some(learner) => learner.set_limit(limit, &self.room.slots),
            None => (self.room.slots.set_limit(limit).limit(), limit),
        };
        if before != after {
            self.limit_moved(before, after);
        }
    }

    fn limit_moved(self: &Arc<Self>, before: usize, after: usize) {
        self.recording.limit(self);
        events::limit_moved(self.settings.name.as_str(), before, after);
        if after > before && self.room.slots.read().waiting() {
            self.with_queue(|admission, room, now, wake| admission.turn(room, now, wake));
        }
    }

    #[cfg(feature = "metrics")]
    pub(crate) fn room(&self) -> &Room {
        &self.room
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
        let word = self.room.slots.read();
        f.debug_struct("Gate")
            .field("name", &self.settings.name)
            .field("limit", &word.limit())
            .field("in_flight", &word.in_flight())
            .field("waiting", &self.waiting())
            .finish_non_exhaustive()
    }
}
