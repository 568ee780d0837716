//! A gate that is full, a server to talk to in plain bytes, and waiting for what must come true.

use std::{
    convert::Infallible,
    future::{Future, pending},
    net::SocketAddr,
    task::{Context, Poll, Waker},
    time::Duration,
};

use axum::Router;
use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Response};
use http_body_util::{BodyExt, Full};
use tokio::{
    net::TcpListener,
    time::{sleep, timeout},
};
use tower::{Layer, Service, service_fn};
use tower_backpressure::BackpressureLayer;

/// What a request with these headers gets from a gate that is full.
pub fn refusal<'a, V: AsRef<[u8]>>(
    method: Method,
    headers: impl IntoIterator<Item = (&'a str, V)>,
) -> Response<Bytes> {
    let mut request = Request::new(());
    *request.method_mut() = method;
    for (name, value) in headers {
        let name: HeaderName = name.parse().expect("a name");
        let value = HeaderValue::from_bytes(value.as_ref()).expect("a value");
        request.headers_mut().append(name, value);
    }
    let mut service = BackpressureLayer::drop_newest(1).layer(hang());
    let _running = call(&mut service, Request::new(()));
    let refused = now(call(&mut service, request)).expect("infallible");
    let (head, body) = refused.into_parts();
    let body = now(body.collect()).expect("a body at hand").to_bytes();
    Response::from_parts(head, body)
}

/// Never answers.
pub fn hang()
-> impl Service<Request<()>, Response = Response<Full<Bytes>>, Error = Infallible, Future: Send> + Clone
{
    service_fn(|_| pending())
}

pub fn call<S: Service<Req>, Req>(service: &mut S, request: Req) -> S::Future {
    let ready = service.poll_ready(&mut Context::from_waker(Waker::noop()));
    assert!(matches!(ready, Poll::Ready(Ok(()))));
    service.call(request)
}

/// The output of a future that needs nobody to wait for.
pub fn now<F: Future>(future: F) -> F::Output {
    futures_util::FutureExt::now_or_never(future).expect("it need not wait")
}

/// Whether a refusal is said in gRPC's words; each way is checked to be whole.
pub fn is_grpc(refused: &Response<Bytes>) -> bool {
    let headers = refused.headers();
    match refused.status().as_u16() {
        200 => {
            assert_eq!(headers["grpc-status"], "14");
            assert!(refused.body().is_empty());
            true
        }
        503 => {
            assert!(headers.contains_key("retry-after"));
            assert!(!headers.contains_key("grpc-status"));
            false
        }
        other => panic!("a refusal with status {other}"),
    }
}

/// Whether the refusal of an HTTP request is text rather than JSON.
pub fn is_text(refused: &Response<Bytes>) -> bool {
    assert!(!is_grpc(refused));
    match refused.headers()["content-type"].as_bytes() {
        b"text/plain; charset=utf-8" => true,
        b"application/json" => false,
        other => panic!("a refusal of type {other:?}"),
    }
}

/// The bytes of all headers.
pub fn weight(headers: &HeaderMap) -> usize {
    let bytes = |(name, value): (&HeaderName, &HeaderValue)| name.as_str().len() + value.len();
    headers.iter().map(bytes).sum()
}

pub async fn serve(app: Router) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move { axum::serve(listener, app).await });
    address
}

/// Waits until it is so.
///
/// # Panics
///
/// If it is not so after ten seconds.
pub async fn until(what: &str, is_so: impl Fn() -> bool) {
    let wait = async {
        while !is_so() {
            sleep(Duration::from_millis(1)).await;
        }
    };
    let waited = timeout(Duration::from_secs(10), wait).await;
    assert!(waited.is_ok(), "not within ten seconds: {what}");
}
