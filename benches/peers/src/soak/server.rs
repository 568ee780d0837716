//! The server of a soak: it works, streams, panics and takes uploads, and counts on both sides of the layer.

use std::{
    convert::Infallible,
    future::Future,
    io,
    net::SocketAddr,
    panic::resume_unwind,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::SeqCst},
    },
    task::{Context, Poll},
    time::Duration,
};

use axum::{
    Router,
    body::{Body, Bytes},
    extract::Path,
    http::{HeaderMap, HeaderName, Request, Response},
    routing::{get, post},
};
use futures_util::stream;
use tokio::{net::TcpListener, time::sleep};
use tower::{Layer, Service};
use tower_backpressure::{BackpressureLayer, Handle, Rejected};

/// Names the request that an answer is for, and whether it was refused.
pub(super) const ID: HeaderName = HeaderName::from_static("x-id");
pub(super) const REFUSED: HeaderName = HeaderName::from_static("x-refused");
/// A body repeats its request's number, so that no byte of it can be taken for another's.
pub(super) const CELL: usize = 16;

pub(super) fn cell(id: u64) -> [u8; CELL] {
    let text = format!("{id:015}\n");
    text.into_bytes()
        .try_into()
        .expect("fifteen digits and an end")
}

#[derive(Debug)]
pub(super) struct Server {
    pub(super) address: SocketAddr,
    pub(super) handle: Handle,
    tally: Arc<Tally>,
}

/// What goes in and out around the layer.
#[derive(Debug, Default)]
struct Tally {
    /// Instances that asked the layer.
    came: AtomicU64,
    /// Refusals that came out.
    refused: AtomicU64,
    /// Those that asked and went without an answer.
    gone: AtomicU64,
    /// Calls that the layer made.
    let_in: AtomicU64,
}

impl Server {
    pub(super) async fn start(layer: BackpressureLayer) -> io::Result<Self> {
        let tally = Arc::<Tally>::default();
        let handle = layer.handle();
        let app = Router::new()
            .route("/whole/{millis}/{cells}", get(whole))
            .route("/stream/{millis}/{frames}/{cells}", get(frames))
            .route("/panic", get(panics))
            .route("/upload", post(upload))
            .layer(Inside(Arc::clone(&tally)))
            .layer(layer)
            .layer(Outside(Arc::clone(&tally)));
        let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
        let address = listener.local_addr()?;
        tokio::spawn(async move { axum::serve(listener, app).await });
        Ok(Self {
            address,
            handle,
            tally,
        })
    }

    /// Whether all is quiet and adds up; if not, what does not.
    pub(super) fn check(&self) -> Result<(), String> {
        let held = (self.handle.in_flight(), self.handle.waiting());
        if held != (0, 0) {
            return Err(format!("{held:?} are in flight and waiting"));
        }
        let Tally {
            came,
            refused,
            gone,
            let_in,
        } = &*self.tally;
        let metrics = self.handle.snapshot();
        let (came, let_in) = (came.load(SeqCst), let_in.load(SeqCst));
        let (refused, gone) = (refused.load(SeqCst), gone.load(SeqCst));
        let left = metrics.produced_count - metrics.consumed_count - metrics.dropped_count;
        let adds_up = metrics.produced_count == came
            && metrics.consumed_count == let_in
            // Who went without an answer had been let in, or refused, or left the queue.
            && (refused..=refused + gone).contains(&metrics.dropped_count)
            && left <= gone;
        match adds_up {
            true => Ok(()),
            false => Err(format!("{metrics:?} is not what passed: {:?}", self.tally)),
        }
    }
}

async fn whole(Path((millis, cells)): Path<(u64, usize)>, headers: HeaderMap) -> Vec<u8> {
    sleep(Duration::from_millis(millis)).await;
    cell(id(&headers)).repeat(cells)
}

