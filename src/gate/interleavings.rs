//! The real gate under the model checker: every way in which two or three threads can take turns.
//!
//! A waiter that nobody wakes shows as a deadlock, a slot given away twice or lost as a failed assertion.

mod hold;
mod keys;
mod limits;

use std::{future::poll_fn, sync::Arc, task::Waker, time::Duration};

use loom::{
    future::block_on,
    sync::atomic::{AtomicUsize, Ordering},
    thread,
};

use super::*;
use crate::{
    interleavings::model,
    limit::{Limit, Outcome, Sample},
    queue::Kind,
    rate::TokenBucket,
    slots::Turn,
    strategy::Strategy,
};

fn gate(limit: usize, strategy: Strategy, max_waiting: usize) -> Holder {
    gate_with(limit, strategy, max_waiting, None, None)
}

fn gate_with(
    limit: usize,
    strategy: Strategy,
    max_waiting: usize,
    max_wait: Option<Duration>,
    learner: Option<Learner>,
) -> Holder {
    let settings = Settings {
        name: Name::given(String::new()),
        max_keys: 1,
        shadow: false,
        rules: Rules {
            strategy,
            max_waiting,
            max_wait,
        },
        remote: None,
    };
    Holder::new(Gate::new(limit, settings, learner))
}

/// As a service does it.
fn arrive(gate: &Holder, kind: Kind) -> Found {
    let turn = match kind {
        Kind::InCall => Turn::AfterTheQueue,
        Kind::Parked => Turn::Open,
    };
    match gate.try_take(turn) {
        Some(in_flight) => Found::Slot(Slot::new(gate.clone(), in_flight, None)),
        None => gate.arrive(kind, None, Waker::noop()),
    }
}

/// Without waiting.
fn arrive_now(gate: &Holder) -> Option<Slot> {
    let in_flight = gate.try_take(Turn::Open)?;
    Some(Slot::new(gate.clone(), in_flight, None))
}

fn acquire(gate: &Holder, kind: Kind) -> Result<Permit, Reason> {
    let mut slot = match arrive(gate, kind) {
        Found::Slot(slot) => slot,
        Found::Rejected(reason) => return Err(reason),
        Found::Wait(waiter) => answer(waiter)?,
    };
    let Ok(Some(begun)) = slot.begin() else {
        panic!("there is no gate above, and it begins once");
    };
    Ok(begun.permit())
}

fn answer(mut waiter: Waiter) -> Result<Slot, Reason> {
    block_on(poll_fn(|cx| waiter.poll(cx))).map_err(|(reason, _)| reason)
}

fn is_empty(gate: &Gate) {
    let word = gate.room.slots.read();
    assert_eq!((word.in_flight(), gate.waiting()), (0, 0));
    assert!(!word.waiting());
}

/// Two threads and this one want the only slot, one after the other.
fn everybody_gets_the_slot_alone(kind: Kind) {
    model(move || {
        let gate = gate(1, Strategy::Block, 10);
        let inside = Arc::new(AtomicUsize::new(0));
        let work = move |gate: Holder, inside: Arc<AtomicUsize>| {
            let permit = acquire(&gate, kind).unwrap();
            assert_eq!(inside.fetch_add(1, Ordering::SeqCst), 0);
            inside.fetch_sub(1, Ordering::SeqCst);
            drop(permit);
        };
        let other = {
            let (gate, inside) = (gate.clone(), Arc::clone(&inside));
            thread::spawn(move || work(gate, inside))
        };
        work(gate.clone(), inside);
        other.join().unwrap();
        is_empty(&gate);
    });
}

#[test]
fn a_release_never_misses_a_waiter_in_a_call() {
    everybody_gets_the_slot_alone(Kind::InCall);
}

#[test]
fn a_release_never_misses_a_parked_waiter() {
    everybody_gets_the_slot_alone(Kind::Parked);
}

/// The waiter in front leaves while it is granted, called or evicted.
fn who_leaves_passes_it_on(kind: Kind) {
    model(move || {
        let gate = gate(1, Strategy::Block, 10);
        let permit = acquire(&gate, kind).unwrap();
        let leaver = arrive(&gate, kind);
        let releases = thread::spawn(move || drop(permit));
        let leaves = thread::spawn(move || drop(leaver));
        drop(acquire(&gate, kind).unwrap());
        releases.join().unwrap();
        leaves.join().unwrap();
        is_empty(&gate);
    });
}

#[test]
fn a_waiter_that_leaves_its_call_passes_the_slot_on() {
    who_leaves_passes_it_on(Kind::InCall);
}

#[test]
fn a_parked_waiter_that_leaves_passes_the_call_on() {
    who_leaves_passes_it_on(Kind::Parked);
}

#[test]
fn an_idle_parked_waiter_does_not_keep_a_live_one_from_its_slot() {
    model(|| {
        let gate = gate(1, Strategy::Block, 10);
        let permit = acquire(&gate, Kind::Parked).unwrap();
        let idle = arrive(&gate, Kind::Parked);
        let releases = thread::spawn(move || drop(permit));
        drop(acquire(&gate, Kind::Parked).unwrap());
        releases.join().unwrap();
        drop(idle);
        is_empty(&gate);
    });
}

