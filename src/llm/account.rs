use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use super::{
    Asked, Dialect, Kind, Meaning, RequestId, Tally,
    patience::{Patience, Timeout},
    shared::Shared,
};
use crate::{Charge, Demand, Report, gate::Gate, limit::Outcome, sync::lock};

/// What is known of a request before it is let in.
#[derive(Debug)]
pub(super) struct Call {
    pub(super) dialect: Dialect,
    pub(super) asked: Asked,
    pub(super) id: RequestId,
    /// Whose answers are like this one.
    pub(super) key: u64,
    /// Usage was asked for here and not by the client.
    pub(super) hides_usage: bool,
    /// It has been let in.
    pub(super) begun: AtomicBool,
    /// `None` where somebody else has said what it asks for, in a unit of their own.
    pub(super) cost: Option<Cost>,
    /// What a layer outside of this one has charged, which is theirs to settle.
    pub(super) others: Option<Charge>,
}

/// What a request costs.
#[derive(Clone, Copy, Debug)]
pub(super) struct Cost {
    pub(super) prompt: u64,
    /// With the answer, about whose length nothing is certain.
    pub(super) expected: u64,
}

impl Call {
    /// What this layer's own gate has charged, if it has.
    pub(super) fn own(&self, charge: Option<&Charge>) -> Option<Charge> {
        let is_own = |charge: &&Charge| !self.others.as_ref().is_some_and(|it| it.is(charge));
        charge.filter(is_own).cloned()
    }

    /// What it asks for at `gate`. A guess refuses nobody for good: what the gate cannot have room for is left out, and owed once it
    /// was used.
    pub(super) fn demand(&self, gate: &Gate) -> Option<Demand> {
        let cost = self.cost?;
        let fits = gate.at_most(Demand::of(cost.expected));
        Some(Demand::of(fits.cost().max(cost.prompt)))
    }
}

/// What one call is charged, and what is told of how it went; whatever becomes of it, and once.
#[derive(Debug)]
pub(super) struct Account {
    pub(super) shared: Shared,
    pub(super) call: Arc<Call>,
    pub(super) report: Report,
    charge: Option<Charge>,
    tally: Tally,
    began: Duration,
    /// Tokens of giants that came first.
    ahead: u64,
    stage: Stage,
    /// It has said that it is complete.
    complete: bool,
    failed: Option<Outcome>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// Nothing of the answer has come.
    Asked,
    /// The first token has.
    Answering,
    Over,
}

impl Account {
    pub(super) fn open(shared: Shared, call: Arc<Call>, charge: Option<Charge>) -> Self {
        call.begun.store(true, Ordering::Relaxed);
        let report = Report::new();
        if let Some(charge) = &charge {
            charge.attach(&report);
        }
        let prompt = call.asked.prompt();
        let began = shared.now();
        let ahead = match call.asked.is_stream() {
            true => shared.latencies(|latencies| latencies.arrives(began, prompt)),
            false => 0,
        };
        // What somebody else has charged is theirs to settle.
        let charge = charge.filter(|_| call.cost.is_some());
        Self {
            began,
            report,
            charge,
            tally: Tally::new(prompt),
            ahead,
            stage: Stage::Asked,
            complete: false,
            failed: None,
            shared,
            call,
        }
    }

    /// How long its answer is waited for.
    pub(super) fn patience(&self) -> Patience {
        let settings = &self.shared.settings;
        let timeout = match self.call.asked.is_stream() {
            true => settings.first_token_timeout.map(Timeout::FirstToken),
            false => settings.answer_timeout.map(Timeout::Answer),
        };
        Patience::new(self.began, timeout)
    }

    /// Something of a stream has come.
    pub(super) fn add(&mut self, meaning: &Meaning) {
        self.tally.add(meaning);
        match &meaning.kind {
            Kind::Content { .. } if self.stage == Stage::Asked => self.first_token(),
            Kind::Failed(failure) => self.fail(failure.outcome()),
            Kind::End => self.complete = true,
            _ => {}
        }
    }

    /// Whether the answer is all there or has failed, though what brings it has not ended.
    pub(super) fn has_ended(&self) -> bool {
        self.complete || self.failed.is_some()
    }

    fn first_token(&mut self) {
        self.stage = Stage::Answering;
        let now = self.shared.now();
        let latency = now.saturating_sub(self.began);
        let usage = self.tally.usage();
        // What comes from a cache is not read again.
        let (prompt, ahead) = (usage.prompt.saturating_sub(usage.cached), self.ahead);
        let normal = self
            .shared
            .latencies(|latencies| latencies.streamed(now, prompt, ahead, latency));
        self.report.sample(Outcome::Success, normal);
        self.shared.state.recording.first_token(latency);
    }

