//! A JSON and a streaming endpoint behind one adaptive limit, with a health probe that is never refused.
//!
//! ```text
//! cargo run --release --example axum
//! curl -i localhost:3000/answer
//! curl -N localhost:3000/stream
//! curl localhost:3000/stats
//! ```
//!
//! Ctrl-C drains: new requests are refused with a hint, streams go on to their end.

use std::{convert::Infallible, time::Duration};

use axum::{
    Json, Router,
    response::sse::{Event, Sse},
    routing::get,
};
use futures_util::{Stream, stream};
use serde::Serialize;
use tokio::{net::TcpListener, time::sleep};
use tower_backpressure::{BackpressureLayer, Handle, limit::Aimd};

#[tokio::main]
async fn main() -> std::io::Result<()> {
    let (app, handle) = app();
    let listener = TcpListener::bind("127.0.0.1:3000").await?;
    println!("listening on http://{}", listener.local_addr()?);
    axum::serve(listener, app)
        .with_graceful_shutdown(async move {
            tokio::signal::ctrl_c().await.expect("signals work");
            println!("draining {} requests", handle.in_flight());
            let _ = tokio::time::timeout(Duration::from_secs(30), handle.drain()).await;
        })
        .await
}

fn app() -> (Router, Handle) {
    let backpressure = BackpressureLayer::adaptive(Aimd::default())
        .named("api")
        .exempt(|head| head.uri.path() == "/healthz");
    let handle = backpressure.handle();
    let stats = handle.clone();
    let app = Router::new()
        .route("/answer", get(answer))
        .route("/stream", get(words))
        .route("/healthz", get(|| async { "ok" }))
        .layer(backpressure)
        // Added after the layer, and so outside of it.
        .route(
            "/stats",
            get(|| async move { format!("{:#?}\n", stats.snapshot()) }),
        );
    (app, handle)
}

#[derive(Serialize)]
struct Answer {
    answer: u32,
}

async fn answer() -> Json<Answer> {
    sleep(Duration::from_millis(20)).await;
    Json(Answer { answer: 42 })
}

/// Ten words, a tenth of a second apart. The stream holds its slot to its end, but counts as answered with the first.
async fn words() -> Sse<impl Stream<Item = Result<Event, Infallible>>> {
    Sse::new(stream::unfold(0, |n| async move {
        if n == 10 {
            return None;
        }
        sleep(Duration::from_millis(100)).await;
        Some((Ok(Event::default().data(format!("word {n}"))), n + 1))
    }))
}

#[cfg(test)]
mod tests {
    use axum::body::Body;
    use http::{Request, StatusCode};
    use http_body_util::BodyExt;
    use tower::ServiceExt;

    use super::*;

    fn get(path: &str) -> Request<Body> {
        Request::get(path).body(Body::empty()).unwrap()
    }

    #[tokio::test(start_paused = true)]
    async fn answers_and_streams() {
        let (app, handle) = app();
        let answer = app.clone().oneshot(get("/answer")).await.unwrap();
        let answer = answer.into_body().collect().await.unwrap().to_bytes();
        assert_eq!(answer, r#"{"answer":42}"#);

        let words = app.oneshot(get("/stream")).await.unwrap();
        assert_eq!(handle.in_flight(), 1);
        let words = words.into_body().collect().await.unwrap().to_bytes();
        assert!(words.ends_with(b"data: word 9\n\n"));
        assert_eq!(handle.in_flight(), 0);
    }

    #[tokio::test]
    async fn a_drained_app_refuses_but_says_that_it_is_healthy() {
        let (app, handle) = app();
        handle.drain().await;
        let refused = app.clone().oneshot(get("/answer")).await.unwrap();
        assert_eq!(refused.status(), StatusCode::SERVICE_UNAVAILABLE);
        let healthy = app.oneshot(get("/healthz")).await.unwrap();
        assert_eq!(healthy.status(), StatusCode::OK);
    }
}
