//! What a layer reports through the `metrics` facade.
//!
//! Each look-up costs some 100 ns, of which a request causes half a dozen: nothing beside an answer that takes seconds. So no
//! handle is kept, and a recorder that is installed later is seen at once.

use std::{
    sync::{
        OnceLock,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use metrics::{Unit, counter, describe_counter, describe_histogram, histogram};

use super::{Usage, patience::Timeout};
use crate::contained::contained;

const FIRST_TOKEN: &str = "backpressure_llm_time_to_first_token_seconds";
const TOKENS: &str = "backpressure_llm_tokens_total";
const REQUESTS: &str = "backpressure_llm_requests_total";
const TIMEOUTS: &str = "backpressure_llm_timeouts_total";

#[derive(Debug, Default)]
pub(super) struct Recording {
    gate: OnceLock<String>,
    described: AtomicBool,
}

impl Recording {
    pub(super) fn new() -> Self {
        Self::default()
    }

    /// The name of the gate that its numbers are shown with.
    pub(super) fn name(&self, gate: &str) {
        self.gate.get_or_init(|| gate.to_owned());
    }

    /// A request came, and it was the client's nth attempt after the first.
    pub(super) fn asked(&self, retry: Option<u8>) {
        self.record(|gate| {
            let retry = match retry {
                None => "unknown",
                Some(0) => "0",
                Some(1) => "1",
                Some(2) => "2",
                Some(_) => "more",
            };
            counter!(REQUESTS, "gate" => gate, "retry" => retry).increment(1);
        });
    }

    pub(super) fn first_token(&self, after: Duration) {
        self.record(|gate| histogram!(FIRST_TOKEN, "gate" => gate).record(after));
    }

    pub(super) fn used(&self, usage: &Usage) {
        self.record(|gate| {
            let cached = usage.cached.min(usage.prompt);
            for (kind, tokens) in [
                ("prompt", usage.prompt - cached),
                ("cached", cached),
                ("output", usage.output),
            ] {
                counter!(TOKENS, "gate" => gate.clone(), "kind" => kind).increment(tokens);
            }
        });
    }

    pub(super) fn timed_out(&self, timeout: Timeout) {
        self.record(|gate| {
            counter!(TIMEOUTS, "gate" => gate, "waiting_for" => timeout.as_str()).increment(1);
        });
    }

    fn record(&self, f: impl FnOnce(String)) {
        let gate = self.gate.get().cloned().unwrap_or_default();
        contained(|| {
            if !self.described.load(Ordering::Relaxed) && recorder_installed() {
                self.described.store(true, Ordering::Relaxed);
                describe();
            }
            f(gate);
        });
    }
}

/// `metrics` does not say whether a recorder is installed, but the one that stands in for none has no size.
fn recorder_installed() -> bool {
    metrics::with_recorder(|recorder| size_of_val(recorder) > 0)
}

fn describe() {
    describe_histogram!(
        FIRST_TOKEN,
        Unit::Seconds,
        "From admission to the first token of a streamed answer."
    );
    describe_counter!(TOKENS, "Tokens used, by kind.");
    describe_counter!(
        REQUESTS,
        "Requests for an answer, by the client's own count of retries."
    );
    describe_counter!(TIMEOUTS, "Answers that were not waited for any longer.");
}
