//! Random operations, and after each of them what must always hold.

use std::collections::BTreeMap;

use proptest::{
    prelude::{Just, ProptestConfig, any, prop_oneof, proptest},
    strategy::Strategy as Generator,
    test_runner::RngSeed,
};

use super::{
    tests::{Core, MILLI},
    *,
};

#[derive(Clone, Debug)]
enum Op {
    Arrive {
        parked: bool,
    },
    /// Asks for the nth waiter, woken or not.
    Ask(usize),
    Leave(usize),
    Release,
    SetLimit(usize),
    Pass(u64),
}

fn op() -> impl Generator<Value = Op> {
    prop_oneof![
        5 => any::<bool>().prop_map(|parked| Op::Arrive { parked }),
        4 => any::<usize>().prop_map(Op::Ask),
        2 => any::<usize>().prop_map(Op::Leave),
        4 => Just(Op::Release),
        1 => (1..6usize).prop_map(Op::SetLimit),
        2 => (0..4u64).prop_map(Op::Pass),
    ]
}

/// What the model knows of a waiter.
#[derive(Clone, Copy)]
struct Known {
    kind: Kind,
    token: u64,
}

/// The core beside a model that only counts.
struct Model {
    core: Core,
    max_waiting: usize,
    permits: usize,
    waiters: BTreeMap<Ticket, Known>,
}

impl Model {
    fn apply(&mut self, op: Op) {
        match op {
            Op::Arrive { parked } => {
                let kind = if parked { Kind::Parked } else { Kind::InCall };
                match self.core.arrive(kind) {
                    (Arrival::Admitted(in_flight), _) => self.admit(in_flight),
                    (Arrival::Waiting(ticket), token) => {
                        let known = Known { kind, token };
                        assert!(self.core.admission.waiting() <= self.max_waiting);
                        assert!(self.waiters.insert(ticket, known).is_none());
                    }
                    (Arrival::Rejected(reason), _) => assert_eq!(reason, Reason::QueueFull),
                }
            }
            Op::Ask(nth) => {
                if let Some(ticket) = self.nth(nth) {
                    self.ask(ticket);
                }
            }
            Op::Leave(nth) => {
                if let Some(ticket) = self.nth(nth) {
                    self.waiters.remove(&ticket);
                    self.core.leave(ticket);
                }
            }
            Op::Release if self.permits > 0 => {
                self.permits -= 1;
                self.core.release();
            }
            Op::Release => {}
            Op::SetLimit(limit) => self.core.set_limit(limit),
            Op::Pass(millis) => self.core.pass(MILLI * millis as u32),
        }
        self.check();
    }

    fn nth(&self, nth: usize) -> Option<Ticket> {
        let count = self.waiters.len();
        (count > 0).then(|| *self.waiters.keys().nth(nth % count).unwrap())
    }

    fn ask(&mut self, ticket: Ticket) {
        let kind = self.waiters[&ticket].kind;
        let (answer, token) = self.core.ask(kind, ticket);
        match answer {
            Answer::Waiting => self.waiters.get_mut(&ticket).unwrap().token = token,
            Answer::Admitted { .. } => {
                self.waiters.remove(&ticket);
                self.permits += 1;
            }
            Answer::Rejected { .. } => {
                self.waiters.remove(&ticket);
            }
        }
    }

    fn admit(&mut self, in_flight: u32) {
        self.permits += 1;
        assert!(
            in_flight as usize <= self.core.slots.read().limit(),
            "above the limit"
        );
    }

    fn state(&self, ticket: Ticket) -> State {
        self.core.admission.queue.state(ticket)
    }

    fn count(&self, state: impl Fn(State) -> bool) -> usize {
        self.waiters
            .keys()
            .filter(|ticket| state(self.state(**ticket)))
            .count()
    }

    fn check(&mut self) {
        let word = self.core.slots.read();
        let granted = self.count(State::has_slot);
        assert_eq!(
            word.in_flight(),
            self.permits + granted,
            "a slot was lost or made up"
        );

        let uncalled = self.count(|state| state == State::Waiting);
        let called = self.count(|state| matches!(state, State::Called(_)));
        assert_eq!(self.core.admission.waiting(), uncalled + called);
        assert_eq!(
            word.waiting(),
            uncalled > 0,
            "the flag and the queue disagree"
        );

        if uncalled > 0 && word.free() > 0 {
            assert!(called >= word.free(), "somebody sleeps beside a free slot");
            assert!(
                self.core.admission.next_due().is_some(),
                "and nobody will look"
            );
        }
        for (ticket, known) in &self.waiters {
            let has_answer = !matches!(self.state(*ticket), State::Waiting);
            if has_answer {
                assert!(
                    self.core.woken.contains(&known.token),
                    "answered, but asleep"
                );
            }
        }
    }

    /// Lets all permits come back while every waiter with an even ticket asks whenever it is woken, and the others, if
    /// parked, never do.
    fn wind_down(&mut self) {
        for _ in 0..1000 {
            let ready: Vec<_> = self
                .waiters
                .iter()
                .filter(|(ticket, known)| Self::is_live(**ticket, known))
                .filter(|(_, known)| self.core.woken.contains(&known.token))
                .map(|(ticket, _)| *ticket)
                .collect();
            for ticket in ready {
                self.ask(ticket);
                self.check();
            }
            self.apply(Op::Release);
            self.apply(Op::Pass(1));
        }
        let left = self.waiters.iter();
        let asleep = left.filter(|(ticket, known)| Self::is_live(**ticket, known));
        assert_eq!(asleep.count(), 0, "a live waiter sleeps for ever");
        while let Some(ticket) = self.nth(0) {
            self.waiters.remove(&ticket);
            self.core.leave(ticket);
        }
        assert_eq!(self.core.slots.read().in_flight(), 0);
        assert_eq!(self.core.admission.waiting(), 0);
        assert!(!self.core.slots.read().waiting());
    }

    fn is_live(ticket: Ticket, known: &Known) -> bool {
        ticket % 2 == 0 || known.kind == Kind::InCall
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 800, failure_persistence: None, rng_seed: RngSeed::Fixed(7), ..Default::default() })]

    #[test]
    fn whatever_happens_slots_are_kept_and_live_waiters_served(
        limit in 1..5usize,
        max_waiting in 1..6usize,
        oldest in any::<bool>(),
        max_wait in proptest::option::of(1..8u64),
        ops in proptest::collection::vec(op(), 1..120),
    ) {
        let rules = Rules {
            strategy: if oldest { Strategy::DropOldest } else { Strategy::Block },
            max_waiting,
            max_wait: max_wait.map(Duration::from_millis),
        };
        let mut model = Model {
            core: Core::new(limit, rules),
            max_waiting,
            permits: 0,
            waiters: BTreeMap::new(),
        };
        for op in ops {
            // An eviction is the only refusal that drop-oldest knows.
            let op = match op {
                Op::Arrive { .. } if oldest => Op::Arrive { parked: false },
                op => op,
            };
            model.apply(op);
        }
        model.wind_down();
    }
}
