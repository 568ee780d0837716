//! Clients that say how long they wait.

use std::time::Duration;

use tokio::time::Instant;
use tower_backpressure::{BackpressureLayer, Reason, Rejected};

use crate::bench::*;

fn by(seconds: u32) -> http::Request<http_body_util::Full<bytes::Bytes>> {
    let mut request = asks_for_stream();
    let timeout = seconds.to_string().parse().unwrap();
    request
        .headers_mut()
        .insert("x-stainless-read-timeout", timeout);
    request
}

fn reason(answer: &Answer) -> Option<Reason> {
    let rejected = answer.extensions().get::<Rejected>();
    rejected.map(|rejected| rejected.reason())
}

#[tokio::test(start_paused = true)]
async fn what_cannot_be_answered_in_time_is_refused_at_once() {
    let bench = Bench::new();
    let slow = || Script::default().wait(20 * SECOND).then(TOKEN);
    text(bench.stream(slow()).await).await;
    let began = Instant::now();
    let answer = bench.ask(by(10)).await;
    assert_eq!((began.elapsed(), bench.calls()), (Duration::ZERO, 1));
    assert_eq!(answer.status(), 503);
    assert_eq!(reason(&answer), Some(Reason::Deadline));
    assert!(
        text(answer)
            .await
            .contains("cannot be answered by its deadline")
    );

    bench.answers(slow().streamed());
    assert_eq!(bench.ask(by(30)).await.status(), 200);
}

#[tokio::test(start_paused = true)]
async fn nobody_is_refused_for_ever_on_the_word_of_a_bad_hour() {
    let bench = Bench::new();
    text(
        bench
            .stream(Script::default().wait(20 * SECOND).then(TOKEN))
            .await,
    )
    .await;
    assert_eq!(reason(&bench.ask(by(10)).await), Some(Reason::Deadline));
    tokio::time::sleep(21 * SECOND).await;
    // One finds out that it is over.
    bench.answers(Script::new(&[TOKEN, DONE]).streamed());
    assert_eq!(bench.ask(by(10)).await.status(), 200);
}

#[tokio::test(start_paused = true)]
async fn while_one_finds_out_the_others_are_refused_as_before() {
    let bench = Bench::new();
    text(
        bench
            .stream(Script::default().wait(20 * SECOND).then(TOKEN))
            .await,
    )
    .await;
    tokio::time::sleep(21 * SECOND).await;
    bench.answers(Script::default().hangs().streamed());
    assert_eq!(bench.ask(by(10)).await.status(), 200);
    assert_eq!(reason(&bench.ask(by(10)).await), Some(Reason::Deadline));
}

#[tokio::test(start_paused = true)]
async fn one_that_waits_leaves_the_line_when_it_is_too_late() {
    let gate = |_| BackpressureLayer::drop_oldest(1, 5);
    let bench = Bench::over(gate, |layer| layer);
    let running = bench
        .stream(Script::default().wait(SECOND).then(TOKEN).hangs())
        .await;
    let began = Instant::now();
    let answer = bench.ask(by(10)).await;
    assert_eq!(
        began.elapsed(),
        9 * SECOND,
        "a second is needed for the answer"
    );
    assert_eq!(reason(&answer), Some(Reason::Deadline));
    assert_eq!(bench.layer.handle().waiting(), 0);
    drop(running);
}

#[tokio::test(start_paused = true)]
async fn one_that_would_wait_too_long_is_refused_before_it_does() {
    let gate = |_| BackpressureLayer::drop_oldest(2, 50);
    let bench = Bench::over(gate, |layer| layer);
    let lasts_two_seconds = || Script::new(&[TOKEN]).wait(2 * SECOND).then(DONE);
    for _ in 0..5 {
        text(bench.stream(lasts_two_seconds()).await).await;
    }
    // Two run, and ten wait for five times as long as one lasts.
    let mut clients = tokio::task::JoinSet::new();
    for _ in 0..12 {
        bench.answers(lasts_two_seconds().streamed());
        let call = bench.call(asks_for_stream());
        clients.spawn(async move { text(call.await.unwrap()).await });
    }
    tokio::time::sleep(MILLI).await;
    let (waiting, began) = (bench.layer.handle().waiting(), Instant::now());
    let answer = bench.ask(by(10)).await;
    assert_eq!((waiting, began.elapsed()), (10, Duration::ZERO));
    assert_eq!(reason(&answer), Some(Reason::Deadline));
    bench.answers(lasts_two_seconds().streamed());
    let answer = bench.ask(by(13)).await;
    assert_eq!(answer.status(), 200);
    assert!(began.elapsed() <= 12 * SECOND, "{:?}", began.elapsed());
    clients.join_all().await;
}

#[tokio::test(start_paused = true)]
async fn one_that_was_let_in_in_time_is_left_alone() {
    let bench = Bench::new();
    bench.answers(Script::default().wait(60 * SECOND).then(TOKEN).streamed());
    let answer = bench.ask(by(10)).await;
    assert_eq!(text(answer).await, TOKEN);
}

#[tokio::test(start_paused = true)]
async fn in_shadow_nobody_is_refused() {
    let bench = Bench::over(|gate| gate.shadow(), |layer| layer);
    text(
        bench
            .stream(Script::default().wait(20 * SECOND).then(TOKEN))
            .await,
    )
    .await;
    bench.answers(Script::new(&[TOKEN]).streamed());
    assert_eq!(bench.ask(by(10)).await.status(), 200);
    assert_eq!(bench.layer.handle().snapshot().dropped_count, 1);
}
