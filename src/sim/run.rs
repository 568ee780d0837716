//! Plays a scenario: events in virtual time, the admission core as it is.

mod work;

use std::{
    cmp::Reverse,
    collections::{BinaryHeap, VecDeque},
    time::Duration,
};

use super::{
    Point, Report, Scenario, Tally,
    dist::Stream,
    server::{Inside, Server},
};
use crate::{
    Demand,
    admission::{Admission, Answer, Arrival, Woken},
    limit::{Limit, MAX_LIMIT, Outcome, Sample},
    pace::{Counts, Pace, jittered},
    queue::{Kind, Ticket},
    room::Room,
    slots::Turn,
};

/// The hint of a refusal is worked out anew once in so many, as at the gate.
const REFUSALS_PER_HINT: u64 = 32;

pub(super) struct Run<'a> {
    scenario: &'a Scenario,
    limit: Box<dyn Limit>,
    room: Room,
    admission: Admission<u32>,
    server: Server,
    seed: u64,
    now: u64,
    events: BinaryHeap<Reverse<Event>>,
    scheduled: u32,
    /// Everybody is equally patient: those who came first leave first.
    leaving: VecDeque<(u64, u32, u32)>,
    requests: Vec<Request>,
    unused: Vec<u32>,
    woken: Woken<u32>,
    callers: u32,
    admitted: u64,
    pace: Pace,
    counts: Counts,
    hint: Duration,
    turn_due: u64,
    report: Report,
    point: Point,
    point_latency: u64,
}

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Event {
    at: u64,
    /// Events at the same time happen in the order in which they were scheduled.
    nth: u32,
    what: What,
}

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum What {
    Phase(u16),
    /// The work of this request, in this generation, is done.
    Done(u32, u32),
    StreamEnds(u32, u32),
    /// The backend says no, or fails.
    Refusal(u32, u32),
    Failure(u32, u32),
    Retry(Caller),
    /// Somebody in the gate's queue has waited long enough.
    Turn,
}

#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
struct Caller {
    nth: u32,
    phase: u16,
    attempt: u8,
}

#[derive(Clone, Copy, Default)]
struct Request {
    generation: u32,
    caller: Caller,
    admitted: u64,
    in_flight: u32,
    ticket: Option<Ticket>,
    /// The caller is there and has no answer yet.
    awaited: bool,
    /// The gate's slot is held.
    holds: bool,
    inside: Inside,
}

impl<'a> Run<'a> {
    pub(super) fn new(scenario: &'a Scenario, limit: Box<dyn Limit>, seed: u64) -> Self {
        let phases = scenario.phases.len();
        Self {
            room: Room::new(limit.limit().clamp(1, MAX_LIMIT)),
            limit,
            admission: Admission::new(scenario.rules),
            server: Server::new(&scenario.backend),
            seed,
            now: 0,
            events: BinaryHeap::new(),
            scheduled: 0,
            leaving: VecDeque::new(),
            requests: Vec::new(),
            unused: Vec::new(),
            woken: Woken::new(),
            callers: 0,
            admitted: 0,
            pace: Pace::default(),
            counts: Counts::default(),
            hint: Duration::from_secs(1),
            turn_due: u64::MAX,
            report: Report {
                phases: vec![Tally::default(); phases],
                series: Vec::new(),
            },
            point: Point::default(),
            point_latency: 0,
            scenario,
        }
    }

    pub(super) fn play(mut self) -> Report {
        let scenario = self.scenario;
        let capacity = scenario.backend.capacity() / 1e9;
        let mut stream = Stream::new(scenario.arrivals, &scenario.phases, capacity, self.seed);
        let mut end = 0;
        for (nth, phase) in scenario.phases.iter().enumerate() {
            self.schedule(end, What::Phase(nth as u16));
            end += phase.nanos();
        }
        // Those that came last are given their time.
        let rest = scenario
            .callers
            .patience
            .unwrap_or(scenario.backend.mean * 20);
        let end = end + rest.as_nanos() as u64;
        let mut arrival = stream.next();
        loop {
            let comes = arrival.map_or(u64::MAX, |(at, _)| at);
            let happens = self.events.peek().map_or(u64::MAX, |event| event.0.at);
            let leaves = self.leaving.front().map_or(u64::MAX, |leaver| leaver.0);
            let next = comes.min(happens).min(leaves);
            self.tick_until(next.min(end));
            if next >= end {
                return self.report;
            }
            self.now = next;
            if next == happens {
                if let Some(Reverse(event)) = self.events.pop() {
                    self.happen(event.what);
                }
            } else if next == leaves {
                if let Some((_, id, generation)) = self.leaving.pop_front() {
                    self.lose_patience(id, generation);
                }
            } else if let Some((_, phase)) = arrival {
                self.report.phases[phase].callers += 1;
                self.callers = self.callers.wrapping_add(1);
                let caller = Caller {
                    nth: self.callers,
                    phase: phase as u16,
                    attempt: 0,
                };
                self.attempt(caller);
                arrival = stream.next();
            }
            self.answer_woken();
        }
    }

