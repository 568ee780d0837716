//! Cases with a name.

use std::collections::BTreeSet;

use super::*;
use crate::queue::GRACE;

pub(super) const MILLI: Duration = Duration::from_millis(1);

/// The core with everything handed in, and a record of who was woken. Waiters are parked as numbers.
pub(super) struct Core {
    pub(super) room: Room,
    pub(super) admission: Admission<u64>,
    now: Duration,
    next_token: u64,
    pub(super) woken: BTreeSet<u64>,
}

impl Core {
    pub(super) fn new(limit: usize, rules: Rules) -> Self {
        Self {
            room: Room::new(limit),
            admission: Admission::new(rules),
            now: Duration::ZERO,
            next_token: 0,
            woken: BTreeSet::new(),
        }
    }

    pub(super) fn run<R>(
        &mut self,
        f: impl FnOnce(&mut Admission<u64>, &Room, Duration, &mut Woken<u64>) -> R,
    ) -> R {
        let mut wake = Woken::new();
        let result = f(&mut self.admission, &self.room, self.now, &mut wake);
        for token in wake {
            assert!(self.woken.insert(token), "{token} was woken twice");
        }
        result
    }

    pub(super) fn now(&self) -> Duration {
        self.now
    }

    fn token(&mut self) -> u64 {
        self.next_token += 1;
        self.next_token
    }

    /// As a gate does it: first the try, then the queue. Gives what wakes the waiter as well.
    pub(super) fn arrive(&mut self, kind: Kind) -> (Arrival, u64) {
        self.arrive_asking(kind, Demand::default())
    }

    pub(super) fn arrive_asking(&mut self, kind: Kind, demand: Demand) -> (Arrival, u64) {
        let turn = match kind {
            Kind::InCall => Turn::AfterTheQueue,
            Kind::Parked => Turn::Open,
        };
        if let Ok(in_flight) = self.room.try_take(turn, self.now, demand) {
            return (Arrival::Admitted(in_flight), 0);
        }
        self.arrive_late(kind, demand)
    }

    /// Where there was no slot when it tried, though there may be one by now.
    pub(super) fn arrive_late(&mut self, kind: Kind, demand: Demand) -> (Arrival, u64) {
        let token = self.token();
        let arrival = self
            .run(|a, room, now, wake| a.arrive(room, kind, demand, now, &mut Some(token), wake));
        (arrival, token)
    }

    pub(super) fn wait(&mut self, kind: Kind) -> (Ticket, u64) {
        self.wait_asking(kind, Demand::default())
    }

    pub(super) fn wait_asking(&mut self, kind: Kind, demand: Demand) -> (Ticket, u64) {
        match self.arrive_asking(kind, demand) {
            (Arrival::Waiting(ticket), token) => (ticket, token),
            other => panic!("should wait, but {other:?}"),
        }
    }

    pub(super) fn ask(&mut self, kind: Kind, ticket: Ticket) -> (Answer, u64) {
        let token = self.token();
        let asked =
            self.run(|a, room, now, wake| a.ask(room, kind, ticket, now, &mut Some(token), wake));
        (asked.0, token)
    }

    pub(super) fn leave(&mut self, ticket: Ticket) {
        self.run(|a, room, now, wake| a.leave(room, ticket, now, wake));
    }

    pub(super) fn release(&mut self) {
        if self.room.slots.give_back().waiting() {
            self.run(|a, room, now, wake| a.turn(room, now, wake));
        }
    }

    pub(super) fn set_limit(&mut self, limit: usize) {
        if self.room.slots.set_limit(limit).waiting() {
            self.run(|a, room, now, wake| a.turn(room, now, wake));
        }
    }

    /// Time passes, and nobody looks at the queue.
    pub(super) fn stand_still(&mut self, time: Duration) {
        self.now += time;
    }

    /// Time passes, and whoever watches the queue looks at it when it asked for that.
    pub(super) fn pass(&mut self, time: Duration) {
        let until = self.now + time;
        while let Some(due) = self.admission.next_due().filter(|due| *due <= until) {
            self.now = self.now.max(due);
            self.run(|a, room, now, wake| a.turn(room, now, wake));
        }
        self.now = until;
    }
}

