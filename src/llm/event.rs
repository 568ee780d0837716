//! What one event of a streamed answer says.

use std::{borrow::Cow, str};

use super::{
    Dialect, anthropic,
    failure::Failure,
    glance::{self, Glance},
    json, openai, sse,
};

/// What one event of a stream means for whoever counts, measures or holds back. What is not known means nothing; it is never an
/// error.
#[derive(Clone, Debug, Default, PartialEq)]
#[non_exhaustive]
pub struct Meaning {
    /// What kind of event it is.
    pub kind: Kind,
    /// The usage it reports, if any. Any kind may.
    pub reported: Option<Reported>,
}

/// What kind of event it is.
#[derive(Clone, Debug, Default, PartialEq)]
#[non_exhaustive]
pub enum Kind {
    /// Nothing of the answer: a ping, a comment, the beginning of a message, its role, what nobody has heard of.
    #[default]
    Nothing,
    /// A part of the answer: text, a call of a tool, what the model thinks. The first one is when the first token came.
    Content {
        /// How much it is, in bytes of text.
        bytes: u64,
    },
    /// Usage and nothing else: OpenAI's last chunk, which only comes if the request asked for it with
    /// `stream_options.include_usage`. To be kept from a client that did not.
    UsageOnly,
    /// The answer failed, whatever the status of the response said.
    Failed(Failure),
    /// The answer is complete.
    End,
}

/// Usage as it was reported: what was not said is `None`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Reported {
    /// Tokens of the prompt, all of them.
    pub prompt: Option<u64>,
    /// Of these, from a cache.
    pub cached: Option<u64>,
    /// Tokens of the answer until now.
    pub output: Option<u64>,
}

impl Dialect {
    /// What `event` means. Costs no more than linear in its length, whatever is in it.
    pub fn read(self, event: &sse::Event<'_>) -> Meaning {
        let data = text(event.data());
        match self.glance(&data) {
            Some(glance) => glance.into(),
            None => self.study(&data, event.name()),
        }
    }

    /// What nearly every event is.
    pub(super) fn glance(self, data: &str) -> Option<Glance> {
        match self {
            Dialect::OpenAi => glance::of_chunk(data),
            Dialect::Anthropic => glance::of_delta(data),
        }
    }

    /// Whatever an event of this name is.
    pub(super) fn study(self, data: &str, name: &str) -> Meaning {
        match self {
            Dialect::OpenAi => openai::study(data, name),
            Dialect::Anthropic => anthropic::study(data, name),
        }
    }
}

impl Meaning {
    /// Whether it is a part of the answer.
    pub fn is_content(&self) -> bool {
        matches!(self.kind, Kind::Content { .. })
    }

    pub(super) fn of(kind: Kind) -> Self {
        Self {
            kind,
            reported: None,
        }
    }
}

impl From<Glance> for Meaning {
    fn from(glance: Glance) -> Self {
        Self::of(Kind::Content {
            bytes: glance.bytes,
        })
    }
}

impl Reported {
    /// What stands under `usage`, in either dialect. `None` where that says nothing.
    pub(super) fn read(usage: &str) -> Option<Self> {
        let mut reported = Self::default();
        let mut all_of_prompt = false;
        let mut of_cache = Self::default();
        json::members(usage, |name, value| match name {
            "prompt_tokens" => {
                all_of_prompt = true;
                reported.prompt = json::count(value);
            }
            "input_tokens" if !all_of_prompt => reported.prompt = json::count(value),
            "completion_tokens" | "output_tokens" => reported.output = json::count(value),
            "prompt_tokens_details" | "input_tokens_details" => {
                json::members(value, |name, value| {
                    if name == "cached_tokens" {
                        reported.cached = json::count(value);
                    }
                });
            }
            "cache_creation_input_tokens" => of_cache.prompt = json::count(value),
            "cache_read_input_tokens" => of_cache.cached = json::count(value),
            _ => {}
        });
        reported.cached = reported.cached.or(of_cache.cached);
        // Anthropic's `input_tokens` are without what was written to its cache or read from it.
        if !all_of_prompt {
            let parts = [reported.prompt, of_cache.prompt, of_cache.cached];
            reported.prompt = parts.into_iter().flatten().reduce(u64::saturating_add);
        }
        (reported != Self::default()).then_some(reported)
    }

    /// With what is reported later. Reports are of all there was until then, so that the larger number counts; a 0 may only mean
    /// that it is said elsewhere.
    pub fn and(self, later: Reported) -> Self {
        Self {
            prompt: self.prompt.max(later.prompt),
            cached: self.cached.max(later.cached),
            output: self.output.max(later.output),
        }
    }
}

/// `data` as text; what is no letter of any becomes one that says so.
pub(super) fn text(data: &[u8]) -> Cow<'_, str> {
    // The lossy way goes letter by letter, also where there is nothing to lose.
    match str::from_utf8(data) {
        Ok(text) => Cow::Borrowed(text),
        Err(_) => String::from_utf8_lossy(data),
    }
}

#[cfg(test)]
mod tests;
