use std::{
    borrow::Cow,
    fmt,
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::{BufMut, Bytes, BytesMut};
use futures_core::FusedStream;
use http_body::{Body, Frame};

use super::{BoundedStream, Overflow};

/// A [`BoundedStream`] as the body of a response.
///
/// A reader that is slow meets the strategy of the stream: hyper asks for the next frame only when the connection has room, so
/// that the stream fills and does what it was told to do. (Room is what the two sockets and hyper's own buffer hold, some
/// hundreds of kilobytes.) A reader that has gone drops the body, and with it the stream: every send fails from then on.
///
/// Under `Fail` a stream that was full ends with an error, [`Overflow`], and hyper cuts the connection: to the client a
/// response that lacks its end does not look like one that is complete.
///
/// # Examples
///
/// ```
/// use tower_backpressure::{
///     BackpressureController, BackpressureStrategy,
///     stream::{Event, StreamBody},
/// };
///
/// let controller = BackpressureController::new(100, BackpressureStrategy::DropOldest);
/// let stream = controller.create_stream();
/// let sender = stream.sender();
/// sender.try_send(Event::data("17.4").event("price"))?;
///
/// let response = http::Response::builder()
///     .header("content-type", "text/event-stream")
///     .header("cache-control", "no-cache")
///     .body(StreamBody::sse(stream))?;
/// # let _ = response;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct StreamBody<T> {
    stream: BoundedStream<T>,
    encode: Encode<T>,
    /// It has given its error.
    failed: bool,
}

type Encode<T> = Box<dyn FnMut(T) -> Bytes + Send>;

impl<T: 'static> StreamBody<T> {
    /// Each item makes one frame.
    pub fn new(stream: BoundedStream<T>, encode: impl FnMut(T) -> Bytes + Send + 'static) -> Self {
        Self {
            stream,
            encode: Box::new(encode),
            failed: false,
        }
    }

    /// Each item is a piece of the body.
    pub fn bytes(stream: BoundedStream<T>) -> Self
    where
        T: Into<Bytes>,
    {
        Self::new(stream, Into::into)
    }

    /// Each item is one server-sent event: an [`Event`], or text, which is the event's data. The response's content type is to be
    /// `text/event-stream`.
    pub fn sse(stream: BoundedStream<T>) -> Self
    where
        T: Into<Event>,
    {
        Self::new(stream, |item| item.into().encode())
    }
}

impl<T> Body for StreamBody<T> {
    type Data = Bytes;
    type Error = Overflow;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Overflow>>> {
        let body = self.get_mut();
        Poll::Ready(match ready!(body.stream.poll_receive(cx)) {
            Some(item) => Some(Ok(Frame::data((body.encode)(item)))),
            None if body.failed => None,
            None => {
                let overflow = body.stream.overflow();
                body.failed = overflow.is_some();
                overflow.map(Err)
            }
        })
    }

    fn is_end_stream(&self) -> bool {
        self.stream.is_terminated() && (self.failed || self.stream.overflow().is_none())
    }
}

/// Nothing of a body is pinned.
impl<T> Unpin for StreamBody<T> {}

impl<T> fmt::Debug for StreamBody<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StreamBody")
            .field("stream", &self.stream)
            .finish_non_exhaustive()
    }
}

/// One server-sent event, as the [HTML standard](https://html.spec.whatwg.org/multipage/server-sent-events.html) has it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Event {
    data: Cow<'static, str>,
    event: Option<Cow<'static, str>>,
    id: Option<Cow<'static, str>>,
}

impl Event {
    /// An event with this data, of any number of lines.
    pub fn data(data: impl Into<Cow<'static, str>>) -> Self {
        Self {
            data: data.into(),
            event: None,
            id: None,
        }
    }

    /// The type of the event. Default: none, which a browser takes for `message`. Line breaks are left out.
    #[must_use]
    pub fn event(mut self, event: impl Into<Cow<'static, str>>) -> Self {
        self.event = Some(event.into());
        self
    }

    /// What the client names as the last event that it has seen when it comes back. Default: none. Line breaks and NUL are left
    /// out.
    #[must_use]
    pub fn id(mut self, id: impl Into<Cow<'static, str>>) -> Self {
        self.id = Some(id.into());
        self
    }

    fn encode(&self) -> Bytes {
        let mut bytes = BytesMut::with_capacity(self.data.len() + 16);
        let fields = [("event: ", &self.event), ("id: ", &self.id)];
        for (field, value) in fields {
            if let Some(value) = value {
                bytes.put_slice(field.as_bytes());
                let one_line = value.bytes().filter(|byte| !b"\r\n\0".contains(byte));
                bytes.extend(one_line);
                bytes.put_u8(b'\n');
            }
        }
        for line in lines(&self.data) {
            bytes.put_slice(b"data: ");
            bytes.put_slice(line.as_bytes());
            bytes.put_u8(b'\n');
        }
        bytes.put_u8(b'\n');
        bytes.freeze()
    }
}

/// As the standard splits them: at CR LF, LF or CR.
fn lines(text: &str) -> impl Iterator<Item = &str> {
    text.split('\n')
        .map(|line| line.strip_suffix('\r').unwrap_or(line))
        .flat_map(|line| line.split('\r'))
}

impl From<&'static str> for Event {
    fn from(data: &'static str) -> Self {
        Self::data(data)
    }
}

impl From<String> for Event {
    fn from(data: String) -> Self {
        Self::data(data)
    }
}

#[cfg(all(test, not(backpressure_loom)))]
mod tests {
    use super::*;

    #[test]
    fn an_event_is_written_as_the_standard_reads_it() {
        let cases = [
            (Event::data("one"), "data: one\n\n"),
            (Event::data(""), "data: \n\n"),
            (
                Event::data("a\nb\r\nc\rd"),
                "data: a\ndata: b\ndata: c\ndata: d\n\n",
            ),
            (
                Event::data("{}").event("price").id("7"),
                "event: price\nid: 7\ndata: {}\n\n",
            ),
            (
                Event::data("x").event("a\ndata: forged").id("1\r\n\0"),
                "event: adata: forged\nid: 1\ndata: x\n\n",
            ),
        ];
        for (event, written) in cases {
            assert_eq!(event.encode(), written);
        }
    }
}
