//! What a call costs behind each layer, in time and in allocations: let in and refused, on one thread and on two that
//! share a limit, without a recorder and with metrics-exporter-prometheus installed.
//!
//! `cargo bench --bench admission`; `-- --quick` for a glance; `-- drop_newest refused` for what has one of these words in
//! its name or heading.

#![allow(clippy::disallowed_methods, reason = "wall time is what is measured")]

use std::{
    env, io,
    path::Path as File,
    process::Command,
    time::{Duration, Instant},
};

use backpressure_peers::{
    calls::{
        Path, Stack, stacks,
        worker::{self, Order, Worker},
    },
    rounds::Spread,
};

const THREADS: [usize; 2] = [1, 2];

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
    let args: Vec<String> = env::args().skip(1).collect();
    let asked = |word: &str| args.iter().any(|arg| arg == word);
    if asked("--worker") {
        return worker::serve(asked("--recorder"));
    }
    // `cargo test --all-targets` runs benches as well, without this.
    if !asked("--bench") {
        return Ok(());
    }
    let effort = if asked("--quick") {
        Effort {
            rounds: 9,
            round: Duration::from_millis(1),
        }
    } else {
        Effort {
            rounds: 41,
            round: Duration::from_millis(3),
        }
    };
    let words: Vec<&str> = args
        .iter()
        .map(String::as_str)
        .filter(|arg| !arg.starts_with("--"))
        .collect();
    let stacks = stacks();
    let mut rows = rows(&stacks, &words);
    let begin = Instant::now();
    measure(&mut rows, &stacks, &effort)?;
    let allocations = [allocations(false)?, allocations(true)?];
    for path in Path::ALL {
        for threads in THREADS {
            print(path, threads, &rows, &stacks, &allocations);
        }
    }
    println!(
        "\n{} rounds of {:?} of every line in turn, {:.0} s in all. ns: of wall time per call and thread, the median round; \
         ratio: to the\nline marked with *, and added: what the recorder adds, the median of what each round says with the \
         middle half of\nthem. allocs: per call, without a recorder and with one.",
        effort.rounds,
        effort.round,
        begin.elapsed().as_secs_f64()
    );
    Ok(())
}

/// What has one of `words` in its name, or everything, and what it is compared to.
fn rows(stacks: &[Stack], words: &[&str]) -> Vec<Row> {
    let wanted = |stack: &Stack| {
        words.is_empty()
            || words
                .iter()
                .any(|word| stack.name.contains(word) || stack.path.title().contains(word))
    };
    let mut rows = Vec::new();
    for (index, stack) in stacks.iter().enumerate() {
        let compared = stack.name == stack.path.reference()
            && stacks
                .iter()
                .any(|other| other.path == stack.path && wanted(other));
        if !wanted(stack) && !compared {
            continue;
        }
        for threads in THREADS {
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
        let worker = if row.recorder {
            &mut recording
        } else {
            &mut plain
        };
        let order = Order {
            stack: row.stack,
            threads: row.threads,
            calls: row.calls,
        };
        worker.make(order)
    };
    // Twice, since the first calls are not like the others.
    for _ in 0..2 {
        for row in &mut *rows {
            let nanos = turn(row)?.nanos.max(1);
            let calls = row.calls as f64 * effort.round.as_nanos() as f64 / nanos as f64;
            row.calls = (calls as u64).max(100);
        }
    }
    for round in 0..effort.rounds {
        // There and back, so that nobody always comes after the same neighbour.
        let mut one = |row: &mut Row| -> io::Result<()> {
            let done = turn(row)?;
            row.nanos.push(done.nanos as f64 / row.calls as f64);
            let calls = row.calls * row.threads as u64;
            let right = match stacks[row.stack].path.admits() {
                true => done.tally.admitted,
                false => calls - done.tally.admitted,
            };
            row.astray = row.astray.max(1.0 - right as f64 / calls as f64);
            Ok(())
        };
        if round % 2 == 0 {
            rows.iter_mut().try_for_each(&mut one)?;
        } else {
            rows.iter_mut().rev().try_for_each(&mut one)?;
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

fn print(path: Path, threads: usize, rows: &[Row], stacks: &[Stack], allocations: &[Vec<f64>; 2]) {
    let find = |name: &str, recorder: bool| {
        rows.iter().find(|row| {
            let stack = &stacks[row.stack];
            stack.path == path
                && row.threads == threads
                && row.recorder == recorder
                && stack.name == name
        })
    };
    let Some(reference) = find(path.reference(), false) else {
        return;
    };
    let on = if threads == 1 {
        "one thread"
    } else {
        "two threads"
    };
    println!(
        "\n{:38}{:>9}{:>20}{:>9}{:>24}{:>9}",
        format!("{}, {on}", path.title()),
        "ns",
        "ratio",
        "allocs",
        "recorder adds, ns",
        "allocs"
    );
    for (index, stack) in stacks.iter().enumerate() {
        let Some(row) = find(stack.name, false).filter(|row| row.stack == index) else {
            continue;
        };
        let star = if stack.name == path.reference() {
            " *"
        } else {
            ""
        };
        let ratio = Spread::between(&row.nanos, &reference.nanos, |ours, theirs| ours / theirs);
        print!(
            "{:38}{:9.1}{:>20}{:9.2}",
            format!("{}{star}", stack.name),
            Spread::of(row.nanos.iter().copied()).median,
            format!("{ratio:.2}"),
            allocations[0][index]
        );
        if let Some(recorded) = find(stack.name, true) {
            let added =
                Spread::between(&recorded.nanos, &row.nanos, |with, without| with - without);
            print!("{:>24}{:9.2}", format!("{added:.0}"), allocations[1][index]);
        }
        if row.astray > 0.0 {
            print!("  ! up to {:.1} % went another way", 100.0 * row.astray);
        }
        println!();
    }
}
