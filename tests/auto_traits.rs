//! What can be sent to and shared between threads, and shown.

use std::fmt::Debug;

use tower_backpressure::{
    Backpressure, BackpressureLayer, BackpressureMetrics, Charge, ConfigError, Demand, Error,
    Handle, Reason, Rejected,
    limit::{Aimd, Fixed, Outcome, Sample},
    protocol::Plain,
    rate::{
        AdaptiveRate, Decision, OnUnavailable, Quota, Receipt, Requests, Short, SlidingWindow,
        TokenBucket,
    },
};

fn is<T: Send + Sync + Unpin + Debug + 'static>() {}

#[test]
fn everything_is_send_sync_and_debug() {
    is::<BackpressureLayer>();
    is::<BackpressureLayer<Plain>>();
    is::<Backpressure<()>>();
    is::<Backpressure<(), Plain>>();
    is::<BackpressureMetrics>();
    is::<ConfigError>();
    is::<Error<()>>();
    is::<Handle>();
    is::<Reason>();
    is::<Rejected>();
    is::<Aimd>();
    is::<Fixed>();
    is::<Outcome>();
    is::<Sample>();
    is::<Charge>();
    is::<Demand>();
    is::<Decision>();
    is::<OnUnavailable>();
    is::<Receipt>();
    is::<AdaptiveRate>();
    is::<Quota>();
    is::<Requests<TokenBucket>>();
    is::<Short>();
    is::<SlidingWindow>();
    is::<TokenBucket>();
    #[cfg(feature = "http")]
    {
        is::<tower_backpressure::Report>();
        is::<tower_backpressure::protocol::ResponseBody<()>>();
    }
    #[cfg(feature = "llm")]
    {
        use tower_backpressure::llm;
        is::<llm::AnswerBody<()>>();
        is::<llm::Asked>();
        is::<llm::Dialect>();
        is::<llm::Failure>();
        is::<llm::Kind>();
        is::<llm::Learned>();
        is::<llm::LlmLayer>();
        is::<llm::LlmService<()>>();
        is::<llm::RequestBody<()>>();
        is::<llm::Upstream<()>>();
        is::<llm::Meaning>();
        is::<llm::Reported>();
        is::<llm::RequestId>();
        is::<llm::Tally>();
        is::<llm::Usage>();
        is::<llm::Weights>();
        is::<llm::Whole>();
        is::<llm::sse::Event<'static>>();
        is::<llm::sse::Read<'static>>();
        is::<llm::sse::Reader>();
    }
    #[cfg(feature = "redis")]
    {
        is::<tower_backpressure::redis::Budget>();
        is::<tower_backpressure::redis::SharedRate>();
    }
}
