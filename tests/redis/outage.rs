//! The store hangs, or is gone, in the middle of it.

use std::time::{Duration, Instant};

use tower_backpressure::{
    Demand,
    rate::{Decision, OnUnavailable, Short},
    redis::SharedRate,
};

use crate::{
    decisions::{HOUR, admitted, becomes, remaining, short, slow, spend},
    server::Server,
};

const TIMEOUT: Duration = Duration::from_millis(50);
/// The machine is busy with other tests. A request that hung would take seconds.
const MARGIN: Duration = Duration::from_millis(150);

async fn rate(server: &Server, on_unavailable: OnUnavailable) -> SharedRate {
    SharedRate::new(server.manager().await, "a", slow(100), on_unavailable).timeout(TIMEOUT)
}

/// Decides, and how long that took.
#[expect(clippy::disallowed_methods, reason = "real time is what is tested")]
async fn timed(rate: &SharedRate) -> (Decision, Duration) {
    let begin = Instant::now();
    let decision = spend(rate, 1).await;
    (decision, begin.elapsed())
}

/// Until the store decides again.
async fn recovered(rate: &SharedRate) {
    for _ in 0..1000 {
        if let Decision::Admitted { quota: Some(_), .. } | Decision::Short { quota: Some(_), .. } =
            spend(rate, 0).await
        {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("the store is not found again");
}

pub fn is_lost(rate: &SharedRate) -> bool {
    format!("{rate:?}").contains("unavailable: true")
}

/// Requests one after the other, a millisecond apart. No one waits longer than the timeout, and few wait at all.
async fn none_hangs(rate: &SharedRate, requests: usize) -> Vec<Decision> {
    let mut decisions = Vec::new();
    let mut waited = 0;
    for _ in 0..requests {
        let (decision, took) = timed(rate).await;
        assert!(took < TIMEOUT + MARGIN, "{took:?}");
        waited += usize::from(took > TIMEOUT / 2);
        decisions.push(decision);
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    assert!(waited <= 5, "{waited} of {requests} waited");
    decisions
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_store_that_hangs_holds_up_nobody_and_finds_its_budget_as_it_was() {
    let Some(server) = Server::start() else {
        return;
    };
    // Nobody hears the answers that come when it goes on.
    let manager = server.patient_manager(TIMEOUT + TIMEOUT / 2).await;
    let rate = SharedRate::new(manager, "a", slow(100), OnUnavailable::Reject).timeout(TIMEOUT);
    let _ = admitted(spend(&rate, 10).await);

    server.pause();
    // A crowd, so that many calls are under way when it hangs.
    let crowd: Vec<_> = (0..20)
        .map(|_| {
            let rate = rate.clone();
            tokio::spawn(async move { timed(&rate).await })
        })
        .collect();
    for one in crowd {
        let (decision, took) = one.await.unwrap();
        assert!(matches!(decision, Decision::Unavailable), "{decision:?}");
        assert!(took < TIMEOUT + MARGIN, "{took:?}");
    }
    for decision in none_hangs(&rate, 200).await {
        assert!(matches!(decision, Decision::Unavailable), "{decision:?}");
    }

    server.resume();
    recovered(&rate).await;
    // What it found on its table spent nothing.
    assert_eq!(remaining(&rate).await, 90);
    let _ = admitted(spend(&rate, 90).await);
    short(spend(&rate, 1).await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_spent_too_late_is_given_back_even_if_the_stores_clock_was_unknown() {
    let Some(server) = Server::start() else {
        return;
    };
    let rate = rate(&server, OnUnavailable::Reject).await;
    server.pause();
    let (decision, _) = timed(&rate).await;
    assert!(matches!(decision, Decision::Unavailable), "{decision:?}");
    server.resume();
    recovered(&rate).await;
    becomes(&rate, 100).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_store_that_is_killed_and_started_again_is_found_again() {
    let Some(mut server) = Server::start() else {
        return;
    };
    let rate = rate(&server, OnUnavailable::Reject).await;
    let _ = admitted(spend(&rate, 100).await);
    short(spend(&rate, 1).await);

    server.kill();
    for decision in none_hangs(&rate, 200).await {
        assert!(matches!(decision, Decision::Unavailable), "{decision:?}");
    }

    server.restart();
    recovered(&rate).await;
    // It has forgotten everything, so the burst is there once more, and no more than once.
    let _ = admitted(spend(&rate, 100).await);
    short(spend(&rate, 1).await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn everything_is_let_in_if_that_was_chosen() {
    let Some(server) = Server::start() else {
        return;
    };
    let rate = rate(&server, OnUnavailable::Admit).await;
    let _ = admitted(spend(&rate, 100).await);
    server.pause();
    for decision in none_hangs(&rate, 200).await {
        let (receipt, quota) = admitted(decision);
        assert_eq!(quota, None);
        receipt.settle(Demand::of(50));
    }
    server.resume();
    recovered(&rate).await;
    // Neither charged nor settled.
    let Short::Wait(wait) = short(spend(&rate, 1).await) else {
        panic!()
    };
    assert!(wait <= HOUR, "{wait:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_machine_keeps_to_its_share_if_that_was_chosen() {
    let Some(server) = Server::start() else {
        return;
    };
    let rate = rate(&server, OnUnavailable::Local(0.25)).await;
    let alice = rate.for_key("alice");
    let _ = admitted(spend(&alice, 1).await);
    server.pause();
    let decisions = none_hangs(&alice, 40).await;
    let let_in = decisions
        .iter()
        .filter(|d| matches!(d, Decision::Admitted { .. }))
        .count();
    assert_eq!(let_in, 25);
    assert!(matches!(
        decisions[39],
        Decision::Short {
            short: Short::Wait(_),
            ..
        }
    ));

    // A handle made anew remembers; another key has a share of its own.
    short(spend(&rate.for_key("alice"), 1).await);
    let (receipt, _) = admitted(spend(&rate.for_key("bob"), 25).await);
    short(spend(&rate.for_key("bob"), 1).await);
    receipt.settle(Demand::of(20));
    let _ = admitted(spend(&rate.for_key("bob"), 5).await);
    // More than the share, but not more than the burst, passes when the share is all there.
    let _ = admitted(spend(&rate.for_key("carol"), 80).await);

    server.resume();
    recovered(&alice).await;
    assert_eq!(remaining(&alice).await, 99);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_debt_made_while_the_store_hangs_is_remembered() {
    let Some(server) = Server::start() else {
        return;
    };
    let rate = rate(&server, OnUnavailable::Reject).await;
    let (receipt, _) = admitted(spend(&rate, 10).await);
    server.pause();
    none_hangs(&rate, 3).await;
    receipt.settle(Demand::of(130));
    server.resume();
    recovered(&rate).await;
    becomes(&rate, 0).await;
    let Short::Wait(wait) = short(spend(&rate, 0).await) else {
        panic!()
    };
    assert!(wait > 29 * HOUR && wait <= 30 * HOUR, "{wait:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_store_that_cannot_write_is_lost_until_it_can() {
    let Some(server) = Server::start() else {
        return;
    };
    let rate = rate(&server, OnUnavailable::Reject).await;
    let _ = admitted(spend(&rate, 10).await);
    let most = async |bytes: &str| {
        let mut connection = server.connection().await;
        let mut set = redis::cmd("CONFIG");
        set.arg("SET").arg("maxmemory").arg(bytes);
        let () = set.query_async(&mut connection).await.unwrap();
    };

    most("1").await;
    for _ in 0..200 {
        let decision = spend(&rate, 1).await;
        assert!(matches!(decision, Decision::Unavailable), "{decision:?}");
        tokio::time::sleep(Duration::from_millis(1)).await;
        assert!(is_lost(&rate));
    }
    most("0").await;
    recovered(&rate).await;
    assert_eq!(remaining(&rate).await, 90);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_key_that_holds_something_else_is_lost_alone() {
    let Some(server) = Server::start() else {
        return;
    };
    let rate = rate(&server, OnUnavailable::Reject).await;
    let mut connection = server.connection().await;
    let mut run = async |command: &str, args: &[&str]| {
        let mut command = redis::cmd(command);
        command.arg(args).exec_async(&mut connection).await.unwrap();
    };
    for (command, something) in [("SET", "something else"), ("LPUSH", "of a list")] {
        run(command, &["{a:bad}:0", something]).await;
        for _ in 0..5 {
            let decision = spend(&rate.for_key("bad"), 1).await;
            assert!(matches!(decision, Decision::Unavailable), "{decision:?}");
            assert!(!is_lost(&rate));
            let (_, quota) = admitted(spend(&rate.for_key("good"), 1).await);
            assert!(quota.is_some(), "by the store");
        }
        run("DEL", &["{a:bad}:0"]).await;
        let _ = admitted(spend(&rate.for_key("bad"), 1).await);
        run("DEL", &["{a:bad}:0"]).await;
    }
}
