use std::{collections::BTreeMap, fmt, sync::Arc, time::Duration};

use super::{
    AdaptiveRateController, BoundedStream,
    channel::{Channel, Weigh},
    ring::Bounds,
};
use crate::{
    BackpressureMetrics, BackpressureStrategy, ConfigError,
    config::{at_least_one, built},
    gate::clock::Clock,
    sync::{Mutex, lock},
};

/// Makes bounded streams of one kind, and sums up their numbers.
///
/// Each stream has a bound, and under `Adaptive` a rate, of its own. Clones make streams of the same kind and share the
/// numbers.
///
/// # Examples
///
/// ```
/// use std::time::Duration;
/// use tower_backpressure::{BackpressureController, BackpressureStrategy};
///
/// let controller = BackpressureController::builder(100, BackpressureStrategy::DropOldest)
///     .named("prices")
///     .time_to_live(Duration::from_secs(2))
///     .build();
/// let stream = controller.create_stream();
/// stream.sender().try_send(17.4)?;
/// assert_eq!(controller.metrics().current_depth, 1);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
pub struct BackpressureController {
    bounds: Bounds,
    rate: Option<AdaptiveRateController>,
    registry: Arc<Registry>,
}

impl BackpressureController {
    /// Streams that hold up to `capacity` items, and what happens when one is full.
    ///
    /// # Panics
    ///
    /// If `capacity` is 0.
    #[track_caller]
    pub fn new(capacity: usize, strategy: BackpressureStrategy) -> Self {
        built(Self::try_new(capacity, strategy))
    }

    /// Like [`new`](Self::new), for numbers that come from a file.
    ///
    /// # Errors
    ///
    /// If `capacity` is 0.
    pub fn try_new(capacity: usize, strategy: BackpressureStrategy) -> Result<Self, ConfigError> {
        Self::builder(capacity, strategy).try_build()
    }

    /// Streams that hold the latest item only: a new one takes its place. For a state that is shown, such as a price or a
    /// progress, where a reader that was slow wants to see how it is and not how it was.
    ///
    /// The same as `new(1, BackpressureStrategy::DropOldest)`.
    pub fn latest() -> Self {
        Self::new(1, BackpressureStrategy::DropOldest)
    }

    /// With more to choose.
    pub fn builder(capacity: usize, strategy: BackpressureStrategy) -> Builder {
        Builder {
            name: None,
            capacity,
            strategy,
            time_to_live: None,
            rate: None,
        }
    }

    /// A new stream, empty and without senders.
    pub fn create_stream<T: Send + 'static>(&self) -> BoundedStream<T> {
        self.create(None, None)
    }

    /// A new stream that is full when it holds `capacity` items, or items that together weigh `max_weight`: bytes, say. An
    /// item that weighs more than that by itself is refused, with [`TooHeavy`](super::SendErrorKind::TooHeavy). Under `Block`
    /// a heavy item that waits for room is not overtaken by light ones.
    ///
    /// `weigh` is called once for each item, by the thread that sends it. It may well give 0.
    ///
    /// # Panics
    ///
    /// If `max_weight` is 0.
    ///
    /// # Examples
    ///
    /// ```
    /// use tower_backpressure::{BackpressureController, BackpressureStrategy};
    ///
    /// let controller = BackpressureController::new(1000, BackpressureStrategy::DropOldest);
    /// let stream = controller.create_weighted_stream(10, |word: &&str| word.len());
    /// let sender = stream.sender();
    /// sender.try_send("six by")?;
    /// let displaced = sender.try_send("seven")?;
    /// assert_eq!(displaced.into_iter().next(), Some("six by"));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[track_caller]
    pub fn create_weighted_stream<T: Send + 'static>(
        &self,
        max_weight: usize,
        weigh: impl Fn(&T) -> usize + Send + Sync + 'static,
    ) -> BoundedStream<T> {
        built(self.try_create_weighted_stream(max_weight, weigh))
    }

    /// Like [`create_weighted_stream`](Self::create_weighted_stream), for numbers that come from a file.
    ///
    /// # Errors
    ///
    /// If `max_weight` is 0.
    pub fn try_create_weighted_stream<T: Send + 'static>(
        &self,
        max_weight: usize,
        weigh: impl Fn(&T) -> usize + Send + Sync + 'static,
    ) -> Result<BoundedStream<T>, ConfigError> {
        let max_weight = at_least_one("max_weight", max_weight)?;
        Ok(self.create(Some(max_weight), Some(Box::new(weigh))))
    }

    /// The sum over all streams that were made, those that are gone included: exact at the moment at which each stream is
    /// read. `peak_depth` is that of the stream that was deepest; `throughput_rate` and `current_rate_limit` are sums over
    /// the streams that are still there.
    pub fn metrics(&self) -> BackpressureMetrics {
        let mut sum = self.registry.metrics();
        if sum.current_rate_limit == 0.0 && self.registry.is_empty() {
            sum.current_rate_limit = match &self.rate {
                Some(rate) => rate.per_second(),
                None => f64::INFINITY,
            };
        }
        sum
    }

    /// The value of the label `stream` in metrics.
    pub fn name(&self) -> &str {
        self.registry.name()
    }

    /// How many items each stream holds at most.
    pub fn capacity(&self) -> usize {
        self.bounds.capacity
    }

    /// What happens when a stream is full.
    pub fn strategy(&self) -> BackpressureStrategy {
        self.bounds.strategy
    }

    fn create<T: Send + 'static>(
        &self,
        max_weight: Option<usize>,
        weigh: Option<Weigh<T>>,
    ) -> BoundedStream<T> {
        let bounds = Bounds {
            max_weight,
            ..self.bounds
        };
        let registry = Arc::clone(&self.registry);
        let pacer = self.rate.as_ref().map(AdaptiveRateController::pacer);
        let channel = self
            .registry
            .register(|id| Arc::new(Channel::new(bounds, weigh, pacer, registry, id)));
        BoundedStream::new(channel)
    }
}

