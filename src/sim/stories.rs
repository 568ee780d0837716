//! The events by which the published limits are known to fail, one scenario each.

use std::time::Duration;

use super::{Backend, Callers, Phase, Scenario, Work};

fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

fn patient(name: &str, backend: Backend) -> Scenario {
    Scenario::new(name, backend).callers(Callers::patient(backend.mean() * 10))
}

/// A minute at half of what the backend can do. Nobody should be refused.
pub fn half_load(backend: Backend) -> Scenario {
    patient("half load", backend).seconds(60, 0.5)
}

/// Twenty minutes at 1.3 times what the backend can do. A limit that compares with an average drifts.
pub fn long_overload(backend: Backend) -> Scenario {
    patient("long overload", backend)
        .seconds(1200, 1.3)
        .tick(seconds(1))
}

/// A minute at a twentieth of what the backend can do, then two in which work takes so many times as long. There is no
/// overload, and nobody leaves: a limit that takes latency for overload refuses for nothing.
pub fn slower(backend: Backend, times: f64) -> Scenario {
    Scenario::new("slower", backend)
        .seconds(60, 0.05)
        .phase(Phase::new(seconds(120), 0.05).slower(times))
}

/// A service of 600 workers at 100 ms meets one and a half times what it can do in the first second of its life.
pub fn cold_start() -> Scenario {
    let backend = Backend::workers(600, Duration::from_millis(100));
    patient("cold start", backend).seconds(20, 1.5)
}

/// Half a minute each with all workers, a quarter of them, and all of them again, asked for nine tenths of what all of
/// them can do.
pub fn three_quarters_lost(backend: Backend) -> Scenario {
    patient("three quarters lost", backend)
        .seconds(30, 0.9)
        .phase(Phase::new(seconds(30), 0.9).workers(0.25))
        .seconds(30, 0.9)
}

/// Ten seconds at three times what the backend can do, between calm times, with callers that come back three times.
/// Without a limit the work of callers that have long left keeps the backend busy for good.
pub fn retry_storm(backend: Backend) -> Scenario {
    let mean = backend.mean();
    patient("retry storm", backend)
        .callers(Callers::patient(mean * 10).retrying(3, mean * 10))
        .seconds(20, 0.6)
        .seconds(10, 3.0)
        .seconds(30, 0.6)
}

/// Two minutes of a model that prefills for 200 ms and then streams for 2 s on one of its slots, at `load`.
pub fn streaming(slots: usize, load: f64) -> Scenario {
    let backend = Backend::workers(slots, Duration::from_millis(200))
        .work(Work::Lognormal(0.5))
        .streaming(seconds(2));
    patient("streaming", backend).seconds(120, load)
}
