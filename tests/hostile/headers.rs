//! What is read of a request: `Accept` and `Content-Type`. Nothing else of it can change what is answered.

use allocation_counter::measure;
use http::{HeaderMap, Method};
use proptest::{
    collection::vec,
    prelude::{ProptestConfig, any, prop_assert, prop_assert_eq, prop_oneof, proptest},
    sample::select,
    strategy::{Just, Strategy},
    test_runner::RngSeed,
};

use super::support::{is_grpc, is_text, refusal, weight};

/// What can stand in a header, as a server lets it through: tabs, printable ASCII, and anything above.
fn header_bytes(length: usize) -> impl Strategy<Value = Vec<u8>> {
    let byte = prop_oneof![8 => 0x20..=0x7eu8, 1 => Just(b'\t'), 1 => 0x80..=0xffu8];
    vec(byte, 0..length)
}

fn seeded() -> ProptestConfig {
    ProptestConfig {
        rng_seed: RngSeed::Fixed(1),
        failure_persistence: None,
        ..ProptestConfig::default()
    }
}

fn accepting(accept: impl AsRef<[u8]>) -> bool {
    is_text(&refusal(Method::GET, [("accept", accept)]))
}

fn of_type(content_type: impl AsRef<[u8]>) -> bool {
    is_grpc(&refusal(Method::POST, [("content-type", content_type)]))
}

#[test]
fn a_quality_outside_zero_to_one_is_passed_over() {
    for q in [
        "2", "1.001", "1e9", "inf", "infinity", "NaN", "-1", "", "0x1", "1.0.0", "१",
    ] {
        let accept = format!("text/plain;q={q}, application/json;q=0.001");
        assert!(!accepting(&accept), "{accept}");
    }
}

#[test]
fn a_byte_above_ascii_spoils_only_its_own_range() {
    assert!(accepting(b"\xff\xfe/\x80, text/plain"));
    assert!(accepting(b"application/json;q=0.1, text/plain;x=\"\xe9\""));
    assert!(!accepting(b"text/plain\xa0, application/json;q=0.1"));
}

#[test]
fn contradictions_are_settled_by_the_best_quality_and_then_by_the_first() {
    assert!(accepting(
        "text/plain;q=0, application/json;q=0.1, text/plain"
    ));
    assert!(!accepting(
        "application/json;q=0, application/json, text/plain"
    ));
    let lines = [
        ("accept", "application/json;q=0.5"),
        ("accept", "text/html;q=0.6"),
    ];
    assert!(is_text(&refusal(Method::GET, lines)));
}

#[test]
fn what_stands_beyond_the_first_kilobyte_is_not_read() {
    let ranges = |n| "x/y, ".repeat(n);
    assert!(accepting(ranges(100) + "text/plain"));
    assert!(!accepting(ranges(300) + "text/plain"));
    // Cut in the middle, a range might say what it did not mean.
    let padding = ";x=".to_owned() + &"y".repeat(1000);
    assert!(!accepting(format!("text/plain{padding}{padding};q=0")));
    // Many lines are no way around it, not even empty ones.
    let lines = |n: usize| {
        let padding = std::iter::repeat_n(("accept", ""), n);
        refusal(Method::GET, padding.chain([("accept", "text/plain")]))
    };
    assert!(is_text(&lines(100)));
    assert!(!is_text(&lines(1100)));
}

#[test]
fn a_refusal_allocates_no_more_however_much_is_accepted() {
    let allocations = |accept: &str| {
        let headers = [("accept", accept)];
        measure(|| drop(refusal(Method::GET, headers))).count_total
    };
    // The hint's length differs by a digit, and so may the times that a string grows.
    let little = allocations("application/json, text/plain;q=0.9") + 2;
    assert!(allocations(&"application/JSON;q=0.1, ".repeat(2700)) <= little);
    assert!(allocations(&",".repeat(64 << 10)) <= little);
    assert!(allocations(&"A".repeat(64 << 10)) <= little);
}

#[test]
fn a_name_that_only_begins_like_grpc_is_not_grpc() {
    for grpc in [
        "application/grpc",
        "APPLICATION/GRPC",
        "application/grpc+proto",
        "application/grpc+",
        "application/grpc;charset=utf-8",
        "application/grpc ; x=1",
        "application/grpc-web",
        "application/grpc-WEB+json",
        "application/grpc-web-text",
        "application/grpc-web-text+proto;x",
    ] {
        assert!(of_type(grpc), "{grpc}");
    }
    for other in [
        "",
        "application/grp",
        "application/grpcs",
        "application/grpc/x",
        "application/grpc,text/html",
        "application/grpc-webx",
        "application/grpc-text",
        "application/grpc-web-textx",
        "application/grpc\u{e9}",
        "text/html;application/grpc",
        " application/grpc",
        "\"application/grpc\"",
    ] {
        assert!(!of_type(other), "{other}");
    }
}

#[test]
fn of_two_content_types_the_first_counts() {
    let both = |first, second| {
        let types = [("content-type", first), ("content-type", second)];
        is_grpc(&refusal(Method::POST, types))
    };
    assert!(both("application/grpc", "text/html"));
    assert!(!both("text/html", "application/grpc"));
}

