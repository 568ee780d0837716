//! What a recorder sees of a shared rate.
#![cfg(feature = "metrics")]

use std::{collections::BTreeMap, time::Duration};

use metrics_util::debugging::{DebugValue, DebuggingRecorder, Snapshotter};
use tower_backpressure::{
    rate::{Decision, OnUnavailable},
    redis::SharedRate,
};

use crate::{
    decisions::{admitted, short, slow, spend},
    server::Server,
};

/// What was recorded for the rate since the last look, by its name and the labels that tell it apart.
fn seen(snapshotter: &Snapshotter) -> BTreeMap<String, f64> {
    let mut seen = BTreeMap::new();
    for (key, _, _, value) in snapshotter.snapshot().into_vec() {
        let labels: Vec<(&str, &str)> = key
            .key()
            .labels()
            .map(|label| (label.key(), label.value()))
            .collect();
        if !labels.contains(&("rate", "measured")) {
            continue;
        }
        let labels: Vec<&str> = labels
            .iter()
            .filter(|(name, _)| *name != "rate")
            .map(|(_, value)| *value)
            .collect();
        let value = match value {
            DebugValue::Counter(count) => count as f64,
            DebugValue::Gauge(value) => value.into_inner(),
            DebugValue::Histogram(_) => continue,
        };
        if value != 0.0 {
            let name = key
                .key()
                .name()
                .trim_start_matches("backpressure_shared_rate_");
            seen.insert(format!("{name} {}", labels.join(" ")), value);
        }
    }
    seen
}

fn expect(seen: BTreeMap<String, f64>, expected: &[(&str, f64)]) {
    let expected: BTreeMap<String, f64> = expected
        .iter()
        .map(|(name, value)| ((*name).to_owned(), *value))
        .collect();
    assert_eq!(seen, expected);
}

#[tokio::test]
async fn decisions_are_told_apart_by_how_they_were_made() {
    let Some(server) = Server::start() else {
        return;
    };
    let recorder = DebuggingRecorder::new();
    let snapshotter = recorder.snapshotter();
    // Everything runs on this thread.
    let _recorder = metrics::set_default_local_recorder(&recorder);

    let rate = SharedRate::new(
        server.manager().await,
        "measured",
        slow(5),
        OnUnavailable::Local(0.4),
    );
    let leased = SharedRate::new(
        server.manager().await,
        "measured",
        slow(5),
        OnUnavailable::Reject,
    )
    .lease(0.4);
    let _ = admitted(spend(&rate, 2).await);
    short(spend(&rate, 4).await);
    short(spend(&rate, 6).await);
    expect(
        seen(&snapshotter),
        &[
            ("decisions_total store admitted", 1.0),
            ("decisions_total store rejected", 1.0),
            ("decisions_total burst rejected", 1.0),
        ],
    );

    for _ in 0..2 {
        let _ = admitted(spend(&leased, 1).await);
    }
    expect(
        seen(&snapshotter),
        &[
            ("decisions_total store admitted", 1.0),
            ("decisions_total lease admitted", 1.0),
        ],
    );

    server.pause();
    let _ = admitted(spend(&rate, 2).await);
    short(spend(&rate, 1).await);
    expect(
        seen(&snapshotter),
        &[
            ("decisions_total policy admitted", 1.0),
            ("decisions_total policy rejected", 1.0),
            ("unavailable ", 1.0),
        ],
    );

    server.resume();
    while let Decision::Short { quota: None, .. } | Decision::Admitted { quota: None, .. } =
        spend(&rate, 0).await
    {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let seen = seen(&snapshotter);
    assert!(!seen.contains_key("unavailable "), "{seen:?}");
    assert_eq!(seen["decisions_total store admitted"], 1.0);
}

#[tokio::test]
async fn a_recorder_that_comes_late_is_noticed() {
    let Some(server) = Server::start() else {
        return;
    };
    let rate = SharedRate::new(
        server.manager().await,
        "measured",
        slow(1000),
        OnUnavailable::Reject,
    );
    let _ = admitted(spend(&rate, 1).await);
    let recorder = DebuggingRecorder::new();
    let snapshotter = recorder.snapshotter();
    let _recorder = metrics::set_default_local_recorder(&recorder);
    for _ in 0..100 {
        let _ = admitted(spend(&rate, 1).await);
    }
    let seen = seen(&snapshotter);
    assert!(seen["decisions_total store admitted"] >= 36.0, "{seen:?}");
}

#[tokio::test]
async fn a_recorder_that_comes_during_an_outage_is_told() {
    let Some(server) = Server::start() else {
        return;
    };
    let rate = SharedRate::new(
        server.manager().await,
        "measured",
        slow(1000),
        OnUnavailable::Reject,
    );
    let _ = admitted(spend(&rate, 1).await);
    server.pause();
    let _ = spend(&rate, 1).await;
    let recorder = DebuggingRecorder::new();
    let snapshotter = recorder.snapshotter();
    let _recorder = metrics::set_default_local_recorder(&recorder);
    for _ in 0..100 {
        let _ = spend(&rate, 1).await;
    }
    assert_eq!(seen(&snapshotter)["unavailable "], 1.0);
}
