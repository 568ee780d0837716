//! `Work` panics unless it was readied on that very instance; here it stands behind every strategy, with callers that do
//! all they may: clone, ready twice, ready and never call.

use tower::{Layer, Service, ServiceExt};
use tower_backpressure::{
    BackpressureLayer,
    limit::{Aimd, Fixed},
    rate::TokenBucket,
};

use crate::support::Work;

fn strategies() -> Vec<(&'static str, BackpressureLayer)> {
    vec![
        ("block", BackpressureLayer::block(2)),
        ("drop_newest", BackpressureLayer::drop_newest(2)),
        (
            "drop_newest, waiting",
            BackpressureLayer::drop_newest(2).max_waiting(2),
        ),
        ("drop_oldest", BackpressureLayer::drop_oldest(2, 2)),
        ("adaptive", BackpressureLayer::adaptive(Aimd::default())),
        ("fixed", BackpressureLayer::adaptive(Fixed::new(2))),
        ("block, shadow", BackpressureLayer::block(2).shadow()),
        (
            "drop_newest, shadow",
            BackpressureLayer::drop_newest(2).shadow(),
        ),
        (
            "drop_oldest, shadow",
            BackpressureLayer::drop_oldest(2, 2).shadow(),
        ),
        (
            "rate",
            BackpressureLayer::rate(TokenBucket::per_second(1000)),
        ),
        (
            "rate, paced",
            BackpressureLayer::rate(TokenBucket::per_second(1000)).wait(),
        ),
        (
            "block and a rate",
            BackpressureLayer::block(2).and_rate(TokenBucket::per_second(1000)),
        ),
        (
            "block, refusing",
            BackpressureLayer::block(2).max_waiting(0),
        ),
    ]
}

#[tokio::test]
async fn the_inner_service_is_readied_before_each_call_under_every_strategy() {
    for (name, layer) in strategies() {
        let work = Work::default();
        work.finish(1000);
        let layer = layer.plain();
        let mut service = layer.layer(work.clone());
        for n in 0..10 {
            service.ready().await.unwrap();
            let abandoned = service.clone();
            service.ready().await.unwrap();
            assert_eq!(service.call(n).await.unwrap(), n, "{name}");
            let mut readied = abandoned.clone();
            readied.ready().await.unwrap();
            drop(readied);
        }
        let handle = layer.handle();
        assert_eq!((handle.in_flight(), handle.waiting()), (0, 0), "{name}");
        assert_eq!(work.calls(), 10, "{name}");
    }
}

#[tokio::test]
async fn the_exempt_find_a_readied_service_too() {
    for (name, layer) in strategies() {
        let work = Work::default();
        work.finish(10);
        let layer = layer.plain().exempt(|n: &u32| n % 2 == 0);
        let mut service = layer.layer(work.clone());
        for n in 0..10 {
            assert_eq!(
                service.ready().await.unwrap().call(n).await.unwrap(),
                n,
                "{name}"
            );
        }
        assert_eq!(layer.handle().in_flight(), 0, "{name}");
    }
}

#[tokio::test]
async fn an_inner_service_that_is_never_ready_holds_no_slot_of_a_waiting_call() {
    #[derive(Clone)]
    struct Never;
    impl Service<u32> for Never {
        type Response = ();
        type Error = std::io::Error;
        type Future = std::future::Ready<Result<(), std::io::Error>>;
        fn poll_ready(
            &mut self,
            _: &mut std::task::Context<'_>,
        ) -> std::task::Poll<Result<(), std::io::Error>> {
            std::task::Poll::Ready(Err(std::io::Error::other("broken")))
        }
        fn call(&mut self, _: u32) -> Self::Future {
            unreachable!("never ready")
        }
    }
    for (name, layer) in strategies() {
        let layer = layer.plain();
        let mut service = layer.layer(Never);
        assert!(service.clone().oneshot(7).await.is_err(), "{name}");
        // Kept, as a pool may do: what it held for its next call is held no longer.
        let _ = service.ready().await;
        assert_eq!(layer.handle().in_flight(), 0, "{name}");
    }
}

#[tokio::test]
async fn the_inner_service_is_readied_over_http_too() {
    use http::{Request, Response};
    use http_body_util::Empty;

    /// `Work` as an HTTP service.
    #[derive(Clone)]
    struct Http(Work);

    impl Service<Request<()>> for Http {
        type Response = Response<Empty<bytes::Bytes>>;
        type Error = std::convert::Infallible;
        type Future = futures_util::future::BoxFuture<'static, Result<Self::Response, Self::Error>>;

        fn poll_ready(
            &mut self,
            cx: &mut std::task::Context<'_>,
        ) -> std::task::Poll<Result<(), Self::Error>> {
            self.0.poll_ready(cx)
        }

        fn call(&mut self, _: Request<()>) -> Self::Future {
            let work = self.0.call(7);
            Box::pin(async { work.await.map(|_| Response::new(Empty::new())) })
        }
    }

    for exempts in [false, true] {
        for (name, layer) in strategies() {
            let work = Work::default();
            work.finish(10);
            let layer = match exempts {
                true => layer.exempt(|head| head.uri.path() == "/exempt"),
                false => layer,
            };
            let mut service = layer.layer(Http(work));
            for path in ["/", "/exempt", "/", "/exempt"] {
                let request = Request::get(path).body(()).unwrap();
                let response = service.ready().await.unwrap().call(request).await.unwrap();
                assert_eq!(response.status(), 200, "{name}");
            }
            assert_eq!(layer.handle().in_flight(), 0, "{name}");
        }
    }
}
