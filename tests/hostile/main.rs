//! What a client can do on purpose: headers, bodies and goodbyes that no honest client sends.
#![cfg(feature = "http")]
#![allow(clippy::disallowed_methods, reason = "tests may look at the clock")]

mod abandoned;
mod crowds;
mod headers;
mod support;
mod wire;
