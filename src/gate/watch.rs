//! What a gate counts: refusals and when to come back, episodes of being full, and all numbers at one moment.

use std::time::Duration;

use super::Gate;
use crate::{
    BackpressureMetrics, Demand, Reason, Rejected, events,
    limit::MAX_LIMIT,
    pace::{self, Counts, Pace},
    rate::{Quota, Short},
    slots::Word,
    sync::{Ordering, lock},
};

/// The hint of a refusal is worked out anew once in so many, since a clock costs more than the refusal.
const REFUSALS_PER_HINT: u64 = 32;
/// Episodes that begin within this time of each other are one.
const EPISODE: Duration = Duration::from_secs(1);

/// What is looked at now and then, not at every request.
#[derive(Debug, Default)]
pub(super) struct Watch {
    /// At all times, for who looks.
    lately: Pace,
    /// While full: an idle minute says nothing about how fast a queue is worked off.
    drain: Pace,
    episodes: u64,
    last_full: Option<Duration>,
}

/// What a rate had no room for.
pub(crate) struct Lack {
    short: Short,
    demand: Demand,
    /// The most that can be spent at once of one that is counted elsewhere; 0 where that is not known.
    elsewhere: Option<u64>,
}

impl Lack {
    pub(super) fn here(short: Short, demand: Demand) -> Self {
        Self {
            short,
            demand,
            elsewhere: None,
        }
    }

    pub(super) fn elsewhere(short: Short, demand: Demand, quota: Option<Quota>) -> Self {
        Self {
            elsewhere: Some(quota.map_or(0, |quota| quota.limit)),
            ..Self::here(short, demand)
        }
    }
}

impl Gate {
    /// Counts a refusal and says when to come back, and what a rate lacked, if it was a rate that did.
    pub(crate) fn reject(&self, reason: Reason, waited: Duration, lack: Option<Lack>) -> Rejected {
        let nth = self.rejected.fetch_add(1, Ordering::Relaxed);
        let limit = self.room.slots.read().limit();
        let rejected = match (reason, lack) {
            // This gate will not let anybody in again; what takes over will, and there is no telling how fast.
            (Reason::Draining, _) => {
                let hint = pace::jittered(pace::UNKNOWN, self.seed.wrapping_add(nth));
                Rejected::new(reason, hint, limit, waited)
            }
            (_, Some(lack)) => {
                self.note_full();
                self.lacking(reason, waited, lack)
            }
            (_, None) => {
                let first = self.note_full();
                if !first && nth % REFUSALS_PER_HINT == 0 {
                    self.observe_pace();
                }
                let hint = Duration::from_nanos(self.hint_nanos.load(Ordering::Relaxed));
                let hint = pace::jittered(hint, self.seed.wrapping_add(nth));
                Rejected::new(reason, hint, limit, waited)
            }
        };
        self.count_rejected(reason);
        rejected
    }

    fn count_rejected(&self, reason: Reason) {
        match &self.above {
            None => self.recording.rejected(self, reason),
            Some(above) => {
                above.rejected.fetch_add(1, Ordering::Relaxed);
                above.recording.rejected(above, reason);
            }
        }
    }

    pub(super) fn waited(&self, waited: Duration) {
        let shown = self.shown();
        shown.recording.waited(shown, waited);
    }

    /// Counts the refusal of one who waited, or would have.
    pub(crate) fn reject_waiter(
        &self,
        reason: Reason,
        waited: Duration,
        demand: Option<Demand>,
    ) -> Rejected {
        let demand = demand.unwrap_or_default();
        let lack = self.room.has_rates().then(|| {
            let short = self.room.check_rates(self.clock.now(), demand).err()?;
            Some(Lack::here(short, demand))
        });
        self.reject(reason, waited, lack.flatten())
    }

    /// A rate tells exactly when there is room for one more: nothing is spread here. Those who wait come first.
    fn lacking(&self, reason: Reason, waited: Duration, lack: Lack) -> Rejected {
        let (hint, most) = match (lack.short, lack.elsewhere) {
            (Short::Never { most }, _) => (Duration::MAX, most),
            (Short::Wait(wait), Some(most)) => (wait, most),
            (Short::Wait(wait), None) => {
                let ahead = self.demanded.load(Ordering::Relaxed);
                let (now, waiting) = (self.clock.now(), self.waiting());
                let outlook = self.room.outlook(now, lack.demand, waiting, ahead);
                // By now there may be room, but whoever is refused for a rate is told a time.
                outlook.map_or((wait, 0), |(hint, most)| (hint.max(wait), most))
            }
        };
        let most = usize::try_from(most).unwrap_or(usize::MAX);
        Rejected::new(reason, hint, most, waited).by_rate()
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
    pub(super) fn note_full(&self) -> bool {
        let word = self.room.slots.read();
        let first = !word.draining() && self.room.slots.found_full(word);
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
        self.observe_pace();
        // Not under the lock: a subscriber may well look at the gate.
        if begins {
            match self.room.per_second() {
                Some(per_second) => events::over_rate(self.settings.name.as_str(), per_second),
                None => events::full(self.settings.name.as_str(), word.limit(), word.in_flight()),
            }
        }
    }

    /// Works out the pace and the hint.
    fn observe_pace(&self) {
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

    pub(super) fn snapshot(&self) -> BackpressureMetrics {
        let (present, peak_depth) = {
            let line = lock(&self.queue);
            (line.admission.present(), line.admission.peak_waiting())
        };
        let (present, peak_depth) = match self.keys {
            None => (present, peak_depth),
            Some(_) => (self.waiting(), self.peak_below.load(Ordering::Relaxed)),
        };
        let now = self.clock.now();
        let counts = self.counts();
        let word = self.room.slots.read();
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
            current_rate_limit: match self.room.per_second() {
                Some(per_second) if word.limit() == MAX_LIMIT => per_second,
                _ => word.limit() as f64,
            },
        }
    }
}
