//! What `tracing` sees: the rare things, never one for each request.
#![cfg(feature = "tracing")]

use std::{
    convert::Infallible,
    fmt,
    future::pending,
    sync::{Arc, Mutex},
};

use tower::{Layer, Service, ServiceExt, service_fn};
use tower_backpressure::BackpressureLayer;
use tracing::{Event, Level, field::Field, field::Visit};
use tracing_subscriber::{layer::Context, prelude::*};

/// Keeps every event as `level message field=value …`.
#[derive(Clone, Default)]
struct Kept(Arc<Mutex<Vec<String>>>);

impl<S: tracing::Subscriber> tracing_subscriber::Layer<S> for Kept {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        let mut line = Line(event.metadata().level().to_string());
        event.record(&mut line);
        self.0.lock().unwrap().push(line.0);
    }
}

struct Line(String);

impl Visit for Line {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        match field.name() {
            "message" => self.0 += &format!(" {value:?}"),
            name => self.0 += &format!(" {name}={value:?}"),
        }
    }
}

#[tokio::test(start_paused = true)]
async fn one_event_for_an_episode_and_one_for_each_limit() {
    let kept = Kept::default();
    let subscriber = tracing_subscriber::registry().with(kept.clone());
    let _default = tracing::subscriber::set_default(subscriber);

    let layer = BackpressureLayer::drop_newest(2).named("chat").plain();
    let mut service = layer.layer(service_fn(|_: u32| pending::<Result<(), Infallible>>()));
    let running = [
        service.ready().await.unwrap().call(1),
        service.ready().await.unwrap().call(1),
    ];
    for _ in 0..100 {
        assert!(service.ready().await.unwrap().call(1).await.is_err());
    }
    drop(running);
    layer.handle().set_limit(1);
    layer.handle().set_limit(1);

    // A second later, after half was free: a new episode.
    tokio::time::advance(std::time::Duration::from_secs(1)).await;
    let running = service.ready().await.unwrap().call(1);
    for _ in 0..100 {
        assert!(service.ready().await.unwrap().call(1).await.is_err());
    }
    drop(running);

    let kept = kept.0.lock().unwrap();
    let full = format!(
        "{} full: requests wait or are refused gate=\"chat\"",
        Level::WARN
    );
    let moved = format!("{} limit moved gate=\"chat\"", Level::DEBUG);
    assert_eq!(
        *kept,
        [
            format!("{full} limit=2 in_flight=2"),
            format!("{moved} before=2 after=1"),
            format!("{full} limit=1 in_flight=1"),
        ]
    );
}

/// Looks at the gate whenever it is told that the gate is full.
struct Looks(tower_backpressure::Handle, Arc<Mutex<Vec<u64>>>);

impl<S: tracing::Subscriber> tracing_subscriber::Layer<S> for Looks {
    fn on_event(&self, _: &Event<'_>, _: Context<'_, S>) {
        let dropped = self.0.snapshot().dropped_count;
        self.1.lock().unwrap().push(dropped);
    }
}

#[tokio::test]
async fn a_subscriber_may_look_at_the_gate() {
    let layer = BackpressureLayer::drop_newest(1).plain();
    let looked = Arc::default();
    let looks = Looks(layer.handle(), Arc::clone(&looked));
    let _default = tracing::subscriber::set_default(tracing_subscriber::registry().with(looks));
    let mut service = layer.layer(service_fn(|_: u32| pending::<Result<(), Infallible>>()));
    let _running = service.ready().await.unwrap().call(1);
    assert!(service.ready().await.unwrap().call(1).await.is_err());
    assert_eq!(*looked.lock().unwrap(), [1]);
}

#[tokio::test(start_paused = true)]
async fn a_request_that_waits_in_its_call_makes_the_gate_full_as_well() {
    let kept = Kept::default();
    let subscriber = tracing_subscriber::registry().with(kept.clone());
    let _default = tracing::subscriber::set_default(subscriber);

    let layer = BackpressureLayer::drop_oldest(1, 5).named("line").plain();
    let mut service = layer.layer(service_fn(|_: u32| pending::<Result<(), Infallible>>()));
    let _running = tokio::spawn(service.ready().await.unwrap().call(1));
    tokio::task::yield_now().await;
    assert!(kept.0.lock().unwrap().is_empty());
    let _waits = service.ready().await.unwrap().call(2);
    assert_eq!(layer.handle().waiting(), 1);
    let full = "WARN full: requests wait or are refused gate=\"line\" limit=1 in_flight=1";
    assert_eq!(*kept.0.lock().unwrap(), [full]);
}
