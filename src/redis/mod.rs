//! A rate that many machines share, in Redis or Valkey.
//!
//! Ten replicas that each keep a limit of 500 per minute let 5000 through. A limit that holds for all of them has to be counted in
//! one place, and three things go wrong there easily. A count that is read and then written lets everybody through who read it at
//! the same time; here a script decides within the store, by the store's own clock, over all limits at once. A store that hangs
//! takes every service that asks it down with it; here nobody waits longer than [`timeout`](SharedRate::timeout), and what happens
//! then is chosen beforehand. And a busy service asks the store as often as it is asked itself; a [`lease`](SharedRate::lease)
//! makes it once for many.
//!
//! ```no_run
//! # async fn example() -> redis::RedisResult<()> {
//! use tower_backpressure::{
//!     Demand,
//!     rate::{Decision, OnUnavailable, RemoteRate},
//!     redis::{Budget, SharedRate},
//! };
//!
//! let client = redis::Client::open("redis://127.0.0.1/")?;
//! let connection = client.get_connection_manager().await?;
//!
//! let tokens = Budget::per_minute(100_000).burst(10_000);
//! let rate = SharedRate::new(connection, "chat", tokens, OnUnavailable::Local(0.2))
//!     .and(Budget::per_minute(500).requests());
//!
//! match rate.spend(&Demand::of(700)).await {
//!     Decision::Admitted { receipt, .. } => receipt.settle(Demand::of(350)),
//!     refused => println!("{refused:?}"),
//! }
//! # Ok(())
//! # }
//! ```
//!
//! # What it can be off by
//!
//! Nothing, as long as the store answers and remembers. Where a store forgets (it was restarted without its data, a replica took
//! over that had not heard of the last calls, or keys were evicted for want of memory) the limits it forgot begin full: once
//! more the burst. Where its clock is set forward, so much more time has passed; where it is set back, what comes back in so
//! much time is missing until it has caught up. What the store spends in time but cannot say in time, because it or the network
//! fails in just that moment, stays spent. See [`lease`](SharedRate::lease) and [`OnUnavailable`] for what those add.
//!
//! # In the store
//!
//! A limit is one string under `{name}:0`, `{name}:1` and so on, in the order in which the limits were given, or `{name:key}:0`
//! for [one key](SharedRate::for_key). All of them that one decision needs share a slot of a cluster, by the braces. A key expires
//! when its limit is full again. Its TTL lets eviction policies such as `volatile-lru` forget it; `noeviction` does not. What is
//! written to find out whether the store can write again lies beside them (`{name}:0:probe`), for a second.
//! Where machines give different numbers for one limit, as during a deployment, each decision counts by the numbers of the machine
//! that asks, and what is left or owed stays the same share of the burst.
//!
//! The store must let scripts call `TIME` and write (Redis 5 and later, every Valkey).

mod ask;
mod budget;
mod core;
mod health;
mod keyed;
mod lease;
mod local;
mod offset;
mod recording;
mod script;

#[cfg(test)]
mod pretend;
#[cfg(test)]
mod tests;

use std::{
    fmt,
    sync::{Arc, OnceLock},
    time::Duration,
};

use ::redis::aio::ConnectionLike;

use self::{
    core::{Core, Keys},
    keyed::Memory,
    script::Connected,
};
use crate::{
    ConfigError, Demand,
    config::built,
    rate::{Deciding, OnUnavailable, RemoteRate},
};

pub use self::budget::Budget;

const DEFAULT_TIMEOUT: Duration = Duration::from_millis(50);

/// How long a machine keeps what it took from the store and did not need.
const LEASE_TERM: Duration = Duration::from_secs(1);

