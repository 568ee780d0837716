//! A slice of the budget at a time.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use redis::aio::MultiplexedConnection;
use tower_backpressure::{
    Demand,
    rate::{Decision, OnUnavailable},
    redis::{Budget, SharedRate},
};

use crate::{
    decisions::{admitted, becomes, remaining, short, slow, spend},
    outage::is_lost,
    server::Server,
    sharing::hammered,
};

/// A machine that takes a hundred at a time of a thousand, and one that looks at the store without taking anything.
async fn pair(server: &Server) -> (SharedRate, SharedRate) {
    let make = |connection| SharedRate::new(connection, "a", slow(1000), OnUnavailable::Reject);
    let leased = make(server.connection().await).lease(0.1);
    (leased, make(server.connection().await))
}

/// How often the script has been called, by everybody.
async fn calls(connection: &mut MultiplexedConnection) -> u64 {
    let info: String = redis::cmd("INFO")
        .arg("commandstats")
        .query_async(connection)
        .await
        .unwrap();
    let Some((_, stat)) = info.split_once("cmdstat_evalsha:calls=") else {
        return 0;
    };
    stat.split(',').next().unwrap().parse().unwrap()
}

#[tokio::test]
async fn a_busy_machine_asks_once_for_many() {
    let Some(server) = Server::start() else {
        return;
    };
    let (leased, _) = pair(&server).await;
    let mut connection = server.connection().await;
    for _ in 0..1000 {
        let _ = admitted(spend(&leased, 1).await);
    }
    // The first call finds no script and is repeated. A term may end meanwhile, on a busy machine more than one.
    let asked = calls(&mut connection).await;
    assert!(asked <= 20, "{asked}");
    for _ in 0..1000 {
        short(spend(&leased, 1).await);
    }
    let asked = calls(&mut connection).await - asked;
    assert!(asked <= 5, "{asked}");
}

#[tokio::test]
async fn a_crowd_that_finds_the_lease_empty_takes_one_slice() {
    let Some(server) = Server::start() else {
        return;
    };
    let (leased, store) = pair(&server).await;
    let crowd: Vec<_> = (0..60)
        .map(|_| {
            let leased = leased.clone();
            tokio::spawn(async move { spend(&leased, 1).await })
        })
        .collect();
    for one in crowd {
        let _ = admitted(one.await.unwrap());
    }
    assert_eq!(remaining(&store).await, 900);
}

#[tokio::test]
async fn what_is_not_needed_goes_back_when_the_last_clone_is_dropped() {
    let Some(server) = Server::start() else {
        return;
    };
    let (leased, store) = pair(&server).await;
    let (_, quota) = admitted(spend(&leased, 1).await);
    assert_eq!(quota.unwrap().remaining, 900);
    assert_eq!(remaining(&store).await, 900);
    drop(leased);
    becomes(&store, 999).await;
}

#[tokio::test]
async fn what_is_not_needed_goes_back_when_the_term_is_over() {
    let Some(server) = Server::start() else {
        return;
    };
    let (leased, store) = pair(&server).await;
    let alice = leased.for_key("alice");
    let _ = admitted(spend(&leased, 30).await);
    let _ = admitted(spend(&alice, 40).await);
    assert_eq!(remaining(&store).await, 900);
    becomes(&store, 970).await;
    becomes(&store.for_key("alice"), 960).await;
}

#[tokio::test]
async fn what_is_not_needed_can_be_given_back_at_once() {
    let Some(server) = Server::start() else {
        return;
    };
    let (leased, store) = pair(&server).await;
    let (receipt, _) = admitted(spend(&leased, 30).await);
    leased.give_back().await;
    assert_eq!(remaining(&store).await, 970);
    // What is settled later than that goes straight to the store.
    receipt.settle(Demand::of(10));
    becomes(&store, 990).await;
}