pub(super) fn rules(strategy: Strategy, max_waiting: usize) -> Rules {
    Rules {
        strategy,
        max_waiting,
        max_wait: None,
    }
}

pub(super) fn admitted(answer: Answer) -> bool {
    matches!(answer, Answer::Admitted { .. })
}

#[test]
fn waiters_in_calls_are_served_in_order_and_nobody_passes_them() {
    let mut core = Core::new(1, rules(Strategy::Block, 10));
    assert_eq!(core.arrive(Kind::InCall).0, Arrival::Admitted(1));
    let waiters: Vec<_> = (0..3).map(|_| core.wait(Kind::InCall)).collect();
    for (nth, (ticket, token)) in waiters.iter().enumerate() {
        core.release();
        assert!(core.woken.contains(token));
        assert!(matches!(core.arrive(Kind::InCall).0, Arrival::Waiting(_)));
        assert!(admitted(core.ask(Kind::InCall, *ticket).0), "the {nth}th");
    }
}

#[test]
fn an_arrival_takes_the_slot_that_came_free_since_it_tried() {
    for kind in [Kind::InCall, Kind::Parked] {
        let mut core = Core::new(1, rules(Strategy::Block, 10));
        let arrival = core.arrive_late(kind, Demand::default()).0;
        assert_eq!(arrival, Arrival::Admitted(1));
    }
}

#[test]
fn a_parked_arrival_takes_the_slot_that_came_free_for_one_who_has_not_come() {
    let mut core = Core::new(1, rules(Strategy::Block, 10));
    core.arrive(Kind::Parked);
    core.wait(Kind::Parked);
    core.release();
    let arrival = core.arrive_late(Kind::Parked, Demand::default()).0;
    assert_eq!(arrival, Arrival::Admitted(1));
}

#[test]
fn a_parked_waiter_left_alone_keeps_the_slot_from_nobody() {
    let mut core = Core::new(1, rules(Strategy::Block, 10));
    core.arrive(Kind::Parked);
    let (_, idle) = core.wait(Kind::Parked);
    core.release();
    assert!(core.woken.contains(&idle));
    for _ in 0..20 {
        assert_eq!(core.arrive(Kind::Parked).0, Arrival::Admitted(1));
        core.release();
    }
}

#[test]
fn live_waiters_behind_idle_ones_are_called_within_a_grace_each() {
    let mut core = Core::new(1, rules(Strategy::Block, 10));
    core.arrive(Kind::Parked);
    for _ in 0..3 {
        core.wait(Kind::Parked);
    }
    let (live, token) = core.wait(Kind::Parked);
    core.release();
    assert!(!core.woken.contains(&token));
    core.pass(3 * GRACE);
    assert!(core.woken.contains(&token));
    assert!(admitted(core.ask(Kind::Parked, live).0));
}

#[test]
fn who_was_called_and_finds_the_slot_taken_keeps_its_place() {
    let mut core = Core::new(1, rules(Strategy::Block, 10));
    core.arrive(Kind::Parked);
    let (first, _) = core.wait(Kind::Parked);
    let (_, second) = core.wait(Kind::Parked);
    core.release();
    assert_eq!(core.arrive(Kind::Parked).0, Arrival::Admitted(1), "quicker");
    let (answer, token) = core.ask(Kind::Parked, first);
    assert_eq!(answer, Answer::Waiting);
    core.release();
    assert!(core.woken.contains(&token) && !core.woken.contains(&second));
}

#[test]
fn a_called_waiter_that_leaves_passes_the_call_on() {
    let mut core = Core::new(1, rules(Strategy::Block, 10));
    core.arrive(Kind::Parked);
    let (first, _) = core.wait(Kind::Parked);
    let (_, second) = core.wait(Kind::Parked);
    core.release();
    core.leave(first);
    assert!(core.woken.contains(&second));
}