    fn happen(&mut self, what: What) {
        match what {
            What::Phase(nth) => {
                self.server.enter(&self.scenario.phases[usize::from(nth)]);
                self.start_work();
            }
            What::Done(id, generation) if self.is(id, generation) => self.done(id),
            What::StreamEnds(id, generation) if self.is(id, generation) => {
                self.leave_backend(id);
            }
            What::Refusal(id, generation) if self.is(id, generation) => {
                self.fail(id, Outcome::Overload);
            }
            What::Failure(id, generation) if self.is(id, generation) => {
                self.fail(id, Outcome::Ignore);
            }
            What::Done(..) | What::StreamEnds(..) | What::Refusal(..) | What::Failure(..) => {}
            What::Retry(caller) => self.attempt(caller),
            What::Turn => {
                self.turn_due = u64::MAX;
                let now = self.now();
                self.admission.turn(&self.room, now, &mut self.woken);
                self.watch_queue();
            }
        }
    }

    /// A caller comes, or comes back.
    fn attempt(&mut self, caller: Caller) {
        self.point.attempts += 1;
        let can_wait = self.scenario.rules.max_waiting > 0;
        if let Ok(in_flight) = self.room.slots.try_take(Turn::AfterTheQueue) {
            let id = self.request(caller);
            return self.admit(id, in_flight);
        }
        if !can_wait {
            return self.reject(caller);
        }
        let id = self.request(caller);
        let now = self.now();
        let (room, woken) = (&self.room, &mut self.woken);
        match self.admission.arrive(
            room,
            Kind::InCall,
            Demand::default(),
            now,
            &mut Some(id),
            woken,
        ) {
            Arrival::Admitted(in_flight) => self.admit(id, in_flight),
            Arrival::Waiting(ticket) => {
                self.requests[id as usize].ticket = Some(ticket);
                self.expect(id);
            }
            Arrival::Rejected(_) => {
                self.requests[id as usize].awaited = false;
                self.forget(id);
                self.reject(caller);
            }
        }
        self.watch_queue();
    }

    /// Those in the gate's queue that something has happened to.
    fn answer_woken(&mut self) {
        while let Some(id) = self.woken.pop() {
            let Some(ticket) = self.requests[id as usize].ticket else {
                continue;
            };
            let now = self.now();
            let (room, woken) = (&self.room, &mut self.woken);
            match self
                .admission
                .ask(room, Kind::InCall, ticket, now, &mut Some(id), woken)
                .0
            {
                Answer::Waiting => {}
                Answer::Admitted { in_flight, .. } => {
                    self.requests[id as usize].ticket = None;
                    self.admit(id, in_flight);
                }
                Answer::Rejected { .. } => {
                    let request = &mut self.requests[id as usize];
                    request.ticket = None;
                    request.awaited = false;
                    let caller = request.caller;
                    self.forget(id);
                    self.reject(caller);
                }
            }
            self.watch_queue();
        }
    }

    /// The gate turns a caller away.
    fn reject(&mut self, caller: Caller) {
        self.report.phases[usize::from(caller.phase)].rejected += 1;
        self.point.rejected += 1;
        let nth = self.counts.rejected;
        self.counts.rejected += 1;
        if self.scenario.callers.retries == 0 {
            return;
        }
        if nth % REFUSALS_PER_HINT == 0 {
            let now = self.now();
            self.pace.observe(now, self.counts);
            let waiting = self.admission.waiting();
            self.hint = self.pace.retry_after(now, self.counts.completed, waiting);
        }
        self.come_back(
            caller,
            Some(jittered(self.hint, self.seed.wrapping_add(nth))),
        );
    }

