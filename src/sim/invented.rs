//! Scenarios by which the limits are judged: other services and other misfortunes than those of the
//! [`table`](super::table), fixed before any constant was chosen with this simulator, and never used to choose one.

use std::time::Duration;

use super::{Arrivals, Backend, Callers, Phase, Scenario, Work};

/// Workers and mean work, in milliseconds, of services that the table does not have.
const SERVICES: [(usize, u64); 6] = [(2, 100), (3, 10), (8, 30), (32, 10), (64, 50), (200, 40)];

/// All of them.
pub fn scenarios() -> Vec<Scenario> {
    let mut all = Vec::new();
    for (nth, (workers, mean)) in SERVICES.into_iter().enumerate() {
        let mean = Duration::from_millis(mean);
        let shapes = [
            Work::Exponential,
            Work::Lognormal(0.5),
            Work::Lognormal(1.2),
            Work::Fixed,
            Work::Bimodal,
        ];
        let backend = Backend::workers(workers, mean).work(shapes[nth % shapes.len()]);
        all.extend(crowds(backend));
        all.extend(misfortunes(backend));
        all.extend(manners(backend));
    }
    all.extend(other_backends());
    all
}

fn named(name: &str, backend: Backend) -> Scenario {
    let full = format!(
        "{name} {}x{:?} {:?}",
        backend.size(),
        backend.mean(),
        backend.work
    );
    Scenario::new(full, backend).callers(Callers::patient(backend.mean() * 10))
}

/// Callers that do not come evenly.
fn crowds(backend: Backend) -> Vec<Scenario> {
    let on_off = |on, off| Arrivals::OnOff {
        on: Duration::from_millis(on),
        off: Duration::from_millis(off),
    };
    let ramp = |seconds, from, to| Phase::ramp(Duration::from_secs(seconds), from, to);
    vec![
        named("on-off-slow", backend)
            .arrivals(on_off(5000, 5000))
            .seconds(60, 1.0),
        named("on-off-quick", backend)
            .arrivals(on_off(300, 900))
            .seconds(60, 0.8),
        named("gamma-2", backend)
            .arrivals(Arrivals::Gamma(2.0))
            .seconds(60, 0.7),
        named("gamma-6", backend)
            .arrivals(Arrivals::Gamma(6.0))
            .seconds(60, 1.5),
        named("gamma-13", backend)
            .arrivals(Arrivals::Gamma(13.0))
            .seconds(60, 0.8),
        named("ramp", backend)
            .phase(ramp(30, 0.1, 3.0))
            .phase(ramp(30, 3.0, 0.1)),
        named("ramp-quick", backend)
            .seconds(10, 0.2)
            .phase(ramp(3, 0.2, 5.0))
            .seconds(20, 5.0)
            .phase(ramp(3, 5.0, 0.2))
            .seconds(20, 0.2),
    ]
}

/// Backends that do not stay as they were.
fn misfortunes(backend: Backend) -> Vec<Scenario> {
    let part = |seconds, load| Phase::new(Duration::from_secs(seconds), load);
    let mut flapping = named("flapping", backend);
    for _ in 0..5 {
        flapping = flapping
            .phase(part(8, 0.9))
            .phase(part(8, 0.9).workers(0.5));
    }
    let mut sliding = named("sliding", backend);
    for step in 0..8 {
        sliding = sliding.phase(part(10, 0.7).slower(1.0 + 0.35 * f64::from(step)));
    }
    vec![
        flapping,
        sliding,
        named("slower-under-load", backend)
            .phase(part(30, 2.0))
            .phase(part(30, 2.0).slower(2.5))
            .phase(part(30, 2.0)),
        named("slower-at-rest", backend)
            .phase(part(20, 0.15))
            .phase(part(40, 0.15).slower(5.0))
            .phase(part(20, 0.15)),
        named("faster", backend)
            .phase(part(30, 0.3).slower(3.0))
            .phase(part(40, 0.9)),
        named("nearly-lost", backend)
            .phase(part(20, 0.7))
            .phase(part(20, 0.7).workers(0.1))
            .phase(part(30, 0.7)),
    ]
}

/// Callers with manners, good and bad.
fn manners(backend: Backend) -> Vec<Scenario> {
    let mean = backend.mean();
    let patient = Callers::patient(mean * 10);
    let storm = |name: &str, callers| {
        named(name, backend)
            .callers(callers)
            .seconds(20, 0.6)
            .seconds(10, 3.0)
            .seconds(30, 0.6)
    };
    vec![
        storm("retries", patient.retrying(3, mean * 5)),
        storm("retries-obedient", patient.retrying(2, mean * 5).obedient()),
        named("hasty", backend)
            .callers(Callers::patient(mean * 4))
            .seconds(60, 2.0),
        named("stubborn", backend)
            .callers(Callers::patient(mean * 30))
            .seconds(60, 2.0),
        named("endless", backend)
            .callers(Callers::default())
            .seconds(60, 1.5),
        named("noticed", backend)
            .callers(patient.noticed())
            .seconds(60, 3.0),
        named("failing", backend.failing(0.2))
            .seconds(20, 0.5)
            .seconds(60, 2.0),
        named("queue", backend)
            .waiting(2 * backend.size(), Some(mean * 2))
            .seconds(60, 2.0),
    ]
}

/// Backends that are no workers with a queue.
fn other_backends() -> Vec<Scenario> {
    let ms = Duration::from_millis;
    let mut all = Vec::new();
    for (knee, mean) in [(4, 40), (30, 15), (120, 60)] {
        for steepness in [1.0, 1.5, 2.0] {
            let backend = Backend::knee(knee, ms(mean), steepness);
            all.push(
                named(&format!("knee-{steepness}"), backend)
                    .seconds(20, 0.5)
                    .seconds(60, 2.0),
            );
        }
    }
    for (workers, mean) in [(10, 30), (80, 30)] {
        let backend = Backend::workers(workers, ms(mean));
        let half = backend.capacity() / 2.0;
        all.push(named("rate", backend.rate(half)).seconds(60, 1.5));
        all.push(named("refusing", backend.refuses_beyond(workers)).seconds(60, 1.3));
        all.push(named("refusing-late", backend.refuses_beyond(3 * workers)).seconds(60, 3.0));
    }
    for (workers, mean, stream) in [(6, 200, 2000), (40, 300, 3000)] {
        let backend = Backend::workers(workers, ms(mean)).work(Work::Lognormal(0.5));
        let backend = backend.streaming(ms(stream));
        all.push(named("llm-calm", backend).seconds(120, 0.6));
        all.push(named("llm-busy", backend).seconds(120, 2.0));
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_are_more_than_a_hundred_and_each_has_a_name() {
        let all = scenarios();
        assert!(all.len() >= 100, "{}", all.len());
        assert!(all.iter().all(|scenario| !scenario.phases().is_empty()));
    }
}
