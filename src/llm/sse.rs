//! Reads server-sent events as they pass by (WHATWG HTML, section 9.2.6, "Interpreting an event stream").
//!
//! Chunks of a body end anywhere: in the middle of an event, of a line's end, of a letter. A reader that looks at each chunk by
//! itself misses the one event that mattered, and one that keeps what it has not understood yet grows with whatever it is sent.
//! This one keeps at most what one event may have, passes over what is beyond, and goes on.

use std::{fmt, mem};

use crate::{
    ConfigError,
    config::{at_least_one, built},
};

/// Room that is kept from event to event.
const KEPT: usize = 8 * 1024;
/// A name is a word; of one that is longer nobody has heard.
const LONGEST_NAME: usize = 256;
const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";

/// Reads the events of one stream, chunk by chunk.
///
/// It takes nothing out of the stream: it says where in the chunk an event ends, so that whoever passes the bytes on can hold an
/// event back until it is known what it is.
///
/// ```
/// use tower_backpressure::llm::sse::Reader;
///
/// let mut reader = Reader::new();
/// let first = reader.read(b"data: {\"n\":");
/// assert_eq!((first.used, first.event.is_none()), (11, true));
///
/// let chunk = b" 1}\n\ndata: [DONE]\n\n";
/// let read = reader.read(chunk);
/// assert_eq!(read.event.unwrap().data(), b"{\"n\": 1}");
/// assert_eq!(&chunk[read.used..], b"data: [DONE]\n\n");
/// ```
pub struct Reader {
    limit: usize,
    /// The beginning of a line whose end has not come.
    line: Vec<u8>,
    name: String,
    /// Each line of data with its end.
    data: Vec<u8>,
    part: Part,
    /// The rest of the line is of no interest.
    skipping: bool,
    /// A line ended with CR at the end of a chunk; LF, if it comes next, belongs to it.
    after_cr: bool,
    first_line: bool,
}

/// How far the event is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Part {
    /// Nothing of it has come.
    None,
    Begun,
    /// It had more than there is room for.
    Cut,
    /// It has been told, and what is kept of it goes next.
    Told,
}

/// What was read of a chunk.
#[derive(Debug)]
pub struct Read<'a> {
    /// How many bytes of it. The rest is to be read next, after an event; without one it is the whole chunk.
    pub used: usize,
    /// The event that ends there.
    pub event: Option<Event<'a>>,
}

/// An event; or what has an event's place in the stream without being one, such as a comment that keeps the connection alive. That
/// has no [data](Self::data), and clients do not hear of it.
#[derive(Clone, Copy)]
pub struct Event<'a> {
    name: &'a str,
    data: &'a [u8],
    whole: bool,
}

impl Reader {
    /// The room for one event, if not said otherwise: 256 KiB. A word or two of an answer is some 300 bytes; the longest there
    /// is, OpenAI's `response.completed`, repeats the whole answer.
    pub const LIMIT: usize = 256 * 1024;

    /// A reader with room for events of [`LIMIT`](Self::LIMIT) bytes.
    pub fn new() -> Self {
        built(Self::try_with_limit(Self::LIMIT))
    }

    /// A reader with room for events of `limit` bytes. It holds no more than about twice that, and as a rule a few hundred bytes.
    ///
    /// # Panics
    ///
    /// If `limit` is 0.
    #[track_caller]
    pub fn with_limit(limit: usize) -> Self {
        built(Self::try_with_limit(limit))
    }

    /// As [`with_limit`](Self::with_limit), for a number from a file.
    ///
    /// # Errors
    ///
    /// If `limit` is 0.
    pub fn try_with_limit(limit: usize) -> Result<Self, ConfigError> {
        Ok(Self {
            limit: at_least_one("limit", limit)?,
            line: Vec::new(),
            name: String::new(),
            data: Vec::new(),
            part: Part::None,
            skipping: false,
            after_cr: false,
            first_line: true,
        })
    }

