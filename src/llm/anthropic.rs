//! Anthropic's events: the Messages API.

use super::{Meaning, sse};

pub(super) fn read(event: &sse::Event<'_>) -> Meaning {
    let _ = event;
    Meaning::default()
}
