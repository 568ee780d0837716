//! What the engine says, in OpenAI's words or in Anthropic's.

use std::fmt::Write as _;

use serde_json::{Value, json};

/// Of which every answer is made, over and over.
const WORDS: [&str; 12] = [
    "calm", " waters", " run", " deep", " and", " the", " slow", " river", " finds", " the",
    " sea", ".\n",
];

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dialect {
    OpenAi,
    Anthropic,
}

impl Dialect {
    /// What it says when it has too much to do.
    pub fn overloaded(self) -> u16 {
        match self {
            Self::OpenAi => 503,
            Self::Anthropic => 529,
        }
    }

    pub fn error(self, status: u16, message: &str) -> Value {
        let kind = match (self, status) {
            (_, 429) => "rate_limit_error",
            (_, 400) => "invalid_request_error",
            (Self::Anthropic, 503 | 529) => "overloaded_error",
            (Self::Anthropic, _) => "api_error",
            (Self::OpenAi, _) => "server_error",
        };
        match self {
            Self::OpenAi => json!({
                "error": {"message": message, "type": kind, "param": null, "code": status},
            }),
            Self::Anthropic => json!({
                "type": "error",
                "error": {"type": kind, "message": message},
            }),
        }
    }
}

/// One answer's part of the conversation.
#[derive(Clone, Debug)]
pub struct Wire {
    pub dialect: Dialect,
    pub id: u64,
    pub model: String,
    /// Seconds of the Unix time.
    pub created: u64,
    pub prompt: u32,
    pub output: u32,
    /// Whether the answer was cut off at its length.
    pub cut: bool,
    /// Whether it says what it took.
    pub usage: bool,
}

impl Wire {
    /// Before there is a token.
    pub fn opening(&self) -> String {
        let mut out = String::new();
        if self.dialect == Dialect::Anthropic {
            let mut message = json!({
                "id": self.name(), "type": "message", "role": "assistant", "model": self.model, "content": [],
                "stop_reason": null, "stop_sequence": null,
            });
            if self.usage {
                message["usage"] = json!({"input_tokens": self.prompt, "output_tokens": 1});
            }
            event(
                &mut out,
                &json!({"type": "message_start", "message": message}),
            );
            event(&mut out, &json!({"type": "ping"}));
        }
        out
    }

    /// The tokens `from..to`, each an event of its own.
    pub fn tokens(&self, from: u32, to: u32) -> String {
        let mut out = String::new();
        if from == 0 {
            match self.dialect {
                Dialect::OpenAi => {
                    self.chunk(&mut out, &json!({"role": "assistant", "content": ""}), None)
                }
                Dialect::Anthropic => event(
                    &mut out,
                    &json!({"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}}),
                ),
            }
        }
        for nth in from..to {
            let word = WORDS[nth as usize % WORDS.len()];
            match self.dialect {
                Dialect::OpenAi => self.chunk(&mut out, &json!({"content": word}), None),
                Dialect::Anthropic => event(
                    &mut out,
                    &json!({"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": word}}),
                ),
            }
        }
        out
    }

    /// After the last token.
    pub fn closing(&self) -> String {
        let mut out = String::new();
        match self.dialect {
            Dialect::OpenAi => {
                self.chunk(&mut out, &json!({}), Some(self.finish()));
                if self.usage {
                    let usage = json!({
                        "id": self.name(), "object": "chat.completion.chunk", "created": self.created,
                        "model": self.model, "choices": [], "usage": self.spent(),
                    });
                    let _ = write!(out, "data: {usage}\n\n");
                }
                out.push_str("data: [DONE]\n\n");
            }
            Dialect::Anthropic => {
                event(&mut out, &json!({"type": "content_block_stop", "index": 0}));
                let mut delta = json!({
                    "type": "message_delta", "delta": {"stop_reason": self.finish(), "stop_sequence": null},
                });
                if self.usage {
                    delta["usage"] = json!({"output_tokens": self.output});
                }
                event(&mut out, &delta);
                event(&mut out, &json!({"type": "message_stop"}));
            }
        }
        out
    }

    /// An error in the middle of a stream.
    pub fn failure(&self) -> String {
        let error = self
            .dialect
            .error(self.dialect.overloaded(), "the model is overloaded");
        match self.dialect {
            Dialect::OpenAi => format!("data: {error}\n\n"),
            Dialect::Anthropic => format!("event: error\ndata: {error}\n\n"),
        }
    }

    /// The answer in one piece.
    pub fn whole(&self) -> Value {
        let text: String = (0..self.output as usize)
            .map(|nth| WORDS[nth % WORDS.len()])
            .collect();
        let mut answer = match self.dialect {
            Dialect::OpenAi => json!({
                "id": self.name(), "object": "chat.completion", "created": self.created, "model": self.model,
                "choices": [{
                    "index": 0, "message": {"role": "assistant", "content": text}, "logprobs": null,
                    "finish_reason": self.finish(),
                }],
            }),
            Dialect::Anthropic => json!({
                "id": self.name(), "type": "message", "role": "assistant", "model": self.model,
                "content": [{"type": "text", "text": text}], "stop_reason": self.finish(), "stop_sequence": null,
            }),
        };
        if self.usage {
            answer["usage"] = self.spent();
        }
        answer
    }

    fn name(&self) -> String {
        match self.dialect {
            Dialect::OpenAi => format!("chatcmpl-{:08x}", self.id),
            Dialect::Anthropic => format!("msg_{:08x}", self.id),
        }
    }

    fn finish(&self) -> &'static str {
        match (self.dialect, self.cut) {
            (Dialect::OpenAi, true) => "length",
            (Dialect::OpenAi, false) => "stop",
            (Dialect::Anthropic, true) => "max_tokens",
            (Dialect::Anthropic, false) => "end_turn",
        }
    }

