//! Anthropic's events: the Messages API.

use super::{Dialect, Kind, Meaning, Reported, failure::Failure, json, text::Text};

/// Types of events are words.
const LONGEST_TYPE: usize = 64;
const OF_EVENT: [&str; 6] = [
    "type",
    "error",
    "usage",
    "message",
    "content_block",
    "delta",
];

/// Whatever it is.
pub(super) fn study(data: &str, name: &str) -> Meaning {
    let mut of_type = None;
    let mut error = None;
    let mut reported = None;
    let mut content = Text::default();
    json::members_of(data, &OF_EVENT, |member, value| match member {
        "type" => of_type = json::string(value, LONGEST_TYPE),
        "error" => error = Some(value),
        "usage" => reported = Reported::read(value),
        "message" => {
            json::members_of(value, &["usage"], |_, value| {
                reported = Reported::read(value);
            });
        }
        "content_block" | "delta" => content = content_of(value),
        _ => {}
    });
    let kind = match of_type.as_deref().unwrap_or(name) {
        "error" => Kind::Failed(Failure::read(
            Dialect::Anthropic,
            error.unwrap_or(data),
            data,
        )),
        "content_block_start" | "content_block_delta" if content.bytes > 0 => Kind::Content {
            bytes: content.bytes,
        },
        "message_stop" => Kind::End,
        _ => Kind::Nothing,
    };
    Meaning { kind, reported }
}

/// What a block begins with, or a delta adds to it. Its type, a call's id, a signature and citations are not written by the model.
fn content_of(block: &str) -> Text {
    let mut content = Text::default();
    let written = ["text", "thinking", "partial_json", "name"];
    json::members_of(block, &written, |_, value| {
        content = content.and(Text::of(value));
    });
    content
}
