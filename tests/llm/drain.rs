//! The end of the service.

use tokio::time::Instant;
use tower_backpressure::{Reason, Rejected};

use crate::bench::*;

#[tokio::test(start_paused = true)]
async fn streams_that_end_in_time_end_by_themselves() {
    let bench = Bench::new();
    let answer = bench
        .stream(Script::new(&[TOKEN]).wait(5 * SECOND).then(DONE))
        .await;
    let drain = bench.layer.drain(30 * SECOND);
    let refused = bench.ask(asks_for_stream()).await;
    let reason = refused.extensions().get::<Rejected>().map(Rejected::reason);
    assert_eq!(reason, Some(Reason::Draining));
    let began = Instant::now();
    let (cut, body) = tokio::join!(drain, text(answer));
    assert_eq!((cut, body), (0, [TOKEN, DONE].concat()));
    assert_eq!(began.elapsed(), 5 * SECOND);
}

#[tokio::test(start_paused = true)]
async fn the_others_are_ended_with_an_error_in_their_words_and_counted() {
    let bench = Bench::new();
    let streaming = bench.stream(Script::new(&[TOKEN]).hangs()).await;
    bench.answers(
        Script::new(&["event: ping\ndata: {\"type\":\"ping\"}\n\n"])
            .hangs()
            .streamed(),
    );
    let in_anthropics = anthropic(r#"{"model":"c","stream":true,"messages":[]}"#);
    let other = bench.ask(in_anthropics).await;
    let pending = Script::default().streamed();
    bench.answers_after(600 * SECOND, Ok(pending));
    bench.answers_after(300 * SECOND, Ok(Script::new(&["{}"]).whole()));
    let before = read(bench.call(asks_for_stream()));
    let whole = read(bench.call(asks_for_whole()));
    let began = Instant::now();
    let drain = async { bench.layer.drain(30 * SECOND).await };
    // The two that have not been polled yet come first.
    let (before, whole, streaming, other, cut) =
        tokio::join!(before, whole, text(streaming), text(other), drain);
    assert_eq!(began.elapsed(), 30 * SECOND);
    assert_eq!(cut, 4);
    assert!(
        streaming.starts_with(&[TOKEN, "data: {\"error\""].concat()),
        "{streaming}"
    );
    assert!(streaming.contains("shutting down"), "{streaming}");
    assert!(
        other.contains("\n\nevent: error\ndata: {\"type\":\"error\""),
        "{other}"
    );
    for (status, body) in [before, whole] {
        assert_eq!(status, 503);
        assert!(body.contains("shutting down"), "{body}");
    }
    assert_eq!(bench.in_flight(), 0);
}

async fn read(call: impl Future<Output = Result<Answer, std::io::Error>>) -> (u16, String) {
    let answer = call.await.unwrap();
    assert_ne!(header(answer.headers(), "retry-after"), "");
    (answer.status().as_u16(), text(answer).await)
}

#[tokio::test(start_paused = true)]
async fn those_that_do_not_read_are_not_waited_for() {
    let bench = Bench::new();
    let never_read = bench.stream(Script::new(&[TOKEN]).hangs()).await;
    let began = Instant::now();
    assert_eq!(bench.layer.drain(30 * SECOND).await, 1);
    assert_eq!(began.elapsed(), 31 * SECOND);
    drop(never_read);
}

#[tokio::test(start_paused = true)]
async fn what_was_streamed_until_then_is_paid_for_and_the_limit_learns_nothing() {
    let bench = Bench::new();
    let answer = bench.stream(Script::new(&[TOKEN, TOKEN]).hangs()).await;
    tokio::join!(bench.layer.drain(SECOND), text(answer));
    let seen = bench.seen();
    let prompt = seen[0].charge().reserved() - 40;
    assert_eq!(seen[0].charge().get(), prompt + 2);
    let overloads = bench
        .samples()
        .iter()
        .filter(|it| it.1 == tower_backpressure::limit::Outcome::Overload)
        .count();
    assert_eq!(overloads, 0);
}
