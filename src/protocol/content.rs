//! What a content type says of how a response comes.

use http::{HeaderMap, header::CONTENT_TYPE};

use super::grpc;

const EVENT_STREAM: &str = "text/event-stream";

/// What is sent while the work goes on.
const STREAMS: [&str; 7] = [
    EVENT_STREAM,
    "application/x-ndjson",
    "application/ndjson",
    "application/jsonl",
    "application/json-seq",
    "application/stream+json",
    "multipart/x-mixed-replace",
];

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Content {
    /// The head comes when the work is done.
    Whole,
    /// The head comes before the work.
    Stream,
    /// Likewise, and the trailers tell how it went.
    Grpc,
}

impl Content {
    #[inline]
    pub(super) fn of(headers: &HeaderMap) -> Self {
        let Some(content_type) = headers.get(CONTENT_TYPE) else {
            return Self::Whole;
        };
        let value = content_type.as_bytes().trim_ascii_start();
        if grpc::is_grpc(content_type) {
            Self::Grpc
        } else if STREAMS.iter().any(|stream| is(value, stream)) {
            Self::Stream
        } else {
            Self::Whole
        }
    }
}

/// Whether the message with these headers is a stream of server-sent events.
#[cfg(feature = "llm")]
pub(crate) fn is_event_stream(headers: &HeaderMap) -> bool {
    let content_type = headers.get(CONTENT_TYPE);
    content_type.is_some_and(|value| is(value.as_bytes().trim_ascii_start(), EVENT_STREAM))
}

/// Whether this content type is that media type, with parameters or without. A response is asked this several times over.
#[inline]
fn is(content_type: &[u8], media_type: &str) -> bool {
    let Some((start, rest)) = content_type.split_at_checked(media_type.len()) else {
        return false;
    };
    // Where it ends is asked first, which is quick and rules out nearly all.
    match rest {
        [] | [b';', ..] => start.eq_ignore_ascii_case(media_type.as_bytes()),
        [b' ' | b'\t', ..] if matches!(rest.trim_ascii_start(), [] | [b';', ..]) => {
            start.eq_ignore_ascii_case(media_type.as_bytes())
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    fn of(content_type: &[u8]) -> Content {
        let value = HeaderValue::from_bytes(content_type).expect("a valid value");
        Content::of(&HeaderMap::from_iter([(CONTENT_TYPE, value)]))
    }

    #[test]
    fn a_stream_is_one_in_any_case_and_with_parameters() {
        for stream in STREAMS {
            let upper = stream.to_ascii_uppercase();
            let spaced = format!("{stream} ; charset=utf-8");
            let parameter = format!("{stream};boundary=x");
            let late = format!(" \t{stream}");
            for value in [stream, &upper, &spaced, &parameter, &late] {
                assert_eq!(of(value.as_bytes()), Content::Stream, "{value}");
            }
        }
    }

    #[test]
    fn what_only_begins_like_a_stream_or_speaks_of_one_is_none() {
        for stream in STREAMS {
            let longer = format!("{stream}s");
            let within = format!("text/plain; was={stream}");
            let two = format!("{stream}, text/plain");
            let shorter = &stream[..stream.len() - 1];
            for value in [&*longer, &within, &two, shorter] {
                assert_eq!(of(value.as_bytes()), Content::Whole, "{value}");
            }
        }
        for value in [&b""[..], b"text/event-stream\xff", b";", b"\xff"] {
            assert_eq!(of(value), Content::Whole, "{value:?}");
        }
        assert_eq!(Content::of(&HeaderMap::new()), Content::Whole);
    }
}
