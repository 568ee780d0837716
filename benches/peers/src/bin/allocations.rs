//! Counts allocations, in a process of its own: an allocator that counts costs time.
//!
//! Prints those of a call through each stack, one number for each of them, in their order; `--recorder` installs
//! metrics-exporter-prometheus first. With `--waiters N`, the bytes that each of N waiters takes in each queue.

use std::env;

use allocation_counter::measure;
use backpressure_peers::{
    calls::{stacks, worker},
    waiters::queues,
};

/// What only happens at first is over.
const BEFORE: u64 = 10_000;
const COUNTED: u64 = 10_000;

fn main() {
    let args: Vec<String> = env::args().collect();
    if let Some(at) = args.iter().position(|arg| arg == "--waiters") {
        bytes(args[at + 1].parse().expect("a number of waiters"));
    } else {
        calls(args.iter().any(|arg| arg == "--recorder"));
    }
}

fn calls(recorder: bool) {
    let recorder = recorder.then(worker::install);
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

fn bytes(waiters: usize) {
    for queue in queues() {
        let mut kept = None;
        let counted = measure(|| kept = Some(queue.fill(waiters)));
        // Not the boxes, nor the list of them.
        let ours = waiters * (queue.inline_bytes + size_of::<Box<()>>());
        println!(
            "{}",
            (counted.bytes_current as f64 - ours as f64) / waiters as f64
        );
    }
}
