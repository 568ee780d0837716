//! The real service under the model checker: instances that park, are cloned, given up and asked again, and calls that are left,
//! in every way in which two or three threads can take turns.

use std::{
    future::{Future, poll_fn},
    pin::Pin,
    sync::Arc,
    task::Waker,
};

use loom::{
    future::block_on,
    sync::atomic::{AtomicUsize, Ordering},
    thread,
};

use super::*;
use crate::{
    Error, Reason,
    admission::Rules,
    gate::{Gate, Name, Settings},
    interleavings::model,
    protocol::Plain,
};

/// Counts who is inside.
#[derive(Clone)]
struct Inner(Arc<AtomicUsize>);

struct Inside(Arc<AtomicUsize>);

impl Service<()> for Inner {
    type Response = ();
    type Error = ();
    type Future = Inside;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), ()>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, (): ()) -> Inside {
        assert_eq!(self.0.fetch_add(1, Ordering::SeqCst), 0, "above the limit");
        Inside(Arc::clone(&self.0))
    }
}

impl Future for Inside {
    type Output = Result<(), ()>;

    fn poll(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Result<(), ()>> {
        Poll::Ready(Ok(()))
    }
}

impl Drop for Inside {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

type Plainly = Backpressure<Inner, Plain>;

/// Behind a limit of 1.
fn service(strategy: Strategy, max_waiting: usize) -> Plainly {
    let settings = Settings {
        name: Name::given(String::new()),
        max_keys: 1,
        shadow: false,
        rules: Rules {
            strategy,
            max_waiting,
            max_wait: None,
        },
        remote: None,
    };
    let gate = Holder::new(Gate::new(1, settings, None));
    let inside = Arc::new(AtomicUsize::new(0));
    Backpressure::new(Inner(inside), gate, Plain::default())
}

async fn ready(service: &mut Plainly) {
    poll_fn(|cx| service.poll_ready(cx)).await.unwrap();
}

/// Asks, calls, and sees to it that it is served or refused as it may be.
fn call(mut service: Plainly, may_be_refused: Option<Reason>) {
    block_on(async {
        ready(&mut service).await;
        match service.call(()).await {
            Ok(()) => {}
            Err(Error::Inner(())) => panic!("the service does not fail"),
            Err(Error::Rejected(rejected)) => assert_eq!(Some(rejected.reason()), may_be_refused),
        }
    });
}

/// Asks once and is not driven on.
fn asks_once(service: &mut Plainly) -> Poll<Result<(), Error<()>>> {
    service.poll_ready(&mut Context::from_waker(Waker::noop()))
}

/// Nothing is left, and whoever came is counted once.
fn is_empty(service: Plainly, came: u64) {
    let handle = service.handle();
    drop(service);
    assert_eq!((handle.in_flight(), handle.waiting()), (0, 0));
    assert_eq!(handle.snapshot().produced_count, came);
}

#[test]
fn instances_that_park_are_served_one_after_the_other() {
    model(|| {
        let service = service(Strategy::Block, 10);
        let other = service.clone();
        let other = thread::spawn(move || call(other, None));
        call(service.clone(), None);
        other.join().unwrap();
        is_empty(service, 2);
    });
}

#[test]
fn calls_that_wait_are_served_one_after_the_other() {
    model(|| {
        let service = service(Strategy::DropOldest, 10);
        let other = service.clone();
        let other = thread::spawn(move || call(other, None));
        call(service.clone(), None);
        other.join().unwrap();
        is_empty(service, 2);
    });
}

#[test]
fn a_parked_instance_that_is_dropped_while_the_slot_comes_back_passes_it_on() {
    model(|| {
        let service = service(Strategy::Block, 10);
        let mut holder = service.clone();
        assert!(asks_once(&mut holder).is_ready());
        let mut parked = service.clone();
        assert!(asks_once(&mut parked).is_pending());
        let holder = thread::spawn(move || drop(holder));
        let parked = thread::spawn(move || drop(parked));
        call(service.clone(), None);
        holder.join().unwrap();
        parked.join().unwrap();
        is_empty(service, 3);
    });
}

#[test]
fn a_clone_of_a_parked_instance_asks_for_itself() {
    model(|| {
        let service = service(Strategy::Block, 10);
        let mut holder = service.clone();
        assert!(asks_once(&mut holder).is_ready());
        let mut parked = service.clone();
        assert!(asks_once(&mut parked).is_pending());
        let holder = thread::spawn(move || drop(holder));
        call(parked.clone(), None);
        // Left alone until now, it may still go on.
        call(parked, None);
        holder.join().unwrap();
        is_empty(service, 3);
    });
}

#[test]
fn an_instance_to_be_refused_that_asks_again_is_counted_once_whatever_it_finds() {
    model(|| {
        let service = service(Strategy::Block, 1);
        let mut holder = service.clone();
        assert!(asks_once(&mut holder).is_ready());
        let mut waits = service.clone();
        assert!(asks_once(&mut waits).is_pending());
        let mut late = service.clone();
        assert!(asks_once(&mut late).is_ready(), "to be refused");
        let leaves = thread::spawn(move || {
            drop(waits);
            drop(holder);
        });
        call(late, Some(Reason::QueueFull));
        leaves.join().unwrap();
        is_empty(service, 3);
    });
}

#[test]
fn a_waiting_call_that_is_left_while_the_slot_comes_back_passes_it_on() {
    model(|| {
        let mut service = service(Strategy::DropOldest, 10);
        let running = service.call(());
        let waits = service.call(());
        let running = thread::spawn(move || drop(running));
        let waits = thread::spawn(move || drop(waits));
        call(service.clone(), None);
        running.join().unwrap();
        waits.join().unwrap();
        is_empty(service, 3);
    });
}

#[test]
fn a_drain_ends_however_a_parked_and_a_ready_instance_go() {
    model(|| {
        let service = service(Strategy::Block, 10);
        let mut holder = service.clone();
        assert!(asks_once(&mut holder).is_ready());
        let parked = service.clone();
        let holder = thread::spawn(move || call(holder, None));
        let parked = thread::spawn(move || call(parked, Some(Reason::Draining)));
        block_on(service.handle().drain());
        holder.join().unwrap();
        parked.join().unwrap();
        is_empty(service, 2);
    });
}
