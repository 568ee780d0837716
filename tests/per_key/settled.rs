//! What was taken for a request at its key's gate and at the ceiling.

use std::{
    convert::Infallible,
    future::Ready,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body_util::Full;
use tower::{Layer, Service, ServiceExt, service_fn};
use tower_backpressure::{
    BackpressureLayer, Charge, Demand,
    rate::{Deciding, Decision, Rate, Receipt, RemoteRate, TokenBucket},
};

use crate::{key, status, stays};

/// Admits everybody, and counts what is given back.
#[derive(Clone, Debug, Default)]
struct Elsewhere(Arc<AtomicUsize>);

impl RemoteRate for Elsewhere {
    fn spend(&self, _: &Demand) -> Deciding {
        let given_back = Arc::clone(&self.0);
        let receipt = Receipt::new(move |actual| {
            if actual.is_none() {
                given_back.fetch_add(1, Ordering::SeqCst);
            }
        });
        let quota = None;
        Box::pin(std::future::ready(Decision::Admitted { receipt, quota }))
    }
}

#[tokio::test(start_paused = true)]
async fn refused_by_the_ceiling_a_request_is_given_back_elsewhere_too() {
    let elsewhere = Elsewhere::default();
    let rate = elsewhere.clone();
    let layer = BackpressureLayer::drop_newest(1).per_key(key, move |_: &String| {
        BackpressureLayer::shared_rate(rate.clone())
    });
    let (running, is_in) = stays(&layer, "/a");
    assert!(is_in);
    assert_eq!(layer.handle().in_flight(), 1);
    let refused = status(&layer, "/b").await;
    assert_eq!(refused, StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(elsewhere.0.load(Ordering::SeqCst), 1);
    drop(running);
    assert_eq!(layer.handle().in_flight(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_charge_is_settled_with_the_key_and_with_the_ceiling() {
    let all = Arc::new(TokenBucket::per_hour(1).burst(1000));
    let one = Arc::new(TokenBucket::per_hour(1).burst(1000));
    let rate = Arc::clone(&one);
    let layer = BackpressureLayer::rate(Arc::clone(&all))
        .cost(|_| 100)
        .per_key(key, move |_: &String| {
            BackpressureLayer::rate(Arc::clone(&rate))
        });
    let service = layer.layer(service_fn(async |request: Request<()>| {
        request.extensions().get::<Charge>().unwrap().set(250);
        Ok::<_, Infallible>(Response::new(Full::<Bytes>::from("answer")))
    }));
    let left = || [&all, &one].map(|rate| rate.quota(Duration::ZERO).remaining);
    let response = service.oneshot(Request::new(())).await.unwrap();
    assert_eq!(left(), [900, 900]);
    drop(response);
    assert_eq!(left(), [750, 750]);
}

#[tokio::test(start_paused = true)]
async fn a_call_that_panics_is_settled_with_both_as_it_said() {
    let [all, one] = [(); 2].map(|()| Arc::new(TokenBucket::per_hour(1).burst(1000)));
    let rate = Arc::clone(&one);
    let layer = BackpressureLayer::rate(Arc::clone(&all))
        .cost(|_| 100)
        .per_key(key, move |_: &String| {
            BackpressureLayer::rate(Arc::clone(&rate))
        });
    let mut service = layer.layer(service_fn(
        |request: Request<()>| -> Ready<Result<Response<Full<Bytes>>, Infallible>> {
            request.extensions().get::<Charge>().unwrap().set(250);
            panic!("of the service");
        },
    ));
    let call = || drop(service.call(Request::new(())));
    catch_unwind(AssertUnwindSafe(call)).unwrap_err();
    let left = [all, one].map(|rate| rate.quota(Duration::ZERO).remaining);
    assert_eq!(left, [750, 750]);
    let handle = layer.handle();
    let of_key = handle.key(&"/".to_owned()).unwrap();
    assert_eq!((handle.in_flight(), of_key.in_flight()), (0, 0));
}
