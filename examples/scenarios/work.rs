//! A producer and a consumer, each with a rate that changes over time.

use std::time::Duration;

use tokio::time::{Instant, sleep_until, timeout_at};
use tower_backpressure::{
    BackpressureController, BackpressureMetrics, BoundedStream, stream::Sender,
};

/// Items per second, so many seconds after the start.
type Rate = fn(f64) -> f64;

#[derive(Clone, Copy)]
pub struct Work {
    pub time: Duration,
    pub produce: Rate,
    pub consume: Rate,
    makes_up: bool,
}

/// What was made of the work.
pub struct Outcome {
    pub metrics: BackpressureMetrics,
    /// Of each item that was read, from when the producer had it; the shortest first.
    ages: Vec<Duration>,
}

impl Work {
    pub fn new(time: Duration) -> Self {
        Self {
            time,
            produce: |_| 0.0,
            consume: |_| 0.0,
            makes_up: false,
        }
    }

    pub fn produce(mut self, produce: Rate) -> Self {
        self.produce = produce;
        self
    }

    pub fn consume(mut self, consume: Rate) -> Self {
        self.consume = consume;
        self
    }

    /// What the producer could not send in time it sends later, instead of making less.
    pub fn make_up(mut self) -> Self {
        self.makes_up = true;
        self
    }

    /// Runs it, and shows how it stands ten times a second.
    pub async fn run(
        self,
        controller: &BackpressureController,
        mut show: impl FnMut(f64, &BackpressureMetrics),
    ) -> Outcome {
        let stream = controller.create_stream();
        let began = now();
        let end = began + self.time;
        let (sends, reads) = (
            Pace::new(began, self.produce, self.makes_up),
            Pace::new(began, self.consume, false),
        );
        let producer = tokio::spawn(produce(stream.sender(), sends));
        let consumer = tokio::spawn(consume(stream, reads, end));
        let mut next = began;
        while next < end {
            next += Duration::from_millis(100);
            sleep_until(next.min(end)).await;
            if next < end {
                show((next - began).as_secs_f64(), &controller.metrics());
            }
        }
        let (metrics, mut ages) = consumer.await.expect("the consumer does not panic");
        show(self.time.as_secs_f64(), &metrics);
        // The reader has left, which is its sign to stop.
        producer.await.expect("the producer does not panic");
        ages.sort_unstable();
        Outcome { metrics, ages }
    }
}

async fn produce(sender: Sender<Instant>, mut pace: Pace) {
    loop {
        let made = tokio::select! {
            made = pace.next() => made,
            () = sender.closed() => return,
        };
        if sender.send(made).await.is_err() {
            return;
        }
    }
}

async fn consume(
    mut stream: BoundedStream<Instant>,
    mut pace: Pace,
    end: Instant,
) -> (BackpressureMetrics, Vec<Duration>) {
    let mut ages = Vec::new();
    let work = async {
        loop {
            pace.next().await;
            match stream.receive().await {
                Some(made) => ages.push(made.elapsed()),
                None => return,
            }
        }
    };
    let _ = timeout_at(end, work).await;
    (stream.metrics(), ages)
}

/// Comes as often as the rate says.
struct Pace {
    began: Instant,
    rate: Rate,
    due: Instant,
    /// Comes at once for what was missed.
    makes_up: bool,
}

impl Pace {
    fn new(began: Instant, rate: Rate, makes_up: bool) -> Self {
        Self {
            began,
            rate,
            due: began,
            makes_up,
        }
    }

    /// Gives when it was to come.
    async fn next(&mut self) -> Instant {
        const SLACK: Duration = Duration::from_millis(20);
        if !self.makes_up {
            self.due = self.due.max(now() - SLACK);
        }
        loop {
            let rate = (self.rate)((self.due - self.began).as_secs_f64());
            // Where the rate is nothing, looks again soon.
            if rate < 1.0 {
                self.due += Duration::from_millis(10);
                sleep_until(self.due).await;
                continue;
            }
            self.due += Duration::from_secs_f64(1.0 / rate);
            sleep_until(self.due).await;
            return self.due;
        }
    }
}

#[allow(
    clippy::disallowed_methods,
    reason = "an example, in real or in paused time"
)]
fn now() -> Instant {
    Instant::now()
}

impl Outcome {
    /// Of the items that were read, the age that a share of `q` did not exceed.
    pub fn age(&self, q: f64) -> Duration {
        let nth = (self.ages.len() as f64 * q) as usize;
        self.ages.get(nth).copied().unwrap_or_default()
    }

    pub fn summary(&self) -> String {
        let BackpressureMetrics {
            produced_count: sent,
            consumed_count: read,
            dropped_count: dropped,
            current_depth: left,
            ..
        } = self.metrics;
        format!(
            "{sent} sent = {read} read + {dropped} dropped + {left} in the queue; age p50 {}, p99 {}",
            seconds(self.age(0.5)),
            seconds(self.age(0.99)),
        )
    }

    pub fn row(&self) -> String {
        let metrics = &self.metrics;
        format!(
            "{:8} {:8} {:8.0}% {:8} {:>12} {:>12}",
            metrics.produced_count,
            metrics.consumed_count,
            100.0 * metrics.dropped_count as f64 / metrics.produced_count.max(1) as f64,
            metrics.peak_depth,
            seconds(self.age(0.5)),
            seconds(self.age(0.99)),
        )
    }
}

fn seconds(time: Duration) -> String {
    format!("{:.2} s", time.as_secs_f64())
}
