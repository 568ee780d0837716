//! What is asked of the engine, in either dialect.

use serde::Deserialize;
use serde_json::Value;

/// Tokens are counted as most proxies guess them.
const BYTES_PER_TOKEN: usize = 4;

/// Both dialects have these fields, or lack them.
#[derive(Debug, Deserialize)]
pub struct Ask {
    #[serde(default)]
    pub model: Option<String>,
    messages: Vec<Message>,
    /// Anthropic's.
    #[serde(default)]
    system: Option<Value>,
    #[serde(default)]
    pub stream: bool,
    #[serde(default)]
    stream_options: Option<StreamOptions>,
    #[serde(default)]
    max_tokens: Option<u32>,
    /// OpenAI's later name for it.
    #[serde(default)]
    max_completion_tokens: Option<u32>,
    /// vLLM's. This engine ends an answer there if nothing else ends it before.
    #[serde(default)]
    min_tokens: Option<u32>,
    /// vLLM's: the answer has `max_tokens`.
    #[serde(default)]
    ignore_eos: bool,
}

#[derive(Debug, Deserialize)]
struct Message {
    #[serde(default)]
    content: Value,
}

#[derive(Debug, Deserialize)]
struct StreamOptions {
    #[serde(default)]
    include_usage: bool,
}

impl Ask {
    pub fn prompt_tokens(&self) -> u32 {
        let bytes: usize = self
            .messages
            .iter()
            .map(|message| &message.content)
            .chain(&self.system)
            .map(text_bytes)
            .sum();
        u32::try_from(bytes.div_ceil(BYTES_PER_TOKEN))
            .unwrap_or(u32::MAX)
            .max(1)
    }

    /// How long the answer is, and whether it was cut off there. `natural` is where it would end by itself.
    pub fn output_tokens(&self, natural: u32) -> (u32, bool) {
        let most = self
            .max_completion_tokens
            .or(self.max_tokens)
            .unwrap_or(u32::MAX);
        let natural = match self.ignore_eos {
            true => self
                .min_tokens
                .unwrap_or(most.min(16_384))
                .max(most.min(16_384)),
            false => self.min_tokens.unwrap_or(natural),
        };
        (natural.min(most).max(1), natural >= most)
    }

    pub fn wants_usage(&self) -> bool {
        self.stream_options
            .as_ref()
            .is_some_and(|options| options.include_usage)
    }
}

/// Content is a text, or parts of which some are texts.
fn text_bytes(content: &Value) -> usize {
    match content {
        Value::String(text) => text.len(),
        Value::Array(parts) => parts
            .iter()
            .filter_map(|part| part.get("text")?.as_str())
            .map(str::len)
            .sum(),
        _ => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ask(json: &str) -> Ask {
        serde_json::from_str(json).unwrap()
    }

    #[test]
    fn all_text_of_a_prompt_counts() {
        let openai = r#"{"messages":[{"role":"system","content":"12345678"},{"role":"user","content":[{"type":"text","text":"1234"}]}]}"#;
        assert_eq!(ask(openai).prompt_tokens(), 3);
        let anthropic = r#"{"system":"12345678","messages":[{"role":"user","content":"12345"}],"max_tokens":1}"#;
        assert_eq!(ask(anthropic).prompt_tokens(), 4);
        assert_eq!(
            ask(r#"{"messages":[{"role":"assistant"}]}"#).prompt_tokens(),
            1
        );
    }

    #[test]
    fn an_answer_ends_by_itself_or_where_it_must() {
        assert_eq!(ask(r#"{"messages":[]}"#).output_tokens(7), (7, false));
        assert_eq!(
            ask(r#"{"messages":[],"max_tokens":5}"#).output_tokens(7),
            (5, true)
        );
        assert_eq!(
            ask(r#"{"messages":[],"max_completion_tokens":5}"#).output_tokens(3),
            (3, false)
        );
        assert_eq!(
            ask(r#"{"messages":[],"min_tokens":9}"#).output_tokens(3),
            (9, false)
        );
        let exact = r#"{"messages":[],"max_tokens":20,"ignore_eos":true}"#;
        assert_eq!(ask(exact).output_tokens(3), (20, true));
    }
}
