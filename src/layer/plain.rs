//! The setters of the layer for any `Service + Clone`.

use std::{hash::Hash, sync::Arc};

use super::BackpressureLayer;
use crate::{
    keyed::Keyed,
    limit::Outcome,
    protocol::{self, Plain},
};

impl<P> BackpressureLayer<Plain<P>> {
    /// Lets requests for which `exempt` holds pass by the gate: they need no slot and are not counted. Of several closures
    /// it is enough that one holds.
    #[must_use]
    pub fn exempt<F, Req>(self, exempt: F) -> BackpressureLayer<Plain<protocol::Exempt<P, F>>>
    where
        F: Fn(&Req) -> bool,
    {
        self.with_protocol(|plain| plain.exempt(exempt))
    }

    /// What a request takes from a rate. Default: 1. The last closure set counts.
    ///
    /// It is an estimate; [`settle`](Self::settle) says what it turned out to be.
    #[must_use]
    pub fn cost<F, Req>(self, cost: F) -> BackpressureLayer<Plain<protocol::Cost<P, F>>>
    where
        F: Fn(&Req) -> u64,
    {
        self.with_protocol(|plain| plain.cost(cost))
    }

    /// What a request really cost, as its answer tells; `None` where it does not, and what was charged stays. Only for requests
    /// that have a [`cost`](Self::cost). What is missing is owed, what was too much is given back.
    ///
    /// ```
    /// use tower_backpressure::{BackpressureLayer, rate::TokenBucket};
    ///
    /// let layer = BackpressureLayer::rate(TokenBucket::per_minute(60_000).burst(10_000))
    ///     .plain()
    ///     .cost(|prompt: &String| prompt.len() as u64 / 4 + 1000)
    ///     .settle(|answer: &Result<(String, u64), std::io::Error>| answer.as_ref().ok().map(|(_, tokens)| *tokens));
    /// # let _ = layer;
    /// ```
    #[must_use]
    pub fn settle<F, Res, E>(self, settle: F) -> BackpressureLayer<Plain<protocol::Settle<P, F>>>
    where
        F: Fn(&Result<Res, E>) -> Option<u64>,
    {
        self.with_protocol(|plain| plain.settle(settle))
    }

    /// A gate for each key, such as a tenant, a device or a shard; the gate of this layer is the ceiling over all of them. `make`
    /// makes the limit of a key's gate, by any strategy and with any setter of a gate. The last closures set count.
    ///
    /// What is said of `per_key` over HTTP holds here too: both have to let a request in, and refused by either it spends nothing
    /// of the other; [`handle`](Self::handle) and the metrics show the sum, [`Handle::key`](crate::Handle::key) one key;
    /// [`max_keys`](Self::max_keys) gates are held, and none is forgotten that has somebody in flight or waiting, or whose rates
    /// owe anything.
    ///
    /// ```
    /// use tower_backpressure::{BackpressureLayer, rate::TokenBucket};
    ///
    /// struct Query {
    ///     shard: u16,
    /// }
    ///
    /// // Each shard 10 queries a second, and never more than 500 at once of all.
    /// let layer = BackpressureLayer::drop_newest(500).plain().per_key(
    ///     |query: &Query| query.shard,
    ///     |_shard| BackpressureLayer::rate(TokenBucket::per_second(10)),
    /// );
    /// # let _ = layer;
    /// ```
    ///
    /// # Panics
    ///
    /// If the gate is shared already; in `layer`, if this layer has requests wait (`block`, `drop_oldest`, `wait`) or a shared rate,
    /// which a ceiling cannot. In a call, if `key` or `make` panics, or `make` gives a layer whose gate is shared. Nothing is
    /// lost by that, and the next request tries again.
    #[track_caller]
    #[must_use]
    pub fn per_key<K, F, M, Req>(
        mut self,
        key: F,
        make: M,
    ) -> BackpressureLayer<Plain<protocol::PerKey<P, F, K>>>
    where
        K: Hash + Eq + Send + Sync + 'static,
        F: Fn(&Req) -> K,
        M: Fn(&K) -> BackpressureLayer + Send + Sync + 'static,
    {
        let gates = Arc::new(Keyed::new(make));
        self.gate_mut("per_key").set_keys(&gates);
        self.with_protocol(|plain| plain.per_key(key, gates))
    }

    /// Says how a request went. Default: `Err` is overload, `Ok` is success. The last closure set counts.
    #[must_use]
    pub fn classify<F, Res, E>(
        self,
        classify: F,
    ) -> BackpressureLayer<Plain<protocol::Classify<P, F>>>
    where
        F: Fn(&Result<Res, E>) -> Outcome,
    {
        self.with_protocol(|plain| plain.classify(classify))
    }
}

#[cfg(not(feature = "http"))]
impl BackpressureLayer {
    /// The layer for any `Service + Clone`, with the error [`Error`](crate::Error).
    #[must_use]
    pub fn plain(self) -> BackpressureLayer<Plain> {
        self.with_protocol(|_| Plain::default())
    }
}
