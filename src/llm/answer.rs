use std::{
    fmt,
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::{Buf, Bytes};
use http_body::{Body, Frame, SizeHint};
use pin_project::pin_project;

use super::{piece::Piece, stream::Stream};

/// The body of an answer that passed an [`LlmLayer`](super::LlmLayer).
///
/// A streamed answer goes out event by event, in the bytes in which it came, but for the usage that the client did not ask for.
/// Dropping the body drops that of the service behind, and charges what was streamed until then.
#[pin_project]
pub struct AnswerBody<R> {
    #[pin]
    kind: Kind<R>,
}

#[pin_project(project = KindProj)]
enum Kind<R> {
    /// No answer of a model.
    Passing(#[pin] R),
    /// `None` once it was read.
    Whole(Option<Bytes>),
    Piece(Pin<Box<Piece<R>>>),
    Stream(Pin<Box<Stream<R>>>),
}

impl<R> AnswerBody<R> {
    pub(super) fn passing(body: R) -> Self {
        Self {
            kind: Kind::Passing(body),
        }
    }

    pub(super) fn whole(body: Bytes) -> Self {
        Self {
            kind: Kind::Whole((!body.is_empty()).then_some(body)),
        }
    }

    pub(super) fn piece(piece: Pin<Box<Piece<R>>>) -> Self {
        Self {
            kind: Kind::Piece(piece),
        }
    }

    pub(super) fn stream(stream: Pin<Box<Stream<R>>>) -> Self {
        Self {
            kind: Kind::Stream(stream),
        }
    }
}

impl<R: Body> Body for AnswerBody<R> {
    type Data = Bytes;
    type Error = R::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, R::Error>>> {
        match self.project().kind.project() {
            KindProj::Passing(body) => {
                let frame = ready!(body.poll_frame(cx));
                Poll::Ready(frame.map(|frame| Ok(whole_data(frame?))))
            }
            KindProj::Whole(bytes) => Poll::Ready(bytes.take().map(|bytes| Ok(Frame::data(bytes)))),
            KindProj::Piece(piece) => piece.as_mut().poll_frame(cx),
            KindProj::Stream(stream) => stream.as_mut().poll_frame(cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        match &self.kind {
            Kind::Passing(body) => body.is_end_stream(),
            Kind::Whole(bytes) => bytes.is_none(),
            Kind::Piece(piece) => piece.is_over(),
            Kind::Stream(stream) => stream.is_over(),
        }
    }

    /// Of a stream nothing is known: it may be cut off, or an event may be hidden.
    fn size_hint(&self) -> SizeHint {
        match &self.kind {
            Kind::Passing(body) => body.size_hint(),
            Kind::Whole(bytes) => SizeHint::with_exact(bytes.as_ref().map_or(0, length)),
            Kind::Piece(piece) => piece.size_hint(),
            Kind::Stream(_) => SizeHint::new(),
        }
    }
}

fn length(bytes: &Bytes) -> u64 {
    bytes.len() as u64
}

/// Data in one piece, which where it is in one already costs nothing.
pub(super) fn whole_data<D: Buf>(frame: Frame<D>) -> Frame<Bytes> {
    frame.map_data(|mut data| data.copy_to_bytes(data.remaining()))
}

/// Empty, and nobody's answer: what middleware outside answers with when it answers by itself.
impl<R> Default for AnswerBody<R> {
    fn default() -> Self {
        Self::whole(Bytes::new())
    }
}

impl<R> fmt::Debug for AnswerBody<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = match &self.kind {
            Kind::Passing(_) => "passing",
            Kind::Whole(_) => "whole",
            Kind::Piece(_) => "piece",
            Kind::Stream(_) => "stream",
        };
        f.debug_struct("AnswerBody").field("kind", &kind).finish()
    }
}
