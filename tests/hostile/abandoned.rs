//! Ten thousand requests begun and left, in every state that a request can be in, without a server around them: what is
//! counted and what is kept of them is nothing.

use std::{
    convert::Infallible,
    future::Future,
    pin::Pin,
    task::{Context, Poll, Waker},
    time::Duration,
};

use allocation_counter::measure;
use bytes::Bytes;
use http::{Request, Response};
use http_body::{Body, Frame};
use tokio::runtime::{Builder, Runtime};
use tower::{Layer, Service, service_fn};
use tower_backpressure::{BackpressureLayer, Handle, limit::Aimd};

use super::support::{call, hang, now};

const CROWD: usize = 10_000;

/// In which order they leave.
#[derive(Clone, Copy, Debug)]
enum Order {
    FirstComeFirst,
    LastComeFirst,
    Mixed,
}

const ORDERS: [Order; 3] = [Order::FirstComeFirst, Order::LastComeFirst, Order::Mixed];

impl Order {
    fn leave<T>(self, crowd: Vec<T>) {
        let mut crowd: Vec<_> = crowd.into_iter().map(Some).collect();
        for n in 0..crowd.len() {
            let who = match self {
                Order::FirstComeFirst => n,
                Order::LastComeFirst => crowd.len() - 1 - n,
                // 7919 is a prime that does not divide the crowd.
                Order::Mixed => n * 7919 % crowd.len(),
            };
            drop(crowd[who].take().expect("each leaves once"));
        }
    }
}

fn assert_calm(handle: &Handle, came: usize) {
    let metrics = handle.snapshot();
    assert_eq!(
        (handle.in_flight(), handle.waiting()),
        (0, 0),
        "{metrics:?}"
    );
    assert_eq!(metrics.current_depth, 0);
    assert_eq!(metrics.produced_count, came as u64, "{metrics:?}");
}

/// Waiting is done with a runtime at hand or without: with one, a task of the gate's looks after the queue.
fn runtime() -> Runtime {
    Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .unwrap()
}

/// What is left of a crowd that came and went, in bytes, once the first crowd has made room for the second.
fn left_behind(mut come_and_go: impl FnMut()) -> i64 {
    come_and_go();
    measure(come_and_go).bytes_current
}

/// Polls a future that is not to answer yet.
fn begin<F: Future>(mut future: Pin<Box<F>>) -> Pin<Box<F>> {
    let cx = &mut Context::from_waker(Waker::noop());
    assert!(future.as_mut().poll(cx).is_pending());
    future
}

/// Calls that have begun and have no answer yet.
fn crowd_of<S: Service<Request<()>>>(service: &mut S) -> Vec<Pin<Box<S::Future>>> {
    Vec::from_iter((0..CROWD).map(|_| begin(Box::pin(call(service, Request::new(()))))))
}

#[test]
fn a_crowd_that_waits_in_its_calls_and_leaves_is_forgotten() {
    let layers: [fn() -> BackpressureLayer; 3] = [
        || BackpressureLayer::drop_oldest(1, CROWD),
        || BackpressureLayer::drop_newest(1).max_waiting(CROWD),
        || {
            BackpressureLayer::block(1)
                .max_waiting(CROWD)
                .exempt(|_| false)
        },
    ];
    for layer in layers {
        for order in ORDERS {
            let layer = layer();
            let handle = layer.handle();
            let mut service = layer.layer(hang());
            let running = Box::pin(call(&mut service, Request::new(())));
            let left = runtime().block_on(async {
                left_behind(|| {
                    let crowd = crowd_of(&mut service);
                    assert_eq!((handle.in_flight(), handle.waiting()), (1, CROWD));
                    order.leave(crowd);
                })
            });
            assert_eq!(left, 0, "{order:?}");
            drop(running);
            assert_calm(&handle, 2 * CROWD + 1);
        }
    }
}

#[test]
fn a_crowd_parked_before_its_calls_and_dropped_is_forgotten() {
    for order in ORDERS {
        let layer = BackpressureLayer::block(1).max_waiting(CROWD);
        let handle = layer.handle();
        let service = layer.layer(hang());
        let running = Box::pin(call(&mut service.clone(), Request::new(())));
        let left = runtime().block_on(async {
            left_behind(|| {
                let cx = &mut Context::from_waker(Waker::noop());
                let mut crowd = vec![service.clone(); CROWD];
                for instance in &mut crowd {
                    assert!(instance.poll_ready(cx).is_pending());
                }
                assert_eq!((handle.in_flight(), handle.waiting()), (1, CROWD));
                order.leave(crowd);
            })
        });
        assert_eq!(left, 0, "{order:?}");
        drop(running);
        assert_calm(&handle, 2 * CROWD + 1);
    }
}

