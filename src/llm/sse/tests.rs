use super::*;

/// Name, data, whether it was whole, and where it ends.
type Seen = (String, String, bool, usize);

fn read_all(reader: &mut Reader, chunks: &[&[u8]]) -> Vec<Seen> {
    let mut seen = Vec::new();
    let mut at = 0;
    for chunk in chunks {
        let mut rest = *chunk;
        loop {
            let read = reader.read(rest);
            rest = &rest[read.used..];
            at += read.used;
            let Some(event) = read.event else {
                assert!(rest.is_empty());
                break;
            };
            seen.push(shown(event, at));
        }
    }
    seen
}

fn shown(event: Event<'_>, at: usize) -> Seen {
    let data = String::from_utf8_lossy(event.data()).into_owned();
    (event.name().to_owned(), data, event.is_whole(), at)
}

fn data(stream: &str) -> Vec<String> {
    let seen = read_all(&mut Reader::new(), &[stream.as_bytes()]);
    seen.into_iter().map(|(_, data, ..)| data).collect()
}

#[test]
fn events_are_read_as_the_standard_says() {
    let table: &[(&str, &[&str])] = &[
        // The examples of the standard.
        ("data: YHOO\ndata: +2\ndata: 10\n\n", &["YHOO\n+2\n10"]),
        (
            ": test stream\n\ndata: first event\nid: 1\n\ndata:second event\nid\n\ndata:  third event\n\n",
            &["", "first event", "second event", " third event"],
        ),
        ("data\n\ndata\ndata\n\ndata:", &["", "\n"]),
        ("data:test\n\ndata: test\n\n", &["test", "test"]),
        // Ends of lines, of all three kinds and mixed.
        ("data: a\r\rdata: b\r\r", &["a", "b"]),
        ("data: a\r\n\r\ndata: b\r\n\r\n", &["a", "b"]),
        ("data: a\n\r\ndata: b\r\n\ndata: c\r\n\r", &["a", "b", "c"]),
        ("\n\n\ndata: a\n\n\n\n", &["a"]),
        // A byte order mark, once.
        ("\u{feff}data: a\n\n\u{feff}data: b\n\n", &["a", ""]),
        // What is no data.
        ("retry: 10\nid: 7\nother: x\nDATA: y\n data: z\n\n", &[""]),
        ("data: {\"a\": \"b: c\"}\n\n", &["{\"a\": \"b: c\"}"]),
        ("data: not ended\n", &[]),
    ];
    for (stream, expected) in table {
        assert_eq!(data(stream), *expected, "{stream:?}");
    }
}

#[test]
fn an_event_has_the_name_it_was_given_last_and_hands_it_to_none() {
    let stream = b"event: a\nevent: message_start\ndata: 1\n\ndata: 2\n\nevent:\ndata: 3\n\n";
    let seen = read_all(&mut Reader::new(), &[stream]);
    let names: Vec<_> = seen.iter().map(|(name, ..)| name.as_str()).collect();
    assert_eq!(names, ["message_start", "", ""]);
}

#[test]
fn an_event_ends_behind_its_empty_line() {
    let stream = "data: a\r\n\r\n: comment\n\ndata: b\n\n\ndata: c\r\r\ndata: d\n\n";
    let seen = read_all(&mut Reader::new(), &[stream.as_bytes()]);
    let mut from = 0;
    let parts: Vec<_> = seen
        .iter()
        .map(|(.., at)| &stream[std::mem::replace(&mut from, *at)..*at])
        .collect();
    assert_eq!(
        parts,
        [
            "data: a\r\n\r\n",
            ": comment\n\n",
            "data: b\n\n",
            "\ndata: c\r\r\n",
            "data: d\n\n"
        ]
    );
}

#[test]
fn it_is_between_events_when_nothing_of_the_next_has_come() {
    let mut reader = Reader::new();
    assert!(reader.is_between_events());
    for (chunk, between) in [
        ("data", false),
        (": a\n", false),
        ("\n", true),
        ("\n\n", true),
        (":", false),
        (" ping\n\r", true),
        ("\n", true),
        ("id: 7\r", false),
        ("\n", false),
        ("\r\n", true),
    ] {
        read_all(&mut reader, &[chunk.as_bytes()]);
        assert_eq!(reader.is_between_events(), between, "after {chunk:?}");
    }
}

#[test]
fn what_is_too_long_is_passed_over_and_told() {
    let long = "x".repeat(100);
    let stream = format!(
        "event: big\ndata: {long}\n\ndata: small\n\ndata: 0123456789\ndata: 0123456789\ndata: 01234567890123456789\n\n: {long}\ndata: after a comment\n\nid: {long}\ndata: a\n\n"
    );
    let seen = read_all(&mut Reader::with_limit(40), &[stream.as_bytes()]);
    let seen: Vec<_> = seen
        .iter()
        .map(|(name, data, whole, _)| (&**name, &**data, *whole))
        .collect();
    assert_eq!(
        seen,
        [
            ("big", "", false),
            ("", "small", true),
            ("", "", false),
            ("", "after a comment", true),
            ("", "", false),
        ]
    );
}

