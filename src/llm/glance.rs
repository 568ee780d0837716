//! Sees at once what nearly every event of a streamed answer is: a word or two, and nothing else that matters.
//!
//! To look into each level of JSON is to read the inner ones over and over. This goes over the whole once, and knows one thing
//! only. Whatever is not quite as it expects, it leaves to those who know everything: a report or a failure among the members,
//! a name with an escaped letter, a fault. So it need not know what other events mean, only that this is none of them.

use std::ops::Range;

use super::text::Text;

/// How deep what is passed over may be nested.
const DEPTH: usize = 16;
/// What Anthropic calls an event with a word.
const DELTA: &str = "\"content_block_delta\"";

/// What an event adds to the answer, if it does that and nothing else.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Glance {
    /// How many bytes of text.
    pub(super) bytes: u64,
    /// Where the last string among them stands, without its quotes. Another one there, in which no letter is escaped either, would
    /// change nothing but how much it is. `None` if there is a letter escaped in it.
    pub(super) word: Option<Range<usize>>,
}

/// A chunk of a chat completion, or of a completion.
pub(super) fn of_chunk(chunk: &str) -> Option<Glance> {
    let mut cursor = Cursor::new(chunk);
    let mut has_choices = false;
    cursor.object(|cursor, name| match name {
        b"choices" if !has_choices => {
            has_choices = true;
            cursor.choices()
        }
        // What may say that this is something else.
        b"choices" | b"delta" | b"error" | b"response" | b"type" => None,
        b"usage" => cursor.word("null"),
        _ => cursor.value(DEPTH),
    })?;
    cursor.end()
}

/// Anthropic's `content_block_delta`.
pub(super) fn of_delta(event: &str) -> Option<Glance> {
    let mut cursor = Cursor::new(event);
    let (mut is_delta, mut has_delta) = (false, false);
    cursor.object(|cursor, name| match name {
        b"type" if !is_delta => {
            is_delta = true;
            cursor.word(DELTA)
        }
        b"delta" if !has_delta => {
            has_delta = true;
            cursor.object(|cursor, name| match name {
                b"text" | b"thinking" | b"partial_json" | b"name" => cursor.written(),
                _ => cursor.value(DEPTH),
            })
        }
        b"type" | b"delta" | b"content_block" | b"error" | b"message" | b"usage" => None,
        _ => cursor.value(DEPTH),
    })?;
    cursor.end().filter(|glance| is_delta && glance.bytes > 0)
}

/// Where the reading is. `None` of any of its methods is that something was not as expected.
struct Cursor<'a> {
    text: &'a str,
    at: usize,
    /// What the model has written.
    content: Text,
    word: Option<Range<usize>>,
}

impl<'a> Cursor<'a> {
    fn new(text: &'a str) -> Self {
        Self {
            text,
            at: 0,
            content: Text::default(),
            word: None,
        }
    }

    /// There is nothing else, and there was content.
    fn end(mut self) -> Option<Glance> {
        let content = self.content;
        (self.peek().is_none() && content.bytes + content.media > 0).then_some(Glance {
            bytes: content.bytes,
            word: self.word,
        })
    }

    fn choices(&mut self) -> Option<()> {
        self.array(|cursor| {
            cursor.object(|cursor, name| match name {
                b"delta" => cursor.object(|cursor, name| match name {
                    b"role" => cursor.value(DEPTH),
                    _ => cursor.written(),
                }),
                b"text" => cursor.written(),
                _ => cursor.value(DEPTH),
            })
        })
    }

    /// A value that the model wrote.
    fn written(&mut self) -> Option<()> {
        self.peek()?;
        let begin = self.at;
        self.value(DEPTH)?;
        let value = self.text.get(begin..self.at)?;
        let text = Text::of(value);
        self.content = self.content.and(text);
        if value.starts_with('"') {
            let word = begin + 1..self.at - 1;
            self.word = (text.bytes == word.len() as u64).then_some(word);
        }
        Some(())
    }

