//! Several machines and one budget.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use tower_backpressure::{
    rate::{Decision, OnUnavailable},
    redis::{Budget, SharedRate},
};

use crate::{decisions::spend, server::Server};

const SECONDS: u64 = 2;

/// Two clients, each with a connection of its own, ask as fast as they can. Returns how much was let in, and in what time.
#[expect(clippy::disallowed_methods, reason = "the server's time is real")]
pub async fn hammered(
    server: &Server,
    make: impl Fn(SharedRate) -> SharedRate,
    budget: Budget,
) -> (u64, Duration) {
    let let_in = Arc::new(AtomicU64::new(0));
    let mut clients = Vec::new();
    let begin = Instant::now();
    for _ in 0..2 {
        let rate = make(SharedRate::new(
            server.connection().await,
            "a",
            budget,
            OnUnavailable::Reject,
        ));
        let let_in = Arc::clone(&let_in);
        clients.push(tokio::spawn(async move {
            while begin.elapsed() < Duration::from_secs(SECONDS) {
                if let Decision::Admitted { .. } = spend(&rate, 1).await {
                    let_in.fetch_add(1, Ordering::Relaxed);
                }
                tokio::task::yield_now().await;
            }
        }));
    }
    for client in clients {
        client.await.unwrap();
    }
    (let_in.load(Ordering::Relaxed), begin.elapsed())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_clients_spend_one_budget_to_within_a_percent() {
    let Some(server) = Server::start() else {
        return;
    };
    let (let_in, took) = hammered(&server, |rate| rate, Budget::per_second(500).burst(50)).await;
    let let_in = let_in as f64;
    assert!(
        let_in <= 50.0 + 500.0 * took.as_secs_f64(),
        "{let_in} in {took:?}"
    );
    let budget = 50.0 + 500.0 * SECONDS as f64;
    assert!(let_in >= 0.99 * budget, "{let_in} of {budget}");
}
