//! The engine over HTTP: `/v1/chat/completions`, `/v1/messages`, `/v1/models`.

use std::{
    io,
    net::SocketAddr,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
    time::UNIX_EPOCH,
};

use axum::{
    Json, Router,
    body::{Body, Bytes},
    extract::{DefaultBodyLimit, State, rejection::JsonRejection},
    response::{IntoResponse, Response},
    routing::{get, post},
};
use futures_util::{Stream, stream};
use http::{StatusCode, header};
use rand::{SeedableRng, distr::Distribution, rngs::SmallRng};
use rand_distr::LogNormal;
use serde_json::json;
use tokio::{net::TcpListener, time::sleep};

use super::{
    Answer, Engine,
    ask::Ask,
    faults::{Fault, Faults},
    wire::{Dialect, Wire},
};

/// Where an answer ends by itself: as in the Azure trace of conversations of 2023.
const NATURAL: (f64, f64) = (5.02, 0.86);
/// A connection that is to break does so after so many tokens.
const BREAKS_AFTER: u32 = 3;
const LONGEST_PROMPT: usize = 4 * 1024 * 1024;

/// The engine and what is wrong with it.
#[derive(Clone)]
pub struct Server {
    pub engine: Engine,
    inner: Arc<Inner>,
}

struct Inner {
    faults: Mutex<Faults>,
    rng: Mutex<SmallRng>,
    answers: AtomicU64,
}

impl Server {
    pub fn new(engine: Engine, seed: u64) -> Self {
        Self {
            engine,
            inner: Arc::new(Inner {
                faults: Mutex::default(),
                rng: Mutex::new(SmallRng::seed_from_u64(seed)),
                answers: AtomicU64::new(0),
            }),
        }
    }

    pub fn faults(&self) -> Faults {
        *self.inner.faults.lock().expect("nothing panics under it")
    }

    pub fn set_faults(&self, faults: Faults) {
        *self.inner.faults.lock().expect("nothing panics under it") = faults;
    }

    pub fn app(self) -> Router {
        Router::new()
            .route("/v1/chat/completions", post(chat))
            .route("/v1/messages", post(messages))
            .route("/v1/models", get(models))
            .layer(DefaultBodyLimit::max(LONGEST_PROMPT))
            .with_state(self)
    }

    /// Serves on a port of its own on loopback, until the runtime ends.
    pub async fn serve(self) -> io::Result<SocketAddr> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        tokio::spawn(async move { axum::serve(listener, self.app()).await });
        Ok(address)
    }

    async fn answer(self, dialect: Dialect, ask: Result<Json<Ask>, JsonRejection>) -> Response {
        let Json(ask) = match ask {
            Ok(ask) => ask,
            Err(error) => return refusal(dialect, 400, None, &error.body_text()),
        };
        let faults = self.faults();
        let (fault, natural) = {
            let mut rng = self.inner.rng.lock().expect("nothing panics under it");
            let natural = LogNormal::new(NATURAL.0, NATURAL.1).expect("it is one");
            (
                faults.draw(&mut *rng),
                natural.sample(&mut *rng).ceil() as u32,
            )
        };
        if let Some(Fault::Refused { status, hint }) = fault {
            let status = status.unwrap_or(dialect.overloaded());
            return refusal(dialect, status, hint, "the engine has too much to do");
        }
        let model = self.engine.model();
        sleep(model.fixed).await;
        let (output, cut) = ask.output_tokens(natural);
        let wire = Wire {
            dialect,
            id: self.inner.answers.fetch_add(1, Ordering::Relaxed),
            model: ask.model.clone().unwrap_or_else(|| model.name.to_owned()),
            created: UNIX_EPOCH.elapsed().unwrap_or_default().as_secs(),
            prompt: ask.prompt_tokens(),
            output,
            cut,
            usage: fault != Some(Fault::NoUsage)
                && (dialect == Dialect::Anthropic || !ask.stream || ask.wants_usage()),
        };
        if !ask.stream {
            return self.whole(wire, fault, faults).await;
        }
        let mut answer = self.engine.submit(wire.prompt, wire.output);
        if faults.ignore_disconnect {
            answer.detach();
        }
        let body = Body::from_stream(events(wire, answer, fault));
        (
            [(header::CONTENT_TYPE, "text/event-stream; charset=utf-8")],
            body,
        )
            .into_response()
    }

    async fn whole(&self, wire: Wire, fault: Option<Fault>, faults: Faults) -> Response {
        match fault {
            Some(Fault::ErrorEvent) => {
                let status = wire.dialect.overloaded();
                return refusal(wire.dialect, status, None, "the model is overloaded");
            }
            Some(Fault::Stall) => std::future::pending().await,
            Some(Fault::Reset) => {
                let body = stream::iter([Ok(Bytes::from("{\"id\":")), Err(broken())]);
                return (
                    [(header::CONTENT_TYPE, "application/json")],
                    Body::from_stream(body),
                )
                    .into_response();
            }
            _ => {}
        }
        let mut answer = self.engine.submit(wire.prompt, wire.output);
        if faults.ignore_disconnect {
            answer.detach();
        }
        answer.beyond(wire.output - 1).await;
        Json(wire.whole()).into_response()
    }
}

