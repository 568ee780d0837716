//! A gRPC service of which at most two calls run at once; the others are told `UNAVAILABLE` and when to come back.
//!
//! The service is written by hand, so that no protobuf compiler is needed; one that tonic generated is layered in the
//! same way.
//!
//! ```text
//! cargo run --release --example tonic
//! ```

use std::{
    convert::Infallible,
    future::Future,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use http::uri::PathAndQuery;
use tokio::{net::TcpListener, time::sleep};
use tokio_stream::wrappers::TcpListenerStream;
use tonic::{
    Request, Response, Status,
    body::Body,
    client,
    server::{Grpc, NamedService, UnaryService},
    transport::{Channel, Endpoint, Server, server::Router},
};
use tonic_prost::ProstCodec;
use tower::{Service, layer::util::Stack};
use tower_backpressure::BackpressureLayer;

type Codec = ProstCodec<String, String>;
type Layers = Stack<BackpressureLayer, tower::layer::util::Identity>;

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let address = listener.local_addr()?;
    let incoming = TcpListenerStream::new(listener);
    tokio::spawn(app().serve_with_incoming(incoming));

    let endpoint = Endpoint::from_shared(format!("http://{address}"))?;
    let channel = endpoint.connect().await?;
    let calls = (0..5).map(|n| greet(channel.clone(), format!("caller {n}")));
    for answer in futures_util::future::join_all(calls).await {
        match answer {
            Ok(greeting) => println!("{greeting}"),
            Err(status) => {
                let pushback = status.metadata().get("grpc-retry-pushback-ms");
                println!(
                    "{:?}: {} ({pushback:?} ms)",
                    status.code(),
                    status.message()
                );
            }
        }
    }
    Ok(())
}

fn app() -> Router<Layers> {
    Server::builder()
        .layer(BackpressureLayer::drop_newest(2))
        .add_service(Greeter)
}

async fn greet(channel: Channel, name: String) -> Result<String, Status> {
    let mut grpc = client::Grpc::new(channel);
    grpc.ready()
        .await
        .map_err(|error| Status::unknown(error.to_string()))?;
    let path = PathAndQuery::from_static("/example.Greeter/Greet");
    let response = grpc
        .unary(Request::new(name), path, Codec::default())
        .await?;
    Ok(response.into_inner())
}

#[derive(Clone)]
struct Greeter;

impl NamedService for Greeter {
    const NAME: &'static str = "example.Greeter";
}

impl UnaryService<String> for Greeter {
    type Response = String;
    type Future = Pin<Box<dyn Future<Output = Result<Response<String>, Status>> + Send>>;

    fn call(&mut self, request: Request<String>) -> Self::Future {
        Box::pin(async move {
            sleep(Duration::from_millis(100)).await;
            Ok(Response::new(format!("hello, {}", request.into_inner())))
        })
    }
}

impl Service<http::Request<Body>> for Greeter {
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Infallible>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        Box::pin(async move {
            let mut grpc = Grpc::new(Codec::default());
            Ok(grpc.unary(Greeter, request).await)
        })
    }
}

#[cfg(test)]
mod tests {
    use tonic::Code;

    use super::*;

    #[tokio::test]
    async fn two_of_five_are_greeted_and_three_told_when_to_come_back() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(app().serve_with_incoming(TcpListenerStream::new(listener)));
        let endpoint = Endpoint::from_shared(format!("http://{address}")).unwrap();
        let channel = endpoint.connect().await.unwrap();
        let calls = (0..5).map(|n| greet(channel.clone(), n.to_string()));
        let answers = futures_util::future::join_all(calls).await;
        let (greeted, refused): (Vec<_>, Vec<_>) = answers.into_iter().partition(Result::is_ok);
        assert_eq!((greeted.len(), refused.len()), (2, 3));
        for status in refused.into_iter().map(Result::unwrap_err) {
            assert_eq!(status.code(), Code::Unavailable);
            assert!(status.metadata().contains_key("grpc-retry-pushback-ms"));
        }
    }
}