#[tokio::test]
async fn corrections_are_made_in_the_lease() {
    let Some(server) = Server::start() else {
        return;
    };
    let (leased, store) = pair(&server).await;
    let (receipt, _) = admitted(spend(&leased, 30).await);
    receipt.settle(Demand::of(50));
    let (receipt, _) = admitted(spend(&leased, 50).await);
    receipt.refund();
    let _ = admitted(spend(&leased, 50).await);
    assert_eq!(remaining(&store).await, 900);
    // What the lease has not is owed to the store.
    let (receipt, _) = admitted(spend(&leased, 1).await);
    receipt.settle(Demand::of(400));
    leased.give_back().await;
    becomes(&store, 500).await;
}

#[tokio::test]
async fn a_request_larger_than_a_slice_takes_what_it_needs() {
    let Some(server) = Server::start() else {
        return;
    };
    let (leased, store) = pair(&server).await;
    let _ = admitted(spend(&leased, 700).await);
    assert_eq!(remaining(&store).await, 300);
    let _ = admitted(spend(&leased, 300).await);
    short(spend(&leased, 1).await);
}

#[tokio::test]
async fn the_last_of_the_budget_is_less_than_a_slice() {
    let Some(server) = Server::start() else {
        return;
    };
    let (leased, store) = pair(&server).await;
    let _ = admitted(spend(&store, 995).await);
    for _ in 0..5 {
        let _ = admitted(spend(&leased, 1).await);
    }
    short(spend(&leased, 1).await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_leased_can_be_spent_while_the_store_hangs() {
    let Some(server) = Server::start() else {
        return;
    };
    let (leased, store) = pair(&server).await;
    let _ = admitted(spend(&leased, 1).await);
    server.pause();
    let mut let_in = 0;
    while let Decision::Admitted { .. } = spend(&leased, 1).await {
        let_in += 1;
    }
    assert!(let_in <= 99, "{let_in}");
    server.resume();
    // Whatever of it was spent, and however long it took: nothing is left over.
    leased.give_back().await;
    becomes(&store, 999 - let_in).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_machines_never_spend_more_than_a_slice_each_above_the_budget() {
    let Some(server) = Server::start() else {
        return;
    };
    let budget = Budget::per_second(500).burst(50);
    let (let_in, took) = hammered(&server, |rate| rate.lease(0.1), budget).await;
    let most = 50.0 + 500.0 * took.as_secs_f64() + 2.0 * 5.0;
    assert!(let_in as f64 <= most, "{let_in} in {took:?}");
    assert!(let_in >= 900, "{let_in} in {took:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[expect(clippy::disallowed_methods, reason = "the server's time is real")]
async fn demand_of_twice_the_limit_is_not_taken_for_a_store_that_is_lost() {
    let Some(server) = Server::start() else {
        return;
    };
    let budget = Budget::per_second(5000).burst(500);
    // Some come back in each round trip, so that the store is never quite empty.
    let connection = server.far_connection(Duration::from_millis(2)).await;
    let rate = SharedRate::new(connection, "a", budget, OnUnavailable::Admit)
        .timeout(Duration::from_secs(2))
        .lease(0.1);
    let let_in = Arc::new(AtomicU64::new(0));
    let mut requests = Vec::new();
    let begin = Instant::now();
    while begin.elapsed() < Duration::from_secs(2) {
        tokio::time::sleep(Duration::from_millis(2)).await;
        while (requests.len() as f64) < 10_000.0 * begin.elapsed().as_secs_f64() {
            let (rate, let_in) = (rate.clone(), Arc::clone(&let_in));
            requests.push(tokio::spawn(async move {
                if let Decision::Admitted { .. } = spend(&rate, 1).await {
                    let_in.fetch_add(1, Ordering::Relaxed);
                }
            }));
        }
        assert!(!is_lost(&rate));
    }
    for request in requests {
        request.await.unwrap();
    }
    let (let_in, took) = (let_in.load(Ordering::Relaxed) as f64, begin.elapsed());
    let most = 500.0 + 5000.0 * took.as_secs_f64() + 50.0;
    assert!(let_in <= most, "{let_in} in {took:?}");
    assert!(let_in >= 5000.0, "{let_in} in {took:?}");
}
