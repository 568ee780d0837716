//! What a recorder sees.

use std::collections::BTreeMap;

use metrics_util::debugging::{DebugValue, DebuggingRecorder, Snapshotter};
use tower_backpressure::{
    AdaptiveRateController, BackpressureController,
    BackpressureStrategy::{Adaptive, DropOldest},
};

/// All there is, as what it has changed by since the last look: a look takes everything away. Everything is described.
#[track_caller]
fn seen(snapshotter: &Snapshotter, stream: &str) -> BTreeMap<String, f64> {
    let mut seen = BTreeMap::new();
    for (key, _, description, value) in snapshotter.snapshot().into_vec() {
        let labels = key.key().labels();
        let mut labels: Vec<_> = labels.map(|label| (label.key(), label.value())).collect();
        if !labels.contains(&("stream", stream)) {
            continue;
        }
        labels.retain(|(key, _)| *key != "stream");
        let name = key
            .key()
            .name()
            .strip_prefix("backpressure_stream_")
            .unwrap();
        assert!(description.is_some(), "{name}");
        let name = match labels.as_slice() {
            [] => name.to_owned(),
            labels => format!("{name} {}", labels[0].1),
        };
        let value = match value {
            DebugValue::Counter(count) => count as f64,
            DebugValue::Gauge(value) => value.into_inner(),
            other => panic!("{name} is {other:?}"),
        };
        seen.insert(name, value);
    }
    seen
}

fn expect(seen: &BTreeMap<String, f64>, expected: &[(&str, f64)]) {
    let expected = expected
        .iter()
        .map(|(name, value)| ((*name).to_owned(), *value));
    assert_eq!(*seen, expected.collect());
}

#[test]
fn a_recorder_that_comes_later_is_told_what_was_before() {
    let controller = BackpressureController::builder(4, DropOldest)
        .named("late")
        .build();
    let mut stream = controller.create_stream();
    let sender = stream.sender();
    (0..10).for_each(|n| drop(sender.try_send(n)));

    let recorder = DebuggingRecorder::new();
    let snapshotter = recorder.snapshotter();
    let _installed = metrics::set_default_local_recorder(&recorder);
    for _ in 0..200 {
        sender.try_send(0).unwrap();
    }
    let mut all = seen(&snapshotter, "late");
    expect(
        &all,
        &[
            ("consumed_total", 0.0),
            ("depth", 4.0),
            ("dropped_total displaced", 206.0),
            ("dropped_total expired", 0.0),
            ("dropped_total unread", 0.0),
            ("events_total", 1.0),
            ("produced_total", 210.0),
            ("rate_limit", 0.0),
        ],
    );
    stream.try_receive();
    drop(stream);
    for (name, change) in seen(&snapshotter, "late") {
        *all.get_mut(&name).unwrap() += change;
    }
    expect(
        &all,
        &[
            ("consumed_total", 1.0),
            ("depth", 0.0),
            ("dropped_total displaced", 206.0),
            ("dropped_total expired", 0.0),
            ("dropped_total unread", 3.0),
            ("events_total", 1.0),
            ("produced_total", 210.0),
            ("rate_limit", 0.0),
        ],
    );
}

#[test]
fn streams_of_one_name_are_added_up() {
    let recorder = DebuggingRecorder::new();
    let snapshotter = recorder.snapshotter();
    let _installed = metrics::set_default_local_recorder(&recorder);
    let controller = BackpressureController::builder(4, Adaptive)
        .named("sums")
        .rate(AdaptiveRateController::default().initial(70.0))
        .build();
    let streams = [(); 3].map(|()| controller.create_stream());
    for stream in &streams {
        let sender = stream.sender();
        sender.try_send(1).unwrap();
        sender.try_send(2).unwrap();
    }
    let now = seen(&snapshotter, "sums");
    assert_eq!(
        (now["depth"], now["produced_total"], now["rate_limit"]),
        (6.0, 6.0, 210.0)
    );
    let [one, _two, three] = streams;
    drop((one, three));
    let change = seen(&snapshotter, "sums");
    assert_eq!(
        (change["depth"], change["dropped_total unread"]),
        (-4.0, 4.0)
    );
    assert_eq!(change["rate_limit"], -140.0);
}
