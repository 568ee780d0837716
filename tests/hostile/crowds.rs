//! Ten thousand requests begun and abandoned over real connections, by resets of HTTP/2 streams and by hanging up.

use std::{
    convert::Infallible,
    future::pending,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use allocation_counter::measure;
use axum::{Router, body::Body, routing::get};
use bytes::Bytes;
use futures_util::{StreamExt, future::join_all, stream};
use http::{Request, StatusCode};
use http_body_util::{BodyExt, Empty};
use hyper::client::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::{io::AsyncWriteExt, net::TcpStream, runtime::Builder, task::JoinHandle};
use tower_backpressure::{BackpressureLayer, Handle};

use super::support::{serve, until};

/// As many streams as hyper lets one connection have at once.
const WAVE: usize = 200;
const WAVES: usize = 50;

/// Handlers that have begun and were not dropped yet.
#[derive(Clone, Default)]
struct Inside(Arc<AtomicUsize>);

struct Here(Inside);

impl Inside {
    fn here(&self) -> Here {
        self.0.fetch_add(1, Ordering::SeqCst);
        Here(self.clone())
    }

    fn count(&self) -> usize {
        self.0.load(Ordering::SeqCst)
    }
}

impl Drop for Here {
    fn drop(&mut self) {
        self.0.0.fetch_sub(1, Ordering::SeqCst);
    }
}

struct Server {
    address: SocketAddr,
    handle: Handle,
    inside: Inside,
}

impl Server {
    /// `/hang` never answers, `/stream` never ends.
    async fn start(layer: BackpressureLayer) -> Self {
        let handle = layer.handle();
        let inside = Inside::default();
        let (hangs, streams) = (inside.clone(), inside.clone());
        let hang = get(move || async move {
            let _here = hangs.here();
            pending::<()>().await;
        });
        let stream = get(move || async move {
            let here = streams.here();
            let first = stream::iter([Ok::<_, Infallible>("first")]);
            let never = stream::pending().map(move |frame| {
                let _ = &here;
                frame
            });
            Body::from_stream(first.chain(never))
        });
        let app = Router::new().route("/hang", hang).route("/stream", stream);
        let address = serve(app.layer(layer)).await;
        Self {
            address,
            handle,
            inside,
        }
    }

    async fn empty(&self) {
        until("nobody is left", || {
            (
                self.handle.in_flight(),
                self.handle.waiting(),
                self.inside.count(),
            ) == (0, 0, 0)
        })
        .await;
    }
}

type Sender = http2::SendRequest<Empty<Bytes>>;

async fn connect(server: &Server) -> (Sender, JoinHandle<()>) {
    let stream = TcpStream::connect(server.address).await.unwrap();
    let io = TokioIo::new(stream);
    let (sender, connection) = http2::handshake(TokioExecutor::new(), io).await.unwrap();
    let connection = tokio::spawn(async move { drop(connection.await) });
    (sender, connection)
}

fn request(path: &str) -> Request<Empty<Bytes>> {
    Request::get(format!("http://x{path}"))
        .body(Empty::new())
        .unwrap()
}

/// Runs server and client on this thread, and gives the bytes that the second half of the waves left behind.
fn left_behind(wave: impl AsyncFn(&Server, &mut Sender), layer: BackpressureLayer) -> i64 {
    let runtime = Builder::new_current_thread().enable_all().build().unwrap();
    let server = runtime.block_on(Server::start(layer));
    let (mut sender, connection) = runtime.block_on(connect(&server));
    let mut half = || {
        runtime.block_on(async {
            for _ in 0..WAVES / 2 {
                wave(&server, &mut sender).await;
            }
        });
    };
    half();
    let left = measure(half).bytes_current;
    runtime.block_on(async {
        drop(sender);
        connection.await.unwrap();
        server.empty().await;
        let metrics = server.handle.snapshot();
        let came = (WAVE * WAVES) as u64;
        assert!(
            (came..=came + WAVES as u64).contains(&metrics.produced_count),
            "{metrics:?}"
        );
    });
    left
}

/// What the connection's own buffers may grow by, in bytes. A pointer kept for each request would be 40 KB.
const ROOM: i64 = 16 << 10;

#[test]
fn streams_reset_while_they_wait_leave_nothing() {
    let wave = async |server: &Server, sender: &mut Sender| {
        let mut hanging: Vec<_> = Vec::new();
        for _ in 0..WAVE {
            sender.ready().await.unwrap();
            hanging.push(sender.send_request(request("/hang")));
        }
        until("they wait", || server.handle.waiting() == WAVE - 1).await;
        drop(hanging);
        server.empty().await;
    };
    let left = left_behind(wave, BackpressureLayer::drop_oldest(1, WAVE));
    assert!(left < ROOM, "{left}");
    let left = left_behind(wave, BackpressureLayer::block(1));
    assert!(left < ROOM, "{left}");
}

#[test]
fn streams_reset_while_they_run_leave_nothing() {
    let wave = async |server: &Server, sender: &mut Sender| {
        let mut hanging: Vec<_> = Vec::new();
        for _ in 0..WAVE {
            sender.ready().await.unwrap();
            hanging.push(sender.send_request(request("/hang")));
        }
        until("they run", || server.inside.count() == WAVE).await;
        assert_eq!(server.handle.in_flight(), WAVE);
        drop(hanging);
        server.empty().await;
    };
    let left = left_behind(wave, BackpressureLayer::drop_newest(WAVE));
    assert!(left < ROOM, "{left}");
}

#[test]
fn streams_reset_while_they_are_read_leave_nothing() {
    let wave = async |server: &Server, sender: &mut Sender| {
        let mut open = Vec::new();
        for _ in 0..WAVE {
            sender.ready().await.unwrap();
            open.push(sender.send_request(request("/stream")));
        }
        let mut open = join_all(open).await;
        for response in open.iter_mut().map(|response| response.as_mut().unwrap()) {
            let first = response.frame().await.unwrap().unwrap();
            assert_eq!(first.into_data().unwrap(), "first");
        }
        assert_eq!(server.handle.in_flight(), WAVE);
        drop(open);
        server.empty().await;
    };
    let left = left_behind(wave, BackpressureLayer::drop_newest(WAVE));
    assert!(left < ROOM, "{left}");
}

#[test]
fn streams_refused_leave_nothing() {
    let wave = async |server: &Server, sender: &mut Sender| {
        sender.ready().await.unwrap();
        let running = sender.send_request(request("/hang"));
        until("one runs", || server.inside.count() == 1).await;
        for _ in 0..WAVE {
            sender.ready().await.unwrap();
            let refused = sender.send_request(request("/hang")).await.unwrap();
            assert_eq!(refused.status(), StatusCode::SERVICE_UNAVAILABLE);
        }
        drop(running);
        server.empty().await;
    };
    let left = left_behind(wave, BackpressureLayer::drop_newest(1));
    assert!(left < ROOM, "{left}");
}

/// Fewer here, since each needs a port of its own.
#[tokio::test]
async fn connections_closed_in_any_state_leave_nothing() {
    for layer in [
        BackpressureLayer::drop_oldest(50, 1000),
        BackpressureLayer::block(50),
    ] {
        let server = Server::start(layer).await;
        for path in ["/hang", "/stream"] {
            let mut crowd = Vec::new();
            for _ in 0..200 {
                let mut stream = TcpStream::connect(server.address).await.unwrap();
                let head = format!("GET {path} HTTP/1.1\r\nhost: x\r\n\r\n");
                stream.write_all(head.as_bytes()).await.unwrap();
                crowd.push(stream);
            }
            until("50 run and 150 wait", || {
                (server.handle.in_flight(), server.handle.waiting()) == (50, 150)
            })
            .await;
            drop(crowd);
            server.empty().await;
        }
        assert_eq!(server.handle.snapshot().produced_count, 400);
    }
}
