//! What a refused client sees.

use std::convert::Infallible;

use bytes::Bytes;
use http::{HeaderMap, Request, Response, StatusCode, request, response};
use http_body::Body;
use http_body_util::{BodyExt, Full};
use tower::{Layer, Service, ServiceExt, service_fn};
use tower_backpressure::{BackpressureLayer, Error, Reason, Rejected};

/// The refusal of a request with these headers.
async fn refusal(
    layer: BackpressureLayer,
    headers: &[(&'static str, &'static str)],
) -> (response::Parts, Bytes, Option<HeaderMap>) {
    let hang = service_fn(|_: Request<()>| async {
        std::future::pending::<()>().await;
        Ok::<_, Infallible>(Response::new(Full::<Bytes>::default()))
    });
    let mut service = layer.layer(hang);
    let _running = service.ready().await.unwrap().call(Request::new(()));
    let mut request = Request::builder().uri("/v1/chat");
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let refused = service.oneshot(request.body(()).unwrap()).await.unwrap();
    let (head, body) = refused.into_parts();
    assert!(body.size_hint().exact().is_some());
    let body = body.collect().await.unwrap();
    let trailers = body.trailers().cloned();
    (head, body.to_bytes(), trailers)
}

fn full() -> BackpressureLayer {
    BackpressureLayer::drop_newest(1)
}

