//! The setters of a layer that speaks HTTP and gRPC.

use std::{hash::Hash, sync::Arc};

use bytes::Bytes;
use http::{Response, request, response};

use super::BackpressureLayer;
#[cfg(feature = "llm")]
use crate::{Demand, gate::Gate};
use crate::{
    RateHeaders, Rejected,
    keyed::Keyed,
    limit::Outcome,
    protocol::{Http, Plain, ReleaseAt, SampleAt},
};

impl BackpressureLayer<Http> {
    /// The layer for any `Service + Clone`, with the error [`Error`](crate::Error). Not for axum and tonic, which take no
    /// errors; `release_at` and `sample_at` mean nothing to it.
    ///
    /// # Panics
    ///
    /// If a closure or `rate_headers` was set before: they are HTTP's.
    #[track_caller]
    #[must_use]
    pub fn plain(self) -> BackpressureLayer<Plain> {
        assert!(
            !self.protocol.has_closures(),
            "`plain` was called after a closure had been set; call it first"
        );
        self.with_protocol(|_| Plain::default())
    }

    /// When the slot comes back. Default: [`ReleaseAt::BodyEnd`].
    #[must_use]
    pub fn release_at(mut self, release_at: ReleaseAt) -> Self {
        self.protocol.release_at = release_at;
        self
    }

    /// When the latency is measured. Default: [`SampleAt::Auto`].
    #[must_use]
    pub fn sample_at(mut self, sample_at: SampleAt) -> Self {
        self.protocol.sample_at = sample_at;
        self
    }

    /// Lets requests for which `exempt` holds pass by the gate, such as health probes: they need no slot, are not
    /// counted, and pass while the gate drains. Of several closures it is enough that one holds.
    ///
    /// ```
    /// use tower_backpressure::BackpressureLayer;
    ///
    /// let layer = BackpressureLayer::drop_newest(100).exempt(|head| head.uri.path() == "/healthz");
    /// # let _ = layer;
    /// ```
    #[must_use]
    pub fn exempt<F>(mut self, exempt: F) -> Self
    where
        F: Fn(&request::Parts) -> bool + Send + Sync + 'static,
    {
        self.protocol.exempt(exempt);
        self
    }

    /// What a request takes from a rate. Default: 1. It sees the head; what only the body tells comes as a
    /// [`Demand`](crate::Demand) in the request's extensions, which has the last word.
    ///
    /// It is an estimate. What the request really cost is said with the [`Charge`](crate::Charge) that the layer puts into the
    /// extensions of the request; the rates are settled when the response ends. What was taken for a request that never
    /// reached the service is given back.
    ///
    /// ```
    /// use tower_backpressure::{BackpressureLayer, rate::TokenBucket};
    ///
    /// let layer = BackpressureLayer::rate(TokenBucket::per_second(100).burst(500))
    ///     .cost(|head| if head.uri.path().starts_with("/search") { 10 } else { 1 });
    /// # let _ = layer;
    /// ```
    #[must_use]
    pub fn cost<F>(mut self, cost: F) -> Self
    where
        F: Fn(&request::Parts) -> u64 + Send + Sync + 'static,
    {
        self.protocol.cost(cost);
        self
    }

    /// A gate for each key, such as a tenant, an address or a token: what one key asks for disturbs no other. `make` makes the
    /// limit of a key's gate, by any strategy and with any setter of a gate; what it says of names and of HTTP is not looked at.
    ///
    /// The gate of this layer is the ceiling over all keys: a request is let in when its key and the ceiling let it in, and refused
    /// by either it spends nothing of the other. The ceiling is asked last, when the call is about to begin, and has nobody wait.
    /// [`handle`](Self::handle) and the metrics show the sum of all keys, and [`Handle::key`](crate::Handle::key) one of them; no
    /// metric has a label for the key, and limits and rates of single keys are not reported.
    ///
    /// Gates are held for [`max_keys`](Self::max_keys) keys. For more, those are forgotten that have nobody in flight or waiting
    /// and whose rates owe nothing and are full again, so that nobody gains by being forgotten; an adaptive limit begins anew. Of
    /// 16 keys that are looked at in turn one usually is such a key. If none is, the newcomers share one more gate, made for the
    /// first of them, until there is a place.
    ///
    /// ```
    /// use tower_backpressure::{BackpressureLayer, rate::TokenBucket};
    ///
    /// // Each tenant 10 requests a second, and never more than 500 at once of all.
    /// let layer = BackpressureLayer::drop_newest(500).per_key(
    ///     |head| head.headers.get("x-tenant").cloned(),
    ///     |_tenant| BackpressureLayer::rate(TokenBucket::per_second(10)),
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
    pub fn per_key<K, F, M>(mut self, key: F, make: M) -> Self
    where
        K: Hash + Eq + Send + Sync + 'static,
        F: Fn(&request::Parts) -> K + Send + Sync + 'static,
        M: Fn(&K) -> BackpressureLayer + Send + Sync + 'static,
    {
        let keyed = Arc::new(Keyed::new(make));
        self.gate_mut("per_key").set_keys(&keyed);
        self.protocol
            .keyed(move |head, above| keyed.gate(key(head), above));
        self
    }

