use super::*;
use crate::llm::sse::Reader;

fn meaning(dialect: Dialect, stream: &str) -> Meaning {
    let mut reader = Reader::new();
    let read = reader.read(stream.as_bytes());
    assert_eq!(read.used, stream.len(), "more than one event: {stream}");
    dialect.read(&read.event.expect("an event"))
}

fn openai(data: &str) -> Meaning {
    meaning(Dialect::OpenAi, &format!("data: {data}\n\n"))
}

fn anthropic(name: &str, data: &str) -> Meaning {
    meaning(
        Dialect::Anthropic,
        &format!("event: {name}\ndata: {data}\n\n"),
    )
}

fn reported(prompt: u64, cached: u64, output: u64) -> Option<Reported> {
    Some(Reported {
        prompt: Some(prompt),
        cached: Some(cached),
        output: Some(output),
    })
}

/// A chunk of a chat completion whose first choice has this delta.
fn chunk(delta: &str) -> String {
    format!(
        r#"{{"id":"chatcmpl-B9","object":"chat.completion.chunk","created":1741569952,"model":"gpt-5","service_tier":"default","system_fingerprint":"fp_1","choices":[{{"index":0,"delta":{delta},"logprobs":null,"finish_reason":null}}],"usage":null,"obfuscation":"aB3"}}"#
    )
}

