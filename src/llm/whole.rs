use std::mem;

use super::{Dialect, Failure, Kind, Meaning, Reported, failure};

/// How much is kept of a member that is looked for, in bytes. Usage is some 300.
const KEPT: usize = 16 * 1024;
/// The level from which on there is text of the answer: a choice, a message, a block. Above are names and numbers.
const OF_ANSWER: u64 = 3;

/// Reads an answer that comes as one JSON document, chunk by chunk and without keeping it: of its outermost members only `usage` and
/// `error` are kept, each up to 16 KiB. Whether the document is well-formed is the client's business.
///
/// ```
/// use tower_backpressure::llm::{Dialect, Tally, Whole};
///
/// let mut whole = Whole::new(Dialect::Anthropic);
/// whole.read(br#"{"content":[{"type":"text","text":"Rain."}],"usage":{"input_to"#);
/// whole.read(br#"kens":12,"output_tokens":3}}"#);
///
/// let mut tally = Tally::new(10);
/// tally.add(&whole.finish());
/// assert_eq!((tally.usage().prompt, tally.usage().output), (12, 3));
/// ```
#[derive(Debug)]
pub struct Whole {
    dialect: Dialect,
    depth: u64,
    place: Place,
    /// Bytes of the last string, of which it is not known yet whether it is the name of a member.
    string: u64,
    /// Its beginning, where members have names that matter.
    name: Vec<u8>,
    kept: Option<Kept>,
    usage: Vec<u8>,
    error: Vec<u8>,
    text: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    Outside,
    String,
    /// In a string, after a backslash.
    Escape,
    /// In a string, after `\u`; so many digits of its four are left, of which two count as bytes.
    Digits(u8),
}

/// The member that is being kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kept {
    Usage,
    Error,
}

impl Whole {
    /// Before the first chunk.
    pub fn new(dialect: Dialect) -> Self {
        Self {
            dialect,
            depth: 0,
            place: Place::Outside,
            string: 0,
            name: Vec::new(),
            kept: None,
            usage: Vec::new(),
            error: Vec::new(),
            text: 0,
        }
    }

    /// Reads the next chunk, wherever it ends.
    pub fn read(&mut self, chunk: &[u8]) {
        for byte in chunk {
            match self.place {
                Place::Outside => self.outside(*byte),
                Place::String => match byte {
                    b'"' => self.place = Place::Outside,
                    b'\\' => self.place = Place::Escape,
                    _ => self.letter(*byte),
                },
                Place::Escape => {
                    self.letter(*byte);
                    self.place = match byte {
                        b'u' => Place::Digits(4),
                        _ => Place::String,
                    };
                }
                Place::Digits(left) => {
                    if left > 2 {
                        self.letter(*byte);
                    }
                    self.place = match left {
                        1 => Place::String,
                        _ => Place::Digits(left - 1),
                    };
                }
            }
            self.keep(*byte);
        }
    }

    /// What the answer means, when it has ended or nobody wants more of it: usage and failure as in a stream, and content, of as many
    /// bytes as there were of text.
    pub fn finish(&self) -> Meaning {
        let usage = String::from_utf8_lossy(&self.usage);
        let error = String::from_utf8_lossy(&self.error);
        let error = error.trim();
        let kind = if !error.is_empty() && failure::is_one(error) {
            Kind::Failed(Failure::read(self.dialect, error, error))
        } else if self.text > 0 {
            Kind::Content { bytes: self.text }
        } else {
            Kind::Nothing
        };
        Meaning {
            kind,
            reported: Reported::read(&usage),
        }
    }

    fn outside(&mut self, byte: u8) {
        match byte {
            b'"' => {
                self.place = Place::String;
                self.string = 0;
                self.name.clear();
            }
            b'{' | b'[' => self.depth = self.depth.saturating_add(1),
            b'}' | b']' => {
                self.end_value();
                self.depth = self.depth.saturating_sub(1);
            }
            b',' => self.end_value(),
            b':' => {
                self.string = 0;
                if self.depth == 1 {
                    self.begin_member();
                }
            }
            _ => {}
        }
    }

    fn letter(&mut self, byte: u8) {
        self.string += 1;
        // The longest name that matters has five letters.
        if self.depth == 1 && self.name.len() < 6 {
            self.name.push(byte);
        }
    }

    fn begin_member(&mut self) {
        self.kept = match self.name.as_slice() {
            b"usage" => Some(Kept::Usage),
            b"error" => Some(Kept::Error),
            _ => None,
        };
        self.name.clear();
        if let Some(member) = self.member() {
            member.clear();
        }
    }

    /// A string that was no name is text.
    fn end_value(&mut self) {
        let text = mem::take(&mut self.string);
        if self.depth >= OF_ANSWER {
            self.text = self.text.saturating_add(text);
        }
        if self.depth == 1 {
            self.kept = None;
        }
    }

    fn keep(&mut self, byte: u8) {
        let Some(member) = self.member() else {
            return;
        };
        let is_empty = member.is_empty();
        if member.len() == KEPT {
            member.clear();
            self.kept = None;
        } else if !(is_empty && matches!(byte, b':' | b' ' | b'\n' | b'\r' | b'\t')) {
            member.push(byte);
        }
    }

    fn member(&mut self) -> Option<&mut Vec<u8>> {
        match self.kept? {
            Kept::Usage => Some(&mut self.usage),
            Kept::Error => Some(&mut self.error),
        }
    }
}
