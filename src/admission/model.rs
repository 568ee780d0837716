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
use crate::queue::GRACE;

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
    /// Looks at the queue though nothing has happened.
    Turn,
    /// What a gate does where it has no timer.
    CallAll,
    Drain,
}

fn op() -> impl Generator<Value = Op> {
    prop_oneof![
        20 => any::<bool>().prop_map(|parked| Op::Arrive { parked }),
        16 => any::<usize>().prop_map(Op::Ask),
        8 => any::<usize>().prop_map(Op::Leave),
        16 => Just(Op::Release),
        4 => (1..6usize).prop_map(Op::SetLimit),
        8 => (0..4u64).prop_map(Op::Pass),
        1 => Just(Op::Turn),
        1 => Just(Op::CallAll),
        1 => Just(Op::Drain),
    ]
}

fn rules() -> impl Generator<Value = Rules> {
    let strategy = prop_oneof![
        Just(Strategy::Block),
        Just(Strategy::DropNewest),
        Just(Strategy::DropOldest)
    ];
    let max_wait = proptest::option::of(1..8u64);
    (strategy, 0..6usize, max_wait).prop_map(|(strategy, max_waiting, max_wait)| Rules {
        strategy,
        max_waiting: match strategy {
            // Refused when it is built.
            Strategy::DropOldest => max_waiting.max(1),
            _ => max_waiting,
        },
        max_wait: max_wait.map(Duration::from_millis),
    })
}

/// What the model knows of a waiter.
#[derive(Clone, Copy)]
struct Known {
    kind: Kind,
    token: u64,
    joined: Duration,
    /// As it was after the last operation.
    state: State,
    /// It came in time when it was called, and has not been absent since.
    proven: bool,
    /// It was woken though there was nothing for it.
    nudged: bool,
}

/// What became of all who came. Each is counted here once, or is still among the waiters or the permits.
#[derive(Debug, Default)]
struct Fates {
    arrived: usize,
    rejected: usize,
    left: usize,
    completed: usize,
}

/// The core beside a model that only counts.
struct Model {
    core: Core,
    rules: Rules,
    permits: usize,
    waiters: BTreeMap<Ticket, Known>,
    fates: Fates,
    drained: bool,
    flag_lingers: bool,
}

impl Model {
    fn new(limit: usize, rules: Rules) -> Self {
        Self {
            core: Core::new(limit, rules),
            rules,
            permits: 0,
            waiters: BTreeMap::new(),
            fates: Fates::default(),
            drained: false,
            flag_lingers: false,
        }
    }

    fn apply(&mut self, op: Op) {
        let before = self.core.room.slots.read();
        let all_called = matches!(op, Op::CallAll);
        match op {
            Op::Arrive { parked } => {
                self.arrive(if parked { Kind::Parked } else { Kind::InCall });
            }
            Op::Ask(nth) => {
                if let Some(ticket) = self.nth(nth) {
                    self.ask(ticket);
                }
            }
            Op::Leave(nth) => {
                if let Some(ticket) = self.nth(nth) {
                    self.leave(ticket);
                }
            }
            Op::Release if self.permits > 0 => {
                self.permits -= 1;
                self.fates.completed += 1;
                self.core.release();
            }
            Op::Release => {}
            Op::SetLimit(limit) => self.core.set_limit(limit),
            Op::Pass(millis) => self.core.pass(MILLI * millis as u32),
            Op::Turn => self.core.run(|a, room, now, wake| a.turn(room, now, wake)),
            Op::CallAll => {
                self.core
                    .run(|a, room, now, wake| a.call_all(room, now, wake));
                self.flag_lingers = true;
                for known in self.waiters.values_mut() {
                    known.nudged |= known.kind == Kind::InCall;
                }
            }
            Op::Drain => {
                self.core.run(|a, room, _, wake| a.drain(room, wake));
                self.drained = true;
            }
        }
        let after = self.core.room.slots.read();
        assert!(
            after.in_flight() <= after.limit().max(before.in_flight()),
            "let in above the limit: {before:?} → {after:?}"
        );
        self.check(all_called);
    }

    fn nth(&self, nth: usize) -> Option<Ticket> {
        let count = self.waiters.len();
        (count > 0).then(|| *self.waiters.keys().nth(nth % count).unwrap())
    }

