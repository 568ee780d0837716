//! The proxy: `/v1/chat/completions`, `/v1/messages` and `/v1/models`, passed on to an upstream, with something in front of it.

mod cut;
mod forward;
mod guard;
mod live;
mod watched;

use std::{
    net::SocketAddr,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use axum::{Router, body::Body, extract::State, response::Response, routing::post};
use http::{Request, StatusCode};
use tokio::{net::TcpListener, time::sleep};
use tower::ServiceExt;
use tower_backpressure::{
    Handle, Rejected,
    llm::{Dialect, RequestId, hint},
};

use self::{
    cut::{Cut, Scissors, cut},
    watched::{Seen, Watched},
};
pub use self::{
    forward::Upstream,
    guard::{Calm, Guard},
    live::{Counts, Live, REASONS},
};
use crate::clock::now;

/// Cheap to clone.
#[derive(Clone)]
pub struct Proxy {
    shared: Arc<Shared>,
}

struct Shared {
    guarded: Router,
    open: Router,
    /// Whether requests go through what is in front.
    on: AtomicBool,
    draining: AtomicBool,
    handle: Option<Handle>,
    live: Arc<Live>,
    cut: Cut,
    scissors: Mutex<Option<Scissors>>,
}

impl Proxy {
    pub fn new(upstream: Upstream, guard: Guard) -> Self {
        let (scissors, cut) = cut();
        let (guarded, handle) = guard.around(passing(upstream.clone()));
        Self {
            shared: Arc::new(Shared {
                guarded,
                open: passing(upstream),
                on: AtomicBool::new(true),
                draining: AtomicBool::new(false),
                handle,
                live: Arc::default(),
                cut,
                scissors: Mutex::new(Some(scissors)),
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
        self.shared.handle.as_ref()
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
    /// Returns how many those were.
    pub async fn drain(&self, patience: Duration) -> usize {
        self.shared.draining.store(true, Ordering::Relaxed);
        if let Some(handle) = self.handle() {
            // What is under way by then is waited for below, with what came while the layer was off.
            drop(handle.drain());
        }
        let until = now() + patience;
        while self.live().open() > 0 && now() < until {
            sleep(Duration::from_millis(10)).await;
        }
        let scissors = self
            .shared
            .scissors
            .lock()
            .expect("nothing panics under it")
            .take();
        if let Some(scissors) = scissors {
            scissors.cut();
        }
        // What a client does not read cannot be ended with an event either; its connection goes with the process.
        let until = now() + Duration::from_secs(1);
        while self.live().open() > 0 && now() < until {
            sleep(Duration::from_millis(10)).await;
        }
        self.shared.cut.counted()
    }

    async fn answer(self, request: Request<Body>) -> Response {
        let shared = &*self.shared;
        let came = now();
        let (head, body) = request.into_parts();
        let (dialect, id) = (Dialect::of(&head), RequestId::of(&head.headers));
        let seen = Seen::new(Arc::clone(&shared.live), came, dialect);
        let request = Request::from_parts(head, body);
        let way = if self.is_on() || self.is_draining() {
            &shared.guarded
        } else {
            &shared.open
        };
        let response = tokio::select! {
            response = way.clone().oneshot(request) => response.unwrap_or_else(|never| match never {}),
            () = shared.cut.clone().wait() => {
                shared.cut.count();
                seen.refused("draining");
                let message = "the proxy is shutting down and had no more time for this request";
                let mut response = dialect.error(StatusCode::SERVICE_UNAVAILABLE, message, &id);
                hint(response.headers_mut(), Duration::from_secs(1));
                return response.map(Body::from);
            }
        };
        if let Some(rejected) = response.extensions().get::<Rejected>() {
            seen.refused(rejected.reason().as_str());
            return response;
        }
        if matches!(response.status().as_u16(), 429 | 502 | 503 | 504 | 529) {
            seen.refused("upstream");
            return response;
        }
        let (head, body) = response.into_parts();
        let body = Watched::new(body, seen, &head.headers, dialect, id, shared.cut.clone());
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
