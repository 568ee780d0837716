//! Sees at once what nearly every event of a streamed chat completion is: a chunk with a word or two, and nothing else that matters.
//!
//! To look into each level of JSON is to read the inner ones over and over. This goes over the whole once, and knows one thing only.
//! Whatever is not quite as it expects, it leaves to those who know everything: a report or a failure among the members, a name with
//! an escaped letter, a fault. So it need not know what other events mean, only that this is none of them.

use super::text::Text;

/// How deep what is passed over may be nested.
const DEPTH: usize = 16;

/// How many bytes of text a chunk adds to the answer, if it does that and nothing else.
pub(super) fn content(chunk: &str) -> Option<u64> {
    let mut cursor = Cursor { text: chunk, at: 0 };
    let mut content = None;
    cursor.object(|cursor, name| match name {
        b"choices" if content.is_none() => {
            content = Some(cursor.choices()?);
            Some(())
        }
        // What may say that this is something else.
        b"choices" | b"delta" | b"error" | b"response" | b"type" => None,
        b"usage" => cursor.word("null"),
        _ => cursor.value(DEPTH),
    })?;
    let text = content.filter(|_| cursor.peek().is_none())?;
    (text.bytes + text.media > 0).then_some(text.bytes)
}

/// Where the reading is. `None` of any of its methods is that something was not as expected.
struct Cursor<'a> {
    text: &'a str,
    at: usize,
}

