use std::{ops::Range, str};

use bytes::Bytes;

use super::{
    Dialect, json,
    text::{Text, tokens_of},
};

/// What a request asks of the model, as far as its body tells.
///
/// Nothing is refused here: what cannot be read is left out, and the service that the request is for will complain of it. Of
/// numbers that come twice the largest counts.
///
/// ```
/// use tower_backpressure::llm::{Asked, Dialect};
///
/// let body = br#"{"model":"gpt-5","max_completion_tokens":200,"stream":true,
///     "messages":[{"role":"user","content":"Will it rain tomorrow?"}]}"#;
/// let asked = Asked::read(Dialect::OpenAi, body);
/// assert_eq!(asked.model(), "gpt-5");
/// assert_eq!(asked.max_output(), Some(200));
/// assert_eq!(asked.prompt(), 10);
///
/// let sent = asked.including_usage(body).unwrap();
/// assert!(sent.starts_with(br#"{"stream_options":{"include_usage":true},"model":"gpt-5","#));
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Asked {
    model: Box<str>,
    stream: bool,
    max_output: Option<u64>,
    prompt: u64,
    include_usage: bool,
    /// The part of the body to replace, and by what, so that the usage is included.
    edit: Option<(Range<usize>, &'static str)>,
}

impl Asked {
    /// The longest name of a model that is read, in bytes.
    const MODEL: usize = 128;

    /// Reads a body. Takes time in proportion to its length, which is yours to bound, and no memory to speak of.
    pub fn read(dialect: Dialect, body: &[u8]) -> Self {
        let mut seen = Seen::default();
        let whole = match str::from_utf8(body) {
            Ok(text) => json::members(text, |name, value| seen.member(text, name, value)),
            Err(_) => false,
        };
        let prompt = match whole {
            true => seen.prompt.tokens(),
            false => tokens_of(body.len() as u64),
        };
        let choices = seen.choices.unwrap_or(1).max(1);
        Self {
            model: seen.model.take().unwrap_or_default(),
            stream: seen.stream,
            max_output: seen.max_output.map(|most| most.saturating_mul(choices)),
            prompt,
            include_usage: seen.include_usage == Some(true),
            edit: (whole && seen.stream && dialect == Dialect::OpenAi)
                .then(|| seen.edit(body))
                .flatten(),
        }
    }

    /// The name of the model; empty where there is none, or one of more than 128 bytes. Clients can write here what they like: it
    /// is no label for a metric.
    pub fn model(&self) -> &str {
        &self.model
    }

    /// Whether the answer is to be streamed.
    pub fn is_stream(&self) -> bool {
        self.stream
    }

    /// The most tokens that the answer may have, all its choices together: `max_completion_tokens`, `max_output_tokens` or
    /// `max_tokens`, times `n` or `best_of`. `None` where the request does not say.
    pub fn max_output(&self) -> Option<u64> {
        self.max_output
    }

    /// About how many tokens the prompt has: a quarter of the bytes of its text, with instructions and tools; 1000 for each picture,
    /// sound or file; where it comes as tokens, as many as there are. Of a body that cannot be read, a quarter of its bytes.
    pub fn prompt(&self) -> u64 {
        self.prompt
    }

    /// Whether the client itself asked for the chunk that reports usage.
    pub fn includes_usage(&self) -> bool {
        self.include_usage
    }

    /// `body`, which must be the one that was read, with `stream_options.include_usage` set, and every other byte as it was. Then
    /// [`Kind::UsageOnly`](super::Kind::UsageOnly) is to be kept from the client.
    ///
    /// `None` where there is nothing to set: the answer is not streamed; it reports usage anyway, as Anthropic's and those of the
    /// Responses API do, or because the client asked for it; or the options come twice or make no sense.
    pub fn including_usage(&self, body: &[u8]) -> Option<Bytes> {
        let (place, text) = self.edit.clone()?;
        let (before, after) = (body.get(..place.start)?, body.get(place.end..)?);
        Some([before, text.as_bytes(), after].concat().into())
    }
}

#[derive(Default)]
struct Seen {
    model: Option<Box<str>>,
    stream: bool,
    max_output: Option<u64>,
    choices: Option<u64>,
    prompt: Text,
    /// It is one for chat completions or completions, the only ones that know of the option.
    is_completion: bool,
    options: Found,
    usage: Found,
    include_usage: Option<bool>,
}

/// Where a member stands that can be changed if it is there once.
#[derive(Default)]
enum Found {
    #[default]
    Nowhere,
    /// The place of its value.
    At(Range<usize>),
    Twice,
}

impl Found {
    fn again(&mut self, at: Range<usize>) {
        *self = match self {
            Found::Nowhere => Found::At(at),
            _ => Found::Twice,
        };
    }
}

impl Seen {
    fn member(&mut self, body: &str, name: &str, value: &str) {
        match name {
            "model" => self.model = json::string(value, Asked::MODEL).map(Into::into),
            "stream" => self.stream = value == "true",
            "max_tokens" | "max_completion_tokens" | "max_output_tokens" => {
                self.max_output = self.max_output.max(json::count(value));
            }
            "n" | "best_of" => self.choices = self.choices.max(json::count(value)),
            "messages" | "prompt" => {
                self.is_completion = true;
                self.prompt = self.prompt.and(Text::of(value));
            }
            "system" | "input" | "instructions" | "tools" | "functions" => {
                self.prompt = self.prompt.and(Text::of(value));
            }
            "stream_options" => {
                self.options.again(place(body, value));
                json::members(value, |name, value| {
                    if name == "include_usage" {
                        self.usage.again(place(body, value));
                        self.include_usage = Some(value == "true");
                    }
                });
            }
            _ => {}
        }
    }

    /// How `body` is to be changed for the usage to be included.
    fn edit(self, body: &[u8]) -> Option<(Range<usize>, &'static str)> {
        if !self.is_completion {
            return None;
        }
        let options = match self.options {
            Found::Nowhere => {
                let begin = body.iter().position(|byte| *byte == b'{')? + 1;
                return Some((begin..begin, r#""stream_options":{"include_usage":true},"#));
            }
            Found::At(place) => place,
            Found::Twice => return None,
        };
        match (body.get(options.clone())?, self.usage) {
            (b"null", _) => Some((options, r#"{"include_usage":true}"#)),
            (_, Found::At(_)) if self.include_usage == Some(true) => None,
            (_, Found::At(place)) => Some((place, "true")),
            ([b'{', rest @ ..], Found::Nowhere) => {
                let begin = options.start + 1;
                let is_empty = rest.trim_ascii_start().first() == Some(&b'}');
                let text = match is_empty {
                    true => r#""include_usage":true"#,
                    false => r#""include_usage":true,"#,
                };
                Some((begin..begin, text))
            }
            _ => None,
        }
    }
}

/// Where `part` stands in `whole`, which it was borrowed from.
fn place(whole: &str, part: &str) -> Range<usize> {
    let start = part.as_ptr() as usize - whole.as_ptr() as usize;
    start..start + part.len()
}

#[cfg(test)]
mod tests;
