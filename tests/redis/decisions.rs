//! What is decided, with the store's own time.

use std::time::Duration;

use redis::AsyncCommands;
use tower_backpressure::{
    Demand,
    rate::{Decision, OnUnavailable, Quota, Receipt, RemoteRate, Short},
    redis::{Budget, SharedRate},
};

use crate::server::Server;

pub const HOUR: Duration = Duration::from_secs(3600);

/// So slow that nothing comes back during a test.
pub fn slow(burst: u64) -> Budget {
    Budget::per(1, HOUR).burst(burst)
}

pub async fn spend(rate: &SharedRate, cost: u64) -> Decision {
    rate.spend(&Demand::of(cost)).await
}

pub fn admitted(decision: Decision) -> (Receipt, Option<Quota>) {
    match decision {
        Decision::Admitted { receipt, quota } => (receipt, quota),
        refused => panic!("{refused:?}"),
    }
}

pub fn short(decision: Decision) -> Short {
    match decision {
        Decision::Short { short, .. } => short,
        other => panic!("{other:?}"),
    }
}

/// What the store says is left, if it answers in time.
async fn told(rate: &SharedRate) -> Option<u64> {
    match spend(rate, 0).await {
        Decision::Admitted { quota, .. } | Decision::Short { quota, .. } => {
            quota.map(|quota| quota.remaining)
        }
        Decision::Unavailable => None,
        other => panic!("{other:?}"),
    }
}

/// What the store says is left.
pub async fn remaining(rate: &SharedRate) -> u64 {
    told(rate).await.expect("the store is there")
}

/// Corrections travel by themselves, so the store is asked until it has heard.
pub async fn becomes(rate: &SharedRate, expected: u64) {
    for _ in 0..500 {
        if told(rate).await == Some(expected) {
            return;
        }
        tokio::time::sleep(Duration::from_millis(4)).await;
    }
    assert_eq!(remaining(rate).await, expected);
}

#[tokio::test]
async fn a_quota_is_counted_down_and_the_wait_is_told() {
    let Some(server) = Server::start() else {
        return;
    };
    let rate = SharedRate::new(
        server.connection().await,
        "a",
        Budget::per_minute(60).burst(3),
        OnUnavailable::Reject,
    );
    for left in [2, 1, 0] {
        let (_, quota) = admitted(spend(&rate, 1).await);
        let quota = quota.unwrap();
        assert_eq!((quota.limit, quota.remaining), (3, left));
        assert_eq!(quota.window, Duration::from_secs(3));
    }
    let Short::Wait(wait) = short(spend(&rate, 1).await) else {
        panic!()
    };
    assert!(
        wait > Duration::from_millis(500) && wait <= Duration::from_secs(1),
        "{wait:?}"
    );
}

#[tokio::test]
async fn what_costs_more_than_the_burst_is_refused_for_good_without_asking() {
    let Some(mut server) = Server::start() else {
        return;
    };
    let rate = SharedRate::new(
        server.connection().await,
        "a",
        slow(5),
        OnUnavailable::Admit,
    );
    server.kill();
    assert_eq!(short(spend(&rate, 6).await), Short::Never { most: 5 });
}

#[tokio::test]
async fn refused_by_one_limit_it_spends_none() {
    let Some(server) = Server::start() else {
        return;
    };
    let tokens = slow(1000);
    let rate = SharedRate::new(
        server.connection().await,
        "chat",
        tokens,
        OnUnavailable::Reject,
    )
    .and(slow(2).requests());
    let _ = admitted(spend(&rate, 100).await);
    let _ = admitted(spend(&rate, 100).await);
    // The requests are used up, the tokens are not.
    short(spend(&rate, 100).await);
    let mut connection = server.connection().await;
    let kept: String = connection.get("{chat}:0").await.unwrap();
    let level: u64 = kept.split(' ').next().unwrap().parse().unwrap();
    let parts = HOUR.as_micros() as u64;
    assert_eq!(level.div_ceil(parts), 200);

    // And the other way round: too few tokens spend no request.
    let rate = SharedRate::new(
        server.connection().await,
        "talk",
        tokens,
        OnUnavailable::Reject,
    )
    .and(slow(2).requests());
    let _ = admitted(spend(&rate, 900).await);
    short(spend(&rate, 200).await);
    let _ = admitted(spend(&rate, 100).await);
}

#[tokio::test]
async fn the_quota_told_is_that_of_the_limit_with_least_left() {
    let Some(server) = Server::start() else {
        return;
    };
    let rate = SharedRate::new(
        server.connection().await,
        "a",
        slow(1000),
        OnUnavailable::Reject,
    )
    .and(slow(10).requests());
    let (_, quota) = admitted(spend(&rate, 1).await);
    assert_eq!(quota.unwrap().limit, 10);
    let (_, quota) = admitted(spend(&rate, 900).await);
    assert_eq!(quota.unwrap().limit, 1000);
}

#[tokio::test]
async fn a_request_that_never_ran_is_given_back() {
    let Some(server) = Server::start() else {
        return;
    };
    let rate = SharedRate::new(
        server.connection().await,
        "a",
        slow(10),
        OnUnavailable::Reject,
    );
    let (receipt, _) = admitted(spend(&rate, 7).await);
    assert_eq!(remaining(&rate).await, 3);
    receipt.refund();
    becomes(&rate, 10).await;
}

