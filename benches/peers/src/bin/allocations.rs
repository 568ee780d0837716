//! Counts the allocations of a call through each stack, in a process of its own: an allocator that counts costs time.
//!
//! Prints one number for each of them, in their order. `--recorder` installs metrics-exporter-prometheus first.

use std::env;

use allocation_counter::measure;
use backpressure_peers::calls::{stacks, worker};

/// What only happens at first is over.
const BEFORE: u64 = 10_000;
const COUNTED: u64 = 10_000;

fn main() {
    let recorder = env::args()
        .any(|arg| arg == "--recorder")
        .then(worker::install);
    for stack in stacks() {
        let shared = stack.make();
        let mut calls = shared();
        calls(BEFORE);
        if let Some(recorder) = &recorder {
            recorder.run_upkeep();
        }
        let counted = measure(|| {
            calls(COUNTED);
        });
        println!("{}", counted.count_total as f64 / COUNTED as f64);
    }
}
