//! OpenAI's events: chunks of chat completions and of completions, the Responses API, and what compatible servers make of them.

use super::{
    Dialect, Kind, Meaning, Reported,
    failure::{self, Failure},
    json,
    text::Text,
};

const DONE: &str = "[DONE]";
/// Types of events are words.
const LONGEST_TYPE: usize = 64;
const OF_CHUNK: [&str; 7] = [
    "choices", "usage", "error", "type", "delta", "object", "response",
];

/// Whatever it is.
pub(super) fn study(data: &str, name: &str) -> Meaning {
    if data.trim() == DONE {
        return Meaning::of(Kind::End);
    }
    let mut chunk = Chunk::default();
    json::members_of(data, &OF_CHUNK, |name, value| chunk.member(name, value));
    Meaning {
        reported: chunk.reported,
        kind: chunk.kind(data, name),
    }
}

#[derive(Default)]
struct Chunk<'a> {
    /// Of the Responses API.
    of_type: Option<String>,
    reported: Option<Reported>,
    error: Option<&'a str>,
    choices: Option<&'a str>,
    delta: Option<&'a str>,
    is_error: bool,
}

impl<'a> Chunk<'a> {
    fn member(&mut self, name: &str, value: &'a str) {
        match name {
            "choices" => self.choices = Some(value),
            "usage" => self.reported = Reported::read(value),
            "error" => self.error = Some(value).filter(|value| failure::is_one(value)),
            "type" => self.of_type = json::string(value, LONGEST_TYPE).map(Into::into),
            "delta" => self.delta = Some(value),
            // As vLLM sent them until its version 0.10.
            "object" => self.is_error = value == "\"error\"",
            "response" => {
                json::members_of(value, &["usage", "error"], |name, value| match name {
                    "usage" => self.reported = Reported::read(value),
                    "error" => self.error = Some(value).filter(|value| failure::is_one(value)),
                    _ => {}
                });
            }
            _ => {}
        }
    }

    fn kind(&self, data: &str, name: &str) -> Kind {
        let failed = |error| Kind::Failed(Failure::read(Dialect::OpenAi, error, data));
        if let Some(error) = self.error {
            return failed(error);
        }
        let of_type = self.of_type.as_deref().unwrap_or_default();
        let is_error = self.is_error || of_type == "error" || name == "error";
        if is_error && self.choices.is_none() {
            return failed(data);
        }
        match of_type {
            "response.failed" => return failed(data),
            "response.completed" | "response.incomplete" => return Kind::End,
            _ => {}
        }
        let content = match (self.choices, self.delta) {
            (Some(choices), _) => content_of(choices),
            (None, Some(delta)) if of_type.ends_with(".delta") => Text::of(delta),
            _ => Text::default(),
        };
        if content.bytes + content.media > 0 {
            return Kind::Content {
                bytes: content.bytes,
            };
        }
        let is_empty = |choices: &str| {
            choices
                .trim_matches(['[', ']', ' ', '\n', '\r', '\t'])
                .is_empty()
        };
        match self.reported.is_some() && self.choices.is_some_and(is_empty) {
            true => Kind::UsageOnly,
            false => Kind::Nothing,
        }
    }
}

/// What the choices add to the answer.
fn content_of(choices: &str) -> Text {
    let mut content = Text::default();
    json::elements(choices, |choice| {
        json::members_of(choice, &["delta", "text"], |name, value| match name {
            "delta" => {
                json::members(value, |name, value| {
                    // Whatever else it is, `content`, `reasoning`, `tool_calls` or what comes next year, the model wrote it.
                    if name != "role" {
                        content = content.and(Text::of(value));
                    }
                });
            }
            "text" => content = content.and(Text::of(value)),
            _ => {}
        });
    });
    content
}
