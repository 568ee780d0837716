//! What each strategy does with a reader that is slower than its producer, live.
//!
//! ```text
//! cargo run --release --example scenarios            # about two minutes, with bars
//! cargo run --release --example scenarios -- --fast  # the same in virtual time
//! ```
//!
//! Four scenarios, one after the other, and then all strategies on one workload, side by side.

mod show;
mod work;

use std::time::Duration;

use tower_backpressure::{
    AdaptiveRateController, BackpressureController,
    BackpressureStrategy::{Adaptive, Block, DropNewest, DropOldest, Fail},
    rate::TokenBucket,
};

use self::{
    show::Show,
    work::{Outcome, Work},
};

fn main() -> std::io::Result<()> {
    let fast = std::env::args().any(|arg| arg == "--fast");
    let runtime = if fast {
        tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .start_paused(true)
            .build()?
    } else {
        tokio::runtime::Builder::new_multi_thread()
            .enable_time()
            .build()?
    };
    runtime.block_on(async {
        for scenario in scenarios() {
            scenario.play(fast).await;
        }
        print_table(&compare().await);
    });
    Ok(())
}

/// One of the four.
struct Scenario {
    title: &'static str,
    /// What is to be seen.
    note: &'static str,
    controller: BackpressureController,
    work: Work,
}

fn scenarios() -> [Scenario; 4] {
    let seconds = Duration::from_secs(20);
    [
        Scenario {
            title: "1. Block: producer 100/s, consumer 10/s",
            note: "The queue fills within two seconds. From then on the producer sends 10/s, and nothing is lost.",
            controller: BackpressureController::new(100, Block),
            work: Work::new(seconds).produce(|_| 100.0).consume(|_| 10.0),
        },
        Scenario {
            title: "2. Drop oldest: producer 100/s, consumer 10/s",
            note: "The producer never waits. The queue is as full, but what is read is at most a second old.",
            controller: BackpressureController::new(100, DropOldest),
            work: Work::new(seconds).produce(|_| 100.0).consume(|_| 10.0),
        },
        Scenario {
            title: "3. Adaptive: producer 50-200/s, consumer 30-150/s",
            note: "Additive increase, multiplicative decrease: the rate is halved when the queue is three quarters full, \
                   and nothing is lost.",
            controller: BackpressureController::builder(100, Adaptive)
                .rate(
                    AdaptiveRateController::default()
                        .initial(100.0)
                        .max(300.0)
                        .step(2.0),
                )
                .build(),
            work: Work::new(2 * seconds)
                .produce(|t| wave(t, 8.0, 50.0, 200.0))
                .consume(|t| wave(t, 13.0, 30.0, 150.0)),
        },
        Scenario {
            title: "4. Burst: producer 0-500/s, consumer 50/s, through a token bucket",
            note: "Half a second of 500/s, four and a half of nothing: 50/s on average. The bucket lets 30 through at once and \
                   50/s after that, so the queue stays short and the burst is spread over the pause.",
            controller: BackpressureController::builder(100, Adaptive)
                .rate(TokenBucket::per_second(50).burst(30))
                .build(),
            work: Work::new(seconds)
                .produce(|t| if t % 5.0 < 0.5 { 500.0 } else { 0.0 })
                .consume(|_| 50.0)
                .make_up(),
        },
    ]
}

/// Goes up and down between two rates.
fn wave(t: f64, period: f64, low: f64, high: f64) -> f64 {
    let phase = (t / period * std::f64::consts::TAU).sin();
    (low + high) / 2.0 + (high - low) / 2.0 * phase
}

impl Scenario {
    async fn play(self, fast: bool) -> Outcome {
        println!("\n{}\n{}\n", self.title, self.note);
        let show = Show::new(&self.controller, &self.work, fast);
        let outcome = self
            .work
            .run(&self.controller, |t, metrics| show.update(t, metrics))
            .await;
        show.finish();
        println!("{}", outcome.summary());
        outcome
    }
}

