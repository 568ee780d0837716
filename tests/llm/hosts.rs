//! The layer where it will live.

use std::convert::Infallible;

use axum::{Router, body::Body, extract::Extension, response::Response, routing::post};
use http::{Request, header::CONTENT_TYPE};
use http_body_util::BodyExt;
use tower::{Layer, ServiceBuilder, ServiceExt, service_fn};
use tower_backpressure::{
    BackpressureLayer,
    llm::{Asked, LlmLayer, RequestBody},
};

use crate::bench::*;

async fn complete(Extension(asked): Extension<Asked>, body: String) -> Response {
    assert!(body.contains("include_usage") && asked.is_stream());
    Response::builder()
        .header(CONTENT_TYPE, "text/event-stream")
        .body(Body::from([TOKEN, USAGE, DONE].concat()))
        .unwrap()
}

#[tokio::test(start_paused = true)]
async fn under_axum_it_is_one_line() {
    let layer = LlmLayer::new(BackpressureLayer::drop_newest(10));
    let app: Router = Router::new()
        .route("/v1/chat/completions", post(complete))
        .layer(layer.clone());
    let request = asks_for_stream().map(Body::new);
    let answer = app.oneshot(request).await.unwrap();
    let body = answer.into_body().collect().await.unwrap().to_bytes();
    assert_eq!(body, [TOKEN, DONE].concat());
    assert_eq!(layer.handle().snapshot().consumed_count, 1);
}

#[tokio::test(start_paused = true)]
async fn a_service_of_hypers_sees_bodies_of_one_type_whoever_asks() {
    let model = service_fn(|request: Request<RequestBody<Body>>| async move {
        let answer = Response::new(request.into_body());
        Ok::<_, Infallible>(answer)
    });
    let service = ServiceBuilder::new()
        .layer(LlmLayer::new(BackpressureLayer::drop_newest(10)))
        .service(model);
    let list = Request::new(Body::from("a list of models, please"));
    for request in [asks_for_whole().map(Body::new), list] {
        let answer = service.clone().oneshot(request).await.unwrap();
        assert_eq!(answer.status(), 200);
        assert!(
            !answer
                .into_body()
                .collect()
                .await
                .unwrap()
                .to_bytes()
                .is_empty()
        );
    }
}

fn is<T: Clone + Send + Sync + 'static>(_: &T) {}

#[test]
fn it_is_what_axum_wants_of_a_layer_and_its_service() {
    let layer = LlmLayer::new(BackpressureLayer::drop_newest(10));
    is(&layer);
    is(&layer.layer(Model::default()));
}
