//! What is random: when callers come and how much work they bring.

use std::{f64::consts::TAU, time::Duration};

use fastrand::Rng;

use super::scenario::Phase;

/// How the time between two arrivals is spread around its mean.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub enum Arrivals {
    /// Callers that know nothing of each other. The default.
    Poisson,
    /// Gamma-distributed gaps with this coefficient of variation: 1 is Poisson, 2 is bursty, 13 is what traces of
    /// serverless functions show at worst.
    Gamma(f64),
    /// Poisson while on, nobody while off; the mean load stays that of the phase.
    OnOff {
        /// How long callers come.
        on: Duration,
        /// How long nobody comes.
        off: Duration,
    },
}

/// How the work of requests is spread around its mean.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub enum Work {
    /// All the same.
    Fixed,
    /// Exponential: coefficient of variation 1.
    Exponential,
    /// Lognormal with this σ; 1.2 gives a coefficient of variation of 1.8 and a heavy tail.
    Lognormal(f64),
    /// Nine in ten take half the mean, one in ten takes 5.5 times the mean.
    Bimodal,
}

impl Work {
    /// A draw with mean 1.
    pub(super) fn draw(self, rng: &mut Rng) -> f64 {
        match self {
            Work::Fixed => 1.0,
            Work::Exponential => exponential(rng),
            Work::Lognormal(sigma) => (sigma * normal(rng) - sigma * sigma / 2.0).exp(),
            Work::Bimodal if rng.f64() < 0.9 => 0.5,
            Work::Bimodal => 5.5,
        }
    }
}

pub(super) fn exponential(rng: &mut Rng) -> f64 {
    -(1.0 - rng.f64()).ln()
}

/// Box and Muller.
fn normal(rng: &mut Rng) -> f64 {
    (-2.0 * (1.0 - rng.f64()).ln()).sqrt() * (TAU * rng.f64()).cos()
}

/// Mean 1, shape `k`: Marsaglia and Tsang, A simple method for generating gamma variables, 2000.
fn gamma(rng: &mut Rng, k: f64) -> f64 {
    let boost = if k < 1.0 {
        (1.0 - rng.f64()).powf(1.0 / k)
    } else {
        1.0
    };
    let d = if k < 1.0 { k + 1.0 } else { k } - 1.0 / 3.0;
    let c = (9.0 * d).sqrt().recip();
    loop {
        let x = normal(rng);
        let v = (1.0 + c * x).powi(3);
        if v > 0.0 && (1.0 - rng.f64()).ln() < 0.5 * x * x + d - d * v + d * v.ln() {
            return boost * d * v / k;
        }
    }
}

/// A ramp goes up in so many steps.
const RAMP_STEPS: u64 = 200;

/// The times at which callers come.
///
/// Gaps are drawn for a rate of 1 and stretched by the rate in force, piece by piece, so that a change of rate in the
/// middle of a gap bends any process in the right way.
pub(super) struct Stream<'a> {
    rng: Rng,
    process: Arrivals,
    phases: &'a [Phase],
    /// Arrivals per nanosecond at a load of 1.
    capacity: f64,
    phase: usize,
    phase_began: u64,
    now: u64,
}

impl<'a> Stream<'a> {
    pub(super) fn new(process: Arrivals, phases: &'a [Phase], capacity: f64, seed: u64) -> Self {
        Self {
            rng: Rng::with_seed(seed),
            process,
            phases,
            capacity,
            phase: 0,
            phase_began: 0,
            now: 0,
        }
    }

    /// The next arrival and the phase it falls in; `None` once the last phase is over.
    pub(super) fn next(&mut self) -> Option<(u64, usize)> {
        let mut gap = match self.process {
            Arrivals::Gamma(cv) => gamma(&mut self.rng, (cv * cv).recip()),
            Arrivals::Poisson | Arrivals::OnOff { .. } => exponential(&mut self.rng),
        };
        loop {
            let (rate, until) = self.rate()?;
            let ahead = (until - self.now) as f64 * rate;
            if gap < ahead {
                self.now += (gap / rate) as u64;
                return Some((self.now, self.phase));
            }
            gap -= ahead;
            self.now = until;
        }
    }

