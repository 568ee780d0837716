//! How many requests may run at once, and how that number finds itself.
//!
//! A limit that somebody chose by hand is wrong twice: on the day the service gets slower it admits too much, and on
//! the day it gets more machines it admits too little. A [`Limit`] watches how requests fare and moves the number. It
//! computes; the gate enforces. A `Limit` is therefore plain arithmetic: it is given a [`Sample`] for each request that
//! ended and answers with the limit from now on. It never reads a clock, waits, or locks.
//!
//! | limit | what it is |
//! |---|---|
//! | [`Aimd`] | the default of `BackpressureLayer::adaptive`: finds the limit without being told a latency |
//! | [`Gradient2`] | compares the latency of now with that of the last minutes |
//! | [`Vegas`] | estimates the queue from the lowest latency it remembers |
//! | [`Windowed`] | gives another limit one sample for each window of time |
//! | [`Fixed`] | always the same number, until a [`Handle`](crate::Handle) changes it |
//!
//! # Where a limit belongs
//!
//! Inside a layer that retries, once per attempt: outside of it, the time a request spends backing off between attempts
//! looks like latency, and the limit falls because of its own refusals.
//!
//! A limit on concurrency is the wrong tool for a service that counts requests per second (it refuses at any
//! concurrency; use a rate), and it sees little where the time of a request is its size: then the mix of requests moves
//! the latency more than the load does.
//!
//! # Examples
//!
//! A limit of your own needs two methods:
//!
//! ```
//! use tower_backpressure::limit::{Limit, Outcome, Sample};
//!
//! /// One more after each success, half after each overload.
//! struct Naive(usize);
//!
//! impl Limit for Naive {
//!     fn limit(&self) -> usize {
//!         self.0
//!     }
//!
//!     fn update(&mut self, sample: &Sample) -> usize {
//!         self.0 = match sample.outcome {
//!             Outcome::Success => (self.0 + 1).min(100),
//!             Outcome::Overload => self.0 / 2,
//!             _ => self.0,
//!         };
//!         self.0
//!     }
//! }
//! ```

mod aimd;
mod bounds;
mod fixed;
mod gradient2;
mod vegas;
mod windowed;

use std::time::Duration;

use crate::ConfigError;

pub use self::{
    aimd::Aimd,
    fixed::Fixed,
    gradient2::Gradient2,
    vegas::Vegas,
    windowed::{Measure, Windowed},
};

/// The highest limit there can be; anything above is taken for it.
pub const MAX_LIMIT: usize = (1 << 30) - 1;

/// Finds out how many requests may run at once.
///
/// The gate calls [`update`](Limit::update) for one sample at a time, never from two threads at once. Up to some 5 000
/// requests a second, every request makes a sample; above that a random share of them does, so that learning costs a busy
/// gate next to nothing. The gate keeps the
/// answer between 1 and [`MAX_LIMIT`], so that no answer can stop a service for good. An implementation that panics
/// is not called again; the limit then stays where it was.
pub trait Limit: Send + 'static {
    /// The limit in force, in requests. Read once, when the layer is made, as the limit to begin with.
    fn limit(&self) -> usize;

    /// Learns from one request that ended and gives the limit from now on.
    fn update(&mut self, sample: &Sample) -> usize;

    /// The limit was set by hand, with [`Handle::set_limit`](crate::Handle::set_limit): go on from there, and say from
    /// where, should it be out of bounds.
    ///
    /// Unless this is implemented, the next sample moves the limit back to what `update` gives.
    fn set_limit(&mut self, limit: usize) -> usize {
        limit
    }

    /// Whether samples are wanted at all. `false` saves the gate two clock readings for each request.
    fn learns(&self) -> bool {
        true
    }

    /// Refuses settings that cannot work together. Called once, when the layer is made.
    ///
    /// # Errors
    ///
    /// The setting that is wrong, its value, and what would be right.
    fn validate(&self) -> Result<(), ConfigError> {
        Ok(())
    }
}

/// What one request that ended tells a [`Limit`].
///
/// Requests whose outcome is [`Outcome::Ignore`], and those that the gate itself refused, make no sample.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub struct Sample {
    /// When the sample was taken, as the time since the gate was made.
    pub at: Duration,
    /// From admission to the response's head or, for streams, to its first frame. Time spent waiting for admission is not in it;
    /// what a service knows better it says in a `Report`. For [`Outcome::Cancelled`] it is a lower bound: the answer would have
    /// taken at least that long.
    pub latency: Duration,
    /// How many requests were in flight when this one was admitted, itself included.
    pub in_flight: usize,
    /// How the request went.
    pub outcome: Outcome,
    /// When the service said to come back. Looked for only where a rate that learns is at the gate, or at the one above; `None` for
    /// a limit alone.
    pub retry_after: Option<Duration>,
}

impl Sample {
    /// A sample, as the gate would make it. For tests of your own [`Limit`].
    pub fn new(at: Duration, latency: Duration, in_flight: usize, outcome: Outcome) -> Self {
        Self {
            at,
            latency,
            in_flight,
            outcome,
            retry_after: None,
        }
    }
}

/// How a request went, as far as the limit is concerned.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Outcome {
    /// It was served: its latency is worth learning from.
    Success,
    /// The service said that it has too much to do.
    Overload,
    /// It failed for a reason that has nothing to do with load. Nothing is learned, so that a service that fails fast
    /// does not look fast.
    Ignore,
    /// The caller left before the answer came. The gate finds this out by itself; a classifier need not return it.
    Cancelled,
}

impl Outcome {
    /// The value of the `outcome` label in metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Outcome::Success => "success",
            Outcome::Overload => "overload",
            Outcome::Ignore => "ignore",
            Outcome::Cancelled => "cancelled",
        }
    }
}
