//! What a recorder is told of a call, and nothing else: the least that numbers like ours can cost with it.

#![allow(clippy::disallowed_methods, reason = "to read the clock is part of it")]

use std::{
    convert::Infallible,
    task::{Context, Poll},
    time::Instant,
};

use metrics::{Counter, Gauge, Histogram, counter, gauge, histogram};
use tower::Service;

use super::{
    drive::{Answer, Ask, Constant},
    worker,
};

/// Counts each call twice, moves a gauge twice, and takes the time. Without a recorder there is nobody to tell.
#[derive(Clone)]
pub(super) struct Told {
    handles: Option<&'static Handles>,
}

struct Handles {
    admitted: Counter,
    completed: Counter,
    in_flight: Gauge,
    latency: Histogram,
}

impl Told {
    pub(super) fn new() -> Self {
        let handles = worker::is_recorded().then(|| {
            // For as long as the process lives.
            &*Box::leak(Box::new(Handles {
                admitted: counter!("told_admitted_total"),
                completed: counter!("told_completed_total"),
                in_flight: gauge!("told_in_flight"),
                latency: histogram!("told_latency_seconds"),
            }))
        });
        Self { handles }
    }
}

impl Service<Ask> for Told {
    type Response = u64;
    type Error = Infallible;
    type Future = Answer;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, ask: Ask) -> Answer {
        let Some(handles) = self.handles else {
            return Constant.call(ask);
        };
        let begun = Instant::now();
        handles.admitted.increment(1);
        handles.in_flight.set(1.0);
        let answer = Constant.call(ask);
        handles.latency.record(begun.elapsed());
        handles.completed.increment(1);
        handles.in_flight.set(0.0);
        answer
    }
}
