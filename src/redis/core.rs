//! What all keys of one shared rate have in common.

use std::{
    sync::{
        Arc, OnceLock, Weak,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use redis::{ErrorKind, RedisError, RedisResult};
use tokio::{
    runtime::Handle,
    task::JoinHandle,
    time::{sleep, timeout},
};

use super::{
    budget::Budget,
    health::{Health, PROBE_EVERY},
    keyed::{Memories, Memory},
    offset::Offset,
    recording::Recording,
    script::{Call, Change, Reply, Store, Verdict, is_of_one_key},
};
use crate::{Demand, events, gate::clock::Clock, rate::OnUnavailable};

/// How long a debt is kept for a store that does not answer.
const KEEP_DEBT: Duration = Duration::from_secs(60);

/// Before it is sent again. Twice as long from one time to the next, up to so much.
const PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

/// In seconds: how long no request was for a key that holds something else, before it is worth to be said once more.
const QUIET: u64 = 60;

pub(super) struct Core {
    pub(super) name: String,
    pub(super) store: Arc<dyn Store>,
    pub(super) budgets: Vec<Budget>,
    pub(super) on_unavailable: OnUnavailable,
    pub(super) timeout: Duration,
    /// The share of each burst that is taken from the store at a time.
    pub(super) lease: Option<f64>,
    pub(super) clock: Clock,
    pub(super) health: Health,
    /// When a request last found such a key, in seconds, and [`QUIET`] more.
    key_failed: AtomicU64,
    pub(super) recording: Recording,
    pub(super) memories: Memories,
    /// The one memory of all keys that there is no room for.
    pub(super) crowd: Arc<Memory>,
    slices: OnceLock<Vec<u64>>,
    offset: Offset,
    /// Where corrections are sent from: a permit may be dropped on a thread that knows no runtime.
    runtime: OnceLock<Handle>,
}

/// The keys of the limits, in their order.
pub(super) type Keys = Arc<[String]>;

impl Core {
    pub(super) fn new(
        name: String,
        store: Arc<dyn Store>,
        budget: Budget,
        on_unavailable: OnUnavailable,
    ) -> Self {
        Self {
            name,
            store,
            budgets: vec![budget],
            on_unavailable,
            timeout: super::DEFAULT_TIMEOUT,
            lease: None,
            clock: Clock::new(),
            health: Health::new(),
            key_failed: AtomicU64::new(0),
            recording: Recording::default(),
            memories: Memories::new(),
            crowd: Arc::default(),
            slices: OnceLock::new(),
            offset: Offset::unknown(),
            runtime: OnceLock::new(),
        }
    }

    /// The store's clock may have been set anew since the last call, or another store taken over, so that a call seems late that is
    /// not. Its answer has told how late it really is there, and if there is time left the call is made once more.
    pub(super) async fn spend(
        &self,
        keys: &Keys,
        costs: &[u64],
        wants: &[u64],
    ) -> RedisResult<Reply> {
        let begin = self.clock.now();
        let mut reply = self.call(keys, Call::Spend { costs, wants }).await?;
        let in_time = self.clock.now().saturating_sub(begin) < self.timeout;
        if reply.verdict == Verdict::Late && in_time {
            reply = self.call(keys, Call::Spend { costs, wants }).await?;
        }
        match reply.verdict {
            Verdict::Done | Verdict::Short => Ok(reply),
            Verdict::Late => {
                let late = "the call reached the store too late";
                Err(RedisError::from((ErrorKind::Client, late)))
            }
        }
    }

    async fn call(&self, keys: &Keys, call: Call<'_>) -> RedisResult<Reply> {
        let sent = self.clock.now();
        let deadline = match call {
            // It does no harm, however late.
            Call::Probe => 0,
            _ => self.offset.at_store(sent + self.timeout),
        };
        let reply = self
            .store
            .run(Arc::clone(keys), &self.budgets, deadline, call)
            .await?;
        let back = self.clock.now();
        // An answer that was long under way says little about when it was given.
        if back.saturating_sub(sent) <= self.timeout {
            self.offset.learn(reply.now, sent, back);
        }
        Ok(reply)
    }

    /// Corrects what was spent, in the background. `None` where there is nothing to correct, or nowhere to send it from.
    pub(super) fn settle_later(
        self: &Arc<Self>,
        keys: &Keys,
        changes: Vec<Change>,
    ) -> Option<JoinHandle<()>> {
        if changes.iter().all(Change::is_nothing) {
            return None;
        }
        let (core, keys) = (Arc::clone(self), Arc::clone(keys));
        let settled = async move {
            let _ = timeout(KEEP_DEBT, core.settle(&keys, &changes)).await;
        };
        Some(self.runtime.get()?.spawn(settled))
    }

    /// Where an answer stays away it is not known whether the correction was made. In doubt it counts as spent: a debt is sent
    /// again, what was to be given back is not.
    pub(super) async fn settle(self: &Arc<Self>, keys: &Keys, changes: &[Change]) {
        let mut pause = PAUSE;
        loop {
            self.health.up().await;
            match timeout(self.timeout, self.call(keys, Call::Settle(changes))).await {
                Ok(Ok(reply)) if reply.verdict == Verdict::Late => continue,
                Ok(Ok(_)) => return,
                Ok(Err(error)) => self.failed(keys, &error),
                Err(_) => self.silent(keys),
            }
            if !changes.iter().any(Change::is_debt) {
                return;
            }
            sleep(pause).await;
            pause = (2 * pause).min(LONGEST_PAUSE);
        }
    }

    /// The store has answered with an error.
    pub(super) fn failed(self: &Arc<Self>, keys: &Keys, error: &RedisError) {
        if is_of_one_key(error) {
            self.key_failed();
        } else {
            self.lost(keys, &error.to_string());
        }
    }

    /// Each request for such a key finds it out; it is said once until a minute has passed without one.
    fn key_failed(&self) {
        let now = self.clock.now().as_secs() + QUIET;
        let last = self.key_failed.swap(now, Ordering::Relaxed);
        if now.saturating_sub(last) >= QUIET {
            events::key_failed(&self.name);
        }
    }

    pub(super) fn silent(self: &Arc<Self>, keys: &Keys) {
        self.lost(keys, "no answer in time");
    }

    fn lost(self: &Arc<Self>, keys: &Keys, error: &str) {
        if self.health.fell() {
            self.recording.unavailable(&self.name, true);
            events::store_lost(&self.name, error);
            tokio::spawn(probe(Arc::downgrade(self), Arc::clone(keys)));
        }
    }

    /// Remembers the runtime this is called on.
    pub(super) fn here(&self) {
        self.runtime.get_or_init(Handle::current);
    }

    /// All keys of one tag share a slot of a cluster, which is chosen by what stands in braces.
    pub(super) fn keys(&self, tag: &str) -> Keys {
        (0..self.budgets.len())
            .map(|limit| format!("{{{tag}}}:{limit}"))
            .collect()
    }

    /// What a request cost in the end; nothing, if it never ran.
    pub(super) fn actual(&self, demand: Option<Demand>) -> Arc<[u64]> {
        match demand {
            Some(demand) => self.costs(&demand),
            None => self.budgets.iter().map(|_| 0).collect(),
        }
    }

    /// How much of each limit is taken from the store at a time, if there is a lease.
    pub(super) fn slices(&self) -> Option<&[u64]> {
        let share = self.lease?;
        let slices = self.slices.get_or_init(|| {
            (self.budgets.iter())
                .map(|budget| budget.slice(share))
                .collect()
        });
        Some(slices)
    }

    pub(super) fn costs(&self, demand: &Demand) -> Arc<[u64]> {
        (self.budgets.iter())
            .map(|budget| budget.cost(demand))
            .collect()
    }
}

/// Writes beside the first of the keys until that succeeds, or nobody is left who would want to know. A store may well answer and
/// be unable to write: it is out of memory or of disk, or has become a replica.
async fn probe(core: Weak<Core>, keys: Keys) {
    let beside: Keys = Arc::new([format!("{}:probe", keys[0])]);
    loop {
        {
            let Some(core) = core.upgrade() else {
                return;
            };
            let asked = timeout(core.timeout, core.call(&beside, Call::Probe)).await;
            if matches!(asked, Ok(Ok(_))) {
                core.health.rose();
                core.recording.unavailable(&core.name, false);
                events::store_found(&core.name);
                return;
            }
        }
        sleep(PROBE_EVERY).await;
    }
}

impl Drop for Core {
    /// What was taken from the store and not needed goes back.
    fn drop(&mut self) {
        let Some(runtime) = self.runtime.get() else {
            return;
        };
        for (tag, memory) in self.memories.all() {
            let Some(changes) = memory.close(None) else {
                continue;
            };
            let call = Call::Settle(&changes);
            let running = self.store.run(self.keys(&tag), &self.budgets, 0, call);
            runtime.spawn(async move {
                let _ = running.await;
            });
        }
    }
}
