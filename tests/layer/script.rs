//! Responses that end as the test says, through a layer that notes its samples.

use std::{
    collections::VecDeque,
    convert::Infallible,
    io,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, Request, Response, header::CONTENT_TYPE};
use http_body::{Body, Frame, SizeHint};
use tokio::time::sleep;
use tower::{Layer, ServiceExt, service_fn};
use tower_backpressure::{
    BackpressureLayer, Handle,
    limit::{Limit, Outcome, Sample},
    protocol::ResponseBody,
};

/// A body made of what the test says, ending as it says.
#[derive(Default)]
pub struct Script {
    pub frames: VecDeque<Result<Frame<Bytes>, io::Error>>,
    /// How long each frame takes.
    pub pause: Duration,
    pub sleeping: Option<Pin<Box<tokio::time::Sleep>>>,
    /// Says that it has ended as soon as its last frame is out.
    pub knows_its_end: bool,
    pub length: Option<u64>,
    /// Never ends, and says nothing more.
    pub hangs: bool,
}

impl Script {
    pub fn data(chunks: &[&'static str]) -> Self {
        let frames = chunks
            .iter()
            .map(|c| Ok(Frame::data(Bytes::from_static(c.as_bytes()))));
        Self {
            frames: frames.collect(),
            ..Self::default()
        }
    }

    pub fn and(mut self, frame: Result<Frame<Bytes>, io::Error>) -> Self {
        self.frames.push_back(frame);
        self
    }
}

impl Body for Script {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, io::Error>>> {
        let pause = self.pause;
        if !pause.is_zero() {
            let sleeping = self.sleeping.get_or_insert_with(|| Box::pin(sleep(pause)));
            std::task::ready!(sleeping.as_mut().poll(cx));
            self.sleeping = None;
        }
        match self.frames.pop_front() {
            None if self.hangs => Poll::Pending,
            frame => Poll::Ready(frame),
        }
    }

    fn is_end_stream(&self) -> bool {
        self.knows_its_end && self.frames.is_empty()
    }

    fn size_hint(&self) -> SizeHint {
        self.length.map_or(SizeHint::new(), SizeHint::with_exact)
    }
}

/// Remembers every sample; the limit is 1.
pub struct Notes(std::sync::mpsc::Sender<Sample>);

impl Limit for Notes {
    fn limit(&self) -> usize {
        1
    }

    fn update(&mut self, sample: &Sample) -> usize {
        let _ = self.0.send(*sample);
        1
    }
}

/// A layer of limit 1 that notes its samples as (milliseconds, outcome).
pub struct Bench {
    pub layer: BackpressureLayer,
    samples: std::sync::mpsc::Receiver<Sample>,
}

impl Bench {
    pub fn new() -> Self {
        Self::with(|layer| layer)
    }

    pub fn with(f: impl FnOnce(BackpressureLayer) -> BackpressureLayer) -> Self {
        let (notes, samples) = std::sync::mpsc::channel();
        let layer = f(BackpressureLayer::adaptive(Notes(notes)));
        Self { layer, samples }
    }

    pub async fn get<B>(&self, response: Response<B>) -> Response<ResponseBody<B>>
    where
        B: Body<Data = Bytes>,
    {
        self.request(Method::GET, response).await
    }

    pub async fn request<B>(
        &self,
        method: Method,
        response: Response<B>,
    ) -> Response<ResponseBody<B>>
    where
        B: Body<Data = Bytes>,
    {
        let response = std::sync::Mutex::new(Some(response));
        let inner = service_fn(|_: Request<()>| {
            let response = response.lock().unwrap().take().unwrap();
            std::future::ready(Ok::<_, Infallible>(response))
        });
        let mut request = Request::new(());
        *request.method_mut() = method;
        self.layer.layer(inner).oneshot(request).await.unwrap()
    }

    pub fn handle(&self) -> Handle {
        self.layer.handle()
    }

    pub fn in_flight(&self) -> usize {
        self.handle().in_flight()
    }

    pub fn samples(&self) -> Vec<(u128, Outcome)> {
        let samples = self.samples.try_iter();
        samples
            .map(|s| (s.latency.as_millis(), s.outcome))
            .collect()
    }
}

pub fn sse<B>(body: B) -> Response<B> {
    let mut response = Response::new(body);
    let stream = HeaderValue::from_static("text/event-stream; charset=utf-8");
    response.headers_mut().insert(CONTENT_TYPE, stream);
    response
}

pub fn grpc(body: Script) -> Response<Script> {
    let mut response = Response::new(body);
    let grpc = HeaderValue::from_static("application/grpc+proto");
    response.headers_mut().insert(CONTENT_TYPE, grpc);
    response
}

pub fn trailers(status: &'static str) -> Result<Frame<Bytes>, io::Error> {
    let mut trailers = HeaderMap::new();
    trailers.insert("grpc-status", HeaderValue::from_static(status));
    Ok(Frame::trailers(trailers))
}
