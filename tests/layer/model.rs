//! Random callers at a real gate, polled by hand, and after every step what must always hold.

mod cast;

use std::{
    collections::BTreeMap,
    future::Future,
    panic::{AssertUnwindSafe, catch_unwind},
    pin::Pin,
    sync::{Arc, Mutex},
    task::{Context, Poll, Wake, Waker},
    time::Duration,
};

use futures_util::FutureExt;
use proptest::{
    prelude::{ProptestConfig, proptest},
    test_runner::RngSeed,
};
use tower::{Layer, Service};
use tower_backpressure::{Error, Handle, Reason};

use self::cast::{Calls, End, Inner, MAX_WAIT, Op, Setup, is_exempt, op, setup};
use crate::support::settle;

type Answer = Pin<Box<dyn Future<Output = Result<u32, Error<u32>>>>>;

enum Stage<S> {
    Asking(S),
    Ready(S),
    Called(Answer),
}

struct Caller<S> {
    stage: Stage<S>,
    flag: Arc<Flag>,
    /// It was told to wait, and has not been woken since.
    asleep: bool,
    /// It was told to wait at least once.
    waited: bool,
}

struct Flag {
    id: u32,
    /// Everybody who was woken, in order.
    woken: Arc<Mutex<Vec<u32>>>,
}

impl Wake for Flag {
    fn wake(self: Arc<Self>) {
        self.woken.lock().unwrap().push(self.id);
    }
}

struct Model<S> {
    setup: Setup,
    service: S,
    inner: Inner,
    handle: Handle,
    callers: BTreeMap<u32, Caller<S>>,
    woken: Arc<Mutex<Vec<u32>>>,
    came: u64,
    rejected: u64,
    /// Refused, perhaps, and gone without a look at the answer.
    unseen: u64,
    /// The latest to have been woken, where they are numbered in the order in which they wait.
    last_woken: u32,
    drained: bool,
    next: u32,
    in_flight: usize,
}

