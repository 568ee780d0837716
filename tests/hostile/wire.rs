//! Plain bytes over HTTP/1: bodies that are sent by halves, requests inside of bodies, headers that are to be split.
//!
//! A refusal leaves the request's body unread. What is left of it must never be taken for the next request: whoever could
//! bring that about would have a request answered that an outer proxy never saw.

use std::{
    pin::Pin,
    sync::{Arc, Mutex},
    time::Duration,
};

use axum::{
    Router,
    extract::Request,
    middleware::{Next, from_fn},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};
use tower::Layer;
use tower_backpressure::{BackpressureLayer, Handle};

use super::support::{call, hang, serve, until};

const SMUGGLED: &str = "GET /smuggled HTTP/1.1\r\nhost: x\r\n\r\n";

/// A server behind a gate whose only slot is taken, and the paths that were asked for.
struct Server {
    address: std::net::SocketAddr,
    handle: Handle,
    asked: Arc<Mutex<Vec<String>>>,
    _running: Pin<Box<dyn Future<Output = ()>>>,
}

impl Server {
    async fn full(layer: BackpressureLayer) -> Self {
        let handle = layer.handle();
        let running = call(&mut layer.layer(hang()), http::Request::new(()));
        assert_eq!(handle.in_flight(), 1);
        let asked = Arc::new(Mutex::new(Vec::new()));
        let note = Arc::clone(&asked);
        let app = Router::new()
            .fallback(|| async { "let in" })
            .layer(layer)
            .layer(from_fn(move |request: Request, next: Next| {
                note.lock().unwrap().push(request.uri().path().to_owned());
                next.run(request)
            }));
        Self {
            address: serve(app).await,
            handle,
            asked,
            _running: Box::pin(async move { drop(running.await) }),
        }
    }

    async fn refusing() -> Self {
        Self::full(BackpressureLayer::drop_newest(1)).await
    }

    fn asked(&self) -> Vec<String> {
        self.asked.lock().unwrap().clone()
    }

    async fn connect(&self) -> Client {
        let stream = TcpStream::connect(self.address).await.unwrap();
        let got = Vec::new();
        Client { stream, got }
    }
}

struct Client {
    stream: TcpStream,
    got: Vec<u8>,
}

impl Client {
    async fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.stream.write_all(bytes.as_ref()).await.unwrap();
    }

    /// The next response, by its `content-length`.
    async fn response(&mut self) -> String {
        let end = loop {
            if let Some(end) = self.whole_response() {
                break end;
            }
            let read = timeout(Duration::from_secs(5), self.stream.read_buf(&mut self.got)).await;
            let n = read.expect("an answer in time").unwrap();
            assert_ne!(
                n,
                0,
                "closed after {:?}",
                String::from_utf8_lossy(&self.got)
            );
        };
        String::from_utf8(self.got.drain(..end).collect()).unwrap()
    }

    fn whole_response(&self) -> Option<usize> {
        let text = std::str::from_utf8(&self.got).unwrap();
        let (head, body) = text.split_once("\r\n\r\n")?;
        let length = head
            .lines()
            .find_map(|line| line.strip_prefix("content-length: "));
        let length: usize = length.map_or(0, |length| length.parse().unwrap());
        (body.len() >= length).then_some(head.len() + 4 + length)
    }

    /// Sends what the server may not want any more, and takes what still comes until it hangs up.
    async fn rest(mut self, bytes: impl AsRef<[u8]>) -> String {
        // It may have closed already.
        let _ = self.stream.write_all(bytes.as_ref()).await;
        let read = self.stream.read_to_end(&mut self.got);
        // A reset is a way of hanging up.
        let _ = timeout(Duration::from_secs(5), read)
            .await
            .expect("the server hangs up");
        String::from_utf8(self.got).unwrap()
    }
}

fn assert_refused(response: &str) {
    assert!(response.starts_with("HTTP/1.1 503 "), "{response}");
    assert!(response.contains("\r\nretry-after: "), "{response}");
}

