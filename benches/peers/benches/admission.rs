//! What a call costs behind each layer, in time and in allocations: let in and refused, on one thread and on two that
//! share a limit, without a recorder and with metrics-exporter-prometheus installed.
//!
//! `cargo bench --bench admission`; `-- --quick` for a glance; `-- drop_newest refused` for what has one of these words in
//! its name or heading.

use std::{
    env,
    fmt::{self, Write},
    io,
    path::Path as File,
    process::Command,
    time::Duration,
};

use backpressure_peers::{
    calls::{
        Path, Stack, stacks,
        worker::{self, Order, Worker},
    },
    report::{Asked, Report},
    rounds::{Spread, order},
};

/// One line of a table, and what was measured for it.
struct Row {
    stack: usize,
    threads: usize,
    recorder: bool,
    /// For each thread.
    calls: u64,
    /// Nanoseconds per call of a thread, in each round.
    nanos: Vec<f64>,
    /// The share of calls that did not go as they were meant to, at worst.
    astray: f64,
}

struct Effort {
    rounds: usize,
    round: Duration,
}

fn main() -> io::Result<()> {
    let args: Vec<String> = env::args().collect();
    if args.iter().any(|arg| arg == "--worker") {
        return worker::serve(args.iter().any(|arg| arg == "--recorder"));
    }
    let Some(asked) = Asked::of("admission")? else {
        return Ok(());
    };
    let effort = match asked.quick {
        true => Effort {
            rounds: 9,
            round: Duration::from_millis(1),
        },
        false => Effort {
            rounds: 61,
            round: Duration::from_millis(2),
        },
    };
    let stacks = stacks();
    let mut rows = rows(&stacks, &asked.words);
    measure(&mut rows, &stacks, &effort)?;
    let found = Found {
        rows,
        allocations: [allocations(false)?, allocations(true)?],
        stacks,
    };
    let mut report = Report::new("admission", asked);
    for path in Path::ALL {
        for &threads in path.threads() {
            found
                .table(path, threads, &mut report)
                .map_err(io::Error::other)?;
        }
    }
    writeln!(
        report,
        "\n{} rounds of {:?} of every line in turn. ns: of wall time per call and thread, the median round; ratio: to the line \
         marked with *,\nand what the recorder adds: the median of what each round says with the middle half of them. allocs: \
         per call, without a\nrecorder and with one.",
        effort.rounds, effort.round,
    )
    .map_err(io::Error::other)?;
    report.finish(Some(&found.summary()))
}

/// What has one of `words` in its name, or everything, and what it is compared to.
fn rows(stacks: &[Stack], words: &[String]) -> Vec<Row> {
    let wanted = |stack: &Stack| {
        let named = |word: &String| stack.name.contains(word) || stack.path.title().contains(word);
        words.is_empty() || words.iter().any(named)
    };
    let mut rows = Vec::new();
    for (index, stack) in stacks.iter().enumerate() {
        let is_reference = stack.name == stack.path.reference();
        let mut compared = stacks.iter().filter(|other| other.path == stack.path);
        let shown = wanted(stack) || is_reference && compared.any(wanted);
        if !shown {
            continue;
        }
        for &threads in stack.path.threads() {
            for recorder in [false, true] {
                if !recorder || stack.reports {
                    rows.push(Row {
                        stack: index,
                        threads,
                        recorder,
                        calls: 1000,
                        nanos: Vec::new(),
                        astray: 0.0,
                    });
                }
            }
        }
    }
    rows
}

fn measure(rows: &mut [Row], stacks: &[Stack], effort: &Effort) -> io::Result<()> {
    let program = env::current_exe()?;
    let mut plain = Worker::start(&program, &["--worker"])?;
    let mut recording = Worker::start(&program, &["--worker", "--recorder"])?;
    let mut turn = |row: &mut Row| {
        let worker = match row.recorder {
            true => &mut recording,
            false => &mut plain,
        };
        worker.make(Order {
            stack: row.stack,
            threads: row.threads,
            calls: row.calls,
        })
    };
    // Twice, since the first calls are not like the others.
    for _ in 0..2 {
        for row in &mut *rows {
            let nanos = turn(row)?.nanos.max(1);
            let calls = row.calls as f64 * effort.round.as_nanos() as f64 / nanos as f64;
            row.calls = match stacks[row.stack].path {
                // At its pace it makes no more of them in that time.
                Path::Paced => 90 * effort.round.as_millis() as u64,
                _ => (calls as u64).max(100),
            };
        }
    }
    for round in 0..effort.rounds {
        for row in order(round, rows.len()) {
            let row = &mut rows[row];
            let done = turn(row)?;
            row.nanos.push(done.nanos as f64 / row.calls as f64);
            let calls = row.calls * row.threads as u64;
            let right = match stacks[row.stack].path.admits() {
                true => done.tally.admitted,
                false => calls - done.tally.admitted,
            };
            row.astray = row.astray.max(1.0 - right as f64 / calls as f64);
        }
    }
    Ok(())
}

/// Per call of each stack.
fn allocations(recorder: bool) -> io::Result<Vec<f64>> {
    let program = File::new(env!("CARGO_BIN_EXE_allocations"));
    let mut command = Command::new(program);
    if recorder {
        command.arg("--recorder");
    }
    let output = command.output()?;
    String::from_utf8_lossy(&output.stdout)
        .lines()
        .map(|line| line.parse().map_err(io::Error::other))
        .collect()
}