async fn chat(State(server): State<Server>, ask: Result<Json<Ask>, JsonRejection>) -> Response {
    server.answer(Dialect::OpenAi, ask).await
}

async fn messages(State(server): State<Server>, ask: Result<Json<Ask>, JsonRejection>) -> Response {
    server.answer(Dialect::Anthropic, ask).await
}

async fn models(State(server): State<Server>) -> Json<serde_json::Value> {
    let name = server.engine.model().name;
    Json(json!({
        "object": "list",
        "data": [{"id": name, "object": "model", "type": "model", "display_name": name, "created": 0, "owned_by": "engine"}],
        "has_more": false, "first_id": name, "last_id": name,
    }))
}

fn refusal(dialect: Dialect, status: u16, hint: Option<f64>, message: &str) -> Response {
    let status = StatusCode::from_u16(status).unwrap_or(StatusCode::SERVICE_UNAVAILABLE);
    let mut response = (status, Json(dialect.error(status.as_u16(), message))).into_response();
    if let Some(hint) = hint {
        let seconds = hint.ceil() as u64;
        response
            .headers_mut()
            .insert(header::RETRY_AFTER, seconds.into());
    }
    response
}

/// Where a streamed answer is.
enum Stage {
    Opening,
    /// So many tokens were sent.
    Answering(u32),
    Ended,
}

fn events(
    wire: Wire,
    answer: Answer,
    fault: Option<Fault>,
) -> impl Stream<Item = io::Result<Bytes>> {
    stream::unfold(
        (Stage::Opening, wire, answer),
        move |(stage, wire, mut answer)| async move {
            let (said, next) = match (stage, fault) {
                (Stage::Ended, _) => return None,
                (Stage::Opening, Some(Fault::ErrorEvent)) => (Ok(wire.failure()), Stage::Ended),
                (Stage::Opening, _) if !wire.opening().is_empty() => {
                    (Ok(wire.opening()), Stage::Answering(0))
                }
                (Stage::Answering(_) | Stage::Opening, Some(Fault::Stall)) => {
                    std::future::pending().await
                }
                (Stage::Answering(sent), Some(Fault::Reset))
                    if sent >= BREAKS_AFTER.min(wire.output) =>
                {
                    (Err(broken()), Stage::Ended)
                }
                (stage, _) => {
                    let sent = match stage {
                        Stage::Answering(sent) => sent,
                        _ => 0,
                    };
                    let tokens = answer.beyond(sent).await;
                    let mut said = wire.tokens(sent, tokens);
                    let next = if tokens < wire.output || fault == Some(Fault::Reset) {
                        Stage::Answering(tokens)
                    } else {
                        said.push_str(&wire.closing());
                        Stage::Ended
                    };
                    (Ok(said), next)
                }
            };
            Some((said.map(Bytes::from), (next, wire, answer)))
        },
    )
}

fn broken() -> io::Error {
    io::Error::new(
        io::ErrorKind::ConnectionReset,
        "the engine broke the connection off",
    )
}