    fn object(&mut self, mut each: impl FnMut(&mut Self, &'a [u8]) -> Option<()>) -> Option<()> {
        self.list(b'{', b'}', |cursor| {
            let name = cursor.name()?;
            cursor.take(b':')?;
            each(cursor, name)
        })
    }

    fn array(&mut self, each: impl FnMut(&mut Self) -> Option<()>) -> Option<()> {
        self.list(b'[', b']', each)
    }

    #[inline]
    fn list(
        &mut self,
        opening: u8,
        closing: u8,
        mut each: impl FnMut(&mut Self) -> Option<()>,
    ) -> Option<()> {
        self.take(opening)?;
        if self.take(closing).is_some() {
            return Some(());
        }
        loop {
            each(self)?;
            if self.take(b',').is_none() {
                return self.take(closing);
            }
        }
    }

    fn value(&mut self, depth: usize) -> Option<()> {
        let inner = depth.checked_sub(1)?;
        match self.peek()? {
            b'"' => self.string(),
            b'{' => self.object(|cursor, _| cursor.value(inner)),
            b'[' => self.array(|cursor| cursor.value(inner)),
            b'n' => self.word("null"),
            b't' => self.word("true"),
            b'f' => self.word("false"),
            _ => self.number(),
        }
    }

    /// What stands between its quotes, where no letter is escaped.
    #[inline]
    fn name(&mut self) -> Option<&'a [u8]> {
        self.take(b'"')?;
        let rest = self.rest();
        let end = special(rest)?;
        self.at += end + 1;
        (rest[end] == b'"').then_some(&rest[..end])
    }

    #[inline]
    fn string(&mut self) -> Option<()> {
        self.take(b'"')?;
        loop {
            let rest = self.rest();
            let at = special(rest)?;
            self.at += at + 1;
            match rest[at] {
                b'"' => return Some(()),
                b'\\' => self.escaped()?,
                _ => return None,
            }
        }
    }

    fn escaped(&mut self) -> Option<()> {
        let rest = self.rest();
        self.at += match rest.first()? {
            b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't' => 1,
            b'u' if rest.get(1..5)?.iter().all(u8::is_ascii_hexdigit) => 5,
            _ => return None,
        };
        Some(())
    }

    /// Of digits alone: what follows others ends neither a member nor an element.
    fn number(&mut self) -> Option<()> {
        let rest = self.rest();
        let digits = rest.iter().take_while(|byte| byte.is_ascii_digit()).count();
        let begins_with_zero = digits > 1 && rest[0] == b'0';
        self.at += digits;
        (digits > 0 && !begins_with_zero).then_some(())
    }

    fn word(&mut self, word: &str) -> Option<()> {
        self.peek()?;
        let is_it = self.text.as_bytes()[self.at..].starts_with(word.as_bytes());
        is_it.then(|| self.at += word.len())
    }

    #[inline]
    fn take(&mut self, byte: u8) -> Option<()> {
        (self.peek()? == byte).then(|| self.at += 1)
    }

    /// The next byte that is no space.
    #[inline]
    fn peek(&mut self) -> Option<u8> {
        loop {
            match *self.text.as_bytes().get(self.at)? {
                b' ' => self.at += 1,
                byte => return Some(byte),
            }
        }
    }

    #[inline]
    fn rest(&self) -> &'a [u8] {
        self.text.as_bytes().get(self.at..).unwrap_or_default()
    }
}

/// Where the first byte is that is special in a string: its end, the beginning of what is escaped, and what may not be there.
/// Eight at a time: a byte is found where a borrow reaches its highest bit, which is right for the lowest one that is found
/// ("Determine if a word has a byte less than n", Anderson, "Bit Twiddling Hacks").
#[inline]
pub(super) fn special(bytes: &[u8]) -> Option<usize> {
    const ONES: u64 = u64::MAX / 255;
    let below = |word: u64, least: u64| word.wrapping_sub(ONES * least) & !word;
    let is = |word: u64, byte: u8| below(word ^ (ONES * u64::from(byte)), 1);
    let mut at = 0;
    while let Some(word) = bytes[at..].first_chunk() {
        let word = u64::from_le_bytes(*word);
        let found = (below(word, 0x20) | is(word, b'"') | is(word, b'\\')) & (ONES << 7);
        if found != 0 {
            return Some(at + found.trailing_zeros() as usize / 8);
        }
        at += 8;
    }
    let special = |byte: &u8| matches!(byte, b'"' | b'\\' | ..b' ');
    Some(at + bytes[at..].iter().position(special)?)
}

#[cfg(test)]
mod tests;
