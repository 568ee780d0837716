//! What is charged when a request is let in, and what it turns out to have cost.

use std::{convert::Infallible, sync::Arc, time::Duration};

use bytes::Bytes;
use futures_util::FutureExt;
use http::{Request, Response};
use http_body_util::{BodyExt, Full, StreamBody};
use tower::{Layer, Service, ServiceExt, service_fn};
use tower_backpressure::{
    BackpressureLayer, Charge, ReleaseAt,
    rate::{Rate, SlidingWindow, TokenBucket},
};

use crate::support::{SECOND, get};

/// Costs 100, and what is left of 1000.
fn charged() -> (BackpressureLayer, impl Fn() -> u64) {
    let rate = Arc::new(TokenBucket::per_hour(1).burst(1000));
    let layer = BackpressureLayer::rate(Arc::clone(&rate)).cost(|_| 100);
    (layer, move || rate.quota(Duration::ZERO).remaining)
}

fn answering(
    f: impl Fn(Charge) + Clone,
) -> impl Service<
    Request<()>,
    Response = Response<Full<Bytes>>,
    Error = Infallible,
    Future: Future<Output = Result<Response<Full<Bytes>>, Infallible>>,
> + Clone {
    service_fn(move |request: Request<()>| {
        f(request.extensions().get::<Charge>().unwrap().clone());
        async { Ok(Response::new(Full::from("answer"))) }
    })
}

#[tokio::test(start_paused = true)]
async fn left_alone_it_stays_what_it_was() {
    let (layer, left) = charged();
    let response = get(&layer, Request::new(())).await;
    assert_eq!(left(), 900);
    drop(response);
    assert_eq!(left(), 900);
}

