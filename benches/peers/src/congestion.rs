//! The algorithms of congestion-limiter, whose samples only its own limiter can make.
//!
//! So its limiter makes them: it lets a token through that is as old as the latency, among as many others as were in
//! flight, on a clock of our own; and an algorithm that only takes notes gets hold of the sample.

use std::{
    fmt,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{Arc, Mutex, PoisonError},
};

use async_trait::async_trait;
use congestion_limiter::{
    limiter::{DefaultLimiter, Limiter as _, Outcome as Theirs, Token},
    limits::{LimitAlgorithm, Sample as TheirSample},
};
use tokio::runtime::{Builder, Runtime};
use tower_backpressure::limit::{Limit, Outcome, Sample};

/// More than any limit in the comparison.
const PLENTY: usize = 1 << 20;

#[derive(Clone, Debug, Default)]
struct Notes(Arc<Mutex<Option<TheirSample>>>);

impl Notes {
    fn swap(&self, sample: Option<TheirSample>) -> Option<TheirSample> {
        let mut noted = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        std::mem::replace(&mut *noted, sample)
    }
}

#[async_trait]
impl LimitAlgorithm for Notes {
    fn limit(&self) -> usize {
        PLENTY
    }

    async fn update(&self, sample: TheirSample) -> usize {
        self.swap(Some(sample));
        PLENTY
    }
}

/// An algorithm of congestion-limiter.
pub(crate) struct Congestion<A> {
    algorithm: A,
    runtime: Runtime,
    limiter: DefaultLimiter<Notes>,
    notes: Notes,
    others: Vec<Token>,
    panicked: bool,
}

impl<A> fmt::Debug for Congestion<A> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Congestion")
    }
}

impl<A: LimitAlgorithm> Congestion<A> {
    pub(crate) fn new(algorithm: A) -> Self {
        let runtime = Builder::new_current_thread()
            .enable_time()
            .start_paused(true)
            .build();
        let notes = Notes::default();
        Self {
            algorithm,
            runtime: runtime.expect("a runtime without I/O"),
            limiter: DefaultLimiter::new(notes.clone()),
            notes,
            others: Vec::new(),
            panicked: false,
        }
    }

    fn tell(&mut self, sample: &Sample, outcome: Theirs) -> usize {
        let others = sample.in_flight.saturating_sub(1);
        self.runtime.block_on(async {
            self.others.truncate(others);
            while self.others.len() < others {
                self.others.extend(self.limiter.try_acquire().await);
            }
            if let Some(token) = self.limiter.try_acquire().await {
                tokio::time::advance(sample.latency).await;
                self.limiter.release(token, Some(outcome)).await;
            }
            match self.notes.swap(None) {
                Some(sample) => self.algorithm.update(sample).await,
                None => self.algorithm.limit(),
            }
        })
    }
}

impl<A: LimitAlgorithm + Send + 'static> Limit for Congestion<A> {
    fn limit(&self) -> usize {
        self.algorithm.limit()
    }

    fn update(&mut self, sample: &Sample) -> usize {
        let outcome = match sample.outcome {
            Outcome::Success => Theirs::Success,
            Outcome::Overload => Theirs::Overload,
            // A dropped token makes no sample.
            _ => return self.algorithm.limit(),
        };
        if self.panicked {
            return self.algorithm.limit();
        }
        // Like a gate: what has panicked is not asked again.
        let told = catch_unwind(AssertUnwindSafe(|| self.tell(sample, outcome)));
        self.panicked = told.is_err();
        told.unwrap_or_else(|_| self.algorithm.limit())
    }
}
