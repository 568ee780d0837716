//! The numbers: a snapshot for code, and the [`metrics`](https://docs.rs/metrics) facade for dashboards.

#[cfg_attr(feature = "metrics", path = "facade.rs")]
#[cfg_attr(not(feature = "metrics"), path = "silent.rs")]
mod recording;

pub(crate) use self::recording::Recording;
#[cfg(all(feature = "metrics", feature = "redis"))]
pub(crate) use self::recording::{REQUESTS_PER_LOOK, is_heard};

/// The numbers of one gate at one moment, from [`Handle::snapshot`](crate::Handle::snapshot).
///
/// The names are those of a queue in general, whatever stands in it; what each means for a gate is said below. How many
/// are in flight is [`Handle::in_flight`](crate::Handle::in_flight).
///
/// For a stream they are the same of items; there `current_rate_limit` is in items per second, infinite without a rate, and under
/// `Adaptive` the `backpressure_events` are cuts of the rate.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
#[non_exhaustive]
pub struct BackpressureMetrics {
    /// Requests waiting for a permit.
    pub current_depth: usize,
    /// The most requests that ever waited at once.
    pub peak_depth: usize,
    /// Requests refused, for whatever reason. Under `.shadow()`: those that would have been.
    pub dropped_count: u64,
    /// Requests that came, whatever became of them: in flight, completed, refused, waiting, or gone before they were let
    /// in. Exempt ones never reach the gate.
    pub produced_count: u64,
    /// Requests whose permit has come back, however they ended.
    pub consumed_count: u64,
    /// Completions per second (a stream completes when it ends), over a window of about one second; over a longer one where numbers
    /// are seldom looked at.
    pub throughput_rate: f64,
    /// Episodes of being full. One begins with a request that finds no free slot, and is over once a request is let in
    /// with half of the limit free; two that begin within a second of each other count as one.
    pub backpressure_events: u64,
    /// The limit in force, in requests.
    pub current_rate_limit: f64,
}
