//! For services and proxies before LLMs that speak as OpenAI's and Anthropic's APIs do.
//!
//! An answer of an LLM goes on for minutes, and one prompt costs a thousand times another. How it went stands in its body, not
//! in its head: what it cost in the last event, that it failed in an event behind a status of 200, where no client retries. And
//! what clients do when they are refused hangs on words in their own dialect. A layer that sees heads alone knows none of that.
//!
//! [`LlmLayer`] does: a [`BackpressureLayer`](crate::BackpressureLayer) goes in, and what comes out reads requests and answers
//! on both sides of it.
//!
//! ```
//! use tower_backpressure::{BackpressureLayer, limit::Aimd, llm::LlmLayer};
//!
//! let layer = LlmLayer::new(BackpressureLayer::adaptive(Aimd::default().initial(32)));
//! # let _ = layer;
//! ```
//!
//! # What it is made of
//!
//! What reads and says is here by itself as well, as plain values: no clock, no task, nothing that waits. Bodies pass by
//! untouched; the readers look on and keep little, whatever they are sent.
//!
//! | question | answer |
//! |---|---|
//! | how is a request refused so that its client comes back in time? | [`refuse`], or [`refuse_as`] for paths of your own; [`Dialect::error`], [`hint`] |
//! | what does a request ask for? | [`Asked`]: model, stream, tokens of the prompt, the most that may come |
//! | how long does its client wait, how often has it tried? | [`deadline`], [`retry_count`] |
//! | what will the answer use? | [`Learned`]: what nine in ten answers of this key and model do not exceed |
//! | what does that cost? | [`Usage`], [`Weights`] |
//! | what does an event of the answer mean? | [`sse::Reader`] finds it, [`Dialect::read`] says what it is: [`Meaning`] |
//! | what has the answer used? | [`Tally`] for a stream, with [`Whole`] for an answer in one piece |
//! | how does a stream end that cannot go on? | [`Dialect::error_event`] |
//!
//! Where a limit and refusals in the right words are all that is needed, without a look into bodies:
//!
//! ```
//! use tower_backpressure::{BackpressureLayer, limit::Aimd, llm};
//!
//! let layer = BackpressureLayer::adaptive(Aimd::default()).respond(llm::refuse);
//! # let _ = layer;
//! ```
//!
//! # How it is put together
//!
//! ```
//! use tower_backpressure::llm::{Asked, Dialect, Kind, Learned, Tally, Usage, Weights, sse::Reader};
//!
//! // When the request has come: what is it likely to cost?
//! let body = br#"{"model":"gpt-5","messages":[{"role":"user","content":"Will it rain?"}],"stream":true}"#;
//! let asked = Asked::read(Dialect::OpenAi, body);
//! let mut learned = Learned::default();
//! let output = learned.expect("tenant", asked.model(), asked.max_output());
//! let expected = Usage { prompt: asked.prompt(), output, ..Usage::default() };
//! let reserved = Weights::default().cost(&expected);
//! assert_eq!(reserved, 7 + 1000);
//!
//! // It goes on so that the answer ends with its usage.
//! let sent = asked.including_usage(body);
//!
//! // As the answer passes by:
//! let mut reader = Reader::new();
//! let mut tally = Tally::new(asked.prompt());
//! let answer = b"data: {\"choices\":[{\"delta\":{\"content\":\"Yes.\"}}]}\n\n\
//!     data: {\"choices\":[],\"usage\":{\"prompt_tokens\":11,\"completion_tokens\":2}}\n\n\
//!     data: [DONE]\n\n";
//! let mut to_client = Vec::new();
//! let mut rest = &answer[..];
//! while !rest.is_empty() {
//!     let read = reader.read(rest);
//!     let (bytes, after) = rest.split_at(read.used);
//!     rest = after;
//!     let meaning = read.event.map(|event| Dialect::OpenAi.read(&event)).unwrap_or_default();
//!     tally.add(&meaning);
//!     // The client did not ask for this one.
//!     if !(sent.is_some() && meaning.kind == Kind::UsageOnly) {
//!         to_client.extend_from_slice(bytes);
//!     }
//! }
//! assert!(!String::from_utf8_lossy(&to_client).contains("usage"));
//!
//! // At its end, or when the client has left: what did it really cost?
//! assert_eq!(Weights::default().cost(&tally.usage()), 11 + 2);
//! learned.learn("tenant", asked.model(), tally.usage().output);
//! ```
//!
//! (Where a chunk ends in the middle of an event, its bytes have to wait for the rest of it:
//! [`is_between_events`](sse::Reader::is_between_events).)
//!
//! # Bounds
//!
//! | | kept at most |
//! |---|---|
//! | [`sse::Reader`] | some twice what one event may have, 256 KiB if not said otherwise; a few hundred bytes as a rule |
//! | [`Whole`] | 16 KiB for usage and as much for an error |
//! | [`Asked`] | the model's name, up to 128 bytes |
//! | [`Learned`] | 4096 pairs if not said otherwise, of 184 bytes each |
//!
//! Everything takes time in proportion to the length of what is read, however deep it is nested and however often its members
//! come. What is not known, broken or contradicts itself is passed over, never an error.

// | file | |
// |---|---|
// | `sse` | where an event begins and ends, and its data |
// | `event`, `openai`, `anthropic`, `failure` | what it means |
// | `glance`, `pattern` | the event that nearly all are, seen at once; and once more |
// | `whole`, `tally` | an answer in one piece; what an answer has used |
// | `request`, `deadline`, `request_id` | what a request says in its body and in its head |
// | `dialect` | whose words, and the words |
// | `learned`, `cost` | what is to be reserved, and what was spent |
// | `json`, `text` | looking into JSON without a tree; how many tokens it makes, about |
// | `layer`, `shared` | the layer on both sides of a gate, its settings, what all its requests have in common |
// | `service`, `future`, `request_body` | before the gate: a request is read |
// | `upstream` | behind the gate: the call, its head, and when that goes out |
// | `answer`, `stream`, `piece`, `passage` | behind the gate: the answer as it passes |
// | `account` | what one call is charged, and how it went |
// | `patience` | how long is waited for what |
// | `norm` | what is long because it is large, and what because there is too much to do |
// | `recording`, `silent` | what a recorder sees |

mod account;
mod answer;
mod anthropic;
mod cost;
mod deadline;
mod dialect;
mod event;
mod failure;
mod future;
mod glance;
mod json;
mod layer;
mod learned;
mod norm;
mod openai;
mod passage;
mod patience;
mod pattern;
mod piece;
#[cfg_attr(not(feature = "metrics"), path = "silent.rs")]
mod recording;
mod request;
mod request_body;
mod request_id;
mod service;
mod shared;
pub mod sse;
mod stream;
mod tally;
mod text;
mod upstream;
mod whole;

pub use self::{
    answer::AnswerBody,
    cost::{Usage, Weights},
    deadline::{deadline, retry_count},
    dialect::{Dialect, hint, refuse, refuse_as},
    event::{Kind, Meaning, Reported},
    failure::Failure,
    future::LlmFuture,
    layer::LlmLayer,
    learned::Learned,
    request::Asked,
    request_body::RequestBody,
    request_id::RequestId,
    service::LlmService,
    tally::Tally,
    upstream::{Upstream, UpstreamFuture},
    whole::Whole,
};
