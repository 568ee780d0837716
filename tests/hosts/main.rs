//! The layer under axum and tonic, over real connections on loopback.
#![cfg(feature = "http")]
#![allow(clippy::disallowed_methods, reason = "tests may look at the clock")]

mod axum;
mod support;
mod tonic;
