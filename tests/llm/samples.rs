//! What the limit learns.

use std::{
    future::Future,
    io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use tokio::time::sleep;
use tower::{Layer, ServiceExt};
use tower_backpressure::{
    BackpressureLayer,
    limit::{Aimd, Gradient2, Outcome},
    llm::LlmLayer,
};

use crate::bench::*;

/// Field numbers of an 8B model: 30 ms, and 40 000 tokens of the prompt a second.
fn first_token_after(prompt: usize) -> Duration {
    30 * MILLI + Duration::from_secs_f64(prompt as f64 / 40_000.0)
}

#[tokio::test(start_paused = true)]
async fn the_first_token_is_the_sample_and_not_what_keeps_the_connection_alive() {
    let bench = Bench::new();
    let script = Script::new(&[ALIVE]).wait(200 * MILLI).then(ROLE);
    let script = script.wait(300 * MILLI).then(TOKEN).wait(SECOND).then(DONE);
    text(bench.stream(script).await).await;
    assert_eq!(bench.samples(), [(500, Outcome::Success)]);

    let late = Script::new(&[ALIVE]).wait(4 * SECOND).then(TOKEN);
    text(bench.stream(late).await).await;
    assert_eq!(
        bench.samples(),
        [(4000, Outcome::Success)],
        "the head was out"
    );
}

#[tokio::test(start_paused = true)]
async fn a_long_prompt_among_short_ones_looks_like_one_of_them() {
    let bench = Bench::new();
    for nth in 0..40 {
        let prompt = if nth % 20 == 19 { 85_000 } else { 1000 };
        let after = first_token_after(prompt);
        bench.answers(Script::default().wait(after).then(TOKEN).streamed());
        text(bench.ask(asks_at_length(prompt)).await).await;
    }
    for (latency, outcome) in bench.samples() {
        assert_eq!(outcome, Outcome::Success);
        assert!((50..=60).contains(&latency), "{latency} ms");
    }
}

#[tokio::test(start_paused = true)]
async fn a_client_with_a_long_prompt_that_leaves_does_not_either() {
    let bench = Bench::new();
    for prompt in [1000, 1000, 1000, 85_000] {
        let after = first_token_after(prompt);
        bench.answers(Script::default().wait(after).then(TOKEN).streamed());
        text(bench.ask(asks_at_length(prompt)).await).await;
    }
    bench.samples();
    bench.answers_after(60 * SECOND, Ok(Script::default().streamed()));
    let call = bench.call(asks_at_length(85_000));
    assert!(tokio::time::timeout(SECOND, call).await.is_err());
    let samples = bench.samples();
    assert_eq!(samples.len(), 1);
    assert!(samples[0].0 <= 60, "{samples:?}");
    assert_eq!(samples[0].1, Outcome::Cancelled);
}

#[tokio::test(start_paused = true)]
async fn whole_answers_teach_nothing_beside_streams_but_all_there_is_alone() {
    let whole = r#"{"choices":[],"usage":{"prompt_tokens":7,"completion_tokens":20}}"#;
    let bench = Bench::new();
    for _ in 0..2 {
        bench.answers_after(8 * SECOND, Ok(Script::new(&[whole]).whole()));
        text(bench.ask(asks_for_whole()).await).await;
    }
    assert_eq!(bench.samples(), [(8000, Outcome::Success); 2]);

    text(bench.stream(Script::new(&[TOKEN])).await).await;
    bench.samples();
    bench.answers_after(8 * SECOND, Ok(Script::new(&[whole]).whole()));
    text(bench.ask(asks_for_whole()).await).await;
    bench.answers_after(8 * SECOND, Ok(Script::new(&[whole]).whole()));
    let left = tokio::time::timeout(SECOND, bench.call(asks_for_whole()));
    assert!(left.await.is_err());
    assert_eq!(bench.samples(), []);

    for _ in 0..70 {
        bench.answers_after(8 * SECOND, Ok(Script::new(&[whole]).whole()));
        text(bench.ask(asks_for_whole()).await).await;
    }
    let again = bench.samples();
    assert!((1..10).contains(&again.len()), "nobody streams any more");
}

/// Requests of 1000 tokens, and among fifty of them one of 85 000, through `service`. The machine behind reads prompts one after
/// the other, so that the others wait behind that one; they come at two thirds of what it can read.
async fn giants<S, B>(service: S)
where
    S: tower::Service<http::Request<Full<Bytes>>, Response = http::Response<B>>,
    S: Clone + Send + 'static,
    S::Future: Send,
    S::Error: std::fmt::Debug,
    B: http_body::Body + Send,
    B::Data: Send,
    B::Error: std::fmt::Debug,
{
    let mut tasks = tokio::task::JoinSet::new();
    for nth in 0..3000 {
        let prompt = if nth % 50 == 25 { 85_000 } else { 1000 };
        let service = service.clone();
        tasks.spawn(async move {
            let mut request = asks_at_length(prompt);
            request.extensions_mut().insert(Prompt(prompt));
            let answer = service.oneshot(request).await.unwrap();
            answer.into_body().collect().await.unwrap();
        });
        sleep(100 * MILLI).await;
    }
    tasks.join_all().await;
}

#[derive(Clone, Copy)]
struct Prompt(usize);

#[derive(Clone, Default)]
struct Machine(Arc<tokio::sync::Mutex<()>>);

impl<B: Send + 'static> tower::Service<http::Request<B>> for Machine {
    type Response = http::Response<Script>;
    type Error = io::Error;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, io::Error>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), io::Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<B>) -> Self::Future {
        let machine = Arc::clone(&self.0);
        let Prompt(prompt) = *request.extensions().get().unwrap();
        Box::pin(async move {
            let reading = machine.lock().await;
            sleep(first_token_after(prompt) - 30 * MILLI).await;
            drop(reading);
            let rest = Script::default().wait(30 * MILLI).then(TOKEN);
            Ok(rest.wait(100 * MILLI).then(DONE).streamed())
        })
    }
}

#[tokio::test(start_paused = true)]
async fn one_giant_in_fifty_does_not_lower_a_limit() {
    let aimd = || BackpressureLayer::adaptive(Aimd::default().initial(32));
    let gradient = || BackpressureLayer::adaptive(Gradient2::default().initial(32));
    for (name, gate) in [("aimd", aimd()), ("gradient2", gradient())] {
        let layer = LlmLayer::new(gate);
        giants(layer.layer(Machine::default())).await;
        let limit = layer.handle().limit();
        assert!(limit >= 32, "{name} fell to {limit}");
    }
    // Told of the same first tokens as they are, one of them at least falls.
    let mut limits = vec![];
    for gate in [aimd(), gradient()] {
        giants(gate.layer(Machine::default())).await;
        limits.push(gate.handle().limit());
    }
    assert!(limits.iter().any(|limit| *limit < 25), "{limits:?}");
}
