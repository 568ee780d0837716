//! How much text a piece of JSON has, which is about how many tokens it makes.

use std::str;

/// How many bytes of text make a token, about: OpenAI's rule of thumb for English. Code has fewer bytes to a token, other writing
/// may have half as many.
const BYTES_PER_TOKEN: u64 = 4;
/// A picture of a megapixel: 765 with OpenAI (high detail), some 1400 with Anthropic (width × height / 750).
const TOKENS_PER_MEDIUM: u64 = 1000;
/// What is shorter is no picture.
const SHORTEST_MEDIUM: usize = 256;

/// So many tokens are about so many bytes of text.
pub(super) fn tokens_of(bytes: u64) -> u64 {
    bytes.div_ceil(BYTES_PER_TOKEN)
}

/// What there is in a piece of JSON.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Text {
    /// Bytes of its strings, as they are after decoding.
    pub(super) bytes: u64,
    /// Bytes of the names of its members.
    pub(super) names: u64,
    /// In prompts that come as tokens, each is a token.
    pub(super) numbers: u64,
    /// Strings that are a picture, a sound or a file, or say where one is.
    pub(super) media: u64,
}

impl Text {
    /// What there is in `json`, which has been found to be well-formed; of other text, something.
    pub(super) fn of(json: &str) -> Self {
        let mut text = Self::default();
        let mut rest = json.as_bytes();
        let mut name: &[u8] = b"";
        while let Some((first, after)) = rest.split_first() {
            rest = after;
            match first {
                b'"' => {
                    let string;
                    (string, rest) = split_string(after);
                    rest = rest.trim_ascii_start();
                    if rest.first() == Some(&b':') {
                        name = string;
                        text.names += string.len() as u64;
                    } else if is_medium(name, string) {
                        text.media += 1;
                    } else {
                        text.bytes += decoded_len(string);
                    }
                }
                b'0'..=b'9' | b'-' => {
                    text.numbers += 1;
                    let end = after.iter().position(|byte| {
                        !matches!(byte, b'0'..=b'9' | b'+' | b'-' | b'.' | b'e' | b'E')
                    });
                    rest = &after[end.unwrap_or(after.len())..];
                }
                _ => {}
            }
        }
        text
    }

    /// As a prompt: names as well, which stand for what surrounds each message.
    pub(super) fn tokens(self) -> u64 {
        let text = tokens_of(self.bytes.saturating_add(self.names));
        let media = self.media.saturating_mul(TOKENS_PER_MEDIUM);
        text.saturating_add(self.numbers).saturating_add(media)
    }

    pub(super) fn and(self, other: Text) -> Self {
        Self {
            bytes: self.bytes + other.bytes,
            names: self.names + other.names,
            numbers: self.numbers + other.numbers,
            media: self.media + other.media,
        }
    }
}

/// What stands before the closing quote, and after it.
fn split_string(bytes: &[u8]) -> (&[u8], &[u8]) {
    let mut at = 0;
    while let Some(byte) = bytes.get(at) {
        match byte {
            b'"' => return (&bytes[..at], &bytes[at + 1..]),
            b'\\' => at += 2,
            _ => at += 1,
        }
    }
    (bytes, b"")
}

fn decoded_len(string: &[u8]) -> u64 {
    let mut len = 0;
    let mut at = 0;
    while let Some(byte) = string.get(at) {
        let (from, to) = match (byte, string.get(at + 1)) {
            (b'\\', Some(b'u')) => (6, utf8_len(&string[at + 2..])),
            (b'\\', _) => (2, 1),
            _ => (1, 1),
        };
        at += from;
        len += to;
    }
    len
}

/// How many bytes of UTF-8 four hexadecimal digits make; of a pair of surrogates each makes half.
fn utf8_len(digits: &[u8]) -> u64 {
    let digits = digits
        .get(..4)
        .and_then(|digits| str::from_utf8(digits).ok());
    match digits.and_then(|digits| u32::from_str_radix(digits, 16).ok()) {
        Some(..0x80) => 1,
        Some(..0x800 | 0xd800..0xe000) => 2,
        _ => 3,
    }
}