#[tokio::test]
async fn a_cost_is_settled_down_and_up() {
    let Some(server) = Server::start() else {
        return;
    };
    let rate = SharedRate::new(
        server.connection().await,
        "a",
        slow(10),
        OnUnavailable::Reject,
    );
    let (down, _) = admitted(spend(&rate, 7).await);
    down.settle(Demand::of(2));
    becomes(&rate, 8).await;
    let (up, _) = admitted(spend(&rate, 1).await);
    up.settle(Demand::of(12));
    // Four more than there was: a debt, and not even nothing passes.
    becomes(&rate, 0).await;
    let Short::Wait(wait) = short(spend(&rate, 0).await) else {
        panic!()
    };
    assert!(wait > 3 * HOUR && wait <= 4 * HOUR, "{wait:?}");
}

#[tokio::test]
async fn a_dropped_receipt_leaves_the_cost_as_it_is() {
    let Some(server) = Server::start() else {
        return;
    };
    let rate = SharedRate::new(
        server.connection().await,
        "a",
        slow(10),
        OnUnavailable::Reject,
    );
    drop(spend(&rate, 7).await);
    assert_eq!(remaining(&rate).await, 3);
}

#[tokio::test]
async fn a_request_that_left_while_it_waited_has_spent_nothing() {
    let Some(server) = Server::start() else {
        return;
    };
    let rate = SharedRate::new(
        server.connection().await,
        "a",
        slow(10),
        OnUnavailable::Reject,
    );
    let mut left = 0;
    for _ in 0..50 {
        let deciding = spend(&rate, 1);
        tokio::select! {
            biased;
            // Polled once, so that the store is asked, and gone.
            decision = deciding => drop(decision),
            () = tokio::task::yield_now() => left += 1,
        }
    }
    assert!(left > 0, "none of them left in time");
    becomes(&rate, 10 - (50 - left)).await;
}

#[tokio::test]
async fn keys_are_counted_apart() {
    let Some(server) = Server::start() else {
        return;
    };
    let rate = SharedRate::new(
        server.connection().await,
        "a",
        slow(3),
        OnUnavailable::Reject,
    );
    let _ = admitted(spend(&rate.for_key("alice"), 3).await);
    short(spend(&rate.for_key("alice"), 1).await);
    let _ = admitted(spend(&rate.for_key("bob"), 3).await);
    let _ = admitted(spend(&rate.for_key("b}o{b:"), 3).await);
    assert_eq!(remaining(&rate).await, 3);
}

#[tokio::test]
async fn a_key_expires_when_its_limit_is_full_again() {
    let Some(server) = Server::start() else {
        return;
    };
    let rate = SharedRate::new(
        server.connection().await,
        "a",
        Budget::per_second(10).burst(100),
        OnUnavailable::Reject,
    );
    let (receipt, _) = admitted(spend(&rate, 50).await);
    let mut connection = server.connection().await;
    let ttl: i64 = connection.pttl("{a}:0").await.unwrap();
    assert!(ttl > 4000 && ttl <= 5000, "{ttl}");
    receipt.refund();
    for _ in 0..500 {
        if !connection.exists::<_, bool>("{a}:0").await.unwrap() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(4)).await;
    }
    panic!("the key outlives what it tells");
}

#[tokio::test]
async fn another_rate_keeps_the_share_of_what_is_left() {
    let Some(server) = Server::start() else {
        return;
    };
    let old = SharedRate::new(
        server.connection().await,
        "a",
        slow(10),
        OnUnavailable::Reject,
    );
    let _ = admitted(spend(&old, 5).await);
    let new = SharedRate::new(
        server.connection().await,
        "a",
        Budget::per(3, HOUR).burst(40),
        OnUnavailable::Reject,
    );
    assert_eq!(remaining(&new).await, 20);
    assert_eq!(remaining(&old).await, 5);
}

#[tokio::test]
async fn a_script_that_was_forgotten_is_loaded_again() {
    let Some(server) = Server::start() else {
        return;
    };
    let rate = SharedRate::new(
        server.connection().await,
        "a",
        slow(10),
        OnUnavailable::Reject,
    );
    let _ = admitted(spend(&rate, 1).await);
    let mut connection = server.connection().await;
    let () = redis::cmd("SCRIPT")
        .arg("FLUSH")
        .query_async(&mut connection)
        .await
        .unwrap();
    let _ = admitted(spend(&rate, 1).await);
    assert_eq!(remaining(&rate).await, 8);
}

#[tokio::test]
async fn settings_that_cannot_work_are_refused() {
    let Some(server) = Server::start() else {
        return;
    };
    let connection = server.connection().await;
    for name in ["", "a:b", "{a", "a}"] {
        let error = SharedRate::try_new(connection.clone(), name, slow(1), OnUnavailable::Admit)
            .unwrap_err();
        assert_eq!(error.field(), "name of a shared rate");
    }
    let error = SharedRate::try_new(connection.clone(), "a", slow(1), OnUnavailable::Local(0.0))
        .unwrap_err();
    assert_eq!(error.field(), "local share of the rate");
    let rate = || SharedRate::new(connection.clone(), "a", slow(1), OnUnavailable::Admit);
    for share in [0.0, -1.0, 1.5, f64::NAN] {
        let error = rate().try_lease(share).unwrap_err();
        assert_eq!(error.field(), "leased share of the burst");
    }
    let error = rate().try_timeout(Duration::ZERO).unwrap_err();
    assert_eq!(error.field(), "timeout of a shared rate");
}