    fn arrive(&mut self, kind: Kind) {
        self.fates.arrived += 1;
        let oldest = self.uncalled().next();
        let was_full = self.core.admission.waiting() >= self.rules.max_waiting;
        match self.core.arrive(kind) {
            (Arrival::Admitted(in_flight), _) => {
                assert!(!self.drained);
                assert_eq!(in_flight as usize, self.core.room.slots.read().in_flight());
                self.permits += 1;
            }
            (Arrival::Waiting(ticket), token) => {
                let known = Known {
                    kind,
                    token,
                    joined: self.core.now(),
                    state: State::Waiting,
                    proven: false,
                    nudged: false,
                };
                assert!(self.core.admission.waiting() <= self.rules.max_waiting);
                assert!(self.waiters.insert(ticket, known).is_none());
                let evicts = self.rules.strategy == Strategy::DropOldest && was_full;
                if let (true, Some(oldest)) = (evicts, oldest) {
                    let answered = self.state(oldest) != State::Waiting;
                    assert!(answered, "the longest waiter is the one to go");
                }
            }
            (Arrival::Rejected(reason), _) => {
                self.fates.rejected += 1;
                let right = match self.rules {
                    _ if self.drained => Reason::Draining,
                    Rules { max_waiting: 0, .. } => Reason::Limit,
                    _ => Reason::QueueFull,
                };
                assert_eq!(reason, right);
                assert!(self.drained || self.rules.strategy != Strategy::DropOldest);
            }
        }
    }

    fn ask(&mut self, ticket: Ticket) {
        let known = self.waiters[&ticket];
        let (answer, token) = self.core.ask(known.kind, ticket);
        let since = self.core.now() - known.joined;
        match answer {
            Answer::Waiting => {
                let known = self.waiters.get_mut(&ticket).unwrap();
                let absent =
                    matches!(known.state, State::Called(at) if at + GRACE <= self.core.now());
                known.proven |= matches!(known.state, State::Called(_));
                known.proven &= !absent;
                known.token = token;
                known.nudged = false;
            }
            Answer::Admitted {
                in_flight, waited, ..
            } => {
                assert_eq!(waited, since);
                // Others may have been served after it.
                assert!(
                    (1..=self.core.room.slots.read().in_flight()).contains(&(in_flight as usize))
                );
                self.waiters.remove(&ticket);
                self.permits += 1;
            }
            Answer::Rejected { reason, waited } => {
                assert_eq!(waited, since);
                self.check_reason(reason, since);
                self.waiters.remove(&ticket);
                self.fates.rejected += 1;
            }
        }
    }

    fn check_reason(&self, reason: Reason, since: Duration) {
        match reason {
            Reason::MaxWait => assert!(self.rules.max_wait.is_some_and(|wait| since >= wait)),
            Reason::Evicted => assert_eq!(self.rules.strategy, Strategy::DropOldest),
            Reason::Draining => assert!(self.drained),
            Reason::Limit
            | Reason::QueueFull
            | Reason::Rate
            | Reason::OverBurst
            | Reason::Unavailable
            | Reason::Deadline => {
                panic!("it waits already: {reason:?}")
            }
        }
    }

    fn leave(&mut self, ticket: Ticket) {
        self.waiters.remove(&ticket);
        self.core.leave(ticket);
        self.fates.left += 1;
    }

    fn state(&self, ticket: Ticket) -> State {
        self.core.admission.queue.state(ticket)
    }

    fn count(&self, state: impl Fn(State) -> bool) -> usize {
        let tickets = self.waiters.keys();
        tickets.filter(|ticket| state(self.state(**ticket))).count()
    }

    /// Those who have not been called, the longest waiter first.
    fn uncalled(&self) -> impl Iterator<Item = Ticket> {
        let tickets = self.waiters.keys().copied();
        tickets.filter(|ticket| self.state(*ticket) == State::Waiting)
    }

    fn check(&mut self, all_called: bool) {
        let word = self.core.room.slots.read();
        let with_slot = self.count(State::has_slot);
        assert_eq!(
            word.in_flight(),
            self.permits + with_slot,
            "a slot was lost or made up"
        );
        assert_eq!(
            self.core.admission.present(),
            self.waiters.len() - with_slot
        );
        let Fates {
            arrived,
            rejected,
            left,
            completed,
        } = self.fates;
        let gone = rejected + left + completed;
        assert_eq!(arrived, gone + self.permits + self.waiters.len());

        let uncalled = self.uncalled().count();
        let called = self.count(|state| matches!(state, State::Called(_)));
        assert_eq!(self.core.admission.waiting(), uncalled + called);
        assert!(self.core.admission.peak_waiting() >= uncalled + called);
        // After everybody was called the flag stays up until somebody looks.
        let agree = word.waiting() == (uncalled > 0);
        self.flag_lingers &= !agree;
        assert!(
            agree || self.flag_lingers && word.waiting(),
            "the flag and the queue disagree"
        );
        if uncalled > 0 && word.free() > 0 {
            assert!(called >= word.free(), "somebody sleeps beside a free slot");
            assert!(
                self.core.admission.next_due().is_some(),
                "and nobody will look"
            );
        }
        self.check_waiters(all_called);
    }