#[test]
fn an_event_of_just_the_limit_is_whole_wherever_it_is_cut() {
    let stream = b"data: 0123456789\n\n";
    for (limit, whole) in [(16, true), (15, false)] {
        for cut in 0..=stream.len() {
            let (a, b) = stream.split_at(cut);
            let seen = read_all(&mut Reader::with_limit(limit), &[a, b]);
            assert_eq!(
                (seen.len(), seen[0].2),
                (1, whole),
                "limit {limit}, cut at {cut}"
            );
        }
    }
}

#[test]
fn what_the_stream_ended_in_is_told_at_the_end() {
    for (stream, expected) in [
        ("data: a\n\n", None),
        ("", None),
        ("\n", None),
        ("data: a\n\ndata: [DONE]", Some("[DONE]")),
        ("data: a\n\ndata: [DONE]\n", Some("[DONE]")),
        ("data: [DONE]\r", Some("[DONE]")),
        ("data: b\ndat", Some("b")),
        (": comm", Some("")),
    ] {
        let mut reader = Reader::new();
        read_all(&mut reader, &[stream.as_bytes()]);
        let left = reader.finish().map(|event| shown(event, 0).1);
        assert_eq!(left.as_deref(), expected, "{stream:?}");
        assert!(reader.finish().is_none());
    }
}

#[test]
fn a_stream_reads_the_same_wherever_its_chunks_end() {
    let mut random = fastrand::Rng::with_seed(7);
    let pieces = [
        "data: ",
        "data:",
        "event: ",
        "event: e",
        "id: 1",
        ":",
        ": ping",
        "\n",
        "\r",
        "\r\n",
        "\n\n",
        "\r\n\r\n",
        "\r\r",
        "\u{feff}",
        "{\"a\":1}",
        "é",
        "🦀",
        "[DONE]",
        "data",
        " ",
        "0123456789012345678901234567890123456789",
    ];
    for round in 0..400 {
        let stream: String = (0..random.usize(1..40))
            .map(|_| pieces[random.usize(..pieces.len())])
            .collect();
        let stream = stream.as_bytes();
        let limit = if random.bool() {
            1024
        } else {
            random.usize(1..60)
        };
        let read = |chunks: &[&[u8]]| {
            let mut reader = Reader::with_limit(limit);
            let mut seen = read_all(&mut reader, chunks);
            seen.extend(reader.finish().map(|event| shown(event, stream.len())));
            // The LF of a CR that ended an event may come with the next chunk, and then is no longer the event's.
            seen.into_iter()
                .map(|(name, data, whole, at)| {
                    let lf = stream[..at].ends_with(b"\r\n");
                    (name, data, whole, at - usize::from(lf))
                })
                .collect::<Vec<_>>()
        };
        let whole = read(&[stream]);
        for cut in 0..=stream.len() {
            let (a, b) = stream.split_at(cut);
            assert_eq!(
                read(&[a, b]),
                whole,
                "round {round}, cut at {cut}: {:?}",
                String::from_utf8_lossy(stream)
            );
        }
        let bytes: Vec<_> = stream.chunks(1).collect();
        assert_eq!(read(&bytes), whole, "round {round}, byte by byte");
    }
}

#[test]
fn no_more_is_kept_than_an_event_may_have() {
    const LIMIT: usize = 4096;
    let endless: [&[u8]; 6] = [b"x", b"data: x\n", b"data\n", b": x", b"event: x\n", b"\r"];
    for chunk in endless {
        let mut reader = Reader::with_limit(LIMIT);
        let chunk = chunk.repeat(10);
        for _ in 0..10_000 {
            read_all(&mut reader, &[&chunk]);
            let held = reader.line.capacity() + reader.data.capacity() + reader.name.capacity();
            assert!(
                held <= 2 * LIMIT + LONGEST_NAME,
                "{held} of {:?}",
                String::from_utf8_lossy(&chunk)
            );
        }
    }
}

#[test]
fn room_for_a_long_event_is_given_back() {
    let mut reader = Reader::new();
    let long = [b"data: ".as_slice(), &b"x".repeat(200_000), b"\n\n"].concat();
    let (a, b) = long.split_at(100_000);
    assert_eq!(read_all(&mut reader, &[a, b])[0].1.len(), 200_000);
    read_all(&mut reader, &[b"data: a\n\n"]);
    assert!(reader.line.capacity() + reader.data.capacity() <= 2 * KEPT);
}

#[test]
#[should_panic(expected = "limit is 0, but must be at least 1")]
fn a_reader_without_room_is_refused() {
    let _ = Reader::with_limit(0);
}
