//! Plays the table, and adds up.

use std::{
    fmt::{self, Write},
    sync::{Mutex, PoisonError},
    time::Duration,
};

use tower_backpressure::sim::{
    Backend, Report, Scenario, Work, stories,
    table::{Scores, best_fixed, shares},
};

use crate::Contender;

/// What one contender reached.
#[derive(Clone, Debug)]
pub struct Row {
    /// The contender.
    pub name: &'static str,
    /// Phase by phase, of the best fixed limit.
    pub shares: Scores,
    /// Scenario by scenario, of the best fixed limits of their phases.
    pub whole: Scores,
    /// The 99th percentile of the latency of a phase, in mean service times.
    pub p99: Scores,
    /// Seconds from a cold start to nine tenths of what 600 workers can do.
    pub cold: Option<f64>,
    /// Seconds from the loss of three quarters of the workers to nine tenths of what the rest can do.
    pub lost: Option<f64>,
    /// Seconds from their return to nine tenths of the load.
    pub back: Option<f64>,
}

/// Does something with every scenario, on all cores, and keeps the order.
fn each<R: Send>(scenarios: &[Scenario], f: impl Fn(&Scenario) -> R + Sync) -> Vec<R> {
    let todo = Mutex::new(scenarios.iter().enumerate().collect::<Vec<_>>());
    let done = Mutex::new(Vec::with_capacity(scenarios.len()));
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        for _ in 0..cores {
            scope.spawn(|| {
                loop {
                    let next = todo.lock().unwrap_or_else(PoisonError::into_inner).pop();
                    let Some((nth, scenario)) = next else { return };
                    let result = f(scenario);
                    let mut done = done.lock().unwrap_or_else(PoisonError::into_inner);
                    done.push((nth, result));
                }
            });
        }
    });
    let mut done = done.into_inner().unwrap_or_else(PoisonError::into_inner);
    done.sort_by_key(|(nth, _)| *nth);
    done.into_iter().map(|(_, result)| result).collect()
}

/// Scores contenders on some scenarios.
pub fn rows(scenarios: &[Scenario], seeds: &[u64], contenders: &[Contender]) -> Vec<Row> {
    let best: Vec<_> = seeds
        .iter()
        .map(|seed| each(scenarios, |scenario| best_fixed(scenario, *seed)))
        .collect();
    contenders
        .iter()
        .map(|contender| {
            let (mut phases, mut whole, mut p99) = (Vec::new(), Vec::new(), Vec::new());
            for (seed, best) in seeds.iter().zip(&best) {
                let play = |s: &Scenario| s.run(contender.make(s), *seed);
                let reports = each(scenarios, play);
                for ((scenario, report), best) in scenarios.iter().zip(&reports).zip(best) {
                    phases.extend(shares(report, best).into_iter().flatten());
                    whole.extend(share_of_all(report, best));
                    let mean = scenario.backend().mean().as_secs_f64();
                    let served = report.phases.iter().filter(|tally| tally.served > 50);
                    p99.extend(
                        served.map(|tally| tally.latency.quantile(0.99).as_secs_f64() / mean),
                    );
                }
            }
            let (cold, lost, back) = times(contender);
            Row {
                name: contender.name,
                shares: phases.into_iter().collect(),
                whole: whole.into_iter().collect(),
                p99: p99.into_iter().collect(),
                cold,
                lost,
                back,
            }
        })
        .collect()
}

fn share_of_all(report: &Report, best: &[Option<u64>]) -> Option<f64> {
    let scored = report.phases.iter().zip(best);
    let (mut served, mut possible) = (0, 0);
    for (tally, best) in scored.filter_map(|(tally, best)| Some((tally, (*best)?))) {
        served += tally.served;
        possible += best;
    }
    (possible > 0).then(|| served as f64 / possible as f64)
}

/// Cold start, loss and return.
fn times(contender: &Contender) -> (Option<f64>, Option<f64>, Option<f64>) {
    let second = Duration::from_secs;
    let seconds = |time: Option<Duration>| time.map(|time| time.as_secs_f64());
    let cold = stories::cold_start();
    let capacity = cold.backend().capacity();
    let report = cold.run(contender.make(&cold), 11);
    let started = seconds(report.time_to(0.9 * capacity, Duration::ZERO));

    let backend = Backend::workers(100, Duration::from_millis(50)).work(Work::Exponential);
    let story = stories::three_quarters_lost(backend);
    let report = story.run(contender.make(&story), 11);
    let capacity = backend.capacity();
    let after = |from: u64, wanted: f64| {
        let time = report.time_to(wanted, second(from))?;
        (time < second(30)).then_some(time)
    };
    let lost = seconds(after(30, 0.9 * 0.25 * capacity));
    let back = seconds(after(60, 0.9 * 0.9 * capacity));
    (started, lost, back)
}

/// Writes rows as a table.
///
/// # Errors
///
/// If they cannot be written.
pub fn write(to: &mut impl Write, title: &str, rows: &[Row]) -> fmt::Result {
    writeln!(to, "\n{title}\n")?;
    writeln!(
        to,
        "{:32} {:>5} {:>5} {:>5} {:>5} | {:>5} {:>5} | {:>6} | {:>5} {:>5} {:>5}",
        "limit", "mean", "p10", "p5", "min", "whole", "p10", "p99/m", "cold", "lost", "back"
    )?;
    let time = |time: Option<f64>| time.map_or_else(|| "-".to_owned(), |t| format!("{t:.1}"));
    for row in rows {
        writeln!(
            to,
            "{:32} {:5.3} {:5.3} {:5.3} {:5.3} | {:5.3} {:5.3} | {:6.2} | {:>5} {:>5} {:>5}",
            row.name,
            row.shares.mean(),
            row.shares.quantile(0.1),
            row.shares.quantile(0.05),
            row.shares.min(),
            row.whole.mean(),
            row.whole.quantile(0.1),
            row.p99.quantile(0.5),
            time(row.cold),
            time(row.lost),
            time(row.back),
        )?;
    }
    Ok(())
}
