//! What an item costs on its way through a bounded stream, all contenders in one run.
//!
//! `cargo bench --bench stream`; `-- quick` is a quarter of it. Contenders take turns, round by round, and are compared within
//! a round: what else the machine does falls on all of them alike. Shown are medians; below 1 ours is faster.
//!
//! | workload | |
//! |---|---|
//! | by turns | one thread, no tasks: fills the queue (where the oldest is dropped: twice), then reads all there is |
//! | two tasks | one thread: one task sends all it has, another reads to the end |
//! | two threads | the same, each on a thread and a runtime of its own |
//!
//! Where the oldest is dropped nobody waits to send, so each contender is sent to by its plain function, and the task that
//! sends lets the other run after every 64 items. How many of the items are read depends on who runs when; time is per item
//! sent, and per item read.

use std::{
    collections::VecDeque,
    future::Future,
    hint::black_box,
    sync::{Arc, Mutex},
    thread,
    time::{Duration, Instant},
};

use async_broadcast::{RecvError, TryRecvError};
use tokio::{
    runtime::{Builder, Runtime},
    sync::{Notify, mpsc},
    task::yield_now,
};
use tower_backpressure::{
    BackpressureController, BackpressureStrategy, BoundedStream, stream::Sender,
};

const CAPACITY: usize = 128;
const ITEMS: u64 = 200_000;

fn main() {
    let asked = |word: &str| std::env::args().any(|arg| arg == word);
    // `cargo test --all-targets` runs benches as well, without this.
    if !asked("--bench") {
        return;
    }
    let rounds = if asked("quick") { 11 } else { 41 };
    compare(
        "Block",
        rounds,
        [
            (
                "tokio mpsc",
                workloads(|| mpsc::channel::<u64>(CAPACITY), CAPACITY),
            ),
            (
                "BoundedStream",
                workloads(|| ours(BackpressureStrategy::Block), CAPACITY),
            ),
        ],
    );
    compare(
        "Drop oldest",
        rounds,
        [
            (
                "async-broadcast",
                workloads(|| dropping(broadcast()), 2 * CAPACITY),
            ),
            (
                "Mutex<VecDeque>, Notify",
                workloads(|| dropping(mutexed()), 2 * CAPACITY),
            ),
            (
                "BoundedStream",
                workloads(
                    || dropping(ours(BackpressureStrategy::DropOldest)),
                    2 * CAPACITY,
                ),
            ),
        ],
    );
}

/// Gives how many items were read, and in what time.
type Workload = Box<dyn Fn() -> (u64, Duration)>;

const WORKLOADS: [&str; 3] = ["by turns", "two tasks", "two threads"];

fn workloads<S: Produce, R: Consume>(ends: fn() -> (S, R), burst: usize) -> [Workload; 3] {
    [
        Box::new(move || by_turns(ends(), burst)),
        Box::new(move || two_tasks(ends())),
        Box::new(move || two_threads(ends())),
    ]
}

/// The last contender is ours.
fn compare<const N: usize>(title: &str, rounds: usize, contenders: [(&str, [Workload; 3]); N]) {
    println!("\n{title}: {ITEMS} items, capacity {CAPACITY}, medians of {rounds} rounds\n");
    println!(
        "{:12} {:24} {:>8} {:>9} {:>6} {:>8} {:>9}",
        "", "", "ns/sent", "ours", "read", "ns/read", "ours"
    );
    for (nth, workload) in WORKLOADS.iter().enumerate() {
        let mut sent = vec![Vec::new(); N];
        let mut read = vec![Vec::new(); N];
        for round in 0..=rounds {
            for turn in 0..N {
                let contender = (round + turn) % N;
                let (count, time) = contenders[contender].1[nth]();
                // The first round warms up.
                if round > 0 {
                    sent[contender].push(time.as_nanos() as f64 / ITEMS as f64);
                    read[contender].push(time.as_nanos() as f64 / count as f64);
                }
            }
        }
        for (contender, (name, _)) in contenders.iter().enumerate() {
            let (per_sent, per_read) = (median(&sent[contender]), median(&read[contender]));
            println!(
                "{workload:12} {name:24} {per_sent:8.1} {:8.2}x {:5.0}% {per_read:8.1} {:8.2}x",
                ratio(&sent[N - 1], &sent[contender]),
                100.0 * per_sent / per_read,
                ratio(&read[N - 1], &read[contender]),
            );
        }
    }
}

fn ratio(ours: &[f64], theirs: &[f64]) -> f64 {
    let ratios: Vec<_> = ours.iter().zip(theirs).map(|(o, t)| o / t).collect();
    median(&ratios)
}

fn median(values: &[f64]) -> f64 {
    let mut values = values.to_vec();
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

trait Produce: Send + 'static {
    fn send(&mut self, item: u64) -> impl Future<Output = ()> + Send;
}

trait Consume: Send + 'static {
    fn receive(&mut self) -> impl Future<Output = Option<u64>> + Send;

    fn try_receive(&mut self) -> Option<u64>;
}

fn by_turns<S: Produce, R: Consume>(
    (mut sender, mut receiver): (S, R),
    burst: usize,
) -> (u64, Duration) {
    // Without a budget: nobody else is there.
    runtime().block_on(tokio::task::unconstrained(async {
        let mut read = 0;
        let began = now();
        for _ in 0..ITEMS / burst as u64 {
            for item in 0..burst as u64 {
                sender.send(black_box(item)).await;
            }
            while let Some(item) = receiver.try_receive() {
                black_box(item);
                read += 1;
            }
        }
        (read, began.elapsed())
    }))
}

