//! Metric names, described once, and one set of kept handles per gate.
//!
//! A look-up by name costs 30 to 100 ns for each call, a kept handle 2. Handles are taken at the first request, not when
//! the layer is made: an application may well build its router before it installs its exporter. Where there was no
//! recorder then, one that shows up later is noticed within a few dozen requests; until then a request costs one look at
//! an empty cell. A recorder that panics is not heard, and nobody else notices.

use std::{
    cell::Cell,
    sync::{
        OnceLock,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use metrics::{
    Counter, Gauge, Histogram, IntoF64, Key, Label, Level, Metadata, counter, describe_counter,
    describe_gauge, describe_histogram, gauge, histogram,
};

use crate::{Reason, contained::contained, gate::Gate, limit::Outcome};

const LIMIT: &str = "backpressure_limit";
const IN_FLIGHT: &str = "backpressure_in_flight";
const WAITING: &str = "backpressure_waiting";
const ADMITTED: &str = "backpressure_admitted_total";
const REJECTED: &str = "backpressure_rejected_total";
const COMPLETED: &str = "backpressure_completed_total";
const RATE: &str = "backpressure_rate_per_second";
const KEYS: &str = "backpressure_keys";
const WAIT: &str = "backpressure_wait_seconds";
const LATENCY: &str = "backpressure_latency_seconds";

const OUTCOMES: [Outcome; 4] = [
    Outcome::Success,
    Outcome::Overload,
    Outcome::Ignore,
    Outcome::Cancelled,
];

/// Whether a recorder has been installed meanwhile is looked up once in so many requests.
pub(crate) const REQUESTS_PER_LOOK: u64 = 64;

/// What one gate reports. What every request looks at comes first, and nothing large lies between it and the rest of the gate.
#[derive(Debug, Default)]
#[repr(C)]
pub(crate) struct Recording {
    /// Taken once somebody listens. Until then nothing is reported, and nothing but this is looked at.
    handles: OnceLock<Box<Handles>>,
    /// Whether it has ever been looked for somebody.
    looked: AtomicBool,
    /// Of the gauge by which that is found out.
    key: OnceLock<Box<Key>>,
}

#[derive(Debug)]
struct Handles {
    limit: Gauge,
    /// Of a gate that has one.
    rate: Option<Gauge>,
    /// Of a gate that has keys.
    keys: Option<Gauge>,
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

    /// A request was let in. Whether anybody wants to know how long it takes.
    #[inline]
    pub(crate) fn admitted(&self, gate: &Gate) -> bool {
        match self.handles(gate) {
            Some(handles) => {
                handles.admitted(gate);
                true
            }
            None => false,
        }
    }

    /// Whether somebody is to be told that the `nth` permit comes back.
    #[inline]
    pub(crate) fn hears(&self, gate: &Gate, nth: u64) -> bool {
        self.handles.get().is_some() || nth % REQUESTS_PER_LOOK == 0 && self.look(gate).is_some()
    }

    /// A permit came back.
    #[inline]
    pub(crate) fn completed(&self, gate: &Gate, outcome: Outcome) {
        if let Some(handles) = self.handles.get() {
            handles.completed(gate, outcome);
        }
    }

    #[inline]
    pub(crate) fn rejected(&self, gate: &Gate, reason: Reason) {
        if let Some(handles) = self.handles(gate) {
            contained(|| handles.rejected[reason as usize].increment(1));
        }
    }

    pub(crate) fn in_flight(&self, gate: &Gate) {
        if let Some(handles) = self.handles(gate) {
            contained(|| handles.show_in_flight(gate));
        }
    }

    pub(crate) fn waiting(&self, gate: &Gate) {
        if let Some(handles) = self.handles(gate) {
            contained(|| handles.show_waiting(gate));
        }
    }

    pub(crate) fn keys(&self, gate: &Gate) {
        if let Some(handles) = self.handles(gate) {
            contained(|| handles.show_keys(gate));
        }
    }

    pub(crate) fn waited(&self, gate: &Gate, waited: Duration) {
        if let Some(handles) = self.handles(gate) {
            contained(|| handles.wait.record(waited));
        }
    }

    pub(crate) fn latency(&self, latency: Duration) {
        if let Some(handles) = self.handles.get() {
            contained(|| handles.latency.record(latency));
        }
    }

    pub(crate) fn limit(&self, gate: &Gate) {
        if let Some(handles) = self.handles(gate) {
            contained(|| handles.show_limit(gate));
        }
    }

    pub(crate) fn rate(&self, gate: &Gate) {
        if let Some(handles) = self.handles(gate) {
            contained(|| handles.show_rate(gate));
        }
    }

    #[inline]
    fn handles(&self, gate: &Gate) -> Option<&Handles> {
        match self.handles.get() {
            Some(handles) => Some(handles),
            None if self.looked.load(Ordering::Relaxed) => None,
            None => self.look(gate),
        }
    }

    /// Takes the handles, if there is a recorder by now.
    #[cold]
    fn look(&self, gate: &Gate) -> Option<&Handles> {
        self.looked.store(true, Ordering::Relaxed);
        if gate.above().is_some() {
            // What happens at a key's gate is reported by the one above, or there would be a label for each key.
            return None;
        }
        let key = self
            .key
            .get_or_init(|| Box::new(Key::from_parts(IN_FLIGHT, vec![label(gate)])));
        contained(|| {
            let heard = metrics::with_recorder(|recorder| {
                let metadata = Metadata::new(module_path!(), Level::INFO, Some(module_path!()));
                is_heard(&recorder.register_gauge(key, &metadata))
            });
            heard.then(|| &**self.handles.get_or_init(|| Box::new(Handles::new(gate))))
        })?
    }
}

fn label(gate: &Gate) -> Label {
    Label::new("gate", gate.settings().name.as_str().to_owned())
}

/// `metrics` does not say whether a recorder is installed; but a gauge that nobody listens to does not ask for the number that
/// it is moved by.
pub(crate) fn is_heard(gauge: &Gauge) -> bool {
    struct Nothing<'a>(&'a Cell<bool>);
    impl IntoF64 for Nothing<'_> {
        fn into_f64(self) -> f64 {
            self.0.set(true);
            0.0
        }
    }
    let asked = Cell::new(false);
    gauge.increment(Nothing(&asked));
    asked.get()
}

