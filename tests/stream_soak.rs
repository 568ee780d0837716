//! Many producers as fast as they can, consumers whose speed changes, for as long as one likes; every item accounted for, and
//! memory flat.
//!
//! ```text
//! cargo test --release --features stream --test stream_soak -- --ignored --nocapture
//! STREAM_SOAK_SECONDS=300 cargo test ...
//! ```
//!
//! Without `--ignored` it runs for a second.
#![allow(clippy::disallowed_methods, reason = "a soak takes real time")]

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use tower_backpressure::{
    AdaptiveRateController, BackpressureController,
    BackpressureStrategy::{self, Adaptive, Block, DropNewest, DropOldest},
    stream::{SendErrorKind, Sender},
};

const PRODUCERS: u64 = 4;
const ROUND: Duration = Duration::from_millis(250);

#[test]
fn a_second_of_everything() {
    soak(Duration::from_secs(1));
}

#[test]
#[ignore = "takes minutes"]
fn minutes_of_everything() {
    let seconds =
        std::env::var("STREAM_SOAK_SECONDS").map_or(180, |s| s.parse().expect("a number"));
    soak(Duration::from_secs(seconds));
}

/// Round after round, one for each strategy in turn.
fn soak(time: Duration) {
    let began = Instant::now();
    let controllers = [Block, DropNewest, DropOldest, Adaptive].map(controller);
    let mut round = 0;
    let mut settled = None;
    let mut moved = 0;
    while began.elapsed() < time {
        let controller = &controllers[round % controllers.len()];
        moved += play(controller, round as u64);
        round += 1;
        // What is there after some rounds is what there may be.
        if round == 3 * controllers.len() {
            settled = resident_kib();
        }
        if let (Some(settled), Some(now)) = (settled, resident_kib()) {
            assert!(
                now < settled + 16 * 1024,
                "{now} KiB after {round} rounds, {settled} KiB before"
            );
        }
    }
    for controller in &controllers {
        let metrics = controller.metrics();
        assert_eq!(metrics.current_depth, 0);
        assert_eq!(
            metrics.produced_count,
            metrics.consumed_count + metrics.dropped_count
        );
    }
    println!(
        "{round} rounds, {moved} items, {} KiB",
        resident_kib().unwrap_or_default()
    );
}

fn controller(strategy: BackpressureStrategy) -> BackpressureController {
    let builder = BackpressureController::builder(64, strategy);
    match strategy {
        Adaptive => builder.rate(AdaptiveRateController::default().initial(1e5).burst(200)),
        _ => builder,
    }
    .build()
}

/// What the producers know.
#[derive(Default)]
struct Told {
    sent: AtomicU64,
    displaced: AtomicU64,
    stop: AtomicBool,
}

/// One stream, from its beginning to its end. How many items were sent.
fn play(controller: &BackpressureController, round: u64) -> u64 {
    let mut stream = controller.create_stream();
    let told = Arc::new(Told::default());
    let producers: Vec<_> = (0..PRODUCERS)
        .map(|producer| {
            let (sender, told) = (stream.sender(), Arc::clone(&told));
            thread::spawn(move || produce(&sender, producer, &told))
        })
        .collect();
    let mut next = [0; PRODUCERS as usize];
    let mut read = 0;
    let began = Instant::now();
    let reader_leaves = round % 3 == 2;
    while let Some((producer, nth, _)) = stream.blocking_receive() {
        let next: &mut u64 = &mut next[producer as usize];
        assert!(nth >= *next, "out of order or twice");
        *next = nth + 1;
        read += 1;
        // Fast, slow and in fits.
        match (round + read / 512) % 3 {
            0 => {}
            1 => (0..200).for_each(|_| std::hint::spin_loop()),
            _ if read % 256 == 0 => thread::sleep(Duration::from_millis(1)),
            _ => {}
        }
        if began.elapsed() >= ROUND {
            if reader_leaves {
                break;
            }
            told.stop.store(true, Ordering::Relaxed);
        }
    }
    let left = stream.metrics();
    drop(stream);
    producers
        .into_iter()
        .for_each(|producer| producer.join().expect("it sends"));

    let sent = told.sent.load(Ordering::Relaxed);
    let displaced = told.displaced.load(Ordering::Relaxed);
    assert_eq!(left.consumed_count, read);
    if !reader_leaves {
        assert_eq!(
            (left.produced_count, left.dropped_count, left.current_depth),
            (sent, displaced, 0)
        );
    }
    sent
}

/// Sends all it can, in the three ways there are, until told to stop or nobody reads.
fn produce(sender: &Sender<(u64, u64, Box<[u8]>)>, producer: u64, told: &Told) {
    let mut nth = 0;
    while !told.stop.load(Ordering::Relaxed) {
        let item = (producer, nth, Box::from([0; 32]));
        let result = match nth % 4 {
            0 => sender.try_send(item),
            _ => sender.blocking_send(item),
        };
        match result {
            Ok(displaced) => {
                told.sent.fetch_add(1, Ordering::Relaxed);
                told.displaced
                    .fetch_add(displaced.len() as u64, Ordering::Relaxed);
            }
            Err(error) if error.kind() == SendErrorKind::Closed => return,
            Err(_) => {}
        }
        nth += 1;
    }
}

/// As Linux tells it; `None` elsewhere.
fn resident_kib() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find(|line| line.starts_with("VmRSS:"))?;
    line.split_whitespace().nth(1)?.parse().ok()
}
