//! What waiting costs each of a thousand and of a hundred thousand that wait for one slot, in time and in memory.
//!
//! `cargo bench --bench queue`; `-- --quick` for a glance.

use std::{env, io, process::Command};

use backpressure_peers::{
    rounds::Spread,
    waiters::{Event, queues},
};

fn main() -> io::Result<()> {
    let asked = |word: &str| env::args().any(|arg| arg == word);
    // `cargo test --all-targets` runs benches as well, without this.
    if !asked("--bench") {
        return Ok(());
    }
    let rounds = if asked("--quick") { 3 } else { 21 };
    let queues = queues();
    for waiters in [1_000, 100_000] {
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
        let bytes = bytes(waiters)?;
        println!(
            "{waiters} wait: ns for each, of {rounds} rounds in turn the median; bytes of each"
        );
        print!("{:30}", "");
        for event in Event::ALL {
            print!("{:>14}", event.title());
        }
        println!("{:>14}{:>10}", "bytes, heap", "+ inline");
        for ((queue, nanos), bytes) in queues.iter().zip(&nanos).zip(bytes) {
            print!("{:30}", queue.name);
            for nanos in nanos {
                match nanos.is_empty() {
                    true => print!("{:>14}", "-"),
                    false => print!("{:14.0}", Spread::of(nanos.iter().copied()).median),
                }
            }
            println!("{bytes:14.0}{:10}", queue.inline_bytes);
        }
        println!();
    }
    println!(
        "inline: the future, under block and tower's limit the service, of one that waits; each is in a box of its own, whose \
         making\nis part of join. expire: from the moment at which the time of all is over until each has been told."
    );
    Ok(())
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
