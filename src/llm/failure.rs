use http::StatusCode;

use super::{Dialect, json};
use crate::{limit::Outcome, protocol::outcome_of};

/// How much of a word that says what went wrong is read, in bytes.
const WORD: usize = 128;
/// Beyond this no message is looked for a beginning.
const LONGEST_MESSAGE: usize = 64 * 1024;

/// An error inside a stream that began with status 200, where no SDK retries.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    status: StatusCode,
    message: String,
}

impl Failure {
    /// How much of a message is kept, in bytes.
    const MESSAGE: usize = 1024;

    /// `error` is what says so: an object, or a string, in which case its type stands beside it in `around`, or no JSON at all.
    pub(super) fn read(dialect: Dialect, error: &str, around: &str) -> Self {
        let mut said = Said::default();
        if !json::members(error, |name, value| said.member(name, value)) {
            json::members(around, |name, value| said.member(name, value));
            said.message = message(error)
                .or(said.message)
                .or_else(|| Some(beginning(error)));
        }
        let message = said.message.take().unwrap_or_default();
        let overloaded = dialect.overloaded().as_u16();
        let status = said
            .status(overloaded)
            .or_else(|| says_overloaded(&message).then_some(overloaded))
            .and_then(|status| StatusCode::from_u16(status).ok());
        Self {
            status: status.unwrap_or(StatusCode::INTERNAL_SERVER_ERROR),
            message,
        }
    }

    /// The status that the response would have had, had the error come before its head: 503 (OpenAI) or 529 (Anthropic) where the
    /// provider is overloaded, 429 where a quota is used up, and so on; 500 where the error is unknown.
    pub fn status(&self) -> StatusCode {
        self.status
    }

    /// What the provider says about it; up to 1 KiB of it; may be empty.
    pub fn message(&self) -> &str {
        &self.message
    }

    /// What it says about load, by its status.
    pub fn outcome(&self) -> Outcome {
        outcome_of(self.status)
    }
}

/// Whether what stands under `error` is one.
pub(super) fn is_one(error: &str) -> bool {
    !matches!(error, "null" | "false" | "\"\"" | "{}")
}

#[derive(Default)]
struct Said {
    message: Option<String>,
    status: Option<u16>,
    words: String,
}

impl Said {
    fn member(&mut self, name: &str, value: &str) {
        match name {
            "message" => self.message = message(value),
            "type" | "code" | "error_type" => match json::string(value, WORD) {
                Some(word) => self.word(&word),
                None => self.number(json::count(value)),
            },
            _ => {}
        }
    }

    fn word(&mut self, word: &str) {
        match word.parse() {
            Ok(number) => self.number(Some(number)),
            // Words that come again and again do not add up.
            Err(_) if self.words.len() < 2 * WORD => {
                self.words.push_str(&word.to_ascii_lowercase());
                self.words.push(' ');
            }
            Err(_) => {}
        }
    }

    /// Words of overload say more than a 500 does, with which an overload may be told; a number that blames the request says more.
    fn status(&self, overloaded: u16) -> Option<u16> {
        let is_overload = |status: &u16| {
            let status = StatusCode::from_u16(*status);
            status.is_ok_and(|status| outcome_of(status) == Outcome::Overload)
        };
        let by_words = status_of(&self.words, overloaded);
        match self.status {
            Some(status) if status < 500 || is_overload(&status) => Some(status),
            _ => by_words.filter(is_overload).or(self.status).or(by_words),
        }
    }

    /// Servers that are compatible with OpenAI's give the status as the code.
    fn number(&mut self, number: Option<u64>) {
        let status = number.filter(|number| (400..600).contains(number));
        self.status = status.map(|status| status as u16).or(self.status);
    }
}

fn status_of(words: &str, overloaded: u16) -> Option<u16> {
    let table = [
        ("rate_limit", 429),
        ("quota", 429),
        ("overloaded", overloaded),
        ("slow_down", overloaded),
        ("unavailable", overloaded),
        ("timeout", 504),
        ("authentication", 401),
        ("api_key", 401),
        ("billing", 402),
        ("permission", 403),
        ("not_found", 404),
        ("notfound", 404),
        ("too_large", 413),
        ("invalid", 400),
        ("badrequest", 400),
        ("context_length", 400),
    ];
    let known = table.iter().find(|(word, _)| words.contains(word));
    known.map(|(_, status)| *status)
}

/// OpenAI says so with the type `server_error`, which stands for other things as well.
fn says_overloaded(message: &str) -> bool {
    message.to_ascii_lowercase().contains("overloaded")
}

/// The beginning of a message.
fn message(json: &str) -> Option<String> {
    let message = json::string(json, LONGEST_MESSAGE)?;
    Some(beginning(&message))
}

fn beginning(text: &str) -> String {
    let mut end = text.len().min(Failure::MESSAGE);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text[..end].to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::llm::Kind;

    #[test]
    fn words_of_overload_say_more_than_a_number_does() {
        for (error, status) in [
            (r#"{"type":"overloaded_error","code":500}"#, 503),
            (r#"{"code":500,"type":"rate_limit_exceeded"}"#, 429),
            (r#"{"type":"server_error","code":"502"}"#, 502),
            (r#"{"type":"overloaded_error","code":429}"#, 429),
            (r#"{"type":"invalid_request_error","code":422}"#, 422),
            (r#"{"type":"insufficient_quota","code":402}"#, 402),
            (r#"{"type":"invalid_timeout","code":400}"#, 400),
        ] {
            let Kind::Failed(failure) = Dialect::OpenAi
                .study(&format!(r#"{{"error":{error}}}"#), "")
                .kind
            else {
                panic!("no failure: {error}");
            };
            assert_eq!(failure.status().as_u16(), status, "{error}");
        }
    }

    #[test]
    fn an_event_that_is_called_an_error_is_one_whatever_is_in_it() {
        for (data, status, message) in [
            ("The engine is overloaded", true, "The engine is overloaded"),
            ("\"Overloaded\"", true, "Overloaded"),
            ("upstream broke off", false, "upstream broke off"),
            (
                "{\"error\":{\"message\":\"no e",
                false,
                "{\"error\":{\"message\":\"no e",
            ),
            ("", false, ""),
        ] {
            for dialect in [Dialect::OpenAi, Dialect::Anthropic] {
                let Kind::Failed(failure) = dialect.study(data, "error").kind else {
                    panic!("no failure: {data}");
                };
                assert_eq!(failure.status() == dialect.overloaded(), status, "{data}");
                assert_eq!(failure.message(), message);
            }
        }
    }
}
