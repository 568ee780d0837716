//! Keeps a service alive when it is asked for more than it can do.
//!
//! One [`tower::Layer`](tower_layer::Layer) decides for each request to *run it now*, to *let it wait a little*, or to
//! *refuse it at once*, and tells the caller when to come back:
//!
//! ```
//! use axum::{Router, routing::get};
//! use tower_backpressure::{BackpressureLayer, limit::Aimd};
//!
//! let app: Router = Router::new()
//!     .route("/", get(|| async { "hello" }))
//!     .layer(BackpressureLayer::adaptive(Aimd::default()));
//! ```
//!
//! Three small questions make every strategy:
//!
//! | question | answers |
//! |---|---|
//! | how much may run? | a fixed limit, or one that finds itself: [`limit`]; so many per time: [`rate`] |
//! | what when it is full? | [`block`](BackpressureLayer::block), [`drop_newest`](BackpressureLayer::drop_newest), [`drop_oldest`](BackpressureLayer::drop_oldest) |
//! | how is a refusal said? | in HTTP's or gRPC's words, or as a typed error: [`protocol`] |
//!
//! Everything else is shared by all of them:
//!
//! - **The layer owns the gate.** However often a framework applies the layer, there is one limit. A [`Handle`] looks at
//!   it, moves it, and drains it.
//! - **The permit rides on the response's body** and comes back exactly once: when the body ends, fails or is dropped,
//!   when the handler panics, or when the caller leaves before there is an answer. See [`ReleaseAt`].
//! - **Learning is apart from holding.** The latency is measured at the head of a whole response and at the first frame
//!   of a stream, while the slot is held to the end. See [`SampleAt`].
//! - **A refusal is an answer,** not an error: under axum and tonic no `HandleErrorLayer` is needed, and an outer layer
//!   finds a [`Rejected`] in the response's extensions.
//!
//! # Composing
//!
//! Put the layer *outside* of what it protects (the handler, its timeouts) and *inside* of retries, so that it sees each
//! attempt. Under a load balancer, `block` says in `poll_ready` that an instance is full, and the balancer turns to
//! another.
//!
//! Around a whole axum router it costs less than on it, since `Router::layer` puts each call of a layer into two more boxes:
//!
//! ```no_run
//! use axum::{Router, ServiceExt, body::Body, extract::Request, response::Response, routing::get};
//! use tower::ServiceBuilder;
//! use tower_backpressure::{BackpressureLayer, limit::Aimd};
//!
//! # async fn serve() -> std::io::Result<()> {
//! let router = Router::new().route("/", get(|| async { "hello" }));
//! let app = ServiceBuilder::new()
//!     .map_response(|response: Response<_>| response.map(Body::new))
//!     .layer(BackpressureLayer::adaptive(Aimd::default()))
//!     .service(router);
//!
//! let listener = tokio::net::TcpListener::bind("127.0.0.1:3000").await?;
//! axum::serve(listener, ServiceExt::<Request>::into_make_service(app)).await
//! # }
//! ```
//!
//! # Features
//!
//! | feature | default | |
//! |---|---|---|
//! | `http` | yes | the layer speaks HTTP and gRPC; without it, after `.plain()`, any `Service + Clone` |
//! | `metrics` | yes | counters, gauges and histograms through the [`metrics`](https://docs.rs/metrics) facade |
//! | `tracing` | no | events: a limit moves, an episode of being full or over the rate begins, a shared rate's store is lost or found |
//! | `redis` | no | a rate shared by many machines, in Redis or Valkey |
//! | `llm` | no | a layer for services and proxies before LLMs, and what it reads and says, as OpenAI and Anthropic do |
//! | `stream` | no | a bounded stream between producers and one reader, with the same strategies |
//! | `sim` | no | a simulator in virtual time, to try a limit of your own |

#![cfg_attr(docsrs, feature(doc_cfg))]
#![deny(unsafe_code)]
#![warn(missing_docs, missing_debug_implementations, unreachable_pub)]
// What some features leave out is named all the same.
#![cfg_attr(
    not(all(feature = "http", feature = "redis")),
    allow(rustdoc::broken_intra_doc_links)
)]

mod admission;
mod config;
mod contained;
mod demand;
mod error;
mod events;
mod future;
mod gate;
#[cfg(all(test, backpressure_loom))]
mod interleavings;
mod keyed;
mod layer;
pub mod limit;
#[cfg(feature = "llm")]
pub mod llm;
mod metrics;
mod pace;
pub mod protocol;
mod queue;
pub mod rate;
#[cfg(feature = "redis")]
pub mod redis;
mod rejected;
mod room;
mod service;
#[cfg(feature = "sim")]
pub mod sim;
mod slots;
mod strategy;
#[cfg(feature = "stream")]
pub mod stream;
mod sync;

pub use self::{
    config::ConfigError,
    demand::Demand,
    error::Error,
    future::ResponseFuture,
    gate::{Charge, Handle},
    layer::BackpressureLayer,
    metrics::BackpressureMetrics,
    rejected::{Reason, Rejected},
    service::Backpressure,
};
#[cfg(feature = "http")]
pub use self::{
    gate::Report,
    protocol::{RateHeaders, ReleaseAt, SampleAt},
};
#[cfg(feature = "stream")]
pub use self::{
    strategy::BackpressureStrategy,
    stream::{AdaptiveRateController, BackpressureController, BoundedStream},
};

/// The README's code compiles.
#[cfg(all(doctest, feature = "http"))]
#[doc = include_str!("../README.md")]
struct Readme;

/// So does that of the guide.
#[cfg(all(doctest, feature = "llm"))]
#[doc = include_str!("../docs/llm.md")]
struct LlmGuide;
