//! Random operations on the real stream beside a plain queue, and after each of them what must always hold.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    future::Future,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    task::Poll,
};

use proptest::{
    prelude::{Just, ProptestConfig, any, prop_oneof, proptest},
    strategy::Strategy as Generator,
    test_runner::RngSeed,
};
use tower_backpressure::{
    BackpressureController,
    BackpressureStrategy::{self, Block, DropNewest, DropOldest, Fail},
    BoundedStream,
    stream::{Displaced, SendError, SendErrorKind, Sender},
};

use super::support::{Task, counts};

#[derive(Clone, Debug)]
enum Op {
    NewSender,
    DropSender(usize),
    TrySend(usize),
    /// Begins a send, and polls it once.
    Send(usize),
    /// Polls the nth send that waits, woken or not.
    Poll(usize),
    GiveUp(usize),
    Receive,
    ReceiveMany(usize),
    Close,
    Leave,
}

fn op() -> impl Generator<Value = Op> {
    prop_oneof![
        2 => Just(Op::NewSender),
        1 => any::<usize>().prop_map(Op::DropSender),
        6 => any::<usize>().prop_map(Op::TrySend),
        10 => any::<usize>().prop_map(Op::Send),
        6 => any::<usize>().prop_map(Op::Poll),
        3 => any::<usize>().prop_map(Op::GiveUp),
        10 => Just(Op::Receive),
        2 => (0..4_usize).prop_map(Op::ReceiveMany),
    ]
}

/// At most one end among the operations, at any point.
fn ops() -> impl Generator<Value = Vec<Op>> {
    let end = prop_oneof![Just(None), Just(Some(Op::Close)), Just(Some(Op::Leave))];
    let ops = proptest::collection::vec(op(), 1..150);
    (ops, end, any::<usize>()).prop_map(|(mut ops, end, at)| {
        if let Some(end) = end {
            ops.insert(at % (ops.len() + 1), end);
        }
        ops
    })
}

/// Knows how many of its kind there are.
struct Item {
    id: u32,
    live: Arc<AtomicUsize>,
}

impl Drop for Item {
    fn drop(&mut self) {
        self.live.fetch_sub(1, Ordering::SeqCst);
    }
}

type Sent = Result<Displaced<Item>, SendError<Item>>;

struct Waiting {
    id: u32,
    task: Arc<Task>,
    woken_before: usize,
    send: Pin<Box<dyn Future<Output = Sent>>>,
}

/// A plain queue, and who waits for a place in it.
#[derive(Default)]
struct Queue {
    items: VecDeque<u32>,
    line: VecDeque<u32>,
    /// Those whose turn has come.
    turns: BTreeSet<u32>,
    closed: bool,
    begun: bool,
    consumed: u64,
    dropped: u64,
}

struct Model {
    strategy: BackpressureStrategy,
    capacity: usize,
    stream: Option<BoundedStream<Item>>,
    senders: Vec<Sender<Item>>,
    controller: BackpressureController,
    waiting: BTreeMap<u32, Waiting>,
    reader: Arc<Task>,
    /// How often it had been woken when it began to wait.
    parked: Option<usize>,
    queue: Queue,
    next: u32,
    live: Arc<AtomicUsize>,
}

impl Model {
    fn new(strategy: BackpressureStrategy, capacity: usize) -> Self {
        let controller = BackpressureController::new(capacity, strategy);
        Self {
            strategy,
            capacity,
            stream: Some(controller.create_stream()),
            senders: Vec::new(),
            controller,
            waiting: BTreeMap::new(),
            reader: Task::new(),
            parked: None,
            queue: Queue::default(),
            next: 0,
            live: Arc::default(),
        }
    }

