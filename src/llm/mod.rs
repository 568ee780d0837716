//! What a service before an LLM needs to read and to say, as OpenAI's and Anthropic's APIs do.

mod account;
mod answer;
mod anthropic;
mod cost;
mod deadline;
mod dialect;
mod event;
mod failure;
mod future;
mod json;
mod layer;
mod learned;
mod norm;
mod openai;
mod passage;
mod patience;
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
