//! Real overload over real HTTP: an axum server before a backend, and callers who come whether or not they are answered.

use std::{
    convert::Infallible,
    io,
    net::SocketAddr,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use axum::{Router, body::Body, extract::Request, response::Response, routing::get};
use bytes::Bytes;
use http::StatusCode;
use http_body_util::{BodyExt, Empty};
use hyper::client::conn::http2::{self, SendRequest};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::Semaphore,
    time::{Instant, MissedTickBehavior, interval, sleep, timeout_at},
};
use tower::{make::Shared, util::BoxCloneService};

/// What stands before the backend: an axum application behind a contender.
pub type App = BoxCloneService<Request, Response, Infallible>;

/// How many work at once, to begin with.
pub const WORKERS: usize = 10;
/// How long one request takes, to begin with.
pub const WORK: Duration = Duration::from_millis(20);
/// After so long a caller gives up.
pub const DEADLINE: Duration = Duration::from_millis(200);

const CONNECTIONS: usize = 32;

/// A first-come-first-served line before workers. What has begun is finished even if nobody waits for it any more.
#[derive(Clone, Debug)]
pub struct Backend {
    workers: Arc<Semaphore>,
    work_micros: Arc<AtomicU64>,
}

impl Default for Backend {
    fn default() -> Self {
        Self {
            workers: Arc::new(Semaphore::new(WORKERS)),
            work_micros: Arc::new(AtomicU64::new(WORK.as_micros() as u64)),
        }
    }
}

impl Backend {
    async fn work(&self) {
        let backend = self.clone();
        let work = tokio::spawn(async move {
            let _worker = backend.workers.acquire().await;
            let micros = backend.work_micros.load(Ordering::Relaxed);
            sleep(Duration::from_micros(micros)).await;
        });
        let _ = work.await;
    }

    /// The bare application.
    pub fn app(&self) -> Router {
        let backend = self.clone();
        let work = move || async move {
            backend.work().await;
            "done"
        };
        Router::new().route("/", get(work))
    }

    async fn change(&self, change: Change) {
        match change {
            Change::Nothing => {}
            Change::WorkTakes(times) => {
                let micros = WORK.as_micros() as u64 * u64::from(times);
                self.work_micros.store(micros, Ordering::Relaxed);
            }
            Change::WorkersLeft(workers) => {
                let gone = (WORKERS - workers) as u32;
                if let Ok(gone) = self.workers.acquire_many(gone).await {
                    gone.forget();
                }
            }
        }
    }
}

/// What happens to the backend while callers come.
#[derive(Clone, Copy, Debug)]
pub enum Change {
    /// Nothing.
    Nothing,
    /// Work takes so many times as long.
    WorkTakes(u32),
    /// Only so many workers are left.
    WorkersLeft(usize),
}

impl Change {
    /// The share of the capacity that is left.
    pub fn capacity(self) -> f64 {
        match self {
            Change::Nothing => 1.0,
            Change::WorkTakes(times) => 1.0 / f64::from(times),
            Change::WorkersLeft(workers) => workers as f64 / WORKERS as f64,
        }
    }
}

/// How callers come, and what happens.
#[derive(Clone, Copy, Debug)]
pub struct Scene {
    /// What the table calls it.
    pub name: &'static str,
    /// In multiples of the first capacity.
    pub load: f64,
    /// At the end of the warm-up.
    pub change: Change,
    /// Whether the server is told when a caller gives up.
    pub noticed: bool,
}

/// Before that nothing is counted.
pub const WARM_UP: Duration = Duration::from_secs(1);
/// How long is counted.
pub const COUNTED: Duration = Duration::from_secs(4);

/// Requests per second that the backend finishes, measured with all workers busy.
pub async fn measured_capacity() -> f64 {
    let backend = Backend::default();
    let rounds: u32 = 50;
    let began = now();
    let workers = (0..WORKERS).map(|_| async {
        for _ in 0..rounds {
            backend.work().await;
        }
    });
    futures_util::future::join_all(workers).await;
    f64::from(rounds) * WORKERS as f64 / began.elapsed().as_secs_f64()
}

/// Requests answered in time, per second, as a share of the capacity that there was.
///
/// # Errors
///
/// If the server cannot be started or reached.
pub async fn share(scene: &Scene, capacity: f64, front: impl Fn(Router) -> App) -> io::Result<f64> {
    let backend = Backend::default();
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let address = listener.local_addr()?;
    let app = Shared::new(front(backend.app()));
    let server = tokio::spawn(async move { axum::serve(listener, app).await });
    let connections = connect(address).await?;

    let rate = scene.load * capacity;
    let in_time = Arc::new(Mutex::new(0_u64));
    let began = now();
    let counted_from = began + WARM_UP;
    let change = {
        let (backend, change) = (backend.clone(), scene.change);
        tokio::spawn(async move {
            sleep(WARM_UP).await;
            backend.change(change).await;
        })
    };
    let mut ticks = interval(Duration::from_millis(1));
    ticks.set_missed_tick_behavior(MissedTickBehavior::Burst);
    let mut callers = Vec::new();
    while began.elapsed() < WARM_UP + COUNTED {
        ticks.tick().await;
        let due = (began.elapsed().as_secs_f64() * rate) as usize;
        for nth in callers.len()..due {
            // From when the caller should have come, so that a generator that falls behind hides nothing.
            let came = began + Duration::from_secs_f64(nth as f64 / rate);
            let connection = connections[nth % CONNECTIONS].clone();
            let (in_time, noticed) = (Arc::clone(&in_time), scene.noticed);
            callers.push(tokio::spawn(async move {
                let served = call(connection, came, noticed).await;
                if served && came >= counted_from {
                    *in_time.lock().expect("not poisoned") += 1;
                }
            }));
        }
    }
    sleep(DEADLINE).await;
    callers.iter().for_each(|caller| caller.abort());
    change.abort();
    server.abort();
    let in_time = *in_time.lock().expect("not poisoned") as f64;
    let possible = (capacity * scene.change.capacity()).min(rate);
    Ok(in_time / COUNTED.as_secs_f64() / possible)
}

async fn connect(address: SocketAddr) -> io::Result<Vec<SendRequest<Empty<Bytes>>>> {
    let mut connections = Vec::new();
    for _ in 0..CONNECTIONS {
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        let (sender, connection) = http2::handshake(TokioExecutor::new(), TokioIo::new(stream))
            .await
            .map_err(io::Error::other)?;
        tokio::spawn(connection);
        connections.push(sender);
    }
    Ok(connections)
}

/// Whether the caller was served in time.
async fn call(mut connection: SendRequest<Empty<Bytes>>, came: Instant, noticed: bool) -> bool {
    let request = http::Request::get("http://localhost/")
        .body(Empty::new())
        .expect("a valid request");
    let answer = async {
        let response = connection.send_request(request).await?;
        let status = response.status();
        response.into_body().collect().await?;
        Ok::<_, hyper::Error>(status)
    };
    let answer = if noticed {
        // Given up, the stream is reset.
        timeout_at(came + DEADLINE, answer).await
    } else {
        Ok(answer.await)
    };
    matches!(answer, Ok(Ok(StatusCode::OK))) && came.elapsed() <= DEADLINE
}

/// The answer of a server whose middleware fails instead of answering.
pub fn refused() -> Response {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::SERVICE_UNAVAILABLE;
    response
}

#[allow(clippy::disallowed_methods, reason = "real time is what is measured")]
fn now() -> Instant {
    Instant::now()
}