/// One or more limits that all machines keep to together. Clones are the same rate.
///
/// It works on a [multiplexed](redis::aio::MultiplexedConnection), a [managed](redis::aio::ConnectionManager) and a
/// [cluster](redis::cluster_async::ClusterConnection) connection. Of these only the latter two connect again when the connection
/// was lost. A manager takes its time for it after some failures, several seconds; give it a `set_max_delay` of half a second or
/// so.
///
/// # When the store does not answer
///
/// A request waits for the store as long as [`timeout`](Self::timeout) at most. The first one that waited in vain, or got an
/// error, is decided by what was chosen ([`OnUnavailable`]), and from then on all others are, at once and without asking.
/// Meanwhile a task tries every 100 ms to write something, and as soon as it can the store decides again. What a hung store
/// finds on its table when it comes back changes nothing: each call says until when somebody waits for it.
///
/// Where it is one key that holds something else than a rate, its requests are decided by what was chosen, and no others.
///
/// # Metrics
///
/// With the feature `metrics`, each labelled `rate="<name>"`:
///
/// | metric | |
/// |---|---|
/// | `backpressure_shared_rate_unavailable` | 1 while the store is lost, else 0 |
/// | `backpressure_shared_rate_decisions_total` | requests decided; also `by` (`store`, `lease`, `policy`, or `burst` for what costs more than the burst) and `decision` (`admitted`, `rejected`) |
///
/// A recorder that is installed after the first decision is noticed within a few dozen, and told of what comes from then on.
#[derive(Clone)]
pub struct SharedRate {
    core: Arc<Core>,
    place: Arc<Place>,
}

/// Where in the store it is counted.
struct Place {
    tag: String,
    keys: OnceLock<Keys>,
    memory: OnceLock<Arc<Memory>>,
}

impl SharedRate {
    /// A rate with one limit, called `name` in the store and in the metrics: machines that give the same name share it.
    ///
    /// # Panics
    ///
    /// If the name is empty or contains `:`, `{` or `}`, or [`OnUnavailable::Local`] has a share that is not above 0 and at most 1.
    #[track_caller]
    pub fn new<C>(connection: C, name: &str, budget: Budget, on_unavailable: OnUnavailable) -> Self
    where
        C: ConnectionLike + Clone + Send + Sync + 'static,
    {
        built(Self::try_new(connection, name, budget, on_unavailable))
    }

    /// Like [`new`](Self::new), for settings that come from a file.
    ///
    /// # Errors
    ///
    /// Where [`new`](Self::new) panics.
    pub fn try_new<C>(
        connection: C,
        name: &str,
        budget: Budget,
        on_unavailable: OnUnavailable,
    ) -> Result<Self, ConfigError>
    where
        C: ConnectionLike + Clone + Send + Sync + 'static,
    {
        on_unavailable.validate()?;
        if name.is_empty() || name.contains([':', '{', '}']) {
            return Err(ConfigError::new(
                "name of a shared rate",
                format!("{name:?}"),
                "not empty and without ':', '{' and '}'",
            ));
        }
        let store = Arc::new(Connected::new(connection));
        Ok(Self {
            core: Arc::new(Core::new(name.to_owned(), store, budget, on_unavailable)),
            place: Place::of(name.to_owned()),
        })
    }

    /// A further limit in the same decision: refused by one, a request spends none.
    ///
    /// # Panics
    ///
    /// If the rate has been cloned or used.
    #[must_use]
    #[track_caller]
    pub fn and(self, budget: Budget) -> Self {
        self.set("and", |core| core.budgets.push(budget))
    }

    /// How long a request waits for the store. Default: 50 ms, which is many round trips within a data centre, and little enough
    /// for a request to lose once. Longer where the store is far away.
    ///
    /// # Panics
    ///
    /// If it is 0, or the rate has been cloned or used.
    #[must_use]
    #[track_caller]
    pub fn timeout(self, timeout: Duration) -> Self {
        built(self.try_timeout(timeout))
    }

    /// Like [`timeout`](Self::timeout), for a time that comes from a file.
    ///
    /// # Errors
    ///
    /// If it is 0.
    ///
    /// # Panics
    ///
    /// If the rate has been cloned or used.
    #[track_caller]
    pub fn try_timeout(self, timeout: Duration) -> Result<Self, ConfigError> {
        if timeout.is_zero() {
            return Err(ConfigError::new(
                "timeout of a shared rate",
                "0 s",
                "longer than 0",
            ));
        }
        Ok(self.set("timeout", |core| core.timeout = timeout))
    }

    /// Takes a slice of each limit at a time, this share of its burst (rounded up), and decides by it without asking the store.
    /// For rates of more than some hundred requests per second on one machine; without it every request is one round trip.
    ///
    /// A slice is held for a second at most. What is not needed by then, or when the last clone is dropped, goes back as far as
    /// time has not given it back already. At the end of a process no runtime may be left to send it; see
    /// [`give_back`](Self::give_back).
    ///
    /// # What it costs
    ///
    /// What one machine holds is missing elsewhere: with `n` machines up to `n` slices. And what was held through a second can be
    /// spent when the store has filled up again: in any interval `n` slices more than the rate allows. So `n` times the share
    /// should be well below 1, and a slice still more than most requests cost: those that cost more ask the store one after the
    /// other, and who is not reached within the timeout is refused. While the limit is reached, a machine does not ask again
    /// before what it lacks can have come back, or a second is over, even if others give something back meanwhile. The decisions
    /// made by a slice know no quota.
    ///
    /// # Panics
    ///
    /// If the share is not above 0 and at most 1, or the rate has been cloned or used.
    #[must_use]
    #[track_caller]
    pub fn lease(self, share: f64) -> Self {
        built(self.try_lease(share))
    }

