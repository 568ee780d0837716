use std::{fmt, sync::Arc, time::Duration};

use super::Permit;
use crate::{
    limit::Outcome,
    sync::{Mutex, lock},
};

/// How a request goes, told by the service, where neither the head of its response nor the first frame tells it.
///
/// A stream may begin with bytes that only keep the connection alive, long before there is an answer. A 200 may turn out to be an
/// overload once it streams. A request that is a hundred times as large as others takes longer without anything being wrong. A
/// service that knows better puts a `Report` into the extensions of its response and keeps a clone beside the body. The gate
/// looks at it when the head comes, after each frame, and when the body ends or is dropped; a body's own destructor may still
/// say something.
///
/// With a report on a response whose status is a success, the gate takes no sample at the head or the first frame by itself. What
/// has not been said by the end of the body is sampled there. `sample_at` then means nothing.
///
/// ```
/// use std::time::Duration;
/// use tower_backpressure::{Report, limit::Outcome};
///
/// let report = Report::new();
/// let mut response = http::Response::new("a body that holds a clone of the report");
/// response.extensions_mut().insert(report.clone());
///
/// // Later, when the body has something to say:
/// report.sample(Outcome::Success, Duration::from_millis(80));
/// ```
#[derive(Clone, Default)]
pub struct Report {
    told: Arc<Mutex<Told>>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Told {
    sample: Option<(Outcome, Duration)>,
    outcome: Option<Outcome>,
}

impl Report {
    /// A report that says nothing yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// How long the answer took to begin, and how the request went so far: what the limit learns from. The latency counts as it is
    /// said, so that what is due to the size of a request can be left out. Only the first sample of a request counts. With
    /// [`Outcome::Cancelled`] the latency is a lower bound.
    pub fn sample(&self, outcome: Outcome, latency: Duration) {
        let mut told = lock(&self.told);
        told.sample.get_or_insert((outcome, latency));
    }

    /// How the request went in the end. What is said last counts. An overload is told to the limit even after a sample that was
    /// a success; any other outcome then only counts in the metrics.
    pub fn outcome(&self, outcome: Outcome) {
        lock(&self.told).outcome = Some(outcome);
    }

    /// Passes on what is new, and gives the outcome if there is one.
    pub(crate) fn tell(&self, permit: &mut Permit) -> Option<Outcome> {
        let told = *lock(&self.told);
        if let Some((outcome, latency)) = told.sample {
            permit.sample_told(outcome, latency);
        }
        match told.outcome {
            None => {}
            // The answer may yet begin, and its latency be told.
            Some(Outcome::Success) if told.sample.is_none() => {}
            Some(outcome) => permit.settle(outcome),
        }
        told.outcome
    }
}

impl fmt::Debug for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let told = *lock(&self.told);
        f.debug_struct("Report")
            .field("sample", &told.sample)
            .field("outcome", &told.outcome)
            .finish()
    }
}
