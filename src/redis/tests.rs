//! What happens between requests, the machine's memory and the store, in paused time.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use tokio::time::sleep;

use super::{
    Budget, SharedRate,
    pretend::{Pretend, error},
    script::Call,
};
use crate::{
    Demand,
    rate::{Decision, OnUnavailable, RemoteRate, Short},
};

const MS: Duration = Duration::from_millis(1);

async fn spend(rate: &SharedRate, cost: u64) -> Decision {
    rate.spend(&Demand::of(cost)).await
}

/// What the store has left of the first limit.
async fn remaining(store: &Arc<Pretend>, budget: Budget) -> u64 {
    match spend(&store.rate(budget, OnUnavailable::Reject), 0).await {
        Decision::Admitted { quota, .. } => quota.unwrap().remaining,
        other => panic!("{other:?}"),
    }
}

/// So many requests in each millisecond. Returns how many were let in.
async fn offered(rate: &SharedRate, each: u64, millis: u64) -> u64 {
    let let_in = Arc::new(AtomicU64::new(0));
    let mut requests = Vec::new();
    for _ in 0..millis {
        for _ in 0..each {
            let (rate, let_in) = (rate.clone(), Arc::clone(&let_in));
            requests.push(tokio::spawn(async move {
                match spend(&rate, 1).await {
                    Decision::Admitted { .. } => let_in.fetch_add(1, Ordering::Relaxed),
                    Decision::Short { .. } => 0,
                    Decision::Unavailable => panic!("the store answers"),
                };
            }));
        }
        sleep(MS).await;
        assert!(!rate.core.health.is_down(), "the store answers");
    }
    for request in requests {
        request.await.unwrap();
    }
    let_in.load(Ordering::Relaxed)
}

#[tokio::test(start_paused = true)]
async fn demand_of_twice_the_limit_is_not_taken_for_a_store_that_is_lost() {
    let store = Pretend::new();
    // Ten more in each round trip, so that the store always has some.
    let budget = Budget::per_second(10_000).burst(1000);
    let rate = store.rate(budget, OnUnavailable::Admit).lease(0.1);
    let let_in = offered(&rate, 20, 1000).await;
    assert!(let_in <= 1000 + 10_050 + 100, "{let_in}");
    assert!(let_in >= 9900, "{let_in}");
    assert!(store.calls() <= 1100, "{}", store.calls());
}

#[tokio::test(start_paused = true)]
async fn who_waits_in_the_line_of_a_store_that_hangs_is_decided_by_the_policy() {
    let store = Pretend::new();
    let budget = Budget::per_second(10_000).burst(1000);
    let rate = store.rate(budget, OnUnavailable::Admit).lease(0.1);
    store.silent(true);
    let crowd: Vec<_> = (0..20)
        .map(|_| {
            let rate = rate.clone();
            tokio::spawn(async move { spend(&rate, 1).await })
        })
        .collect();
    for one in crowd {
        let decision = one.await.unwrap();
        assert!(
            matches!(decision, Decision::Admitted { .. }),
            "{decision:?}"
        );
    }
    assert!(rate.core.health.is_down());
    // Of the one in front; the other is a probe.
    assert_eq!(store.calls(), 2);
}

#[tokio::test(start_paused = true)]
async fn who_is_not_reached_in_a_line_that_moves_is_refused() {
    let store = Pretend::new();
    let budget = Budget::per_second(1).burst(10_000);
    // Each takes a round trip of its own.
    let rate = store.rate(budget, OnUnavailable::Admit).lease(0.001);
    let crowd: Vec<_> = (0..100)
        .map(|_| {
            let rate = rate.clone();
            tokio::spawn(async move { spend(&rate, 50).await })
        })
        .collect();
    let mut refused = 0;
    for one in crowd {
        match one.await.unwrap() {
            Decision::Admitted { quota, .. } => assert!(quota.is_some(), "by the store"),
            Decision::Short { short, .. } => {
                assert_eq!(short, Short::Wait(50 * MS));
                refused += 1;
            }
            Decision::Unavailable => panic!("the store answers"),
        }
    }
    assert!(refused > 40, "{refused}");
    assert!(!rate.core.health.is_down());
}

#[tokio::test(start_paused = true)]
async fn a_debt_that_cannot_be_told_is_sent_again_after_a_while() {
    for line in ["OOM no memory", "WRONGTYPE of another kind"] {
        let store = Pretend::new();
        let rate = store.rate(Budget::per_second(1).burst(100), OnUnavailable::Reject);
        let Decision::Admitted { receipt, .. } = spend(&rate, 10).await else {
            panic!()
        };
        match line {
            "OOM no memory" => {
                store.fails(|call| matches!(call, Call::Settle(_)).then(|| error("OOM no memory")))
            }
            _ => store.fails(|call| {
                matches!(call, Call::Settle(_)).then(|| error("WRONGTYPE of another kind"))
            }),
        }
        receipt.settle(Demand::of(30));
        sleep(1000 * MS).await;
        assert!(store.calls() <= 20, "{line}: {}", store.calls());
        store.fails(|_| None);
        sleep(5000 * MS).await;
        let Decision::Admitted { quota, .. } = spend(&rate, 0).await else {
            panic!()
        };
        assert_eq!(quota.unwrap().remaining, 76);
        assert!(!rate.core.health.is_down());
    }
}

/// So slow that nothing comes back during a test.
fn slow(burst: u64) -> Budget {
    Budget::per(1, Duration::from_secs(3600)).burst(burst)
}

#[tokio::test(start_paused = true)]
async fn all_that_is_left_of_every_limit_goes_back_when_the_term_is_over() {
    let store = Pretend::new();
    let tokens = slow(10_000);
    let rate = (store.rate(tokens, OnUnavailable::Reject))
        .and(slow(100).requests())
        .lease(0.1);
    // Every ten requests bring a slice of requests, and next to no tokens.
    for _ in 0..35 {
        let decision = spend(&rate, 1).await;
        assert!(matches!(decision, Decision::Admitted { .. }));
    }
    sleep(1100 * MS).await;
    assert_eq!(remaining(&store, tokens).await, 10_000 - 35);
}

#[tokio::test(start_paused = true)]
async fn what_was_set_aside_in_vain_goes_back_when_the_term_is_over_meanwhile() {
    let store = Pretend::new();
    let rate = store.rate(slow(1000), OnUnavailable::Reject).lease(0.1);
    let decision = spend(&rate, 1).await;
    assert!(matches!(decision, Decision::Admitted { .. }));

    store.slow(2000 * MS);
    store.fails(|call| matches!(call, Call::Spend { .. }).then(|| error("OOM no memory")));
    let decision = spend(&rate, 150).await;
    assert!(matches!(decision, Decision::Unavailable));
    store.slow(Duration::ZERO);
    store.fails(|_| None);
    sleep(3000 * MS).await;
    assert_eq!(remaining(&store, slow(1000)).await, 999);
}