    /// The rate now, and until when it stays.
    fn rate(&mut self) -> Option<(f64, u64)> {
        let mut phase = self.phases.get(self.phase)?;
        while self.now >= self.phase_began + phase.nanos() {
            self.phase_began += phase.nanos();
            self.phase += 1;
            phase = self.phases.get(self.phase)?;
        }
        let (from, to) = phase.loads();
        let nanos = phase.nanos();
        let mut until = self.phase_began + nanos;
        let mut load = from;
        if from != to {
            let step = (nanos / RAMP_STEPS).max(1);
            let nth = (self.now - self.phase_began) / step;
            load += (to - from) * (nth as f64 + 0.5) / RAMP_STEPS as f64;
            until = until.min(self.phase_began + (nth + 1) * step);
        }
        if let Arrivals::OnOff { on, off } = self.process {
            let (on, off) = (on.as_nanos() as u64, off.as_nanos() as u64);
            let at = self.now % (on + off);
            if at < on {
                load *= (on + off) as f64 / on as f64;
                until = until.min(self.now - at + on);
            } else {
                load = 0.0;
                until = until.min(self.now - at + on + off);
            }
        }
        Some((load * self.capacity, until))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mean_and_cv(mut draw: impl FnMut() -> f64) -> (f64, f64) {
        let n = 200_000;
        let (mut sum, mut squares) = (0.0, 0.0);
        for _ in 0..n {
            let x = draw();
            sum += x;
            squares += x * x;
        }
        let mean = sum / n as f64;
        (mean, (squares / n as f64 - mean * mean).sqrt() / mean)
    }

    #[test]
    fn work_has_mean_one_and_the_spread_it_says() {
        for (work, spread) in [
            (Work::Fixed, 0.0),
            (Work::Exponential, 1.0),
            (Work::Lognormal(1.2), 1.795),
            (Work::Bimodal, 1.5),
        ] {
            let mut rng = Rng::with_seed(7);
            let (mean, cv) = mean_and_cv(|| work.draw(&mut rng));
            assert!((mean - 1.0).abs() < 0.02, "{work:?}: {mean}");
            assert!((cv - spread).abs() < 0.15, "{work:?}: {cv}");
        }
    }

    #[test]
    fn gamma_gaps_have_the_coefficient_of_variation_asked_for() {
        for spread in [0.5, 2.0, 6.0] {
            let mut rng = Rng::with_seed(7);
            let (mean, cv) = mean_and_cv(|| gamma(&mut rng, 1.0 / (spread * spread)));
            assert!((mean - 1.0).abs() < 0.05, "{spread}: {mean}");
            assert!((cv / spread - 1.0).abs() < 0.1, "{spread}: {cv}");
        }
    }

    #[test]
    fn every_process_keeps_the_load_of_its_phase() {
        let second = Duration::from_secs(1);
        let phases = [
            Phase::new(200 * second, 0.5),
            Phase::ramp(200 * second, 0.0, 2.0),
        ];
        let bursts = Arrivals::OnOff {
            on: second,
            off: 3 * second,
        };
        for process in [Arrivals::Poisson, Arrivals::Gamma(2.0), bursts] {
            let mut stream = Stream::new(process, &phases, 100e-9, 3);
            let mut counts = [0.0; 2];
            while let Some((_, phase)) = stream.next() {
                counts[phase] += 1.0;
            }
            assert!((counts[0] / 10_000.0 - 1.0f64).abs() < 0.06, "{process:?}");
            assert!((counts[1] / 20_000.0 - 1.0f64).abs() < 0.06, "{process:?}");
        }
    }
}
