//! What a service tells of its own response, where head and frames do not.

use std::{
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use http::{Response, StatusCode};
use http_body::{Body, Frame};
use http_body_util::BodyExt;
use tokio::time::sleep;
use tower_backpressure::{Report, SampleAt, limit::Outcome};

use crate::script::{Bench, Script, sse};

const MILLI: Duration = Duration::from_millis(1);

fn reporting<B>(mut response: Response<B>) -> (Response<B>, Report) {
    let report = Report::new();
    response.extensions_mut().insert(report.clone());
    (response, report)
}

#[tokio::test(start_paused = true)]
async fn the_first_frame_is_no_sample_and_what_the_service_says_is() {
    let bench = Bench::new();
    let (response, report) = reporting(sse(Script::data(&[": alive", "token", "token"])));
    let mut response = bench.get(response).await;
    response.body_mut().frame().await;
    assert_eq!(bench.samples(), []);
    report.sample(Outcome::Success, 7 * MILLI);
    report.sample(Outcome::Success, 9 * MILLI);
    response.body_mut().frame().await;
    assert_eq!(bench.samples(), [(7, Outcome::Success)]);
    while response.body_mut().frame().await.is_some() {}
    assert_eq!(bench.samples(), [], "once");
}

#[tokio::test(start_paused = true)]
async fn a_stream_that_turns_out_to_be_an_overload_is_one() {
    let bench = Bench::new();
    let (response, report) = reporting(sse(Script::data(&["token", "error"])));
    let mut response = bench.get(response).await;
    report.sample(Outcome::Success, 7 * MILLI);
    response.body_mut().frame().await;
    sleep(40 * MILLI).await;
    report.outcome(Outcome::Overload);
    response.body_mut().frame().await;
    let expected = [(7, Outcome::Success), (40, Outcome::Overload)];
    assert_eq!(bench.samples(), expected);
}

#[tokio::test(start_paused = true)]
async fn what_is_known_at_the_head_is_learned_there() {
    for sample_at in [SampleAt::Auto, SampleAt::FirstFrame, SampleAt::BodyEnd] {
        let bench = Bench::with(|layer| layer.sample_at(sample_at));
        let (response, report) = reporting(Response::new(Script::data(&["whole"])));
        report.sample(Outcome::Success, 3 * MILLI);
        let response = bench.get(response).await;
        assert_eq!(bench.samples(), [(3, Outcome::Success)]);
        response.into_body().collect().await.unwrap();
        assert_eq!(bench.samples(), []);
    }
}

#[tokio::test(start_paused = true)]
async fn what_is_not_said_by_the_end_is_sampled_there() {
    let bench = Bench::new();
    let body = Script {
        pause: 10 * MILLI,
        ..Script::data(&["a"])
    };
    let (response, _) = reporting(sse(body));
    let response = bench.get(response).await;
    response.into_body().collect().await.unwrap();
    assert_eq!(bench.samples(), [(20, Outcome::Success)]);
}

#[tokio::test(start_paused = true)]
async fn a_status_that_is_no_success_needs_no_report() {
    let bench = Bench::new();
    let (mut response, _) = reporting(Response::new(Script::data(&["no"])));
    *response.status_mut() = StatusCode::SERVICE_UNAVAILABLE;
    bench.get(response).await;
    assert_eq!(bench.samples(), [(0, Outcome::Overload)]);
}

/// Says something as it goes.
struct LastWords(Report);

impl Drop for LastWords {
    fn drop(&mut self) {
        self.0.sample(Outcome::Cancelled, 2 * MILLI);
    }
}

impl Body for LastWords {
    type Data = Bytes;
    type Error = std::io::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, std::io::Error>>> {
        Poll::Pending
    }
}

#[tokio::test(start_paused = true)]
async fn a_body_that_is_dropped_has_a_last_word() {
    let bench = Bench::new();
    let report = Report::new();
    let mut response = sse(LastWords(report.clone()));
    response.extensions_mut().insert(report);
    let response = bench.get(response).await;
    sleep(40 * MILLI).await;
    drop(response);
    assert_eq!(bench.samples(), [(2, Outcome::Cancelled)]);
}
