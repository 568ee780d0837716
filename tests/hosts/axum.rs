use std::{convert::Infallible, net::SocketAddr, time::Duration};

use axum::{
    Router,
    body::Body,
    response::sse::{Event, Sse},
    routing::{get, post},
};
use bytes::Bytes;
use futures_util::{Stream, future::join_all, stream};
use http::{Method, Request, Response, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::TokioExecutor,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};
use tower_backpressure::{BackpressureLayer, Handle, Rejected};

use super::support::{Work, until};

async fn serve(app: Router) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move { axum::serve(listener, app).await });
    address
}

type HttpClient = Client<HttpConnector, Full<Bytes>>;

fn client() -> HttpClient {
    Client::builder(TokioExecutor::new()).build_http()
}

async fn request(
    client: &HttpClient,
    method: Method,
    address: SocketAddr,
    path: &str,
) -> Response<Incoming> {
    let request = Request::builder()
        .method(method)
        .uri(format!("http://{address}{path}"))
        .body(Full::default())
        .unwrap();
    client.request(request).await.unwrap()
}

async fn get_on_its_own_connection(address: SocketAddr, path: &str) -> Response<Incoming> {
    request(&client(), Method::GET, address, path).await
}

fn worker(work: &Work) -> Router {
    let (a, b) = (work.clone(), work.clone());
    Router::new()
        .route(
            "/a",
            get(move || async move {
                a.run().await;
                "a"
            }),
        )
        .route(
            "/b",
            get(move || async move {
                b.run().await;
                "b"
            }),
        )
}

