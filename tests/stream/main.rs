//! The bounded stream, as its users see it.

mod adaptive;
#[cfg(feature = "http")]
mod body;
mod bounds;
mod cancel;
mod ends;
#[cfg(feature = "metrics")]
mod metrics;
mod model;
mod numbers;
mod strategies;
mod support;
mod threads;