    fn apply(&mut self, op: Op) {
        match op {
            Op::NewSender => {
                if let Some(stream) = &self.stream {
                    self.senders.push(stream.sender());
                    self.queue.begun = true;
                }
            }
            Op::DropSender(nth) => {
                if !self.senders.is_empty() {
                    self.senders.swap_remove(nth % self.senders.len());
                }
            }
            Op::TrySend(nth) => {
                if let Some(sender) = self.sender(nth) {
                    let item = self.item();
                    let id = item.id;
                    let result = sender.try_send(item);
                    self.arrived(id, result);
                }
            }
            Op::Send(nth) => {
                if let Some(sender) = self.sender(nth) {
                    let item = self.item();
                    let (id, task) = (item.id, Task::new());
                    let mut send = Box::pin(async move { sender.send(item).await });
                    match task.poll(&mut send) {
                        Poll::Ready(result) => self.arrived(id, result),
                        Poll::Pending => {
                            assert!(self.strategy == Block && !self.queue.closed);
                            assert!(!self.has_room() || !self.queue.line.is_empty());
                            self.queue.line.push_back(id);
                            let woken_before = 0;
                            self.waiting.insert(
                                id,
                                Waiting {
                                    id,
                                    task,
                                    woken_before,
                                    send,
                                },
                            );
                        }
                    }
                }
            }
            Op::Poll(nth) => self.poll(nth),
            Op::GiveUp(nth) => {
                if let Some(id) = self.nth_waiting(nth) {
                    self.waiting.remove(&id);
                    self.queue.turns.remove(&id);
                    self.queue.line.retain(|waiting| *waiting != id);
                    self.give_turns();
                }
            }
            Op::Receive => self.receive(),
            Op::ReceiveMany(limit) => self.receive_many(limit),
            Op::Close => {
                if let Some(stream) = &mut self.stream {
                    stream.close();
                    self.close();
                }
            }
            Op::Leave => {
                self.stream = None;
                self.parked = None;
                self.close();
                self.queue.dropped += self.queue.items.len() as u64;
                self.queue.items.clear();
            }
        }
        self.check();
    }

    fn sender(&self, nth: usize) -> Option<Sender<Item>> {
        let count = self.senders.len();
        (count > 0).then(|| self.senders[nth % count].clone())
    }

    fn item(&mut self) -> Item {
        self.next += 1;
        self.live.fetch_add(1, Ordering::SeqCst);
        Item {
            id: self.next,
            live: Arc::clone(&self.live),
        }
    }

    fn nth_waiting(&self, nth: usize) -> Option<u32> {
        let count = self.waiting.len();
        (count > 0).then(|| *self.waiting.keys().nth(nth % count).unwrap())
    }

    fn has_room(&self) -> bool {
        self.queue.items.len() + self.queue.turns.len() < self.capacity
    }

    fn close(&mut self) {
        self.queue.closed = true;
        self.queue.line.clear();
        self.queue.turns.clear();
    }

    fn give_turns(&mut self) {
        while self.has_room() {
            let Some(id) = self.queue.line.pop_front() else {
                return;
            };
            self.queue.turns.insert(id);
        }
    }

    /// A send that did not wait gave this.
    fn arrived(&mut self, id: u32, result: Sent) {
        let expected = if self.queue.closed {
            Err((SendErrorKind::Closed, id))
        } else if self.has_room() && self.queue.line.is_empty() {
            self.queue.items.push_back(id);
            Ok(None)
        } else {
            match self.strategy {
                DropOldest => {
                    self.queue.dropped += 1;
                    self.queue.items.push_back(id);
                    Ok(self.queue.items.pop_front())
                }
                DropNewest => {
                    self.queue.dropped += 1;
                    Ok(Some(id))
                }
                Fail => {
                    self.close();
                    Err((SendErrorKind::Full, id))
                }
                _ => Err((SendErrorKind::Full, id)),
            }
        };
        let result = match result {
            Ok(displaced) => {
                assert!(displaced.len() <= 1);
                Ok(displaced.into_iter().next().map(|item| item.id))
            }
            Err(error) => Err((error.kind(), error.into_item().id)),
        };
        assert_eq!(result, expected);
    }

    fn poll(&mut self, nth: usize) {
        let Some(id) = self.nth_waiting(nth) else {
            return;
        };
        let waiting = self.waiting.get_mut(&id).unwrap();
        waiting.woken_before = waiting.task.woken();
        match waiting.task.poll(&mut waiting.send) {
            Poll::Pending => assert!(self.queue.line.contains(&id)),
            Poll::Ready(Ok(displaced)) => {
                assert!(displaced.is_empty());
                assert!(self.queue.turns.remove(&id), "it was its turn");
                self.queue.items.push_back(id);
                self.waiting.remove(&id);
            }
            Poll::Ready(Err(error)) => {
                assert!(self.queue.closed);
                assert_eq!(
                    (error.kind(), error.into_item().id),
                    (SendErrorKind::Closed, id)
                );
                self.waiting.remove(&id);
            }
        }
    }