    /// How it went is known before it is over.
    pub(super) fn fail(&mut self, outcome: Outcome) {
        self.failed = Some(outcome);
        self.report.outcome(outcome);
    }

    /// The whole answer is there, and means this.
    pub(super) fn whole(&mut self, meaning: &Meaning) {
        self.tally.add(meaning);
        if let Kind::Failed(failure) = &meaning.kind {
            self.fail(failure.outcome());
            return self.close();
        }
        let now = self.shared.now();
        let latency = now.saturating_sub(self.began);
        let output = self.tally.usage().output;
        self.stage = Stage::Answering;
        self.complete = true;
        let normal = self
            .shared
            .latencies(|latencies| latencies.whole(now, output, latency));
        match normal {
            Some(normal) => self.report.sample(Outcome::Success, normal),
            None => self.no_sample(),
        }
        self.close();
    }

    /// A whole answer is too long to be kept, and is read as it passes. Its time is from here on also that of its reader.
    pub(super) fn passes(&mut self) {
        self.stage = Stage::Answering;
        self.no_sample();
    }

    /// It has passed, and means this.
    pub(super) fn passed(&mut self, meaning: &Meaning) {
        if self.is_over() {
            return;
        }
        self.came(meaning);
        if let Kind::Failed(failure) = &meaning.kind {
            self.fail(failure.outcome());
        }
        self.close();
    }

    /// This much of a whole answer has come, and nothing more will.
    pub(super) fn came(&mut self, meaning: &Meaning) {
        self.tally.add(meaning);
    }

    pub(super) fn is_over(&self) -> bool {
        self.stage == Stage::Over
    }

    fn no_sample(&mut self) {
        self.report.sample(Outcome::Ignore, Duration::ZERO);
    }

    /// The answer has ended by itself.
    pub(super) fn close(&mut self) {
        if self.is_over() {
            return;
        }
        let usage = self.tally.usage();
        match self.failed {
            // Where nothing came there was no work.
            Some(_) if self.stage == Stage::Asked && !self.tally.is_reported() => self.settle(0),
            Some(_) => self.settle_used(),
            None => {
                if self.stage == Stage::Asked {
                    let latency = self.shared.now().saturating_sub(self.began);
                    let normal = self
                        .shared
                        .latencies(|latencies| latencies.left(true, usage.prompt, latency));
                    self.report
                        .sample(Outcome::Success, normal.unwrap_or(latency));
                }
                self.report.outcome(Outcome::Success);
                self.settle_used();
                if self.complete || self.tally.is_reported() {
                    let (call, learned) = (&*self.call, &self.shared.state.learned);
                    lock(learned).learn(&call.key, call.asked.model(), usage.output);
                }
            }
        }
        self.stage = Stage::Over;
    }

    /// The service behind would not do it, or could not be asked.
    pub(super) fn refused(&mut self) {
        self.settle(0);
        self.stage = Stage::Over;
    }

    /// What comes cannot be read. What was reserved for it stays charged.
    pub(super) fn unreadable(&mut self) {
        self.stage = Stage::Over;
    }

    /// It was cut off here. What was streamed is paid for; nothing was, if the work had not begun.
    pub(super) fn cut(&mut self, outcome: Outcome) {
        self.fail(outcome);
        self.settle_used();
        self.stage = Stage::Over;
    }

    /// The client has left in the middle: what was streamed until then is paid for, and the prompt in any case.
    fn left(&mut self) {
        if self.stage == Stage::Asked {
            let latency = self.shared.now().saturating_sub(self.began);
            let (streams, prompt) = (self.call.asked.is_stream(), self.tally.usage().prompt);
            let told = self.shared.latencies(|latencies| {
                latencies.left(streams, prompt.saturating_add(self.ahead), latency)
            });
            match told {
                Some(latency) => self.report.sample(Outcome::Cancelled, latency),
                None => self.no_sample(),
            }
        }
        self.report.outcome(Outcome::Cancelled);
        self.settle_used();
        self.stage = Stage::Over;
    }

    fn settle_used(&self) {
        let usage = self.tally.usage();
        self.shared.state.recording.used(&usage);
        let lasted = self.shared.now().saturating_sub(self.began);
        self.shared.latencies(|latencies| latencies.lasted(lasted));
        self.settle(self.shared.settings.weights.cost(&usage));
    }

    fn settle(&self, cost: u64) {
        if let Some(charge) = &self.charge {
            charge.set(cost);
        }
    }
}

impl Drop for Account {
    fn drop(&mut self) {
        if self.is_over() {
            return;
        }
        if self.has_ended() {
            // Clients do not wait for the end of the body.
            self.close();
        } else if std::thread::panicking() {
            // What panicked says nothing about load.
            self.cut(Outcome::Ignore);
        } else {
            self.left();
        }
    }
}
