//! What one event of a streamed answer says.

use http::StatusCode;

use super::{Dialect, anthropic, openai, sse};
use crate::{limit::Outcome, protocol::outcome_of};

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

/// An error inside a stream that began with status 200, where no SDK retries.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    status: StatusCode,
    message: String,
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
        match self {
            Dialect::OpenAi => openai::read(event),
            Dialect::Anthropic => anthropic::read(event),
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

impl Failure {
    /// How much of the message is kept, in bytes.
    const MESSAGE: usize = 1024;

    pub(super) fn new(status: StatusCode, message: &str) -> Self {
        let mut end = message.len().min(Self::MESSAGE);
        while !message.is_char_boundary(end) {
            end -= 1;
        }
        Self {
            status,
            message: message[..end].to_owned(),
        }
    }

    /// The status that the response would have had, had the error come before its head: 503 (OpenAI) or 529 (Anthropic) where the
    /// provider is overloaded, 429 where a quota is used up, and so on; 500 where the error is unknown.
    pub fn status(&self) -> StatusCode {
        self.status
    }

    /// What the provider says about it, up to 1 KiB; may be empty.
    pub fn message(&self) -> &str {
        &self.message
    }

    /// What it says about load, by its status.
    pub fn outcome(&self) -> Outcome {
        outcome_of(self.status)
    }
}

impl Reported {
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