impl<'a> Cursor<'a> {
    fn choices(&mut self) -> Option<Text> {
        let mut content = Text::default();
        self.array(|cursor| {
            cursor.object(|cursor, name| match name {
                b"delta" => cursor.object(|cursor, name| {
                    let value = cursor.raw_value()?;
                    if name != b"role" {
                        content = content.and(Text::of(value));
                    }
                    Some(())
                }),
                b"text" => {
                    content = content.and(Text::of(cursor.raw_value()?));
                    Some(())
                }
                _ => cursor.value(DEPTH),
            })
        })?;
        Some(content)
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

    fn raw_value(&mut self) -> Option<&'a str> {
        self.peek()?;
        let begin = self.at;
        self.value(DEPTH)?;
        self.text.get(begin..self.at)
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

/// Where the first byte is that is special in a string: its end, the beginning of what is escaped, and what may not be there. Eight at a
/// time: a byte is found where a borrow reaches its highest bit, which is right for the lowest one that is found ("Determine if a word has
/// a byte less than n", Anderson, "Bit Twiddling Hacks").
#[inline]
fn special(bytes: &[u8]) -> Option<usize> {
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
mod tests {
    use super::{
        super::{Kind, Meaning, openai::study},
        *,
    };

    const CHUNK: &str = r#"{"id":"chatcmpl-B9M","object":"chat.completion.chunk","created":1741569952,"model":"gpt-4.1","choices":[{"index":0,"delta":{"content":" rain"},"logprobs":null,"finish_reason":null}],"usage":null}"#;

    #[test]
    fn ordinary_chunks_are_seen_at_once() {
        let table = [
            (CHUNK, 5),
            (
                r#"{"choices": [{"delta": {"content": "a b"}, "index": 0}]}"#,
                3,
            ),
            (
                r#"{"choices":[{"delta":{"role":"assistant","content":"usage"}}]}"#,
                5,
            ),
            (
                r#"{"choices":[{"delta":{"content":"\"usage\": \n\u00e9"}}]}"#,
                12,
            ),
            (
                r#"{"choices":[{"delta":{"content":"a"}},{"delta":{"content":"bc"}}]}"#,
                3,
            ),
            (
                r#"{"choices":[{"delta":{"content":null,"reasoning":"hm"}}]}"#,
                2,
            ),
            (
                r#"{"choices":[{"delta":{"tool_calls":[{"index":0,"function":{"arguments":"{\"a"}}]}}]}"#,
                3,
            ),
            (
                r#"{"choices":[{"text":"rain","finish_reason":"error"}]}"#,
                4,
            ),
            (
                r#"{"choices":[{"delta":{"content":"error"},"content_filter_results":{"hate":{"filtered":false,"severity":"safe"}}}]}"#,
                5,
            ),
        ];
        for (chunk, bytes) in table {
            assert_eq!(content(chunk), Some(bytes), "{chunk}");
            assert_eq!(study(chunk, "").kind, Kind::Content { bytes }, "{chunk}");
        }
    }

    #[test]
    fn what_may_be_more_than_content_is_left_to_a_closer_look() {
        let usage = r#"{"prompt_tokens":1,"completion_tokens":2}"#;
        let table = [
            CHUNK.replace("null}", &format!("{usage}}}")),
            CHUNK.replace(r#""usage":null"#, &format!(r#""us\u0061ge":{usage}"#)),
            CHUNK.replace(r#""usage":null"#, &format!(r#""usage" : {usage}"#)),
            CHUNK.replace(r#""usage":null"#, r#""error":{"message":"no"}"#),
            CHUNK.replace(r#""usage":null"#, r#""\u0065rror":{"message":"no"}"#),
            CHUNK.replace(r#""usage":null"#, r#""choices":[]"#),
            CHUNK.replace(r#""usage":null"#, r#""type":"response.completed""#),
            CHUNK.replace(
                r#""usage":null"#,
                &format!(r#""response":{{"usage":{usage}}}"#),
            ),
            CHUNK.replace(" rain", ""),
            CHUNK.replace("\"content\"", "\"role\""),
            CHUNK.replace("null}", "null"),
            CHUNK.replace("null}", "null}]"),
            CHUNK.replace("1741569952", "01"),
            CHUNK.replace("1741569952", "1."),
            CHUNK.replace(" rain", "\u{7}"),
            CHUNK.replace(" rain", r"\x"),
            CHUNK.replace(" rain", r"\u00g0"),
            format!("{}{}", "[".repeat(100_000), CHUNK),
            CHUNK.replace("1741569952", &"[".repeat(100_000)),
            String::from("[DONE]"),
            String::new(),
        ];
        for chunk in table {
            assert_eq!(content(&chunk), None, "{chunk}");
        }
    }

    #[test]
    fn the_first_special_byte_is_found_wherever_it_stands() {
        let mut random = fastrand::Rng::with_seed(6);
        for _ in 0..100_000 {
            let byte = || match random.u8(..20) {
                0 => random.u8(..),
                1 => b"\"\\\0 \x1f\x7f\x80\xff"[random.usize(..8)],
                _ => b'a',
            };
            let bytes: Vec<u8> = std::iter::repeat_with(byte).take(40).collect();
            let expected = bytes
                .iter()
                .position(|byte| *byte < 0x20 || matches!(byte, b'"' | b'\\'));
            assert_eq!(special(&bytes), expected, "{bytes:?}");
        }
    }

    #[test]
    fn whatever_comes_a_glance_says_the_same_as_a_closer_look_or_nothing() {
        let pieces = [
            "{",
            "}",
            "[",
            "]",
            ",",
            ":",
            "\"",
            "\\",
            " ",
            "\n",
            "null",
            "true",
            "0",
            "12",
            "-1",
            "1.5",
            "é",
            "\u{1}",
            r"\u0075",
            r"\n",
            r#""usage""#,
            r#""error""#,
            r#""type""#,
            r#""delta""#,
            r#""choices""#,
            r#""role""#,
            r#""text""#,
            r#""a":1,"#,
            r#""usage":{"completion_tokens":3},"#,
            r#""error":{"code":429},"#,
            r#"{"delta":{"content":"x"}},"#,
            r#""choices":[],"#,
            r#""type":"error","#,
            r#""object":"error","#,
            r#""b":{"error":[1]},"#,
        ];
        let mut random = fastrand::Rng::with_seed(5);
        let mut seen = 0;
        for _ in 0..200_000 {
            let mut chunk = CHUNK.to_owned();
            for _ in 0..random.usize(1..4) {
                let mut at = || {
                    let mut at = random.usize(..=chunk.len());
                    while !chunk.is_char_boundary(at) {
                        at -= 1;
                    }
                    at
                };
                let (from, to) = (at(), at());
                let piece = pieces[random.usize(..pieces.len())];
                match random.u8(..4) {
                    0 => chunk.replace_range(from.min(to)..from.max(to), piece),
                    _ => chunk.insert_str(from, piece),
                }
            }
            if let Some(bytes) = content(&chunk) {
                seen += 1;
                let expected = Meaning::of(Kind::Content { bytes });
                assert_eq!(study(&chunk, ""), expected, "{chunk}");
                assert_eq!(study(&chunk, "error"), expected, "{chunk}");
            }
        }
        assert!(seen > 10_000, "{seen} were seen at once");
    }
}
