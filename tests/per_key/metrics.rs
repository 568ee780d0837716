//! What a recorder sees of keys.

use std::collections::BTreeMap;

use metrics_util::debugging::{DebugValue, DebuggingRecorder};

use super::*;

#[tokio::test(start_paused = true)]
async fn keys_are_counted_as_they_come_and_go() {
    let recorder = DebuggingRecorder::new();
    let _installed = ::metrics::set_default_local_recorder(&recorder);
    let snapshotter = recorder.snapshotter();
    let keys = || {
        let seen = snapshotter.snapshot().into_vec().into_iter();
        seen.filter(|(key, ..)| key.key().name() == "backpressure_keys")
            .find_map(|(.., value)| match value {
                DebugValue::Gauge(n) => Some(n.into_inner()),
                _ => None,
            })
    };
    let layer = BackpressureLayer::drop_newest(10)
        .max_keys(2)
        .per_key(key, |_: &String| BackpressureLayer::drop_newest(1));
    for (path, expected) in [("/a", 1.0), ("/b", 2.0), ("/c", 2.0), ("/d", 2.0)] {
        assert_eq!(status(&layer, path).await, StatusCode::OK);
        assert_eq!(keys(), Some(expected), "{path}");
    }
}

#[tokio::test(start_paused = true)]
async fn metrics_show_the_sum_of_all_keys_and_no_label_for_any() {
    let recorder = DebuggingRecorder::new();
    let _installed = ::metrics::set_default_local_recorder(&recorder);
    let snapshotter = recorder.snapshotter();
    let layer = by_rate(BackpressureLayer::drop_newest(10).named("keyed"), 1);
    let mut held = Vec::new();
    for n in 0..100 {
        let path = format!("/{}", n % 80);
        match n {
            0..3 => held.push(stays(&layer, &path)),
            _ => drop(status(&layer, &path).await),
        }
    }

    let mut seen = BTreeMap::new();
    for (key, _, _, value) in snapshotter.snapshot().into_vec() {
        for label in key.key().labels() {
            assert!(["gate", "reason", "outcome"].contains(&label.key()));
            assert!(label.key() != "gate" || label.value() == "keyed");
        }
        let value = match value {
            DebugValue::Counter(n) => n as f64,
            DebugValue::Gauge(n) => n.into_inner(),
            DebugValue::Histogram(_) => continue,
        };
        *seen.entry(key.key().name().to_owned()).or_insert(0.0) += value;
    }
    let expected = [
        ("backpressure_admitted_total", 80.0),
        ("backpressure_completed_total", 77.0),
        ("backpressure_in_flight", 3.0),
        ("backpressure_keys", 80.0),
        ("backpressure_limit", 10.0),
        ("backpressure_rejected_total", 20.0),
        ("backpressure_waiting", 0.0),
    ];
    let expected = expected.map(|(name, n)| (name.to_owned(), n));
    assert_eq!(seen, BTreeMap::from(expected));
}
