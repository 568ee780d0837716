use http::{Request, header::RETRY_AFTER};

use super::*;

const MS: Duration = Duration::from_millis(1);

fn head(path: &str, headers: &[(&str, &str)]) -> request::Parts {
    let mut request = Request::post(path);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    request.body(()).unwrap().into_parts().0
}

fn rejected(reason: Reason, retry_after: Duration) -> Rejected {
    Rejected::new(reason, retry_after, 20, Duration::ZERO)
}

fn body(response: &Response<Bytes>) -> serde_json::Value {
    serde_json::from_slice(response.body()).expect("JSON")
}

fn header<'a>(response: &'a Response<Bytes>, name: &str) -> &'a str {
    let value = response.headers().get(name);
    value.map_or("", |value| value.to_str().unwrap())
}

#[test]
fn a_path_has_a_dialect() {
    let table = [
        ("/v1/messages", Dialect::Anthropic),
        ("/v1/messages?beta=true", Dialect::Anthropic),
        ("/v1/messages/count_tokens", Dialect::Anthropic),
        ("/anthropic/v1/messages", Dialect::Anthropic),
        ("/v1/chat/completions", Dialect::OpenAi),
        ("/v1/responses", Dialect::OpenAi),
        ("/v1/threads/t/messages", Dialect::OpenAi),
        ("/v1/messages2", Dialect::OpenAi),
        ("/v1/models", Dialect::OpenAi),
        ("*", Dialect::OpenAi),
    ];
    for (path, dialect) in table {
        assert_eq!(Dialect::of(&head(path, &[])), dialect, "{path}");
    }
    let models = head("/v1/models", &[("anthropic-version", "2023-06-01")]);
    assert_eq!(Dialect::of(&models), Dialect::Anthropic);
}

#[test]
fn openai_is_refused_in_its_words() {
    let asked = head("/v1/chat/completions", &[("x-request-id", "abc-1")]);
    let response = refuse(&asked, &rejected(Reason::Limit, 1204 * MS));
    assert_eq!(response.status(), 503);
    assert_eq!(header(&response, "content-type"), "application/json");
    assert_eq!(header(&response, "x-request-id"), "abc-1");
    assert_eq!(
        body(&response),
        serde_json::json!({"error": {
            "message": "rejected: all 20 slots are in use; retry after 1.204 s",
            "type": "server_error", "param": null, "code": "server_is_overloaded",
        }})
    );
    let response = refuse(&asked, &rejected(Reason::Rate, 500 * MS));
    assert_eq!(response.status(), 429);
    assert_eq!(body(&response)["error"]["code"], "rate_limit_exceeded");
}

#[test]
fn anthropic_is_refused_in_its_words() {
    let asked = head("/v1/messages", &[("request-id", "req_7")]);
    let response = refuse(&asked, &rejected(Reason::QueueFull, 1204 * MS));
    assert_eq!(response.status().as_u16(), 529);
    assert_eq!(header(&response, "request-id"), "req_7");
    assert_eq!(
        body(&response),
        serde_json::json!({
            "type": "error",
            "error": {"type": "overloaded_error", "message": "rejected: the queue is full; retry after 1.204 s"},
            "request_id": "req_7",
        })
    );
    let response = refuse(&asked, &rejected(Reason::Rate, 500 * MS));
    assert_eq!(response.status(), 429);
    assert_eq!(body(&response)["error"]["type"], "rate_limit_error");
}

#[test]
fn a_closure_chooses_the_dialect() {
    let refuse = refuse_as(|head| match head.uri.path().starts_with("/claude") {
        true => Dialect::Anthropic,
        false => Dialect::OpenAi,
    });
    let rejected = rejected(Reason::Draining, 1000 * MS);
    assert_eq!(
        refuse(&head("/claude", &[]), &rejected).status().as_u16(),
        529
    );
    assert_eq!(refuse(&head("/v1/messages", &[]), &rejected).status(), 503);
}