#[tokio::test(start_paused = true)]
async fn it_is_settled_when_the_response_ends() {
    for (actual, then) in [(30, 970), (100, 900), (250, 750), (0, 1000)] {
        let (layer, left) = charged();
        let service = layer.layer(answering(move |charge| {
            assert_eq!(charge.reserved(), 100);
            charge.set(7);
            charge.set(actual);
        }));
        let response = service.oneshot(Request::new(())).await.unwrap();
        assert_eq!(left(), 900, "not before");
        response.into_body().collect().await.unwrap();
        assert_eq!(left(), then, "{actual}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_debt_is_worked_off_before_anybody_else_is_let_in() {
    let rate = TokenBucket::per_second(100).burst(100);
    let layer = BackpressureLayer::rate(rate).cost(|_| 100);
    let service = layer.layer(answering(|charge| charge.set(1100)));
    let response = service.clone().oneshot(Request::new(())).await.unwrap();
    drop(response);
    let refused = service.clone().oneshot(Request::new(())).await.unwrap();
    assert_eq!(refused.headers()["retry-after"], "11");
    tokio::time::advance(11 * SECOND).await;
    let response = service.oneshot(Request::new(())).await.unwrap();
    assert_eq!(response.status(), 200);
}

#[tokio::test(start_paused = true)]
async fn a_caller_that_leaves_is_charged_what_was_streamed() {
    let (layer, left) = charged();
    let stream = service_fn(|request: Request<()>| async move {
        let charge = request.extensions().get::<Charge>().unwrap().clone();
        let mut frames = 0;
        let frames = futures_util::stream::repeat_with(move || {
            frames += 1;
            charge.set(frames);
            Ok::<_, Infallible>(http_body::Frame::data(Bytes::from("token")))
        });
        Ok::<_, Infallible>(Response::new(StreamBody::new(frames)))
    });
    let response = layer.layer(stream).oneshot(Request::new(())).await.unwrap();
    let mut body = response.into_body();
    for _ in 0..3 {
        body.frame().await.unwrap().unwrap();
    }
    assert_eq!(left(), 900);
    drop(body);
    assert_eq!(left(), 997);
}

#[tokio::test(start_paused = true)]
async fn it_is_settled_at_the_end_where_the_slot_comes_back_before() {
    let (layer, left) = charged();
    let layer = layer.release_at(ReleaseAt::Head);
    let handle = layer.handle();
    let service = layer.layer(answering(|charge| charge.set(10)));
    let response = service.oneshot(Request::new(())).await.unwrap();
    assert_eq!((handle.in_flight(), left()), (0, 900));
    drop(response);
    assert_eq!(left(), 990);
}

#[tokio::test(start_paused = true)]
async fn a_correction_after_the_end_counts_at_once() {
    let (layer, left) = charged();
    let (sender, mut charges) = tokio::sync::mpsc::unbounded_channel();
    let service = layer.layer(answering(move |charge| drop(sender.send(charge))));
    drop(service.oneshot(Request::new(())).await.unwrap());
    let charge = charges.recv().await.unwrap();
    charge.set(50);
    assert_eq!(left(), 950);
    charge.set(60);
    charge.set(60);
    assert_eq!((charge.get(), left()), (60, 940));
}

#[tokio::test(start_paused = true)]
async fn what_was_taken_for_a_call_that_never_began_is_given_back() {
    #[derive(Clone)]
    struct NeverReady;
    impl Service<Request<()>> for NeverReady {
        type Response = Response<Full<Bytes>>;
        type Error = Infallible;
        type Future = std::future::Pending<Result<Self::Response, Infallible>>;
        fn poll_ready(
            &mut self,
            _: &mut std::task::Context<'_>,
        ) -> std::task::Poll<Result<(), Infallible>> {
            std::task::Poll::Pending
        }
        fn call(&mut self, _: Request<()>) -> Self::Future {
            panic!("it was never ready")
        }
    }
    let (layer, left) = charged();
    let layer = layer.wait();
    let mut service = layer.layer(NeverReady);
    let mut call = Box::pin(service.call(Request::new(())));
    assert!(call.as_mut().now_or_never().is_none());
    assert_eq!(left(), 900);
    drop(call);
    assert_eq!(left(), 1000);
    assert_eq!(layer.handle().in_flight(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_panic_in_the_call_gives_nothing_back() {
    let (layer, left) = charged();
    let mut service = layer.layer(service_fn(
        |_: Request<()>| -> std::future::Ready<Result<Response<Full<Bytes>>, Infallible>> {
            panic!("in the call")
        },
    ));
    let call = std::panic::AssertUnwindSafe(|| drop(service.call(Request::new(()))));
    assert!(std::panic::catch_unwind(call).is_err());
    assert_eq!(left(), 900, "the work was begun");
    assert_eq!(layer.handle().in_flight(), 0);
}

#[tokio::test(start_paused = true)]
async fn the_plain_layer_reads_the_answer() {
    let rate = Arc::new(SlidingWindow::new(1000, SECOND));
    let layer = BackpressureLayer::rate(Arc::clone(&rate))
        .plain()
        .cost(|_: &u32| 100)
        .settle(|answer: &Result<u64, &str>| answer.ok());
    let service = layer.layer(service_fn(async |n: u32| match n {
        0 => Err("no answer, no number"),
        n => Ok(u64::from(n)),
    }));
    let left = || rate.quota(Duration::ZERO).remaining;
    assert!(service.clone().oneshot(30).await.is_ok());
    assert_eq!(left(), 970);
    assert!(service.clone().oneshot(0).await.is_err());
    assert_eq!(left(), 870);
}

#[tokio::test(start_paused = true)]
async fn a_refund_lets_in_who_waits_for_it() {
    let rate = TokenBucket::per_hour(1).burst(100);
    let layer = BackpressureLayer::rate(rate).wait().cost(|_| 100);
    let service = layer.layer(answering(|charge| charge.set(0)));
    let first = service.clone().oneshot(Request::new(())).await.unwrap();
    let mut second = Box::pin(service.oneshot(Request::new(())));
    assert!(second.as_mut().now_or_never().is_none());
    drop(first);
    let second = tokio::time::timeout(SECOND, second).await.unwrap();
    assert_eq!(second.unwrap().status(), 200);
}

#[tokio::test(start_paused = true)]
async fn a_request_that_asks_for_something_has_one_under_each_strategy_and_without_a_rate() {
    let layers = [
        BackpressureLayer::drop_newest(5),
        BackpressureLayer::drop_newest(5).max_waiting(5),
        BackpressureLayer::drop_oldest(5, 5),
        BackpressureLayer::block(5),
    ];
    for layer in layers {
        let said = format!("{layer:?}");
        let service = layer
            .cost(|_| 3)
            .layer(answering(|charge| assert_eq!(charge.reserved(), 3)));
        let response = service.oneshot(Request::new(())).await.unwrap();
        assert_eq!(response.status(), 200, "{said}");
    }
}

#[tokio::test(start_paused = true)]
async fn in_the_shadow_it_is_there_and_what_was_not_spent_is_not_settled() {
    for actual in [0, 5000] {
        let rate = Arc::new(TokenBucket::per_hour(1).burst(150));
        let layer = BackpressureLayer::rate(Arc::clone(&rate)).cost(|_| 100);
        let layer = layer.shadow();
        let first = layer.layer(answering(|charge| charge.set(100)));
        drop(first.oneshot(Request::new(())).await.unwrap());
        let left = || rate.quota(Duration::ZERO).remaining;
        assert_eq!(left(), 50);
        let second = layer.layer(answering(move |charge| charge.set(actual)));
        drop(second.oneshot(Request::new(())).await.unwrap());
        assert_eq!(left(), 50, "the second found too little, and used {actual}");
    }
}
