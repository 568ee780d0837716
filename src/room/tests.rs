use std::sync::Arc;

use super::*;
use crate::{
    gate::clock::Clock,
    limit::Outcome,
    rate::{AdaptiveRate, SlidingWindow, TokenBucket},
};

const NOW: Duration = Duration::from_secs(1);

/// Ten tokens a second, or ten at once, and so many slots.
fn ten_a_second(limit: usize) -> Room {
    let mut room = Room::new(limit);
    room.add(Box::new(TokenBucket::per_second(10)), true)
        .unwrap();
    room
}

fn left(room: &Room) -> Vec<u64> {
    room.quotas(NOW).map(|quota| quota.remaining).collect()
}

fn take(room: &Room, cost: u64) -> Result<u32, Full> {
    room.try_take(Turn::Open, NOW, Demand::of(cost))
}

#[test]
fn without_rates_only_slots_are_taken() {
    let room = Room::new(1);
    assert!(!room.has_rates());
    assert_eq!(room.per_second(), None);
    assert_eq!(room.outlook(NOW, Demand::of(1), 0, 0), None);
    assert_eq!(room.check_rates(NOW, Demand::of(1_000_000)), Ok(()));
    assert_eq!(take(&room, 1_000_000), Ok(1));
    assert_eq!(take(&room, 0).unwrap_err().reason(), Reason::Limit);
}

#[test]
fn what_stood_in_the_way_is_named() {
    let room = ten_a_second(2);
    assert!(room.has_rates());
    assert_eq!(take(&room, 4), Ok(1));
    assert_eq!(take(&room, 11).unwrap_err().reason(), Reason::OverBurst);
    let short = Short::Wait(Duration::from_millis(200));
    let full = take(&room, 8).unwrap_err();
    assert_eq!((full.reason(), full.short()), (Reason::Rate, Some(short)));
    assert_eq!(room.check_rates(NOW, Demand::of(8)), Err(short));
    assert_eq!(take(&room, 1), Ok(2));
    let full = take(&room, 1).unwrap_err();
    assert_eq!((full.reason(), full.short()), (Reason::Limit, None));
    assert_eq!(left(&room), [5]);
    room.slots.drain();
    assert_eq!(take(&room, 1).unwrap_err().reason(), Reason::Draining);
}

#[test]
fn of_several_rates_the_one_that_lacks_for_longest_is_told_and_none_is_spent() {
    let mut room = ten_a_second(10);
    let slow = TokenBucket::per_second(1).burst(8);
    room.add(Box::new(slow), true).unwrap();
    assert_eq!(take(&room, 8), Ok(1));
    let long = Short::Wait(Duration::from_secs(4));
    assert_eq!(take(&room, 4), Err(Full::Rate(long)));
    assert_eq!(take(&room, 9), Err(Full::Rate(Short::Never { most: 8 })));
    assert_eq!(
        (left(&room), room.slots.read().in_flight()),
        (vec![2, 0], 1)
    );
    assert_eq!(room.per_second(), Some(10.0));
    let outlook = |waiting, ahead| room.outlook(NOW, Demand::of(4), waiting, ahead);
    assert_eq!(outlook(0, 0), Some((Duration::from_secs(4), 8)));
    assert_eq!(outlook(2, 3), Some((Duration::from_secs(8), 8)), "two each");
}

#[test]
fn the_first_rate_is_the_one_that_is_changed() {
    let mut room = ten_a_second(10);
    room.add(Box::new(TokenBucket::per_second(7)), true)
        .unwrap();
    room.set_per_second(NOW, 20.0);
    assert_eq!(room.per_second(), Some(20.0));
    assert_eq!(
        room.rates()[1].rate.with(|rate| rate.per_second()),
        Some(7.0)
    );
}

#[test]
fn a_charge_is_settled_at_what_it_turned_out_to_be() {
    for (actual, then) in [(1, 9), (4, 6), (9, 1), (13, 0), (0, 10)] {
        let room = ten_a_second(10);
        take(&room, 4).unwrap();
        room.settle(NOW, NOW, Demand::of(4), Demand::of(actual));
        assert_eq!(left(&room), [then], "{actual}");
        let spent = actual as f64 / 10.0;
        let reset = room.quotas(NOW).next().unwrap().reset_after;
        assert_eq!(reset, Duration::from_secs_f64(spent), "{actual}");
    }
}

#[test]
fn what_is_given_back_is_a_slot_and_what_was_spent_for_it() {
    let room = ten_a_second(1);
    take(&room, 10).unwrap();
    let word = room.give_back(NOW, NOW, Demand::of(10));
    assert_eq!((word.in_flight(), left(&room)), (0, vec![10]));
}

