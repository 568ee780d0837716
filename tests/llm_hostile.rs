//! Whatever an upstream streams and whatever a client sends: nothing panics, nothing grows, and where chunks end changes nothing.
//!
//! Inputs are made from real shapes, broken in ways drawn from the input's number. `BACKPRESSURE_HOSTILE_INPUTS` says how many.

use std::{env, thread};

use fastrand::Rng;
use http::{HeaderMap, HeaderName, HeaderValue};
use serde_json::Value;
use tower_backpressure::llm::{
    Asked, Dialect, Kind, Learned, RequestId, Tally, Usage, Weights, Whole, deadline, retry_count,
    sse::Reader,
};

const FEW: u64 = 20_000;
/// Of the readers here, in bytes; small, so that it is met.
const LIMIT: usize = 512;
const DIALECTS: [Dialect; 2] = [Dialect::OpenAi, Dialect::Anthropic];

const SHAPES: [&str; 14] = [
    "data: {\"id\":\"chatcmpl-1\",\"choices\":[{\"index\":0,\"delta\":{\"role\":\"assistant\",\"content\":\"\"}}]}\n\ndata: {\"choices\":[{\"index\":0,\"delta\":{\"content\":\"Hello\"}}],\"usage\":null}\n\ndata: {\"choices\":[],\"usage\":{\"prompt_tokens\":19,\"completion_tokens\":10,\"prompt_tokens_details\":{\"cached_tokens\":3}}}\n\ndata: [DONE]\n\n",
    "data: {\"choices\":[{\"delta\":{\"tool_calls\":[{\"index\":0,\"id\":\"call_1\",\"function\":{\"name\":\"f\",\"arguments\":\"{\\\"a\\\"\"}}]}}]}\n\n",
    "data: {\"error\":{\"message\":\"The model is overloaded\",\"type\":\"server_error\",\"code\":null}}\n\n",
    "data: {\"object\":\"error\",\"message\":\"bad\",\"code\":400}\r\n\r\n: keepalive\r\n\r\n",
    "event: message_start\ndata: {\"type\":\"message_start\",\"message\":{\"usage\":{\"input_tokens\":25,\"cache_read_input_tokens\":7,\"output_tokens\":1}}}\n\nevent: ping\ndata: {\"type\": \"ping\"}\n\n",
    "event: content_block_delta\ndata: {\"type\":\"content_block_delta\",\"index\":0,\"delta\":{\"type\":\"text_delta\",\"text\":\"Hi \\u00e9\"}}\n\nevent: message_delta\ndata: {\"type\":\"message_delta\",\"usage\":{\"output_tokens\":15}}\n\nevent: message_stop\ndata: {\"type\":\"message_stop\"}\n\n",
    "event: error\ndata: {\"type\":\"error\",\"error\":{\"type\":\"overloaded_error\",\"message\":\"Overloaded\"}}\n\n",
    "event: response.completed\rdata: {\"type\":\"response.completed\",\"response\":{\"error\":null,\"usage\":{\"input_tokens\":37,\"output_tokens\":11}}}\r\r",
    "{\"id\":\"chatcmpl-1\",\"choices\":[{\"message\":{\"role\":\"assistant\",\"content\":\"Hello \\\"there\\\"\"},\"finish_reason\":\"stop\"}],\"usage\":{\"prompt_tokens\":19,\"completion_tokens\":10}}",
    "{\"type\":\"message\",\"content\":[{\"type\":\"text\",\"text\":\"Hi\"}],\"usage\":{\"input_tokens\":2095,\"output_tokens\":503}}",
    "{\"model\":\"gpt-5\",\"messages\":[{\"role\":\"user\",\"content\":\"hi\"}],\"stream\":true,\"max_completion_tokens\":100,\"n\":2}",
    "{\"model\":\"gpt-5\",\"stream\":true,\"stream_options\":{\"include_usage\":false},\"messages\":[{\"role\":\"user\",\"content\":[{\"type\":\"image_url\",\"image_url\":{\"url\":\"data:image/png;base64,iVBORw0KGgo=\"}}]}]}",
    "{\"model\":\"claude-opus-4-1\",\"max_tokens\":1024,\"system\":\"Be brief\",\"messages\":[{\"role\":\"user\",\"content\":\"hi\"}],\"stream\":true}",
    "{\"model\":\"text\",\"prompt\":[[1,2,3],[4]],\"stream\":true,\"stream_options\":null,\"max_tokens\":7,\"best_of\":3}",
];

