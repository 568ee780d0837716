//! The proxy: `/v1/chat/completions`, `/v1/messages` and `/v1/models`, passed on to an upstream, with something in front of it.

mod forward;
mod guard;
mod live;
mod watched;

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use axum::{Router, body::Body, extract::State, response::Response, routing::post};
use http::Request;
use tokio::{net::TcpListener, time::sleep};
use tower::ServiceExt;
use tower_backpressure::{Handle, Rejected, llm::Dialect};

pub use self::{
    forward::Upstream,
    guard::{Calm, Guard},
    live::{Counts, Live, REASONS},
};
use self::{
    guard::Guarded,
    watched::{Seen, Watched},
};
use crate::clock::now;

/// Cheap to clone.
#[derive(Clone)]
pub struct Proxy {
    shared: Arc<Shared>,
}

struct Shared {
    guarded: Guarded,
    open: Router,
    /// Whether requests go through what is in front.
    on: AtomicBool,
    draining: AtomicBool,
    live: Arc<Live>,
}

impl Proxy {
    pub fn new(upstream: Upstream, guard: Guard) -> Self {
        let guarded = guard.around(passing(upstream.clone()));
        Self {
            shared: Arc::new(Shared {
                guarded,
                open: passing(upstream),
                on: AtomicBool::new(true),
                draining: AtomicBool::new(false),
                live: Arc::default(),
            }),
        }
    }

    pub fn app(&self) -> Router {
        Router::new()
            .route("/v1/chat/completions", post(answer))
            .route("/v1/messages", post(answer))
            // It asks for no work.
            .route("/v1/models", axum::routing::get(models))
            .with_state(self.clone())
    }

    /// Serves on a port of its own on loopback, until the runtime ends.
    pub async fn serve(&self) -> std::io::Result<SocketAddr> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        let app = self.app();
        tokio::spawn(async move { axum::serve(listener, app).await });
        Ok(address)
    }

    /// Of the gate, where there is one.
    pub fn handle(&self) -> Option<&Handle> {
        self.shared.guarded.handle.as_ref()
    }

    pub fn live(&self) -> &Live {
        &self.shared.live
    }

    pub fn is_on(&self) -> bool {
        self.shared.on.load(Ordering::Relaxed)
    }

    pub fn turn(&self, on: bool) {
        self.shared.on.store(on, Ordering::Relaxed);
    }

    pub fn is_draining(&self) -> bool {
        self.shared.draining.load(Ordering::Relaxed)
    }

    /// Refuses new requests from now on. Answers that were begun may go on for `patience`; the rest is ended with an error event.
    /// Returns how many those were, or would be: what did not come through the layer is not told.
    pub async fn drain(&self, patience: Duration) -> usize {
        self.shared.draining.store(true, Ordering::Relaxed);
        let until = now() + patience;
        let cut = match &self.shared.guarded.layer {
            Some(layer) => layer.drain(patience).await,
            None => 0,
        };
        // What came while the layer was off has the same time.
        while self.live().open() > 0 && now() < until {
            sleep(Duration::from_millis(10)).await;
        }
        cut + self.live().open()
    }

    async fn answer(self, request: Request<Body>) -> Response {
        let shared = &*self.shared;
        let came = now();
        let (head, body) = request.into_parts();
        let dialect = Dialect::of(&head);
        let seen = Seen::new(Arc::clone(&shared.live), came, dialect);
        let request = Request::from_parts(head, body);
        let guarded = self.is_on() || self.is_draining();
        let way = if guarded {
            &shared.guarded.app
        } else {
            &shared.open
        };
        let response = way
            .clone()
            .oneshot(request)
            .await
            .unwrap_or_else(|never| match never {});
        if let Some(rejected) = response.extensions().get::<Rejected>() {
            seen.refused(rejected.reason().as_str());
            return response;
        }
        if matches!(response.status().as_u16(), 429 | 502 | 503 | 504 | 529) {
            seen.refused("upstream");
            return response;
        }
        let (head, body) = response.into_parts();
        let body = Watched::new(body, seen, &head.headers, dialect);
        Response::from_parts(head, Body::new(body))
    }
}

fn passing(upstream: Upstream) -> Router {
    Router::new()
        .fallback(
            async |State(upstream): State<Upstream>, request: Request<Body>| {
                upstream.pass(request).await
            },
        )
        .with_state(upstream)
}

async fn answer(State(proxy): State<Proxy>, request: Request<Body>) -> Response {
    proxy.answer(request).await
}

async fn models(State(proxy): State<Proxy>, request: Request<Body>) -> Response {
    let open = proxy.shared.open.clone();
    open.oneshot(request)
        .await
        .unwrap_or_else(|never| match never {})
}