#[test]
fn only_a_short_and_readable_content_type_is_echoed() {
    let echo = |content_type: &[u8]| {
        let refused = refusal(Method::POST, [("content-type", content_type)]);
        assert!(is_grpc(&refused));
        refused.headers()["content-type"].as_bytes().to_vec()
    };
    let web = b"application/grpc-web-text+proto";
    assert_eq!(echo(web), web);
    let long = [b"application/grpc-web+".as_slice(), &[b'x'; 64 << 10]].concat();
    assert_eq!(echo(&long), b"application/grpc-web");
    assert_eq!(
        echo(b"application/grpc-web+\xff\xfe"),
        b"application/grpc-web"
    );
    assert_eq!(echo(b"application/grpc-web;\tx"), b"application/grpc-web");
    assert_eq!(echo(b"application/grpc+json"), b"application/grpc");
}

/// A status of 200 may be kept by a cache, and a cache may not tell requests apart by their content type.
#[test]
fn no_cache_keeps_a_refusal() {
    for method in [Method::GET, Method::HEAD, Method::POST] {
        let refused = refusal(method, [("content-type", "application/grpc")]);
        assert_eq!(refused.headers()["cache-control"], "no-store");
    }
    let refused = refusal::<&str>(Method::GET, []);
    // A 503 is not kept unless it says that it may be (RFC 9110, section 15.1).
    assert_eq!(refused.status(), 503);
    for header in ["cache-control", "expires"] {
        assert!(!refused.headers().contains_key(header));
    }
}

/// The hint differs from refusal to refusal; all else of two refusals can be compared.
fn without_hint(mut headers: HeaderMap) -> HeaderMap {
    for hint in [
        "retry-after",
        "retry-after-ms",
        "grpc-retry-pushback-ms",
        "grpc-message",
    ] {
        headers.remove(hint);
    }
    headers
}

#[test]
fn a_forged_timeout_or_hint_changes_nothing() {
    let forged = [
        "",
        "0n",
        "99999999H",
        "-1S",
        "1e9m",
        "999999999999999999999999u",
        "\u{661}S",
    ];
    for value in forged {
        for name in [
            "grpc-timeout",
            "retry-after",
            "grpc-retry-pushback-ms",
            "x-request-timeout",
        ] {
            let refused = refusal(
                Method::POST,
                [("content-type", "application/grpc"), (name, value)],
            );
            assert!(is_grpc(&refused));
            let plain = refusal(Method::POST, [("content-type", "application/grpc")]);
            assert_eq!(
                without_hint(refused.headers().clone()),
                without_hint(plain.headers().clone())
            );
        }
    }
}

proptest! {
    #![proptest_config(seeded())]

    #[test]
    fn whatever_the_headers_say_the_refusal_is_whole_short_and_our_own(
        accept in vec(header_bytes(200), 0..4),
        types in vec(prop_oneof![
            header_bytes(100),
            header_bytes(100).prop_map(|tail| [b"application/grpc".as_slice(), &tail].concat()),
            header_bytes(100).prop_map(|tail| [b"application/grpc-web".as_slice(), &tail].concat()),
        ], 0..3),
        timeout in header_bytes(30),
    ) {
        let accept = accept.iter().map(|value| ("accept", value));
        let types = types.iter().map(|value| ("content-type", value));
        let refused = refusal(
            Method::POST,
            accept.chain(types).chain([("grpc-timeout", &timeout)]),
        );
        is_grpc(&refused);
        prop_assert!(weight(refused.headers()) < 300);
        prop_assert!(refused.body().len() < 200);
        prop_assert!(refused.body().is_ascii());
        for (name, value) in refused.headers() {
            let printable = value.as_bytes().iter().all(|byte| (0x20..0x7f).contains(byte));
            prop_assert!(printable, "{}: {:?}", name, value);
        }
    }

    #[test]
    fn a_well_formed_accept_means_what_the_rfc_says(
        ranges in vec((select(&RANGES), 0..=1000u16, any::<bool>()), 0..12),
    ) {
        let mut best = (0, false);
        let mut accept = Vec::new();
        for ((range, text), quality, spaced) in ranges {
            let space = if spaced { " " } else { "" };
            let q = f64::from(quality) / 1000.0;
            accept.push(format!("{range}{space};{space}q={q}"));
            if let (Some(text), true) = (text, quality > best.0) {
                best = (quality, text);
            }
        }
        prop_assert_eq!(accepting(accept.join(", ")), best.1, "{:?}", accept);
    }

    #[test]
    fn only_what_the_specification_allows_may_follow_the_name_of_grpc(tail in header_bytes(12)) {
        let rest = tail.as_slice();
        let end = rest.iter().position(|byte| b"+; \t".contains(byte)).unwrap_or(rest.len());
        let name = rest[..end].to_ascii_lowercase();
        let expected = [b"".as_slice(), b"-web", b"-web-text"].contains(&name.as_slice());
        let content_type = [b"application/grpc".as_slice(), rest].concat();
        prop_assert_eq!(of_type(content_type), expected);
    }
}

/// Ranges, and whether they mean text or JSON or neither.
const RANGES: [(&str, Option<bool>); 9] = [
    ("text/plain", Some(true)),
    ("text/html", Some(true)),
    ("text/*", Some(true)),
    ("Application/JSON", Some(false)),
    ("application/*", Some(false)),
    ("*/*", Some(false)),
    ("application/problem+json", Some(false)),
    ("image/png", None),
    ("text/css", None),
];