#[tokio::test]
async fn http_gets_a_503_with_hints_and_a_short_json_body() {
    let (head, body, _) = refusal(full(), &[]).await;
    assert_eq!(head.status, StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(head.headers["content-type"], "application/json");
    let seconds: u64 = head.headers["retry-after"]
        .to_str()
        .unwrap()
        .parse()
        .unwrap();
    let millis: u64 = head.headers["retry-after-ms"]
        .to_str()
        .unwrap()
        .parse()
        .unwrap();
    assert!((1..=60).contains(&seconds));
    assert_eq!(seconds, millis.div_ceil(1000), "rounded up");
    // Without a pace yet the hint is a second, spread by 30 %.
    assert!((700..=1300).contains(&millis), "{millis}");
    let body = std::str::from_utf8(&body).unwrap();
    let start = r#"{"error":"overloaded","reason":"limit","message":"rejected: all 1 slots are in use; retry after "#;
    assert!(body.starts_with(start), "{body}");
    assert!(
        body.ends_with(&format!(r#","retry_after_ms":{millis}}}"#)),
        "{body}"
    );
}

#[tokio::test]
async fn a_client_that_prefers_text_gets_text() {
    let (head, body, _) = refusal(full(), &[("accept", "text/html,*/*;q=0.8")]).await;
    assert_eq!(head.headers["content-type"], "text/plain; charset=utf-8");
    assert!(body.starts_with(b"rejected: all 1 slots are in use; retry after "));
}

#[tokio::test]
async fn grpc_gets_unavailable_with_a_pushback() {
    for content_type in [
        "application/grpc",
        "application/grpc+proto",
        "Application/GRPC;x=1",
    ] {
        let (head, body, trailers) = refusal(full(), &[("content-type", content_type)]).await;
        assert_eq!(head.status, StatusCode::OK);
        assert_eq!(head.headers["content-type"], "application/grpc");
        assert_eq!(head.headers["grpc-status"], "14");
        let message = head.headers["grpc-message"].to_str().unwrap();
        assert!(message.starts_with("rejected: all 1 slots are in use"));
        let pushback = head.headers["grpc-retry-pushback-ms"].to_str().unwrap();
        assert!((700..=1300).contains(&pushback.parse().unwrap()));
        assert!(!head.headers.contains_key("retry-after"));
        assert!(body.is_empty() && trailers.is_none());
    }
}

#[tokio::test]
async fn grpc_web_keeps_its_content_type() {
    let web = [("content-type", "application/grpc-web+proto")];
    let (head, _, _) = refusal(full(), &web).await;
    assert_eq!(head.headers["content-type"], "application/grpc-web+proto");
    assert_eq!(head.headers["grpc-status"], "14");
}

#[tokio::test]
async fn the_response_carries_the_rejection_for_outer_layers() {
    let (head, _, _) = refusal(full(), &[]).await;
    let rejected = head.extensions.get::<Rejected>().unwrap();
    assert_eq!((rejected.reason(), rejected.limit()), (Reason::Limit, 1));
}

#[tokio::test]
async fn respond_replaces_the_answer_but_not_the_extension() {
    let layer = full().respond(|head: &request::Parts, rejected| {
        let body = format!("{} {}", head.uri, rejected.reason().as_str());
        let mut response = Response::new(Bytes::from(body));
        *response.status_mut() = StatusCode::TOO_MANY_REQUESTS;
        response
    });
    let (head, body, _) = refusal(layer, &[]).await;
    assert_eq!(head.status, StatusCode::TOO_MANY_REQUESTS);
    assert_eq!(body, "/v1/chat limit");
    assert!(head.extensions.get::<Rejected>().is_some());
}

#[tokio::test]
async fn respond_leaves_grpc_its_own_words() {
    let layer = full().respond(|_, _| Response::new(Bytes::from("for browsers")));
    let (head, body, _) = refusal(layer, &[("content-type", "application/grpc")]).await;
    assert_eq!(head.headers["grpc-status"], "14");
    assert!(body.is_empty());
}

#[tokio::test(start_paused = true)]
async fn an_idle_hour_does_not_lengthen_the_hint() {
    let layer = BackpressureLayer::drop_newest(10).plain();
    let service = layer.layer(service_fn(|_: u32| async {
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
        Ok::<_, Infallible>(())
    }));
    for _ in 0..60 {
        service.clone().oneshot(1).await.unwrap();
        layer.handle().snapshot();
        tokio::time::sleep(std::time::Duration::from_secs(60)).await;
    }
    let burst = (0..40).map(|_| service.clone().oneshot(1));
    for answer in futures_util::future::join_all(burst).await {
        if let Err(Error::Rejected(rejected)) = answer {
            let millis = rejected.retry_after().as_millis();
            assert!((700..=1300).contains(&millis), "{millis}");
        }
    }
}

#[tokio::test]
async fn refusals_in_a_row_do_not_all_say_the_same() {
    let layer = full();
    let hang = service_fn(|_: Request<()>| async {
        std::future::pending::<()>().await;
        Ok::<_, Infallible>(Response::new(Full::<Bytes>::default()))
    });
    let mut service = layer.layer(hang);
    let _running = service.ready().await.unwrap().call(Request::new(()));
    let mut hints = std::collections::BTreeSet::new();
    for _ in 0..50 {
        let refused = service.clone().oneshot(Request::new(())).await.unwrap();
        hints.insert(
            refused.headers()["retry-after-ms"]
                .to_str()
                .unwrap()
                .to_owned(),
        );
    }
    assert!(hints.len() > 25, "{hints:?}");
}

#[tokio::test]
async fn a_closure_that_panics_costs_no_slot() {
    let panics = |layer: BackpressureLayer| async move {
        let handle = layer.handle();
        let service = layer.layer(service_fn(|_: Request<()>| async {
            Ok::<_, Infallible>(Response::new(Full::<Bytes>::from("ok")))
        }));
        let call = tokio::spawn(async move { service.oneshot(Request::new(())).await });
        assert!(call.await.unwrap_err().is_panic());
        assert_eq!(handle.in_flight(), 0);
    };
    panics(full().exempt(|_| panic!("exempt"))).await;
    panics(full().classify(|_| panic!("classify"))).await;
    panics(BackpressureLayer::block(1).exempt(|_| panic!("exempt"))).await;
}

#[test]
fn a_plain_refusal_becomes_a_boxed_error_that_downcasts() {
    let layer = full().plain();
    let refused = futures_util::FutureExt::now_or_never(async {
        let mut service = layer.layer(service_fn(|_: u32| {
            std::future::pending::<Result<(), Infallible>>()
        }));
        let _running = service.ready().await.unwrap().call(1);
        service.oneshot(2).await.unwrap_err()
    })
    .unwrap();
    assert!(matches!(refused, Error::Rejected(_)));
    let boxed: tower::BoxError = refused.into();
    let rejected = boxed.downcast_ref::<Rejected>().unwrap();
    assert_eq!(rejected.reason(), Reason::Limit);
    assert!(
        boxed
            .to_string()
            .starts_with("rejected: all 1 slots are in use; retry after ")
    );
}

/// HTTP/2 sends whatever body there is, and its clients take it for an error.
#[tokio::test]
async fn a_refused_head_has_no_body_and_says_how_long_it_would_be() {
    let own: fn(&request::Parts, &Rejected) -> Response<Bytes> =
        |_, _| Response::new(Bytes::from_static(b"later"));
    for (layer, expected) in [(full(), None), (full().respond(own), Some("5"))] {
        let hang = service_fn(|_: Request<()>| std::future::pending::<Result<_, Infallible>>());
        let mut service = layer.layer(hang.map_response(|never: Response<Full<Bytes>>| never));
        let _running = service.ready().await.unwrap().call(Request::new(()));
        let ask = |method| {
            let request = Request::builder().method(method).body(()).unwrap();
            service.clone().oneshot(request)
        };
        let whole = ask("GET").await.unwrap().into_body();
        let length = whole.size_hint().exact().unwrap();
        let refused = ask("HEAD").await.unwrap();
        assert!(refused.body().is_end_stream());
        let told = refused.headers()["content-length"].to_str().unwrap();
        match expected {
            Some(expected) => assert_eq!(told, expected),
            // The hint that it names is another each time, by a digit or two.
            None => assert!(told.parse::<u64>().unwrap().abs_diff(length) <= 4),
        }
    }
}
