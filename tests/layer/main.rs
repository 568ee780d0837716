//! The layer over plain services and over bodies, without a server.
#![cfg(feature = "http")]
#![allow(clippy::disallowed_methods, reason = "tests may look at the clock")]

mod adaptive;
mod block;
mod body;
mod contract;
mod drain;
mod drop;
mod model;
mod parked;
mod refusal;
mod report;
mod sampling;
mod script;
mod shadow;
mod support;
