//! Real threads, without and with a runtime.

use std::{
    thread,
    time::{Duration, Instant},
};

use tower_backpressure::{
    BackpressureController,
    BackpressureStrategy::{Adaptive, Block, DropOldest},
    rate::TokenBucket,
};

use super::support::{counts, stream};

#[test]
fn many_threads_send_all_they_have_and_keep_their_order() {
    let mut stream = stream(7, Block);
    let senders: Vec<_> = (0..4_u64)
        .map(|thread| {
            let sender = stream.sender();
            thread::spawn(move || {
                for nth in 0..5_000_u64 {
                    sender.blocking_send((thread, nth)).unwrap();
                }
            })
        })
        .collect();
    let mut next = [0; 4];
    while let Some((thread, nth)) = stream.blocking_receive() {
        assert_eq!(next[thread as usize], nth);
        next[thread as usize] += 1;
    }
    assert_eq!(next, [5_000; 4]);
    senders
        .into_iter()
        .for_each(|sender| sender.join().unwrap());
    assert_eq!(counts(&stream.metrics()), (20_000, 20_000, 0, 0));
    assert!(stream.metrics().peak_depth <= 7);
}

#[test]
fn the_numbers_add_up_whenever_they_are_looked_at() {
    let controller = BackpressureController::new(3, DropOldest);
    let mut stream = controller.create_stream();
    let senders: Vec<_> = (0..3)
        .map(|_| {
            let sender = stream.sender();
            thread::spawn(move || {
                (0..3_000)
                    .map(|n| sender.try_send(n).unwrap().len() as u64)
                    .sum::<u64>()
            })
        })
        .collect();
    let looks = {
        let controller = controller.clone();
        thread::spawn(move || {
            (0..500).for_each(|_| {
                counts(&controller.metrics());
            })
        })
    };
    let mut read = 0;
    while stream.blocking_receive().is_some() {
        read += 1;
    }
    let displaced: u64 = senders
        .into_iter()
        .map(|sender| sender.join().unwrap())
        .sum();
    looks.join().unwrap();
    assert_eq!(counts(&controller.metrics()), (9_000, read, displaced, 0));
}

#[test]
#[allow(clippy::disallowed_methods, reason = "a thread waits in real time")]
fn a_thread_waits_for_its_rate_without_a_runtime() {
    let controller = BackpressureController::builder(100, Adaptive)
        .rate(TokenBucket::per_second(1000).burst(1))
        .build();
    let mut stream = controller.create_stream();
    let sender = stream.sender();
    let began = Instant::now();
    for n in 0..20 {
        sender.blocking_send(n).unwrap();
    }
    assert!(began.elapsed() >= Duration::from_millis(19));
    assert_eq!(counts(&stream.metrics()), (20, 0, 0, 20));
    assert_eq!(stream.blocking_receive(), Some(0));
}

#[tokio::test]
async fn a_thread_of_the_runtime_may_block_and_a_task_must_not() {
    let mut stream = stream(1, Block);
    let sender = stream.sender();
    let sends = tokio::task::spawn_blocking(move || {
        (0..100).for_each(|n| drop(sender.blocking_send(n).unwrap()));
        sender
    });
    for n in 0..100 {
        assert_eq!(stream.receive().await, Some(n));
    }
    let sender = sends.await.unwrap();
    let in_a_task = tokio::spawn(async move { drop(sender.blocking_send(1)) });
    assert!(in_a_task.await.unwrap_err().is_panic());
}
