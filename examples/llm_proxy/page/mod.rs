//! The page at `/`, what it shows and what it changes. Everything is in the binary.

mod numbers;

use std::{convert::Infallible, sync::Arc, time::Duration};

use axum::{
    Json, Router,
    extract::State,
    http::{HeaderName, StatusCode, header},
    response::{
        IntoResponse, Response, Sse,
        sse::{Event, KeepAlive},
    },
    routing::{get, post},
};
use futures_util::{Stream, StreamExt, stream};
use metrics_exporter_prometheus::PrometheusHandle;
use serde::Deserialize;
use tokio::{
    sync::watch,
    time::{MissedTickBehavior, interval},
};

use self::numbers::Numbers;
use crate::{
    engine::{faults::Faults, server::Server},
    load::Tap,
    proxy::Proxy,
};

/// How often the page hears of what goes on.
const EVERY: Duration = Duration::from_millis(250);
const HIGHEST_LOAD: f64 = 20.0;

/// What the page shows and moves.
#[derive(Clone)]
pub struct Stage {
    pub proxy: Proxy,
    pub upstream: String,
    /// Of the embedded engine, where it is the upstream.
    pub model: Option<Model>,
    pub prometheus: PrometheusHandle,
}

#[derive(Clone)]
pub struct Model {
    pub server: Server,
    /// Requests of the traffic per second.
    pub capacity: f64,
    pub tap: Tap,
    /// A first token that came later is of no use.
    pub in_time: Duration,
}

#[derive(Clone)]
struct Page {
    stage: Arc<Stage>,
    live: watch::Receiver<Arc<str>>,
}

/// Beside the proxy's own routes.
pub fn app(stage: Stage) -> Router {
    let (sender, live) = watch::channel(Arc::from("{}"));
    let stage = Arc::new(stage);
    tokio::spawn(keep_count(Arc::clone(&stage), sender));
    Router::new()
        .route(
            "/",
            get(|| file("text/html; charset=utf-8", include_str!("index.html"))),
        )
        .route(
            "/page.css",
            get(|| file("text/css; charset=utf-8", include_str!("page.css"))),
        )
        .route(
            "/page.js",
            get(|| file("text/javascript; charset=utf-8", include_str!("page.js"))),
        )
        .route("/live", get(follow))
        .route("/control", post(control))
        .route("/metrics", get(metrics))
        .with_state(Page { stage, live })
}

async fn file(kind: &'static str, text: &'static str) -> Response {
    let policy = "default-src 'self'; img-src data:; style-src 'self' 'unsafe-inline'; frame-ancestors 'none'";
    let headers: [(HeaderName, &str); 3] = [
        (header::CONTENT_TYPE, kind),
        (header::CONTENT_SECURITY_POLICY, policy),
        (header::CACHE_CONTROL, "no-cache"),
    ];
    (headers, text).into_response()
}

async fn keep_count(stage: Arc<Stage>, sender: watch::Sender<Arc<str>>) {
    let mut numbers = Numbers::default();
    let mut ticks = interval(EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let live = numbers.now(&stage);
        let Ok(live) = serde_json::to_string(&live) else {
            continue;
        };
        if sender.send(live.into()).is_err() {
            return;
        }
        // What histograms have collected is put in its place, whether or not somebody scrapes.
        stage.prometheus.run_upkeep();
    }
}

async fn follow(State(page): State<Page>) -> Sse<impl Stream<Item = Result<Event, Infallible>>> {
    let events = stream::unfold(page.live, |mut live| async move {
        live.changed().await.ok()?;
        let event = Event::default().data(&**live.borrow_and_update());
        Some((Ok(event), live))
    });
    Sse::new(events.boxed()).keep_alive(KeepAlive::default())
}

async fn metrics(State(page): State<Page>) -> Response {
    let kind = [(header::CONTENT_TYPE, "text/plain; version=0.0.4")];
    (kind, page.stage.prometheus.render()).into_response()
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Change {
    on: Option<bool>,
    /// As a multiple of the model's capacity.
    load: Option<f64>,
    faults: Option<Faults>,
}

/// JSON alone is taken, which pages of other sites may not send.
async fn control(State(page): State<Page>, Json(change): Json<Change>) -> Response {
    match change.make(&page.stage) {
        Ok(()) => StatusCode::NO_CONTENT.into_response(),
        Err(wrong) => (StatusCode::UNPROCESSABLE_ENTITY, wrong).into_response(),
    }
}

impl Change {
    fn make(self, stage: &Stage) -> Result<(), String> {
        if let Some(on) = self.on {
            stage.proxy.turn(on);
        }
        if self.load.is_none() && self.faults.is_none() {
            return Ok(());
        }
        let Some(model) = &stage.model else {
            return Err(
                "there is no embedded engine: its load and its faults cannot be changed".to_owned(),
            );
        };
        if let Some(load) = self.load {
            if !(0.0..=HIGHEST_LOAD).contains(&load) {
                return Err(format!(
                    "the load is {load}, which is not from 0 to {HIGHEST_LOAD}"
                ));
            }
            model.tap.set_rate(load * model.capacity);
        }
        if let Some(faults) = self.faults {
            faults.check()?;
            model.server.set_faults(faults);
        }
        Ok(())
    }
}