impl Handles {
    fn new(gate: &Gate) -> Self {
        describe();
        let name = gate.settings().name.as_str().to_owned();
        let handles = Self {
            limit: gauge!(LIMIT, "gate" => name.clone()),
            rate: (gate.room().has_rates()).then(|| gauge!(RATE, "gate" => name.clone())),
            keys: (gate.keys().is_some()).then(|| gauge!(KEYS, "gate" => name.clone())),
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
        handles.show_rate(gate);
        handles.show_keys(gate);
        handles.show_in_flight(gate);
        handles.show_waiting(gate);
        handles
    }

    #[inline(never)]
    fn admitted(&self, gate: &Gate) {
        contained(|| {
            self.admitted.increment(1);
            self.show_in_flight(gate);
        });
    }

    #[inline(never)]
    fn completed(&self, gate: &Gate, outcome: Outcome) {
        contained(|| {
            self.completed[outcome as usize].increment(1);
            self.show_in_flight(gate);
        });
    }

    fn show_limit(&self, gate: &Gate) {
        show(&self.limit, || gate.room().slots.read().limit());
    }

    fn show_rate(&self, gate: &Gate) {
        if let (Some(gauge), Some(rate)) = (&self.rate, gate.room().per_second()) {
            gauge.set(rate);
        }
    }

    fn show_keys(&self, gate: &Gate) {
        if let Some(gauge) = &self.keys {
            show(gauge, || gate.keys().map_or(0, |keys| keys.held()));
        }
    }

    fn show_waiting(&self, gate: &Gate) {
        show(&self.waiting, || gate.waiting());
    }

    #[inline]
    fn show_in_flight(&self, gate: &Gate) {
        show(&self.in_flight, || gate.room().slots.read().in_flight());
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
    describe_gauge!(RATE, "How much may start per second.");
    describe_gauge!(KEYS, "Keys that have a gate of their own.");
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
