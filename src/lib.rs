//! Keeps a service alive when it is asked for more than it can do.

#![cfg_attr(docsrs, feature(doc_cfg))]
#![warn(missing_docs, missing_debug_implementations, unreachable_pub)]

mod admission;
mod config;
mod error;
mod events;
mod future;
mod gate;
mod layer;
pub mod limit;
mod metrics;
mod pace;
pub mod protocol;
mod queue;
mod rejected;
mod service;
#[cfg(feature = "sim")]
pub mod sim;
mod slots;
mod strategy;
mod sync;

#[cfg(feature = "http")]
pub use self::protocol::{ReleaseAt, SampleAt};
pub use self::{
    config::ConfigError,
    error::Error,
    future::ResponseFuture,
    gate::Handle,
    layer::BackpressureLayer,
    metrics::BackpressureMetrics,
    rejected::{Reason, Rejected},
    service::Backpressure,
};
