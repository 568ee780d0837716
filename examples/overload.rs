//! Ten times the load that a server can take, with and without a layer in front of it.
//!
//! ```text
//! cargo run --release --example overload
//! ```
//!
//! A real axum server on loopback stands before a backend with ten workers. Callers come at a fixed rate, whether or not
//! earlier ones were answered, and give up after 200 ms; the backend finishes what it has begun all the same, as a
//! database would. Latencies are counted from the moment at which a caller should have come, so that a generator that
//! falls behind hides nothing.

use std::{
    io::IsTerminal,
    net::SocketAddr,
    sync::{Arc, Mutex},
    time::Duration,
};

use axum::{Router, routing::get};
use bytes::Bytes;
use http::{Request, StatusCode};
use http_body_util::{BodyExt, Empty};
use hyper::client::conn::http2::{self, SendRequest};
use hyper_util::rt::{TokioExecutor, TokioIo};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::Semaphore,
    time::{Instant, MissedTickBehavior, interval, sleep, timeout_at},
};
use tower_backpressure::{BackpressureLayer, limit::Aimd};

const WORKERS: usize = 10;
const WORK: Duration = Duration::from_millis(20);
const DEADLINE: Duration = Duration::from_millis(200);
const LOAD: f64 = 10.0;
const CONNECTIONS: usize = 32;

#[tokio::main]
async fn main() -> std::io::Result<()> {
    let capacity = measured_capacity().await;
    println!(
        "{WORKERS} workers of {WORK:?} each finish {capacity:.0} requests/s; {:.0} come, and give up after {DEADLINE:?}\n",
        LOAD * capacity,
    );
    let scenarios = [
        ("no layer", None),
        (
            "drop_newest(20)",
            Some(BackpressureLayer::drop_newest(2 * WORKERS)),
        ),
        (
            "adaptive",
            Some(BackpressureLayer::adaptive(Aimd::default())),
        ),
    ];
    let mut rows = Vec::new();
    for (name, layer) in scenarios {
        let answers = run(name, layer, LOAD * capacity, Duration::from_secs(5)).await?;
        rows.push((name, answers));
    }
    println!(
        "                  in time/s  of capacity   p50 ms   p99 ms   refused/s  p99 ms   gave up/s"
    );
    for (name, answers) in rows {
        println!("{name:16} {}", answers.row(capacity));
    }
    Ok(())
}

/// The server, and behind it the backend.
fn app(layer: Option<BackpressureLayer>) -> Router {
    let backend = Backend::new();
    let app = Router::new().route("/", get(move || async move { backend.work().await }));
    match layer {
        Some(layer) => app.layer(layer),
        None => app,
    }
}

/// A first-come-first-served line before a fixed number of workers.
#[derive(Clone)]
struct Backend(Arc<Semaphore>);

impl Backend {
    fn new() -> Self {
        Self(Arc::new(Semaphore::new(WORKERS)))
    }

    /// Goes on to its end even if nobody waits for it any more.
    async fn work(&self) {
        let workers = Arc::clone(&self.0);
        let work = tokio::spawn(async move {
            let _worker = workers.acquire().await;
            sleep(WORK).await;
        });
        let _ = work.await;
    }
}

async fn measured_capacity() -> f64 {
    let backend = Backend::new();
    let rounds: u32 = 25;
    let began = now();
    let workers = (0..WORKERS).map(|_| async {
        for _ in 0..rounds {
            backend.work().await;
        }
    });
    futures_util::future::join_all(workers).await;
    f64::from(rounds) * WORKERS as f64 / began.elapsed().as_secs_f64()
}

#[allow(clippy::disallowed_methods, reason = "an example in real time")]
fn now() -> Instant {
    Instant::now()
}

async fn run(
    name: &'static str,
    layer: Option<BackpressureLayer>,
    rate: f64,
    time: Duration,
) -> std::io::Result<Answers> {
    let handle = layer.as_ref().map(BackpressureLayer::handle);
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let address = listener.local_addr()?;
    let app = app(layer);
    let server = tokio::spawn(async move { axum::serve(listener, app).await });

    let progress = progress(name, time);
    let answers = Arc::new(Mutex::new(Answers::default()));
    let connections = connect(address).await?;
    let began = now();
    let mut ticks = interval(Duration::from_millis(1));
    ticks.set_missed_tick_behavior(MissedTickBehavior::Burst);
    let mut callers = Vec::new();
    while began.elapsed() < time {
        ticks.tick().await;
        let due = (began.elapsed().as_secs_f64() * rate) as usize;
        for nth in callers.len()..due {
            let came = began + Duration::from_secs_f64(nth as f64 / rate);
            let connection = connections[nth % CONNECTIONS].clone();
            let answers = Arc::clone(&answers);
            callers.push(tokio::spawn(async move {
                let answer = call(connection, came).await;
                answers.lock().expect("not poisoned").add(answer);
            }));
        }
        progress.set_position(began.elapsed().as_millis() as u64);
        if let Some(handle) = &handle {
            progress.set_message(format!(
                "limit {} in flight {}",
                handle.limit(),
                handle.in_flight()
            ));
        }
    }
    for caller in callers {
        let _ = caller.await;
    }
    progress.finish_and_clear();
    server.abort();
    let mut answers = std::mem::take(&mut *answers.lock().expect("not poisoned"));
    answers.seconds = time.as_secs_f64();
    Ok(answers)
}

