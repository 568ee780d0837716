//! What waiting costs each of a thousand and of a hundred thousand that wait for one slot, in time and in memory.
//!
//! `cargo bench --bench queue`; `-- --quick` for a glance.

use std::{
    fmt::{self, Write},
    io,
    process::Command,
};

use backpressure_peers::{
    report::{Asked, Report},
    rounds::Spread,
    waiters::{Event, queues},
};

fn main() -> io::Result<()> {
    let Some(asked) = Asked::of("queue")? else {
        return Ok(());
    };
    let rounds = if asked.quick { 3 } else { 21 };
    let mut report = Report::new("queue", asked);
    for waiters in [1_000, 100_000] {
        table(waiters, rounds, &bytes(waiters)?, &mut report).map_err(io::Error::other)?;
    }
    writeln!(
        report,
        "inline: the future, under block and tower's limit the service, of one that waits; each is in a box of its own, whose \
         making\nis part of join. expire: from the moment at which the time of all is over until each has been told."
    )
    .map_err(io::Error::other)?;
    report.finish(None)
}

fn table(waiters: usize, rounds: usize, bytes: &[f64], to: &mut Report) -> fmt::Result {
    let queues = queues();
    let mut nanos = vec![vec![Vec::new(); Event::ALL.len()]; queues.len()];
    for _ in 0..rounds {
        for (queue, nanos) in queues.iter().zip(&mut nanos) {
            for (event, nanos) in Event::ALL.into_iter().zip(nanos) {
                if let Some(cost) = queue.cost(event, waiters) {
                    nanos.push(cost.as_nanos() as f64 / waiters as f64);
                }
            }
        }
    }
    writeln!(
        to,
        "{waiters} wait: ns for each, the median of {rounds} rounds in turn; bytes of each"
    )?;
    write!(to, "{:30}", "")?;
    for event in Event::ALL {
        write!(to, "{:>14}", event.title())?;
    }
    writeln!(to, "{:>14}{:>10}", "bytes, heap", "+ inline")?;
    for ((queue, nanos), bytes) in queues.iter().zip(&nanos).zip(bytes) {
        write!(to, "{:30}", queue.name)?;
        for nanos in nanos {
            match nanos.is_empty() {
                true => write!(to, "{:>14}", "-")?,
                false => write!(to, "{:14.0}", Spread::of(nanos.iter().copied()).median)?,
            }
        }
        writeln!(to, "{bytes:14.0}{:10}", queue.inline_bytes)?;
    }
    writeln!(to)
}

/// On the heap, for each waiter of each queue, beside the box in which it lives.
fn bytes(waiters: usize) -> io::Result<Vec<f64>> {
    let output = Command::new(env!("CARGO_BIN_EXE_allocations"))
        .args(["--waiters", &waiters.to_string()])
        .output()?;
    String::from_utf8_lossy(&output.stdout)
        .lines()
        .map(|line| line.parse().map_err(io::Error::other))
        .collect()
}