fn two_tasks<S: Produce, R: Consume>((sender, receiver): (S, R)) -> (u64, Duration) {
    runtime().block_on(async {
        let began = now();
        let sends = tokio::spawn(produce(sender));
        let read = consume(receiver).await;
        sends.await.expect("it sends");
        (read, began.elapsed())
    })
}

fn two_threads<S: Produce, R: Consume>((sender, receiver): (S, R)) -> (u64, Duration) {
    let runtimes = (runtime(), runtime());
    let began = now();
    let sends = thread::spawn(move || runtimes.0.block_on(produce(sender)));
    let read = runtimes.1.block_on(consume(receiver));
    sends.join().expect("it sends");
    (read, began.elapsed())
}

async fn produce(mut sender: impl Produce) {
    for item in 0..ITEMS {
        sender.send(black_box(item)).await;
    }
}

async fn consume(mut receiver: impl Consume) -> u64 {
    let mut read = 0;
    while let Some(item) = receiver.receive().await {
        black_box(item);
        read += 1;
    }
    read
}

fn runtime() -> Runtime {
    Builder::new_current_thread()
        .build()
        .expect("a runtime can be built")
}

#[allow(clippy::disallowed_methods, reason = "a benchmark")]
fn now() -> Instant {
    Instant::now()
}

fn ours(strategy: BackpressureStrategy) -> (Sender<u64>, BoundedStream<u64>) {
    let stream = BackpressureController::new(CAPACITY, strategy).create_stream();
    (stream.sender(), stream)
}

impl Produce for Sender<u64> {
    async fn send(&mut self, item: u64) {
        let _ = Sender::send(self, item).await;
    }
}

impl Push for Sender<u64> {
    fn push(&mut self, item: u64) {
        let _ = self.try_send(item);
    }
}

impl Consume for BoundedStream<u64> {
    async fn receive(&mut self) -> Option<u64> {
        BoundedStream::receive(self).await
    }

    fn try_receive(&mut self) -> Option<u64> {
        BoundedStream::try_receive(self)
    }
}

impl Produce for mpsc::Sender<u64> {
    async fn send(&mut self, item: u64) {
        let _ = mpsc::Sender::send(self, item).await;
    }
}

impl Consume for mpsc::Receiver<u64> {
    async fn receive(&mut self) -> Option<u64> {
        self.recv().await
    }

    fn try_receive(&mut self) -> Option<u64> {
        self.try_recv().ok()
    }
}

/// What drops the oldest, and so never waits.
trait Push: Send + 'static {
    fn push(&mut self, item: u64);
}

/// Sends by a plain function, and lets the reader run now and then.
struct Dropping<P> {
    push: P,
    sent: u64,
}

fn dropping<P: Push, R>((push, reader): (P, R)) -> (Dropping<P>, R) {
    (Dropping { push, sent: 0 }, reader)
}

impl<P: Push> Produce for Dropping<P> {
    async fn send(&mut self, item: u64) {
        self.push.push(item);
        self.sent += 1;
        if self.sent % 64 == 0 {
            yield_now().await;
        }
    }
}

fn broadcast() -> (async_broadcast::Sender<u64>, async_broadcast::Receiver<u64>) {
    let (mut sender, receiver) = async_broadcast::broadcast(CAPACITY);
    sender.set_overflow(true);
    (sender, receiver)
}

impl Push for async_broadcast::Sender<u64> {
    fn push(&mut self, item: u64) {
        let _ = self.try_broadcast(item);
    }
}

impl Consume for async_broadcast::Receiver<u64> {
    async fn receive(&mut self) -> Option<u64> {
        loop {
            match self.recv_direct().await {
                Ok(item) => return Some(item),
                Err(RecvError::Overflowed(_)) => {}
                Err(RecvError::Closed) => return None,
            }
        }
    }

    fn try_receive(&mut self) -> Option<u64> {
        loop {
            match self.try_recv() {
                Ok(item) => return Some(item),
                Err(TryRecvError::Overflowed(_)) => {}
                Err(TryRecvError::Empty | TryRecvError::Closed) => return None,
            }
        }
    }
}

/// What one writes oneself: the least that drops the oldest, lets a reader wait, and ends.
struct Mutexed {
    queue: Mutex<(VecDeque<u64>, bool)>,
    arrived: Notify,
}

struct MutexedSender(Arc<Mutexed>);

struct MutexedReceiver(Arc<Mutexed>);

fn mutexed() -> (MutexedSender, MutexedReceiver) {
    let shared = Arc::new(Mutexed {
        queue: Mutex::new((VecDeque::with_capacity(CAPACITY), false)),
        arrived: Notify::new(),
    });
    (MutexedSender(Arc::clone(&shared)), MutexedReceiver(shared))
}

impl Push for MutexedSender {
    fn push(&mut self, item: u64) {
        {
            let mut queue = self.0.queue.lock().expect("not poisoned");
            if queue.0.len() == CAPACITY {
                queue.0.pop_front();
            }
            queue.0.push_back(item);
        }
        self.0.arrived.notify_one();
    }
}

impl Drop for MutexedSender {
    fn drop(&mut self) {
        self.0.queue.lock().expect("not poisoned").1 = true;
        self.0.arrived.notify_one();
    }
}

impl Consume for MutexedReceiver {
    async fn receive(&mut self) -> Option<u64> {
        loop {
            {
                let mut queue = self.0.queue.lock().expect("not poisoned");
                if let Some(item) = queue.0.pop_front() {
                    return Some(item);
                }
                if queue.1 {
                    return None;
                }
            }
            self.0.arrived.notified().await;
        }
    }

    fn try_receive(&mut self) -> Option<u64> {
        self.0.queue.lock().expect("not poisoned").0.pop_front()
    }
}
