//! Instructions per call, which do not depend on the machine's mood. `.ci/instructions` runs this and compares.
//!
//! For limits that find themselves the clock stands still, since it decides how many calls they look at, which is then every
//! one of them, and when they end a window.

use std::hint::black_box;

use backpressure_peers::calls::{Loop, Path, stacks, worker};
use gungraun::{library_benchmark, library_benchmark_group, main};

/// What only happens at first is over.
const BEFORE: u64 = 10_000;
/// Enough for what happens only now and then; `.ci/instructions` divides by it.
const CALLS: u64 = 1_000;

#[library_benchmark]
#[bench::block(ready(Path::Admitted, "block"))]
#[bench::drop_newest(ready(Path::Admitted, "drop_newest"))]
#[bench::drop_oldest(ready(Path::Admitted, "drop_oldest"))]
#[bench::adaptive_fixed(ready(Path::Admitted, "adaptive(Fixed)"))]
#[bench::adaptive_aimd(timeless(Path::Adaptive, "adaptive(Aimd)"))]
#[bench::adaptive_gradient2(timeless(Path::Adaptive, "adaptive(Gradient2)"))]
#[bench::adaptive_vegas(timeless(Path::Adaptive, "adaptive(Vegas)"))]
#[bench::rate(timeless(Path::Admitted, "rate(TokenBucket)"))]
#[bench::and_rate(timeless(Path::Admitted, "drop_newest and_rate(TokenBucket)"))]
#[bench::per_key(ready(Path::Admitted, "drop_newest, per key likewise"))]
#[bench::tower(ready(Path::Admitted, "tower GlobalConcurrencyLimit"))]
fn admitted(calls: Loop) -> Loop {
    run(calls)
}

#[library_benchmark]
#[bench::block(ready(Path::Refused, "block, nobody may wait"))]
#[bench::drop_newest(ready(Path::Refused, "drop_newest"))]
#[bench::drop_oldest(ready(Path::Refused, "drop_oldest, one evicts another"))]
#[bench::adaptive_aimd(ready(Path::Refused, "adaptive(Aimd)"))]
#[bench::rate(timeless(Path::Refused, "rate(TokenBucket)"))]
#[bench::tower(ready(Path::Refused, "tower limit + LoadShed"))]
fn refused(calls: Loop) -> Loop {
    run(calls)
}

#[library_benchmark]
#[bench::block(recorded(Path::Admitted, "block"))]
#[bench::drop_newest(recorded(Path::Admitted, "drop_newest"))]
#[bench::adaptive_fixed(recorded(Path::Admitted, "adaptive(Fixed)"))]
#[bench::refused(recorded(Path::Refused, "drop_newest"))]
fn with_recorder(calls: Loop) -> Loop {
    run(calls)
}

#[library_benchmark]
#[bench::bare(ready(Path::Http, "bare HTTP service"))]
#[bench::drop_newest(ready(Path::Http, "drop_newest"))]
#[bench::adaptive_aimd(timeless(Path::Http, "adaptive(Aimd)"))]
#[bench::refused(ready(Path::HttpRefused, "drop_newest"))]
fn over_http(calls: Loop) -> Loop {
    run(calls)
}

fn run(mut calls: Loop) -> Loop {
    black_box(calls(CALLS));
    calls
}

/// One loop over a limit that has been used for a while, and that outlives it.
fn ready(path: Path, name: &str) -> Loop {
    let stacks = stacks();
    let stack = stacks
        .iter()
        .find(|stack| stack.path == path && stack.name == name)
        .expect("it is among the stacks");
    let shared = Box::leak(Box::new(stack.make()));
    let mut calls = shared();
    calls(BEFORE);
    calls
}

fn timeless(path: Path, name: &str) -> Loop {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build();
    let runtime = Box::leak(Box::new(runtime.expect("a runtime without I/O")));
    // For as long as the process lives.
    std::mem::forget(runtime.enter());
    ready(path, name)
}

fn recorded(path: Path, name: &str) -> Loop {
    let recorder = worker::install();
    let calls = ready(path, name);
    recorder.run_upkeep();
    calls
}

library_benchmark_group!(
    name = calls,
    benchmarks = [admitted, refused, with_recorder, over_http]
);

main!(library_benchmark_groups = calls);
