use std::{
    fmt,
    pin::Pin,
    task::{Context, Poll},
};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use pin_project::pin_project;

use super::answer::whole_data;

/// The body of a request as the service behind an [`LlmLayer`](super::LlmLayer) gets it: in one piece where it asks for an
/// answer of a model, as it comes otherwise.
#[pin_project]
pub struct RequestBody<B> {
    #[pin]
    kind: Kind<B>,
}

#[pin_project(project = KindProj)]
enum Kind<B> {
    /// `None` once it was read.
    Whole(Option<Bytes>),
    Passing(#[pin] B),
}

impl<B> RequestBody<B> {
    pub(super) fn whole(body: Bytes) -> Self {
        let kind = Kind::Whole((!body.is_empty()).then_some(body));
        Self { kind }
    }

    pub(super) fn passing(body: B) -> Self {
        let kind = Kind::Passing(body);
        Self { kind }
    }

    /// All of it, where it came in one piece and was not read yet.
    pub fn as_bytes(&self) -> Option<&Bytes> {
        match &self.kind {
            Kind::Whole(bytes) => bytes.as_ref(),
            Kind::Passing(_) => None,
        }
    }
}

impl<B: Body> Body for RequestBody<B> {
    type Data = Bytes;
    type Error = B::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, B::Error>>> {
        match self.project().kind.project() {
            KindProj::Whole(bytes) => Poll::Ready(bytes.take().map(|bytes| Ok(Frame::data(bytes)))),
            KindProj::Passing(body) => {
                let frame = std::task::ready!(body.poll_frame(cx));
                Poll::Ready(frame.map(|frame| Ok(whole_data(frame?))))
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        match &self.kind {
            Kind::Whole(bytes) => bytes.is_none(),
            Kind::Passing(body) => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.kind {
            Kind::Whole(bytes) => {
                SizeHint::with_exact(bytes.as_ref().map_or(0, |bytes| bytes.len() as u64))
            }
            Kind::Passing(body) => body.size_hint(),
        }
    }
}

impl<B> fmt::Debug for RequestBody<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let whole = matches!(self.kind, Kind::Whole(_));
        f.debug_struct("RequestBody")
            .field("whole", &whole)
            .finish_non_exhaustive()
    }
}
