//! Sees that an event is the last one over again, with another word in it.
//!
//! That is what nearly all events of a streamed answer are: some 300 bytes around a word or two, the same ones each time.
//! Whoever has read one of them need not read the next, only compare it.

use std::{ops::Range, str};

use super::glance::{Glance, special};

/// Longer events are read each by itself.
const LONGEST: usize = 4 * 1024;
const ENDS: [&[u8]; 2] = [b"\r\n\r\n", b"\n\n"];
const FIELDS: [&[u8]; 2] = [b"data: ", b"data:"];
/// What a word begins with that is a picture, and no text.
const PICTURE: &[u8] = b"data:";

/// What the last event looked like that had a word.
#[derive(Debug, Default)]
pub(super) struct Pattern {
    /// The event, as it came over the wire and to its end. Empty until there was one.
    event: Vec<u8>,
    /// Where its word stands.
    word: Range<usize>,
    /// How many bytes of text it has beside.
    others: u64,
}

impl Pattern {
    /// What the event adds to the answer with which `rest` begins, and how long it is: if it is like the last one.
    pub(super) fn fits(&self, rest: &[u8]) -> Option<(usize, Glance)> {
        if self.event.is_empty() {
            return None;
        }
        let after = &self.event[self.word.end..];
        let begins = self.word.start;
        let rest = rest.strip_prefix(&self.event[..begins])?;
        let (word, rest) = rest.split_at(special(rest)?);
        let is_word =
            !word.is_empty() && !word.starts_with(PICTURE) && str::from_utf8(word).is_ok();
        (is_word && rest.starts_with(after)).then(|| {
            let ends = begins + word.len();
            let glance = Glance {
                bytes: self.others + word.len() as u64,
                word: Some(begins..ends),
            };
            (ends + after.len(), glance)
        })
    }

    /// An event that began where another could have, its `data`, and what was seen of that.
    pub(super) fn learn(&mut self, event: &[u8], data: &[u8], glance: &Glance) {
        let (Some(word), Some(at)) = (&glance.word, data_at(event, data)) else {
            return;
        };
        if event.len() <= LONGEST {
            self.event.clear();
            self.event.extend_from_slice(event);
            self.others = glance.bytes - word.len() as u64;
            self.word = at + word.start..at + word.end;
        }
    }
}

/// Where in an event its data stands, if that is its last line.
fn data_at(event: &[u8], data: &[u8]) -> Option<usize> {
    let lines = ENDS.iter().find_map(|end| event.strip_suffix(*end))?;
    let before = lines.strip_suffix(data)?;
    let others = FIELDS
        .iter()
        .find_map(|field| before.strip_suffix(*field))?;
    (others.is_empty() || others.ends_with(b"\n")).then_some(before.len())
}