const PIECES: [&str; 40] = [
    "\n",
    "\r",
    "\r\n",
    "\n\n",
    "\r\r",
    ":",
    ",",
    "\"",
    "\\",
    "\\u",
    "\\ud800",
    "{",
    "}",
    "[",
    "]",
    "data:",
    "data: ",
    "event: error\n",
    "event:",
    "id: 1\n",
    "\u{feff}",
    "null",
    "true",
    "-1",
    "1e999",
    "18446744073709551616",
    "0.5",
    "\"usage\":",
    "\"error\":",
    "\"choices\":[]",
    "\"stream\":true,",
    "\"stream_options\":{},",
    "\"include_usage\":true",
    "\"max_tokens\":1e18,",
    "\"n\":4294967296,",
    "\"prompt\":\"",
    "[DONE]",
    "é",
    "🦀",
    "\0",
];

/// Says which input it was.
struct Number(u64);

impl Drop for Number {
    fn drop(&mut self) {
        if thread::panicking() {
            eprintln!("this was input {}", self.0);
        }
    }
}

#[test]
fn nothing_panics_and_nothing_grows() {
    let inputs = env::var("BACKPRESSURE_HOSTILE_INPUTS").map_or(FEW, |n| n.parse().unwrap());
    let mut told = Told::default();
    let all = allocation_counter::measure(|| {
        // Two that live through everything that comes.
        let mut reader = Reader::with_limit(LIMIT);
        let mut learned = Learned::new(64);
        for n in 0..inputs {
            let _number = Number(n);
            let random = &mut Rng::with_seed(n);
            let input = input(random);
            let mut rest = &input[..];
            while !rest.is_empty() {
                rest = &rest[reader.read(rest).used..];
            }
            stream(random, &input, &mut told);
            whole(random, &input, &mut told);
            request(&input, &mut told);
            headers(&input);
            learned.learn(&random.u8(..), "model", random.u64(..) >> random.u8(..64));
            assert!(learned.expect(&random.u8(..), "model", None) <= 1 << 20);
        }
    });
    assert_eq!(all.bytes_current, 0, "left behind");
    // A reader, 64 pairs, and what one input needs for a moment.
    assert!(
        all.bytes_max < 256 * 1024,
        "{} bytes at once",
        all.bytes_max
    );
    // Broken as they are, enough of them are understood.
    for (what, count) in told.counts() {
        assert!(count > inputs / 1000, "only {count} of {inputs}: {what}");
    }
    println!(
        "{inputs} inputs, at most {} bytes at once: {told:?}",
        all.bytes_max
    );
}

#[derive(Debug, Default)]
struct Told {
    events: u64,
    cut: u64,
    content: u64,
    failed: u64,
    usage: u64,
    edited: u64,
}

impl Told {
    fn counts(&self) -> [(&'static str, u64); 6] {
        [
            ("events", self.events),
            ("events that are too long", self.cut),
            ("content", self.content),
            ("failures", self.failed),
            ("usage", self.usage),
            ("requests with usage included", self.edited),
        ]
    }
}

fn input(random: &mut Rng) -> Vec<u8> {
    let mut input: Vec<u8> = shape(random).into();
    for _ in 0..random.usize(..5) {
        let at = random.usize(..=input.len());
        let to = random.usize(at..=input.len().min(at + 40));
        match random.u8(..9) {
            0 if at < to => input[at] = random.u8(..),
            1 => drop(input.drain(at..to)),
            2 => input.truncate(at),
            3 => insert(&mut input, at, shape(random).as_bytes()),
            4 => {
                let part = input[at..to].repeat(random.usize(1..20));
                insert(&mut input, at, &part);
            }
            5 => {
                let bracket = *random
                    .choice(["[", "{\"a\":", "]", "}", "\"", " "].as_slice())
                    .unwrap();
                insert(
                    &mut input,
                    at,
                    bracket.repeat(random.usize(1..400)).as_bytes(),
                );
            }
            6 => {
                let bytes: Vec<u8> = (0..random.usize(..20)).map(|_| random.u8(..)).collect();
                insert(&mut input, at, &bytes);
            }
            _ => insert(
                &mut input,
                at,
                PIECES[random.usize(..PIECES.len())].as_bytes(),
            ),
        }
    }
    input
}

fn shape(random: &mut Rng) -> &'static str {
    SHAPES[random.usize(..SHAPES.len())]
}

