//! The real stream under the model checker: every way in which two or three threads can take turns.
//!
//! A reader or sender that nobody wakes shows as a deadlock, an item lost or doubled as a failed assertion.

use std::{future::Future, pin::pin, task::Waker};

use loom::{future::block_on, thread};

use super::*;
use crate::BackpressureStrategy;

fn stream(capacity: usize, strategy: BackpressureStrategy) -> BoundedStream<u32> {
    BackpressureController::new(capacity, strategy).create_stream()
}

fn model(f: impl Fn() + Send + Sync + 'static) {
    let mut builder = loom::model::Builder::new();
    if builder.preemption_bound.is_none() {
        builder.preemption_bound = Some(3);
    }
    builder.check(f);
}

fn poll_once(future: impl Future) {
    let cx = &mut std::task::Context::from_waker(Waker::noop());
    let _ = pin!(future).poll(cx);
}

fn adds_up(stream: &BoundedStream<u32>) {
    let metrics = stream.metrics();
    assert_eq!(
        metrics.produced_count,
        metrics.consumed_count + metrics.dropped_count + metrics.current_depth as u64
    );
}

/// Everything to the end, in the reader's own thread.
fn read(mut stream: BoundedStream<u32>) -> Vec<u32> {
    let mut read = Vec::new();
    while let Some(item) = block_on(stream.receive()) {
        read.push(item);
    }
    adds_up(&stream);
    read
}

#[test]
fn a_reader_that_waits_sees_every_item_and_the_end() {
    model(|| {
        let stream = stream(2, BackpressureStrategy::Block);
        let sender = stream.sender();
        let sends = thread::spawn(move || {
            sender.try_send(1).unwrap();
            sender.try_send(2).unwrap();
        });
        assert_eq!(read(stream), [1, 2]);
        sends.join().unwrap();
    });
}

#[test]
fn a_sender_that_waits_for_room_gets_it() {
    model(|| {
        let stream = stream(1, BackpressureStrategy::Block);
        let sender = stream.sender();
        let sends = thread::spawn(move || {
            for item in 1..=3 {
                block_on(sender.send(item)).unwrap();
            }
        });
        assert_eq!(read(stream), [1, 2, 3]);
        sends.join().unwrap();
    });
}

#[test]
fn two_senders_that_wait_both_get_their_turn() {
    model(|| {
        let stream = stream(1, BackpressureStrategy::Block);
        let senders = [stream.sender(), stream.sender()];
        let sends: Vec<_> = (1..)
            .zip(senders)
            .map(|(item, sender)| {
                thread::spawn(move || block_on(sender.send(item)).map(drop).unwrap())
            })
            .collect();
        let mut read = read(stream);
        read.sort_unstable();
        assert_eq!(read, [1, 2]);
        sends.into_iter().for_each(|sends| sends.join().unwrap());
    });
}

#[test]
fn a_sender_that_gives_up_its_turn_passes_it_on() {
    model(|| {
        let stream = stream(1, BackpressureStrategy::Block);
        let (leaver, stayer) = (stream.sender(), stream.sender());
        leaver.try_send(0).unwrap();
        let leaves = thread::spawn(move || {
            let mut sending = leaver.send(1);
            poll_once(&mut sending);
            sending.into_item().is_none()
        });
        let stays = thread::spawn(move || block_on(stayer.send(2)).map(drop).unwrap());
        let read = read(stream);
        stays.join().unwrap();
        match leaves.join().unwrap() {
            true => assert!(read == [0, 1, 2] || read == [0, 2, 1], "{read:?}"),
            false => assert_eq!(read, [0, 2]),
        }
    });
}

#[test]
fn a_reader_that_leaves_fails_the_sender_that_waits() {
    model(|| {
        let stream = stream(1, BackpressureStrategy::Block);
        let sender = stream.sender();
        let leaves = thread::spawn(move || drop(stream));
        let sent = (1..=3).find_map(|item| block_on(sender.send(item)).err());
        let error = sent.expect("there is room for one");
        assert_eq!(error.kind(), SendErrorKind::Closed);
        assert!(sender.is_closed());
        leaves.join().unwrap();
        let metrics = sender.metrics();
        assert_eq!(metrics.produced_count, metrics.dropped_count);
        assert!(metrics.produced_count <= 1);
    });
}

#[test]
fn a_producer_that_waits_for_the_end_sees_it() {
    model(|| {
        let stream = stream(1, BackpressureStrategy::Block);
        let sender = stream.sender();
        let leaves = thread::spawn(move || drop(stream));
        block_on(sender.closed());
        leaves.join().unwrap();
    });
}

#[test]
fn the_last_of_two_senders_ends_the_stream() {
    model(|| {
        let stream = stream(1, BackpressureStrategy::Block);
        let (one, two) = (stream.sender(), stream.sender());
        let goes = thread::spawn(move || drop(one));
        let goes_too = thread::spawn(move || drop(two));
        assert!(read(stream).is_empty());
        goes.join().unwrap();
        goes_too.join().unwrap();
    });
}

#[test]
fn what_is_displaced_and_what_is_read_is_all_that_was_sent() {
    model(|| {
        let stream = stream(1, BackpressureStrategy::DropOldest);
        let sender = stream.sender();
        let sends = thread::spawn(move || {
            let sent = (1..=3).map(|item| sender.try_send(item).unwrap());
            sent.flatten().collect::<Vec<_>>()
        });
        let read = read(stream);
        let mut all = sends.join().unwrap();
        assert!(all.is_sorted() && read.is_sorted());
        assert_eq!(read.last(), Some(&3));
        all.extend(read);
        all.sort_unstable();
        assert_eq!(all, [1, 2, 3]);
    });
}

#[test]
fn the_sum_over_streams_adds_up_while_one_goes() {
    model(|| {
        let controller = BackpressureController::new(1, BackpressureStrategy::DropOldest);
        let stream = controller.create_stream();
        let sender = stream.sender();
        let works = thread::spawn(move || {
            sender.try_send(1).unwrap();
            drop(stream);
        });
        let metrics = controller.metrics();
        assert_eq!(
            metrics.produced_count,
            metrics.dropped_count + metrics.current_depth as u64
        );
        works.join().unwrap();
        let metrics = controller.metrics();
        assert_eq!((metrics.produced_count, metrics.dropped_count), (1, 1));
    });
}
