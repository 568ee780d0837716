//! The shell around a stream's state: the lock, the clock, and what is done when the lock is free.
//!
//! Under the lock things are moved and counted, nothing else. Whatever belongs to somebody else (an item's `Drop`, the
//! weighing of it, a waker, a recorder) runs before the lock is taken or after it is free.
//!
//! ```text
//! Sender ── room, and nobody waits ─────────────────────► Ring ──► BoundedStream
//!    │                                                     ▲
//!    └─ otherwise, where the strategy waits ──► Line ──────┘  a place is kept for the one in front
//! ```

mod reading;

use std::{
    fmt,
    sync::Arc,
    task::{Context, Waker},
    time::Duration,
};

use tokio::{sync::Notify, time::Instant};

use super::{
    Displaced, Overflow, SendError, SendErrorKind,
    controller::{Metered, Registry},
    line::Ticket,
    metrics::Recording,
    pacing::Pacer,
    ring::Bounds,
    state::{After, Reading, State, Turn},
    throughput::Throughput,
};
use crate::{
    BackpressureMetrics,
    contained::contained,
    gate::clock::Clock,
    sync::{Mutex, MutexGuard, lock},
};

pub(super) type Weigh<T> = Box<dyn Fn(&T) -> usize + Send + Sync>;

/// What the senders and the reader share. The state comes first, and begins a cache line.
#[repr(C, align(64))]
pub(super) struct Channel<T> {
    state: Mutex<State<T>>,
    bounds: Bounds,
    weigh: Option<Weigh<T>>,
    /// Something happens by time alone. Otherwise no clock is read for an item.
    timed: bool,
    clock: Clock,
    throughput: Mutex<Throughput>,
    recording: Recording,
    closing: Notify,
    registry: Arc<Registry>,
    id: u64,
}

/// How far a send has come.
#[derive(Clone, Copy, Debug)]
pub(super) enum Step {
    Begin,
    Weighed { weight: usize },
    Waiting { ticket: Ticket, weight: usize },
}

/// What a send came to when it was polled.
pub(super) enum Sent<T> {
    Done(Result<Displaced<T>, SendError<T>>),
    /// It waits, and wants to be polled when it is woken, or when this time has come.
    Waiting(Option<Duration>),
}

impl<T> Channel<T> {
    pub(super) fn new(
        bounds: Bounds,
        weigh: Option<Weigh<T>>,
        pacer: Option<Pacer>,
        registry: Arc<Registry>,
        id: u64,
    ) -> Self {
        let clock = registry.clock();
        Self {
            timed: bounds.time_to_live.is_some() || pacer.is_some(),
            state: Mutex::new(State::new(&bounds, pacer)),
            bounds,
            weigh,
            clock,
            throughput: Mutex::new(Throughput::new(clock.now())),
            recording: Recording::new(),
            closing: Notify::new(),
            registry,
            id,
        }
    }

    /// `None` where the time lies beyond what the platform can name, which is as good as never.
    pub(super) fn at(&self, time: Duration) -> Option<Instant> {
        self.clock.at(time)
    }

    /// How long it is to that time.
    pub(super) fn until(&self, time: Duration) -> Duration {
        time.saturating_sub(self.clock.now())
    }

    pub(super) fn is_closed(&self) -> bool {
        lock(&self.state).is_closed()
    }

    pub(super) fn overflow(&self) -> Option<Overflow> {
        lock(&self.state).overflow()
    }

    pub(super) async fn closed(&self) {
        let closing = self.closing.notified();
        // In this order: a close between the two is seen by one of them.
        if !self.is_closed() {
            closing.await;
        }
    }

    // What senders do.

    #[inline]
    pub(super) fn try_send(&self, item: T) -> Result<Displaced<T>, SendError<T>> {
        let weight = match self.weigh(&item) {
            Ok(weight) => weight,
            Err(kind) => return Err(SendError::new(item, kind)),
        };
        let now = self.now();
        let mut state = lock(&self.state);
        match state.offer_quickly(item) {
            Ok(displaced) => Ok(displaced.into()),
            Err(item) => self.try_send_slowly(state, item, weight, now),
        }
    }

    #[inline(never)]
    fn try_send_slowly(
        &self,
        state: MutexGuard<'_, State<T>>,
        item: T,
        weight: usize,
        now: Duration,
    ) -> Result<Displaced<T>, SendError<T>> {
        let mut displaced = Displaced::default();
        let sent = self.step(state, |state, after| {
            state.offer(item, weight, now, &mut displaced, after)
        });
        match sent {
            Ok(()) => Ok(displaced),
            Err((item, kind)) => Err(SendError::new(item, kind)),
        }
    }

    /// Goes on with a send. `item` is there until it is done.
    ///
    /// # Panics
    ///
    /// If it is done.
    #[inline]
    pub(super) fn poll_send(
        &self,
        step: &mut Step,
        item: &mut Option<T>,
        cx: &mut Context<'_>,
    ) -> Sent<T> {
        let sending = item.take().expect("a send is polled until it is done");
        if let Step::Begin = *step {
            match self.weigh(&sending) {
                Ok(weight) => *step = Step::Weighed { weight },
                Err(kind) => return Sent::Done(Err(SendError::new(sending, kind))),
            }
        }
        let now = self.now();
        let mut state = lock(&self.state);
        let sending = match *step {
            Step::Weighed { .. } => match state.offer_quickly(sending) {
                Ok(displaced) => return Sent::Done(Ok(displaced.into())),
                Err(sending) => sending,
            },
            _ => sending,
        };
        self.poll_send_slowly(state, step, item, sending, now, cx.waker())
    }

