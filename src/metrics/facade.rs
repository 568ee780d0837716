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

use crate::{Reason, gate::Gate, limit::Outcome};

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
    pub(crate) fn look_again(&self, gate: &Gate) {
        if self.sure.get().is_none() && recorder_installed() {
            self.sure.get_or_init(|| Handles::new(gate));
        }
    }

    #[inline]
    pub(crate) fn admitted(&self, gate: &Gate) {
        let handles = self.handles(gate);
        handles.admitted.increment(1);
        handles.show_in_flight(gate);
    }

    #[inline]
    pub(crate) fn completed(&self, gate: &Gate, outcome: Outcome) {
        let handles = self.handles(gate);
        handles.completed[outcome as usize].increment(1);
        handles.show_in_flight(gate);
    }

    #[inline]
    pub(crate) fn rejected(&self, gate: &Gate, reason: Reason) {
        self.handles(gate).rejected[reason as usize].increment(1);
    }

    pub(crate) fn in_flight(&self, gate: &Gate) {
        self.handles(gate).show_in_flight(gate);
    }

    pub(crate) fn waiting(&self, gate: &Gate) {
        self.handles(gate).show_waiting(gate);
    }

    pub(crate) fn waited(&self, gate: &Gate, waited: Duration) {
        self.handles(gate).wait.record(waited);
    }

    #[inline]
    pub(crate) fn latency(&self, gate: &Gate, latency: Duration) {
        self.handles(gate).latency.record(latency);
    }

    pub(crate) fn limit(&self, gate: &Gate) {
        self.handles(gate).show_limit(gate);
    }

    #[inline]
    fn handles(&self, gate: &Gate) -> &Handles {
        match self.sure.get().or_else(|| self.first.get()) {
            Some(handles) => handles,
            None => self.take(gate),
        }
    }

    #[cold]
    fn take(&self, gate: &Gate) -> &Handles {
        let handles = if recorder_installed() {
            &self.sure
        } else {
            &self.first
        };
        handles.get_or_init(|| Handles::new(gate))
    }
}

/// `metrics` does not say whether a recorder is installed, but the one that stands in for none has no size.
fn recorder_installed() -> bool {
    metrics::with_recorder(|recorder| size_of_val(recorder) > 0)
}

impl Handles {
    fn new(gate: &Gate) -> Self {
        describe();
        let name = gate.settings().name.clone();
        let handles = Self {
            limit: gauge!(LIMIT, "gate" => name.clone()),
            in_flight: gauge!(IN_FLIGHT, "gate" => name.clone()),
            waiting: gauge!(WAITING, "gate" => name.clone()),
            admitted: counter!(ADMITTED, "gate" => name.clone()),
            rejected: Reason::ALL.map(|reason| {
                counter!(REJECTED, "gate" => name.clone(), "reason" => reason.as_str())
            }),
            completed: OUTCOMES.map(|outcome| {
                counter!(COMPLETED, "gate" => name.clone(), "outcome" => outcome.as_str())
            }),
            wait: histogram!(WAIT, "gate" => name.clone()),
            latency: histogram!(LATENCY, "gate" => name.clone()),
        };
        handles.show_limit(gate);
        handles.show_in_flight(gate);
        handles.show_waiting(gate);
        handles
    }

    fn show_limit(&self, gate: &Gate) {
        show(&self.limit, || gate.slots().read().limit());
    }

    fn show_waiting(&self, gate: &Gate) {
        show(&self.waiting, || gate.waiting());
    }

    #[inline]
    fn show_in_flight(&self, gate: &Gate) {
        show(&self.in_flight, || gate.slots().read().in_flight());
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