    fn spent(&self) -> Value {
        let (input, output) = (self.prompt, self.output);
        match self.dialect {
            Dialect::OpenAi => json!({
                "prompt_tokens": input, "completion_tokens": output,
                "total_tokens": u64::from(input) + u64::from(output),
            }),
            Dialect::Anthropic => json!({"input_tokens": input, "output_tokens": output}),
        }
    }

    fn chunk(&self, out: &mut String, delta: &Value, finish: Option<&str>) {
        let chunk = json!({
            "id": self.name(), "object": "chat.completion.chunk", "created": self.created, "model": self.model,
            "choices": [{"index": 0, "delta": delta, "logprobs": null, "finish_reason": finish}],
        });
        let _ = write!(out, "data: {chunk}\n\n");
    }
}

/// Anthropic names an event twice.
fn event(out: &mut String, data: &Value) {
    let name = data["type"].as_str().unwrap_or_default();
    let _ = write!(out, "event: {name}\ndata: {data}\n\n");
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wire(dialect: Dialect) -> Wire {
        Wire {
            dialect,
            id: 7,
            model: "tiny".to_owned(),
            created: 0,
            prompt: 10,
            output: 3,
            cut: false,
            usage: true,
        }
    }

    fn data(events: &str) -> Vec<Value> {
        events
            .lines()
            .filter_map(|line| line.strip_prefix("data: "))
            .filter_map(|data| serde_json::from_str(data).ok())
            .collect()
    }

    #[test]
    fn a_streamed_answer_says_what_the_whole_one_says() {
        let openai = wire(Dialect::OpenAi);
        let events = data(&(openai.tokens(0, 2) + &openai.tokens(2, 3) + &openai.closing()));
        let text: String = events
            .iter()
            .filter_map(|event| event["choices"][0]["delta"]["content"].as_str())
            .collect();
        let whole = openai.whole();
        assert_eq!(whole["choices"][0]["message"]["content"], text);
        assert_eq!(events.last().unwrap()["usage"], whole["usage"]);
        assert_eq!(whole["usage"]["total_tokens"], 13);

        let anthropic = wire(Dialect::Anthropic);
        let events = data(&(anthropic.opening() + &anthropic.tokens(0, 3) + &anthropic.closing()));
        let text: String = events
            .iter()
            .filter_map(|event| event["delta"]["text"].as_str())
            .collect();
        let whole = anthropic.whole();
        assert_eq!(whole["content"][0]["text"], text);
        assert_eq!(events[0]["message"]["usage"]["input_tokens"], 10);
        assert_eq!(events[events.len() - 2]["usage"]["output_tokens"], 3);
    }

    #[test]
    fn without_usage_nothing_is_said_of_it() {
        for dialect in [Dialect::OpenAi, Dialect::Anthropic] {
            let wire = Wire {
                usage: false,
                ..wire(dialect)
            };
            let all = wire.opening() + &wire.closing() + &wire.whole().to_string();
            assert!(!all.contains("usage"), "{all}");
        }
    }
}
