//! In front of an upstream: a client that finds out how much the upstream can take, and keeps to it.
//!
//! The upstream here answers `503` beyond five requests at once. Forty tasks want something from it all the time; the
//! layer refuses in the client's own process what the upstream would have refused after a round trip.
//!
//! Put the layer inside of retries, as here, so that it sees every attempt.
//!
//! ```text
//! cargo run --release --example client
//! ```

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use axum::{Router, routing::get};
use bytes::Bytes;
use http::{Request, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::TokioExecutor,
};
use tokio::{net::TcpListener, sync::Semaphore, time::sleep};
use tower::{ServiceBuilder, ServiceExt};
use tower_backpressure::{Backpressure, BackpressureLayer, Rejected, limit::Aimd};

const CAPACITY: usize = 5;

type HttpClient = Client<HttpConnector, Full<Bytes>>;

#[tokio::main]
async fn main() -> std::io::Result<()> {
    let upstream = start_upstream().await?;
    let client = app();
    let counts: Arc<[AtomicUsize; 3]> = Arc::default();
    for _ in 0..40 {
        let (client, counts) = (client.clone(), Arc::clone(&counts));
        tokio::spawn(async move {
            loop {
                let kind = match ask(&client, upstream).await {
                    Asked::Answered => 0,
                    Asked::UpstreamRefused => 1,
                    Asked::RefusedHere => 2,
                };
                counts[kind].fetch_add(1, Ordering::Relaxed);
                if kind > 0 {
                    sleep(Duration::from_millis(20)).await;
                }
            }
        });
    }
    println!("limit   answered/s   refused by the upstream/s   refused here/s");
    for _ in 0..5 {
        sleep(Duration::from_secs(1)).await;
        let [answered, upstream, here] =
            [0, 1, 2].map(|kind| counts[kind].swap(0, Ordering::Relaxed));
        let limit = client.handle().limit();
        println!("{limit:5} {answered:12} {upstream:27} {here:16}");
    }
    Ok(())
}

/// The client: a service like any other.
fn app() -> Backpressure<HttpClient> {
    let client = Client::builder(TokioExecutor::new()).build_http();
    ServiceBuilder::new()
        .layer(BackpressureLayer::adaptive(Aimd::default()).named("upstream"))
        .service(client)
}

enum Asked {
    Answered,
    UpstreamRefused,
    RefusedHere,
}

async fn ask(client: &Backpressure<HttpClient>, upstream: SocketAddr) -> Asked {
    let request = Request::get(format!("http://{upstream}/"))
        .body(Full::default())
        .expect("a valid request");
    let response = match client.clone().oneshot(request).await {
        Ok(response) => response,
        Err(_) => return Asked::UpstreamRefused,
    };
    // A refusal of the layer's own is marked.
    if response.extensions().get::<Rejected>().is_some() {
        return Asked::RefusedHere;
    }
    let status = response.status();
    // The slot is held until the body has been read or dropped.
    let body = response.into_body().collect().await;
    match (status, body) {
        (StatusCode::OK, Ok(_)) => Asked::Answered,
        _ => Asked::UpstreamRefused,
    }
}

async fn start_upstream() -> std::io::Result<SocketAddr> {
    let slots = Arc::new(Semaphore::new(CAPACITY));
    let work = move || async move {
        let Ok(_slot) = slots.try_acquire() else {
            return StatusCode::SERVICE_UNAVAILABLE;
        };
        sleep(Duration::from_millis(20)).await;
        StatusCode::OK
    };
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let address = listener.local_addr()?;
    let upstream = Router::new().route("/", get(work));
    tokio::spawn(async move { axum::serve(listener, upstream).await });
    Ok(address)
}

#[cfg(test)]
mod tests {
    use futures_util::future::join_all;

    use super::*;

    #[tokio::test]
    async fn the_upstreams_refusals_bring_the_limit_down_to_what_it_takes() {
        let upstream = start_upstream().await.unwrap();
        let client = app();
        client.handle().set_limit(40);
        for _ in 0..30 {
            join_all((0..40).map(|_| ask(&client, upstream))).await;
        }
        let limit = client.handle().limit();
        assert!(limit <= 2 * CAPACITY, "{limit}");
        assert_eq!(client.handle().in_flight(), 0);
    }

    #[tokio::test]
    async fn what_the_layer_refuses_never_reaches_the_upstream() {
        let client = app();
        client.handle().drain().await;
        let nowhere = SocketAddr::from(([127, 0, 0, 1], 1));
        let asked = ask(&client, nowhere).await;
        assert!(matches!(asked, Asked::RefusedHere));
    }
}
