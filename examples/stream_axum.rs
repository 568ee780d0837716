//! One producer for each client, and what a slow client or one that left does to it.
//!
//! ```text
//! cargo run --release --example stream_axum
//! curl -N localhost:3000/prices            # the newest; a slow reader misses some
//! curl -N localhost:3000/report            # every line; a slow reader slows the producer down
//! curl localhost:3000/stats
//! ```
//!
//! Press Ctrl-C in a `curl`: the producer hears of it at its next item, or at once if it waits, and stops.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use axum::{
    Router,
    body::Body,
    http::header::{CACHE_CONTROL, CONTENT_TYPE},
    response::{IntoResponse, Response},
    routing::get,
};
use tokio::{net::TcpListener, time::interval};
use tower_backpressure::{
    BackpressureController, BackpressureMetrics, BackpressureStrategy, BoundedStream,
    stream::{Event, Sender, StreamBody},
};

#[tokio::main]
async fn main() -> std::io::Result<()> {
    let listener = TcpListener::bind("127.0.0.1:3000").await?;
    println!("listening on http://{}", listener.local_addr()?);
    axum::serve(listener, app(Duration::from_millis(10)).0).await
}

/// What all handlers share.
#[derive(Clone)]
struct Shared {
    prices: BackpressureController,
    report: BackpressureController,
    /// How many producers run.
    producers: Arc<AtomicUsize>,
    tick: Duration,
}

fn app(tick: Duration) -> (Router, Shared) {
    let shared = Shared {
        // A price of ten seconds ago is worth nothing, so the newest hundred do.
        prices: BackpressureController::builder(100, BackpressureStrategy::DropOldest)
            .named("prices")
            .build(),
        // A report with a gap is worth nothing, so its producer waits.
        report: BackpressureController::builder(100, BackpressureStrategy::Block)
            .named("report")
            .build(),
        producers: Arc::default(),
        tick,
    };
    let (prices, report, stats) = (shared.clone(), shared.clone(), shared.clone());
    let app = Router::new()
        .route("/prices", get(|| async move { prices.prices() }))
        .route("/report", get(|| async move { report.report() }))
        .route("/stats", get(|| async move { stats.stats() }));
    (app, shared)
}

impl Shared {
    fn prices(&self) -> Response {
        let stream = self.prices.create_stream();
        let mut ticks = interval(self.tick);
        self.produce(stream.sender(), |sender| async move {
            for n in 0_u32.. {
                ticks.tick().await;
                let price = format!("{}.{:02}", 17 + n % 5, n % 100);
                // What it displaces was too old to be of use.
                let event = Event::data(price).event("price").id(n.to_string());
                if sender.send(event).await.is_err() {
                    break;
                }
            }
        });
        sse(stream)
    }

    fn report(&self) -> Response {
        let stream = self.report.create_stream();
        self.produce(stream.sender(), |sender| async move {
            for line in 1..=1_000_000 {
                let text = format!("line {line} of a long report, whole and in order");
                if sender.send(text.into()).await.is_err() {
                    break;
                }
            }
        });
        sse(stream)
    }

    fn stats(&self) -> String {
        let line = |name, metrics: BackpressureMetrics| {
            format!(
                "{name}: produced {} read {} dropped {} waiting {} at {:.0}/s\n",
                metrics.produced_count,
                metrics.consumed_count,
                metrics.dropped_count,
                metrics.current_depth,
                metrics.throughput_rate,
            )
        };
        line("prices", self.prices.metrics()) + &line("report", self.report.metrics())
    }

    fn produce<F: Future<Output = ()> + Send + 'static>(
        &self,
        sender: Sender<Event>,
        work: impl FnOnce(Sender<Event>) -> F,
    ) {
        let producers = Arc::clone(&self.producers);
        producers.fetch_add(1, Ordering::SeqCst);
        let work = work(sender);
        tokio::spawn(async move {
            work.await;
            producers.fetch_sub(1, Ordering::SeqCst);
        });
    }
}

/// axum's own `Sse::new(stream.map(Ok))` would do as well; this needs no adapter, and no axum.
fn sse(stream: BoundedStream<Event>) -> Response {
    let headers = [
        (CONTENT_TYPE, "text/event-stream"),
        (CACHE_CONTROL, "no-cache"),
    ];
    (headers, Body::new(StreamBody::sse(stream))).into_response()
}

