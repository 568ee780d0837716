//! From admission to the answer, or to the end of the caller's patience.

use fastrand::Rng;

use super::{Caller, Run, What};
use crate::{
    limit::Outcome,
    sim::{dist::exponential, server::Inside},
};

/// A refusal of the backend takes this share of the mean work.
const REFUSAL: f64 = 0.02;

impl Run<'_> {
    pub(super) fn admit(&mut self, id: u32, in_flight: u32) {
        self.admitted += 1;
        let now = self.now;
        let request = &mut self.requests[id as usize];
        let waited = request.admitted != u64::MAX;
        request.admitted = now;
        request.in_flight = in_flight;
        request.holds = true;
        let generation = request.generation;
        if !waited {
            self.expect(id);
        }
        let backend = &self.scenario.backend;
        let soon = (backend.mean.as_nanos() as f64 * REFUSAL) as u64;
        let mut rng = Rng::with_seed(self.seed ^ self.admitted.wrapping_mul(0x9e37_79b9_7f4a_7c15));
        if backend.failing > 0.0 && rng.f64() < backend.failing {
            self.requests[id as usize].inside = Inside::Turned;
            self.schedule(now + soon, What::Failure(id, generation));
        } else if self.server.refuses(now) {
            self.requests[id as usize].inside = Inside::Turned;
            self.schedule(now + soon, What::Refusal(id, generation));
        } else {
            self.requests[id as usize].inside = Inside::Queued;
            let work = backend.work.draw(&mut rng) * backend.mean.as_nanos() as f64;
            self.server.queue.push_back((id, work as u64));
            self.start_work();
        }
    }

    pub(super) fn start_work(&mut self) {
        while let Some((id, nanos)) = self.server.start() {
            let request = self.requests[id as usize];
            if self.scenario.callers.noticed && !request.awaited {
                self.server.finish();
                self.requests[id as usize].inside = Inside::Nothing;
                self.forget(id);
                continue;
            }
            self.requests[id as usize].inside = Inside::Worked;
            self.schedule(self.now + nanos, What::Done(id, request.generation));
        }
    }

    pub(super) fn done(&mut self, id: u32) {
        let request = self.requests[id as usize];
        if request.awaited {
            self.serve(id);
        }
        if let (Some(mean), true) = (self.scenario.backend.stream, request.awaited) {
            let mut rng = Rng::with_seed(self.seed ^ of_stream(request.caller));
            let length = (exponential(&mut rng) * mean.as_nanos() as f64) as u64;
            self.schedule(self.now + length, What::StreamEnds(id, request.generation));
            return;
        }
        self.leave_backend(id);
    }

    /// The backend has done all it has to.
    pub(super) fn leave_backend(&mut self, id: u32) {
        self.server.finish();
        self.requests[id as usize].inside = Inside::Nothing;
        self.give_back(id);
        self.forget(id);
        self.start_work();
    }

    /// The caller has its answer.
    fn serve(&mut self, id: u32) {
        let request = &mut self.requests[id as usize];
        request.awaited = false;
        let request = *request;
        let latency = self.now - request.admitted;
        let tally = &mut self.report.phases[usize::from(request.caller.phase)];
        tally.served += 1;
        tally.latency.record(latency);
        self.point.served += 1;
        self.point_latency += latency;
        self.learn(&request, Outcome::Success);
    }

    /// The backend refused, or failed.
    pub(super) fn fail(&mut self, id: u32, outcome: Outcome) {
        let request = &mut self.requests[id as usize];
        let awaited = std::mem::take(&mut request.awaited);
        request.inside = Inside::Nothing;
        let request = *request;
        if outcome == Outcome::Overload {
            self.server.refused -= 1;
        }
        if awaited {
            let tally = &mut self.report.phases[usize::from(request.caller.phase)];
            match outcome {
                Outcome::Overload => tally.refused += 1,
                _ => tally.failed += 1,
            }
            self.learn(&request, outcome);
            self.give_back(id);
            self.come_back(request.caller, None);
        }
        self.forget(id);
    }

    pub(super) fn lose_patience(&mut self, id: u32, generation: u32) {
        let request = self.requests[id as usize];
        if request.generation != generation || !request.awaited {
            return;
        }
        self.requests[id as usize].awaited = false;
        self.report.phases[usize::from(request.caller.phase)].left += 1;
        if let Some(ticket) = request.ticket {
            self.requests[id as usize].ticket = None;
            let now = self.now();
            self.admission
                .leave(&self.room, ticket, now, &mut self.woken);
            self.watch_queue();
        } else {
            self.learn(&request, Outcome::Cancelled);
            self.give_back(id);
            // What has not begun is passed over when its turn comes.
            if self.scenario.callers.noticed && request.inside == Inside::Worked {
                self.server.finish();
                self.requests[id as usize].inside = Inside::Nothing;
                self.start_work();
            }
        }
        self.forget(id);
        self.come_back(request.caller, None);
    }
}

/// By which an answer to this attempt is as long whoever else was let in. Apart from what its work is drawn by.
fn of_stream(caller: Caller) -> u64 {
    let attempt = u64::from(caller.nth) << 8 | u64::from(caller.attempt);
    attempt.wrapping_mul(0xbf58_476d_1ce4_e5b9)
}
