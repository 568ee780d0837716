//! Who and what takes part in the model: the operations, the strategies, the service behind the gate.

use std::{
    cell::RefCell,
    collections::{BTreeMap, BTreeSet},
    future::Future,
    panic::resume_unwind,
    pin::Pin,
    rc::Rc,
    task::{Context, Poll},
    time::Duration,
};

use proptest::{
    prelude::{Just, any, prop_oneof},
    strategy::Strategy,
};
use tower::Service;
use tower_backpressure::{
    BackpressureLayer, Reason,
    limit::{Limit, Sample},
};

pub const MAX_WAIT: Duration = Duration::from_millis(4);

#[derive(Clone, Copy, Debug)]
pub enum Op {
    Come,
    /// The nth caller goes on, woken or not: it asks, calls, or looks for its answer.
    Poll(usize),
    Leave(usize),
    /// The nth call inside the service ends.
    Finish(usize, End),
    SetLimit(usize),
    Pass(u64),
    Drain,
}

#[derive(Clone, Copy, Debug)]
pub enum End {
    Ok,
    Err,
    Panic,
}

pub fn op() -> impl Strategy<Value = Op> {
    let end = prop_oneof![6 => Just(End::Ok), 1 => Just(End::Err), 1 => Just(End::Panic)];
    prop_oneof![
        12 => Just(Op::Come),
        24 => any::<usize>().prop_map(Op::Poll),
        4 => any::<usize>().prop_map(Op::Leave),
        12 => (any::<usize>(), end).prop_map(|(nth, end)| Op::Finish(nth, end)),
        2 => (1..5usize).prop_map(Op::SetLimit),
        4 => (0..3u64).prop_map(Op::Pass),
        1 => Just(Op::Drain),
    ]
}

/// What is done inside the service.
#[derive(Clone, Default)]
pub struct Inner(pub Rc<RefCell<Calls>>);

#[derive(Default)]
pub struct Calls {
    pub inside: BTreeSet<u32>,
    pub ended: BTreeMap<u32, End>,
    pub begun: Vec<u32>,
}

impl Service<u32> for Inner {
    type Response = u32;
    type Error = u32;
    type Future = Inside;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), u32>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, id: u32) -> Inside {
        let mut calls = self.0.borrow_mut();
        calls.begun.push(id);
        assert!(calls.inside.insert(id), "{id} was let in twice");
        Inside(id, self.clone())
    }
}

pub struct Inside(u32, Inner);

impl Future for Inside {
    type Output = Result<u32, u32>;

    /// It takes no waker: the model knows what it has let end.
    fn poll(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Self::Output> {
        let end = self.1.0.borrow().ended.get(&self.0).copied();
        match end {
            None => Poll::Pending,
            Some(End::Ok) => Poll::Ready(Ok(self.0)),
            Some(End::Err) => Poll::Ready(Err(self.0)),
            Some(End::Panic) => resume_unwind(Box::new("as planned")),
        }
    }
}

impl Drop for Inside {
    fn drop(&mut self) {
        self.1.0.borrow_mut().inside.remove(&self.0);
    }
}

/// Goes up by one with each sample, and then back to one.
pub struct Sweep(usize);

impl Limit for Sweep {
    fn limit(&self) -> usize {
        self.0
    }

    fn update(&mut self, _: &Sample) -> usize {
        self.0 = self.0 % 4 + 1;
        self.0
    }

    fn set_limit(&mut self, limit: usize) -> usize {
        self.0 = limit;
        limit
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Setup {
    pub strategy: &'static str,
    pub exempt: bool,
}

impl Setup {
    pub fn layer(self, limit: usize) -> BackpressureLayer {
        match self.strategy {
            "block" => BackpressureLayer::block(limit),
            "block, max_wait" => BackpressureLayer::block(limit).max_wait(MAX_WAIT),
            "block, max_waiting" => BackpressureLayer::block(limit).max_waiting(2),
            "drop_newest" => BackpressureLayer::drop_newest(limit),
            "drop_newest, waiting" => BackpressureLayer::drop_newest(limit).max_waiting(2),
            "drop_oldest" => BackpressureLayer::drop_oldest(limit, 2),
            "drop_oldest, max_wait" => BackpressureLayer::drop_oldest(limit, 2).max_wait(MAX_WAIT),
            "adaptive" => BackpressureLayer::adaptive(Sweep(limit)).max_waiting(3),
            "shadow" => BackpressureLayer::drop_newest(limit).shadow(),
            other => panic!("no such strategy: {other}"),
        }
    }

    pub fn parks(self) -> bool {
        self.strategy.starts_with("block") && !self.exempt
    }

    pub fn may_refuse(self, reason: Reason) -> bool {
        let Self { strategy, .. } = self;
        match reason {
            Reason::Limit => strategy == "drop_newest",
            Reason::QueueFull => {
                matches!(
                    strategy,
                    "block, max_waiting" | "drop_newest, waiting" | "adaptive"
                )
            }
            Reason::Evicted => strategy.starts_with("drop_oldest"),
            Reason::MaxWait => strategy.ends_with("max_wait"),
            _ => false,
        }
    }
}

pub fn setup() -> impl Strategy<Value = Setup> {
    let strategy = prop_oneof![
        Just("block"),
        Just("block, max_wait"),
        Just("block, max_waiting"),
        Just("drop_newest"),
        Just("drop_newest, waiting"),
        Just("drop_oldest"),
        Just("drop_oldest, max_wait"),
        Just("adaptive"),
        Just("shadow"),
    ];
    (strategy, any::<bool>()).prop_map(|(strategy, exempt)| Setup { strategy, exempt })
}

/// Every eighth is exempt, if anybody is.
pub fn is_exempt(id: &u32) -> bool {
    id % 8 == 7
}