/// Pictures, sounds and files cost tokens by their contents, not by the length of their base64.
fn is_medium(name: &[u8], string: &[u8]) -> bool {
    let beginning = &string[..string.len().min(SHORTEST_MEDIUM)];
    match name {
        b"file_id" => true,
        b"url" | b"image_url" | b"file_url" if beginning.starts_with(b"http") => true,
        b"data" | b"file_data" if string.len() >= SHORTEST_MEDIUM => {
            beginning.iter().all(is_base64)
        }
        _ => {
            beginning.starts_with(b"data:")
                && beginning.windows(8).any(|window| window == b";base64,")
        }
    }
}

/// In both its alphabets; with the backslash that may stand before a slash in JSON.
fn is_base64(byte: &u8) -> bool {
    byte.is_ascii_alphanumeric() || b"+/-_=\\".contains(byte)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(bytes: u64, names: u64, numbers: u64, media: u64) -> Text {
        Text {
            bytes,
            names,
            numbers,
            media,
        }
    }

    #[test]
    fn strings_names_and_numbers_are_told_apart() {
        let table = [
            ("\"hello\"", text(5, 0, 0, 0)),
            ("\"\"", text(0, 0, 0, 0)),
            ("null", text(0, 0, 0, 0)),
            (r#"{"role" : "user","n":-1.5e+3}"#, text(4, 5, 1, 0)),
            (r#"[[1,22],[333]]"#, text(0, 0, 3, 0)),
            (r#"["a\"b\\","c"]"#, text(5, 0, 0, 0)),
            (r#""1234""#, text(4, 0, 0, 0)),
        ];
        for (json, expected) in table {
            assert_eq!(Text::of(json), expected, "{json}");
        }
    }

    #[test]
    fn escaped_text_is_as_long_as_it_would_be_written_out() {
        for text in ["a", "é", "中文", "🦀", "\n\t\"\\", "mixed 中\n🦀"] {
            let escaped: String = text
                .encode_utf16()
                .map(|unit| format!("\\u{unit:04x}"))
                .collect();
            let escaped = Text::of(&format!("\"{escaped}\"")).bytes;
            assert_eq!(escaped, text.len() as u64, "{text}");
            let plain = Text::of(&serde_json::Value::from(text).to_string()).bytes;
            assert_eq!(plain, text.len() as u64, "{text}");
        }
    }

    #[test]
    fn a_picture_counts_as_one_whatever_its_length() {
        let base64 = "iVBORw0KGgo".repeat(100);
        let prose = "data are plural, ".repeat(100);
        let table = [
            (
                format!(r#"{{"image_url":{{"url":"data:image/png;base64,{base64}"}}}}"#),
                1,
            ),
            (
                format!(r#"{{"type":"input_image","image_url":"data:image/png;base64,{base64}"}}"#),
                1,
            ),
            (
                format!(
                    r#"{{"source":{{"type":"base64","media_type":"image/png","data":"{base64}"}}}}"#
                ),
                1,
            ),
            (
                format!(
                    r#"{{"source":{{"type":"text","media_type":"text/plain","data":"{prose}"}}}}"#
                ),
                0,
            ),
            (
                r#"{"image_url":{"url":"https://example.com/a.png"}}"#.to_owned(),
                1,
            ),
            (r#"{"type":"file","file_id":"file_011"}"#.to_owned(), 1),
            (r#"{"text":"data: what I measured"}"#.to_owned(), 0),
        ];
        for (json, media) in table {
            assert_eq!(Text::of(&json).media, media, "{json}");
            assert!(media == 0 || Text::of(&json).bytes < 40, "{json}");
        }
    }

    #[test]
    fn tokens_are_a_quarter_of_the_bytes() {
        assert_eq!(text(400, 20, 0, 0).tokens(), 105);
        assert_eq!(text(1, 0, 7, 2).tokens(), 2008);
    }

    #[test]
    fn what_is_broken_is_counted_somehow() {
        for broken in [
            "\"",
            "\"\\",
            "\"\\u",
            "\"\\u12",
            "{\"a",
            "-",
            "\"a\" \"b",
            "\\\"",
        ] {
            let _ = Text::of(broken);
        }
    }
}