    /// What a request asks for at a gate, as an outer layer knows it. `None` leaves it to [`cost`](Self::cost).
    #[cfg(feature = "llm")]
    pub(crate) fn demands<F>(mut self, demands: F) -> Self
    where
        F: Fn(&request::Parts, &Gate) -> Option<Demand> + Send + Sync + 'static,
    {
        self.protocol.demands(demands);
        self
    }

    /// Tells clients with each response how much is left of the rates, in headers of this kind. Default: none. May be called
    /// once for each kind. Exempt requests are not told.
    ///
    /// ```
    /// use tower_backpressure::{BackpressureLayer, RateHeaders, rate::TokenBucket};
    ///
    /// let layer = BackpressureLayer::rate(TokenBucket::per_second(50).burst(100))
    ///     .rate_headers(RateHeaders::RateLimit);
    /// # let _ = layer;
    /// ```
    #[must_use]
    pub fn rate_headers(mut self, kind: RateHeaders) -> Self {
        self.protocol.rate_headers(kind);
        self
    }

    /// Says how a request went, by the head of its response. Default: 429, 503, 504, 529 and gRPC's
    /// `DEADLINE_EXCEEDED`, `RESOURCE_EXHAUSTED` and `UNAVAILABLE` are overload, as is an error of the service;
    /// other statuses from 400 on and other gRPC errors are ignored. With a closure, trailers are not read.
    ///
    /// ```
    /// use http::StatusCode;
    /// use tower_backpressure::{BackpressureLayer, limit::{Aimd, Outcome}};
    ///
    /// // This upstream says 500 when its database is overloaded.
    /// let layer = BackpressureLayer::adaptive(Aimd::default()).classify(|head| match head.status {
    ///     StatusCode::INTERNAL_SERVER_ERROR => Outcome::Overload,
    ///     status if status.is_success() => Outcome::Success,
    ///     _ => Outcome::Ignore,
    /// });
    /// # let _ = layer;
    /// ```
    #[must_use]
    pub fn classify<F>(mut self, classify: F) -> Self
    where
        F: Fn(&response::Parts) -> Outcome + Send + Sync + 'static,
    {
        self.protocol.classify(classify);
        self
    }

    /// Makes the answer to an HTTP request that is refused. A gRPC call is refused in gRPC's words all the same, since
    /// its client understands no others. The response gets the [`Rejected`] as an extension in any case.
    ///
    /// ```
    /// use http::{Response, StatusCode};
    /// use tower_backpressure::BackpressureLayer;
    ///
    /// let layer = BackpressureLayer::drop_newest(100).respond(|_request, rejected| {
    ///     let seconds = rejected.retry_after().as_secs() + 1;
    ///     Response::builder()
    ///         .status(StatusCode::TOO_MANY_REQUESTS)
    ///         .header("retry-after", seconds)
    ///         .body("come back later".into())
    ///         .expect("a valid response")
    /// });
    /// # let _ = layer;
    /// ```
    #[must_use]
    pub fn respond<F>(mut self, respond: F) -> Self
    where
        F: Fn(&request::Parts, &Rejected) -> Response<Bytes> + Send + Sync + 'static,
    {
        self.protocol.respond(respond);
        self
    }
}