/// The idle one was called and came too late to get a slot, so that the next one is kept for it; then it is left alone.
#[test]
fn a_slot_kept_for_a_waiter_that_does_not_come_goes_to_a_live_one() {
    model(|| {
        let gate = gate(1, Strategy::Block, 10);
        let permit = acquire(&gate, Kind::Parked).unwrap();
        let mut idle = match arrive(&gate, Kind::Parked) {
            Found::Wait(waiter) => waiter,
            other => panic!("the slot was taken, but {other:?}"),
        };
        drop(permit);
        let quicker = acquire(&gate, Kind::Parked).unwrap();
        let cx = &mut std::task::Context::from_waker(Waker::noop());
        let asked = idle.poll(cx);
        let releases = thread::spawn(move || drop(quicker));
        if asked.is_pending() {
            drop(acquire(&gate, Kind::Parked).unwrap());
        }
        drop((asked, idle));
        releases.join().unwrap();
        is_empty(&gate);
    });
}

#[test]
fn an_eviction_and_a_release_answer_the_oldest_once() {
    model(|| {
        let gate = gate(1, Strategy::DropOldest, 1);
        let permit = acquire(&gate, Kind::InCall).unwrap();
        let oldest = arrive(&gate, Kind::InCall);
        let releases = thread::spawn(move || drop(permit));
        let oldest = thread::spawn(move || match oldest {
            Found::Wait(waiter) => match answer(waiter) {
                Ok(slot) => drop(slot),
                Err(reason) => assert_eq!(reason, Reason::Evicted),
            },
            other => panic!("the slot was taken, but {other:?}"),
        });
        drop(acquire(&gate, Kind::InCall).unwrap());
        releases.join().unwrap();
        oldest.join().unwrap();
        is_empty(&gate);
    });
}

#[test]
fn a_wait_that_ends_while_the_slot_comes_back_is_answered_once() {
    model(|| {
        let wait = Some(Duration::from_millis(1));
        let gate = gate_with(1, Strategy::Block, 10, wait, None);
        let permit = acquire(&gate, Kind::InCall).unwrap();
        let releases = thread::spawn(move || drop(permit));
        match acquire(&gate, Kind::InCall) {
            Ok(permit) => drop(permit),
            Err(reason) => assert_eq!(reason, Reason::MaxWait),
        }
        releases.join().unwrap();
        is_empty(&gate);
    });
}

#[test]
fn drain_sees_the_last_permit_and_refuses_the_waiter() {
    model(|| {
        let gate = gate(1, Strategy::Block, 10);
        let permit = acquire(&gate, Kind::InCall).unwrap();
        let releases = thread::spawn(move || drop(permit));
        let waits = {
            let gate = gate.clone();
            thread::spawn(move || match acquire(&gate, Kind::InCall) {
                Ok(permit) => drop(permit),
                Err(reason) => assert_eq!(reason, Reason::Draining),
            })
        };
        block_on(Handle::new(gate.clone()).drain());
        releases.join().unwrap();
        waits.join().unwrap();
        is_empty(&gate);
    });
}

#[test]
fn an_eviction_and_the_end_of_a_wait_answer_once() {
    model(|| {
        let wait = Some(Duration::from_millis(1));
        let gate = gate_with(1, Strategy::DropOldest, 1, wait, None);
        let permit = acquire(&gate, Kind::InCall).unwrap();
        // Its time comes whenever the usher has its turn.
        let Found::Wait(oldest) = arrive(&gate, Kind::InCall) else {
            panic!("the slot is taken");
        };
        let newest = {
            let gate = gate.clone();
            thread::spawn(move || match acquire(&gate, Kind::InCall) {
                Ok(permit) => drop(permit),
                Err(reason) => assert_eq!(reason, Reason::MaxWait),
            })
        };
        let reason = answer(oldest).map(drop).unwrap_err();
        assert!(matches!(reason, Reason::Evicted | Reason::MaxWait));
        newest.join().unwrap();
        drop(permit);
        is_empty(&gate);
    });
}

#[test]
fn a_drain_refuses_a_parked_waiter_or_waits_for_its_slot() {
    model(|| {
        let gate = gate(1, Strategy::Block, 10);
        let permit = acquire(&gate, Kind::Parked).unwrap();
        let Found::Wait(parked) = arrive(&gate, Kind::Parked) else {
            panic!("the slot is taken");
        };
        let releases = thread::spawn(move || drop(permit));
        let parked = thread::spawn(move || match answer(parked) {
            Ok(slot) => drop(slot),
            Err(reason) => assert_eq!(reason, Reason::Draining),
        });
        block_on(Handle::new(gate.clone()).drain());
        releases.join().unwrap();
        parked.join().unwrap();
        is_empty(&gate);
    });
}

/// The rate has room for one; the time for the next comes whenever the usher has its turn.
#[test]
fn what_was_spent_for_a_call_that_never_began_goes_to_the_one_that_waits_for_it() {
    model(|| {
        let mut gate = gate(10, Strategy::Block, 10);
        let bucket = TokenBucket::per_second(1);
        gate.get_mut().unwrap().add_rate(Box::new(bucket)).unwrap();
        let unused = gate.claim(None).expect("the bucket is full").keep();
        let gives_back = thread::spawn(move || drop(unused));
        let Found::Wait(waits) = gate.arrive(Kind::InCall, None, Waker::noop()) else {
            return gives_back.join().unwrap();
        };
        drop(answer(waits).unwrap());
        gives_back.join().unwrap();
        is_empty(&gate);
    });
}
