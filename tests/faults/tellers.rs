//! A recorder and a subscriber that are told everything, and every telling is a point.

use std::sync::Arc;

use metrics::{
    Counter, CounterFn, Gauge, GaugeFn, Histogram, HistogramFn, Key, KeyName, Metadata, Recorder,
    SharedString, Unit,
};
use tracing::{Event, Subscriber, span, subscriber::Interest};

use crate::points::point;

pub struct Teller;

impl Recorder for Teller {
    fn describe_counter(&self, _: KeyName, _: Option<Unit>, _: SharedString) {
        point("recorder.register");
    }

    fn describe_gauge(&self, _: KeyName, _: Option<Unit>, _: SharedString) {
        point("recorder.register");
    }

    fn describe_histogram(&self, _: KeyName, _: Option<Unit>, _: SharedString) {
        point("recorder.register");
    }

    fn register_counter(&self, _: &Key, _: &Metadata<'_>) -> Counter {
        point("recorder.register");
        Counter::from_arc(Arc::new(Told))
    }

    fn register_gauge(&self, _: &Key, _: &Metadata<'_>) -> Gauge {
        point("recorder.register");
        Gauge::from_arc(Arc::new(Told))
    }

    fn register_histogram(&self, _: &Key, _: &Metadata<'_>) -> Histogram {
        point("recorder.register");
        Histogram::from_arc(Arc::new(Told))
    }
}

struct Told;

impl CounterFn for Told {
    fn increment(&self, _: u64) {
        point("recorder.counter");
    }

    fn absolute(&self, _: u64) {
        point("recorder.counter");
    }
}

impl GaugeFn for Told {
    fn increment(&self, _: f64) {
        point("recorder.gauge");
    }

    fn decrement(&self, _: f64) {
        point("recorder.gauge");
    }

    fn set(&self, _: f64) {
        point("recorder.gauge");
    }
}

impl HistogramFn for Told {
    fn record(&self, _: f64) {
        point("recorder.histogram");
    }
}

impl Subscriber for Teller {
    /// Not a point: it is called once in a process, under a lock of `tracing`'s own.
    fn register_callsite(&self, _: &'static tracing::Metadata<'static>) -> Interest {
        Interest::sometimes()
    }

    fn enabled(&self, metadata: &tracing::Metadata<'_>) -> bool {
        let ours = metadata.target() == "tower_backpressure";
        if ours {
            point("subscriber.enabled");
        }
        ours
    }

    fn event(&self, _: &Event<'_>) {
        point("subscriber.event");
    }

    fn new_span(&self, _: &span::Attributes<'_>) -> span::Id {
        span::Id::from_u64(1)
    }

    fn record(&self, _: &span::Id, _: &span::Record<'_>) {}

    fn record_follows_from(&self, _: &span::Id, _: &span::Id) {}

    fn enter(&self, _: &span::Id) {}

    fn exit(&self, _: &span::Id) {}
}
