//! What a service before an LLM needs to read and to say, as OpenAI's and Anthropic's APIs do.

mod anthropic;
mod cost;
mod deadline;
mod dialect;
mod event;
mod failure;
mod json;
mod learned;
mod openai;
mod request;
mod request_id;
pub mod sse;
mod tally;
mod text;
mod whole;

pub use self::{
    cost::{Usage, Weights},
    deadline::{deadline, retry_count},
    dialect::{Dialect, hint, refuse, refuse_as},
    event::{Kind, Meaning, Reported},
    failure::Failure,
    learned::Learned,
    request::Asked,
    request_id::RequestId,
    tally::Tally,
    whole::Whole,
};
