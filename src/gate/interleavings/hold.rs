//! Who drops a gate. That nobody looks at one that is gone is seen by `Alive`.

use std::sync::Weak;

use super::*;
use crate::limit::Aimd;

fn permit(gate: &Holder) -> Permit {
    let claim = gate.claim(None).expect("there is a slot");
    let Ok(begun) = claim.begin() else {
        panic!("there is no gate above");
    };
    begun.permit()
}

fn is_gone(gate: &Weak<Gate>) -> bool {
    gate.strong_count() == 0
}

#[test]
fn a_gate_goes_with_its_last_holder_or_its_last_slot() {
    model(|| {
        let gate = gate(2, Strategy::DropNewest, 0);
        let seen = Arc::downgrade(&gate);
        let threads = [permit(&gate), permit(&gate)].map(|held| thread::spawn(move || drop(held)));
        drop(gate);
        for thread in threads {
            thread.join().unwrap();
        }
        assert!(is_gone(&seen));
    });
}

#[test]
fn calls_outlive_the_services_that_made_them() {
    model(|| {
        let gate = gate(1, Strategy::DropNewest, 0);
        let seen = Arc::downgrade(&gate);
        let call = |gate: Holder| {
            let begun = gate
                .claim(None)
                .map(|claim| claim.begin().ok().map(Begun::permit));
            drop(gate);
            drop(begun);
        };
        let other = gate.clone();
        let beside = thread::spawn(move || call(other));
        call(gate);
        beside.join().unwrap();
        assert!(is_gone(&seen));
    });
}

/// Whoever gives its slot back still has to see to the queue, when perhaps nobody is left who holds the gate.
#[test]
fn a_slot_comes_back_while_the_one_that_waits_for_it_leaves() {
    model(|| {
        let gate = gate(1, Strategy::Block, 1);
        let seen = Arc::downgrade(&gate);
        let held = permit(&gate);
        let Found::Wait(waits) = gate.arrive(Kind::InCall, None, Waker::noop()) else {
            panic!("the slot is taken");
        };
        drop(gate);
        let releases = thread::spawn(move || drop(held));
        drop(waits);
        releases.join().unwrap();
        assert!(is_gone(&seen));
    });
}

#[test]
fn one_that_waited_drops_the_gate_with_its_slot() {
    model(|| {
        let gate = gate(1, Strategy::Block, 1);
        let seen = Arc::downgrade(&gate);
        let held = permit(&gate);
        let waits = thread::spawn(move || drop(acquire(&gate, Kind::InCall).unwrap()));
        drop(held);
        waits.join().unwrap();
        assert!(is_gone(&seen));
    });
}

#[test]
fn a_drain_ends_that_is_all_that_looks_at_the_gate() {
    model(|| {
        let gate = gate(1, Strategy::DropNewest, 0);
        let seen = Arc::downgrade(&gate);
        let held = permit(&gate);
        let drain = Handle::new(gate).drain();
        let releases = thread::spawn(move || drop(held));
        block_on(drain);
        releases.join().unwrap();
        assert!(is_gone(&seen));
    });
}

/// As a key's gate is evicted.
#[test]
fn who_has_the_gate_alone_meets_nobody_there() {
    model(|| {
        let mut gate = gate(1, Strategy::DropNewest, 0);
        let other = gate.clone();
        let calls = thread::spawn(move || {
            let held = permit(&other);
            drop(other);
            drop(held);
        });
        let alone = gate.get_mut().is_some();
        calls.join().unwrap();
        assert!(gate.get_mut().is_some(), "alone before: {alone}");
    });
}

#[test]
fn a_ceiling_goes_with_the_last_slot_of_its_last_key() {
    model(|| {
        let ceiling = gate(2, Strategy::DropNewest, 0);
        let mut key = gate(2, Strategy::DropNewest, 0);
        key.get_mut().unwrap().above = Some(ceiling.clone());
        let seen = [&ceiling, &key].map(|gate| Arc::downgrade(gate));
        let call = |key: &Holder| {
            let begun = key.claim(None).unwrap().begin();
            begun.ok().expect("there is room above").permit()
        };
        let threads = [call(&key), call(&key)].map(|held| thread::spawn(move || drop(held)));
        drop((ceiling, key));
        for thread in threads {
            thread.join().unwrap();
        }
        assert!(seen.iter().all(is_gone));
    });
}

/// As a body does that is read to its end by somebody who keeps it.
fn ends_before_it_goes(mut held: Permit) {
    assert!(held.is_timed(), "it looks at the gate at the end");
    held.release(Outcome::Success);
    held.sample(Outcome::Success);
}

/// Whose permits look at it to the end, since there is something to learn.
fn learning(limit: usize) -> Holder {
    let learner = Learner::new(Aimd::default());
    gate_with(limit, Strategy::DropNewest, 0, None, Some(learner))
}

#[test]
fn a_call_that_has_given_its_slot_back_keeps_the_gate_as_long_as_it_looks_at_it() {
    model(|| {
        let gate = learning(1);
        let seen = Arc::downgrade(&gate);
        let held = permit(&gate);
        let ends = thread::spawn(move || ends_before_it_goes(held));
        drop(gate);
        ends.join().unwrap();
        assert!(is_gone(&seen));
    });
}

#[test]
fn who_has_the_gate_alone_does_not_meet_one_that_has_given_its_slot_back() {
    model(|| {
        let mut gate = learning(1);
        let held = permit(&gate);
        let ends = thread::spawn(move || ends_before_it_goes(held));
        let alone = gate.get_mut().is_some();
        ends.join().unwrap();
        assert!(gate.get_mut().is_some(), "alone before: {alone}");
    });
}

#[test]
fn a_call_that_has_given_both_slots_back_keeps_both_gates() {
    model(|| {
        let ceiling = learning(1);
        let mut key = learning(1);
        key.get_mut().unwrap().above = Some(ceiling.clone());
        let seen = [&ceiling, &key].map(|gate| Arc::downgrade(gate));
        let begun = key.claim(None).unwrap().begin();
        let held = begun.ok().expect("there is room above").permit();
        let ends = thread::spawn(move || ends_before_it_goes(held));
        drop((ceiling, key));
        ends.join().unwrap();
        assert!(seen.iter().all(is_gone));
    });
}
