//! A limit of your own: never more at once than the service has worker threads, as it says in a response header.
//!
//! An algorithm that learns from latencies implements [`Limit::update`] in the same way; here it is fed by a classifier
//! instead, to show that a limit may know things that no sample tells.
//!
//! ```text
//! cargo run --release --example custom_limit
//! ```

use std::{
    convert::Infallible,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::Full;
use tower::{Layer, Service, ServiceExt, service_fn};
use tower_backpressure::{
    BackpressureLayer,
    limit::{Limit, Outcome, Sample},
};

/// As many requests as the service last said it could take.
struct Announced {
    announced: Arc<AtomicUsize>,
}

impl Limit for Announced {
    fn limit(&self) -> usize {
        self.announced.load(Ordering::Relaxed)
    }

    fn update(&mut self, _: &Sample) -> usize {
        self.limit()
    }
}

/// The layer, which reads the header `x-workers` of every response before the limit is asked again.
fn layer(initial: usize) -> BackpressureLayer {
    let announced = Arc::new(AtomicUsize::new(initial));
    let limit = Announced {
        announced: Arc::clone(&announced),
    };
    BackpressureLayer::adaptive(limit)
        .named("announced")
        .classify(move |head| {
            let workers = head.headers.get("x-workers");
            let workers = workers.and_then(|value| value.to_str().ok()?.parse().ok());
            if let Some(workers) = workers {
                announced.store(workers, Ordering::Relaxed);
            }
            Outcome::Success
        })
}

type Answer = Response<Full<Bytes>>;

/// A service that has `workers` threads.
fn app(
    layer: &BackpressureLayer,
    workers: usize,
) -> impl Service<
    Request<()>,
    Response = Response<tower_backpressure::protocol::ResponseBody<Full<Bytes>>>,
    Error = Infallible,
> + Clone {
    layer.layer(service_fn(move |_: Request<()>| async move {
        let answer: Answer = Response::builder()
            .header("x-workers", workers)
            .body(Full::from("done"))
            .expect("a valid response");
        Ok(answer)
    }))
}

#[tokio::main]
async fn main() {
    let layer = layer(1);
    for workers in [8, 3, 20] {
        app(&layer, workers)
            .oneshot(Request::new(()))
            .await
            .unwrap_or_else(|never| match never {});
        println!("{workers} workers: the limit is {}", layer.handle().limit());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_limit_is_what_the_service_announces() {
        let layer = layer(1);
        for workers in [8, 3, 20] {
            app(&layer, workers)
                .oneshot(Request::new(()))
                .await
                .unwrap();
            assert_eq!(layer.handle().limit(), workers);
        }
    }
}
