//! How many may start per time.
//!
//! A limit on concurrency cannot hold an upstream that counts requests or tokens per minute: ten requests at once are few if each
//! takes a minute and many if each takes a millisecond. A [`Rate`] counts what starts. Like a limit it is arithmetic: `now` is
//! handed in, and it never reads a clock, waits, or calls anybody.
//!
//! | rate | what it is |
//! |---|---|
//! | [`TokenBucket`] | so many per time, evenly, and a burst after a rest; one atomic word |
//! | [`SlidingWindow`] | never more than so many within any window, however they are spread in it |
//! | [`AdaptiveRate`] | finds out how many an upstream takes that refuses what is too much |
//! | [`Requests`] | counts requests whatever they cost, beside another rate that counts their costs |
//!
//! A bucket is what most want. A window is for an upstream that counts in one: it lets all of its limit through at once, and
//! nothing more until the window has passed.

mod adaptive;
mod contained;
mod epoch;
mod remote;
mod requests;
mod shared;
mod sliding_window;
mod token_bucket;

use std::{fmt, time::Duration};

use crate::{ConfigError, Demand, limit::Sample};

pub use self::{
    adaptive::AdaptiveRate,
    epoch::Epoch,
    remote::{Deciding, Decision, OnUnavailable, Receipt, RemoteRate},
    requests::Requests,
    sliding_window::SlidingWindow,
    token_bucket::TokenBucket,
};
pub(crate) use self::{contained::Contained, epoch::Shift};

/// Counts what starts per time, and says when there is room for more.
///
/// All times are measured from one moment: when the gate was made or, where several share a rate, the
/// first of them ([`epoch`](Rate::epoch)). Calls come from many threads at once, and `now` may
/// step back a little between them: a thread that read the clock earlier may come later.
pub trait Rate: fmt::Debug + Send + Sync + 'static {
    /// Whether `cost` could be spent at `now`. Spends nothing.
    ///
    /// # Errors
    ///
    /// How much too early it is.
    fn check(&self, now: Duration, cost: u64) -> Result<(), Short>;

    /// Spends `cost` at `now`, all of it or nothing. A cost of 0 is a [`check`](Self::check): it passes unless there is a debt.
    ///
    /// # Errors
    ///
    /// How much too early it is. Nothing was spent then.
    fn spend(&self, now: Duration, cost: u64) -> Result<(), Short>;

    /// Spends `cost` whether or not there is room. What is missing is a debt, which has to be worked off before anything else
    /// is let in.
    fn owe(&self, now: Duration, cost: u64);

    /// Gives back `cost` of what was spent at `spent`. What the passing of time has given back already is not given twice.
    fn refund(&self, now: Duration, spent: Duration, cost: u64);

    /// How it stands.
    fn quota(&self, now: Duration) -> Quota;

    /// The rate in force, in units of cost per second.
    fn per_second(&self) -> f64;

    /// Changes the rate, in units of cost per second. What was spent or is owed stays so: nobody gains by a change. Unless this is
    /// implemented, the rate stays as it is.
    fn set_per_second(&self, now: Duration, per_second: f64) {
        let _ = (now, per_second);
    }

    /// What a request costs here. Unless this is implemented: what its demand says.
    fn cost(&self, demand: &Demand) -> u64 {
        demand.cost()
    }

    /// Learns from one answer. Called only if [`learns`](Self::learns).
    fn observe(&self, sample: &Sample) {
        let _ = sample;
    }

    /// Whether samples are wanted.
    fn learns(&self) -> bool {
        false
    }

    /// By which several gates that use the same rate measure time from one moment. Unless this is implemented, each does so from the
    /// moment when it was made, which is right for a rate of one gate.
    fn epoch(&self) -> Option<&Epoch> {
        None
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

/// Why a cost could not be spent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Short {
    /// It is too early by so much, if nobody else spends anything meanwhile.
    Wait(Duration),
    /// It is more than can ever be spent at once, which is `most`.
    Never {
        /// The most that can be spent at once: the burst, or the window's limit.
        most: u64,
    },
}

/// How a rate stands at one moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Quota {
    /// The most that can be spent at once: the burst, or the window's limit.
    pub limit: u64,
    /// What could be spent now.
    pub remaining: u64,
    /// Until all of `limit` could be spent again.
    pub reset_after: Duration,
    /// The time in which `limit` comes back.
    pub window: Duration,
}
