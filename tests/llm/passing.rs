//! What becomes of the bytes of a stream.

use std::sync::{Arc, atomic::Ordering};

use futures_util::FutureExt;
use http::header::CONTENT_LENGTH;
use http_body::Body;
use http_body_util::BodyExt;
use tokio::time::sleep;
use tower_backpressure::limit::Outcome;

use crate::bench::*;

/// Cut into pieces of `size` bytes.
fn cut(text: &str, size: usize) -> Script {
    let pieces = text.as_bytes().chunks(size);
    pieces.fold(Script::default(), |all, piece| {
        all.then(std::str::from_utf8(piece).unwrap())
    })
}

#[tokio::test(start_paused = true)]
async fn bytes_are_untouched_wherever_the_chunks_end() {
    let all = [
        ALIVE,
        ROLE,
        TOKEN,
        "event: odd\r\ndata: 1\r\n\r\n",
        TOKEN,
        DONE,
    ]
    .concat();
    for size in [1, 2, 7, 64, 1000] {
        let bench = Bench::new();
        let answer = bench.stream(cut(&all, size)).await;
        assert_eq!(text(answer).await, all, "in pieces of {size}");
    }
}

#[tokio::test(start_paused = true)]
async fn usage_is_hidden_from_a_client_that_did_not_ask_for_it() {
    for size in [1, 5, 100, 1000] {
        let bench = Bench::new();
        let all = [ROLE, TOKEN, USAGE, DONE].concat();
        let answer = bench.stream(cut(&all, size)).await;
        assert_eq!(text(answer).await, [ROLE, TOKEN, DONE].concat(), "{size}");
        let sent = String::from_utf8(bench.seen()[0].body.to_vec()).unwrap();
        assert!(sent.contains(r#""include_usage":true"#), "{sent}");
    }
}

#[tokio::test(start_paused = true)]
async fn usage_is_shown_to_a_client_that_asked_for_it() {
    let bench = Bench::new();
    bench.answers(Script::new(&[TOKEN, USAGE, DONE]).streamed());
    let request = openai(
        r#"{"model":"m","stream":true,"stream_options":{"include_usage":true},"messages":[]}"#,
    );
    let answer = bench.ask(request).await;
    assert_eq!(text(answer).await, [TOKEN, USAGE, DONE].concat());
}

#[tokio::test(start_paused = true)]
async fn garbage_at_the_end_is_passed_on() {
    for garbage in ["data: {\"choi", "\n\n\n", "what is this", "\u{feff}:"] {
        let bench = Bench::new();
        let answer = bench.stream(Script::new(&[TOKEN, DONE, garbage])).await;
        assert_eq!(text(answer).await, [TOKEN, DONE, garbage].concat());
    }
}

#[tokio::test(start_paused = true)]
async fn an_event_that_is_too_long_to_be_kept_passes_in_pieces() {
    let bench = Bench::new();
    let long = format!("data: {}\n\n", "x".repeat(1 << 20));
    let all = [TOKEN, &long, TOKEN, USAGE, DONE].concat();
    let mut answer = bench.stream(cut(&all, 10_000)).await;
    let (mut longest, mut passed) = (0, String::new());
    while let Some(frame) = answer.body_mut().frame().await {
        let data = frame.unwrap().into_data().unwrap();
        longest = longest.max(data.len());
        passed.push_str(std::str::from_utf8(&data).unwrap());
    }
    assert_eq!(passed, [TOKEN, &long, TOKEN, DONE].concat());
    assert!(longest <= 10_000, "{longest}");
}

#[tokio::test(start_paused = true)]
async fn the_body_says_of_itself_what_is_true() {
    let bench = Bench::new();
    let mut answer = Script::new(&[TOKEN, USAGE]).length(500).streamed();
    answer.headers_mut().insert(CONTENT_LENGTH, 500.into());
    bench.answers(answer);
    let mut answer = bench.ask(asks_for_stream()).await;
    assert!(answer.headers().get(CONTENT_LENGTH).is_none());
    assert_eq!(answer.body().size_hint().exact(), None);
    assert!(!answer.body().is_end_stream());
    assert_eq!(frame(&mut answer).await, TOKEN);
    // What is hidden was the last there was, and the permit is back though nobody asks for the end.
    while !answer.body().is_end_stream() {
        assert_eq!(frame(&mut answer).await, "");
    }
    assert_eq!(bench.in_flight(), 0);

    bench.answers(Script::new(&["{\"a\"", ":1}"]).whole());
    let answer = bench.ask(asks_for_whole()).await;
    assert_eq!(answer.body().size_hint().exact(), Some(7));
    assert_eq!(text(answer).await, "{\"a\":1}");
}

#[tokio::test(start_paused = true)]
async fn a_stream_whose_last_frame_is_its_end_gives_the_permit_back_with_it() {
    let bench = Bench::new();
    let mut answer = bench.stream(Script::new(&[TOKEN, DONE])).await;
    assert_eq!(frame(&mut answer).await, TOKEN);
    assert_eq!(bench.in_flight(), 1);
    assert_eq!(frame(&mut answer).await, DONE);
    assert!(answer.body().is_end_stream());
    assert_eq!(bench.in_flight(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_slow_reader_makes_the_model_wait_and_not_the_memory_grow() {
    let bench = Bench::new();
    let script = (0..10_000).fold(Script::default(), |all, _| all.then(TOKEN));
    let polls = Arc::clone(&script.polls);
    let mut answer = bench.stream(script).await;
    for read in 1..5 {
        sleep(3600 * SECOND).await;
        assert_eq!(frame(&mut answer).await, TOKEN);
        assert!(polls.load(Ordering::SeqCst) <= read + 1);
    }
    assert_eq!(bench.in_flight(), 1, "nobody was cut off for it");
}

#[tokio::test(start_paused = true)]
async fn a_whole_answer_that_is_too_long_to_be_kept_passes_as_it_comes() {
    let bench = Bench::with(|layer| layer.max_body(1000));
    let long = "x".repeat(600);
    let usage = r#"","usage":{"prompt_tokens":7,"completion_tokens":300}}"#;
    let script = Script::new(&["{\"text\":\"", &long, &long, &long, usage]).length(1863);
    let polls = Arc::clone(&script.polls);
    bench.answers(script.whole());
    let answer = bench.ask(asks_for_whole()).await;
    assert_eq!(polls.load(Ordering::SeqCst), 3, "the head is out");
    let lower = answer.body().size_hint().lower();
    assert_eq!(lower, 1863 + 1209, "what was read, and what the rest says");
    let body = text(answer).await;
    assert_eq!(body.len(), 9 + 1800 + usage.len());
    assert_eq!(bench.seen()[0].charge().get(), 307);
    assert_eq!(bench.samples(), [], "its reader took part in its time");
}

/// 1809 bytes; the last frame crosses the 1000 that are kept.
fn long(last: &str) -> Script {
    let text = "x".repeat(600);
    Script::new(&["{\"c\":[{\"text\":\"", &text, &[&text, last].concat()])
}

const LONG_USAGE: &str = r#""}],"usage":{"prompt_tokens":7,"completion_tokens":300}}"#;

#[tokio::test(start_paused = true)]
async fn a_whole_answer_whose_last_frame_is_too_long_is_accounted_for() {
    let bench = Bench::with(|layer| layer.max_body(1000));
    bench.answers(long(LONG_USAGE).whole());
    let mut answer = bench.ask(asks_for_whole()).await;
    // As servers do: nothing is asked for once it is over.
    while !answer.body().is_end_stream() {
        frame(&mut answer).await;
    }
    drop(answer);
    assert_eq!(bench.seen()[0].charge().get(), 307);
}

#[tokio::test(start_paused = true)]
async fn who_leaves_a_long_whole_answer_pays_for_what_came() {
    for (script, expected) in [
        (long(LONG_USAGE).wait(SECOND).then(" "), 7 + 300),
        (long("").hangs(), 300),
        (long("").breaks(), 300),
        (long(LONG_USAGE).breaks(), 7 + 300),
    ] {
        let bench = Bench::with(|layer| layer.max_body(1000));
        bench.answers(script.whole());
        let mut answer = bench.ask(asks_for_whole()).await;
        for _ in 0..3 {
            frame(&mut answer).await;
        }
        let _ = answer.body_mut().frame().now_or_never();
        drop(answer);
        let charge = bench.seen()[0].charge().clone();
        let prompt = charge.reserved() - 40;
        let reported = expected == 307;
        let expected = expected + if reported { 0 } else { prompt };
        assert_eq!(charge.get(), expected);
        assert_eq!(bench.samples(), [], "its reader took part in its time");
    }
}

#[tokio::test(start_paused = true)]
async fn a_long_whole_answer_that_is_an_error_is_a_failure() {
    let bench = Bench::with(|layer| layer.max_body(1000));
    let script = long(r#""}],"error":{"type":"overloaded_error"}}"#).then(" ");
    bench.answers(script.whole());
    text(bench.ask(asks_for_whole()).await).await;
    let last = bench.samples().pop().map(|(_, outcome)| outcome);
    assert_eq!(last, Some(Outcome::Overload));
}

#[tokio::test(start_paused = true)]
async fn what_asks_no_model_passes_unread() {
    let bench = Bench::new();
    let mut request = openai("");
    *request.uri_mut() = "/v1/models".parse().unwrap();
    *request.method_mut() = http::Method::GET;
    request
        .headers_mut()
        .insert("accept-encoding", "gzip".parse().unwrap());
    bench.answers(Script::new(&["[1,", "2]"]).length(5).whole());
    let answer = bench.ask(request).await;
    assert_eq!(answer.body().size_hint().exact(), Some(5));
    assert_eq!(bench.in_flight(), 1, "the gate is for all");
    assert_eq!(text(answer).await, "[1,2]");
    let seen = bench.seen();
    assert_eq!(header(&seen[0].head.headers, "accept-encoding"), "gzip");
}

#[tokio::test(start_paused = true)]
async fn what_is_compressed_passes_as_it_is_and_costs_what_was_reserved() {
    let bench = Bench::new();
    let mut answer = Script::new(&["\x1f\x08"])
        .wait(SECOND)
        .then("gzip")
        .streamed();
    let gzip = "gzip".parse().unwrap();
    answer.headers_mut().insert("content-encoding", gzip);
    bench.answers(answer);
    let answer = bench.ask(asks_for_stream()).await;
    assert_eq!(text(answer).await, "\x1f\x08gzip");
    let seen = bench.seen();
    assert_eq!(seen[0].charge().get(), seen[0].charge().reserved());
    assert_eq!(bench.in_flight(), 0);
}
