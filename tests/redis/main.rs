//! A shared rate against a real Redis, which these tests start by themselves.

#[path = "../gcra/mod.rs"]
mod gcra;

mod cluster;
mod decisions;
mod lease;
mod metrics;
mod outage;
mod server;
mod sharing;
mod table;