#[cfg(test)]
mod tests {
    use http::Request;
    use http_body_util::BodyExt;
    use hyper::server::conn::http1;
    use hyper_util::{rt::TokioIo, service::TowerToHyperService};
    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt},
        time::sleep,
    };
    use tower::ServiceExt;

    use super::*;

    async fn ask(app: &Router, path: &str) -> Body {
        let request = Request::get(path).body(Body::empty()).unwrap();
        let response = app.clone().oneshot(request).await.unwrap();
        assert_eq!(response.headers()["content-type"], "text/event-stream");
        response.into_body()
    }

    async fn event(body: &mut Body) -> String {
        let frame = body.frame().await.unwrap().unwrap();
        String::from_utf8(frame.into_data().unwrap().to_vec()).unwrap()
    }

    #[tokio::test(start_paused = true)]
    async fn a_slow_reader_of_prices_gets_the_newest_hundred() {
        let (app, shared) = app(Duration::from_millis(10));
        let mut body = ask(&app, "/prices").await;
        assert_eq!(
            event(&mut body).await,
            "event: price\nid: 0\ndata: 17.00\n\n"
        );
        sleep(Duration::from_secs(10)).await;
        let next = event(&mut body).await;
        assert!(next.contains("\nid: 90"), "{next}");
        let metrics = shared.prices.metrics();
        assert_eq!(metrics.peak_depth, 100);
        assert!((895..=905).contains(&metrics.dropped_count), "{metrics:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_slow_reader_of_a_report_gets_every_line_and_its_producer_waits() {
        let (app, shared) = app(Duration::from_millis(10));
        let mut body = ask(&app, "/report").await;
        for line in 1..=300 {
            let event = event(&mut body).await;
            assert!(
                event.starts_with(&format!("data: line {line} of")),
                "{event}"
            );
            sleep(Duration::from_millis(100)).await;
        }
        let metrics = shared.report.metrics();
        assert_eq!((metrics.consumed_count, metrics.dropped_count), (300, 0));
        assert!(metrics.produced_count <= 400);
    }

    #[tokio::test(start_paused = true)]
    async fn a_reader_that_leaves_stops_its_producer_at_once() {
        let (app, shared) = app(Duration::from_millis(10));
        let mut bodies = [ask(&app, "/report").await, ask(&app, "/report").await];
        for body in &mut bodies {
            event(body).await;
        }
        assert_eq!(shared.producers.load(Ordering::SeqCst), 2);
        let [leaves, _stays] = bodies;
        drop(leaves);
        tokio::task::yield_now().await;
        assert_eq!(shared.producers.load(Ordering::SeqCst), 1);
    }

    /// Over a connection with hyper's own buffers between: the client reads a little, lets everything fill up, and hangs up.
    #[tokio::test(start_paused = true)]
    async fn a_client_that_stops_reading_stops_the_producer_and_one_that_hangs_up_ends_it() {
        let (app, shared) = app(Duration::from_millis(10));
        let (mut client, server) = tokio::io::duplex(64 * 1024);
        let service = TowerToHyperService::new(app);
        tokio::spawn(http1::Builder::new().serve_connection(TokioIo::new(server), service));

        let request = b"GET /report HTTP/1.1\r\nhost: localhost\r\n\r\n";
        client.write_all(request).await.unwrap();
        let mut some = [0; 1024];
        client.read_exact(&mut some).await.unwrap();
        assert!(some.starts_with(b"HTTP/1.1 200 OK"));

        // Paused time goes on only when nobody has anything to do.
        sleep(Duration::from_secs(1)).await;
        let before = shared.report.metrics();
        assert!(
            before.produced_count < 100_000,
            "the client did not slow it down"
        );
        assert_eq!(before.current_depth, 100);
        sleep(Duration::from_secs(60)).await;
        assert_eq!(
            shared.report.metrics().produced_count,
            before.produced_count
        );

        drop(client);
        sleep(Duration::from_millis(1)).await;
        assert_eq!(shared.producers.load(Ordering::SeqCst), 0);
    }
}
