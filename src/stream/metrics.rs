//! What a stream reports through the `metrics` facade.
//!
//! A controller may make a stream for each request, so the numbers are those of all streams of one name: each adds what
//! has changed since it last did, gauges included. Handles are kept. A recorder that is installed later is noticed within
//! a few dozen items, and is told all that was counted until then; one without any size cannot be told from none.

use std::sync::OnceLock;

use metrics::{Counter, Gauge, counter, describe_counter, describe_gauge, gauge};

use super::{ring::Gone, state::Reading};
use crate::sync::{Mutex, lock};

const DEPTH: &str = "backpressure_stream_depth";
const RATE: &str = "backpressure_stream_rate_limit";
const PRODUCED: &str = "backpressure_stream_produced_total";
const CONSUMED: &str = "backpressure_stream_consumed_total";
const DROPPED: &str = "backpressure_stream_dropped_total";
const EVENTS: &str = "backpressure_stream_events_total";

#[derive(Debug)]
pub(super) struct Recording {
    handles: OnceLock<Handles>,
    shown: Mutex<Reading>,
}

#[derive(Debug)]
struct Handles {
    depth: Gauge,
    rate: Gauge,
    produced: Counter,
    consumed: Counter,
    dropped: [Counter; Gone::ALL.len()],
    events: Counter,
}

impl Recording {
    pub(super) fn new() -> Self {
        Self {
            handles: OnceLock::new(),
            shown: Mutex::new(Reading::default()),
        }
    }

    /// Whether anybody looks, as far as is known.
    #[inline]
    pub(super) fn is_live(&self) -> bool {
        self.handles.get().is_some()
    }

    /// Whether anybody looks.
    #[inline]
    pub(super) fn look(&self, name: &str) -> bool {
        if !self.is_live() && recorder_installed() {
            self.handles.get_or_init(|| Handles::new(name));
        }
        self.is_live()
    }

    /// Adds what has changed. Readings may come in any order: one that has been overtaken has nothing to add.
    pub(super) fn show(&self, now: &Reading) {
        let Some(handles) = self.handles.get() else {
            return;
        };
        let before = {
            let mut shown = lock(&self.shown);
            if now.nth <= shown.nth {
                return;
            }
            std::mem::replace(&mut *shown, *now)
        };
        let (tally, last) = (&now.tally, &before.tally);
        handles.produced.increment(tally.produced - last.produced);
        handles.consumed.increment(tally.consumed - last.consumed);
        for why in Gone::ALL {
            let why = why as usize;
            handles.dropped[why].increment(tally.dropped[why] - last.dropped[why]);
        }
        handles.events.increment(tally.events - last.events);
        handles
            .depth
            .increment(tally.depth as f64 - last.depth as f64);
        if let Some(rate) = now.rate {
            handles.rate.increment(rate - before.rate.unwrap_or(0.0));
        }
    }
}

/// `metrics` does not say whether a recorder is installed, but the one that stands in for none has no size.
fn recorder_installed() -> bool {
    metrics::with_recorder(|recorder| size_of_val(recorder) > 0)
}

impl Handles {
    fn new(name: &str) -> Self {
        describe();
        let name = name.to_owned();
        Self {
            depth: gauge!(DEPTH, "stream" => name.clone()),
            rate: gauge!(RATE, "stream" => name.clone()),
            produced: counter!(PRODUCED, "stream" => name.clone()),
            consumed: counter!(CONSUMED, "stream" => name.clone()),
            dropped: Gone::ALL
                .map(|why| counter!(DROPPED, "stream" => name.clone(), "reason" => why.as_str())),
            events: counter!(EVENTS, "stream" => name.clone()),
        }
    }
}

fn describe() {
    describe_gauge!(DEPTH, "Items sent and neither read nor dropped.");
    describe_gauge!(
        RATE,
        "Items per second that senders may send, where streams adapt."
    );
    describe_counter!(PRODUCED, "Items sent.");
    describe_counter!(CONSUMED, "Items read.");
    describe_counter!(DROPPED, "Items dropped, by reason.");
    describe_counter!(
        EVENTS,
        "Episodes of being full; under adaptive, cuts of the rate."
    );
}
