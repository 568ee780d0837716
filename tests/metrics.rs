//! What a recorder sees. It is installed after the layers were built, as applications do it.
#![cfg(feature = "metrics")]

use std::{collections::BTreeMap, convert::Infallible, pin::pin, time::Duration};

use futures_util::poll;
use metrics_util::{
    CompositeKey, MetricKind,
    debugging::{DebugValue, DebuggingRecorder, Snapshotter},
};
use tower::{Layer, Service, ServiceExt, service_fn};
use tower_backpressure::BackpressureLayer;

/// Everything recorded for a gate since the last look, as `name{labels}`. Looking takes it away.
fn seen(snapshotter: &Snapshotter, gate: &str) -> BTreeMap<String, (MetricKind, bool, DebugValue)> {
    let snapshot = snapshotter.snapshot().into_vec();
    let of_gate = snapshot.into_iter().filter(|(key, ..)| {
        let mut labels = key.key().labels();
        labels.any(|label| label.key() == "gate" && label.value() == gate)
    });
    of_gate
        .map(|(key, _, description, value)| {
            (name(&key), (key.kind(), description.is_some(), value))
        })
        .collect()
}

fn name(key: &CompositeKey) -> String {
    let labels = key.key().labels().filter(|label| label.key() != "gate");
    let labels: Vec<_> = labels
        .map(|label| format!("{}={}", label.key(), label.value()))
        .collect();
    match labels.as_slice() {
        [] => key.key().name().to_owned(),
        labels => format!("{}{{{}}}", key.key().name(), labels.join(",")),
    }
}

fn counter(seen: &BTreeMap<String, (MetricKind, bool, DebugValue)>, name: &str) -> u64 {
    match &seen[name].2 {
        DebugValue::Counter(count) => *count,
        other => panic!("{name} is {other:?}"),
    }
}

fn gauge(seen: &BTreeMap<String, (MetricKind, bool, DebugValue)>, name: &str) -> f64 {
    match &seen[name].2 {
        DebugValue::Gauge(value) => value.into_inner(),
        other => panic!("{name} is {other:?}"),
    }
}

fn histogram(seen: &BTreeMap<String, (MetricKind, bool, DebugValue)>, name: &str) -> Vec<f64> {
    match &seen[name].2 {
        DebugValue::Histogram(values) => values.iter().map(|v| v.into_inner()).collect(),
        other => panic!("{name} is {other:?}"),
    }
}

#[tokio::test(start_paused = true)]
async fn a_recorder_installed_after_the_layer_sees_every_metric_described() {
    let layer = BackpressureLayer::drop_oldest(1, 1).named("all").plain();
    let mut service = layer.layer(service_fn(|fails: bool| async move {
        tokio::time::sleep(Duration::from_millis(250)).await;
        if fails { Err("overloaded") } else { Ok(()) }
    }));
    let recorder = DebuggingRecorder::new();
    let _installed = metrics::set_default_local_recorder(&recorder);
    let snapshotter = recorder.snapshotter();

    let ok = service.ready().await.unwrap().call(false);
    let evicted = service.ready().await.unwrap().call(false);
    let overload = service.ready().await.unwrap().call(true);
    let mut cancelled = {
        let (ok, evicted, overload) = tokio::join!(ok, evicted, overload);
        assert!(ok.is_ok() && evicted.is_err() && overload.is_err());
        Box::pin(service.ready().await.unwrap().call(false))
    };
    assert!(poll!(&mut cancelled).is_pending());
    drop(cancelled);

    let seen = seen(&snapshotter, "all");
    assert_eq!(gauge(&seen, "backpressure_limit"), 1.0);
    assert_eq!(gauge(&seen, "backpressure_in_flight"), 0.0);
    assert_eq!(gauge(&seen, "backpressure_waiting"), 0.0);
    assert_eq!(counter(&seen, "backpressure_admitted_total"), 3);
    assert_eq!(
        counter(&seen, "backpressure_rejected_total{reason=evicted}"),
        1
    );
    for outcome in ["success", "overload", "cancelled"] {
        let name = format!("backpressure_completed_total{{outcome={outcome}}}");
        assert_eq!(counter(&seen, &name), 1, "{name}");
    }
    for (name, (_, described, _)) in &seen {
        assert!(described, "{name} is not described");
    }
    assert_eq!(seen.len(), 3 + 1 + 9 + 4 + 2, "{seen:#?}");
}

