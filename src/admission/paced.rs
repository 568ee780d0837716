//! Cases with a rate beside the limit.

use super::{
    tests::{Core, MILLI, admitted, rules},
    *,
};
use crate::rate::TokenBucket;

/// Ten tokens a second, or ten at once.
fn ten_a_second() -> Core {
    let mut core = Core::new(100, rules(Strategy::Block, 10));
    let bucket = TokenBucket::per_second(10);
    core.room.add(Box::new(bucket), true).unwrap();
    core
}

fn left(core: &Core) -> u64 {
    core.room.quotas(core.now()).next().unwrap().remaining
}

/// A waiter for `cost` tokens, and what wakes it.
fn wait(core: &mut Core, cost: u64) -> (Ticket, u64) {
    core.wait_asking(Kind::InCall, Demand::of(cost))
}

#[test]
fn who_waits_for_a_rate_is_served_when_there_is_room_and_not_before() {
    let mut core = ten_a_second();
    core.arrive_asking(Kind::InCall, Demand::of(10));
    assert!(core.admission.paced.is_none());
    let (first, woken_first) = wait(&mut core, 1);
    let (_, woken_second) = wait(&mut core, 1);
    assert!(core.admission.paced.is_some());
    assert_eq!(core.admission.next_due(), Some(100 * MILLI));

    core.stand_still(99 * MILLI);
    core.run(|a, room, now, wake| a.turn(room, now, wake));
    assert!(core.woken.is_empty());
    core.pass(MILLI);
    assert!(core.woken.contains(&woken_first) && !core.woken.contains(&woken_second));
    let answer = Answer::Admitted {
        in_flight: 2,
        waited: 100 * MILLI,
        spent: 100 * MILLI,
    };
    assert_eq!(core.ask(Kind::InCall, first).0, answer);
    core.pass(100 * MILLI);
    assert!(core.woken.contains(&woken_second));
    assert!(core.admission.paced.is_none());
    assert_eq!(core.admission.next_due(), None);
}

#[test]
fn all_whose_time_has_come_are_served_in_one_turn() {
    let mut core = Core::new(100, rules(Strategy::Block, 10));
    let bucket = TokenBucket::per_second(1000).burst(1);
    core.room.add(Box::new(bucket), true).unwrap();
    core.arrive(Kind::InCall);
    let tokens: Vec<_> = (0..4).map(|_| wait(&mut core, 1).1).collect();
    core.stand_still(3 * MILLI);
    core.run(|a, room, now, wake| a.turn(room, now, wake));
    assert_eq!(core.woken, tokens[..3].iter().copied().collect());
    assert_eq!(core.admission.next_due(), Some(4 * MILLI));
}

#[test]
fn a_small_request_does_not_pass_a_large_one_that_waits() {
    let mut core = ten_a_second();
    core.arrive_asking(Kind::InCall, Demand::of(10));
    let (_, large) = wait(&mut core, 10);
    core.pass(500 * MILLI);
    assert_eq!(left(&core), 5, "enough for the small one");
    let (_, small) = wait(&mut core, 1);
    core.pass(500 * MILLI);
    assert!(core.woken.contains(&large) && !core.woken.contains(&small));
    core.pass(100 * MILLI);
    assert!(core.woken.contains(&small));
}

#[test]
fn when_the_one_in_front_leaves_the_next_is_served_if_there_is_room_for_it() {
    let mut core = ten_a_second();
    core.arrive_asking(Kind::InCall, Demand::of(10));
    let (large, _) = wait(&mut core, 10);
    let (_, small) = wait(&mut core, 1);
    core.stand_still(500 * MILLI);
    core.leave(large);
    assert!(core.woken.contains(&small));
}

#[test]
fn when_the_one_in_front_has_waited_too_long_the_next_is_served_if_there_is_room_for_it() {
    let mut core = Core::new(
        100,
        Rules {
            max_wait: Some(500 * MILLI),
            ..rules(Strategy::Block, 10)
        },
    );
    let bucket = TokenBucket::per_second(10);
    core.room.add(Box::new(bucket), true).unwrap();
    core.arrive_asking(Kind::InCall, Demand::of(10));
    wait(&mut core, 10);
    core.pass(MILLI);
    let (_, small) = wait(&mut core, 1);
    core.pass(499 * MILLI);
    assert!(core.woken.contains(&small));
}

#[test]
fn who_leaves_with_a_slot_gives_back_what_was_spent_for_it() {
    let mut core = ten_a_second();
    core.arrive_asking(Kind::InCall, Demand::of(10));
    let (granted, _) = wait(&mut core, 10);
    core.pass(1000 * MILLI);
    assert_eq!((left(&core), core.room.slots.read().in_flight()), (0, 2));
    core.leave(granted);
    assert_eq!((left(&core), core.room.slots.read().in_flight()), (10, 1));
}

#[test]
fn a_parked_waiter_that_takes_a_slot_spends_what_it_asks_for() {
    let mut core = Core::new(1, rules(Strategy::Block, 10));
    let bucket = TokenBucket::per_second(10);
    core.room.add(Box::new(bucket), true).unwrap();
    core.arrive_asking(Kind::Parked, Demand::of(2));
    let (parked, _) = core.wait_asking(Kind::Parked, Demand::of(5));
    core.release();
    assert!(admitted(core.ask(Kind::Parked, parked).0));
    assert_eq!(left(&core), 3);
}

#[test]
fn more_room_in_a_rate_serves_who_waits_for_it() {
    let mut core = ten_a_second();
    core.arrive_asking(Kind::InCall, Demand::of(10));
    let (_, token) = wait(&mut core, 10);
    core.stand_still(10 * MILLI);
    core.room.set_per_second(core.now(), 1e6);
    core.stand_still(10 * MILLI);
    core.run(|a, room, now, wake| a.more_room(room, now, wake));
    assert!(core.woken.contains(&token));
}
