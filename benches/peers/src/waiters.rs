//! Many who wait for one slot: what it costs each to join, to leave, to be pushed out, to wait too long, to be served.
//!
//! Every waiter lives in a box of its own, ours and theirs, as the future of a request does in its task.

use std::{
    any::Any,
    fmt,
    future::Future,
    pin::Pin,
    task::{Context, Poll, Waker},
    time::{Duration, Instant},
};

use tower::{Layer, Service, limit::GlobalConcurrencyLimitLayer};
use tower_backpressure::BackpressureLayer;

use crate::calls::{Ask, Constant, hold};

/// What happens to a waiter.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Event {
    /// It comes and waits.
    Join,
    /// It leaves; it was the one that had waited longest.
    LeaveFront,
    /// It leaves from anywhere.
    LeaveMiddle,
    /// One more joins, and it is refused.
    Evict,
    /// Its time is over.
    Expire,
    /// The slot is passed on to it, and it is answered.
    Serve,
}

impl Event {
    /// In the order of the table.
    pub const ALL: [Self; 6] = [
        Self::Join,
        Self::LeaveFront,
        Self::LeaveMiddle,
        Self::Evict,
        Self::Expire,
        Self::Serve,
    ];

    /// The heading.
    pub fn title(self) -> &'static str {
        match self {
            Self::Join => "join",
            Self::LeaveFront => "leave, front",
            Self::LeaveMiddle => "leave, middle",
            Self::Evict => "join + evict",
            Self::Expire => "expire",
            Self::Serve => "be served",
        }
    }
}

/// A limit of one, held, and a queue before it.
pub struct Queue {
    /// What the table calls it.
    pub name: &'static str,
    /// How large the future, or the service, of a waiter is.
    pub inline_bytes: usize,
    cost: Box<Cost>,
    fill: Box<dyn Fn(usize) -> Box<dyn Any>>,
}

type Cost = dyn Fn(Event, usize) -> Option<Duration>;

impl Queue {
    /// How long `event` takes for all of `waiters` together; `None` where it cannot happen.
    pub fn cost(&self, event: Event, waiters: usize) -> Option<Duration> {
        (self.cost)(event, waiters)
    }

    /// Lets so many wait for as long as the result is kept.
    pub fn fill(&self, waiters: usize) -> Box<dyn Any> {
        (self.fill)(waiters)
    }
}

impl fmt::Debug for Queue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Queue")
            .field("name", &self.name)
            .finish_non_exhaustive()
    }
}

/// In the order of the table.
pub fn queues() -> Vec<Queue> {
    vec![
        in_call("drop_oldest", true, |waiting, max_wait| {
            let layer = BackpressureLayer::drop_oldest(1, waiting);
            with(layer, max_wait).plain().layer(Constant)
        }),
        parked("block", true, |waiting, max_wait| {
            let layer = BackpressureLayer::block(1).max_waiting(waiting);
            with(layer, max_wait).plain().layer(Constant)
        }),
        parked("tower GlobalConcurrencyLimit", false, |_, _| {
            GlobalConcurrencyLimitLayer::new(1).layer(Constant)
        }),
    ]
}

fn with(layer: BackpressureLayer, max_wait: Option<Duration>) -> BackpressureLayer {
    match max_wait {
        Some(max_wait) => layer.max_wait(max_wait),
        None => layer,
    }
}

/// How waiting is done.
trait Wait {
    type Waiter: 'static;
    fn join(&self, cx: &mut Context<'_>) -> Self::Waiter;
    /// Whether it was let in; its slot is free again after that.
    fn answer(waiter: &mut Self::Waiter, cx: &mut Context<'_>) -> Poll<bool>;
}

/// In the call.
struct InCall<S>(S);

impl<S: Service<Ask, Future: 'static> + Clone> Wait for InCall<S> {
    type Waiter = Pin<Box<S::Future>>;

    fn join(&self, cx: &mut Context<'_>) -> Self::Waiter {
        let mut service = self.0.clone();
        assert!(service.poll_ready(cx).is_ready(), "waiting is in the call");
        let mut waiter = Box::pin(service.call(Ask::Answer));
        assert!(waiter.as_mut().poll(cx).is_pending(), "it has to wait");
        waiter
    }

    fn answer(waiter: &mut Self::Waiter, cx: &mut Context<'_>) -> Poll<bool> {
        waiter.as_mut().poll(cx).map(|answer| answer.is_ok())
    }
}

/// In `poll_ready`.
struct Parked<S>(S);

impl<S: Service<Ask> + Clone + 'static> Wait for Parked<S> {
    type Waiter = Box<S>;

    fn join(&self, cx: &mut Context<'_>) -> Box<S> {
        let mut waiter = Box::new(self.0.clone());
        assert!(waiter.poll_ready(cx).is_pending(), "it has to wait");
        waiter
    }

