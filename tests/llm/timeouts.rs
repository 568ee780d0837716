//! How long is waited for what, one by one.

use std::sync::{Arc, atomic::Ordering};

use tokio::time::{Instant, sleep};
use tower_backpressure::limit::Outcome;

use crate::bench::*;

#[tokio::test(start_paused = true)]
async fn a_head_that_does_not_come_is_a_504() {
    let bench = Bench::with(|layer| layer.first_token_timeout(5 * SECOND));
    bench.answers_after(60 * SECOND, Ok(Script::default().streamed()));
    let began = Instant::now();
    let answer = bench.ask(asks_for_stream()).await;
    assert_eq!(began.elapsed(), 5 * SECOND);
    assert_eq!(answer.status(), 504);
    assert_eq!(bench.samples(), [(5000, Outcome::Overload)]);
    drop(answer);
    assert_eq!(bench.in_flight(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_first_token_that_does_not_come_is_a_504_while_the_head_is_held() {
    let bench = Bench::with(|layer| layer.first_token_timeout(SECOND));
    let answer = bench.stream(Script::new(&[ROLE]).hangs()).await;
    assert_eq!(answer.status(), 504);
}

#[tokio::test(start_paused = true)]
async fn keepalives_do_not_count_as_the_first_token() {
    let bench = Bench::with(|layer| layer.first_token_timeout(5 * SECOND));
    let script = (0..100).fold(Script::new(&[ROLE]), |all, _| all.wait(SECOND).then(ALIVE));
    let dropped = Arc::clone(&script.dropped);
    let began = Instant::now();
    let answer = bench.stream(script).await;
    assert_eq!(answer.status(), 200, "the head went out after two seconds");
    let body = text(answer).await;
    assert_eq!(began.elapsed(), 5 * SECOND);
    assert!(dropped.load(Ordering::SeqCst));
    assert!(body.contains("did not begin to answer within 5s"), "{body}");
    assert!(
        body.ends_with("\n\n") && body.contains("data: {\"error\""),
        "{body}"
    );
    assert_eq!(bench.samples(), [(5000, Outcome::Overload)]);
    assert_eq!(bench.in_flight(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_pause_between_tokens_ends_the_stream_with_an_error() {
    let bench = Bench::with(|layer| layer.token_timeout(3 * SECOND));
    let script = Script::new(&[TOKEN])
        .wait(2 * SECOND)
        .then(TOKEN)
        .wait(2 * SECOND)
        .then(ALIVE)
        .wait(2 * SECOND)
        .then(TOKEN);
    let began = Instant::now();
    let body = text(bench.stream(script).await).await;
    assert_eq!(began.elapsed(), 5 * SECOND, "a comment is no token");
    assert!(
        body.starts_with(&[TOKEN, TOKEN, ALIVE, "data: {\"error\""].concat()),
        "{body}"
    );
    let expected = [(0, Outcome::Success), (5000, Outcome::Overload)];
    assert_eq!(bench.samples(), expected);
}

#[tokio::test(start_paused = true)]
async fn nothing_follows_an_answer_that_is_complete_though_the_model_hangs() {
    let bench = Bench::with(|layer| layer.token_timeout(3 * SECOND));
    let answer = bench.stream(Script::new(&[TOKEN, DONE]).hangs()).await;
    assert_eq!(text(answer).await, [TOKEN, DONE].concat());
    assert_eq!(bench.samples(), [(0, Outcome::Success)]);
    assert_eq!(bench.in_flight(), 0);
}

#[tokio::test(start_paused = true)]
async fn half_an_event_is_not_sent_before_the_error() {
    let bench = Bench::with(|layer| layer.token_timeout(3 * SECOND));
    let script = Script::new(&[TOKEN, "data: {\"choi"]).hangs();
    let body = text(bench.stream(script).await).await;
    assert!(
        body.starts_with(&[TOKEN, "data: {\"error\""].concat()),
        "{body}"
    );
}

#[tokio::test(start_paused = true)]
async fn the_time_that_a_slow_client_takes_is_not_the_models() {
    let bench = Bench::with(|layer| layer.token_timeout(3 * SECOND));
    let script = Script::new(&[TOKEN]).wait(2 * SECOND).then(TOKEN);
    let script = script.wait(2 * SECOND).then(DONE);
    let mut answer = bench.stream(script).await;
    for expected in [TOKEN, TOKEN, DONE] {
        sleep(100 * SECOND).await;
        assert_eq!(frame(&mut answer).await, expected);
    }
}

#[tokio::test(start_paused = true)]
async fn a_stream_may_last_as_long_as_it_has_something_to_say() {
    let bench = Bench::with(|layer| layer.answer_timeout(10 * SECOND));
    let script = (0..1000).fold(Script::default(), |all, _| all.wait(SECOND).then(TOKEN));
    let began = Instant::now();
    let body = text(bench.stream(script).await).await;
    assert_eq!(began.elapsed(), 1000 * SECOND);
    assert_eq!(body, TOKEN.repeat(1000));
}

#[tokio::test(start_paused = true)]
async fn a_whole_answer_that_takes_too_long_is_a_504() {
    let bench = Bench::with(|layer| {
        layer
            .answer_timeout(10 * SECOND)
            .first_token_timeout(SECOND)
    });
    bench.answers_after(60 * SECOND, Ok(Script::default().whole()));
    let slow = Script::new(&["{"]).wait(60 * SECOND).then("}");
    bench.answers_after(5 * SECOND, Ok(slow.whole()));
    for _ in 0..2 {
        let began = Instant::now();
        let answer = bench.ask(asks_for_whole()).await;
        assert_eq!(began.elapsed(), 10 * SECOND);
        assert_eq!(answer.status(), 504);
        assert!(text(answer).await.contains("not complete within 10s"));
    }
}

#[tokio::test(start_paused = true)]
async fn each_can_be_off() {
    let bench = Bench::with(|layer| {
        layer
            .first_token_timeout(None)
            .token_timeout(None)
            .answer_timeout(None)
    });
    let script = Script::default().wait(100_000 * SECOND).then(TOKEN);
    let script = script.wait(100_000 * SECOND).then(DONE);
    assert_eq!(
        text(bench.stream(script).await).await,
        [TOKEN, DONE].concat()
    );
    bench.answers_after(100_000 * SECOND, Ok(Script::new(&["{}"]).whole()));
    assert_eq!(text(bench.ask(asks_for_whole()).await).await, "{}");
}