async fn connect(address: SocketAddr) -> std::io::Result<Vec<SendRequest<Empty<Bytes>>>> {
    let mut connections = Vec::new();
    for _ in 0..CONNECTIONS {
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        let (sender, connection) = http2::handshake(TokioExecutor::new(), TokioIo::new(stream))
            .await
            .map_err(std::io::Error::other)?;
        tokio::spawn(connection);
        connections.push(sender);
    }
    Ok(connections)
}

enum Answer {
    Served(Duration),
    Refused(Duration),
    GaveUp,
}

async fn call(mut connection: SendRequest<Empty<Bytes>>, came: Instant) -> Answer {
    let request = Request::get("http://localhost/")
        .body(Empty::new())
        .expect("a valid request");
    let answer = timeout_at(came + DEADLINE, async {
        let response = connection.send_request(request).await?;
        let status = response.status();
        response.into_body().collect().await?;
        Ok::<_, hyper::Error>(status)
    });
    match answer.await {
        Ok(Ok(StatusCode::OK)) => Answer::Served(came.elapsed()),
        Ok(Ok(_)) => Answer::Refused(came.elapsed()),
        Ok(Err(_)) | Err(_) => Answer::GaveUp,
    }
}

fn progress(name: &'static str, time: Duration) -> ProgressBar {
    let style = "{prefix:16} [{bar:30}] {elapsed}  {msg}";
    let bar = ProgressBar::new(time.as_millis() as u64)
        .with_style(ProgressStyle::with_template(style).expect("a valid template"))
        .with_prefix(name);
    if !std::io::stderr().is_terminal() {
        eprintln!("{name} ...");
        bar.set_draw_target(ProgressDrawTarget::hidden());
    }
    bar
}

#[derive(Default)]
struct Answers {
    served: Vec<Duration>,
    refused: Vec<Duration>,
    gave_up: usize,
    seconds: f64,
}

impl Answers {
    fn add(&mut self, answer: Answer) {
        match answer {
            Answer::Served(latency) => self.served.push(latency),
            Answer::Refused(latency) => self.refused.push(latency),
            Answer::GaveUp => self.gave_up += 1,
        }
    }

    fn row(mut self, capacity: f64) -> String {
        let per_second = |count: usize| count as f64 / self.seconds;
        let goodput = per_second(self.served.len());
        let refused = per_second(self.refused.len());
        let gave_up = per_second(self.gave_up);
        format!(
            "{goodput:10.0} {:11.0}% {:>8} {:>8} {refused:11.0} {:>7} {gave_up:11.0}",
            100.0 * goodput / capacity,
            quantile(&mut self.served, 0.5),
            quantile(&mut self.served, 0.99),
            quantile(&mut self.refused, 0.99),
        )
    }
}

/// In milliseconds, or a dash where there is none.
fn quantile(latencies: &mut [Duration], q: f64) -> String {
    latencies.sort_unstable();
    let nth = (latencies.len() as f64 * q) as usize;
    match latencies.get(nth) {
        Some(latency) => format!("{:.0}", latency.as_secs_f64() * 1000.0),
        None => "-".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use axum::body::Body;
    use tower::ServiceExt;

    use super::*;

    #[tokio::test]
    async fn the_app_answers_with_and_without_a_layer() {
        for layer in [None, Some(BackpressureLayer::drop_newest(1))] {
            let request = Request::get("/").body(Body::empty()).unwrap();
            let response = app(layer).oneshot(request).await.unwrap();
            assert_eq!(response.status(), StatusCode::OK);
        }
    }

    #[tokio::test]
    async fn everybody_who_came_is_accounted_for() {
        let layer = BackpressureLayer::drop_newest(WORKERS);
        let handle = layer.handle();
        let time = Duration::from_millis(300);
        let answers = run("test", Some(layer), 500.0, time).await.unwrap();
        let counted = answers.served.len() + answers.refused.len() + answers.gave_up;
        assert!(counted > 0 && counted <= 150, "{counted}");
        assert!(handle.snapshot().consumed_count >= answers.served.len() as u64);
    }
}