#[test]
fn a_granted_waiter_that_leaves_passes_the_slot_on() {
    let mut core = Core::new(1, rules(Strategy::DropOldest, 10));
    core.arrive(Kind::InCall);
    let (first, _) = core.wait(Kind::InCall);
    let (second, token) = core.wait(Kind::InCall);
    core.release();
    core.leave(first);
    assert!(core.woken.contains(&token));
    assert!(admitted(core.ask(Kind::InCall, second).0));
    assert_eq!(core.room.slots.read().in_flight(), 1);
}

#[test]
fn drop_oldest_evicts_the_longest_waiter() {
    let mut core = Core::new(1, rules(Strategy::DropOldest, 2));
    core.arrive(Kind::InCall);
    let (oldest, token) = core.wait(Kind::InCall);
    core.stand_still(5 * MILLI);
    core.wait(Kind::InCall);
    core.wait(Kind::InCall);
    assert!(core.woken.contains(&token));
    let evicted = Answer::Rejected {
        reason: Reason::Evicted,
        waited: 5 * MILLI,
    };
    assert_eq!(core.ask(Kind::InCall, oldest).0, evicted);
    assert_eq!(core.admission.waiting(), 2);
}

#[test]
fn a_full_queue_turns_the_newest_away() {
    let mut core = Core::new(1, rules(Strategy::Block, 1));
    core.arrive(Kind::Parked);
    core.wait(Kind::Parked);
    let full = Arrival::Rejected(Reason::QueueFull);
    assert_eq!(core.arrive(Kind::Parked).0, full);
}

#[test]
fn idle_waiters_that_did_not_come_do_not_fill_the_queue() {
    let mut core = Core::new(1, rules(Strategy::Block, 2));
    core.arrive(Kind::Parked);
    core.wait(Kind::Parked);
    core.wait(Kind::Parked);
    core.release();
    core.pass(3 * GRACE);
    core.arrive(Kind::Parked);
    core.wait(Kind::Parked);
    core.wait(Kind::Parked);
    assert_eq!(core.admission.waiting(), 2);
}

#[test]
fn waiting_ends_at_max_wait_and_a_slot_that_is_free_then_is_taken() {
    let max_wait = Some(10 * MILLI);
    let mut core = Core::new(
        1,
        Rules {
            max_wait,
            ..rules(Strategy::Block, 10)
        },
    );
    core.arrive(Kind::Parked);
    let (refused, token) = core.wait(Kind::Parked);
    let (lucky, _) = core.wait(Kind::Parked);
    core.pass(10 * MILLI);
    assert!(core.woken.contains(&token));
    let expected = Answer::Rejected {
        reason: Reason::MaxWait,
        waited: 10 * MILLI,
    };
    assert_eq!(core.ask(Kind::Parked, refused).0, expected);
    core.release();
    assert!(admitted(core.ask(Kind::Parked, lucky).0));
}

#[test]
fn a_call_that_was_refused_stays_so_though_a_slot_came_free_before_it_asked() {
    let max_wait = Some(10 * MILLI);
    let mut core = Core::new(
        1,
        Rules {
            max_wait,
            ..rules(Strategy::DropOldest, 10)
        },
    );
    core.arrive(Kind::InCall);
    let (late, _) = core.wait(Kind::InCall);
    core.pass(10 * MILLI);
    core.release();
    let refused = Answer::Rejected {
        reason: Reason::MaxWait,
        waited: 10 * MILLI,
    };
    assert_eq!(core.ask(Kind::InCall, late).0, refused);
    assert_eq!(core.room.slots.read().in_flight(), 0);
}

#[test]
fn who_asks_when_a_slot_kept_for_another_has_run_out_gets_it() {
    let mut core = Core::new(1, rules(Strategy::Block, 10));
    core.arrive(Kind::Parked);
    let (proven, _) = core.wait(Kind::Parked);
    let (behind, _) = core.wait(Kind::InCall);
    core.release();
    core.arrive(Kind::Parked);
    assert_eq!(core.ask(Kind::Parked, proven).0, Answer::Waiting);
    core.release();
    assert_eq!(core.room.slots.read().in_flight(), 1, "kept");
    core.stand_still(GRACE);
    assert!(admitted(core.ask(Kind::InCall, behind).0));
    assert_eq!(core.room.slots.read().in_flight(), 1);
}

