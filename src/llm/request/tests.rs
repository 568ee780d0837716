use super::*;

fn asked(body: &str) -> Asked {
    Asked::read(Dialect::OpenAi, body.as_bytes())
}

/// With a model, which all have, and a message.
fn chat(rest: &str) -> String {
    format!(r#"{{"model":"gpt-5","messages":[{{"role":"user","content":"hi"}}]{rest}}}"#)
}

fn including(body: &str) -> Option<String> {
    let sent = asked(body).including_usage(body.as_bytes())?;
    Some(String::from_utf8(sent.to_vec()).unwrap())
}

#[test]
fn model_and_stream_are_read() {
    let table = [
        (chat(""), "gpt-5", false),
        (chat(r#","stream":true"#), "gpt-5", true),
        (chat(r#","stream":false"#), "gpt-5", false),
        (chat(r#","stream":"true""#), "gpt-5", false),
        (chat(r#","stream":null"#), "gpt-5", false),
        (r#"{"\u006dodel":"a\/b"}"#.to_owned(), "a/b", false),
        (r#"{"model":7}"#.to_owned(), "", false),
        (
            r#"{"messages":[{"model":"inner","stream":true}]}"#.to_owned(),
            "",
            false,
        ),
    ];
    for (body, model, stream) in table {
        let asked = asked(&body);
        assert_eq!(
            (asked.model(), asked.is_stream()),
            (model, stream),
            "{body}"
        );
    }
    let long = format!(r#"{{"model":"{}"}}"#, "m".repeat(129));
    assert_eq!(asked(&long).model(), "");
}

#[test]
fn the_most_that_may_come_is_over_all_choices() {
    let table = [
        ("", None),
        (r#","max_tokens":100"#, Some(100)),
        (r#","max_completion_tokens":100"#, Some(100)),
        (r#","max_output_tokens":100"#, Some(100)),
        (
            r#","max_tokens":100,"max_completion_tokens":300"#,
            Some(300),
        ),
        (r#","max_tokens":100,"max_tokens":5"#, Some(100)),
        (r#","max_tokens":100,"n":3"#, Some(300)),
        (r#","max_tokens":100,"n":2,"best_of":5"#, Some(500)),
        (r#","max_tokens":100,"n":0"#, Some(100)),
        (r#","n":3"#, None),
        (r#","max_tokens":null"#, None),
        (r#","max_tokens":-1"#, None),
        (r#","max_tokens":"100""#, None),
        (r#","max_tokens":1e30,"n":1e30"#, Some(u64::MAX)),
    ];
    for (rest, most) in table {
        assert_eq!(asked(&chat(rest)).max_output(), most, "{rest}");
    }
}

#[test]
fn a_prompt_is_estimated_by_its_text() {
    let text = "x".repeat(400);
    let table = [
        (
            format!(r#"{{"messages":[{{"role":"user","content":"{text}"}}]}}"#),
            104,
        ),
        (
            format!(
                r#"{{"messages":[{{"role":"user","content":[{{"type":"text","text":"{text}"}}]}}]}}"#
            ),
            107,
        ),
        (format!(r#"{{"system":"{text}","messages":[]}}"#), 100),
        (
            format!(
                r#"{{"system":[{{"type":"text","text":"{text}","cache_control":{{"type":"ephemeral"}}}}]}}"#
            ),
            110,
        ),
        (format!(r#"{{"prompt":"{text}"}}"#), 100),
        (format!(r#"{{"prompt":["{text}","{text}"]}}"#), 200),
        (r#"{"prompt":[1,2,30,400]}"#.to_owned(), 4),
        (
            format!(r#"{{"instructions":"{text}","input":"{text}"}}"#),
            200,
        ),
        (format!(r#"{{"tools":[{{"description":"{text}"}}]}}"#), 103),
        (
            format!(r#"{{"messages":"{text}","messages":"{text}"}}"#),
            200,
        ),
        (
            format!(r#"{{"metadata":{{"a":"{text}"}},"user":"{text}"}}"#),
            0,
        ),
        (
            r#"{"messages":[{"content":[{"image_url":{"url":"https://example.com/cat.png"}}]}]}"#
                .to_owned(),
            1005,
        ),
        ("{}".to_owned(), 0),
    ];
    for (body, tokens) in table {
        assert_eq!(asked(&body).prompt(), tokens, "{body}");
    }
}

#[test]
fn what_cannot_be_read_is_estimated_by_its_length() {
    for body in [
        &b"not json"[..],
        b"\xff\xff\xff\xff\xff\xff\xff\xff",
        b"[1,2,3]x",
        b"{\"a\": 1",
    ] {
        let asked = Asked::read(Dialect::OpenAi, body);
        assert_eq!((asked.prompt(), asked.is_stream()), (2, false));
        assert_eq!(asked.including_usage(body), None);
    }
    let asked = Asked::read(Dialect::Anthropic, b"");
    assert_eq!(
        (asked.prompt(), asked.model(), asked.max_output()),
        (0, "", None)
    );
}

#[test]
fn usage_is_included_and_all_else_stays_as_it_was() {
    let table = [
        (
            r#"{"stream":true,"messages":[]}"#,
            r#"{"stream_options":{"include_usage":true},"stream":true,"messages":[]}"#,
        ),
        (
            "\n { \"temperature\": 1.0e-1,\"seed\":12345678901234567890123, \"stream\":true,\"prompt\":\"\\u00e9\" } \n",
            "\n {\"stream_options\":{\"include_usage\":true}, \"temperature\": 1.0e-1,\"seed\":12345678901234567890123, \"stream\":true,\"prompt\":\"\\u00e9\" } \n",
        ),
        (
            r#"{"messages":[],"stream_options": null ,"stream":true}"#,
            r#"{"messages":[],"stream_options": {"include_usage":true} ,"stream":true}"#,
        ),
        (
            r#"{"messages":[],"stream_options":{ },"stream":true}"#,
            r#"{"messages":[],"stream_options":{"include_usage":true },"stream":true}"#,
        ),
        (
            r#"{"messages":[],"stream_options":{"include_obfuscation":false},"stream":true}"#,
            r#"{"messages":[],"stream_options":{"include_usage":true,"include_obfuscation":false},"stream":true}"#,
        ),
        (
            r#"{"messages":[],"stream":true,"stream_options":{"a":1,"include_usage" : false}}"#,
            r#"{"messages":[],"stream":true,"stream_options":{"a":1,"include_usage" : true}}"#,
        ),
        (
            r#"{"messages":[],"stream":true,"stream_options":{"include_usage":{"x":[1]}}}"#,
            r#"{"messages":[],"stream":true,"stream_options":{"include_usage":true}}"#,
        ),
    ];
    for (body, expected) in table {
        let sent = including(body);
        assert_eq!(sent.as_deref(), Some(expected));
        assert!(!asked(body).includes_usage(), "{body}");
        let again = asked(expected);
        assert!(again.includes_usage() && again.is_stream(), "{expected}");
        assert_eq!(again.including_usage(expected.as_bytes()), None);
    }
}

#[test]
fn there_is_nothing_to_include() {
    for body in [
        // Not streamed; asked for; not chat.
        r#"{"messages":[]}"#,
        r#"{"messages":[],"stream":false,"stream_options":{}}"#,
        r#"{"messages":[],"stream":true,"stream_options":{"include_usage":true}}"#,
        r#"{"input":"x","stream":true}"#,
        r#"{"stream":true}"#,
        // Nonsense, whose meaning nobody knows.
        r#"{"messages":[],"stream":true,"stream_options":7}"#,
        r#"{"messages":[],"stream":true,"stream_options":[]}"#,
        r#"{"messages":[],"stream":true,"stream_options":{},"stream_options":{}}"#,
        r#"{"messages":[],"stream":true,"stream_options":{"include_usage":false,"include_usage":false}}"#,
        r#"{"messages":[],"stream":true"#,
        r#"{"messages":[],"stream":true}}"#,
    ] {
        assert_eq!(including(body), None, "{body}");
    }
    let body = br#"{"messages":[],"stream":true}"#;
    assert_eq!(
        Asked::read(Dialect::Anthropic, body).including_usage(body),
        None
    );
    assert_eq!(asked(&chat(r#","stream":true"#)).including_usage(b""), None);
}

#[test]
fn hostile_bodies_are_read_in_one_go() {
    let deep = "[".repeat(2_000_000);
    let many = r#""n":1,"#.repeat(300_000);
    let escapes = "\\u0000".repeat(500_000);
    let options = r#""stream_options":{},"#.repeat(100_000);
    for (name, body) in [
        ("open", deep.clone()),
        (
            "deep",
            chat(&format!(
                r#","x":{deep}{},"stream":true"#,
                "]".repeat(2_000_000)
            )),
        ),
        (
            "deep prompt",
            format!(r#"{{"messages":{deep}{}}}"#, "]".repeat(2_000_000)),
        ),
        ("twice", chat(&format!(r#",{many}"stream":true"#))),
        (
            "escapes",
            format!(r#"{{"{escapes}":"{escapes}","prompt":"{escapes}"}}"#),
        ),
        (
            "options",
            format!(r#"{{{options}"stream":true,"prompt":""}}"#),
        ),
        (
            "spaces",
            format!(
                r#"{{"prompt":[{}]}}"#,
                "\"\"        ,".repeat(300_000) + "1"
            ),
        ),
    ] {
        let asked = asked(&body);
        assert!(asked.prompt() <= body.len() as u64, "{name}");
        let _ = asked.including_usage(body.as_bytes());
    }
}
