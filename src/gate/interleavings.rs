//! The real gate under the model checker: every way in which two or three threads can take turns.
//!
//! A waiter that nobody wakes shows as a deadlock, a slot given away twice or lost as a failed assertion.

use std::{future::poll_fn, sync::Arc, task::Waker, time::Duration};

use loom::{
    future::block_on,
    sync::atomic::{AtomicUsize, Ordering},
    thread,
};

use super::*;
use crate::{
    interleavings::model,
    limit::{Limit, Sample},
    queue::Kind,
    rate::TokenBucket,
    slots::Turn,
    strategy::Strategy,
};

fn gate(limit: usize, strategy: Strategy, max_waiting: usize) -> Arc<Gate> {
    gate_with(limit, strategy, max_waiting, None, None)
}

fn gate_with(
    limit: usize,
    strategy: Strategy,
    max_waiting: usize,
    max_wait: Option<Duration>,
    learner: Option<Learner>,
) -> Arc<Gate> {
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
    Arc::new(Gate::new(limit, settings, learner))
}

/// As a service does it.
fn arrive(gate: &Arc<Gate>, kind: Kind) -> Found {
    let turn = match kind {
        Kind::InCall => Turn::AfterTheQueue,
        Kind::Parked => Turn::Open,
    };
    match gate.try_take(turn) {
        Some(in_flight) => Found::Slot(Slot::new(Arc::clone(gate), in_flight, None)),
        None => gate.arrive(kind, None, Waker::noop()),
    }
}

/// Without waiting.
fn arrive_now(gate: &Arc<Gate>) -> Option<Slot> {
    let in_flight = gate.try_take(Turn::Open)?;
    Some(Slot::new(Arc::clone(gate), in_flight, None))
}

fn acquire(gate: &Arc<Gate>, kind: Kind) -> Result<Permit, Reason> {
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
        let work = move |gate: Arc<Gate>, inside: Arc<AtomicUsize>| {
            let permit = acquire(&gate, kind).unwrap();
            assert_eq!(inside.fetch_add(1, Ordering::SeqCst), 0);
            inside.fetch_sub(1, Ordering::SeqCst);
            drop(permit);
        };
        let other = {
            let (gate, inside) = (Arc::clone(&gate), Arc::clone(&inside));
            thread::spawn(move || work(gate, inside))
        };
        work(Arc::clone(&gate), inside);
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
fn a_raised_limit_never_misses_a_waiter() {
    model(|| {
        let gate = gate(1, Strategy::Block, 10);
        let permit = acquire(&gate, Kind::InCall).unwrap();
        let raises = {
            let gate = Arc::clone(&gate);
            thread::spawn(move || gate.set_limit(2))
        };
        drop(acquire(&gate, Kind::InCall).unwrap());
        raises.join().unwrap();
        drop(permit);
        is_empty(&gate);
    });
}

#[test]
fn a_limit_lowered_meanwhile_is_not_exceeded() {
    model(|| {
        let gate = gate(2, Strategy::DropNewest, 0);
        let lowers = {
            let gate = Arc::clone(&gate);
            thread::spawn(move || {
                gate.set_limit(1);
                // From here on one more is only let in below the new limit.
                let before = gate.room.slots.read().in_flight();
                let permit = arrive_now(&gate);
                assert!(permit.is_none() || before == 0 || gate.room.slots.read().in_flight() <= 1);
            })
        };
        let permit = arrive_now(&gate);
        drop(permit);
        lowers.join().unwrap();
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
            let gate = Arc::clone(&gate);
            thread::spawn(move || match acquire(&gate, Kind::InCall) {
                Ok(permit) => drop(permit),
                Err(reason) => assert_eq!(reason, Reason::Draining),
            })
        };
        block_on(Handle::new(Arc::clone(&gate)).drain());
        releases.join().unwrap();
        waits.join().unwrap();
        is_empty(&gate);
    });
}

#[test]
fn two_samples_at_once_are_learned_one_after_the_other() {
    struct Count(usize);
    impl Limit for Count {
        fn limit(&self) -> usize {
            2
        }
        fn update(&mut self, _: &Sample) -> usize {
            self.0 += 1;
            2 + self.0
        }
    }
    model(|| {
        let learner = Some(Learner::new(Count(0)));
        let gate = gate_with(2, Strategy::DropNewest, 0, None, learner);
        let succeed = |gate: &Arc<Gate>| {
            gate.begin_or_reject(None)
                .unwrap()
                .permit()
                .sample(Outcome::Success);
        };
        let other = {
            let gate = Arc::clone(&gate);
            thread::spawn(move || succeed(&gate))
        };
        succeed(&gate);
        other.join().unwrap();
        // A sample that found the other at work is left for the next.
        succeed(&gate);
        assert_eq!(gate.room.slots.read().limit(), 5);
        is_empty(&gate);
    });
}

