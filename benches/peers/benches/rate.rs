//! What a decision of a rate costs, on one thread and on two that share it: ours and governor, with the same clock.
//!
//! `cargo bench --bench rate`; `-- --quick` for a glance.

use std::{
    fmt::{self, Write},
    io,
    time::Duration,
};

use backpressure_peers::{
    decisions::{Path, Side, round},
    report::{Asked, Report},
    rounds::Spread,
};

const THREADS: [usize; 2] = [1, 2];

struct Effort {
    rounds: usize,
    round: Duration,
}

fn main() -> io::Result<()> {
    let Some(asked) = Asked::of("rate")? else {
        return Ok(());
    };
    let effort = match asked.quick {
        true => Effort {
            rounds: 9,
            round: Duration::from_millis(1),
        },
        false => Effort {
            rounds: 101,
            round: Duration::from_millis(2),
        },
    };
    let mut report = Report::new("rate", asked);
    decisions(&effort, &mut report).map_err(io::Error::other)?;
    report.finish(None)
}

fn decisions(effort: &Effort, to: &mut Report) -> fmt::Result {
    for path in Path::ALL {
        for threads in THREADS {
            let plural = if threads == 1 { "" } else { "s" };
            writeln!(to, "\n{}, {threads} thread{plural}", path.title())?;
            writeln!(to, "{:<14} {:>22} {:>18}", "", "ns", "to governor")?;
            let nanos = measure(path, threads, effort);
            for (side, of_side) in Side::ALL.into_iter().zip(&nanos) {
                let spread = Spread::of(of_side.iter().copied());
                let ratio = Spread::between(of_side, &nanos[Side::ALL.len() - 1], |a, b| a / b);
                let (name, spread, ratio) =
                    (side.name(), format!("{spread:.1}"), format!("{ratio}"));
                writeln!(to, "{name:<14} {spread:>22} {ratio:>18}")?;
            }
        }
    }
    writeln!(
        to,
        "\n{} rounds of {:?} of every line in turn. ns: of wall time per call and thread, the reading of the clock among it; ratio: \
         what each\nround says: the median, and the middle half of them.",
        effort.rounds, effort.round,
    )
}

/// Nanoseconds per call, of every side in each round.
fn measure(path: Path, threads: usize, effort: &Effort) -> Vec<Vec<f64>> {
    let calls: Vec<u64> = Side::ALL
        .map(|side| calls(side, path, threads, effort))
        .to_vec();
    let mut nanos = vec![Vec::new(); Side::ALL.len()];
    for round_number in 0..effort.rounds {
        let mut order: Vec<usize> = (0..Side::ALL.len()).collect();
        // There and back, so that nobody always comes after the same neighbour.
        if round_number % 2 == 1 {
            order.reverse();
        }
        for index in order {
            let done = round(Side::ALL[index], path, threads, calls[index]);
            let right = if path.admits() {
                calls[index] * threads as u64
            } else {
                0
            };
            assert_eq!(done.admitted, right, "{:?}, {path:?}", Side::ALL[index]);
            nanos[index].push(done.nanos);
        }
    }
    nanos
}

/// As many as fill a round, found by a trial.
fn calls(side: Side, path: Path, threads: usize, effort: &Effort) -> u64 {
    const TRIAL: u64 = 10_000;
    round(side, path, threads, TRIAL);
    let nanos = round(side, path, threads, TRIAL).nanos.max(0.1);
    (effort.round.as_nanos() as f64 / nanos) as u64 + 1
}