#[tokio::test]
async fn the_rest_of_a_refused_upload_is_never_read_as_a_request() {
    let server = Server::refusing().await;
    for head in [
        "content-length: 1000\r\n\r\nbegi",
        "transfer-encoding: chunked\r\n\r\n4\r\nbegi",
    ] {
        let mut client = server.connect().await;
        client
            .send(format!("POST /upload HTTP/1.1\r\nhost: x\r\n{head}"))
            .await;
        assert_refused(&client.response().await);
        assert_eq!(client.rest(SMUGGLED).await, "");
    }
    assert_eq!(server.asked(), ["/upload", "/upload"]);
}

#[tokio::test]
async fn a_request_inside_of_a_refused_body_is_no_request() {
    let server = Server::refusing().await;
    let length = SMUGGLED.len();
    for body in [
        format!("content-length: {length}\r\n\r\n{SMUGGLED}"),
        format!("transfer-encoding: chunked\r\n\r\n{length:x}\r\n{SMUGGLED}\r\n0\r\n\r\n"),
    ] {
        let mut client = server.connect().await;
        let last = "GET /last HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n";
        client
            .send(format!("POST /upload HTTP/1.1\r\nhost: x\r\n{body}{last}"))
            .await;
        assert_refused(&client.response().await);
        // Either the body was passed over and the next request is read, or the connection is at its end.
        let rest = client.rest("").await;
        let asked = std::mem::take(&mut *server.asked.lock().unwrap());
        if rest.is_empty() {
            assert_eq!(asked, ["/upload"]);
        } else {
            assert_refused(&rest);
            assert_eq!(asked, ["/upload", "/last"]);
        }
    }
}

#[tokio::test]
async fn an_upload_that_asks_first_is_refused_before_it_begins() {
    let server = Server::refusing().await;
    let mut client = server.connect().await;
    let head = "content-length: 1000\r\nexpect: 100-continue\r\n\r\n";
    client
        .send(format!("POST /upload HTTP/1.1\r\nhost: x\r\n{head}"))
        .await;
    assert_refused(&client.response().await);
    assert_eq!(client.rest(SMUGGLED).await, "");
    assert_eq!(server.asked(), ["/upload"]);
}