    /// Reads `chunk` to the end of the next event, or to its own end.
    ///
    /// An event that had more than there is room for is told without its data, and [is not whole](Event::is_whole).
    pub fn read(&mut self, chunk: &[u8]) -> Read<'_> {
        self.forget_told();
        let mut used = 0;
        if self.after_cr && !chunk.is_empty() {
            self.after_cr = false;
            used += usize::from(chunk[0] == b'\n');
        }
        while used < chunk.len() {
            let rest = &chunk[used..];
            let Some(end) = memchr::memchr2(b'\n', b'\r', rest) else {
                self.keep(rest);
                break;
            };
            used += end + 1;
            if rest[end] == b'\r' {
                match chunk.get(used) {
                    Some(b'\n') => used += 1,
                    Some(_) => {}
                    None => self.after_cr = true,
                }
            }
            if self.end_line(&rest[..end]) {
                let event = Some(self.tell());
                return Read { used, event };
            }
        }
        Read {
            used: chunk.len(),
            event: None,
        }
    }

    /// To be called when the stream has ended: an event that was begun and not ended by an empty line. Clients that keep to the
    /// standard do not hear of it, others do; and what it says was used was used.
    pub fn finish(&mut self) -> Option<Event<'_>> {
        self.forget_told();
        self.end_line(b"");
        (self.part != Part::None).then(|| self.tell())
    }

    /// Whether nothing has come of the next event, so that another one could be put into the stream here.
    pub fn is_between_events(&self) -> bool {
        matches!(self.part, Part::None | Part::Told) && self.line.is_empty() && !self.skipping
    }

    /// Likewise, and whatever comes next is read as if it came after an event that was read here.
    pub(super) fn is_at_beginning(&self) -> bool {
        self.is_between_events() && !self.after_cr && !self.first_line
    }

    /// Keeps the beginning of a line.
    fn keep(&mut self, beginning: &[u8]) {
        if self.skipping {
            return;
        }
        let is_comment = self.line.first().or(beginning.first()) == Some(&b':');
        if !is_comment && self.has_room_for(beginning) {
            return self.line.extend_from_slice(beginning);
        }
        self.pass_over(is_comment);
        self.skipping = true;
        self.line = Vec::new();
    }

    /// The line ends with `end`. Whether the event does.
    fn end_line(&mut self, end: &[u8]) -> bool {
        if mem::take(&mut self.skipping) {
            return false;
        }
        if self.line.is_empty() {
            return self.take_line(end);
        }
        self.keep(end);
        if mem::take(&mut self.skipping) {
            return false;
        }
        let mut line = mem::take(&mut self.line);
        let ended = self.take_line(&line);
        line.clear();
        if line.capacity() <= KEPT {
            self.line = line;
        }
        ended
    }

    /// Whether this whole line ends the event.
    fn take_line(&mut self, mut line: &[u8]) -> bool {
        let is_comment = line.first() == Some(&b':');
        if is_comment || !self.has_room_for(line) {
            self.pass_over(is_comment);
            return false;
        }
        if mem::take(&mut self.first_line) {
            line = line.strip_prefix(BYTE_ORDER_MARK).unwrap_or(line);
        }
        if line.is_empty() {
            return self.part != Part::None;
        }
        self.begin();
        let colon = line.iter().position(|byte| *byte == b':');
        let (field, value) = match colon {
            Some(colon) => (&line[..colon], &line[colon + 1..]),
            None => (line, &b""[..]),
        };
        let value = value.strip_prefix(b" ").unwrap_or(value);
        match field {
            b"data" => self.add(value),
            b"event" => self.rename(value),
            _ => {}
        }
        false
    }

    fn add(&mut self, value: &[u8]) {
        if self.part != Part::Cut {
            self.data.extend_from_slice(value);
            self.data.push(b'\n');
        }
    }

    fn rename(&mut self, name: &[u8]) {
        self.name.clear();
        if name.len() <= LONGEST_NAME {
            self.name.push_str(&String::from_utf8_lossy(name));
        }
    }

    fn begin(&mut self) {
        if self.part == Part::None {
            self.part = Part::Begun;
        }
    }

    /// What is in the line is not for us, or more than there is room for.
    fn pass_over(&mut self, is_comment: bool) {
        self.first_line = false;
        self.begin();
        if !is_comment {
            self.part = Part::Cut;
            self.data = Vec::new();
        }
    }

    /// Counted in whole lines, so that it is the same wherever chunks end.
    fn has_room_for(&self, part: &[u8]) -> bool {
        self.held() + part.len() <= self.limit
    }

    fn held(&self) -> usize {
        self.line.len() + self.data.len()
    }

    fn tell(&mut self) -> Event<'_> {
        let whole = self.part != Part::Cut;
        self.part = Part::Told;
        Event {
            name: &self.name,
            data: self.data.strip_suffix(b"\n").unwrap_or(&self.data),
            whole,
        }
    }

    fn forget_told(&mut self) {
        if self.part != Part::Told {
            return;
        }
        self.part = Part::None;
        self.name.clear();
        self.data.clear();
        if self.data.capacity() > KEPT {
            self.data = Vec::new();
        }
    }
}

impl Default for Reader {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for Reader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reader")
            .field("limit", &self.limit)
            .field("held", &self.held())
            .field("part", &self.part)
            .finish_non_exhaustive()
    }
}

impl<'a> Event<'a> {
    /// Its name; empty where it has none, which the standard calls `message`.
    pub fn name(&self) -> &'a str {
        self.name
    }

    /// Its data, lines joined by LF. Empty where there is none, and where it was too long.
    pub fn data(&self) -> &'a [u8] {
        self.data
    }

    /// Whether there was room for all of it.
    pub fn is_whole(&self) -> bool {
        self.whole
    }
}

impl fmt::Debug for Event<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Event")
            .field("name", &self.name)
            .field("data", &String::from_utf8_lossy(self.data))
            .field("whole", &self.whole)
            .finish()
    }
}

#[cfg(test)]
mod tests;