#[test]
fn a_raised_limit_never_misses_a_parked_waiter() {
    model(|| {
        let gate = gate(1, Strategy::Block, 10);
        let permit = acquire(&gate, Kind::Parked).unwrap();
        let raises = {
            let gate = Arc::clone(&gate);
            thread::spawn(move || gate.set_limit(2))
        };
        drop(acquire(&gate, Kind::Parked).unwrap());
        raises.join().unwrap();
        drop(permit);
        is_empty(&gate);
    });
}

/// Two slots are given back while the limit falls to one: whoever waits gets in once the debt is paid, and alone.
#[test]
fn a_waiter_finds_the_one_slot_that_a_lowered_limit_leaves() {
    model(|| {
        let gate = gate(2, Strategy::Block, 10);
        let permits = [
            acquire(&gate, Kind::InCall).unwrap(),
            acquire(&gate, Kind::InCall).unwrap(),
        ];
        let lowers = {
            let gate = Arc::clone(&gate);
            thread::spawn(move || gate.set_limit(1))
        };
        let releases = thread::spawn(move || drop(permits));
        drop(acquire(&gate, Kind::InCall).unwrap());
        lowers.join().unwrap();
        releases.join().unwrap();
        assert_eq!(gate.room.slots.read().limit(), 1);
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
            let gate = Arc::clone(&gate);
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
        block_on(Handle::new(Arc::clone(&gate)).drain());
        releases.join().unwrap();
        parked.join().unwrap();
        is_empty(&gate);
    });
}

#[test]
fn a_limit_set_by_hand_and_a_sample_leave_gate_and_algorithm_agreed() {
    struct Follows(Arc<AtomicUsize>);
    impl Follows {
        fn goes_to(&mut self, limit: usize) -> usize {
            self.0.store(limit, Ordering::SeqCst);
            limit
        }
    }
    impl Limit for Follows {
        fn limit(&self) -> usize {
            2
        }
        fn update(&mut self, _: &Sample) -> usize {
            self.goes_to(3)
        }
        fn set_limit(&mut self, limit: usize) -> usize {
            self.goes_to(limit)
        }
    }
    model(|| {
        let believed = Arc::new(AtomicUsize::new(2));
        let learner = Some(Learner::new(Follows(Arc::clone(&believed))));
        let gate = gate_with(2, Strategy::DropNewest, 0, None, learner);
        let sets = {
            let gate = Arc::clone(&gate);
            thread::spawn(move || gate.set_limit(7))
        };
        let mut permit = gate.begin_or_reject(None).unwrap().permit();
        permit.sample(Outcome::Success);
        sets.join().unwrap();
        assert_eq!(
            gate.room.slots.read().limit(),
            believed.load(Ordering::SeqCst)
        );
    });
}

/// The rate has room for one; the time for the next comes whenever the usher has its turn.
#[test]
fn what_was_spent_for_a_call_that_never_began_goes_to_the_one_that_waits_for_it() {
    model(|| {
        let mut gate = gate(10, Strategy::Block, 10);
        let bucket = TokenBucket::per_second(1);
        Arc::get_mut(&mut gate)
            .unwrap()
            .add_rate(Box::new(bucket))
            .unwrap();
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

/// There is one slot for both.
#[test]
fn two_keys_leave_nothing_behind_at_the_ceiling_that_one_of_them_found_full() {
    model(|| {
        let ceiling = gate(1, Strategy::DropNewest, 0);
        let inside = Arc::new(AtomicUsize::new(0));
        let of_key = |ceiling: &Arc<Gate>| {
            let mut gate = gate(1, Strategy::DropNewest, 0);
            Arc::get_mut(&mut gate).unwrap().above = Some(Arc::clone(ceiling));
            gate
        };
        let call = |gate: &Arc<Gate>, inside: &AtomicUsize| {
            let claim = gate.claim(None).expect("nobody else has this key");
            if let Ok(begun) = claim.begin() {
                assert_eq!(inside.fetch_add(1, Ordering::SeqCst), 0);
                let mut permit = begun.permit();
                permit.sample(Outcome::Success);
                inside.fetch_sub(1, Ordering::SeqCst);
            }
        };
        let (one, other) = (of_key(&ceiling), of_key(&ceiling));
        let beside = {
            let (one, inside) = (Arc::clone(&one), Arc::clone(&inside));
            thread::spawn(move || call(&one, &inside))
        };
        call(&other, &inside);
        beside.join().unwrap();
        for gate in [&one, &other, &ceiling] {
            is_empty(gate);
        }
        let ended = |gate: &Gate| {
            let counts = [&gate.completed, &gate.rejected];
            counts.map(|count| count.load(Ordering::Relaxed))
        };
        let [completed, rejected] = ended(&ceiling);
        assert_eq!(completed + rejected, 2);
        assert_eq!(
            completed,
            [&one, &other]
                .iter()
                .map(|gate| ended(gate)[0])
                .sum::<u64>()
        );
    });
}
