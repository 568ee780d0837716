use std::{
    convert::Infallible,
    future::Future,
    net::SocketAddr,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use futures_util::future::join_all;
use http::uri::PathAndQuery;
use tokio::net::TcpListener;
use tokio_stream::{Stream, StreamExt, wrappers::TcpListenerStream};
use tonic::{
    Code, Request, Response, Status,
    body::Body,
    client,
    server::{Grpc, NamedService, ServerStreamingService, UnaryService},
    transport::{Channel, Endpoint, Server},
};
use tonic_prost::ProstCodec;
use tower::Service;
use tower_backpressure::{BackpressureLayer, Handle};

use super::support::{Work, until};

type Codec = ProstCodec<String, String>;
type Boxed<T> = Pin<Box<dyn Future<Output = T> + Send>>;
type Words = Pin<Box<dyn Stream<Item = Result<String, Status>> + Send>>;

/// `Say` answers when the test says so, `Sing` never stops. Written by hand: no protobuf compiler is needed.
#[derive(Clone)]
struct Echo(Work);

impl NamedService for Echo {
    const NAME: &'static str = "test.Echo";
}

impl UnaryService<String> for Echo {
    type Response = String;
    type Future = Boxed<Result<Response<String>, Status>>;

    fn call(&mut self, request: Request<String>) -> Self::Future {
        let work = self.0.clone();
        Box::pin(async move {
            work.run().await;
            match request.into_inner().as_str() {
                "fail" => Err(Status::resource_exhausted("no more")),
                word => Ok(Response::new(word.to_owned())),
            }
        })
    }
}

impl ServerStreamingService<String> for Echo {
    type Response = String;
    type ResponseStream = Words;
    type Future = Boxed<Result<Response<Words>, Status>>;

    fn call(&mut self, request: Request<String>) -> Self::Future {
        let word = request.into_inner();
        let words = tokio_stream::iter([Ok(word)]).chain(tokio_stream::pending());
        Box::pin(async move { Ok(Response::new(Box::pin(words) as Words)) })
    }
}

impl Service<http::Request<Body>> for Echo {
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = Boxed<Result<http::Response<Body>, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        let echo = self.clone();
        Box::pin(async move {
            let mut grpc = Grpc::new(Codec::default());
            Ok(match request.uri().path() {
                "/test.Echo/Say" => grpc.unary(echo, request).await,
                _ => grpc.server_streaming(echo, request).await,
            })
        })
    }
}

async fn serve(layer: BackpressureLayer, work: &Work) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let server = Server::builder()
        .layer(layer)
        .add_service(Echo(work.clone()))
        .serve_with_incoming(TcpListenerStream::new(listener));
    tokio::spawn(server);
    address
}

async fn connect(address: SocketAddr) -> client::Grpc<Channel> {
    let endpoint = Endpoint::from_shared(format!("http://{address}")).unwrap();
    client::Grpc::new(endpoint.connect().await.unwrap())
}

async fn say(address: SocketAddr, word: &str) -> Result<String, Status> {
    let mut grpc = connect(address).await;
    grpc.ready().await.unwrap();
    let path = PathAndQuery::from_static("/test.Echo/Say");
    let request = Request::new(word.to_owned());
    let response = grpc.unary(request, path, Codec::default()).await?;
    Ok(response.into_inner())
}

async fn sing(address: SocketAddr) -> Result<tonic::Streaming<String>, Status> {
    let mut grpc = connect(address).await;
    grpc.ready().await.unwrap();
    let path = PathAndQuery::from_static("/test.Echo/Sing");
    let request = Request::new("la".to_owned());
    let response = grpc
        .server_streaming(request, path, Codec::default())
        .await?;
    Ok(response.into_inner())
}

fn layer(limit: usize) -> (BackpressureLayer, Handle) {
    let layer = BackpressureLayer::drop_newest(limit);
    let handle = layer.handle();
    (layer, handle)
}

#[tokio::test]
async fn thirty_connections_share_one_limit_and_are_refused_in_grpcs_words() {
    let work = Work::new();
    let (layer, handle) = layer(5);
    let address = serve(layer, &work).await;
    let calls: Vec<_> = (0..30).map(|_| tokio::spawn(say(address, "hi"))).collect();
    until("25 refusals", || handle.snapshot().dropped_count == 25).await;
    assert_eq!((work.inside(), handle.in_flight()), (5, 5));
    work.finish(5);
    let (mut served, mut refused) = (0, 0);
    for call in join_all(calls).await {
        match call.unwrap() {
            Ok(word) => {
                assert_eq!(word, "hi");
                served += 1;
            }
            Err(status) => {
                assert_eq!(status.code(), Code::Unavailable);
                assert!(
                    status
                        .message()
                        .starts_with("rejected: all 5 slots are in use")
                );
                let pushback = status.metadata().get("grpc-retry-pushback-ms").unwrap();
                assert!(pushback.to_str().unwrap().parse::<u64>().unwrap() > 0);
                refused += 1;
            }
        }
    }
    assert_eq!((served, refused, work.peak()), (5, 25, 5));
    until("all slots back", || handle.in_flight() == 0).await;
}

#[tokio::test]
async fn a_stream_holds_its_slot_until_its_client_leaves() {
    let work = Work::new();
    let (layer, handle) = layer(1);
    let address = serve(layer, &work).await;
    let mut song = sing(address).await.unwrap();
    assert_eq!(song.message().await.unwrap().unwrap(), "la");
    assert_eq!(sing(address).await.unwrap_err().code(), Code::Unavailable);
    assert_eq!(handle.in_flight(), 1);
    drop(song);
    let took = until("the slot is back", || handle.in_flight() == 0).await;
    assert!(took < Duration::from_secs(1), "{took:?}");
    assert!(sing(address).await.is_ok());
}

#[tokio::test]
async fn answers_and_failures_of_the_service_pass_unchanged() {
    let work = Work::new();
    work.finish(2);
    let (layer, handle) = layer(1);
    let address = serve(layer, &work).await;
    assert_eq!(say(address, "hello").await.unwrap(), "hello");
    let status = say(address, "fail").await.unwrap_err();
    assert_eq!(
        (status.code(), status.message()),
        (Code::ResourceExhausted, "no more")
    );
    until("all slots back", || handle.in_flight() == 0).await;
    assert_eq!(handle.snapshot().consumed_count, 2);
}