    fn answer(waiter: &mut Box<S>, cx: &mut Context<'_>) -> Poll<bool> {
        if waiter.poll_ready(cx).is_pending() {
            return Poll::Pending;
        }
        let answer = std::pin::pin!(waiter.call(Ask::Answer)).poll(cx);
        answer.map(|answer| answer.is_ok())
    }
}

fn in_call<S>(name: &'static str, expires: bool, make: fn(usize, Option<Duration>) -> S) -> Queue
where
    S: Service<Ask, Future: 'static> + Clone + 'static,
{
    queue(name, size_of::<S::Future>(), expires, true, make, InCall)
}

fn parked<S>(name: &'static str, expires: bool, make: fn(usize, Option<Duration>) -> S) -> Queue
where
    S: Service<Ask, Future: 'static> + Clone + 'static,
{
    queue(name, size_of::<S>(), expires, false, make, Parked)
}

fn queue<S, W>(
    name: &'static str,
    inline_bytes: usize,
    expires: bool,
    evicts: bool,
    make: fn(usize, Option<Duration>) -> S,
    wait: fn(S) -> W,
) -> Queue
where
    S: Service<Ask, Future: 'static> + Clone + 'static,
    W: Wait + 'static,
{
    let cost = move |event, waiters| {
        let inside = async move || {
            let max_wait = (event == Event::Expire).then_some(MAX_WAIT);
            let service = make(waiters, max_wait);
            let held = hold(&service, 1);
            let queue = wait(service);
            match event {
                Event::Evict if !evicts => None,
                Event::Expire if !expires => None,
                Event::Expire => Some(expire(&queue, waiters).await),
                _ => Some(cost(event, &queue, held, waiters)),
            }
        };
        // Nothing here gives way to anybody.
        runtime().block_on(tokio::task::unconstrained(inside()))
    };
    let fill = move |waiters| -> Box<dyn Any> {
        let service = make(waiters, None);
        let held = hold(&service, 1);
        Box::new((join(&wait(service), waiters), held))
    };
    Queue {
        name,
        inline_bytes,
        cost: Box::new(cost),
        fill: Box::new(fill),
    }
}

const MAX_WAIT: Duration = Duration::from_secs(1);

fn join<W: Wait>(queue: &W, waiters: usize) -> Vec<W::Waiter> {
    let cx = &mut Context::from_waker(Waker::noop());
    let mut line = Vec::with_capacity(waiters);
    for _ in 0..waiters {
        line.push(queue.join(cx));
    }
    line
}

#[allow(clippy::disallowed_methods, reason = "real time is what is measured")]
fn cost<W: Wait, H>(event: Event, queue: &W, held: H, waiters: usize) -> Duration {
    let cx = &mut Context::from_waker(Waker::noop());
    if event == Event::Join {
        let begin = Instant::now();
        let line = join(queue, waiters);
        let took = begin.elapsed();
        drop(line);
        return took;
    }
    let mut line = join(queue, waiters);
    let mut order: Vec<_> = (0..waiters).collect();
    if event == Event::LeaveMiddle {
        // All over the line, and each once: the step has no divisor in common with a power of ten.
        let step = waiters / 2 + 1;
        let step = step + usize::from(step % 2 == 0);
        order
            .iter_mut()
            .for_each(|place| *place = *place * step % waiters);
    }
    let mut leaving: Vec<_> = line.drain(..).map(Some).collect();
    let mut more = Vec::with_capacity(waiters);
    let begin = Instant::now();
    match event {
        Event::Serve => {
            drop(held);
            for waiter in leaving.iter_mut().flatten() {
                assert_eq!(
                    W::answer(waiter, cx),
                    Poll::Ready(true),
                    "its turn has come"
                );
            }
        }
        Event::Evict => {
            for place in order {
                more.push(queue.join(cx));
                let mut evicted = leaving[place].take().expect("each is evicted once");
                let answer = W::answer(&mut evicted, cx);
                assert_eq!(answer, Poll::Ready(false), "it has waited longest");
            }
        }
        _ => {
            for place in order {
                assert!(leaving[place].take().is_some(), "each leaves once");
            }
        }
    }
    begin.elapsed()
}

/// With a clock that stands until it is moved.
fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .expect("a runtime without I/O")
}

#[allow(clippy::disallowed_methods, reason = "real time is what is measured")]
async fn expire<W: Wait>(queue: &W, waiters: usize) -> Duration {
    let mut line = join(queue, waiters);
    let cx = &mut Context::from_waker(Waker::noop());
    let begin = Instant::now();
    tokio::time::advance(2 * MAX_WAIT).await;
    for waiter in &mut line {
        assert_eq!(
            W::answer(waiter, cx),
            Poll::Ready(false),
            "its time is over"
        );
    }
    begin.elapsed()
}
