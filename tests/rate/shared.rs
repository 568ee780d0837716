//! A rate that other machines share, as far as the layer is concerned: the store is the test's.

use std::{
    collections::VecDeque,
    convert::Infallible,
    sync::{Arc, Mutex},
    time::Duration,
};

use bytes::Bytes;
use futures_util::FutureExt;
use http::{Request, Response, StatusCode};
use http_body_util::Full;
use tokio::sync::oneshot;
use tower::{Layer, ServiceExt, service_fn};
use tower_backpressure::{
    BackpressureLayer, Charge, Demand, Reason, Rejected,
    rate::{Deciding, Decision, Rate, Receipt, RemoteRate, Short, TokenBucket},
};

use crate::support::{MILLI, SECOND, ask, echo, get};

/// What was asked for, and how each receipt ended.
#[derive(Clone, Debug, Default)]
struct Store {
    answers: Arc<Mutex<VecDeque<Answer>>>,
    asked: Arc<Mutex<Vec<Demand>>>,
    corrections: Arc<Mutex<Vec<Option<u64>>>>,
}

#[derive(Debug)]
enum Answer {
    Admit,
    Short(Short),
    Unavailable,
    /// Decided when the test says so.
    Late(oneshot::Receiver<Answer>),
}

impl Store {
    fn answering(answers: impl IntoIterator<Item = Answer>) -> Self {
        let store = Self::default();
        store.answers.lock().unwrap().extend(answers);
        store
    }

    fn corrections(&self) -> Vec<Option<u64>> {
        self.corrections.lock().unwrap().clone()
    }

    fn decision(&self, answer: Answer) -> Decision {
        match answer {
            Answer::Admit => {
                let corrections = Arc::clone(&self.corrections);
                let correct = move |actual: Option<Demand>| {
                    let cost = actual.map(|demand| demand.cost());
                    corrections.lock().unwrap().push(cost);
                };
                Decision::Admitted {
                    receipt: Receipt::new(correct),
                    quota: None,
                }
            }
            Answer::Short(short) => Decision::Short { short, quota: None },
            Answer::Unavailable => Decision::Unavailable,
            Answer::Late(_) => panic!("late twice"),
        }
    }
}

impl RemoteRate for Store {
    fn spend(&self, demand: &Demand) -> Deciding {
        self.asked.lock().unwrap().push(*demand);
        let next = self.answers.lock().unwrap().pop_front();
        let store = self.clone();
        Box::pin(async move {
            let answer = match next.expect("it is not asked more often") {
                Answer::Late(answer) => answer.await.expect("the test answers"),
                answer => answer,
            };
            store.decision(answer)
        })
    }
}

/// A bucket of 10 beside the store.
fn beside(store: &Store) -> (BackpressureLayer, impl Fn() -> u64) {
    let rate = Arc::new(TokenBucket::per_hour(1).burst(10));
    let layer = BackpressureLayer::drop_newest(2)
        .and_rate(Arc::clone(&rate))
        .and_shared_rate(store.clone());
    (layer, move || rate.quota(Duration::ZERO).remaining)
}

#[tokio::test(start_paused = true)]
async fn refused_there_a_request_takes_nothing_here() {
    let store = Store::answering([
        Answer::Admit,
        Answer::Short(Short::Wait(1500 * MILLI)),
        Answer::Short(Short::Never { most: 7 }),
        Answer::Unavailable,
    ]);
    let (layer, left) = beside(&store);
    let handle = layer.handle();
    let service = echo(layer);
    assert!(ask(&service).await.is_ok());
    assert_eq!(left(), 9);
    let over = ask(&service).await.unwrap_err();
    assert_eq!(
        (over.reason(), over.retry_after()),
        (Reason::Rate, 1500 * MILLI)
    );
    let never = ask(&service).await.unwrap_err();
    assert!(never.is_final());
    let unavailable = ask(&service).await.unwrap_err();
    assert_eq!(unavailable.reason(), Reason::Unavailable);
    assert!(!unavailable.is_by_rate());
    assert_eq!((left(), handle.in_flight()), (9, 0));
    let seen = handle.snapshot();
    assert_eq!(
        (seen.produced_count, seen.dropped_count, seen.consumed_count),
        (4, 3, 1)
    );
    assert_eq!(store.corrections(), [], "what was admitted stays as it was");
}

/// What is here was reserved for it at that moment, and would take an hour to come again.
#[tokio::test(start_paused = true)]
async fn when_to_come_back_is_what_was_said_there() {
    let store = Store::answering([Answer::Short(Short::Wait(1500 * MILLI))]);
    let layer = BackpressureLayer::rate(TokenBucket::per_hour(1).burst(1));
    let over = ask(&echo(layer.and_shared_rate(store))).await.unwrap_err();
    assert_eq!(over.retry_after(), 1500 * MILLI);
}

#[tokio::test(start_paused = true)]
async fn refused_here_a_request_is_not_asked_for_there() {
    let store = Store::answering([]);
    let layer = BackpressureLayer::rate(TokenBucket::per_second(1))
        .and_shared_rate(store.clone())
        .cost(|_| 2);
    let refused = get(&layer, Request::new(())).await;
    assert_eq!(refused.status(), StatusCode::TOO_MANY_REQUESTS);
    assert!(store.asked.lock().unwrap().is_empty());
}

