//! How a layer is made: one function for each strategy.

use super::{BackpressureLayer, MAX_KEYS, MAX_WAITING};
use crate::{
    ConfigError,
    admission::Rules,
    config::{at_least_one, built},
    gate::{Gate, Holder, Learner, Name, Settings},
    limit::{Limit, MAX_LIMIT},
    protocol,
    rate::{Rate, RemoteRate},
    strategy::Strategy,
};

impl BackpressureLayer {
    /// At most `limit` requests run at once; further callers wait, first come first served.
    ///
    /// Waiting is in `poll_ready`, before there is a request, so that a balancer in front can turn to another instance
    /// and a server that asks for readiness slows down. At most [`max_waiting`](Self::max_waiting) wait, each for at
    /// most [`max_wait`](Self::max_wait); beyond either `poll_ready` turns ready and the call that follows is refused.
    ///
    /// An instance that waits and is then left alone holds nothing: the slot that it was woken for stays free for
    /// whoever polls first, and if nobody does within a millisecond the next is woken. Order holds among those that
    /// poll; a waiter that is quick to come and still finds the slot taken is kept the next one. An instance that turned
    /// ready keeps its slot until it is called or dropped, as `Service` demands: whoever readies instances in advance
    /// needs a limit above the number of those. Where requests must be seen before they can be made to wait (`exempt`,
    /// `cost`, `per_key`), or there is a rate beside the limit, they wait in the call, strictly in order.
    ///
    /// # Panics
    ///
    /// If `limit` is 0.
    #[track_caller]
    pub fn block(limit: usize) -> Self {
        built(Self::try_block(limit))
    }

    /// Like [`block`](Self::block), for numbers that come from a file.
    ///
    /// # Errors
    ///
    /// If `limit` is 0.
    pub fn try_block(limit: usize) -> Result<Self, ConfigError> {
        Self::fixed(limit, Strategy::Block, MAX_WAITING)
    }

    /// At most `limit` requests run at once; the next one is refused at once.
    ///
    /// # Panics
    ///
    /// If `limit` is 0.
    #[track_caller]
    pub fn drop_newest(limit: usize) -> Self {
        built(Self::try_drop_newest(limit))
    }

    /// Like [`drop_newest`](Self::drop_newest), for numbers that come from a file.
    ///
    /// # Errors
    ///
    /// If `limit` is 0.
    pub fn try_drop_newest(limit: usize) -> Result<Self, ConfigError> {
        Self::fixed(limit, Strategy::DropNewest, 0)
    }

    /// At most `limit` requests run at once and `waiting` wait; when one more comes, the one that has waited longest is
    /// refused at once and the new one waits.
    ///
    /// Under a long overload the queue is full of requests whose callers are about to give up; answering the newest
    /// first of all keeps what is answered useful.
    ///
    /// # Panics
    ///
    /// If `limit` or `waiting` is 0. With nobody waiting there is nobody to refuse but the arrival: that is
    /// [`drop_newest`](Self::drop_newest).
    #[track_caller]
    pub fn drop_oldest(limit: usize, waiting: usize) -> Self {
        built(Self::try_drop_oldest(limit, waiting))
    }

    /// Like [`drop_oldest`](Self::drop_oldest), for numbers that come from a file.
    ///
    /// # Errors
    ///
    /// If `limit` or `waiting` is 0.
    pub fn try_drop_oldest(limit: usize, waiting: usize) -> Result<Self, ConfigError> {
        let waiting = at_least_one("waiting", waiting)?;
        Self::fixed(limit, Strategy::DropOldest, waiting)
    }

    /// As many requests run at once as `limit` finds out the service can take; the next one is refused at once.
    ///
    /// `Aimd::default()` needs no tuning. Put the layer *inside* retries, so that it sees each attempt: outside, it
    /// takes the time between attempts for latency.
    ///
    /// # Panics
    ///
    /// If the limit's settings contradict each other.
    ///
    /// # Examples
    ///
    /// ```
    /// use tower_backpressure::{BackpressureLayer, limit::Aimd};
    ///
    /// let layer = BackpressureLayer::adaptive(Aimd::default()).named("chat");
    /// # let _ = layer;
    /// ```
    #[track_caller]
    pub fn adaptive(limit: impl Limit) -> Self {
        built(Self::try_adaptive(limit))
    }

