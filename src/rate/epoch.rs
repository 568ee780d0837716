use std::{sync::OnceLock, time::Duration};

use tokio::time::Instant;

/// The moment from which the times of a rate are measured: when the first gate that has it was made.
///
/// A rate of your own that several gates are to share has one, and gives it in [`Rate::epoch`](super::Rate::epoch).
#[derive(Clone, Debug, Default)]
pub struct Epoch(OnceLock<Instant>);

impl Epoch {
    /// One that begins with the first gate.
    pub fn new() -> Self {
        Self::default()
    }

    /// What a gate that was made at `born` has to add to its own times.
    pub(crate) fn shift(&self, born: Instant) -> Shift {
        let began = *self.0.get_or_init(|| born);
        Shift {
            later: born.saturating_duration_since(began),
            earlier: began.saturating_duration_since(born),
        }
    }
}

/// From the times of a gate to those of a rate. One of the two is 0.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Shift {
    later: Duration,
    earlier: Duration,
}

impl Shift {
    #[inline]
    pub(crate) fn of(self, time: Duration) -> Duration {
        time.saturating_add(self.later).saturating_sub(self.earlier)
    }
}

#[cfg(all(test, not(backpressure_loom)))]
mod tests {
    use super::*;
    use crate::gate::clock::Clock;

    #[tokio::test(start_paused = true)]
    async fn times_are_those_of_the_first_gate() {
        let (second, third) = (Duration::from_secs(1), Duration::from_secs(3));
        let older = Clock::new().born();
        let first = older + second;
        let younger = older + third;
        let epoch = Epoch::new();
        let now = |born: Instant| epoch.shift(born).of(younger - born);
        assert_eq!(now(first), Duration::from_secs(2));
        assert_eq!(now(older), Duration::from_secs(2));
        assert_eq!(now(younger), Duration::from_secs(2));
    }
}