#[test]
fn what_one_rate_spent_before_another_refused_is_given_back() {
    // Each finds room for six, but they are one.
    let bucket = Arc::new(TokenBucket::per_second(10));
    let mut room = Room::new(10);
    room.add(Box::new(Arc::clone(&bucket)), true).unwrap();
    room.add(Box::new(bucket), true).unwrap();
    assert!(matches!(take(&room, 6), Err(Full::Rate(Short::Wait(_)))));
    assert_eq!(left(&room), [10, 10]);
    assert_eq!(room.slots.read().in_flight(), 0);
}

#[test]
fn a_sample_moves_the_rates_that_learn_and_only_news_is_news() {
    let sample = |outcome| Sample::new(NOW, Duration::from_millis(1), 1, outcome);
    let mut room = ten_a_second(10);
    assert!(!room.learns());
    assert!(!room.observe(&sample(Outcome::Overload)));

    for _ in 0..2 {
        room.add(Box::new(AdaptiveRate::default()), true).unwrap();
    }
    assert!(room.learns());
    take(&room, 1).unwrap();
    assert!(!room.observe(&sample(Outcome::Ignore)));
    assert!(room.observe(&sample(Outcome::Overload)));
    let rate = |nth: usize| room.rates()[nth].rate.with(|rate| rate.per_second());
    assert_eq!(rate(0), Some(10.0), "it does not learn");
    assert!(rate(1) < Some(10.0) && rate(2) < Some(10.0));
}

/// A bucket in which a demand costs something else.
#[cfg(feature = "llm")]
#[derive(Debug)]
struct Costing(TokenBucket, fn(u64) -> u64);

#[cfg(feature = "llm")]
impl Rate for Costing {
    fn check(&self, now: Duration, cost: u64) -> Result<(), Short> {
        self.0.check(now, cost)
    }

    fn spend(&self, now: Duration, cost: u64) -> Result<(), Short> {
        self.0.spend(now, cost)
    }

    fn owe(&self, now: Duration, cost: u64) {
        self.0.owe(now, cost);
    }

    fn refund(&self, now: Duration, spent: Duration, cost: u64) {
        self.0.refund(now, spent, cost);
    }

    fn quota(&self, now: Duration) -> crate::rate::Quota {
        self.0.quota(now)
    }

    fn per_second(&self) -> f64 {
        self.0.per_second()
    }

    fn cost(&self, demand: &Demand) -> u64 {
        (self.1)(demand.cost())
    }
}

#[cfg(feature = "llm")]
#[test]
fn a_demand_is_made_to_fit_whatever_it_costs_and_however_little_is_left() {
    type Cost = fn(u64) -> u64;
    let costs: [(Cost, std::ops::RangeInclusive<u64>); 6] = [
        (|demand| demand, 1000..=1000),
        (|demand| demand.div_ceil(10), 9_900..=10_000),
        (|demand| demand.saturating_mul(10), 100..=100),
        (|demand| demand.saturating_add(100), 890..=900),
        (|_| 1, u64::MAX..=u64::MAX),
        (|_| 1001, 0..=u64::MAX),
    ];
    for (nth, (cost, expected)) in costs.into_iter().enumerate() {
        let mut room = Room::new(1);
        let bucket = TokenBucket::per_second(1).burst(1000);
        room.add(Box::new(Costing(bucket, cost)), true).unwrap();
        if nth < 5 {
            assert_eq!(room.at_most(NOW, Demand::of(7)), Demand::of(7), "{nth}");
        }
        room.settle(NOW, NOW, Demand::of(0), Demand::of(5000));
        let fits = room.at_most(NOW, Demand::of(u64::MAX)).cost();
        assert!(expected.contains(&fits), "{nth}: {fits}");
    }
}

/// A key's rate is made later than the ceiling, by whose time it is asked.
#[cfg(feature = "llm")]
#[test]
fn what_fits_is_asked_at_the_time_of_the_rate() {
    let mut room = Room::new(1);
    let window = SlidingWindow::new(10, Duration::from_secs(10));
    room.add(Box::new(window), false).unwrap();
    let older = Clock::new().born();
    room.measure_from(older + Duration::from_secs(3600));
    room.measure_from(older);
    let now = Duration::from_secs(3601);
    assert_eq!(room.at_most(now, Demand::of(20)), Demand::of(10));
    room.try_take(Turn::Open, now, Demand::of(10)).unwrap();
    assert_eq!(room.at_most(now, Demand::of(1)), Demand::of(1));
    room.settle(now, now, Demand::of(10), Demand::of(1));
    assert_eq!(room.check_rates(now, Demand::of(9)), Ok(()));
}