    /// Like [`lease`](Self::lease), for a share that comes from a file.
    ///
    /// # Errors
    ///
    /// If the share is not above 0 and at most 1.
    ///
    /// # Panics
    ///
    /// If the rate has been cloned or used.
    #[track_caller]
    pub fn try_lease(self, share: f64) -> Result<Self, ConfigError> {
        if !(share > 0.0 && share <= 1.0) {
            return Err(ConfigError::new(
                "leased share of the burst",
                share,
                "above 0 and at most 1",
            ));
        }
        Ok(self.set("lease", |core| core.lease = Some(share)))
    }

    #[track_caller]
    fn set(mut self, setter: &str, change: impl FnOnce(&mut Core)) -> Self {
        match Arc::get_mut(&mut self.core) {
            Some(core) => change(core),
            None => panic!("{setter} must be set before the shared rate is cloned or used"),
        }
        self
    }

    /// The same limits, counted for one key alone: a user, a tenant. It is cheap enough to be made for each request.
    ///
    /// Of keys nothing is remembered on this side, unless there is a lease, or the store does not answer and each machine keeps
    /// to a share by itself: then for 65,536 of them at most, and as long as there is something to remember. Beyond that, further
    /// keys ask the store for each request, or share one share.
    #[must_use]
    pub fn for_key(&self, key: &str) -> Self {
        Self {
            core: Arc::clone(&self.core),
            place: Place::of(format!("{}:{key}", self.core.name)),
        }
    }

    /// Gives back all that was leased and is not spent, for all keys. Ready when the store knows, or after the timeout.
    ///
    /// While the store is lost, what is to go back is kept, and sent if the store is found again within a minute. What was sent and
    /// got no answer is not sent again: in doubt it counts as spent.
    ///
    /// For the end of a process. The rate can still be used afterwards.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future only ends the waiting: everything is on its way from the first poll on.
    pub async fn give_back(&self) {
        let core = &self.core;
        let mut under_way = Vec::new();
        for (tag, memory) in core.memories.all() {
            if let Some(changes) = memory.close(None) {
                under_way.extend(core.settle_later(&core.keys(&tag), changes));
            }
        }
        let all = async {
            for settled in under_way {
                let _ = settled.await;
            }
        };
        let _ = tokio::time::timeout(core.timeout, all).await;
    }

    fn keys(&self) -> &Keys {
        self.place
            .keys
            .get_or_init(|| self.core.keys(&self.place.tag))
    }

    /// What this machine remembers of the key, if there is room.
    fn memory(&self) -> Option<Arc<Memory>> {
        if let Some(memory) = self.place.memory.get() {
            return Some(Arc::clone(memory));
        }
        let now = self.core.clock.now();
        let memory = self.core.memories.of(&self.place.tag, now)?;
        Some(Arc::clone(self.place.memory.get_or_init(|| memory)))
    }
}

impl Place {
    fn of(tag: String) -> Arc<Self> {
        Arc::new(Self {
            tag,
            keys: OnceLock::new(),
            memory: OnceLock::new(),
        })
    }
}

impl RemoteRate for SharedRate {
    fn spend(&self, demand: &Demand) -> Deciding {
        Box::pin(self.clone().decide(*demand))
    }

    fn at_most(&self, demand: &Demand) -> Demand {
        let budgets = self.core.budgets.iter();
        budgets.fold(*demand, |demand, budget| budget.at_most(demand))
    }
}

impl fmt::Debug for SharedRate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SharedRate")
            .field("tag", &self.place.tag)
            .field("budgets", &self.core.budgets)
            .field("on_unavailable", &self.core.on_unavailable)
            .field("timeout", &self.core.timeout)
            .field("lease", &self.core.lease)
            .field("unavailable", &self.core.health.is_down())
            .finish_non_exhaustive()
    }
}