/// A [`BackpressureController`] in the making, from [`BackpressureController::builder`].
#[derive(Clone, Debug)]
#[must_use]
pub struct Builder {
    name: Option<String>,
    capacity: usize,
    strategy: BackpressureStrategy,
    time_to_live: Option<Duration>,
    rate: Option<AdaptiveRateController>,
}

impl Builder {
    /// The value of the label `stream` in metrics. Default: the strategy's name. Controllers of one name are added up there.
    pub fn named(mut self, name: impl Into<String>) -> Self {
        self.name = Some(name.into());
        self
    }

    /// How long an item may wait to be read; then it is dropped, and counted as that. Default: for ever.
    ///
    /// It is found out when the stream is used: when something is sent or received, or waits to be sent.
    pub fn time_to_live(mut self, time_to_live: Duration) -> Self {
        self.time_to_live = Some(time_to_live);
        self
    }

    /// The rate that senders keep to, under `Adaptive`. Default: [`AdaptiveRateController::default`]. One that adapts does so
    /// for each stream by itself; another, such as a [`TokenBucket`](crate::rate::TokenBucket), is shared by all of them.
    pub fn rate(mut self, rate: impl Into<AdaptiveRateController>) -> Self {
        self.rate = Some(rate.into());
        self
    }

    /// The controller.
    ///
    /// # Panics
    ///
    /// Where [`try_build`](Self::try_build) gives an error.
    #[track_caller]
    pub fn build(self) -> BackpressureController {
        built(self.try_build())
    }

    /// The controller.
    ///
    /// # Errors
    ///
    /// If the capacity or the time to live is 0, the settings of the rate contradict each other, or there is a rate and the
    /// strategy is not `Adaptive`.
    pub fn try_build(self) -> Result<BackpressureController, ConfigError> {
        let adaptive = self.strategy == BackpressureStrategy::Adaptive;
        at_least_one("capacity", self.capacity)?;
        if self.time_to_live == Some(Duration::ZERO) {
            return Err(ConfigError::new("time_to_live", "0ns", "longer than 0"));
        }
        if self.rate.is_some() && !adaptive {
            return Err(ConfigError::new(
                "strategy",
                self.strategy,
                "adaptive, since there is a rate",
            ));
        }
        let rate = adaptive.then(|| self.rate.unwrap_or_default());
        if let Some(rate) = &rate {
            rate.validate()?;
        }
        let name = self.name;
        let name = name.unwrap_or_else(|| self.strategy.as_str().to_owned());
        Ok(BackpressureController {
            bounds: Bounds {
                strategy: self.strategy,
                capacity: self.capacity,
                max_weight: None,
                time_to_live: self.time_to_live,
            },
            rate,
            registry: Arc::new(Registry::new(name)),
        })
    }
}

/// A stream, whatever its items are.
pub(super) trait Metered: Send + Sync {
    fn metrics(&self) -> BackpressureMetrics;
}

/// The streams of one controller. A stream is here until the last of its senders and its reader has gone; then its counts
/// are, so that nothing is ever missing from the sum.
pub(super) struct Registry {
    name: String,
    /// One for all of them: a rate that they share knows one time.
    clock: Clock,
    streams: Mutex<Streams>,
}

#[derive(Default)]
struct Streams {
    live: BTreeMap<u64, Arc<dyn Metered>>,
    next: u64,
    gone: BackpressureMetrics,
}

impl Registry {
    fn new(name: String) -> Self {
        Self {
            name,
            clock: Clock::new(),
            streams: Mutex::new(Streams::default()),
        }
    }

    pub(super) fn name(&self) -> &str {
        &self.name
    }

    pub(super) fn clock(&self) -> Clock {
        self.clock
    }

    fn register<M: Metered + 'static>(&self, make: impl FnOnce(u64) -> Arc<M>) -> Arc<M> {
        let mut streams = lock(&self.streams);
        let id = streams.next;
        streams.next += 1;
        let made = make(id);
        streams.live.insert(id, Arc::<M>::clone(&made));
        made
    }

    /// The stream has neither senders nor a reader any more.
    pub(super) fn retire(&self, id: u64) {
        let retired = {
            let mut streams = lock(&self.streams);
            let retired = streams.live.remove(&id);
            if let Some(stream) = &retired {
                let last = stream.metrics();
                add(&mut streams.gone, &last);
                streams.gone.throughput_rate = 0.0;
                streams.gone.current_rate_limit = 0.0;
            }
            retired
        };
        // Not under the lock: it may own what weighs its items.
        drop(retired);
    }

    fn metrics(&self) -> BackpressureMetrics {
        let streams = lock(&self.streams);
        let mut sum = streams.gone;
        for stream in streams.live.values() {
            add(&mut sum, &stream.metrics());
        }
        sum
    }

    fn is_empty(&self) -> bool {
        lock(&self.streams).live.is_empty()
    }
}

impl fmt::Debug for Registry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Registry")
            .field("name", &self.name)
            .field("live", &lock(&self.streams).live.len())
            .finish_non_exhaustive()
    }
}

fn add(sum: &mut BackpressureMetrics, one: &BackpressureMetrics) {
    sum.current_depth += one.current_depth;
    sum.peak_depth = sum.peak_depth.max(one.peak_depth);
    sum.dropped_count += one.dropped_count;
    sum.produced_count += one.produced_count;
    sum.consumed_count += one.consumed_count;
    sum.throughput_rate += one.throughput_rate;
    sum.backpressure_events += one.backpressure_events;
    sum.current_rate_limit += one.current_rate_limit;
}