/// All strategies on one workload, at once.
async fn compare() -> Vec<(&'static str, Outcome)> {
    let named = [
        ("block", BackpressureController::new(100, Block)),
        ("drop newest", BackpressureController::new(100, DropNewest)),
        ("drop oldest", BackpressureController::new(100, DropOldest)),
        ("latest", BackpressureController::latest()),
        (
            "adaptive",
            BackpressureController::builder(100, Adaptive)
                .rate(AdaptiveRateController::default().initial(100.0).step(2.0))
                .build(),
        ),
        ("fail", BackpressureController::new(100, Fail)),
    ];
    let runs = named.map(|(name, controller)| async move {
        let work = Work::new(Duration::from_secs(20))
            .produce(|_| 100.0)
            .consume(|_| 50.0);
        (name, work.run(&controller, |_, _| {}).await)
    });
    futures_util::future::join_all(runs).await
}

fn print_table(rows: &[(&str, Outcome)]) {
    println!("\n5. All strategies: producer 100/s, consumer 50/s, capacity 100, 20 s\n");
    println!(
        "{:12} {:>8} {:>8} {:>9} {:>8} {:>12} {:>12}",
        "", "sent", "read", "dropped", "peak", "age p50", "age p99"
    );
    for (name, outcome) in rows {
        println!("{name:12} {}", outcome.row());
    }
    println!(
        "\nAge: from when the producer had the item to when it was read. Under block and adaptive the producer is slowed down\n\
         to the reader; under fail the stream ended when it was full for the first time."
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn outcome(nth: usize) -> Outcome {
        scenarios().into_iter().nth(nth).unwrap().play(true).await
    }

    #[tokio::test(start_paused = true)]
    async fn block_slows_the_producer_down_and_loses_nothing() {
        let outcome = outcome(0).await;
        let metrics = outcome.metrics;
        assert_eq!(metrics.dropped_count, 0);
        assert!((195..=205).contains(&metrics.consumed_count), "{metrics:?}");
        assert_eq!(metrics.peak_depth, 100);
        assert!(metrics.current_depth >= 99, "{metrics:?}");
        assert!(
            (9.0..=11.0).contains(&metrics.throughput_rate),
            "{metrics:?}"
        );
        assert!(outcome.age(0.99) > Duration::from_secs(9));
    }

    #[tokio::test(start_paused = true)]
    async fn drop_oldest_keeps_what_is_read_fresh() {
        let outcome = outcome(1).await;
        let metrics = outcome.metrics;
        assert!(
            (1990..=2010).contains(&metrics.produced_count),
            "{metrics:?}"
        );
        assert!((195..=205).contains(&metrics.consumed_count), "{metrics:?}");
        assert!(
            (1690..=1710).contains(&metrics.dropped_count),
            "{metrics:?}"
        );
        assert!(outcome.age(0.99) < Duration::from_millis(1100));
    }

    #[tokio::test(start_paused = true)]
    async fn adaptive_follows_the_reader_and_loses_nothing() {
        let metrics = outcome(2).await.metrics;
        assert_eq!(metrics.dropped_count, 0);
        assert!(
            metrics.peak_depth < 100,
            "it never had to block: {metrics:?}"
        );
        assert!(metrics.backpressure_events >= 2, "{metrics:?}");
        // What could have been read: the smaller of the two waves, about 80/s on average.
        assert!(metrics.consumed_count > 40 * 55, "{metrics:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_burst_is_spread_over_the_pause() {
        let metrics = outcome(3).await.metrics;
        assert_eq!(metrics.dropped_count, 0);
        assert!(metrics.peak_depth <= 35, "{metrics:?}");
        // Four bursts of 250, of which the last has had its time as well.
        assert!(metrics.consumed_count >= 900, "{metrics:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn the_table_has_every_strategy_and_tells_them_apart() {
        let rows = compare().await;
        print_table(&rows);
        let row = |name| &rows.iter().find(|(of, _)| *of == name).unwrap().1;
        for name in ["block", "adaptive"] {
            assert_eq!(row(name).metrics.dropped_count, 0, "{name}");
        }
        let p50 = |name| row(name).age(0.5);
        assert!(p50("latest") < p50("drop oldest"));
        assert!(p50("drop oldest") < p50("drop newest"));
        assert!(p50("adaptive") < p50("block"));
        assert!(row("fail").metrics.produced_count < 300);
    }
}