    /// Like [`adaptive`](Self::adaptive), for settings that come from a file.
    ///
    /// # Errors
    ///
    /// If the limit's settings contradict each other.
    pub fn try_adaptive(limit: impl Limit) -> Result<Self, ConfigError> {
        limit.validate()?;
        let start = at_least_one("limit", limit.limit())?.min(MAX_LIMIT);
        let learner = Some(Learner::new(limit));
        Ok(Self::new(
            start,
            "adaptive",
            Strategy::DropNewest,
            0,
            learner,
        ))
    }

    /// As many requests start per time as `rate` lets in; the next one is refused with the time after which there is room.
    ///
    /// Over HTTP that is a 429 with the exact `Retry-After`, rounded up; for a gRPC call `RESOURCE_EXHAUSTED`. A request that asks
    /// for more than can ever be spent at once is refused for good, and told so. With [`wait`](Self::wait) requests are paced
    /// instead.
    ///
    /// How many run at once is not limited. For both, begin with the limit: `BackpressureLayer::drop_newest(50).and_rate(rate)`.
    ///
    /// # Panics
    ///
    /// If the rate's settings contradict each other.
    ///
    /// # Examples
    ///
    /// ```
    /// use std::time::Duration;
    /// use tower_backpressure::{BackpressureLayer, rate::{SlidingWindow, TokenBucket}};
    ///
    /// let layer = BackpressureLayer::rate(TokenBucket::per_second(50).burst(100));
    /// let layer = BackpressureLayer::rate(SlidingWindow::new(500, Duration::from_secs(10)));
    /// # let _ = layer;
    /// ```
    #[track_caller]
    pub fn rate(rate: impl Rate) -> Self {
        built(Self::try_rate(rate))
    }

    /// Like [`rate`](Self::rate), for settings that come from a file.
    ///
    /// # Errors
    ///
    /// If the rate's settings contradict each other.
    pub fn try_rate(rate: impl Rate) -> Result<Self, ConfigError> {
        let mut layer = Self::new(MAX_LIMIT, "rate", Strategy::DropNewest, 0, None);
        layer.gate_mut("rate").add_rate(Box::new(rate))?;
        Ok(layer)
    }

    /// As many requests start per time as a rate lets in that is shared with other machines, such as
    /// `redis::SharedRate`; the next one is refused as by [`rate`](Self::rate).
    ///
    /// It is asked for each request once all that is here has room, and what was taken here goes back if it refuses. The call waits
    /// for the answer, which takes as long as the shared rate says and no longer. With [`wait`](Self::wait) a local rate or limit
    /// beside it still paces; over the shared one requests are refused in any case.
    pub fn shared_rate(rate: impl RemoteRate) -> Self {
        Self::new(MAX_LIMIT, "shared_rate", Strategy::DropNewest, 0, None).and_shared_rate(rate)
    }

    fn fixed(limit: usize, strategy: Strategy, max_waiting: usize) -> Result<Self, ConfigError> {
        let limit = at_least_one("limit", limit)?.min(MAX_LIMIT);
        Ok(Self::new(
            limit,
            strategy.as_str(),
            strategy,
            max_waiting,
            None,
        ))
    }

    fn new(
        limit: usize,
        name: &'static str,
        strategy: Strategy,
        max_waiting: usize,
        learner: Option<Learner>,
    ) -> Self {
        let settings = Settings {
            name: Name::of(name),
            shadow: false,
            max_keys: MAX_KEYS,
            rules: Rules {
                strategy,
                max_waiting,
                max_wait: None,
            },
            remote: None,
        };
        Self {
            gate: Holder::new(Gate::new(limit, settings, learner)),
            #[cfg(feature = "http")]
            protocol: protocol::Default::default(),
            #[cfg(not(feature = "http"))]
            protocol: protocol::NoHttp,
        }
    }
}
