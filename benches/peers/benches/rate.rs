//! What a decision of a rate costs, on one thread and on two that share it: ours and governor's, with the same clock; then a
//! whole call through the layers around them.
//!
//! `cargo bench --bench rate`; `-- --quick` for a glance.

use std::{
    fmt::{self, Write},
    io,
    time::Duration,
};

use backpressure_peers::{
    decisions::{self, Path, Round, Side},
    limited::{self, Case, Layers},
    report::{Asked, Report},
    rounds::{Spread, order},
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
    tables(&effort, &mut report).map_err(io::Error::other)?;
    report.finish(None)
}

fn tables(effort: &Effort, to: &mut Report) -> fmt::Result {
    for path in Path::ALL {
        for threads in THREADS {
            let table = Table {
                title: path.title(),
                lines: Side::ALL.map(Side::name),
                threads,
                admits: path.admits(),
                make: |line: usize, calls| decisions::round(Side::ALL[line], path, threads, calls),
            };
            table.fill(effort, to)?;
        }
    }
    for case in Case::ALL {
        for threads in THREADS {
            let table = Table {
                title: case.title(),
                lines: Layers::ALL.map(Layers::name),
                threads,
                admits: case != Case::Refused,
                make: |line: usize, calls| limited::round(Layers::ALL[line], case, threads, calls),
            };
            table.fill(effort, to)?;
        }
    }
    writeln!(
        to,
        "\n{} rounds of {:?} of every line in turn. ns: of wall time per call and thread, the reading of the clock among it; ratio: \
         what each\nround says, to the last line: the median, and the middle half of them. Through the layers each has the clock it \
         comes with: ours\nthe system's monotonic one, tower_governor the processor's counter; and ours holds a slot until the body has ended, \
         which the other\nknows nothing of, nor does tower's GlobalConcurrencyLimit around it, which holds one until the head.",
        effort.rounds, effort.round,
    )
}

/// Some lines, the last of which is what the others are compared to.
struct Table<const N: usize, F> {
    title: &'static str,
    lines: [&'static str; N],
    threads: usize,
    admits: bool,
    /// So many calls on each thread, of the line with this number.
    make: F,
}

impl<const N: usize, F: Fn(usize, u64) -> Round> Table<N, F> {
    fn fill(&self, effort: &Effort, to: &mut Report) -> fmt::Result {
        let plural = if self.threads == 1 { "" } else { "s" };
        writeln!(to, "\n{}, {} thread{plural}", self.title, self.threads)?;
        writeln!(to, "{:<14} {:>22} {:>18}", "", "ns", "ratio")?;
        let nanos = self.measure(effort);
        for (name, of_line) in self.lines.iter().zip(&nanos) {
            let spread = format!("{:.1}", Spread::of(of_line.iter().copied()));
            let ratio = Spread::between(of_line, &nanos[N - 1], |a, b| a / b);
            let ratio = ratio.to_string();
            writeln!(to, "{name:<14} {spread:>22} {ratio:>18}")?;
        }
        Ok(())
    }

    /// Nanoseconds per call, of every line in each round.
    fn measure(&self, effort: &Effort) -> [Vec<f64>; N] {
        let calls: [u64; N] = std::array::from_fn(|line| self.calls(line, effort));
        let mut nanos = [const { Vec::new() }; N];
        for round in 0..effort.rounds {
            for line in order(round, N) {
                let done = (self.make)(line, calls[line]);
                let all = calls[line] * self.threads as u64;
                let right = if self.admits { all } else { 0 };
                assert_eq!(done.admitted, right, "{}, {}", self.lines[line], self.title);
                nanos[line].push(done.nanos);
            }
        }
        nanos
    }

    /// As many as fill a round, found by a trial.
    fn calls(&self, line: usize, effort: &Effort) -> u64 {
        const TRIAL: u64 = 10_000;
        (self.make)(line, TRIAL);
        let nanos = (self.make)(line, TRIAL).nanos.max(0.1);
        (effort.round.as_nanos() as f64 / nanos) as u64 + 1
    }
}
