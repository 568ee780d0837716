//! When the head goes out, and as what.

use std::{sync::Arc, sync::atomic::Ordering, time::Duration};

use futures_util::FutureExt;
use http::header::RETRY_AFTER;
use tokio::time::Instant;
use tower_backpressure::limit::Outcome;

use crate::bench::*;

const ANTHROPIC_OVERLOADED: &str = "event: error\ndata: {\"type\":\"error\",\"error\":{\"type\":\"overloaded_error\",\"message\":\"Overloaded\"}}\n\n";
const MESSAGE_START: &str = "event: message_start\ndata: {\"type\":\"message_start\",\"message\":{\"usage\":{\"input_tokens\":25,\"output_tokens\":1}}}\n\n";

async fn held(script: Script) -> (Answer, Duration) {
    let bench = Bench::new();
    let began = Instant::now();
    let answer = bench.stream(script).await;
    (answer, began.elapsed())
}

#[tokio::test(start_paused = true)]
async fn the_head_is_held_until_the_first_token_and_nothing_is_lost() {
    let script = Script::new(&[ALIVE]).wait(300 * MILLI).then(ROLE);
    let script = script.wait(500 * MILLI).then(TOKEN).then(DONE);
    let (answer, held) = held(script).await;
    assert_eq!(answer.status(), 200);
    assert_eq!(held, 800 * MILLI);
    assert_eq!(text(answer).await, [ALIVE, ROLE, TOKEN, DONE].concat());
}

#[tokio::test(start_paused = true)]
async fn the_head_goes_out_after_two_seconds_whatever_has_come() {
    for begins in [vec![], vec![ALIVE, ROLE]] {
        let script = Script::new(&begins).wait(30 * SECOND).then(TOKEN);
        let (answer, held) = held(script).await;
        assert_eq!(held, 2 * SECOND);
        assert_eq!(text(answer).await, [begins.concat(), TOKEN.into()].concat());
    }
}

#[tokio::test(start_paused = true)]
async fn a_head_that_is_not_to_be_held_is_not() {
    let bench = Bench::with(|layer| layer.hold_head(None));
    let script = Script::default().wait(SECOND).then(TOKEN);
    bench.answers(script.streamed());
    let answer = bench.call(asks_for_stream()).now_or_never().unwrap();
    assert_eq!(text(answer.unwrap()).await, TOKEN);
}

#[tokio::test(start_paused = true)]
async fn a_flood_without_a_token_does_not_fill_the_memory_while_the_head_is_held() {
    let long = format!(": {}\n\n", "x".repeat(1 << 14));
    let script = (0..1000).fold(Script::default(), |all, _| all.then(&long));
    let polls = Arc::clone(&script.polls);
    let (_answer, held) = held(script).await;
    assert_eq!(held, Duration::ZERO);
    assert!(polls.load(Ordering::SeqCst) <= 6, "{polls:?}");
}

#[tokio::test(start_paused = true)]
async fn an_error_in_the_first_event_is_a_status() {
    let bench = Bench::new();
    let script = Script::new(&[ALIVE, ROLE]).wait(SECOND).then(OVERLOADED);
    let dropped = Arc::clone(&script.dropped);
    let answer = bench.stream(script.hangs()).await;
    assert_eq!(answer.status(), 503);
    assert!(dropped.load(Ordering::SeqCst), "the model is let go of");
    assert_eq!(header(answer.headers(), "content-type"), "application/json");
    assert_ne!(header(answer.headers(), "x-request-id"), "");
    let millis: u64 = header(answer.headers(), "retry-after-ms").parse().unwrap();
    assert!((1000..=1500).contains(&millis), "{millis}");
    let body = text(answer).await;
    assert!(body.contains("too busy"), "{body}");
    assert!(body.starts_with(r#"{"error":{"#), "{body}");
    assert_eq!(bench.samples(), [(1000, Outcome::Overload)]);
    assert_eq!(bench.in_flight(), 0);
}

#[tokio::test(start_paused = true)]
async fn anthropic_says_529_even_after_the_beginning_of_the_message() {
    let bench = Bench::new();
    let mut answer = Script::new(&[MESSAGE_START, ANTHROPIC_OVERLOADED]).streamed();
    let hint = "7".parse().unwrap();
    answer.headers_mut().insert(RETRY_AFTER, hint);
    bench.answers(answer);
    let answer = bench
        .ask(anthropic(
            r#"{"model":"c","stream":true,"max_tokens":9,"messages":[]}"#,
        ))
        .await;
    assert_eq!(answer.status(), 529);
    let millis: u64 = header(answer.headers(), "retry-after-ms").parse().unwrap();
    assert!((7000..=8750).contains(&millis), "the model's own: {millis}");
    let body = text(answer).await;
    assert!(body.contains(r#""type":"overloaded_error""#), "{body}");
}

#[tokio::test(start_paused = true)]
async fn an_error_that_comes_after_the_head_is_left_as_it_is_and_still_counts() {
    let bench = Bench::new();
    let script = Script::new(&[TOKEN]).wait(SECOND).then(OVERLOADED);
    let answer = bench.stream(script).await;
    assert_eq!(answer.status(), 200);
    assert_eq!(text(answer).await, [TOKEN, OVERLOADED].concat());
    let expected = [(0, Outcome::Success), (1000, Outcome::Overload)];
    assert_eq!(bench.samples(), expected);
}

#[tokio::test(start_paused = true)]
async fn a_model_that_breaks_off_before_it_begins_is_a_502() {
    let bench = Bench::new();
    let answer = bench.stream(Script::new(&[ROLE]).breaks()).await;
    assert_eq!(answer.status(), 502);
    assert_eq!(bench.samples(), []);

    bench.answers(Script::new(&["{\"choi"]).breaks().whole());
    let answer = bench.ask(asks_for_whole()).await;
    assert_eq!(answer.status(), 502);
}

#[tokio::test(start_paused = true)]
async fn a_stream_that_ends_without_a_word_is_passed_on() {
    let (answer, held) = held(Script::default()).await;
    assert_eq!((answer.status().as_u16(), held), (200, Duration::ZERO));
    assert_eq!(text(answer).await, "");
}

#[tokio::test(start_paused = true)]
async fn a_status_of_the_model_passes_with_all_that_it_says() {
    let bench = Bench::new();
    let mut busy = Script::new(&["{\"error\":{\"message\":\"no\"}}"]).whole();
    *busy.status_mut() = http::StatusCode::TOO_MANY_REQUESTS;
    let hint = "3".parse().unwrap();
    busy.headers_mut().insert(RETRY_AFTER, hint);
    bench.answers(busy);
    let answer = bench.ask(asks_for_stream()).await;
    assert_eq!(answer.status(), 429);
    assert_eq!(header(answer.headers(), "retry-after"), "3");
    assert_eq!(text(answer).await, "{\"error\":{\"message\":\"no\"}}");
    assert_eq!(bench.samples(), [(0, Outcome::Overload)]);
}

#[tokio::test(start_paused = true)]
async fn an_error_in_a_whole_answer_is_a_status_too() {
    let bench = Bench::new();
    let error = r#"{"error":{"message":"too busy","type":"overloaded_error","code":503}}"#;
    bench.answers(Script::new(&[error]).whole());
    let answer = bench.ask(asks_for_whole()).await;
    assert_eq!(answer.status(), 503);
    assert!(text(answer).await.contains("too busy"));
}
