//! The layer for services that answer for a model, over answers made by hand.
#![allow(clippy::disallowed_methods, reason = "tests may look at the clock")]

mod bench;
mod burst;
mod chaos;
mod costs;
mod deadlines;
mod drain;
mod head;
mod hosts;
mod leaving;
#[cfg(feature = "metrics")]
mod metrics;
mod passing;
mod requests;
mod samples;
mod timeouts;
