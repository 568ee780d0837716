use std::{collections::BTreeSet, time::Duration};

use axum::body::Body;
use http::{Request, StatusCode};
use http_body_util::BodyExt;
use metrics_exporter_prometheus::PrometheusBuilder;
use tower::ServiceExt;

use crate::{
    engine::{faults::Faults, model::TINY},
    load::{call::End, send},
    page,
    proxy::{Calm, Guard},
    scenes::stand::{Kind, Stand},
};

fn chat(body: &str) -> Request<Body> {
    Request::post("/v1/chat/completions")
        .header("content-type", "application/json")
        .body(Body::from(body.to_owned()))
        .unwrap()
}

#[tokio::test]
async fn what_the_dashboard_and_the_alerts_name_is_exported() {
    let recorder = PrometheusBuilder::new();
    let recorder = crate::with_buckets(recorder).unwrap().build_recorder();
    let exported = recorder.handle();
    // One thread, so that all of the proxy records here.
    let _guard = metrics::set_default_local_recorder(&recorder);
    let calm = Calm {
        first_token: Some(Duration::from_millis(20)),
        ..Calm::default()
    };
    let stand = Stand::new(TINY, Guard::Calm(calm)).await.unwrap();
    send(stand.address, [(0.0, Kind::SHORT.ask(0))]).await;
    stand.server.set_faults(Faults {
        stall: 1.0,
        ..Faults::default()
    });
    send(stand.address, [(0.0, Kind::SHORT.ask(0))]).await;

    let exported = exported.render();
    let used = concat!(include_str!("dashboard.json"), include_str!("alerts.yml"));
    let words = used.split(|letter: char| !letter.is_ascii_alphanumeric() && letter != '_');
    let names: BTreeSet<_> = words
        .filter(|word| word.starts_with("backpressure_"))
        .collect();
    assert!(names.len() > 8, "{names:?}");
    for name in names {
        let series = exported
            .lines()
            .any(|line| line.starts_with(&format!("{name}{{")));
        assert!(series, "{name} is not exported");
    }
    let by = used
        .split("by (")
        .skip(1)
        .filter_map(|rest| rest.split(')').next());
    let labels: BTreeSet<_> = by.flat_map(|labels| labels.split(", ")).collect();
    assert!(labels.contains("reason"), "{labels:?}");
    for label in labels {
        assert!(
            exported.contains(&format!("{label}=\"")),
            "there is no label {label}"
        );
    }
}

#[tokio::test]
async fn a_drain_ends_what_has_no_more_time_with_an_error_event() {
    let stand = Stand::new(TINY, Guard::Calm(Calm::default()))
        .await
        .unwrap();
    let app = stand.proxy.app();
    let long = r#"{"messages":[],"stream":true,"max_tokens":16000,"ignore_eos":true}"#;
    let response = app.clone().oneshot(chat(long)).await.unwrap();
    assert_eq!(response.status(), StatusCode::OK);
    let read = tokio::spawn(response.into_body().collect());

    assert_eq!(stand.proxy.drain(Duration::from_millis(30)).await, 1);
    let said = read.await.unwrap().unwrap().to_bytes();
    let said = String::from_utf8_lossy(&said);
    let last = said.trim_end().rsplit("\n\n").next().unwrap();
    assert!(last.contains("\"error\""), "{last}");
    let refused = app.oneshot(chat(long)).await.unwrap();
    assert_eq!(refused.status(), StatusCode::SERVICE_UNAVAILABLE);
    assert!(refused.headers().contains_key("retry-after"));
    stand.quiet().await;
    assert_eq!(stand.server.engine.load().running, 0);
}

#[tokio::test]
async fn every_request_is_accounted_for_on_the_page() {
    let calm = Calm {
        initial: 30,
        ..Calm::default()
    };
    let stand = Stand::new(TINY, Guard::Calm(calm)).await.unwrap();
    stand.server.set_faults(Faults {
        error_event: 0.3,
        reset: 0.2,
        ..Faults::default()
    });
    let tally = send(
        stand.address,
        (0..40).map(|nth| (0.0, Kind::SHORT.ask(nth))),
    )
    .await;
    stand.quiet().await;
    let counts = stand.proxy.live().counts();
    assert_eq!(stand.proxy.live().open(), 0);
    assert_eq!(counts.arrived, 40);
    assert_eq!(counts.answered, tally.complete() as u64);
    assert_eq!(
        counts.broken,
        tally.count(|report| report.end == End::Broken) as u64
    );
    let refused = tally.count(|report| matches!(report.end, End::Refused(_)));
    assert_eq!(counts.refused.iter().sum::<u64>(), refused as u64);
    assert!(
        counts.answered > 0 && counts.broken > 0 && refused > 0,
        "{counts:?}"
    );
}

#[tokio::test]
async fn what_the_page_is_made_of_is_in_the_binary() {
    let stand = Stand::new(TINY, Guard::Nothing).await.unwrap();
    let app = page::app(page::Stage {
        proxy: stand.proxy,
        upstream: "http://upstream/".to_owned(),
        model: None,
        prometheus: PrometheusBuilder::new().build_recorder().handle(),
    });
    let get = |path: &str| Request::get(path).body(Body::empty()).unwrap();
    let page = app.clone().oneshot(get("/")).await.unwrap();
    let page = page.into_body().collect().await.unwrap().to_bytes();
    let page = String::from_utf8(page.to_vec()).unwrap();
    for at in page.split("src=\"").chain(page.split("href=\"")).skip(1) {
        let path = at.split('"').next().unwrap();
        if path.starts_with('/') {
            let status = app.clone().oneshot(get(path)).await.unwrap().status();
            assert_eq!(status, StatusCode::OK, "{path}");
        }
        assert!(
            !path.contains("//") || path.contains("www.w3.org"),
            "{path} is elsewhere"
        );
    }
    let control = Request::post("/control").header("content-type", "application/json");
    let control = control.body(Body::from(r#"{"load":5}"#)).unwrap();
    let status = app.oneshot(control).await.unwrap().status();
    assert_eq!(status, StatusCode::UNPROCESSABLE_ENTITY);
}