    #[inline(never)]
    fn poll_send_slowly(
        &self,
        state: MutexGuard<'_, State<T>>,
        step: &mut Step,
        item: &mut Option<T>,
        mut sending: T,
        now: Duration,
        waker: &Waker,
    ) -> Sent<T> {
        let mut displaced = Displaced::default();
        let waits = self.step(state, |state, after| {
            if let Step::Weighed { weight } = *step {
                match state.offer(sending, weight, now, &mut displaced, after) {
                    Ok(()) => return Ok(None),
                    Err((item, kind)) if self.waits(kind) => sending = item,
                    Err(refused) => return Err(refused),
                }
                let ticket = state.join(weight, waker);
                *step = Step::Waiting { ticket, weight };
            }
            let Step::Waiting { ticket, weight } = *step else {
                unreachable!("it has been weighed and has joined the line");
            };
            match state.look(ticket, weight, now, waker, after) {
                Turn::Come => state.send_reserved(sending, weight, now, after),
                Turn::Closed => return Err((sending, SendErrorKind::Closed)),
                Turn::Waiting(due) => {
                    *item = Some(sending);
                    return Ok(Some(due));
                }
            }
            Ok(None)
        });
        match waits {
            Ok(None) => Sent::Done(Ok(displaced)),
            Ok(Some(due)) => Sent::Waiting(due),
            Err((item, kind)) => Sent::Done(Err(SendError::new(item, kind))),
        }
    }

    /// A send is given up.
    pub(super) fn give_up(&self, step: Step) {
        if let Step::Waiting { ticket, weight } = step {
            let now = self.now();
            self.step(lock(&self.state), |state, after| {
                state.leave(ticket, weight, now, after);
            });
        }
    }

    pub(super) fn add_sender(&self) {
        lock(&self.state).add_sender();
    }

    pub(super) fn remove_sender(&self) {
        if self.step(lock(&self.state), State::remove_sender) {
            self.registry.retire(self.id);
        }
    }

    // What both do.

    /// So many were consumed by now.
    pub(super) fn mark(&self, consumed: u64) -> Duration {
        let now = self.clock.now();
        lock(&self.throughput).mark(now, consumed);
        now
    }

    pub(super) fn metrics(&self) -> BackpressureMetrics {
        let now = self.clock.now();
        let (Reading { tally, rate, .. }, waits) = {
            let mut state = lock(&self.state);
            (state.read(), state.reader_waits())
        };
        let throughput = lock(&self.throughput);
        // A reader that waits has read nothing since it was last looked at, or a little just after that.
        let counted = if waits {
            throughput.counted()
        } else {
            tally.consumed
        };
        BackpressureMetrics {
            current_depth: tally.depth,
            peak_depth: tally.peak,
            dropped_count: tally.all_dropped(),
            produced_count: tally.produced,
            consumed_count: tally.consumed,
            throughput_rate: throughput.per_second(now, counted),
            backpressure_events: tally.events,
            current_rate_limit: rate.unwrap_or(f64::INFINITY),
        }
    }

    /// The time, where something depends on it.
    #[inline]
    fn now(&self) -> Duration {
        if self.timed {
            self.clock.now()
        } else {
            Duration::ZERO
        }
    }

    /// Does something under the lock, and afterwards what must not be done there.
    #[inline]
    fn step<R>(
        &self,
        mut state: MutexGuard<'_, State<T>>,
        f: impl FnOnce(&mut State<T>, &mut After<T>) -> R,
    ) -> R {
        let mut after = After::default();
        let result = f(&mut state, &mut after);
        state.settle(self.recording.is_live());
        let closed = state.is_closed();
        drop(state);
        after.run();
        if closed {
            contained(|| self.closing.notify_waiters());
        }
        self.record();
        result
    }

    /// Tells the recorder, if there is one.
    pub(super) fn record(&self) {
        if self.recording.look(self.registry.name()) {
            let reading = {
                let mut state = lock(&self.state);
                // From now on no step is so quick that nobody is told.
                state.settle(true);
                state.read()
            };
            self.recording.show(&reading);
        }
    }

    #[inline]
    fn weigh(&self, item: &T) -> Result<usize, SendErrorKind> {
        let Some(weigh) = &self.weigh else {
            return Ok(0);
        };
        match weigh(item) {
            weight if self.bounds.max_weight.is_some_and(|most| weight > most) => {
                Err(SendErrorKind::TooHeavy)
            }
            weight => Ok(weight),
        }
    }

    /// Whether a send that could not be done at once waits.
    fn waits(&self, kind: SendErrorKind) -> bool {
        self.bounds.strategy.waits()
            && matches!(kind, SendErrorKind::Full | SendErrorKind::TooEarly(_))
    }
}

/// Nothing more will come.
#[derive(Debug)]
pub(super) struct Ended;

impl<T> fmt::Debug for Channel<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Channel")
            .field("name", &self.registry.name())
            .field("bounds", &self.bounds)
            .field("metrics", &self.metrics())
            .finish_non_exhaustive()
    }
}

/// What a controller sees of its streams.
impl<T: Send + 'static> Metered for Channel<T> {
    fn metrics(&self) -> BackpressureMetrics {
        self.metrics()
    }
}