#[cfg(feature = "http")]
#[tokio::test]
async fn a_slot_released_early_ends_as_its_response_does() {
    use http::{Request, Response};
    use http_body_util::{BodyExt, Full};
    use tower_backpressure::{ReleaseAt, SampleAt};

    for (nth, (release_at, sample_at)) in [
        (ReleaseAt::Head, SampleAt::FirstFrame),
        (ReleaseAt::Head, SampleAt::BodyEnd),
        (ReleaseAt::FirstFrame, SampleAt::BodyEnd),
    ]
    .into_iter()
    .enumerate()
    {
        let recorder = DebuggingRecorder::new();
        let _installed = metrics::set_default_local_recorder(&recorder);
        let name = format!("early-{nth}");
        let layer = BackpressureLayer::drop_newest(1)
            .named(&name)
            .release_at(release_at)
            .sample_at(sample_at);
        let service = layer.layer(service_fn(|_: Request<()>| async {
            Ok::<_, Infallible>(Response::new(Full::<bytes::Bytes>::from("whole")))
        }));
        let response = service.oneshot(Request::new(())).await.unwrap();
        response.into_body().collect().await.unwrap();
        let seen = seen(&recorder.snapshotter(), &name);
        let success = "backpressure_completed_total{outcome=success}";
        assert_eq!(counter(&seen, success), 1, "{release_at:?} {sample_at:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn latency_and_wait_are_in_seconds() {
    let recorder = DebuggingRecorder::new();
    let _installed = metrics::set_default_local_recorder(&recorder);
    let snapshotter = recorder.snapshotter();
    let layer = BackpressureLayer::drop_oldest(1, 1).named("times").plain();
    let mut service = layer.layer(service_fn(|_: u32| async {
        tokio::time::sleep(Duration::from_millis(250)).await;
        Ok::<_, Infallible>(())
    }));
    let one = service.ready().await.unwrap().call(1);
    let two = service.ready().await.unwrap().call(2);
    let _ = tokio::join!(one, two);
    let seen = seen(&snapshotter, "times");
    assert_eq!(
        histogram(&seen, "backpressure_latency_seconds"),
        [0.25, 0.25]
    );
    assert_eq!(histogram(&seen, "backpressure_wait_seconds"), [0.25]);
}

#[tokio::test(start_paused = true)]
async fn waiting_and_limit_are_shown_as_they_move() {
    let recorder = DebuggingRecorder::new();
    let _installed = metrics::set_default_local_recorder(&recorder);
    let snapshotter = recorder.snapshotter();
    let layer = BackpressureLayer::block(1).named("moves").plain();
    let service = layer.layer(service_fn(|_: u32| {
        std::future::pending::<Result<(), Infallible>>()
    }));
    let mut running = pin!(service.clone().oneshot(1));
    assert!(poll!(running.as_mut()).is_pending());
    let mut waiting = service.clone();
    assert!(poll!(waiting.ready()).is_pending());
    layer.handle().set_limit(7);
    let before = seen(&snapshotter, "moves");
    assert_eq!(gauge(&before, "backpressure_limit"), 7.0);
    assert_eq!(gauge(&before, "backpressure_in_flight"), 1.0);
    layer.handle().set_limit(1);
    let mut late = service.clone();
    assert!(poll!(late.ready()).is_pending());
    assert_eq!(
        gauge(&seen(&snapshotter, "moves"), "backpressure_waiting"),
        2.0
    );
    drop(waiting);
    drop(late);
    assert_eq!(
        gauge(&seen(&snapshotter, "moves"), "backpressure_waiting"),
        0.0
    );
}

#[tokio::test]
async fn unnamed_gates_do_not_share_a_name() {
    let one = BackpressureLayer::drop_newest(1);
    let two = BackpressureLayer::drop_newest(1);
    assert_ne!(one.handle().name(), two.handle().name());
    assert!(two.handle().name().starts_with("drop_newest"));
}

/// One that keeps everything elsewhere has no size, and could be taken for none.
#[test]
fn a_recorder_without_any_size_is_seen_too() {
    use std::sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    };

    use metrics::{
        Counter, Gauge, Histogram, HistogramFn, Key, KeyName, Metadata, Recorder, SharedString,
        Unit,
    };

    static LATENCIES: AtomicUsize = AtomicUsize::new(0);
    struct Count;
    impl HistogramFn for Count {
        fn record(&self, _: f64) {
            LATENCIES.fetch_add(1, Ordering::Relaxed);
        }
    }
    struct Zero;
    impl Recorder for Zero {
        fn describe_counter(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}
        fn describe_gauge(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}
        fn describe_histogram(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}
        fn register_counter(&self, _: &Key, _: &Metadata<'_>) -> Counter {
            Counter::noop()
        }
        fn register_gauge(&self, _: &Key, _: &Metadata<'_>) -> Gauge {
            Gauge::from_arc(Arc::new(metrics::atomics::AtomicU64::new(0)))
        }
        fn register_histogram(&self, _: &Key, _: &Metadata<'_>) -> Histogram {
            Histogram::from_arc(Arc::new(Count))
        }
    }
    let layer = BackpressureLayer::drop_newest(1).plain();
    let service = layer.layer(service_fn(async |n: u32| Ok::<_, Infallible>(n)));
    metrics::with_local_recorder(&Zero, || {
        let cx = &mut std::task::Context::from_waker(std::task::Waker::noop());
        for n in 0..3 {
            let answer = pin!(service.clone().oneshot(n)).poll(cx);
            assert!(answer.is_ready());
        }
    });
    assert_eq!(LATENCIES.load(Ordering::Relaxed), 3);
}
