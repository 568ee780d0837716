//! What goes on, for the page: counted outside of the layer, so that it is counted in the same way with and without it.

use std::{
    collections::VecDeque,
    sync::{Mutex, MutexGuard},
    time::Duration,
};

use serde::Serialize;
use tokio::time::Instant;

/// How far back the times to the first token go.
const LATELY: Duration = Duration::from_secs(5);
const MOST: usize = 10_000;

/// Why there was no answer, as the page and the metrics call it.
pub const REASONS: [&str; 8] = [
    "limit",
    "rate",
    "over_burst",
    "queue_full",
    "max_wait",
    "deadline",
    "draining",
    "upstream",
];

#[derive(Debug, Default)]
pub struct Live(Mutex<Inner>);

#[derive(Debug, Default)]
struct Inner {
    open: usize,
    counts: Counts,
    first_tokens: VecDeque<(Instant, Duration)>,
}

/// Since the beginning.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Counts {
    pub arrived: u64,
    /// Answered to the end.
    pub answered: u64,
    /// The client left.
    pub left: u64,
    /// Began and did not come to their end: an error event, a broken connection.
    pub broken: u64,
    pub tokens: u64,
    /// One for each of [`REASONS`].
    pub refused: [u64; REASONS.len()],
}

impl Live {
    pub fn arrived(&self) {
        let mut inner = self.inner();
        inner.open += 1;
        inner.counts.arrived += 1;
    }

    pub fn refused(&self, reason: &str) {
        let nth = REASONS
            .iter()
            .position(|known| *known == reason)
            .unwrap_or(0);
        self.inner().counts.refused[nth] += 1;
    }

    pub fn first_token(&self, at: Instant, took: Duration) {
        let mut inner = self.inner();
        inner.first_tokens.push_back((at, took));
        while inner.first_tokens.len() > MOST {
            inner.first_tokens.pop_front();
        }
    }

    pub fn tokens(&self, more: u64) {
        self.inner().counts.tokens += more;
    }

    pub fn ended(&self, end: impl FnOnce(&mut Counts)) {
        let mut inner = self.inner();
        inner.open -= 1;
        end(&mut inner.counts);
    }

    /// Requests that have not ended.
    pub fn open(&self) -> usize {
        self.inner().open
    }

    pub fn counts(&self) -> Counts {
        self.inner().counts.clone()
    }

    /// The median and the ninety-ninth percentile of the times to the first token that came lately, in milliseconds.
    pub fn first_tokens(&self, now: Instant) -> [Option<f64>; 2] {
        let mut inner = self.inner();
        while inner
            .first_tokens
            .front()
            .is_some_and(|(at, _)| now - *at > LATELY)
        {
            inner.first_tokens.pop_front();
        }
        let mut times: Vec<_> = inner.first_tokens.iter().map(|(_, took)| *took).collect();
        times.sort_unstable();
        [0.5, 0.99].map(|q| {
            let nth = (times.len() as f64 * q) as usize;
            times.get(nth).map(|took| took.as_secs_f64() * 1000.0)
        })
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().expect("nothing panics under it")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::now;

    #[test]
    fn old_first_tokens_are_forgotten() {
        let live = Live::default();
        let began = now();
        live.first_token(began, Duration::from_millis(10));
        live.first_token(began + LATELY, Duration::from_millis(30));
        assert_eq!(live.first_tokens(began + LATELY), [Some(30.0), Some(30.0)]);
        assert_eq!(
            live.first_tokens(began + LATELY + LATELY),
            [Some(30.0), Some(30.0)]
        );
        assert_eq!(live.first_tokens(began + 3 * LATELY), [None, None]);
    }
}
