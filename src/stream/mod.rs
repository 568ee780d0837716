//! A bounded stream: many producers, one reader, and a decision about what happens when the reader is slower.
//!
//! Without a bound the answer is "memory": a queue between a model that streams tokens and a client on a train grows until the
//! process is killed. With a bound and no thought the answer is "it depends": a channel that only waits stalls the producer of
//! live prices behind one slow reader, one that overwrites in silence loses what nobody knew was lost, and either may go on
//! producing for a reader that has long gone.
//!
//! Here the decision is made once, where the stream is made, and counted wherever it falls:
//!
//! ```
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! use tower_backpressure::{BackpressureController, BackpressureStrategy};
//!
//! let controller = BackpressureController::new(100, BackpressureStrategy::DropOldest);
//! let mut stream = controller.create_stream();
//! let sender = stream.sender();
//!
//! sender.send("hello").await?;
//! assert_eq!(stream.receive().await, Some("hello"));
//!
//! let metrics = controller.metrics();
//! assert_eq!(metrics.produced_count, 1);
//! assert_eq!(metrics.consumed_count, 1);
//! # Ok(())
//! # }
//! ```
//!
//! | strategy | when it is full | take it for |
//! |---|---|---|
//! | `Block` | senders wait, first come first served | work that must all be done |
//! | `DropNewest` | the arriving item goes back to its sender | a queue whose beginning matters: the first error explains the others |
//! | `DropOldest` | the oldest item makes room, and goes to the sender | live data; `latest()` for a state of which only the last value matters |
//! | `Adaptive` | senders keep to a rate that follows the reader, and wait if need be | producers that can slow down, such as a crawler |
//! | `Fail` | the stream ends with an error, after what is in it | data in which a gap is worse than an end, such as a log of changes |
//!
//! Beside the bound by count there is one by [weight](BackpressureController::create_weighted_stream), and one by
//! [time](Builder::time_to_live).
//!
//! # What is counted
//!
//! At every moment, on every thread: *produced = consumed + dropped + in the stream*.
//!
//! | | counted as |
//! |---|---|
//! | sent, or turned away by `DropNewest` | produced |
//! | read | consumed |
//! | pushed out, or turned away, when it was full | dropped (`displaced`) |
//! | in the stream for longer than its time to live | dropped (`expired`), as soon as the stream is used |
//! | in the stream when its reader left | dropped (`unread`) |
//! | came back with a [`SendError`], or was given up while it waited | nothing: it never was in the stream |
//!
//! # Ends
//!
//! | who goes | what the other side sees |
//! |---|---|
//! | the last [`Sender`] | what was sent, then the end |
//! | the reader: [`BoundedStream`] is dropped | every send fails at once, with its item, also those that wait; [`Sender::closed`] resolves |
//! | the reader, politely: [`BoundedStream::close`] | the same, and what is in the stream can still be read |
//!
//! # Metrics
//!
//! Through the `metrics` facade, each labelled `stream="<name>"`, as sums over all streams of that name:
//! `backpressure_stream_depth`, `backpressure_stream_rate_limit` (gauges), `backpressure_stream_produced_total`,
//! `backpressure_stream_consumed_total`, `backpressure_stream_dropped_total` with a `reason`, and
//! `backpressure_stream_events_total` (counters; the last counts episodes of being full or, under `Adaptive`, cuts of the rate). A recorder that is installed later is told what was counted before.
//!
//! # Cost
//!
//! An item costs one lock of a mutex on its way in and one on its way out. A stream without a time to live, a weight or a rate
//! reads no clock, but for one reading in up to 64 items, for the throughput. Nothing is allocated for an item once the queue
//! has grown to its usual depth.

mod aimd;
#[cfg(feature = "http")]
mod body;
mod bounded;
mod channel;
mod controller;
mod displaced;
mod error;
#[cfg(all(test, backpressure_loom))]
mod interleavings;
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

#[cfg(feature = "http")]
pub use self::body::{Event, StreamBody};
pub use self::{
    bounded::BoundedStream,
    controller::{BackpressureController, Builder},
    displaced::Displaced,
    error::{Overflow, SendError, SendErrorKind},
    pacing::AdaptiveRateController,
    sender::{Sender, Sending},
};