async fn frames(
    Path((millis, frames, cells)): Path<(u64, u32, usize)>,
    headers: HeaderMap,
) -> Response<Body> {
    let frame = Bytes::from(cell(id(&headers)).repeat(cells));
    let frames = stream::unfold(frames, move |left| {
        let frame = frame.clone();
        async move {
            let left = left.checked_sub(1)?;
            sleep(Duration::from_millis(millis)).await;
            Some((Ok::<_, Infallible>(frame), left))
        }
    });
    let mut response = Response::new(Body::from_stream(frames));
    let sse = "text/event-stream".parse().expect("a content type");
    response.headers_mut().insert("content-type", sse);
    response
}

/// Without the hook, which would print thousands of reports.
async fn panics() {
    resume_unwind(Box::new("as asked"));
}

async fn upload(headers: HeaderMap, body: Bytes) -> Vec<u8> {
    drop(body);
    cell(id(&headers)).to_vec()
}

fn id(headers: &HeaderMap) -> u64 {
    let id = headers.get(ID).and_then(|id| id.to_str().ok());
    id.and_then(|id| id.parse().ok()).unwrap_or_default()
}

/// Counts the calls that the layer makes.
#[derive(Clone)]
struct Inside(Arc<Tally>);

#[derive(Clone)]
struct CountsInside<S> {
    inner: S,
    tally: Arc<Tally>,
}

impl<S> Layer<S> for Inside {
    type Service = CountsInside<S>;

    fn layer(&self, inner: S) -> CountsInside<S> {
        let tally = Arc::clone(&self.0);
        CountsInside { inner, tally }
    }
}

impl<S: Service<Request<Body>>> Service<Request<Body>> for CountsInside<S> {
    type Response = S::Response;
    type Error = S::Error;
    type Future = S::Future;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<Body>) -> S::Future {
        self.tally.let_in.fetch_add(1, SeqCst);
        self.inner.call(request)
    }
}

/// Counts what comes to the layer and what comes out, and gives each answer its request's number.
#[derive(Clone)]
struct Outside(Arc<Tally>);

struct CountsOutside<S> {
    inner: S,
    /// From the moment when it first asks until it has its answer.
    open: Option<Open>,
    tally: Arc<Tally>,
}

struct Open {
    tally: Arc<Tally>,
    answered: bool,
}

impl Drop for Open {
    fn drop(&mut self) {
        if !self.answered {
            self.tally.gone.fetch_add(1, SeqCst);
        }
    }
}

impl<S> Layer<S> for Outside {
    type Service = CountsOutside<S>;

    fn layer(&self, inner: S) -> CountsOutside<S> {
        CountsOutside {
            inner,
            open: None,
            tally: Arc::clone(&self.0),
        }
    }
}

impl<S: Clone> Clone for CountsOutside<S> {
    fn clone(&self) -> Self {
        Self {
            inner: self.inner.clone(),
            open: None,
            tally: Arc::clone(&self.tally),
        }
    }
}

impl<S, B> Service<Request<Body>> for CountsOutside<S>
where
    S: Service<Request<Body>, Response = Response<B>>,
    S::Future: Send + 'static,
{
    type Response = Response<B>;
    type Error = S::Error;
    type Future = Pin<Box<dyn Future<Output = Result<Response<B>, S::Error>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.open.get_or_insert_with(|| {
            self.tally.came.fetch_add(1, SeqCst);
            Open {
                tally: Arc::clone(&self.tally),
                answered: false,
            }
        });
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let mut open = self.open.take().expect("called once it was ready");
        let id = request.headers().get(ID).cloned();
        let answer = self.inner.call(request);
        Box::pin(async move {
            let mut response = answer.await?;
            open.answered = true;
            if response.extensions().get::<Rejected>().is_some() {
                open.tally.refused.fetch_add(1, SeqCst);
                response.headers_mut().insert(REFUSED, 1.into());
            }
            if let Some(id) = id {
                response.headers_mut().insert(ID, id);
            }
            Ok(response)
        })
    }
}