#[tokio::test(start_paused = true)]
async fn over_http_it_is_a_429_and_without_its_store_a_503() {
    let store = Store::answering([Answer::Short(Short::Wait(SECOND)), Answer::Unavailable]);
    let layer = BackpressureLayer::shared_rate(store);
    let over = get(&layer, Request::new(())).await;
    assert_eq!(over.status(), StatusCode::TOO_MANY_REQUESTS);
    assert_eq!(over.headers()["retry-after"], "1");
    let unavailable = get(&layer, Request::new(())).await;
    assert_eq!(unavailable.status(), StatusCode::SERVICE_UNAVAILABLE);
    assert!(unavailable.extensions().get::<Rejected>().is_some());
}

#[tokio::test(start_paused = true)]
async fn who_leaves_before_the_answer_takes_nothing_here() {
    let (late, answer) = oneshot::channel();
    let store = Store::answering([Answer::Late(answer)]);
    let (layer, left) = beside(&store);
    let handle = layer.handle();
    let service = echo(layer);
    let mut call = Box::pin(ask(&service));
    assert!(call.as_mut().now_or_never().is_none());
    assert_eq!((left(), handle.in_flight()), (9, 1));
    drop(call);
    assert_eq!((left(), handle.in_flight()), (10, 0));
    assert!(
        late.send(Answer::Admit).is_err(),
        "the question was dropped"
    );
}

#[tokio::test(start_paused = true)]
async fn it_is_settled_at_what_the_request_really_cost() {
    for (actual, correction) in [(7, vec![Some(7)]), (3, vec![])] {
        let store = Store::answering([Answer::Admit]);
        let layer = BackpressureLayer::shared_rate(store.clone()).cost(|_| 3);
        let service = layer.layer(service_fn(async |request: Request<()>| {
            let charge = request.extensions().get::<Charge>().unwrap();
            charge.set(actual);
            Ok::<_, Infallible>(Response::new(Full::<Bytes>::from("answer")))
        }));
        let response = service.oneshot(Request::new(())).await.unwrap();
        assert_eq!(*store.asked.lock().unwrap(), [Demand::of(3)]);
        assert_eq!(store.corrections(), []);
        drop(response);
        assert_eq!(store.corrections(), correction);
    }
}

#[tokio::test(start_paused = true)]
async fn a_call_that_never_began_is_given_back_there_as_well() {
    #[derive(Clone)]
    struct NeverReady;
    impl tower::Service<u32> for NeverReady {
        type Response = u32;
        type Error = Infallible;
        type Future = std::future::Pending<Result<u32, Infallible>>;
        fn poll_ready(
            &mut self,
            _: &mut std::task::Context<'_>,
        ) -> std::task::Poll<Result<(), Infallible>> {
            std::task::Poll::Pending
        }
        fn call(&mut self, _: u32) -> Self::Future {
            panic!("it was never ready")
        }
    }
    let store = Store::answering([Answer::Admit]);
    let layer = BackpressureLayer::shared_rate(store.clone()).plain();
    let mut call = Box::pin(layer.layer(NeverReady).oneshot(1));
    assert!(call.as_mut().now_or_never().is_none());
    drop(call);
    assert_eq!(store.corrections(), [None]);
    assert_eq!(layer.handle().in_flight(), 0);
}

#[tokio::test(start_paused = true)]
async fn in_the_shadow_who_is_refused_there_is_counted_and_let_in() {
    let store = Store::answering([Answer::Short(Short::Wait(SECOND))]);
    let layer = BackpressureLayer::shared_rate(store).shadow();
    let handle = layer.handle();
    let service = echo(layer);
    assert!(ask(&service).await.is_ok());
    let seen = handle.snapshot();
    assert_eq!((seen.produced_count, seen.dropped_count), (1, 1));
}

#[tokio::test(start_paused = true)]
async fn a_local_pace_comes_before_the_question() {
    let store = Store::answering([Answer::Admit, Answer::Admit]);
    let layer = BackpressureLayer::rate(TokenBucket::per_second(1))
        .wait()
        .and_shared_rate(store.clone());
    let service = echo(layer);
    assert!(ask(&service).await.is_ok());
    let mut second = Box::pin(ask(&service));
    assert!(second.as_mut().now_or_never().is_none());
    assert_eq!(store.asked.lock().unwrap().len(), 1);
    assert!(second.await.is_ok());
    assert_eq!(store.asked.lock().unwrap().len(), 2);
}

#[tokio::test(start_paused = true)]
async fn in_the_shadow_who_finds_no_slot_is_let_in_without_asking_elsewhere() {
    let store = Store::answering([Answer::Admit]);
    let layer = BackpressureLayer::drop_newest(1).and_shared_rate(store.clone());
    let layer = layer.shadow();
    let stays = service_fn(async |_: Request<()>| {
        std::future::pending::<Result<Response<Full<Bytes>>, Infallible>>().await
    });
    let mut first = Box::pin(layer.layer(stays).oneshot(Request::new(())));
    assert!(first.as_mut().now_or_never().is_none());
    assert_eq!(get(&layer, Request::new(())).await.status(), StatusCode::OK);
    assert_eq!(layer.handle().snapshot().dropped_count, 1);
    assert_eq!(store.asked.lock().unwrap().len(), 1);
    drop(first);
    assert_eq!(layer.handle().in_flight(), 0);
}
