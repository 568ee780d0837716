#[cfg(feature = "http")]
mod http;
mod plain;
mod strategies;

use std::{sync::Arc, time::Duration};

use tower_layer::Layer;

use crate::{
    Backpressure, Handle,
    config::{at_least_one, built},
    gate::{Gate, Holder, Name},
    protocol,
    rate::{Rate, RemoteRate},
    strategy::Strategy,
};

/// How many keys are held, unless `.max_keys(n)` says otherwise.
const MAX_KEYS: usize = 10_000;

/// How many may wait under `block`, unless `.max_waiting(n)` says otherwise.
const MAX_WAITING: usize = 1024;

/// Keeps the service behind it from being asked for more than it can do.
///
/// The layer owns the gate: every service that it makes, every clone of those, and every clone of the layer shares one
/// limit. Frameworks call `layer` as often as they like (axum does so for each route, and for each connection).
///
/// | | how many may run | what when it is full |
/// |---|---|---|
/// | [`block`](Self::block) | a fixed limit | the caller waits: `poll_ready` is pending |
/// | [`drop_newest`](Self::drop_newest) | a fixed limit | the arriving request is refused at once |
/// | [`drop_oldest`](Self::drop_oldest) | a fixed limit | it waits; if too many do, the longest waiter is refused |
/// | [`adaptive`](Self::adaptive) | a limit that finds itself | the arriving request is refused at once |
/// | [`rate`](Self::rate) | so many start per time | the arriving request is refused at once, or [waits](Self::wait) |
/// | `shared_rate` | so many start per time, on all machines together | likewise |
///
/// # Setters
///
/// They come in any order, but `.plain()` before any closure, and the first nine before the gate is shared by `.handle()`,
/// `.clone()` or `.layer()`. The others belong to the one layer that they are called on: two clones with different
/// closures share one limit.
///
/// | setter | default | meaning |
/// |---|---|---|
/// | [`named`](Self::named) | the strategy's name | the label `gate` in metrics and events |
/// | [`and_rate`](Self::and_rate) | none | a further limit in the same decision |
/// | `and_shared_rate` | none | likewise, counted for many machines |
/// | `per_key` | off | a gate for each key, under this one |
/// | [`max_waiting`](Self::max_waiting) | 1024 for `block`, 0 for `drop_newest`, `adaptive`, `rate` and `shared_rate` | how many may wait |
/// | [`wait`](Self::wait) | off | `max_waiting(1024)` |
/// | [`max_keys`](Self::max_keys) | 10 000 | how many keys have a gate of their own |
/// | [`max_wait`](Self::max_wait) | none | how long one may wait |
/// | [`shadow`](Self::shadow) | off | decide and record, refuse nobody |
/// | `release_at` | `BodyEnd` | when the slot comes back |
/// | `sample_at` | `Auto` | when the latency is measured |
/// | `cost` | 1 | what a request takes from a rate |
/// | `settle` | the cost | what it turned out to take, after `.plain()` |
/// | `exempt` | nobody | requests that are none of the gate's business |
/// | `classify` | by status | how a request went |
/// | `respond` | 503 or 429, or gRPC's status | the refusal |
/// | `rate_headers` | none | what responses say of the rates |
#[derive(Clone, Debug)]
pub struct BackpressureLayer<P = protocol::Default> {
    gate: Holder,
    protocol: P,
}

impl<P> BackpressureLayer<P> {
    /// The name of the gate: the value of the label `gate` in metrics. Default: the strategy's name and, from the second
    /// gate of that strategy on, its number, in the order in which layers are first applied or asked for a handle.
    ///
    /// # Panics
    ///
    /// If the gate is shared already.
    #[track_caller]
    #[must_use]
    pub fn named(mut self, name: impl Into<String>) -> Self {
        self.gate_mut("named").settings_mut().name = Name::given(name.into());
        self
    }

    /// One more rate that a request has to find room in, beside the limit or the rates that there are. They decide together:
    /// a request that one of them refuses takes nothing of the others.
    ///
    /// ```
    /// use tower_backpressure::{BackpressureLayer, rate::{Requests, TokenBucket}};
    ///
    /// // What an LLM provider allows: 20 at once, 500 requests a minute, 200 000 tokens a minute.
    /// let layer = BackpressureLayer::drop_newest(20)
    ///     .and_rate(Requests::new(TokenBucket::per_minute(500)))
    ///     .and_rate(TokenBucket::per_minute(200_000).burst(20_000))
    ///     .cost(|head| match head.headers.get("x-prompt-tokens") {
    ///         Some(tokens) => tokens.to_str().ok().and_then(|n| n.parse().ok()).unwrap_or(1000),
    ///         None => 1000,
    ///     });
    /// # let _ = layer;
    /// ```
    ///
    /// # Panics
    ///
    /// If the rate's settings contradict each other, or the gate is shared already.
    #[track_caller]
    #[must_use]
    pub fn and_rate(mut self, rate: impl Rate) -> Self {
        built(self.gate_mut("and_rate").add_rate(Box::new(rate)));
        self
    }

