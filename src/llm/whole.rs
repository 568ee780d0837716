use std::{borrow::Cow, mem};

use super::{Dialect, Failure, Kind, Meaning, Reported, failure};

/// How much is kept of a member that is looked for, in bytes. Usage is some 300.
const KEPT: usize = 16 * 1024;
const OUTERMOST: u64 = 1;
/// Between the choices, and in one of them.
const OF_CHOICES: u64 = 2;
const OF_CHOICE: u64 = 3;
/// The level from which on there is text of the answer: a choice, a message, a block. Above are names and numbers.
const OF_ANSWER: u64 = 3;

/// Reads an answer that comes as one JSON document, chunk by chunk and without keeping it: of its outermost members only
/// `usage` and `error` are kept, each up to 16 KiB, and an `error` in place of the first choice. Whether the document is
/// well-formed is the client's business.
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
    /// Where that ends.
    kept_at: u64,
    /// In the first of the choices, or what is called so.
    in_first_choice: bool,
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
            kept_at: 0,
            in_first_choice: false,
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
        // Of a string that has not ended it is not known whether it is text; one as long as matters is.
        let text = match self.depth >= OF_ANSWER {
            true => self.text.saturating_add(self.string),
            false => self.text,
        };
        let kind = if let Some(error) = self.error() {
            Kind::Failed(Failure::read(self.dialect, &error, &error))
        } else if text > 0 {
            Kind::Content { bytes: text }
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
                self.begin_member();
            }
            _ => {}
        }
    }

    fn letter(&mut self, byte: u8) {
        self.string += 1;
        // The longest name that matters has seven letters.
        if matches!(self.depth, OUTERMOST | OF_CHOICE) && self.name.len() < 8 {
            self.name.push(byte);
        }
    }

    fn begin_member(&mut self) {
        if !matches!(self.depth, OUTERMOST | OF_CHOICE) {
            return;
        }
        if self.depth == OUTERMOST {
            self.in_first_choice = self.name == b"choices";
        }
        let begins = match (self.depth, self.name.as_slice()) {
            (OUTERMOST, b"usage") => Some(Kept::Usage),
            (OUTERMOST, b"error") => Some(Kept::Error),
            (OF_CHOICE, b"error") if self.in_first_choice => Some(Kept::Error),
            _ => None,
        };
        self.name.clear();
        // One that says something is not given up for one that may not.
        if begins.is_none() || begins == Some(Kept::Error) && self.error().is_some() {
            return;
        }
        self.kept = begins;
        self.kept_at = self.depth;
        if let Some(member) = self.member() {
            member.clear();
        }
    }

    fn error(&self) -> Option<Cow<'_, str>> {
        let error = String::from_utf8_lossy(self.error.trim_ascii());
        Some(error).filter(|error| !error.is_empty() && failure::is_one(error))
    }

    /// A string that was no name is text.
    fn end_value(&mut self) {
        let text = mem::take(&mut self.string);
        if self.depth >= OF_ANSWER {
            self.text = self.text.saturating_add(text);
        }
        if self.depth == self.kept_at {
            self.kept = None;
        }
        if self.depth == OF_CHOICES {
            self.in_first_choice = false;
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

#[cfg(test)]
mod tests {
    use super::*;

    fn meaning(dialect: Dialect, chunks: &[&[u8]]) -> Meaning {
        let mut whole = Whole::new(dialect);
        for chunk in chunks {
            whole.read(chunk);
        }
        whole.finish()
    }

    const OPENAI: &str = r#"{"id":"chatcmpl-1","object":"chat.completion","created":1741569952,"model":"gpt-5",
        "choices":[{"index":0,"message":{"role":"assistant","content":"Hello \"th\u4e2dre\"!","refusal":null},"finish_reason":"stop"}],
        "usage" : {"prompt_tokens":19,"completion_tokens":10,"total_tokens":29,"prompt_tokens_details":{"cached_tokens":7}} ,
        "service_tier":"default"}"#;
    const ANTHROPIC: &str = r#"{"id":"msg_1","type":"message","role":"assistant","content":[{"type":"text","text":"Hi"}],
        "usage":{"input_tokens":2,"cache_read_input_tokens":5,"output_tokens":503}}"#;

    #[test]
    fn usage_is_found_wherever_the_chunks_end() {
        for (dialect, answer, prompt, cached, output) in [
            (Dialect::OpenAi, OPENAI, 19, 7, 10),
            (Dialect::Anthropic, ANTHROPIC, 7, 5, 503),
        ] {
            let answer = answer.as_bytes();
            let expected = meaning(dialect, &[answer]);
            let reported = expected.reported.unwrap();
            assert_eq!(
                (reported.prompt, reported.cached, reported.output),
                (Some(prompt), Some(cached), Some(output))
            );
            for cut in 0..=answer.len() {
                let (a, b) = answer.split_at(cut);
                assert_eq!(meaning(dialect, &[a, b]), expected, "cut at {cut}");
            }
        }
    }

    #[test]
    fn text_of_the_answer_is_counted_and_names_are_not() {
        // The content, the role and the reason why it stopped.
        let bytes = "Hello \"th中re\"!".len() as u64 + 9 + 4;
        let meant = meaning(Dialect::OpenAi, &[OPENAI.as_bytes()]);
        assert_eq!(meant.kind, Kind::Content { bytes });
    }

    #[test]
    fn only_outermost_members_are_looked_at() {
        for answer in [
            r#"{"choices":[{"usage":{"prompt_tokens":1}}]}"#,
            r#"{"a":{"usage":{"prompt_tokens":1}},"b":"\"usage\":{\"prompt_tokens\":1}"}"#,
            r#"{"b":"usage","c":{"prompt_tokens":1}}"#,
            r#"{"usage2":{"prompt_tokens":1},"usag":{"prompt_tokens":1}}"#,
            r#"["usage",{"prompt_tokens":1}]"#,
            r#"{"usage":null,"error":null}"#,
        ] {
            let meant = meaning(Dialect::OpenAi, &[answer.as_bytes()]);
            assert_eq!(meant.reported, None, "{answer}");
        }
    }

    #[test]
    fn an_error_with_status_200_is_one() {
        let answer = br#"{"error":{"message":"Provider returned error","code":429},"user_id":"u"}"#;
        let Kind::Failed(failure) = meaning(Dialect::OpenAi, &[answer]).kind else {
            panic!("no failure");
        };
        assert_eq!(
            (failure.status().as_u16(), failure.message()),
            (429, "Provider returned error")
        );
    }

    #[test]
    fn an_error_in_place_of_the_first_choice_is_one() {
        let failed = r#"{"error":null,"choices":[{"index":0,"error":{"code":502,"message":"Gone","metadata":{"error":null}},
            "message":{"content":""}},{"index":1,"error":null}],"error":null,"usage":{"prompt_tokens":1}}"#;
        for cut in 0..=failed.len() {
            let (a, b) = failed.as_bytes().split_at(cut);
            let meant = meaning(Dialect::OpenAi, &[a, b]);
            let Kind::Failed(failure) = meant.kind else {
                panic!("no failure");
            };
            assert_eq!(
                (failure.status().as_u16(), failure.message()),
                (502, "Gone")
            );
            assert_eq!(meant.reported.unwrap().prompt, Some(1));
        }
        for fine in [
            r#"{"choices":[{"error":null,"message":{"content":"a"}},{"error":{"code":502}}]}"#,
            r#"{"choices":[{"message":{"error":{"code":502}}}]}"#,
            r#"{"usage":[{"error":{"code":502}}],"choices":[{"error":{}}]}"#,
            r#"{"output":[{"error":{"code":502}}]}"#,
        ] {
            let meant = meaning(Dialect::OpenAi, &[fine.as_bytes()]);
            assert!(!matches!(meant.kind, Kind::Failed(_)), "{fine}");
        }
    }

    #[test]
    fn an_answer_that_ends_early_is_known_as_far_as_it_came() {
        let cut = &OPENAI.as_bytes()[..OPENAI.find("total_tokens").unwrap()];
        assert_eq!(
            meaning(Dialect::OpenAi, &[cut]).reported.unwrap().output,
            Some(10)
        );
        let in_the_text = br#"{"choices":[{"message":{"content":"Hello th"#;
        let meant = meaning(Dialect::OpenAi, &[in_the_text]);
        assert_eq!(meant.kind, Kind::Content { bytes: 8 });
    }

    #[test]
    fn no_more_is_kept_than_usage_and_an_error_may_have() {
        let endless: [&[u8]; 5] = [
            b"{\"usage\":[",
            b"\"usage\":\"",
            b"[[[[[[[[",
            b"xxxxxxxxxxxxxxxx",
            b"{\"error\":{\"a\":\"b\"},",
        ];
        for chunk in endless {
            let mut whole = Whole::new(Dialect::OpenAi);
            whole.read(b"{\"usage\":[");
            for _ in 0..50_000 {
                whole.read(chunk);
            }
            let held = whole.name.capacity() + whole.usage.capacity() + whole.error.capacity();
            assert!(held <= 2 * KEPT + 64, "{held}");
            let _ = whole.finish();
        }
    }
}