/// 30 clients, each with a connection of its own: 5 run, 25 are refused while those 5 still run.
async fn five_of_thirty(app: Router, handle: Handle, work: Work) {
    let address = serve(app).await;
    let calls: Vec<_> = (0..30)
        .map(|n| {
            let path = if n % 2 == 0 { "/a" } else { "/b" };
            tokio::spawn(get_on_its_own_connection(address, path))
        })
        .collect();
    until("25 refusals", || handle.snapshot().dropped_count == 25).await;
    assert_eq!((work.inside(), handle.in_flight()), (5, 5));
    work.finish(5);
    let mut statuses = Vec::new();
    for call in join_all(calls).await {
        let response = call.unwrap();
        statuses.push(response.status());
        response.collect().await.unwrap();
    }
    let refused = statuses
        .iter()
        .filter(|s| **s == StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(refused.count(), 25);
    assert_eq!(work.peak(), 5);
    until("all slots back", || handle.in_flight() == 0).await;
}

#[tokio::test]
async fn two_routes_and_thirty_connections_share_one_limit() {
    let work = Work::new();
    let layer = BackpressureLayer::drop_newest(5);
    let handle = layer.handle();
    five_of_thirty(worker(&work).layer(layer), handle, work).await;
}

#[tokio::test]
async fn route_layer_and_method_router_layer_share_it_too() {
    let work = Work::new();
    let layer = BackpressureLayer::drop_newest(5);
    let handle = layer.handle();
    five_of_thirty(worker(&work).route_layer(layer), handle, work).await;

    let work = Work::new();
    let layer = BackpressureLayer::drop_newest(5);
    let handle = layer.handle();
    let (a, b) = (work.clone(), work.clone());
    let app = Router::new()
        .route(
            "/a",
            get(move || async move { a.run().await }).layer(layer.clone()),
        )
        .route("/b", get(move || async move { b.run().await }).layer(layer));
    five_of_thirty(app, handle, work).await;
}

#[tokio::test]
async fn block_lets_connections_wait_and_serves_them_all() {
    let work = Work::new();
    let layer = BackpressureLayer::block(5);
    let handle = layer.handle();
    let address = serve(worker(&work).layer(layer)).await;
    let calls: Vec<_> = (0..30)
        .map(|_| tokio::spawn(get_on_its_own_connection(address, "/a")))
        .collect();
    until("25 wait", || handle.waiting() == 25).await;
    work.finish(30);
    for call in join_all(calls).await {
        assert_eq!(call.unwrap().status(), StatusCode::OK);
    }
    assert_eq!(work.peak(), 5);
}

/// Two events at once, then nothing for a minute.
fn events() -> Sse<impl Stream<Item = Result<Event, Infallible>>> {
    let stream = stream::unfold(0, |n| async move {
        if n >= 2 {
            tokio::time::sleep(Duration::from_secs(60)).await;
        }
        Some((Ok(Event::default().data(n.to_string())), n + 1))
    });
    Sse::new(stream)
}

#[tokio::test]
async fn a_stream_holds_its_slot_until_its_client_hangs_up() {
    let layer = BackpressureLayer::drop_newest(1);
    let handle = layer.handle();
    let app = Router::new().route("/events", get(|| async { events() }));
    let address = serve(app.layer(layer)).await;

    let responses: Vec<_> =
        join_all((0..20).map(|_| get_on_its_own_connection(address, "/events"))).await;
    let (mut open, refused): (Vec<_>, Vec<_>) = responses
        .into_iter()
        .partition(|response| response.status() == StatusCode::OK);
    assert_eq!((open.len(), refused.len()), (1, 19));

    let first = open[0].frame().await.unwrap().unwrap();
    assert_eq!(first.into_data().unwrap(), "data: 0\n\n");
    assert_eq!(handle.in_flight(), 1);
    drop(open);
    let took = until("the slot is back", || handle.in_flight() == 0).await;
    assert!(took < Duration::from_secs(1), "{took:?}");
    let again = get_on_its_own_connection(address, "/events").await;
    assert_eq!(again.status(), StatusCode::OK);
}

#[tokio::test]
async fn however_a_response_ends_the_slot_comes_back() {
    let layer = BackpressureLayer::drop_newest(1);
    let handle = layer.handle();
    let app = Router::new()
        .route("/whole", get(|| async { "whole" }))
        .route("/empty", get(|| async {}))
        .route("/none", get(|| async { StatusCode::NO_CONTENT }))
        .route(
            "/chunks",
            get(|| async {
                let chunks = ["a", "b"].map(Ok::<_, Infallible>);
                Body::from_stream(stream::iter(chunks))
            }),
        )
        .route(
            "/fails",
            get(|| async {
                let chunks = [Ok("a"), Err(std::io::Error::other("broken"))];
                Body::from_stream(stream::iter(chunks))
            }),
        )
        .route(
            "/panics",
            get(|| async {
                if true {
                    panic!("a handler with a mistake");
                }
            }),
        );
    let address = serve(app.layer(layer)).await;
    for method in [Method::GET, Method::HEAD] {
        for path in [
            "/whole", "/empty", "/none", "/chunks", "/fails", "/panics", "/missing",
        ] {
            let request = Request::builder()
                .method(&method)
                .uri(format!("http://{address}{path}"))
                .body(Full::default())
                .unwrap();
            if let Ok(response) = client().request(request).await {
                assert_ne!(response.status(), StatusCode::SERVICE_UNAVAILABLE, "{path}");
                let _ = response.collect().await;
            }
            until(path, || handle.in_flight() == 0).await;
        }
    }
    // `/missing` is axum's fallback, which `Router::layer` wraps as well.
    assert_eq!(handle.snapshot().consumed_count, 14);
}

#[tokio::test]
async fn an_upgraded_connection_gives_its_slot_back() {
    let layer = BackpressureLayer::drop_newest(1);
    let handle = layer.handle();
    let upgrade = |mut request: Request<Body>| async move {
        let upgraded = hyper::upgrade::on(&mut request);
        tokio::spawn(async move {
            let upgraded = upgraded.await.unwrap();
            let mut io = hyper_util::rt::TokioIo::new(upgraded);
            io.write_all(b"hello").await.unwrap();
            let _ = io.read(&mut [0]).await;
        });
        Response::builder()
            .status(StatusCode::SWITCHING_PROTOCOLS)
            .header("connection", "upgrade")
            .header("upgrade", "test")
            .body(Body::empty())
            .unwrap()
    };
    let app = Router::new().route("/", get(upgrade));
    let address = serve(app.layer(layer)).await;
    let mut stream = TcpStream::connect(address).await.unwrap();
    let head = "GET / HTTP/1.1\r\nhost: x\r\nconnection: upgrade\r\nupgrade: test\r\n\r\n";
    stream.write_all(head.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    while !answer.ends_with(b"hello") {
        stream.read_buf(&mut answer).await.unwrap();
    }
    assert!(answer.starts_with(b"HTTP/1.1 101"));
    until("the slot is back", || handle.in_flight() == 0).await;
}

#[tokio::test]
async fn a_refused_upload_leaves_the_connection_in_order() {
    let layer = BackpressureLayer::drop_newest(1);
    let handle = layer.handle();
    let work = Work::new();
    let inside = work.clone();
    let app = Router::new().route("/", post(move |_: Bytes| async move { inside.run().await }));
    let address = serve(app.layer(layer)).await;
    let client = client();
    let upload = || {
        let body = Full::from(vec![b'x'; 300_000]);
        Request::post(format!("http://{address}/"))
            .body(body)
            .unwrap()
    };
    let running = tokio::spawn(client.request(upload()));
    until("one runs", || work.inside() == 1).await;
    for _ in 0..5 {
        let Ok(refused) = client.request(upload()).await else {
            // The server closed while the client was still sending: an honest end as well.
            continue;
        };
        assert_eq!(refused.status(), StatusCode::SERVICE_UNAVAILABLE);
        refused.collect().await.unwrap();
    }
    work.finish(2);
    assert_eq!(running.await.unwrap().unwrap().status(), StatusCode::OK);
    until("the slot is back", || handle.in_flight() == 0).await;
    assert_eq!(
        client.request(upload()).await.unwrap().status(),
        StatusCode::OK
    );
}

#[tokio::test]
async fn common_middleware_goes_outside_and_inside() {
    use tower::ServiceBuilder;
    use tower_http::{
        catch_panic::CatchPanicLayer, compression::CompressionLayer, cors::CorsLayer,
        limit::RequestBodyLimitLayer, timeout::TimeoutLayer, trace::TraceLayer,
    };

    let minute = Duration::from_secs(60);
    let timeout = || TimeoutLayer::with_status_code(StatusCode::REQUEST_TIMEOUT, minute);
    let layer = BackpressureLayer::drop_newest(1);
    let handle = layer.handle();
    let stack = ServiceBuilder::new()
        .layer(TraceLayer::new_for_http())
        .layer(CorsLayer::permissive())
        .layer(timeout())
        .layer(CatchPanicLayer::new())
        .layer(CompressionLayer::new())
        .layer(RequestBodyLimitLayer::new(1000))
        .layer(layer)
        .layer(timeout())
        .layer(CatchPanicLayer::new());
    let app = Router::new()
        .route("/", get(|| async { "hello" }))
        .layer(stack);
    let address = serve(app).await;
    let response = get_on_its_own_connection(address, "/").await;
    assert_eq!(
        response.into_body().collect().await.unwrap().to_bytes(),
        "hello"
    );
    until("the slot is back", || handle.in_flight() == 0).await;
}

#[tokio::test]
async fn an_outer_middleware_can_tell_a_refusal_from_a_failure() {
    use axum::middleware::{Next, from_fn};

    let layer = BackpressureLayer::drop_newest(1);
    layer.handle().drain().await;
    let tell = |request: axum::extract::Request, next: Next| async move {
        let mut response = next.run(request).await;
        let reason = response.extensions().get::<Rejected>().map(|r| r.reason());
        if let Some(reason) = reason {
            let reason = reason.as_str().parse().unwrap();
            response.headers_mut().insert("x-refused", reason);
        }
        response
    };
    let app = Router::new()
        .route("/", get(|| async {}))
        .layer(layer)
        .layer(from_fn(tell));
    let address = serve(app).await;
    let response = get_on_its_own_connection(address, "/").await;
    assert_eq!(response.headers()["x-refused"], "draining");
}
