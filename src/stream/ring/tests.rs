//! Random operations beside a model that keeps everything twice.

use std::collections::VecDeque;

use proptest::{
    prelude::{Just, ProptestConfig, any, prop_oneof, proptest},
    strategy::Strategy as Generator,
    test_runner::RngSeed,
};

use super::*;

#[derive(Clone, Debug)]
enum Op {
    Push(usize),
    Reserve(usize),
    Release,
    PushReserved,
    Pop,
    Pass(u64),
}

fn op() -> impl Generator<Value = Op> {
    prop_oneof![
        6 => (0..7_usize).prop_map(Op::Push),
        2 => (0..7_usize).prop_map(Op::Reserve),
        1 => Just(Op::Release),
        2 => Just(Op::PushReserved),
        4 => Just(Op::Pop),
        2 => (0..4_u64).prop_map(Op::Pass),
    ]
}

struct Held {
    id: u32,
    weight: usize,
    expires: u64,
}

struct Model {
    ring: Ring<u32>,
    bounds: Bounds,
    items: VecDeque<Held>,
    reserved: Vec<usize>,
    now: u64,
    next: u32,
    consumed: u64,
    dropped: [u64; 3],
}

impl Model {
    fn now(&self) -> Duration {
        Duration::from_millis(self.now)
    }

    fn weight(&self) -> usize {
        let items: usize = self.items.iter().map(|held| held.weight).sum();
        items + self.reserved.iter().sum::<usize>()
    }

    fn fits(&self, weight: usize) -> bool {
        self.items.len() + self.reserved.len() < self.bounds.capacity
            && self.weight() + weight <= self.bounds.max_weight.unwrap_or(usize::MAX)
    }

    fn hold(&mut self, weight: usize) -> u32 {
        let time_to_live = self.bounds.time_to_live;
        let expires = time_to_live.map_or(u64::MAX, |ttl| self.now + ttl.as_millis() as u64);
        self.next += 1;
        let id = self.next;
        self.items.push_back(Held {
            id,
            weight,
            expires,
        });
        id
    }

    fn expire(&mut self) {
        let mut out = Displaced::default();
        self.ring.expire(self.now(), &mut out);
        for id in out {
            let held = self.items.pop_front().unwrap();
            assert!(held.id == id && held.expires <= self.now);
            self.dropped[Gone::Expired as usize] += 1;
        }
        assert!(
            self.items
                .front()
                .is_none_or(|held| held.expires > self.now)
        );
    }

    fn apply(&mut self, op: Op) {
        let max_weight = self.bounds.max_weight;
        let weight_of = |weight: usize| match max_weight {
            Some(most) => weight.min(most),
            None => 0,
        };
        match op {
            Op::Push(weight) => {
                self.expire();
                self.push(weight_of(weight));
            }
            Op::Reserve(weight) if self.fits(weight_of(weight)) => {
                // Only senders that wait have places kept.
                if self.bounds.strategy.waits() {
                    self.ring.reserve(weight_of(weight));
                    self.reserved.push(weight_of(weight));
                }
            }
            Op::Reserve(_) => {}
            Op::Release => {
                if let Some(weight) = self.reserved.pop() {
                    self.ring.release(weight);
                }
            }
            Op::PushReserved => {
                if let Some(weight) = self.reserved.pop() {
                    let id = self.hold(weight);
                    self.ring.push_reserved(id, weight, self.now());
                }
            }
            Op::Pop => {
                self.expire();
                let popped = self.ring.pop();
                assert_eq!(popped, self.items.pop_front().map(|held| held.id));
                self.consumed += u64::from(popped.is_some());
            }
            Op::Pass(millis) => self.now += millis,
        }
        self.check();
    }

    fn push(&mut self, weight: usize) {
        let mut displaced = Displaced::default();
        let fits = self.fits(weight);
        let id = self.next + 1;
        let result = self.ring.push(id, weight, self.now(), &mut displaced);
        let displaced: Vec<_> = displaced.into_iter().collect();
        match self.bounds.strategy {
            _ if fits => {
                assert_eq!((result, displaced.as_slice()), (Ok(()), [].as_slice()));
                self.hold(weight);
            }
            BackpressureStrategy::DropOldest => {
                assert_eq!(result, Ok(()));
                for id in displaced {
                    assert!(!self.fits(weight), "more than needed was displaced");
                    assert_eq!(self.items.pop_front().unwrap().id, id);
                    self.dropped[Gone::Displaced as usize] += 1;
                }
                self.hold(weight);
            }
            BackpressureStrategy::DropNewest => {
                assert_eq!((result, displaced.as_slice()), (Ok(()), [id].as_slice()));
                self.next += 1;
                self.dropped[Gone::Displaced as usize] += 1;
            }
            _ => {
                assert_eq!((result, displaced.as_slice()), (Err(id), [].as_slice()));
                self.next += 1;
            }
        }
    }

    fn check(&self) {
        let tally = self.ring.tally();
        assert_eq!(tally.depth, self.items.len());
        assert_eq!(
            (tally.consumed, tally.dropped),
            (self.consumed, self.dropped)
        );
        let dropped = tally.all_dropped();
        assert_eq!(tally.produced, self.consumed + dropped + tally.depth as u64);
        assert!(tally.depth + self.reserved.len() <= self.bounds.capacity);
        assert!(tally.peak >= tally.depth && tally.peak <= self.bounds.capacity);
        assert!(self.weight() <= self.bounds.max_weight.unwrap_or(usize::MAX));
    }
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 2_000,
        rng_seed: RngSeed::Fixed(11),
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn no_bound_is_exceeded_and_no_more_is_dropped_than_must_be(
        capacity in 1..6_usize,
        max_weight in proptest::option::of(1..12_usize),
        time_to_live in proptest::option::of((1..6_u64).prop_map(Duration::from_millis)),
        strategy in proptest::sample::select(BackpressureStrategy::ALL.to_vec()),
        ops in proptest::collection::vec(op(), 1..120),
        clear in any::<bool>(),
    ) {
        let bounds = Bounds { strategy, capacity, max_weight, time_to_live };
        let mut model = Model {
            ring: Ring::new(&bounds),
            bounds,
            items: VecDeque::new(),
            reserved: Vec::new(),
            now: 0,
            next: 0,
            consumed: 0,
            dropped: [0; 3],
        };
        ops.into_iter().for_each(|op| model.apply(op));
        if clear {
            let mut out = Displaced::default();
            model.ring.clear(&mut out);
            assert!(out.into_iter().eq(model.items.drain(..).map(|held| held.id)));
            let tally = model.ring.tally();
            let unread = tally.dropped[Gone::Unread as usize];
            assert_eq!(tally.produced, tally.consumed + tally.all_dropped());
            assert_eq!(tally.depth, 0);
            assert!(unread <= capacity as u64);
        }
    }
}
