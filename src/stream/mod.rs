mod bounded;
mod channel;
#[path = "../gate/clock.rs"]
mod clock;
mod controller;
mod displaced;
mod error;
mod line;
#[cfg_attr(feature = "metrics", path = "metrics.rs")]
#[cfg_attr(not(feature = "metrics"), path = "silent.rs")]
mod metrics;
mod pacing;
mod ring;
mod sender;
mod state;
mod throughput;
mod transit;

pub use self::{
    bounded::BoundedStream,
    controller::{BackpressureController, Builder},
    displaced::Displaced,
    error::{Overflow, SendError, SendErrorKind},
    pacing::AdaptiveRateController,
    sender::{Sender, Sending},
};
