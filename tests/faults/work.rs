//! A service, its requests and its bodies, every function of which is a point.

use std::{
    future::Future,
    pin::Pin,
    task::{Context, Poll},
};

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Request, Response, StatusCode, header::CONTENT_TYPE};
use http_body::{Body, Frame, SizeHint};
use tower::Service;
use tower_backpressure::limit::{Limit, Sample};

use crate::{points::point, stage};

/// The task for which the service turns out to be gone when it is asked whether it is ready.
pub const DEAD: u32 = 10;

/// What a request asks for.
#[derive(Clone, Copy, Debug, Default)]
pub struct Job {
    pub id: u32,
    /// How long until the head, in ticks.
    pub ticks: u32,
    /// The service answers with an error.
    pub fails: bool,
    /// Frames of data in the body, one at each tick.
    pub frames: u32,
    /// The content type is gRPC's, with trailers after the frames.
    pub grpc: bool,
    /// The body has a known length and knows when it has ended.
    pub exact: bool,
}

/// The body of a request.
pub struct Cargo(pub Job);

impl Drop for Cargo {
    fn drop(&mut self) {
        point("request.drop");
    }
}

/// The error of the service.
#[derive(Debug)]
pub struct Broken(pub u32);

/// Is ready a tick after it was first asked.
#[derive(Default)]
pub struct Inner {
    asked: bool,
}

impl Clone for Inner {
    fn clone(&self) -> Self {
        point("inner.clone");
        Self::default()
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        point("inner.drop");
    }
}

impl Service<Request<Cargo>> for Inner {
    type Response = Response<Film>;
    type Error = Broken;
    type Future = Working;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Broken>> {
        point("inner.poll_ready");
        if !std::mem::replace(&mut self.asked, true) {
            stage::next_tick();
            return Poll::Pending;
        }
        match stage::current() {
            DEAD => Poll::Ready(Err(Broken(DEAD))),
            _ => Poll::Ready(Ok(())),
        }
    }

    fn call(&mut self, request: Request<Cargo>) -> Working {
        point("inner.call");
        Working {
            until: stage::now() + request.body().0.ticks,
            request,
        }
    }
}

pub struct Working {
    request: Request<Cargo>,
    until: u32,
}

impl Future for Working {
    type Output = Result<Response<Film>, Broken>;

    fn poll(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Self::Output> {
        point("future.poll");
        if stage::now() < self.until {
            stage::next_tick();
            return Poll::Pending;
        }
        let Job {
            id,
            fails,
            frames,
            grpc,
            exact,
            ..
        } = self.request.body().0;
        if fails {
            return Poll::Ready(Err(Broken(id)));
        }
        let film = Film {
            id,
            left: frames,
            trailers: grpc,
            exact,
            next: stage::now(),
        };
        let mut response = Response::new(film);
        if grpc {
            let grpc = HeaderValue::from_static("application/grpc");
            response.headers_mut().insert(CONTENT_TYPE, grpc);
        }
        *response.status_mut() = StatusCode::ACCEPTED;
        Poll::Ready(Ok(response))
    }
}

impl Drop for Working {
    fn drop(&mut self) {
        point("future.drop");
    }
}

/// The body of an answer; each frame names the request.
pub struct Film {
    pub id: u32,
    left: u32,
    trailers: bool,
    exact: bool,
    next: u32,
}

impl Body for Film {
    type Data = Bytes;
    type Error = Broken;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Broken>>> {
        point("body.poll_frame");
        if stage::now() < self.next {
            stage::next_tick();
            return Poll::Pending;
        }
        self.next = stage::now() + 1;
        if self.left > 0 {
            self.left -= 1;
            let data = Bytes::copy_from_slice(&self.id.to_be_bytes());
            return Poll::Ready(Some(Ok(Frame::data(data))));
        }
        if std::mem::take(&mut self.trailers) {
            let mut trailers = HeaderMap::new();
            trailers.insert("grpc-status", HeaderValue::from_static("0"));
            return Poll::Ready(Some(Ok(Frame::trailers(trailers))));
        }
        Poll::Ready(None)
    }

    fn is_end_stream(&self) -> bool {
        point("body.is_end_stream");
        self.exact && self.left == 0 && !self.trailers
    }

    fn size_hint(&self) -> SizeHint {
        point("body.size_hint");
        match self.exact {
            true => SizeHint::with_exact(u64::from(self.left) * 4),
            false => SizeHint::new(),
        }
    }
}

impl Drop for Film {
    fn drop(&mut self) {
        point("body.drop");
    }
}

/// Goes between 1 and 2.
pub struct Swing(pub usize);

impl Limit for Swing {
    fn limit(&self) -> usize {
        self.0
    }

    fn update(&mut self, _: &Sample) -> usize {
        point("limit.update");
        self.0 = 3 - self.0;
        self.0
    }

    fn set_limit(&mut self, limit: usize) -> usize {
        point("limit.set_limit");
        self.0 = limit.clamp(1, 2);
        self.0
    }
}

impl Drop for Swing {
    fn drop(&mut self) {
        point("limit.drop");
    }
}