impl<S> Model<S>
where
    S: Service<u32, Response = u32, Error = Error<u32>> + Clone,
    S::Future: 'static,
{
    fn new(setup: Setup, service: S, inner: Inner, handle: Handle) -> Self {
        Self {
            setup,
            service,
            inner,
            handle,
            callers: BTreeMap::new(),
            woken: Arc::default(),
            came: 0,
            rejected: 0,
            unseen: 0,
            last_woken: 0,
            drained: false,
            next: 1,
            in_flight: 0,
        }
    }

    async fn apply(&mut self, op: Op) {
        match op {
            Op::Come => {
                let id = self.next;
                self.next += 1;
                let woken = Arc::clone(&self.woken);
                let caller = Caller {
                    stage: Stage::Asking(self.service.clone()),
                    flag: Arc::new(Flag { id, woken }),
                    asleep: false,
                    waited: false,
                };
                self.callers.insert(id, caller);
                // Those who wait in their calls are numbered in the order of their calls.
                if !self.setup.parks() {
                    self.poll(id);
                    self.poll(id);
                }
            }
            Op::Poll(nth) => {
                if let Some(id) = nth_of(self.callers.keys(), nth) {
                    self.poll(id);
                }
            }
            Op::Leave(nth) => {
                if let Some(id) = nth_of(self.callers.keys(), nth) {
                    let caller = self.callers.remove(&id);
                    let called = matches!(caller.unwrap().stage, Stage::Called(_));
                    self.unseen += u64::from(called);
                }
            }
            Op::Finish(nth, end) => {
                let inside = nth_of(&self.inner.0.borrow().inside, nth);
                if let Some(id) = inside {
                    self.inner.0.borrow_mut().ended.insert(id, end);
                }
            }
            Op::SetLimit(limit) => self.handle.set_limit(limit),
            Op::Pass(millis) => {
                tokio::time::advance(Duration::from_millis(millis)).await;
                settle().await;
            }
            Op::Drain => {
                drop(self.handle.drain());
                self.drained = true;
            }
        }
        self.check();
    }

    fn counts(&self, id: u32) -> bool {
        !(self.setup.exempt && is_exempt(&id))
    }

    fn poll(&mut self, id: u32) {
        let Some(caller) = self.callers.remove(&id) else {
            return;
        };
        let Caller {
            stage,
            flag,
            mut waited,
            ..
        } = caller;
        let waker = Waker::from(Arc::clone(&flag));
        let cx = &mut Context::from_waker(&waker);
        let mut asleep = false;
        let stage = match stage {
            Stage::Asking(mut service) => {
                self.came += u64::from(self.setup.parks() && !waited);
                match service.poll_ready(cx) {
                    Poll::Ready(ready) => {
                        assert!(ready.is_ok(), "`poll_ready` failed");
                        Stage::Ready(service)
                    }
                    Poll::Pending => {
                        assert!(self.setup.parks());
                        (asleep, waited) = (true, true);
                        Stage::Asking(service)
                    }
                }
            }
            Stage::Ready(mut service) => {
                self.came += u64::from(!self.setup.parks() && self.counts(id));
                Stage::Called(Box::pin(service.call(id)))
            }
            Stage::Called(mut answer) => {
                match catch_unwind(AssertUnwindSafe(|| answer.poll_unpin(cx))) {
                    Ok(Poll::Pending) => {
                        asleep = !self.inner.0.borrow().inside.contains(&id);
                        Stage::Called(answer)
                    }
                    Ok(Poll::Ready(answer)) => return self.answered(id, answer),
                    Err(_) => return assert!(self.inner.0.borrow().ended.contains_key(&id)),
                }
            }
        };
        let caller = Caller {
            stage,
            flag,
            asleep,
            waited,
        };
        self.callers.insert(id, caller);
    }

    fn answered(&mut self, id: u32, answer: Result<u32, Error<u32>>) {
        match answer {
            Ok(whose) | Err(Error::Inner(whose)) => {
                assert_eq!(whose, id, "somebody else's answer");
                assert!(self.inner.0.borrow().ended.contains_key(&id));
            }
            Err(Error::Rejected(rejected)) => {
                assert!(self.counts(id), "an exempt one was refused");
                self.rejected += 1;
                let reason = rejected.reason();
                let draining = self.drained && reason == Reason::Draining;
                assert!(draining || self.setup.may_refuse(reason), "{reason:?}");
                if reason == Reason::MaxWait {
                    assert!(rejected.waited() >= MAX_WAIT);
                }
            }
        }
    }

    fn check(&mut self) {
        let (limit, in_flight) = (self.handle.limit(), self.handle.in_flight());
        let free = match self.drained {
            true => 0,
            false => limit.saturating_sub(in_flight),
        };
        if self.setup.strategy != "shadow" {
            assert!(
                in_flight <= limit.max(self.in_flight),
                "let in above the limit"
            );
        }
        self.in_flight = in_flight;

        for id in self.woken.lock().unwrap().drain(..) {
            if let Some(caller) = self.callers.get_mut(&id) {
                if !self.setup.parks() {
                    assert!(id > self.last_woken, "{id} after {}", self.last_woken);
                    assert!(caller.asleep, "{id} was woken for nothing");
                    self.last_woken = id;
                }
                caller.asleep = false;
            }
        }

        let Calls { inside, begun, .. } = &*self.inner.0.borrow();
        let mut asleep = 0;
        let mut woken = 0;
        let certain = inside.iter().filter(|id| self.counts(**id)).count();
        let mut perhaps = 0;
        for (id, caller) in &self.callers {
            let waits = match caller.stage {
                Stage::Asking(_) => caller.waited,
                Stage::Ready(_) => {
                    // With a slot, or to be refused.
                    perhaps += usize::from(self.setup.parks());
                    false
                }
                Stage::Called(_) => !inside.contains(id),
            };
            asleep += usize::from(caller.asleep);
            woken += usize::from(waits && !caller.asleep);
        }
        assert!((certain..=certain + perhaps + woken).contains(&in_flight));
        assert!(self.handle.waiting() <= asleep + woken);
        if free > 0 && asleep > 0 {
            assert!(
                self.setup.parks(),
                "one who waits in its call sleeps beside a free slot"
            );
            assert!(woken >= free, "too few were called");
        }

        let metrics = self.handle.snapshot();
        assert_eq!(metrics.produced_count, self.came);
        let begun = begun.iter().filter(|id| self.counts(**id)).count();
        assert_eq!(metrics.consumed_count, (begun - certain) as u64);
        assert!(metrics.current_depth <= metrics.peak_depth);
        if self.setup.strategy != "shadow" {
            let called = self.callers.values();
            let called = called.filter(|caller| matches!(caller.stage, Stage::Called(_)));
            let seen = self.rejected..=self.rejected + self.unseen + called.count() as u64;
            assert!(
                seen.contains(&metrics.dropped_count),
                "{metrics:?}, {seen:?}"
            );
        }
    }

    /// Everybody goes on who can, until nobody is left.
    async fn wind_down(&mut self) {
        for _ in 0..200 {
            let inside: Vec<_> = self.inner.0.borrow().inside.iter().copied().collect();
            for id in inside {
                let mut calls = self.inner.0.borrow_mut();
                calls.ended.entry(id).or_insert(End::Ok);
            }
            let ids: Vec<_> = self.callers.keys().copied().collect();
            for id in ids {
                if !self.callers[&id].asleep {
                    self.poll(id);
                    self.check();
                }
            }
            self.apply(Op::Pass(1)).await;
        }
        let left: Vec<_> = self.callers.keys().collect();
        assert!(left.is_empty(), "{left:?} sleep for ever");
        assert_eq!((self.handle.in_flight(), self.handle.waiting()), (0, 0));
        assert_eq!(self.handle.drain().now_or_never(), Some(()));
    }
}

fn nth_of<'a>(ids: impl IntoIterator<Item = &'a u32>, nth: usize) -> Option<u32> {
    let ids: Vec<_> = ids.into_iter().copied().collect();
    (!ids.is_empty()).then(|| ids[nth % ids.len()])
}

async fn play<S>(mut model: Model<S>, ops: Vec<Op>)
where
    S: Service<u32, Response = u32, Error = Error<u32>> + Clone,
    S::Future: 'static,
{
    for op in ops {
        model.apply(op).await;
    }
    model.wind_down().await;
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 600, failure_persistence: None, rng_seed: RngSeed::Fixed(11), ..Default::default() })]

    #[test]
    fn whatever_callers_do_each_is_answered_once_and_nothing_is_lost(
        setup in setup(),
        limit in 1..4usize,
        ops in proptest::collection::vec(op(), 1..100),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
        // Made within, so that the gate's clock stands still from the beginning.
        runtime.block_on(async {
            let inner = Inner::default();
            let layer = setup.layer(limit).plain();
            let handle = layer.handle();
            if setup.exempt {
                let service = layer.exempt(is_exempt).layer(inner.clone());
                play(Model::new(setup, service, inner, handle), ops).await;
            } else {
                let service = layer.layer(inner.clone());
                play(Model::new(setup, service, inner, handle), ops).await;
            }
        });
    }
}