    /// A rate shared with other machines, beside the limit and the rates that there are: see
    /// [`shared_rate`](Self::shared_rate). There is one at most; the last one counts. It can itself have several limits.
    ///
    /// # Panics
    ///
    /// If the gate is shared already.
    #[track_caller]
    #[must_use]
    pub fn and_shared_rate(mut self, rate: impl RemoteRate) -> Self {
        self.gate_mut("and_shared_rate").settings_mut().remote = Some(Arc::new(rate));
        self
    }

    /// Requests over the limit or the rate wait for their turn instead of being refused, first come first served: a rate
    /// then paces them. Short for `.max_waiting(1024)` where nobody may wait otherwise.
    ///
    /// [`max_waiting`](Self::max_waiting) and [`max_wait`](Self::max_wait) bound the waiting; whoever is beyond them is refused.
    /// One that leaves while it waits gives its place, and what it would have spent, to those behind it. The pace is kept
    /// by tokio's timer, to the millisecond; requests that it was late for follow at once, up to 5 ms worth of them. Without
    /// a tokio runtime with its time enabled nobody tells a waiter that its time has come.
    ///
    /// # Panics
    ///
    /// If the gate is shared already.
    #[track_caller]
    #[must_use]
    pub fn wait(self) -> Self {
        match self.gate.settings().rules.max_waiting {
            0 => self.max_waiting(MAX_WAITING),
            _ => self,
        }
    }

    /// How many may wait for a slot. Default: 1024 for `block`, 0 for `drop_newest`, `adaptive`, `rate` and
    /// `shared_rate`, as told for `drop_oldest`.
    ///
    /// Each waiting request costs some 200 bytes here, and whatever the request itself holds. Where waiting is worth it
    /// at all, allow as many as the service works off in the time that callers are willing to wait. With 0, `block`
    /// refuses at once, as `drop_newest` does.
    ///
    /// # Panics
    ///
    /// If the gate is shared already, or if it is 0 under `drop_oldest`.
    #[track_caller]
    #[must_use]
    pub fn max_waiting(mut self, max_waiting: usize) -> Self {
        let gate = self.gate_mut("max_waiting");
        if gate.settings().rules.strategy == Strategy::DropOldest {
            built(at_least_one("max_waiting", max_waiting));
        }
        gate.settings_mut().rules.max_waiting = max_waiting;
        gate.apply_rules();
        self
    }

    /// How long a request may wait for a slot; then it is refused. Default: as long as its caller does, which is longer than
    /// it should be where the server does not see that a caller has left: hyper does not, over HTTP/1, while the rest of a
    /// body is unread. Set it to what callers are willing to wait.
    ///
    /// Measured to the millisecond by tokio's timer. Where the service is driven without a tokio runtime, or by one whose
    /// time is not enabled (tokio then reports one panic of a background task), a waiter finds out only when it is polled.
    ///
    /// # Panics
    ///
    /// If the gate is shared already.
    #[track_caller]
    #[must_use]
    pub fn max_wait(mut self, max_wait: Duration) -> Self {
        let gate = self.gate_mut("max_wait");
        gate.settings_mut().rules.max_wait = Some(max_wait);
        gate.apply_rules();
        self
    }

    /// Decides and records, but refuses nobody and has nobody wait: what the layer would do can be seen in the metrics
    /// before it does it. A request over the limit is counted as rejected and let in; where it would have waited it is
    /// counted all the same. A gate that drains lets everybody in as well, and its drain may then not end.
    ///
    /// # Panics
    ///
    /// If the gate is shared already.
    #[track_caller]
    #[must_use]
    pub fn shadow(mut self) -> Self {
        self.gate_mut("shadow").settings_mut().shadow = true;
        self
    }

    /// A handle on the gate, which is shared from now on.
    pub fn handle(&self) -> Handle {
        self.gate.settings().name.settle();
        Handle::new(self.gate.clone())
    }

    /// For how many keys of `.per_key(..)` a gate is held at most. Default: 10 000. Each takes some 1.4 kB, one with an adaptive
    /// limit 5 kB more, beside the key itself. Without effect where there are no keys.
    ///
    /// # Panics
    ///
    /// If it is 0, or the gate is shared already.
    #[track_caller]
    #[must_use]
    pub fn max_keys(mut self, max_keys: usize) -> Self {
        let max_keys = built(at_least_one("max_keys", max_keys));
        self.gate_mut("max_keys").settings_mut().max_keys = max_keys;
        self
    }

    /// The gate for a key of the one above.
    pub(crate) fn into_key_gate(self, above: &Holder) -> Holder {
        let mut layer = self;
        layer.gate_mut("per_key").put_under(above);
        layer.gate
    }

    fn with_protocol<Q>(self, f: impl FnOnce(P) -> Q) -> BackpressureLayer<Q> {
        BackpressureLayer {
            gate: self.gate,
            protocol: f(self.protocol),
        }
    }

    #[track_caller]
    fn gate_mut(&mut self, setter: &str) -> &mut Gate {
        match self.gate.get_mut() {
            Some(gate) => gate,
            None => panic!(
                "`{setter}` was called after the gate had been shared; call it before `handle`, `clone` and `layer`"
            ),
        }
    }
}

impl<S, P: protocol::Sees + Clone> Layer<S> for BackpressureLayer<P> {
    type Service = Backpressure<S, P>;

    fn layer(&self, inner: S) -> Self::Service {
        self.gate.settings().name.settle();
        Backpressure::new(inner, self.gate.clone(), self.protocol.clone())
    }
}
