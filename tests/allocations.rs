//! What a call through the layer allocates: nothing.

use std::{
    convert::Infallible,
    future::{Future, Ready, pending, ready},
    pin::pin,
    task::{Context, Poll, Waker},
};

use tower::{Layer, Service, service_fn};
use tower_backpressure::{
    BackpressureLayer,
    limit::{Aimd, Fixed},
    rate::TokenBucket,
};

fn allocations(f: impl FnOnce()) -> u64 {
    allocation_counter::measure(f).count_total
}

/// One call as axum makes it: clone, ready, call, poll to the end.
fn call<S>(service: &S) -> Poll<Result<S::Response, S::Error>>
where
    S: Service<u32> + Clone,
{
    let cx = &mut Context::from_waker(Waker::noop());
    let mut service = service.clone();
    assert!(service.poll_ready(cx).is_ready());
    pin!(service.call(1)).poll(cx)
}

fn layers() -> Vec<(&'static str, BackpressureLayer)> {
    vec![
        ("block", BackpressureLayer::block(1)),
        ("drop_newest", BackpressureLayer::drop_newest(1)),
        ("drop_oldest", BackpressureLayer::drop_oldest(1, 1)),
        (
            "adaptive",
            BackpressureLayer::adaptive(Aimd::default().max(10)),
        ),
        ("fixed", BackpressureLayer::adaptive(Fixed::new(1))),
    ]
}

fn rates() -> Vec<(&'static str, BackpressureLayer)> {
    let bucket = || TokenBucket::per_hour(1).burst(2000);
    vec![
        ("rate", BackpressureLayer::rate(bucket())),
        ("rate, paced", BackpressureLayer::rate(bucket()).wait()),
        (
            "a limit and two rates",
            BackpressureLayer::drop_newest(1)
                .and_rate(bucket())
                .and_rate(TokenBucket::per_second(1_000_000)),
        ),
    ]
}

#[test]
fn the_counter_counts() {
    assert_eq!(allocations(|| drop(std::hint::black_box(Box::new(1)))), 1);
}

#[test]
fn an_admitted_call_allocates_nothing() {
    let answer = |n: u32| -> Ready<Result<u32, Infallible>> { ready(Ok(n)) };
    for (name, layer) in layers().into_iter().chain(rates()) {
        let service = layer.plain().layer(service_fn(answer));
        // The first call takes the metric handles.
        assert!(call(&service).is_ready());
        let count = allocations(|| {
            for _ in 0..1000 {
                assert!(matches!(call(&service), Poll::Ready(Ok(1))));
            }
        });
        assert_eq!(count, 0, "{name}");
    }
}

#[test]
fn a_refusal_allocates_nothing() {
    for (name, layer) in layers() {
        if name == "drop_oldest" {
            // It refuses only those who wait.
            continue;
        }
        let layer = layer.max_waiting(0).plain();
        let service = layer.layer(service_fn(|_: u32| pending::<Result<u32, Infallible>>()));
        let cx = &mut Context::from_waker(Waker::noop());
        let running: Vec<_> = (0..layer.handle().limit())
            .map(|_| {
                let mut service = service.clone();
                assert!(service.poll_ready(cx).is_ready());
                service.call(1)
            })
            .collect();
        assert!(matches!(call(&service), Poll::Ready(Err(_))));
        let count = allocations(|| {
            for _ in 0..1000 {
                assert!(matches!(call(&service), Poll::Ready(Err(_))), "{name}");
            }
        });
        assert_eq!(count, 0, "{name}");
        drop(running);
    }
}

#[test]
fn a_refusal_by_a_rate_allocates_nothing() {
    let answer = |n: u32| -> Ready<Result<u32, Infallible>> { ready(Ok(n)) };
    let bucket = || TokenBucket::per_hour(1).burst(1);
    for layer in [
        BackpressureLayer::rate(bucket()),
        BackpressureLayer::drop_newest(1).and_rate(bucket()),
    ] {
        let service = layer.plain().layer(service_fn(answer));
        assert!(matches!(call(&service), Poll::Ready(Ok(1))));
        assert!(matches!(call(&service), Poll::Ready(Err(_))));
        let count = allocations(|| {
            for _ in 0..1000 {
                assert!(matches!(call(&service), Poll::Ready(Err(_))));
            }
        });
        assert_eq!(count, 0);
    }
}