    fn check_waiters(&mut self, all_called: bool) {
        let now = self.core.now();
        // One that has just come, too late for what it was called for, was called before.
        let waited_on = |ticket: &Ticket| self.waiters[ticket].state == State::Waiting;
        let front = self.uncalled().find(waited_on).unwrap_or(Ticket::MAX);
        let states: Vec<_> = self
            .waiters
            .iter()
            .map(|(ticket, known)| (*ticket, *known, self.state(*ticket)))
            .collect();
        for (ticket, known, state) in states {
            let Known { kind, .. } = known;
            match state {
                State::Waiting => assert_eq!(
                    self.core.woken.contains(&known.token),
                    known.nudged,
                    "woken for nothing, or not at all"
                ),
                _ => assert!(
                    self.core.woken.contains(&known.token),
                    "answered, but asleep"
                ),
            }
            match state {
                State::Granted(_) => assert_eq!(kind, Kind::InCall),
                State::Called(_) | State::Absent => assert_eq!(kind, Kind::Parked),
                State::Reserved(_) => assert!(known.proven, "kept for one who may not be there"),
                State::Refused(reason) => self.check_reason(reason, now - known.joined),
                _ => {}
            }
            if state != known.state && known.state == State::Waiting {
                assert!(
                    ticket < front || all_called,
                    "{ticket} was answered before {front}, which has waited longer"
                );
            }
            let known = self.waiters.get_mut(&ticket).unwrap();
            known.state = state;
            known.proven &= state != State::Absent;
        }
    }

    /// After time has passed, nobody has been kept longer than may be.
    fn check_times(&self) {
        let now = self.core.now();
        for (ticket, known) in &self.waiters {
            let state = self.state(*ticket);
            if let State::Called(at) | State::Reserved(at) = state {
                assert!(at + GRACE > now, "a call outlasts its grace");
            }
            if let Some(max_wait) = self.rules.max_wait {
                let answered = state.has_slot() || matches!(state, State::Refused(_));
                assert!(answered || known.joined + max_wait > now, "waits for ever");
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
                self.apply(Op::Ask(
                    self.waiters.keys().position(|t| *t == ticket).unwrap(),
                ));
            }
            self.apply(Op::Release);
            self.apply(Op::Pass(1));
            self.check_times();
        }
        let left = self.waiters.iter();
        let asleep = left.filter(|(ticket, known)| Self::is_live(**ticket, known));
        assert_eq!(asleep.count(), 0, "a live waiter sleeps for ever");
        while let Some(ticket) = self.nth(0) {
            self.leave(ticket);
            self.check(false);
        }
        let word = self.core.room.slots.read();
        assert_eq!((word.in_flight(), self.permits), (0, 0));
        assert_eq!(self.core.admission.waiting(), 0);
        assert_eq!(self.core.admission.present(), 0);
        assert_eq!(self.core.admission.next_due(), None);
        assert!(!word.waiting());
    }

    fn is_live(ticket: Ticket, known: &Known) -> bool {
        ticket % 2 == 0 || known.kind == Kind::InCall
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 3000, failure_persistence: None, rng_seed: RngSeed::Fixed(7), ..Default::default() })]

    #[test]
    fn whatever_happens_slots_are_kept_and_live_waiters_served(
        limit in 1..5usize,
        rules in rules(),
        ops in proptest::collection::vec(op(), 1..120),
    ) {
        let mut model = Model::new(limit, rules);
        for op in ops {
            let op = match op {
                // Only `block` has anybody wait in `poll_ready`.
                Op::Arrive { .. } if rules.strategy != Strategy::Block => Op::Arrive { parked: false },
                op => op,
            };
            let passed = matches!(op, Op::Pass(_));
            model.apply(op);
            if passed {
                model.check_times();
            }
        }
        model.wind_down();
    }
}
