use std::{fmt, time::Duration};

/// What happened.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Report {
    /// By the phase in which a caller first came, whenever the answer did.
    pub phases: Vec<Tally>,
    /// By the time at which things happened.
    pub series: Vec<Point>,
}

/// What became of the callers of a phase.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct Tally {
    /// Callers, each counted once however often it retried.
    pub callers: u64,
    /// Callers that got their answer in time.
    pub served: u64,
    /// Attempts that the gate refused.
    pub rejected: u64,
    /// Attempts whose caller left.
    pub left: u64,
    /// Attempts that the backend refused.
    pub refused: u64,
    /// Attempts that failed for reasons of their own.
    pub failed: u64,
    /// From admission to answer, of those served.
    pub latency: Histogram,
}

/// A step of the series.
#[derive(Clone, Copy, Debug, Default)]
#[non_exhaustive]
pub struct Point {
    /// The end of the step.
    pub at: Duration,
    /// The limit in force then.
    pub limit: usize,
    /// In flight at the gate then.
    pub in_flight: usize,
    /// In the backend then, those whose callers have left included.
    pub inside: usize,
    /// Attempts within the step.
    pub attempts: u32,
    /// Callers served within the step.
    pub served: u32,
    /// Attempts refused by the gate within the step.
    pub rejected: u32,
    /// Mean latency of those served within the step; zero if there were none.
    pub latency: Duration,
}

impl Report {
    /// Callers served per second between two times of the series.
    pub fn goodput(&self, from: Duration, to: Duration) -> f64 {
        let served: u64 = self.between(from, to).map(|p| u64::from(p.served)).sum();
        served as f64 / (to - from).as_secs_f64()
    }

    /// Attempts refused by the gate between two times of the series.
    pub fn rejected(&self, from: Duration, to: Duration) -> u64 {
        self.between(from, to).map(|p| u64::from(p.rejected)).sum()
    }

    /// The mean limit between two times of the series.
    pub fn mean_limit(&self, from: Duration, to: Duration) -> f64 {
        let limits = self.between(from, to).map(|p| p.limit as f64);
        let (n, sum) = limits.fold((0.0, 0.0), |(n, sum), limit| (n + 1.0, sum + limit));
        sum / f64::max(n, 1.0)
    }

    /// The highest limit between two times of the series.
    pub fn peak_limit(&self, from: Duration, to: Duration) -> usize {
        self.between(from, to).map(|p| p.limit).max().unwrap_or(0)
    }

    /// The time after `from` until goodput, over windows of half a second, first reaches `per_second`.
    pub fn time_to(&self, per_second: f64, from: Duration) -> Option<Duration> {
        let window = Duration::from_millis(500);
        self.series
            .iter()
            .map(|point| point.at)
            .filter(|at| *at >= from + window)
            .find(|at| self.goodput(*at - window, *at) >= per_second)
            .map(|at| at - from)
    }

    fn between(&self, from: Duration, to: Duration) -> impl Iterator<Item = &Point> {
        let first = self.series.partition_point(|point| point.at <= from);
        self.series[first..]
            .iter()
            .take_while(move |point| point.at <= to)
    }
}

/// Latencies, in buckets 3 % wide at most.
#[derive(Clone, Default)]
pub struct Histogram {
    buckets: Vec<u64>,
    count: u64,
}

const FINE: u32 = 5;

impl Histogram {
    pub(super) fn record(&mut self, nanos: u64) {
        let exponent = (nanos | (1 << FINE)).ilog2();
        let index = (u64::from(exponent - FINE) << FINE) + (nanos >> (exponent - FINE));
        let index = index as usize;
        if index >= self.buckets.len() {
            self.buckets.resize(index + 1, 0);
        }
        self.buckets[index] += 1;
        self.count += 1;
    }

    /// How many latencies it has seen.
    pub fn count(&self) -> u64 {
        self.count
    }

    /// The latency below which this share of all lies: 0.99 for the 99th percentile. Zero if there are none.
    pub fn quantile(&self, share: f64) -> Duration {
        let wanted = ((self.count as f64 * share).ceil() as u64).max(1);
        let mut seen = 0;
        for (index, count) in self.buckets.iter().enumerate() {
            seen += count;
            if seen >= wanted {
                return Duration::from_nanos(lowest(index as u64));
            }
        }
        Duration::ZERO
    }
}

/// The lowest number of a bucket.
fn lowest(index: u64) -> u64 {
    let exponent = (index >> FINE).saturating_sub(1);
    (index - (exponent << FINE)) << exponent
}

impl fmt::Debug for Histogram {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Histogram")
            .field("count", &self.count)
            .field("p50", &self.quantile(0.5))
            .field("p99", &self.quantile(0.99))
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quantile_is_within_three_percent() {
        let mut histogram = Histogram::default();
        for n in 1..=100_000 {
            histogram.record(n * 1000);
        }
        for share in [0.01, 0.5, 0.9, 0.99, 1.0] {
            let nanos = histogram.quantile(share).as_nanos() as f64;
            assert!(
                (nanos / (share * 1e8) - 1.0).abs() < 0.033,
                "{share}: {nanos}"
            );
        }
        assert_eq!(Histogram::default().quantile(0.5), Duration::ZERO);
    }

    #[test]
    fn buckets_do_not_overlap() {
        for nanos in [
            0,
            1,
            31,
            32,
            33,
            63,
            64,
            65,
            1000,
            123_456_789,
            u64::MAX >> 1,
        ] {
            let mut histogram = Histogram::default();
            histogram.record(nanos);
            let low = histogram.quantile(1.0).as_nanos() as u64;
            assert!(low <= nanos && nanos - low <= nanos / 32, "{nanos}: {low}");
        }
    }
}