#[test]
fn openais_content_is_what_the_model_wrote() {
    let table = [
        (r#"{"content":"Hello"}"#, 5),
        (r#"{"role":"assistant","content":"Hi"}"#, 2),
        (r#"{"content":"\n\n"}"#, 2),
        (r#"{"content":null,"reasoning_content":"Let me see"}"#, 10),
        (r#"{"reasoning":"Hm","content":""}"#, 2),
        (r#"{"refusal":"I cannot"}"#, 8),
        (
            r#"{"tool_calls":[{"index":0,"function":{"arguments":"{\"city\":"}}]}"#,
            8,
        ),
        (r#"{"function_call":{"arguments":"{}"}}"#, 2),
    ];
    for (delta, bytes) in table {
        assert_eq!(
            openai(&chunk(delta)),
            Meaning::of(Kind::Content { bytes }),
            "{delta}"
        );
    }
    let call = r#"{"role":"assistant","content":null,"tool_calls":[{"index":0,"id":"call_a","type":"function","function":{"name":"weather","arguments":""}}]}"#;
    assert!(openai(&chunk(call)).is_content());
    let legacy = r#"{"id":"cmpl-1","object":"text_completion","choices":[{"text":" rain","index":0,"finish_reason":null}]}"#;
    assert_eq!(openai(legacy).kind, Kind::Content { bytes: 5 });
    let second = r#"{"choices":[{"index":0,"delta":{}},{"index":1,"delta":{"content":"b"}}]}"#;
    assert_eq!(openai(second).kind, Kind::Content { bytes: 1 });
}

#[test]
fn what_is_no_content_of_openais_means_nothing() {
    let table = [
        chunk(r#"{"role":"assistant","content":"","refusal":null}"#),
        chunk(r#"{"role":"assistant"}"#),
        chunk("{}"),
        chunk("null"),
        chunk("7"),
        r#"{"choices":[],"prompt_filter_results":[{"prompt_index":0}]}"#.into(),
        r#"{"choices":[{"index":0,"delta":{},"finish_reason":"stop"}],"usage":null}"#.into(),
        r#"{"choices":{},"error":null}"#.into(),
        "{}".into(),
        "[]".into(),
        "null".into(),
        "ping".into(),
        r#"{"choices":[{"delta":{"content":"cut"#.into(),
        "".into(),
    ];
    for data in table {
        assert_eq!(openai(&data), Meaning::default(), "{data}");
    }
    for comment in [": OPENROUTER PROCESSING\n\n", ":\n\n", "retry: 3000\n\n"] {
        assert_eq!(
            meaning(Dialect::OpenAi, comment),
            Meaning::default(),
            "{comment}"
        );
    }
}

#[test]
fn openais_usage_comes_alone_or_with_the_rest() {
    let usage = r#"{"prompt_tokens":19,"completion_tokens":10,"total_tokens":29,"prompt_tokens_details":{"cached_tokens":8,"audio_tokens":0},"completion_tokens_details":{"reasoning_tokens":4}}"#;
    let alone = format!(r#"{{"id":"chatcmpl-B9","choices":[],"usage":{usage}}}"#);
    let meant = openai(&alone);
    assert_eq!(
        (meant.kind, meant.reported),
        (Kind::UsageOnly, reported(19, 8, 10))
    );

    let with_content = format!(r#"{{"choices":[{{"delta":{{"content":"x"}}}}],"usage":{usage}}}"#);
    let meant = openai(&with_content);
    assert_eq!(
        (meant.kind, meant.reported),
        (Kind::Content { bytes: 1 }, reported(19, 8, 10))
    );

    let with_end =
        format!(r#"{{"choices":[{{"delta":{{}},"finish_reason":"stop"}}],"usage":{usage}}}"#);
    let meant = openai(&with_end);
    assert_eq!(
        (meant.kind, meant.reported),
        (Kind::Nothing, reported(19, 8, 10))
    );

    // Without choices it is something else, which a client may wait for.
    assert_eq!(
        openai(&format!(r#"{{"usage":{usage}}}"#)).kind,
        Kind::Nothing
    );
}

#[test]
fn a_stream_ends_as_its_dialect_says() {
    assert_eq!(openai("[DONE]").kind, Kind::End);
    assert_eq!(openai(" [DONE] ").kind, Kind::End);
    assert_eq!(
        anthropic("message_stop", r#"{"type":"message_stop"}"#).kind,
        Kind::End
    );
}

#[test]
fn an_error_inside_openais_stream_has_the_status_it_deserves() {
    let table = [
        (
            r#"{"error":{"message":"Rate limit reached","type":"tokens","param":null,"code":"rate_limit_exceeded"}}"#,
            429,
        ),
        (
            r#"{"error":{"message":"You exceeded your current quota","type":"insufficient_quota","param":null,"code":"insufficient_quota"}}"#,
            429,
        ),
        (
            r#"{"error":{"message":"That model is currently overloaded with other requests.","type":"server_error","param":null,"code":null}}"#,
            503,
        ),
        (
            r#"{"error":{"message":"slow","type":"server_error","code":"slow_down"}}"#,
            503,
        ),
        (
            r#"{"error":{"message":"The server had an error","type":"server_error","param":null,"code":null}}"#,
            500,
        ),
        (
            r#"{"error":{"message":"too long","type":"invalid_request_error","code":"context_length_exceeded"}}"#,
            400,
        ),
        // vLLM, until and since 0.10; OpenRouter; TGI.
        (
            r#"{"object":"error","message":"bad","type":"BadRequestError","param":null,"code":400}"#,
            400,
        ),
        (
            r#"{"error":{"message":"dead","type":"InternalServerError","param":null,"code":500}}"#,
            500,
        ),
        (
            r#"{"id":"gen-1","error":{"code":502,"message":"Provider disconnected"},"choices":[{"index":0,"delta":{"content":""},"finish_reason":"error"}]}"#,
            502,
        ),
        (r#"{"error":{"code":"429","message":"x"}}"#, 429),
        (
            r#"{"error":"Model is overloaded","error_type":"overloaded"}"#,
            503,
        ),
        (r#"{"error":"what?"}"#, 500),
        (r#"{"error":{"code":200}}"#, 500),
        (r#"{"error":{"code":1e300}}"#, 500),
        (r#"{"error":true}"#, 500),
        // The Responses API.
        (
            r#"{"type":"error","code":"rate_limit_exceeded","message":"x","param":null,"sequence_number":1}"#,
            429,
        ),
        (
            r#"{"type":"response.failed","response":{"id":"resp_1","status":"failed","error":{"code":"server_is_overloaded","message":"x"},"usage":null}}"#,
            503,
        ),
        (
            r#"{"type":"response.failed","response":{"error":null}}"#,
            500,
        ),
    ];
    for (data, status) in table {
        let Kind::Failed(failure) = openai(data).kind else {
            panic!("no failure: {data}");
        };
        assert_eq!(failure.status().as_u16(), status, "{data}");
    }
}

#[test]
fn the_responses_api_is_known() {
    let delta = r#"{"type":"response.output_text.delta","item_id":"msg_1","output_index":0,"content_index":0,"delta":"Rain","sequence_number":4}"#;
    let arguments =
        r#"{"type":"response.function_call_arguments.delta","item_id":"fc_1","delta":"{\"a\":1}"}"#;
    assert_eq!(openai(delta).kind, Kind::Content { bytes: 4 });
    assert_eq!(openai(arguments).kind, Kind::Content { bytes: 7 });
    for nothing in [
        r#"{"type":"response.created","response":{"id":"resp_1","status":"in_progress","error":null,"usage":null}}"#,
        r#"{"type":"response.output_text.done","text":"Rain"}"#,
        r#"{"type":"response.output_text.delta","delta":""}"#,
        r#"{"type":"keepalive"}"#,
    ] {
        assert_eq!(openai(nothing), Meaning::default(), "{nothing}");
    }
    let completed = r#"{"type":"response.completed","response":{"status":"completed","error":null,"output":[{"content":[{"text":"Rain"}]}],"usage":{"input_tokens":37,"input_tokens_details":{"cached_tokens":5},"output_tokens":11,"output_tokens_details":{"reasoning_tokens":0},"total_tokens":48}}}"#;
    let meant = openai(completed);
    assert_eq!(
        (meant.kind, meant.reported),
        (Kind::End, reported(37, 5, 11))
    );
}

#[test]
fn anthropics_content_is_what_the_model_wrote() {
    let delta = |delta: &str| {
        let data = format!(r#"{{"type":"content_block_delta","index":0,"delta":{delta}}}"#);
        anthropic("content_block_delta", &data)
    };
    let block = |block: &str| {
        let data = format!(r#"{{"type":"content_block_start","index":0,"content_block":{block}}}"#);
        anthropic("content_block_start", &data)
    };
    let content = [
        (delta(r#"{"type":"text_delta","text":"Hello"}"#), 5),
        (delta(r#"{"type":"thinking_delta","thinking":"I see"}"#), 5),
        (
            delta(r#"{"type":"input_json_delta","partial_json":"{\"a\""}"#),
            4,
        ),
        (
            block(r#"{"type":"tool_use","id":"toolu_01","name":"weather","input":{}}"#),
            7,
        ),
    ];
    for (meant, bytes) in content {
        assert_eq!(meant, Meaning::of(Kind::Content { bytes }));
    }
    let nothing = [
        delta(r#"{"type":"input_json_delta","partial_json":""}"#),
        delta(r#"{"type":"signature_delta","signature":"EqQBCgIYAhIM1gbcDa9GJwZA2b3h"}"#),
        block(r#"{"type":"text","text":""}"#),
        block(r#"{"type":"thinking","thinking":"","signature":""}"#),
        anthropic("ping", r#"{"type": "ping"}"#),
        anthropic(
            "content_block_stop",
            r#"{"type":"content_block_stop","index":0}"#,
        ),
        anthropic("future_event", r#"{"type":"future_event","text":"x"}"#),
        anthropic("content_block_delta", "{"),
        anthropic("ping", ""),
    ];
    for meant in nothing {
        assert_eq!(meant, Meaning::default());
    }
}

#[test]
fn anthropics_usage_begins_with_the_message_and_grows_with_its_deltas() {
    let start = r#"{"type":"message_start","message":{"id":"msg_1","type":"message","role":"assistant","content":[],"model":"claude-opus-4-1","stop_reason":null,"usage":{"input_tokens":25,"cache_creation_input_tokens":100,"cache_read_input_tokens":1000,"output_tokens":1,"service_tier":"standard"}}}"#;
    let meant = anthropic("message_start", start);
    assert_eq!(
        (meant.kind, meant.reported),
        (Kind::Nothing, reported(1125, 1000, 1))
    );
    let delta = r#"{"type":"message_delta","delta":{"stop_reason":"end_turn","stop_sequence":null},"usage":{"output_tokens":15}}"#;
    let meant = anthropic("message_delta", delta);
    let output = Reported {
        output: Some(15),
        ..Reported::default()
    };
    assert_eq!((meant.kind, meant.reported), (Kind::Nothing, Some(output)));
    assert_eq!(
        reported(1125, 1000, 1).unwrap().and(output),
        reported(1125, 1000, 15).unwrap()
    );
}

#[test]
fn usage_that_counts_the_cache_in_is_not_counted_twice() {
    let both = r#"{"input_tokens":9,"prompt_tokens":1125,"completion_tokens":3,"cache_read_input_tokens":1000}"#;
    assert_eq!(Reported::read(both), reported(1125, 1000, 3));
    for nothing in [
        "null",
        "{}",
        "7",
        r#"{"prompt_tokens":null,"total_tokens":4}"#,
        r#"{"output_tokens":"9"}"#,
    ] {
        assert_eq!(Reported::read(nothing), None, "{nothing}");
    }
    let huge = r#"{"input_tokens":18446744073709551615,"cache_read_input_tokens":1e19,"output_tokens":-3}"#;
    assert_eq!(Reported::read(huge).unwrap().prompt, Some(u64::MAX));
}

#[test]
fn an_error_inside_anthropics_stream_has_the_status_it_deserves() {
    let table = [
        ("overloaded_error", 529),
        ("rate_limit_error", 429),
        ("api_error", 500),
        ("invalid_request_error", 400),
        ("authentication_error", 401),
        ("billing_error", 402),
        ("permission_error", 403),
        ("not_found_error", 404),
        ("request_too_large", 413),
        ("timeout_error", 504),
        ("new_error", 500),
    ];
    for (kind, status) in table {
        let data = format!(
            r#"{{"type":"error","error":{{"type":"{kind}","message":"Said so"}},"request_id":"req_1"}}"#
        );
        let Kind::Failed(failure) = anthropic("error", &data).kind else {
            panic!("no failure: {data}");
        };
        assert_eq!(
            (failure.status().as_u16(), failure.message()),
            (status, "Said so")
        );
    }
    let unnamed = anthropic("error", "it broke");
    assert!(matches!(unnamed.kind, Kind::Failed(failure) if failure.status().as_u16() == 500));
}

#[test]
fn what_failed_for_want_of_capacity_is_overload() {
    use crate::limit::Outcome;
    let outcome = |kind: &str| match anthropic(
        "error",
        &format!(r#"{{"error":{{"type":"{kind}"}}}}"#),
    )
    .kind
    {
        Kind::Failed(failure) => failure.outcome(),
        other => panic!("{other:?}"),
    };
    assert_eq!(outcome("overloaded_error"), Outcome::Overload);
    assert_eq!(outcome("rate_limit_error"), Outcome::Overload);
    assert_eq!(outcome("invalid_request_error"), Outcome::Ignore);
}

#[test]
fn a_long_message_is_cut_between_letters() {
    let message = "é".repeat(1000);
    let Kind::Failed(failure) = openai(&format!(r#"{{"error":{{"message":"a{message}"}}}}"#)).kind
    else {
        panic!("no failure");
    };
    assert_eq!(failure.message().len(), 1023);
}

#[test]
fn letters_that_are_none_do_not_hide_the_rest() {
    let mut reader = Reader::new();
    let stream = b"data: {\"choices\":[{\"delta\":{\"content\":\"\xff\xfe\"}}]}\n\n";
    let event = reader.read(stream).event.unwrap();
    assert!(Dialect::OpenAi.read(&event).is_content());
}
