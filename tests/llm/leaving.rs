//! Clients that leave, at every stage.

use std::{
    panic::AssertUnwindSafe,
    sync::{Arc, atomic::Ordering},
};

use futures_util::FutureExt;
use http_body_util::BodyExt;
use tokio::time::{sleep, timeout};
use tower_backpressure::{BackpressureLayer, limit::Outcome};

use crate::bench::*;

#[tokio::test(start_paused = true)]
async fn one_that_leaves_at_any_stage_leaves_nothing_in_flight_and_takes_the_model_along() {
    let script = || {
        let all = Script::new(&[ROLE]).wait(SECOND).then(TOKEN);
        all.wait(SECOND).then(TOKEN).wait(SECOND).then(USAGE)
    };
    // The head after 0.5 s, the first token after 1.5 s, the second after 2.5 s, the end after 3.5 s.
    for left_after in (0..40).map(|tenths| tenths * 100 * MILLI) {
        for whole in [false, true] {
            let bench = Bench::new();
            let script = script();
            let dropped = Arc::clone(&script.dropped);
            let (answer, request) = match whole {
                true => (script.whole(), asks_for_whole()),
                false => (script.streamed(), asks_for_stream()),
            };
            bench.answers_after(500 * MILLI, Ok(answer));
            let call = bench.call(request);
            let _ = timeout(left_after + MILLI, async {
                text(call.await.unwrap()).await
            })
            .await;
            assert_eq!(bench.in_flight(), 0, "after {left_after:?}");
            if left_after >= 500 * MILLI {
                assert!(dropped.load(Ordering::SeqCst), "after {left_after:?}");
            }
            let reserved = bench.seen()[0].charge().reserved();
            let charged = bench.seen().first().map_or(0, |it| it.charge().get());
            assert!(charged <= reserved, "{charged}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn one_that_leaves_before_the_answer_took_at_least_that_long() {
    let bench = Bench::new();
    bench.answers_after(60 * SECOND, Ok(Script::default().streamed()));
    let call = timeout(40 * MILLI, bench.call(asks_for_stream()));
    assert!(call.await.is_err());
    assert_eq!(bench.samples(), [(40, Outcome::Cancelled)]);

    let answer = bench.stream(Script::new(&[ROLE]).hangs()).await;
    sleep(SECOND).await;
    drop(answer);
    assert_eq!(bench.samples(), [(3000, Outcome::Cancelled)]);
}

#[tokio::test(start_paused = true)]
async fn one_that_leaves_in_the_middle_has_been_answered() {
    let bench = Bench::new();
    let mut answer = bench.stream(Script::new(&[TOKEN]).hangs()).await;
    frame(&mut answer).await;
    drop(answer);
    assert_eq!(bench.samples(), [(0, Outcome::Success)]);
}

#[tokio::test(start_paused = true)]
async fn one_that_leaves_once_the_answer_is_complete_has_not_left_it() {
    let bench = Bench::new();
    let script = Script::new(&[TOKEN, USAGE, DONE]).hangs();
    let mut answer = bench.stream(script).await;
    for expected in [TOKEN, DONE] {
        assert_eq!(frame(&mut answer).await, expected);
    }
    drop(answer);
    assert_eq!(bench.seen()[0].charge().get(), 10);
    assert_eq!(bench.samples(), [(0, Outcome::Success)]);
}

#[tokio::test(start_paused = true)]
async fn one_that_leaves_while_it_is_read_or_waits_was_never_there() {
    let gate = |_| BackpressureLayer::drop_oldest(1, 5);
    let bench = Bench::over(gate, |layer| layer);
    let running = bench.stream(Script::new(&[TOKEN]).hangs()).await;
    let waits = timeout(SECOND, bench.call(asks_for_stream())).await;
    assert!(waits.is_err());
    assert_eq!(bench.calls(), 1);
    assert_eq!(bench.layer.handle().waiting(), 0);
    drop(running);
    assert_eq!(bench.in_flight(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_body_that_panics_gives_everything_back_and_teaches_nothing() {
    let bench = Bench::new();
    let mut answer = bench
        .stream(Script::new(&[ROLE]).wait(3 * SECOND).panics())
        .await;
    let reading = async { while answer.body_mut().frame().await.is_some() {} };
    assert!(AssertUnwindSafe(reading).catch_unwind().await.is_err());
    drop(answer);
    assert_eq!((bench.in_flight(), bench.samples()), (0, vec![]));
}

#[tokio::test(start_paused = true)]
async fn so_does_a_whole_answer_that_panics_while_it_is_collected() {
    let bench = Bench::new();
    let body = Script::new(&["{\"choices\":["]).wait(3 * SECOND).panics();
    bench.answers(body.whole());
    let asking = AssertUnwindSafe(bench.ask(asks_for_whole()));
    assert!(asking.catch_unwind().await.is_err());
    assert_eq!((bench.in_flight(), bench.samples()), (0, vec![]));
}

#[tokio::test(start_paused = true)]
async fn one_that_leaves_after_a_failure_was_told_pays_for_no_more_than_there_was() {
    for (script, frames, tokens) in [
        (Script::new(&[ROLE, OVERLOADED]), 2, None),
        (Script::new(&[TOKEN, TOKEN, OVERLOADED]), 3, Some(2)),
    ] {
        let bench = Bench::with(|layer| layer.hold_head(None));
        let mut answer = bench.stream(script.hangs()).await;
        for _ in 0..frames {
            frame(&mut answer).await;
        }
        drop(answer);
        let charge = bench.seen()[0].charge().clone();
        let prompt = charge.reserved() - 40;
        let expected = tokens.map_or(0, |tokens| prompt + tokens);
        assert_eq!(charge.get(), expected, "{tokens:?}");
        let last = bench.samples().pop().map(|(_, outcome)| outcome);
        assert_eq!(last, Some(Outcome::Overload), "{tokens:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_hangs_after_it_has_failed_is_that_failure() {
    let bench = Bench::with(|layer| layer.hold_head(None));
    let answer = bench.stream(Script::new(&[ROLE, OVERLOADED]).hangs()).await;
    assert_eq!(text(answer).await, [ROLE, OVERLOADED].concat());
    assert_eq!(bench.seen()[0].charge().get(), 0);
}