    fn receive(&mut self) {
        let Some(stream) = &mut self.stream else {
            return;
        };
        let received = self.reader.poll_receive(stream);
        self.parked = None;
        match received {
            Poll::Ready(Some(item)) => self.received(&[item.id]),
            Poll::Ready(None) => self.ended(),
            Poll::Pending => {
                assert!(self.queue.items.is_empty() && !self.has_ended());
                self.parked = Some(self.reader.woken());
            }
        }
    }

    fn receive_many(&mut self, limit: usize) {
        let Some(stream) = &mut self.stream else {
            return;
        };
        let mut items = Vec::new();
        let count = self
            .reader
            .poll(&mut Box::pin(stream.receive_many(&mut items, limit)));
        let ids: Vec<_> = items.iter().map(|item| item.id).collect();
        match count {
            Poll::Ready(0) if limit == 0 => {}
            Poll::Ready(0) => self.ended(),
            Poll::Ready(count) => {
                assert_eq!(count, ids.len());
                assert_eq!(count, limit.min(self.queue.items.len()));
                self.parked = None;
                self.received(&ids);
            }
            Poll::Pending => {
                assert!(self.queue.items.is_empty() && !self.has_ended());
                self.parked = Some(self.reader.woken());
            }
        }
    }

    fn received(&mut self, ids: &[u32]) {
        for id in ids {
            assert_eq!(Some(*id), self.queue.items.pop_front());
            self.queue.consumed += 1;
            self.give_turns();
        }
    }

    /// The reader was told that it is the end; then it is.
    fn ended(&mut self) {
        assert!(self.has_ended());
        self.close();
    }

    fn has_ended(&self) -> bool {
        let left = self.senders.is_empty() && self.waiting.is_empty();
        self.queue.items.is_empty() && (self.queue.closed || (self.queue.begun && left))
    }

    fn check(&mut self) {
        // Whoever can go on has been woken since it began to wait.
        for waiting in self.waiting.values() {
            if self.queue.turns.contains(&waiting.id) || self.queue.closed {
                assert!(
                    waiting.task.woken() > waiting.woken_before,
                    "{} sleeps on",
                    waiting.id
                );
            }
        }
        if let Some(before) = self.parked {
            let can_go_on = !self.queue.items.is_empty() || self.has_ended();
            assert!(
                !can_go_on || self.reader.woken() > before,
                "the reader sleeps on"
            );
        }
        // Nobody sleeps beside a free place.
        assert!(self.queue.line.is_empty() || !self.has_room());

        let depth = self.queue.items.len();
        let (consumed, dropped) = (self.queue.consumed, self.queue.dropped);
        let produced = consumed + dropped + depth as u64;
        let expected = (produced, consumed, dropped, depth);
        assert_eq!(counts(&self.controller.metrics()), expected);
        if let Some(stream) = &self.stream {
            assert_eq!(counts(&stream.metrics()), expected);
        }
        // No item is anywhere but where it is known to be.
        let live = self.live.load(Ordering::SeqCst);
        assert_eq!(live, depth + self.waiting.len());
    }

    fn wind_down(mut self) {
        self.senders.clear();
        while !self.waiting.is_empty() || self.stream.is_some() && !self.has_ended() {
            (0..self.waiting.len()).for_each(|nth| self.poll(nth));
            self.apply(Op::Receive);
        }
        drop(self.stream.take());
        assert_eq!(self.live.load(Ordering::SeqCst), 0, "an item was lost");
    }
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 2_000,
        rng_seed: RngSeed::Fixed(7),
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn whatever_happens_items_are_sent_once_in_order_or_come_back(
        capacity in 1..5_usize,
        strategy in proptest::sample::select(vec![Block, Block, DropNewest, DropOldest, Fail]),
        ops in ops(),
    ) {
        let mut model = Model::new(strategy, capacity);
        model.apply(Op::NewSender);
        ops.into_iter().for_each(|op| model.apply(op));
        model.wind_down();
    }
}
