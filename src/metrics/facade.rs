//! Metric names, described once, and one set of kept handles per gate.
//!
//! A look-up by name costs 30 to 100 ns for each call, a kept handle 2. Handles are taken at the first request, not when
//! the layer is made: an application may well build its router before it installs its exporter. Where there was no
//! recorder then, one that shows up later is noticed within a few dozen requests.

use std::{sync::OnceLock, time::Duration};

use metrics::{
    Counter, Gauge, Histogram, counter, describe_counter, describe_gauge, describe_histogram,
    gauge, histogram,
};

use crate::{Reason, limit::Outcome, slots::Slots};

const LIMIT: &str = "backpressure_limit";
const IN_FLIGHT: &str = "backpressure_in_flight";
const WAITING: &str = "backpressure_waiting";
const ADMITTED: &str = "backpressure_admitted_total";
const REJECTED: &str = "backpressure_rejected_total";
const COMPLETED: &str = "backpressure_completed_total";
const WAIT: &str = "backpressure_wait_seconds";
const LATENCY: &str = "backpressure_latency_seconds";

const OUTCOMES: [Outcome; 4] = [
    Outcome::Success,
    Outcome::Overload,
    Outcome::Ignore,
    Outcome::Cancelled,
];

/// What one gate reports.
#[derive(Debug, Default)]
pub(crate) struct Recording {
    /// Taken at the first request, from whatever recorder there was, if any.
    first: OnceLock<Handles>,
    /// Taken once there certainly was one.
    sure: OnceLock<Handles>,
}

#[derive(Debug)]
struct Handles {
    limit: Gauge,
    in_flight: Gauge,
    waiting: Gauge,
    admitted: Counter,
    rejected: [Counter; Reason::ALL.len()],
    completed: [Counter; OUTCOMES.len()],
    wait: Histogram,
    latency: Histogram,
}

impl Recording {
    pub(crate) fn new() -> Self {
        Self::default()
    }

    /// Whether somebody looks at times. A recorder without any size cannot be told from none; it is given a latency
    /// only where the limit needs one anyway.
    #[inline]
    pub(crate) fn wants_time(&self) -> bool {
        self.sure.get().is_some()
    }

    /// Looks whether there is a recorder by now. To be called now and then.
    pub(crate) fn look_again(&self, gate: &str, slots: &Slots) {
        if self.sure.get().is_none() && recorder_installed() {
            self.sure.get_or_init(|| Handles::new(gate, slots));
        }
    }

    #[inline]
    pub(crate) fn admitted(&self, gate: &str, slots: &Slots) {
        let handles = self.handles(gate, slots);
        handles.admitted.increment(1);
        handles.show_in_flight(slots);
    }

    #[inline]
    pub(crate) fn completed(&self, gate: &str, slots: &Slots, outcome: Outcome) {
        let handles = self.handles(gate, slots);
        handles.completed[outcome as usize].increment(1);
        handles.show_in_flight(slots);
    }

    #[inline]
    pub(crate) fn rejected(&self, gate: &str, slots: &Slots, reason: Reason) {
        self.handles(gate, slots).rejected[reason as usize].increment(1);
    }

    /// For the holder of the queue's lock, so that the last word is the latest.
    pub(crate) fn waiting(&self, gate: &str, slots: &Slots, waiting: usize) {
        self.handles(gate, slots).waiting.set(waiting as f64);
    }

    pub(crate) fn waited(&self, gate: &str, slots: &Slots, waited: Duration) {
        self.handles(gate, slots).wait.record(waited);
    }

    #[inline]
    pub(crate) fn latency(&self, gate: &str, slots: &Slots, latency: Duration) {
        self.handles(gate, slots).latency.record(latency);
    }

    pub(crate) fn limit(&self, gate: &str, slots: &Slots) {
        self.handles(gate, slots).show_limit(slots);
    }

    #[inline]
    fn handles(&self, gate: &str, slots: &Slots) -> &Handles {
        match self.sure.get().or_else(|| self.first.get()) {
            Some(handles) => handles,
            None => self.take(gate, slots),
        }
    }

    #[cold]
    fn take(&self, gate: &str, slots: &Slots) -> &Handles {
        let handles = if recorder_installed() {
            &self.sure
        } else {
            &self.first
        };
        handles.get_or_init(|| Handles::new(gate, slots))
    }
}

/// `metrics` does not say whether a recorder is installed, but the one that stands in for none has no size.
fn recorder_installed() -> bool {
    metrics::with_recorder(|recorder| size_of_val(recorder) > 0)
}

impl Handles {
    fn new(gate: &str, slots: &Slots) -> Self {
        describe();
        let handles = Self {
            limit: gauge!(LIMIT, "gate" => gate.to_owned()),
            in_flight: gauge!(IN_FLIGHT, "gate" => gate.to_owned()),
            waiting: gauge!(WAITING, "gate" => gate.to_owned()),
            admitted: counter!(ADMITTED, "gate" => gate.to_owned()),
            rejected: Reason::ALL.map(|reason| {
                counter!(REJECTED, "gate" => gate.to_owned(), "reason" => reason.as_str())
            }),
            completed: OUTCOMES.map(|outcome| {
                counter!(COMPLETED, "gate" => gate.to_owned(), "outcome" => outcome.as_str())
            }),
            wait: histogram!(WAIT, "gate" => gate.to_owned()),
            latency: histogram!(LATENCY, "gate" => gate.to_owned()),
        };
        handles.show_limit(slots);
        handles.show_in_flight(slots);
        handles.waiting.set(0.0);
        handles
    }

    fn show_limit(&self, slots: &Slots) {
        show(&self.limit, || slots.read().limit());
    }

    #[inline]
    fn show_in_flight(&self, slots: &Slots) {
        show(&self.in_flight, || slots.read().in_flight());
    }
}

/// Sets a gauge to a number that other threads change too. Whoever changed it last also shows it last: a thread that
/// was overtaken between reading and showing finds that out and shows the number again.
#[inline]
fn show(gauge: &Gauge, read: impl Fn() -> usize) {
    let mut shown = read();
    loop {
        gauge.set(shown as f64);
        match read() {
            same if same == shown => return,
            newer => shown = newer,
        }
    }
}

fn describe() {
    describe_gauge!(LIMIT, "How many requests may be in flight.");
    describe_gauge!(IN_FLIGHT, "Requests that hold a permit.");
    describe_gauge!(WAITING, "Requests waiting for a permit.");
    describe_counter!(ADMITTED, "Requests that got a permit.");
    describe_counter!(REJECTED, "Requests refused, by reason.");
    describe_counter!(COMPLETED, "Permits that came back, by outcome.");
    describe_histogram!(
        WAIT,
        metrics::Unit::Seconds,
        "From arrival to permit or refusal, of the requests that had to wait."
    );
    describe_histogram!(
        LATENCY,
        metrics::Unit::Seconds,
        "From admission to the response's head or, for streams, to its first frame."
    );
}