#[tokio::test]
async fn an_upload_evicted_while_it_waits_leaves_no_request_behind() {
    let server = Server::full(BackpressureLayer::drop_oldest(1, 1)).await;
    let mut client = server.connect().await;
    client
        .send("POST /upload HTTP/1.1\r\nhost: x\r\ncontent-length: 1000\r\n\r\nbegi")
        .await;
    until("the upload waits", || server.handle.waiting() == 1).await;
    let mut newer = server.connect().await;
    newer.send("GET /newer HTTP/1.1\r\nhost: x\r\n\r\n").await;
    let evicted = client.response().await;
    assert_refused(&evicted);
    assert!(evicted.contains(r#""reason":"evicted""#), "{evicted}");
    assert_eq!(client.rest(SMUGGLED).await, "");
    assert_eq!(server.asked(), ["/upload", "/newer"]);
    drop(newer);
    until("the newer one has left", || server.handle.waiting() == 0).await;
}

#[tokio::test]
async fn a_body_of_two_lengths_smuggles_nothing() {
    let server = Server::refusing().await;
    let length = SMUGGLED.len();
    for framing in [
        "content-length: 4\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n".to_owned(),
        format!("content-length: 0\r\ncontent-length: {length}\r\n\r\n"),
        format!("content-length: 0, {length}\r\n\r\n"),
        format!("content-length: +{length}\r\n\r\n"),
        format!("transfer-encoding: chunked, identity\r\ncontent-length: {length}\r\n\r\n"),
    ] {
        let mut client = server.connect().await;
        client
            .send(format!(
                "POST /upload HTTP/1.1\r\nhost: x\r\n{framing}{SMUGGLED}"
            ))
            .await;
        let answer = client.response().await;
        if answer.starts_with("HTTP/1.1 400 ") {
            assert_eq!(client.rest("").await, "", "{framing}");
            assert_eq!(server.asked(), [""; 0], "{framing}");
        } else {
            // Of the two `transfer-encoding` counts (RFC 9112, section 6.3), and what follows the body is a request.
            assert_refused(&answer);
            assert!(framing.starts_with("content-length: 4"), "{framing}");
            server.asked.lock().unwrap().clear();
        }
    }
}

#[tokio::test]
async fn headers_of_64_kib_are_refused_like_any_and_the_connection_goes_on() {
    let server = Server::refusing().await;
    let mut client = server.connect().await;
    let huge = "a/b;q=0.1,".repeat(6500);
    for name in ["accept", "content-type", "grpc-timeout", "x-anything"] {
        client
            .send(format!(
                "GET / HTTP/1.1\r\nhost: x\r\n{name}: {huge}\r\n\r\n"
            ))
            .await;
        let refused = client.response().await;
        assert_refused(&refused);
        assert!(refused.len() < 500, "{refused}");
    }
    let web = "application/grpc-web+".to_owned() + &"x".repeat(65_000);
    client
        .send(format!(
            "POST / HTTP/1.1\r\nhost: x\r\ncontent-type: {web}\r\n\r\n"
        ))
        .await;
    let refused = client.response().await;
    assert!(refused.contains("\r\ngrpc-status: 14\r\n"), "{refused}");
    assert!(refused.len() < 500, "{refused}");
}

#[tokio::test]
async fn nothing_of_a_request_splits_a_refusal() {
    let server = Server::refusing().await;
    for injected in [
        "\r\n set-cookie: injected",
        "\rset-cookie: injected",
        "\nset-cookie: injected",
        "%0d%0aset-cookie: injected",
        "\0set-cookie: injected",
        "\u{560d}\u{560a}set-cookie: injected",
        "\u{85}set-cookie: injected",
    ] {
        for (name, value) in [
            ("content-type", "application/grpc-web"),
            ("content-type", "application/grpc-web+"),
            ("accept", "text/plain;"),
            ("grpc-timeout", "1S"),
        ] {
            let mut client = server.connect().await;
            let header = format!("{name}: {value}{injected}");
            client
                .send(format!("POST / HTTP/1.1\r\nhost: x\r\n{header}\r\n\r\n"))
                .await;
            let answer = client.response().await;
            let (headers, _) = answer.split_once("\r\n\r\n").unwrap();
            // A bare line feed ends a header where it stands: then it was the client's own header, and not ours.
            assert!(!headers.contains("\r\nset-cookie"), "{answer}");
            assert!(!headers.contains("\n set-cookie"), "{answer}");
            assert!(!headers.contains('\0'), "{answer}");
            assert!(answer.is_ascii(), "{answer}");
        }
    }
}

/// hyper looks for the end of an HTTP/1 connection only where it has nothing left to hand over: neither bytes beyond the
/// request nor the rest of a body that nobody reads yet. So the first two of these are not seen to leave.
#[tokio::test]
async fn a_caller_whose_leaving_the_server_cannot_see_waits_no_longer_than_max_wait() {
    let layer = BackpressureLayer::drop_oldest(1, 10).max_wait(Duration::from_millis(50));
    let server = Server::full(layer).await;
    let mut callers = Vec::new();
    for request in [
        "GET / HTTP/1.1\r\nhost: x\r\n\r\nbeyond",
        "POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 1000\r\n\r\nbegi",
        "GET / HTTP/1.1\r\nhost: x\r\n\r\n",
        "POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 4\r\n\r\nbody",
    ] {
        let mut client = server.connect().await;
        client.send(request).await;
        callers.push(client);
    }
    until("all have come", || server.asked().len() == 4).await;
    drop(callers);
    until("none waits", || server.handle.waiting() == 0).await;
    assert_eq!(server.handle.in_flight(), 1);
}
