//! What requests are charged, before and after.

use std::{io, time::Duration};

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt, Full};
use tower::{Layer, ServiceExt, service_fn};
use tower_backpressure::{
    BackpressureLayer, Charge, Rejected,
    llm::{Learned, Weights},
    rate::TokenBucket,
};

use crate::bench::*;

/// So many tokens, and next to no more.
fn budget(tokens: u64) -> Bench {
    let rate = TokenBucket::per(1, Duration::from_secs(3600)).burst(tokens);
    Bench::over(|gate| gate.and_rate(rate), |layer| layer)
}

#[tokio::test(start_paused = true)]
async fn the_estimate_is_reserved_and_the_usage_settled() {
    let bench = Bench::new();
    let answer = bench
        .stream(Script::new(&[TOKEN, TOKEN, TOKEN, USAGE, DONE]))
        .await;
    let seen = bench.seen();
    let charge = seen[0].charge();
    assert!(charge.reserved() > 40, "{charge:?}");
    text(answer).await;
    assert_eq!(charge.get(), 10);
}

#[tokio::test(start_paused = true)]
async fn a_budget_of_100_tokens_and_five_requests_at_once_never_above_it() {
    let bench = budget(100);
    let mut answers = vec![];
    for _ in 0..5 {
        bench.answers(Script::new(&[TOKEN, USAGE, DONE]).streamed());
        answers.push(bench.ask(asks_for_stream()).await);
    }
    let let_in = bench.calls();
    assert!(
        (1..=2).contains(&let_in),
        "each reserves more than 40: {let_in}"
    );
    let reserved: u64 = bench.seen().iter().map(|it| it.charge().reserved()).sum();
    assert!(reserved <= 100, "{reserved}");
    for answer in answers.drain(let_in..) {
        assert_eq!(answer.status(), 429);
        let rejected = answer.extensions().get::<Rejected>();
        assert!(rejected.is_some_and(Rejected::is_by_rate));
    }
    for answer in answers {
        text(answer).await;
    }
    // Each used 10: what is left is exactly enough for as many as that.
    let mut used = 10 * let_in as u64;
    while used + 10 <= 100 {
        bench.answers(Script::new(&[TOKEN, USAGE, DONE]).streamed());
        let answer = bench.ask(asks_for_stream()).await;
        if answer.status() != 200 {
            break;
        }
        text(answer).await;
        used += 10;
    }
    let reserve = bench.seen()[0].charge().reserved();
    assert!(used + reserve > 100, "{used} used, and {reserve} refused");
    assert!(used + reserve <= 100 + 10, "not a token was lost");
}

#[tokio::test(start_paused = true)]
async fn a_model_that_reports_no_usage_is_charged_by_what_was_streamed() {
    let bench = Bench::new();
    let answer = bench.stream(Script::new(&[TOKEN, TOKEN, TOKEN])).await;
    text(answer).await;
    let seen = bench.seen();
    let prompt = seen[0].charge().reserved() - 40;
    assert_eq!(seen[0].charge().get(), prompt + 3);
}

#[tokio::test(start_paused = true)]
async fn a_client_that_leaves_pays_for_what_was_streamed() {
    let bench = Bench::new();
    let mut answer = bench
        .stream(Script::new(&[TOKEN, TOKEN, TOKEN]).hangs())
        .await;
    frame(&mut answer).await;
    frame(&mut answer).await;
    drop(answer);
    let seen = bench.seen();
    let prompt = seen[0].charge().reserved() - 40;
    assert_eq!(seen[0].charge().get(), prompt + 2);
}

#[tokio::test(start_paused = true)]
async fn what_never_ran_costs_nothing() {
    let mut refused = Script::default().whole();
    *refused.status_mut() = http::StatusCode::SERVICE_UNAVAILABLE;
    for answer in [
        Ok(refused),
        Ok(Script::new(&[OVERLOADED]).streamed()),
        Ok(Script::new(&[ROLE]).breaks().streamed()),
        Err(io::Error::other("nobody there")),
    ] {
        let bench = budget(100);
        bench.answers_after(MILLI, answer);
        let _ = bench.call(asks_for_stream()).await;
        assert_eq!(bench.seen()[0].charge().get(), 0);
        let answer = bench.stream(Script::new(&[TOKEN])).await;
        assert_eq!(answer.status(), 200, "all of it is there again");
    }
}

#[tokio::test(start_paused = true)]
async fn a_failure_in_the_middle_costs_what_was_streamed() {
    for script in [
        Script::new(&[TOKEN, TOKEN, OVERLOADED]),
        Script::new(&[TOKEN, TOKEN]).breaks(),
    ] {
        let bench = Bench::new();
        let mut answer = bench.stream(script).await;
        while let Some(Ok(_)) = answer.body_mut().frame().await {}
        drop(answer);
        let seen = bench.seen();
        let prompt = seen[0].charge().reserved() - 40;
        assert_eq!(seen[0].charge().get(), prompt + 2);
    }
}