#[test]
fn what_a_waiter_asks_for_is_spent_when_it_is_granted() {
    let mut core = Core::new(1, rules(Strategy::Block, 10));
    core.arrive(Kind::InCall);
    let (ticket, _) = core.wait(Kind::InCall);
    core.stand_still(5 * MILLI);
    core.release();
    core.stand_still(3 * MILLI);
    let answer = Answer::Admitted {
        in_flight: 1,
        waited: 8 * MILLI,
        spent: 5 * MILLI,
    };
    assert_eq!(core.ask(Kind::InCall, ticket).0, answer);
}

#[test]
fn a_raised_limit_serves_as_many_as_it_makes_room_for() {
    let mut core = Core::new(1, rules(Strategy::DropOldest, 10));
    core.arrive(Kind::InCall);
    let tokens: Vec<_> = (0..4).map(|_| core.wait(Kind::InCall).1).collect();
    core.set_limit(3);
    assert_eq!(core.woken, tokens[..2].iter().copied().collect());
}

#[test]
fn draining_refuses_those_who_wait_but_not_those_who_were_granted() {
    let mut core = Core::new(1, rules(Strategy::DropOldest, 10));
    core.arrive(Kind::InCall);
    let (granted, _) = core.wait(Kind::InCall);
    let (waiting, token) = core.wait(Kind::InCall);
    core.release();
    core.run(|a, room, _, wake| a.drain(room, wake));
    assert!(core.woken.contains(&token));
    assert!(admitted(core.ask(Kind::InCall, granted).0));
    assert!(matches!(
        core.ask(Kind::InCall, waiting).0,
        Answer::Rejected {
            reason: Reason::Draining,
            ..
        }
    ));
    assert_eq!(
        core.arrive(Kind::InCall).0,
        Arrival::Rejected(Reason::Draining)
    );
}

#[test]
fn where_there_is_no_timer_the_longest_waiter_is_still_the_one_evicted() {
    let mut core = Core::new(1, rules(Strategy::DropOldest, 1));
    core.arrive(Kind::InCall);
    let (oldest, token) = core.wait(Kind::InCall);
    core.run(|a, room, now, wake| a.call_all(room, now, wake));
    assert!(core.woken.contains(&token));
    core.wait(Kind::InCall);
    assert_eq!(core.admission.waiting(), 1);
    assert!(matches!(
        core.ask(Kind::InCall, oldest).0,
        Answer::Rejected {
            reason: Reason::Evicted,
            ..
        }
    ));
}

#[test]
fn who_was_absent_and_waits_again_is_in_the_peak() {
    let mut core = Core::new(1, rules(Strategy::Block, 1));
    core.arrive(Kind::Parked);
    let (absent, _) = core.wait(Kind::Parked);
    core.release();
    core.pass(GRACE);
    core.arrive(Kind::Parked);
    core.wait(Kind::Parked);
    assert_eq!(core.admission.peak_waiting(), 1);
    assert_eq!(core.ask(Kind::Parked, absent).0, Answer::Waiting);
    assert_eq!(core.admission.waiting(), 2);
    assert_eq!(core.admission.peak_waiting(), 2);
}

#[test]
fn where_there_is_no_timer_nothing_is_kept_for_one_that_may_not_come() {
    let mut core = Core::new(1, rules(Strategy::Block, 10));
    core.arrive(Kind::Parked);
    let (proven, _) = core.wait(Kind::Parked);
    core.release();
    core.arrive(Kind::Parked);
    assert_eq!(core.ask(Kind::Parked, proven).0, Answer::Waiting);
    let (live, token) = core.wait(Kind::Parked);
    core.release();
    assert!(core.admission.can_go_on(&core.room), "a slot is kept");
    core.run(|a, room, now, wake| a.call_all(room, now, wake));
    assert!(core.woken.contains(&token));
    assert!(matches!(
        core.ask(Kind::Parked, live).0,
        Answer::Admitted { .. }
    ));
    assert!(!core.admission.can_go_on(&core.room));
}