#[test]
fn every_hint_is_one_that_all_sdks_take() {
    fastrand::seed(11);
    for reason in [
        Reason::Limit,
        Reason::Rate,
        Reason::Unavailable,
        Reason::MaxWait,
    ] {
        for honest in [0, 1, 999, 1000, 1001, 30_000, 59_999, 60_000] {
            for _ in 0..50 {
                let response = refuse(&head("/v1/messages", &[]), &rejected(reason, honest * MS));
                let seconds: u64 = header(&response, "retry-after").parse().unwrap();
                let millis: u64 = header(&response, "retry-after-ms").parse().unwrap();
                assert!((1..=60).contains(&seconds), "{seconds}");
                assert_eq!(seconds, millis.div_ceil(1000));
                let honest = u64::from(honest).max(1);
                assert!(
                    (honest..=honest * 5 / 4 + 1).contains(&millis),
                    "{honest}: {millis}"
                );
                assert_eq!(header(&response, "x-should-retry"), "");
            }
        }
    }
}

#[test]
fn those_refused_together_by_a_rate_come_back_apart() {
    fastrand::seed(12);
    let mut hints: Vec<_> = (0..100)
        .map(|_| refuse(&head("/", &[]), &rejected(Reason::Rate, 10_000 * MS)))
        .map(|response| header(&response, "retry-after-ms").to_owned())
        .collect();
    hints.sort();
    hints.dedup();
    assert!(hints.len() > 90, "{}", hints.len());
}

#[test]
fn a_wait_beyond_a_minute_is_told_as_it_is_and_not_retried() {
    let response = refuse(&head("/", &[]), &rejected(Reason::Rate, 61_500 * MS));
    assert_eq!(header(&response, "retry-after"), "62");
    assert_eq!(header(&response, "retry-after-ms"), "61500");
    assert_eq!(header(&response, "x-should-retry"), "false");
}

#[test]
fn what_can_never_be_let_in_is_not_retried() {
    let response = refuse(&head("/", &[]), &rejected(Reason::OverBurst, Duration::MAX));
    assert_eq!(response.status(), 429);
    assert_eq!(header(&response, "x-should-retry"), "false");
    assert_eq!(header(&response, "retry-after"), "");
    let message = body(&response)["error"]["message"].to_string();
    assert!(message.contains("never be let in"), "{message}");
}

#[test]
fn a_hint_of_ones_own_is_within_the_same_bounds() {
    fastrand::seed(13);
    for (after, least, most) in [
        (0, 1, 1),
        (800, 800, 1000),
        (58_000, 58_000, 60_000),
        (90_000, 90_000, 90_000),
    ] {
        let mut headers = HeaderMap::new();
        hint(&mut headers, Duration::from_millis(after));
        let millis: u64 = headers["retry-after-ms"].to_str().unwrap().parse().unwrap();
        assert!((least..=most).contains(&millis), "{millis}");
        assert_eq!(headers.contains_key("x-should-retry"), after > 60_000);
        assert!(headers.contains_key(RETRY_AFTER));
    }
    hint(&mut HeaderMap::new(), Duration::MAX);
}

#[test]
fn an_error_reads_back_as_what_it_is() {
    use crate::llm::{Kind, sse::Reader};

    let id = RequestId::of(&HeaderMap::new());
    for dialect in [Dialect::OpenAi, Dialect::Anthropic] {
        for status in [
            400,
            401,
            403,
            404,
            429,
            500,
            504,
            dialect.overloaded().as_u16(),
        ] {
            let status = StatusCode::from_u16(status).unwrap();
            let message = "it \"said\":\n\u{1} no";
            let event = dialect.error_event(status, message, &id);
            let mut reader = Reader::new();
            let read = reader.read(&event);
            assert_eq!(read.used, event.len());
            let Kind::Failed(failure) = dialect.read(&read.event.unwrap()).kind else {
                panic!("no failure: {event:?}");
            };
            assert_eq!((failure.status(), failure.message()), (status, message));

            let response = dialect.error(status, message, &id);
            assert_eq!(response.status(), status);
            assert_eq!(body(&response)["error"]["message"], message);
            assert_eq!(header(&response, "x-request-id"), id.as_str());
        }
    }
}