#[test]
fn a_crowd_that_waits_without_a_runtime_is_forgotten_as_well() {
    let layer = BackpressureLayer::block(1).max_waiting(CROWD);
    let handle = layer.handle();
    let service = layer.layer(hang());
    let running = Box::pin(call(&mut service.clone(), Request::new(())));
    let left = left_behind(|| {
        let cx = &mut Context::from_waker(Waker::noop());
        let mut crowd = vec![service.clone(); CROWD];
        for instance in &mut crowd {
            assert!(instance.poll_ready(cx).is_pending());
        }
        Order::Mixed.leave(crowd);
    });
    assert_eq!(left, 0);
    drop(running);
    assert_calm(&handle, 2 * CROWD + 1);
}

#[test]
fn a_crowd_that_runs_and_is_dropped_gives_every_slot_back() {
    let layers: [fn() -> BackpressureLayer; 3] = [
        || BackpressureLayer::drop_newest(CROWD),
        || BackpressureLayer::block(CROWD),
        || BackpressureLayer::adaptive(Aimd::default().initial(CROWD)),
    ];
    for layer in layers {
        for order in ORDERS {
            let layer = layer();
            let handle = layer.handle();
            let mut service = layer.layer(hang());
            let mut go = || {
                handle.set_limit(CROWD);
                let crowd = crowd_of(&mut service);
                assert_eq!(handle.in_flight(), CROWD);
                order.leave(crowd);
            };
            assert_eq!(left_behind(&mut go), 0, "{order:?}");
            assert_calm(&handle, 2 * CROWD);
        }
    }
}

/// One frame, and then nothing.
struct OneFrame(bool);

impl Body for OneFrame {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        match std::mem::replace(&mut self.0, true) {
            false => Some(Ok(Frame::data(Bytes::from_static(b"frame")))).into(),
            true => Poll::Pending,
        }
    }
}

#[test]
fn a_crowd_that_reads_streams_and_hangs_up_gives_every_slot_back() {
    for order in ORDERS {
        let layer = BackpressureLayer::drop_newest(CROWD);
        let handle = layer.handle();
        let stream = |_: Request<()>| {
            std::future::ready(Ok::<_, Infallible>(Response::new(OneFrame(false))))
        };
        let mut service = layer.layer(service_fn(stream));
        let cx = &mut Context::from_waker(Waker::noop());
        let mut go = || {
            let crowd = Vec::from_iter((0..CROWD).map(|n| {
                let response = now(call(&mut service, Request::new(()))).unwrap();
                let mut body = Box::pin(response.into_body());
                // Half of them leave before the first frame.
                if n % 2 == 0 {
                    assert!(body.as_mut().poll_frame(cx).is_ready());
                    assert!(body.as_mut().poll_frame(cx).is_pending());
                }
                body
            }));
            assert_eq!(handle.in_flight(), CROWD);
            order.leave(crowd);
        };
        assert_eq!(left_behind(&mut go), 0, "{order:?}");
        assert_calm(&handle, 2 * CROWD);
    }
}

#[test]
fn a_crowd_that_is_refused_or_evicted_and_never_looks_is_forgotten() {
    let layer = BackpressureLayer::drop_oldest(1, 10);
    let handle = layer.handle();
    let mut service = layer.layer(hang());
    let running = Box::pin(call(&mut service, Request::new(())));
    let left = runtime().block_on(async {
        left_behind(|| {
            let crowd = crowd_of(&mut service);
            assert_eq!((handle.in_flight(), handle.waiting()), (1, 10));
            Order::Mixed.leave(crowd);
        })
    });
    assert_eq!(left, 0);
    drop(running);
    assert_calm(&handle, 2 * CROWD + 1);
}

/// The figure that `SECURITY.md` and `max_waiting` give.
#[test]
fn a_waiting_request_costs_the_gate_less_than_256_bytes() {
    for max_wait in [None, Some(Duration::from_secs(1))] {
        let mut layer = BackpressureLayer::drop_oldest(1, CROWD);
        if let Some(max_wait) = max_wait {
            layer = layer.max_wait(max_wait);
        }
        let mut service = layer.layer(hang());
        let _running = Box::pin(call(&mut service, Request::new(())));
        // The places of the futures themselves are made before.
        let mut crowd = Vec::with_capacity(CROWD);
        let queue = measure(|| {
            for _ in 0..CROWD {
                crowd.push(call(&mut service, Request::new(())));
            }
        });
        let each = queue.bytes_current / CROWD as i64;
        println!("a place in the queue: {each} bytes with max_wait {max_wait:?}");
        assert!((1..256).contains(&each), "{each}");
    }
}