    fn come_back(&mut self, caller: Caller, hint: Option<Duration>) {
        let callers = &self.scenario.callers;
        if caller.attempt >= callers.retries {
            return;
        }
        let own = callers.backoff * (1 << caller.attempt.min(10));
        let own = jittered(own, self.seed ^ u64::from(self.scheduled));
        let after = hint.filter(|_| callers.obedient).unwrap_or(own);
        let caller = Caller {
            attempt: caller.attempt + 1,
            ..caller
        };
        self.schedule(self.now + after.as_nanos() as u64, What::Retry(caller));
    }

    /// The limit is told, as the gate would tell it.
    fn learn(&mut self, request: &Request, outcome: Outcome) {
        if outcome == Outcome::Ignore || !self.limit.learns() {
            return;
        }
        let sample = Sample::new(
            self.now(),
            Duration::from_nanos(self.now - request.admitted),
            request.in_flight as usize,
            outcome,
        );
        let before = self.room.slots.read().limit();
        let after = self.limit.update(&sample).clamp(1, MAX_LIMIT);
        if after != before {
            self.room.slots.set_limit(after);
            if after > before {
                self.look_at_queue();
            }
        }
    }

    fn give_back(&mut self, id: u32) {
        if std::mem::take(&mut self.requests[id as usize].holds) {
            self.counts.completed += 1;
            self.room.slots.give_back();
            self.look_at_queue();
        }
    }

    fn look_at_queue(&mut self) {
        if self.room.slots.read().waiting() {
            let now = self.now();
            self.admission.turn(&self.room, now, &mut self.woken);
            self.watch_queue();
        }
    }

    /// Sees to it that the queue is looked at in time.
    fn watch_queue(&mut self) {
        if let Some(due) = self.admission.next_due() {
            let due = (due.as_nanos() as u64).max(self.now);
            if due < self.turn_due {
                self.turn_due = due;
                self.schedule(due, What::Turn);
            }
        }
    }

    fn request(&mut self, caller: Caller) -> u32 {
        let id = self.unused.pop().unwrap_or_else(|| {
            self.requests.push(Request::default());
            self.requests.len() as u32 - 1
        });
        let generation = self.requests[id as usize].generation;
        self.requests[id as usize] = Request {
            generation,
            caller,
            admitted: u64::MAX,
            awaited: true,
            ..Request::default()
        };
        id
    }

    /// The caller's patience begins.
    fn expect(&mut self, id: u32) {
        let request = &mut self.requests[id as usize];
        request.admitted = self.now;
        if let Some(patience) = self.scenario.callers.patience {
            let at = self.now + patience.as_nanos() as u64;
            self.leaving.push_back((at, id, request.generation));
        }
    }

    /// Once neither the caller nor the backend has anything to do with it.
    fn forget(&mut self, id: u32) {
        let request = &mut self.requests[id as usize];
        if !request.awaited && request.inside == Inside::Nothing && !request.holds {
            request.generation = request.generation.wrapping_add(1);
            self.unused.push(id);
        }
    }

    fn is(&self, id: u32, generation: u32) -> bool {
        self.requests[id as usize].generation == generation
    }

    fn schedule(&mut self, at: u64, what: What) {
        self.scheduled = self.scheduled.wrapping_add(1);
        self.events.push(Reverse(Event {
            at,
            nth: self.scheduled,
            what,
        }));
    }

    fn now(&self) -> Duration {
        Duration::from_nanos(self.now)
    }

    fn tick_until(&mut self, at: u64) {
        let tick = self.scenario.tick;
        while (self.point.at + tick).as_nanos() as u64 <= at {
            let end = self.point.at + tick;
            let word = self.room.slots.read();
            let latency = self.point_latency.checked_div(u64::from(self.point.served));
            self.report.series.push(Point {
                at: end,
                limit: word.limit(),
                in_flight: word.in_flight(),
                inside: self.server.inside(),
                latency: Duration::from_nanos(latency.unwrap_or(0)),
                ..self.point
            });
            self.point = Point {
                at: end,
                ..Point::default()
            };
            self.point_latency = 0;
        }
    }
}
