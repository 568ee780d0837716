use super::{
    super::{Dialect, Kind, Meaning},
    *,
};

const DIALECTS: [(Dialect, &str); 2] = [(Dialect::OpenAi, CHUNK), (Dialect::Anthropic, DELTA)];

const DELTA: &str =
    r#"{"type":"content_block_delta","index":0,"delta":{"type":"text_delta","text":" rain"}}"#;
const CHUNK: &str = r#"{"id":"chatcmpl-B9M","object":"chat.completion.chunk","created":1741569952,"model":"gpt-4.1","choices":[{"index":0,"delta":{"content":" rain"},"logprobs":null,"finish_reason":null}],"usage":null}"#;

#[test]
fn ordinary_chunks_are_seen_at_once() {
    let table = [
        (CHUNK, 5),
        (
            r#"{"choices": [{"delta": {"content": "a b"}, "index": 0}]}"#,
            3,
        ),
        (
            r#"{"choices":[{"delta":{"role":"assistant","content":"usage"}}]}"#,
            5,
        ),
        (
            r#"{"choices":[{"delta":{"content":"\"usage\": \n\u00e9"}}]}"#,
            12,
        ),
        (
            r#"{"choices":[{"delta":{"content":"a"}},{"delta":{"content":"bc"}}]}"#,
            3,
        ),
        (
            r#"{"choices":[{"delta":{"content":null,"reasoning":"hm"}}]}"#,
            2,
        ),
        (
            r#"{"choices":[{"delta":{"tool_calls":[{"index":0,"function":{"arguments":"{\"a"}}]}}]}"#,
            3,
        ),
        (
            r#"{"choices":[{"text":"rain","finish_reason":"error"}]}"#,
            4,
        ),
        (
            r#"{"choices":[{"delta":{"content":"error"},"content_filter_results":{"hate":{"filtered":false,"severity":"safe"}}}]}"#,
            5,
        ),
    ];
    for (chunk, bytes) in table {
        let seen = of_chunk(chunk).map(|glance| glance.bytes);
        assert_eq!(seen, Some(bytes), "{chunk}");
        assert_eq!(
            Dialect::OpenAi.study(chunk, "").kind,
            Kind::Content { bytes },
            "{chunk}"
        );
    }
}

