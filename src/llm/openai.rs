//! OpenAI's events: chunks of chat completions and of completions, and the Responses API.

use super::{Meaning, sse};

pub(super) fn read(event: &sse::Event<'_>) -> Meaning {
    let _ = event;
    Meaning::default()
}
