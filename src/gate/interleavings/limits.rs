//! Limits that move while requests come and go.

use super::*;
use crate::rate::{Quota, Short};

#[test]
fn a_raised_limit_never_misses_a_waiter() {
    model(|| {
        let gate = gate(1, Strategy::Block, 10);
        let permit = acquire(&gate, Kind::InCall).unwrap();
        let raises = {
            let gate = gate.clone();
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
            let gate = gate.clone();
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
        let succeed = |gate: &Holder| {
            gate.begin_or_reject(None)
                .unwrap()
                .permit()
                .sample(Outcome::Success);
        };
        let other = {
            let gate = gate.clone();
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
            let gate = gate.clone();
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
            let gate = gate.clone();
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
            let gate = gate.clone();
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

/// Adds up what it is told.
#[derive(Debug)]
struct Sum(Arc<std::sync::atomic::AtomicU64>);

impl Rate for Sum {
    fn check(&self, _: Duration, _: u64) -> Result<(), Short> {
        Ok(())
    }

    fn spend(&self, now: Duration, cost: u64) -> Result<(), Short> {
        self.owe(now, cost);
        Ok(())
    }

    fn owe(&self, _: Duration, cost: u64) {
        self.0.fetch_add(cost, Ordering::SeqCst);
    }

    fn refund(&self, _: Duration, _: Duration, cost: u64) {
        self.0.fetch_sub(cost, Ordering::SeqCst);
    }

    fn quota(&self, _: Duration) -> Quota {
        unreachable!("nobody asks")
    }

    fn per_second(&self) -> f64 {
        1.0
    }
}

#[test]
fn of_corrections_at_once_the_one_that_was_said_last_is_what_the_rate_knows() {
    model(|| {
        let mut gate = gate(1, Strategy::DropNewest, 0);
        let spent = Arc::default();
        let rate = Sum(Arc::clone(&spent));
        gate.get_mut().unwrap().add_rate(Box::new(rate)).unwrap();
        let claim = gate.claim(Some(Demand::of(10))).expect("there is room");
        let Ok(begun) = claim.begin() else {
            panic!("there is no gate above");
        };
        let charge = begun.charge().expect("it said what it costs").clone();
        let permit = begun.permit();
        charge.set(50);
        let sets = thread::spawn(move || charge.set(30));
        drop(permit);
        sets.join().unwrap();
        assert_eq!(spent.load(Ordering::SeqCst), 30);
    });
}
