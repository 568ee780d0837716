//! `cargo run --release -p backpressure-peers --bin soak -- --seconds 60`: a server behind each strategy in turn, under clients
//! that leave, reset and read slowly, while its limit moves. Loopback only.
//!
//! It ends with an error if anything is left at rest, if the counts do not add up, if an answer is not that of its request
//! or comes twice, or if memory goes on growing after the first third.

use std::{env, error::Error, time::Duration};

use backpressure_peers::soak::{heading, resident, stages};

/// How often each strategy has its turn.
const ROUNDS: u32 = 6;
/// By how much memory may grow from the first third to the end: what an allocator keeps for itself goes up and down by
/// about as much.
const GROWTH: u64 = 8 << 20;

fn main() -> Result<(), Box<dyn Error>> {
    let mut args = env::args().skip(1);
    let (mut seconds, mut sanitized) = (60, false);
    while let Some(arg) = args.next() {
        match arg.as_str() {
            "--seconds" => seconds = args.next().ok_or("how many `--seconds`?")?.parse()?,
            // The thread sanitizer keeps memory of its own, and does not see the locks of HTTP/2.
            "--sanitized" => sanitized = true,
            other => {
                return Err(format!("{other:?} is neither `--seconds n` nor `--sanitized`").into());
            }
        }
    }
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()?;
    runtime.block_on(soak(Duration::from_secs(seconds), sanitized))
}

async fn soak(time: Duration, sanitized: bool) -> Result<(), Box<dyn Error>> {
    let mut stages = stages().await?;
    let turn = time / ROUNDS / stages.len() as u32;
    let mut third = 0;
    for round in 0..ROUNDS {
        for stage in &mut stages {
            stage.round(turn, round.into(), !sanitized).await?;
        }
        let resident = resident()?;
        println!("round {} of {ROUNDS}: {:.1} MiB", round + 1, mib(resident));
        if round + 1 == ROUNDS / 3 {
            third = resident;
        }
    }
    println!("\n{}", heading());
    for stage in &stages {
        println!("{}", stage.report());
    }
    let grown = resident()?.saturating_sub(third);
    println!("\nnothing left, every count adds up, each answer that of its request and no other");
    println!("grown by {:.1} MiB since the first third", mib(grown));
    if grown >= GROWTH && !sanitized {
        return Err(format!("that is more than {:.0} MiB", mib(GROWTH)).into());
    }
    Ok(())
}

fn mib(bytes: u64) -> f64 {
    bytes as f64 / f64::from(1 << 20)
}