struct Found {
    stacks: Vec<Stack>,
    rows: Vec<Row>,
    /// Per call of each stack, without a recorder and with one.
    allocations: [Vec<f64>; 2],
}

impl Found {
    fn row(&self, path: Path, threads: usize, recorder: bool, name: &str) -> Option<&Row> {
        self.rows.iter().find(|row| {
            let stack = &self.stacks[row.stack];
            (stack.path, stack.name) == (path, name)
                && (row.threads, row.recorder) == (threads, recorder)
        })
    }

    fn table(&self, path: Path, threads: usize, to: &mut Report) -> fmt::Result {
        let Some(reference) = self.row(path, threads, false, path.reference()) else {
            return Ok(());
        };
        let on = ["one thread", "two threads"][threads - 1];
        let title = format!("{}, {on}", path.title());
        writeln!(
            to,
            "\n{title:44}{:>8}{:>20}{:>8}{:>22}{:>8}",
            "ns", "ratio", "allocs", "recorder adds, ns", "allocs"
        )?;
        for stack in self.stacks.iter().filter(|stack| stack.path == path) {
            let Some(row) = self.row(path, threads, false, stack.name) else {
                continue;
            };
            let is_reference = stack.name == path.reference();
            let name = format!("{}{}", stack.name, if is_reference { " *" } else { "" });
            let ratio = Spread::between(&row.nanos, &reference.nanos, |ours, theirs| ours / theirs);
            write!(
                to,
                "{name:44}{:8.1}{:>20}{:8.2}",
                Spread::of(row.nanos.iter().copied()).median,
                format!("{ratio:.2}"),
                self.allocations[0][row.stack]
            )?;
            if let Some(recorded) = self.row(path, threads, true, stack.name) {
                let adds = |with, without| with - without;
                let added = Spread::between(&recorded.nanos, &row.nanos, adds);
                write!(
                    to,
                    "{:>22}{:8.2}",
                    format!("{added:.0}"),
                    self.allocations[1][row.stack]
                )?;
            }
            if row.astray > 0.0 {
                write!(to, "  ! up to {:.1} % went another way", 100.0 * row.astray)?;
            }
            writeln!(to)?;
        }
        Ok(())
    }

    /// The part that goes into the README.
    fn summary(&self) -> String {
        let mut text = String::from(
            "Nanoseconds per call of a service that answers at once, called as axum calls it; in brackets the allocations, where there \
             are\nany. Limits that find themselves are called 90 000 times a second by one thread in the first column, since above some \
             5000\nonly a share of the calls are samples; all else runs flat out.\n\n\
             | | admitted | two threads share the limit | refused | two threads |\n|---|---|---|---|---|\n",
        );
        for (title, path, admitted, refused) in COMPARED {
            let cell = |path: Path, threads: usize, name: &str| {
                let Some(row) = self.row(path, threads, false, name) else {
                    return "–".to_owned();
                };
                let nanos = Spread::of(row.nanos.iter().copied()).median;
                match self.allocations[0][row.stack] {
                    allocations if allocations < 0.005 => format!("{nanos:.0}"),
                    allocations => format!("{nanos:.0} ({allocations:.0})"),
                }
            };
            let shared = match path {
                Path::Paced => Path::Adaptive,
                path => path,
            };
            let cells = [
                cell(path, 1, admitted),
                cell(shared, 2, admitted),
                cell(Path::Refused, 1, refused),
                cell(Path::Refused, 2, refused),
            ];
            text += &format!("| {title} | {} |\n", cells.join(" | "));
        }
        text
    }
}

/// The lines of the README: what they are called, and what they are called when they admit and when they refuse.
const COMPARED: [(&str, Path, &str, &str); 9] = [
    (
        "`drop_newest`",
        Path::Admitted,
        "drop_newest",
        "drop_newest",
    ),
    (
        "`drop_oldest`",
        Path::Admitted,
        "drop_oldest",
        "drop_oldest, one evicts another",
    ),
    ("`block`", Path::Admitted, "block", "block, nobody may wait"),
    (
        "`adaptive(Aimd)`",
        Path::Paced,
        "adaptive(Aimd)",
        "adaptive(Aimd)",
    ),
    (
        "tower `GlobalConcurrencyLimit`, `LoadShed`",
        Path::Admitted,
        "tower limit + LoadShed",
        "tower limit + LoadShed",
    ),
    (
        "tower-acc `Aimd`, `LoadShed`",
        Path::Paced,
        "tower-acc Aimd",
        "tower-acc Aimd + LoadShed",
    ),
    (
        "tower-resilience `Aimd`, `LoadShed`",
        Path::Paced,
        "tower-resilience Aimd",
        "tower-resilience Aimd + LoadShed",
    ),
    (
        "tower-resilience bulkhead, `LoadShed`",
        Path::Admitted,
        "tower-resilience bulkhead",
        "tower-resilience bulkhead + LoadShed",
    ),
    (
        "little-loadshedder",
        Path::Paced,
        "little-loadshedder",
        "little-loadshedder",
    ),
];
