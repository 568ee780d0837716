//! Decisions of rates, ours and governor's, each side with the same clock.

#![allow(clippy::disallowed_methods, reason = "real time is what is measured")]

use std::{
    cell::Cell,
    hint::black_box,
    num::NonZeroU32,
    sync::Barrier,
    thread,
    time::{Duration, Instant},
};

use governor::{
    Quota, RateLimiter,
    clock::{Clock, MonotonicClock},
};
use tower_backpressure::rate::{AdaptiveRate, Rate, Short, TokenBucket};

/// Whose rate decides.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// Ours.
    TokenBucket,
    /// Ours; spends like the bucket, and counts what was spent.
    AdaptiveRate,
    /// The peer.
    Governor,
}

/// What it is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Path {
    /// There is enough, though the bucket is not full: the time stands still.
    Admitted,
    /// Each call finds the bucket full again.
    Full,
    /// There is nothing.
    Refused,
    /// There is enough, and the time is that of the machine.
    RealTime,
}

/// What a round took.
#[derive(Clone, Copy, Debug)]
pub struct Round {
    /// Of wall time per call of a thread.
    pub nanos: f64,
    /// How many calls were let in.
    pub admitted: u64,
}

impl Side {
    /// In the order of the table.
    pub const ALL: [Self; 3] = [Self::TokenBucket, Self::AdaptiveRate, Self::Governor];

    /// What the table calls it.
    pub fn name(self) -> &'static str {
        match self {
            Self::TokenBucket => "TokenBucket",
            Self::AdaptiveRate => "AdaptiveRate",
            Self::Governor => "governor",
        }
    }
}

impl Path {
    /// In the order of the table.
    pub const ALL: [Self; 4] = [Self::Admitted, Self::Full, Self::Refused, Self::RealTime];

    /// What the table calls it.
    pub fn title(self) -> &'static str {
        match self {
            Self::Admitted => "admitted, the bucket in use",
            Self::Full => "admitted, the bucket full",
            Self::Refused => "refused",
            Self::RealTime => "admitted, with the machine's clock",
        }
    }

    /// Whether all calls are let in; otherwise none is.
    pub fn admits(self) -> bool {
        self != Self::Refused
    }

    /// In tokens.
    fn burst(self) -> NonZeroU32 {
        match self {
            Self::Refused => NonZeroU32::MIN,
            _ => NonZeroU32::MAX,
        }
    }

    /// How far the clock goes with each reading: to the next token, or not at all.
    fn step(self) -> u64 {
        u64::from(self == Self::Full)
    }
}

/// Tokens come once a nanosecond, which governor's clock is true to as well.
const PER_SECOND: NonZeroU32 = NonZeroU32::new(1_000_000_000).unwrap();

/// `calls` on each of `threads`, at one rate that is made for them.
pub fn round(side: Side, path: Path, threads: usize, calls: u64) -> Round {
    let asked = Asked {
        path,
        threads,
        calls,
    };
    let clock = Stepping(path.step());
    let burst = path.burst().get().into();
    match (side, path) {
        (Side::TokenBucket, Path::RealTime) => asked.ours(&bucket(burst), machine()),
        (Side::TokenBucket, _) => asked.ours(&bucket(burst), || clock.now()),
        (Side::AdaptiveRate, Path::RealTime) => asked.ours(&adaptive(burst), machine()),
        (Side::AdaptiveRate, _) => asked.ours(&adaptive(burst), || clock.now()),
        (Side::Governor, Path::RealTime) => asked.governor(&MonotonicClock),
        (Side::Governor, _) => asked.governor(&clock),
    }
}

fn bucket(burst: u64) -> TokenBucket {
    TokenBucket::per_second(PER_SECOND.get().into()).burst(burst)
}

fn adaptive(burst: u64) -> AdaptiveRate {
    let rate = f64::from(PER_SECOND.get());
    AdaptiveRate::default().max(rate).initial(rate).burst(burst)
}

fn machine() -> impl Fn() -> Duration + Sync {
    let born = Instant::now();
    move || Instant::now().saturating_duration_since(born)
}

struct Asked {
    path: Path,
    threads: usize,
    calls: u64,
}

/// A decision is the time to wait, if there is one. Only where all are refused is it asked for: governor works it out when it
/// is, and whoever refuses has to say it.
impl Asked {
    fn ours(&self, rate: &impl Rate, now: impl Fn() -> Duration + Sync) -> Round {
        if self.path.admits() {
            return self.timed(|| rate.spend(now(), 1).err().map(|_| Duration::MAX));
        }
        self.timed(|| match rate.spend(now(), 1) {
            Ok(()) => None,
            Err(Short::Wait(wait)) => Some(wait),
            Err(Short::Never { .. }) => Some(Duration::MAX),
        })
    }

    fn governor<C: Clock + Clone + Sync>(&self, clock: &C) -> Round {
        let quota = Quota::per_second(PER_SECOND).allow_burst(self.path.burst());
        let limiter = RateLimiter::direct_with_clock(quota, clock.clone());
        if self.path.admits() {
            return self.timed(|| limiter.check().err().map(|_| Duration::MAX));
        }
        self.timed(|| {
            let until = limiter.check().err()?;
            Some(until.wait_time_from(clock.now()))
        })
    }

    fn timed(&self, decide: impl Fn() -> Option<Duration> + Sync) -> Round {
        let start = Barrier::new(self.threads);
        let run = || {
            TIME.set(1_000_000_000);
            // The one token that there is where all are to be refused.
            black_box(decide());
            start.wait();
            let began = Instant::now();
            let (mut admitted, mut told) = (0, 0);
            for _ in 0..self.calls {
                match decide() {
                    None => admitted += 1,
                    Some(wait) => told ^= wait.as_secs() + u64::from(wait.subsec_nanos()),
                }
            }
            black_box(told);
            (began.elapsed().as_nanos() as f64, admitted)
        };
        let done: Vec<(f64, u64)> = if self.threads == 1 {
            vec![run()]
        } else {
            thread::scope(|scope| {
                let threads: Vec<_> = (0..self.threads).map(|_| scope.spawn(run)).collect();
                let ended = threads.into_iter().map(|thread| thread.join());
                ended
                    .map(|done| done.expect("no decision panics"))
                    .collect()
            })
        };
        let nanos: f64 = done.iter().map(|&(nanos, _)| nanos).sum();
        Round {
            nanos: nanos / (self.threads as u64 * self.calls) as f64,
            admitted: done.iter().map(|&(_, admitted)| admitted).sum(),
        }
    }
}

thread_local! {
    static TIME: Cell<u64> = const { Cell::new(0) };
}

/// Each thread's own, and further by so many nanoseconds with each reading.
#[derive(Clone, Copy, Debug)]
struct Stepping(u64);

impl Clock for Stepping {
    type Instant = Duration;

    #[inline]
    fn now(&self) -> Duration {
        let now = TIME.get() + self.0;
        TIME.set(now);
        Duration::from_nanos(now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_side_lets_in_what_the_path_says() {
        for path in Path::ALL {
            for side in Side::ALL {
                let round = round(side, path, 2, 1000);
                let expected = if path.admits() { 2000 } else { 0 };
                assert_eq!(round.admitted, expected, "{side:?}, {path:?}");
            }
        }
    }
}