#[test]
fn ordinary_deltas_are_seen_at_once() {
    let table = [
        (DELTA.to_owned(), 5),
        (DELTA.replace(" rain", r"a\n\u00e9"), 4),
        (DELTA.replace("text", "thinking"), 5),
        (
            DELTA
                .replace(r#"text""#, r#"input_json_delta""#)
                .replace(r#""input_json_delta":" rain""#, r#""partial_json":"{\"a""#),
            3,
        ),
        (
            DELTA.replace(
                r#""index""#,
                r#""what comes next": [{"year": 1.5}], "index""#,
            ),
            0,
        ),
    ];
    for (event, bytes) in table {
        let seen = of_delta(&event).map(|glance| glance.bytes);
        assert_eq!(seen, (bytes > 0).then_some(bytes), "{event}");
        let studied = Dialect::Anthropic.study(&event, "").kind;
        assert!(matches!(studied, Kind::Content { .. }), "{event}");
    }
}

#[test]
fn what_may_be_another_event_than_a_delta_is_left_to_a_closer_look() {
    let table = [
        DELTA.replace("content_block_delta", "message_delta"),
        DELTA.replace("content_block_delta", r"content_block_delt\u0061"),
        DELTA.replace(r#""type":"content_block_delta","#, ""),
        DELTA.replace(r#""index":0"#, r#""type":"error""#),
        DELTA.replace(r#""index":0"#, r#""usage":{"output_tokens":3}"#),
        DELTA.replace(r#""index":0"#, r#""delta":{"text":"a"}"#),
        DELTA.replace(r#""index":0"#, r#""error":{"type":"overloaded_error"}"#),
        DELTA.replace(r#""text":"#, r#""signature":"#),
        DELTA.replace(" rain", ""),
        DELTA.replace("}}", "}"),
        DELTA.replace("}}", "}}}"),
        String::new(),
    ];
    for event in table {
        assert_eq!(of_delta(&event), None, "{event}");
    }
}

#[test]
fn what_may_be_more_than_content_is_left_to_a_closer_look() {
    let usage = r#"{"prompt_tokens":1,"completion_tokens":2}"#;
    let table = [
        CHUNK.replace("null}", &format!("{usage}}}")),
        CHUNK.replace(r#""usage":null"#, &format!(r#""us\u0061ge":{usage}"#)),
        CHUNK.replace(r#""usage":null"#, &format!(r#""usage" : {usage}"#)),
        CHUNK.replace(r#""usage":null"#, r#""error":{"message":"no"}"#),
        CHUNK.replace(r#""usage":null"#, r#""\u0065rror":{"message":"no"}"#),
        CHUNK.replace(r#""usage":null"#, r#""choices":[]"#),
        CHUNK.replace(r#""usage":null"#, r#""type":"response.completed""#),
        CHUNK.replace(
            r#""usage":null"#,
            &format!(r#""response":{{"usage":{usage}}}"#),
        ),
        CHUNK.replace(" rain", ""),
        CHUNK.replace("\"content\"", "\"role\""),
        CHUNK.replace("null}", "null"),
        CHUNK.replace("null}", "null}]"),
        CHUNK.replace("1741569952", "01"),
        CHUNK.replace("1741569952", "1."),
        CHUNK.replace(" rain", "\u{7}"),
        CHUNK.replace(" rain", r"\x"),
        CHUNK.replace(" rain", r"\u00g0"),
        format!("{}{}", "[".repeat(100_000), CHUNK),
        CHUNK.replace("1741569952", &"[".repeat(100_000)),
        String::from("[DONE]"),
        String::new(),
    ];
    for chunk in table {
        assert_eq!(of_chunk(&chunk), None, "{chunk}");
    }
}

#[test]
fn the_first_special_byte_is_found_wherever_it_stands() {
    let mut random = fastrand::Rng::with_seed(6);
    for _ in 0..100_000 {
        let byte = || match random.u8(..20) {
            0 => random.u8(..),
            1 => b"\"\\\0 \x1f\x7f\x80\xff"[random.usize(..8)],
            _ => b'a',
        };
        let bytes: Vec<u8> = std::iter::repeat_with(byte).take(40).collect();
        let expected = bytes
            .iter()
            .position(|byte| *byte < 0x20 || matches!(byte, b'"' | b'\\'));
        assert_eq!(special(&bytes), expected, "{bytes:?}");
    }
}

#[test]
fn whatever_comes_a_glance_says_the_same_as_a_closer_look_or_nothing() {
    let pieces = [
        "{",
        "}",
        "[",
        "]",
        ",",
        ":",
        "\"",
        "\\",
        " ",
        "\n",
        "null",
        "true",
        "0",
        "12",
        "-1",
        "1.5",
        "é",
        "\u{1}",
        r"\u0075",
        r"\n",
        r#""usage""#,
        r#""error""#,
        r#""type""#,
        r#""delta""#,
        r#""choices""#,
        r#""role""#,
        r#""text""#,
        r#""a":1,"#,
        r#""thinking":"ab","#,
        r#""message":{"usage":{"input_tokens":1}},"#,
        r#""usage":{"completion_tokens":3},"#,
        r#""error":{"code":429},"#,
        r#"{"delta":{"content":"x"}},"#,
        r#""choices":[],"#,
        r#""type":"error","#,
        r#""object":"error","#,
        r#""b":{"error":[1]},"#,
    ];
    let mut random = fastrand::Rng::with_seed(5);
    for (dialect, ordinary) in DIALECTS {
        let (mut seen, mut words) = (0, 0);
        for _ in 0..100_000 {
            let event = mutated(ordinary, &pieces, &mut random);
            let Some(glance) = dialect.glance(&event) else {
                continue;
            };
            seen += 1;
            let content = |bytes| Meaning::of(Kind::Content { bytes });
            let expected = content(glance.bytes);
            assert_eq!(dialect.study(&event, ""), expected, "{event}");
            assert_eq!(dialect.study(&event, "error"), expected, "{event}");
            let Some(word) = glance.word.filter(|word| !word.is_empty()) else {
                continue;
            };
            words += 1;
            let others = glance.bytes - word.len() as u64;
            let mut other = event.clone();
            other.replace_range(word, "data, é");
            let expected = content(others + 8);
            assert_eq!(dialect.study(&other, ""), expected, "{other} was {event}");
        }
        assert!(seen > 4000, "{seen} were seen at once");
        assert!(words > 4000, "{words} had a word");
    }
}

fn mutated(event: &str, pieces: &[&str], random: &mut fastrand::Rng) -> String {
    let mut event = event.to_owned();
    for _ in 0..random.usize(1..4) {
        let mut at = || {
            let mut at = random.usize(..=event.len());
            while !event.is_char_boundary(at) {
                at -= 1;
            }
            at
        };
        let (from, to) = (at(), at());
        let piece = pieces[random.usize(..pieces.len())];
        match random.u8(..4) {
            0 => event.replace_range(from.min(to)..from.max(to), piece),
            _ => event.insert_str(from, piece),
        }
    }
    event
}