fn insert(input: &mut Vec<u8>, at: usize, part: &[u8]) {
    input.splice(at..at, part.iter().copied());
}

fn chunks<'a>(random: &mut Rng, mut input: &'a [u8]) -> Vec<&'a [u8]> {
    let mut chunks = Vec::new();
    while !input.is_empty() {
        let (chunk, rest) = input.split_at(random.usize(1..=input.len()));
        chunks.push(chunk);
        input = rest;
    }
    chunks
}

fn stream(random: &mut Rng, input: &[u8], told: &mut Told) {
    for dialect in DIALECTS {
        let at_once = read_stream(dialect, &[input], told);
        let in_chunks = read_stream(dialect, &chunks(random, input), told);
        assert_eq!(at_once, in_chunks);
    }
}

fn read_stream(dialect: Dialect, chunks: &[&[u8]], told: &mut Told) -> (u64, Usage) {
    let mut reader = Reader::with_limit(LIMIT);
    let mut tally = Tally::new(7);
    let mut events = 0;
    let mut add = |event: tower_backpressure::llm::sse::Event<'_>| {
        assert!(event.data().len() <= LIMIT);
        assert!(event.is_whole() || event.data().is_empty());
        let meaning = dialect.read(&event);
        events += 1;
        told.cut += u64::from(!event.is_whole());
        told.content += u64::from(meaning.is_content());
        told.failed += u64::from(matches!(meaning.kind, Kind::Failed(_)));
        told.usage += u64::from(meaning.reported.is_some());
        tally.add(&meaning);
    };
    for chunk in chunks {
        let mut rest = *chunk;
        while !rest.is_empty() {
            let read = reader.read(rest);
            assert!(0 < read.used && read.used <= rest.len());
            rest = &rest[read.used..];
            read.event.map(&mut add);
        }
    }
    reader.finish().map(&mut add);
    told.events += events;
    let _ = Weights::new(3.0, 15.0).cost(&tally.usage());
    (events, tally.usage())
}

fn whole(random: &mut Rng, input: &[u8], told: &mut Told) {
    for dialect in DIALECTS {
        let mut at_once = Whole::new(dialect);
        at_once.read(input);
        let mut in_chunks = Whole::new(dialect);
        for chunk in chunks(random, input) {
            in_chunks.read(chunk);
        }
        let meaning = at_once.finish();
        assert_eq!(meaning, in_chunks.finish());
        told.usage += u64::from(meaning.reported.is_some());
    }
}

fn request(input: &[u8], told: &mut Told) {
    for dialect in DIALECTS {
        let asked = Asked::read(dialect, input);
        assert!(asked.model().len() <= 128);
        let Some(sent) = asked.including_usage(input) else {
            continue;
        };
        told.edited += 1;
        let again = Asked::read(dialect, &sent);
        assert!(again.includes_usage() && again.including_usage(&sent).is_none());
        assert_eq!(
            (again.model(), again.max_output(), again.prompt()),
            (asked.model(), asked.max_output(), asked.prompt())
        );
        // Too deep for a tree, some of them.
        if let (Some(before), Some(after)) = (without_options(input), without_options(&sent)) {
            assert_eq!(before, after);
        }
    }
}

fn without_options(body: &[u8]) -> Option<Value> {
    let mut body: Value = serde_json::from_slice(body).ok()?;
    body.as_object_mut()?.remove("stream_options");
    Some(body)
}

fn headers(input: &[u8]) {
    let end = input.len().min(24);
    let Ok(value) = HeaderValue::from_bytes(&input[..end]) else {
        return;
    };
    let names = [
        "x-stainless-read-timeout",
        "x-stainless-timeout",
        "x-stainless-retry-count",
        "grpc-timeout",
        "x-request-id",
    ];
    let headers: HeaderMap = names
        .into_iter()
        .map(|name| (HeaderName::from_static(name), value.clone()))
        .collect();
    let _ = (deadline(&headers), retry_count(&headers));
    let id = RequestId::of(&headers);
    assert!(serde_json::from_str::<String>(&format!("\"{id}\"")).is_ok());
}