#[tokio::test(start_paused = true)]
async fn a_whole_answer_is_settled_with_what_it_reports() {
    let bench = Bench::new();
    let whole = r#"{"choices":[{"message":{"content":"It will."}}],"usage":{"prompt_tokens":7,"completion_tokens":2}}"#;
    bench.answers(Script::new(&[whole]).whole());
    let answer = bench.ask(asks_for_whole()).await;
    assert_eq!(bench.seen()[0].charge().get(), 9, "before anybody reads it");
    assert_eq!(text(answer).await, whole);
}

#[tokio::test(start_paused = true)]
async fn what_answers_have_is_learned() {
    let learned = Learned::default().prior(500);
    let bench = Bench::with(|layer| layer.learned(learned));
    let unbounded = || openai(r#"{"model":"m","stream":true,"messages":[]}"#);
    let mut reserved = vec![];
    for _ in 0..40 {
        bench.answers(Script::new(&[TOKEN, USAGE, DONE]).streamed());
        text(bench.ask(unbounded()).await).await;
        reserved.push(bench.seen()[0].charge().reserved());
    }
    assert!(reserved[0] >= 500, "{reserved:?}");
    assert!(*reserved.last().unwrap() < 50, "{reserved:?}");
}

#[tokio::test(start_paused = true)]
async fn tokens_cost_what_they_are_said_to() {
    let bench = Bench::with(|layer| layer.weights(Weights::new(3.0, 15.0)));
    let answer = bench.stream(Script::new(&[TOKEN, USAGE, DONE])).await;
    text(answer).await;
    assert_eq!(bench.seen()[0].charge().get(), 3 * 7 + 15 * 3);
}

#[tokio::test(start_paused = true)]
async fn a_demand_that_is_there_already_is_left_alone() {
    let bench = Bench::new();
    bench.answers(Script::new(&[TOKEN]).streamed());
    let mut request = asks_for_stream();
    let demand = tower_backpressure::Demand::of(7);
    request.extensions_mut().insert(demand);
    bench.ask(request).await;
    assert_eq!(bench.seen()[0].charge().reserved(), 7);
}

#[tokio::test(start_paused = true)]
async fn a_demand_of_somebody_else_is_settled_by_nobody_here() {
    let mut refused = Script::default().whole();
    *refused.status_mut() = http::StatusCode::SERVICE_UNAVAILABLE;
    for answer in [
        refused,
        Script::new(&[TOKEN, USAGE, DONE]).streamed(),
        Script::new(&[TOKEN, OVERLOADED]).streamed(),
        Script::new(&["{}"]).whole(),
    ] {
        let bench = Bench::new();
        bench.answers(answer);
        let mut request = asks_for_stream();
        let demand = tower_backpressure::Demand::of(7);
        request.extensions_mut().insert(demand);
        text(bench.ask(request).await).await;
        assert_eq!(bench.seen()[0].charge().get(), 7);
    }
}

#[tokio::test(start_paused = true)]
async fn a_charge_of_an_outer_layer_is_settled_by_nobody_here() {
    for exempt in [false, true] {
        let bench = Bench::over(move |gate| gate.exempt(move |_| exempt), |layer| layer);
        bench.answers(Script::new(&[TOKEN, USAGE, DONE]).streamed());
        let outer = BackpressureLayer::rate(TokenBucket::per_second(100)).cost(|_| 7);
        let charge = std::sync::OnceLock::new();
        let inner = service_fn(async |request: Request<_>| {
            let _ = charge.set(request.extensions().get::<Charge>().unwrap().clone());
            text(bench.ask(request).await).await;
            Ok::<_, std::convert::Infallible>(Response::new(Full::<Bytes>::default()))
        });
        outer.layer(inner).oneshot(asks_for_stream()).await.unwrap();
        assert_eq!(charge.get().unwrap().get(), 7, "exempt: {exempt}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_cost_of_the_gate_is_that_of_requests_that_ask_no_model() {
    let bench = Bench::over(|gate| gate.cost(|_| 9), |layer| layer);
    bench.answers(Script::new(&[TOKEN, USAGE, DONE]).streamed());
    text(bench.ask(asks_for_stream()).await).await;
    let mut other = openai("");
    *other.uri_mut() = "/v1/models".parse().unwrap();
    bench.answers(Script::new(&["{}"]).whole());
    text(bench.ask(other).await).await;
    let costs: Vec<_> = bench.seen().iter().map(|it| it.charge().get()).collect();
    assert_eq!(costs, [10, 9]);
}
