//! Rates through the layer, on a paused clock.
#![cfg(feature = "http")]
#![allow(clippy::disallowed_methods, reason = "the clock is the test's own")]

mod adaptive;
mod charge;
mod paced;
mod refused;
mod shared;
mod support;
mod together;
