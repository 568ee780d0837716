//! A model under the test's control, and a layer that notes its samples.

use std::{
    collections::VecDeque,
    future::Future,
    io, mem,
    pin::Pin,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU32, Ordering},
        mpsc,
    },
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::Bytes;
use http::{HeaderMap, Request, Response, header::CONTENT_TYPE, request};
use http_body::{Body, Frame, SizeHint};
use http_body_util::{BodyExt, Full};
use tokio::time::{Sleep, sleep};
use tower::{Layer, Service, ServiceExt};
use tower_backpressure::{
    BackpressureLayer, Charge,
    limit::{Limit, Outcome, Sample},
    llm::{AnswerBody, LlmLayer, RequestBody},
    protocol::ResponseBody,
};

pub const MILLI: Duration = Duration::from_millis(1);
pub const SECOND: Duration = Duration::from_secs(1);

pub const ROLE: &str =
    "data: {\"choices\":[{\"index\":0,\"delta\":{\"role\":\"assistant\",\"content\":\"\"}}]}\n\n";
pub const TOKEN: &str = "data: {\"choices\":[{\"index\":0,\"delta\":{\"content\":\" wo\"}}]}\n\n";
pub const USAGE: &str = "data: {\"choices\":[],\"usage\":{\"prompt_tokens\":7,\"completion_tokens\":3,\"total_tokens\":10}}\n\n";
pub const DONE: &str = "data: [DONE]\n\n";
pub const ALIVE: &str = ": still there\n\n";
pub const OVERLOADED: &str =
    "data: {\"error\":{\"message\":\"too busy\",\"type\":\"overloaded_error\",\"code\":503}}\n\n";

pub type Answer = Response<ResponseBody<AnswerBody<Script>>>;

enum Step {
    Data(Bytes),
    Wait(Duration),
    Break,
    Panic,
}

/// A body that does what the test says.
#[derive(Default)]
pub struct Script {
    steps: VecDeque<Step>,
    sleeping: Option<Pin<Box<Sleep>>>,
    hangs: bool,
    length: Option<u64>,
    pub dropped: Arc<AtomicBool>,
    pub polls: Arc<AtomicU32>,
}

impl Script {
    pub fn new(chunks: &[&str]) -> Self {
        chunks.iter().fold(Self::default(), |all, it| all.then(it))
    }

    pub fn then(self, chunk: &str) -> Self {
        self.step(Step::Data(Bytes::copy_from_slice(chunk.as_bytes())))
    }

    pub fn wait(self, time: Duration) -> Self {
        self.step(Step::Wait(time))
    }

    pub fn breaks(self) -> Self {
        self.step(Step::Break)
    }

    pub fn panics(self) -> Self {
        self.step(Step::Panic)
    }

    /// Says nothing more, and does not end.
    pub fn hangs(mut self) -> Self {
        self.hangs = true;
        self
    }

    pub fn length(mut self, length: u64) -> Self {
        self.length = Some(length);
        self
    }

    fn step(mut self, step: Step) -> Self {
        self.steps.push_back(step);
        self
    }

    pub fn streamed(self) -> Response<Self> {
        let mut response = Response::new(self);
        let stream = "text/event-stream; charset=utf-8".parse().unwrap();
        response.headers_mut().insert(CONTENT_TYPE, stream);
        response
    }

    pub fn whole(self) -> Response<Self> {
        let mut response = Response::new(self);
        let json = "application/json".parse().unwrap();
        response.headers_mut().insert(CONTENT_TYPE, json);
        response
    }
}

impl Drop for Script {
    fn drop(&mut self) {
        self.dropped.store(true, Ordering::SeqCst);
    }
}

impl Body for Script {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, io::Error>>> {
        self.polls.fetch_add(1, Ordering::SeqCst);
        loop {
            if let Some(sleeping) = &mut self.sleeping {
                ready!(sleeping.as_mut().poll(cx));
                self.sleeping = None;
            }
            match self.steps.pop_front() {
                Some(Step::Data(data)) => return Poll::Ready(Some(Ok(Frame::data(data)))),
                Some(Step::Wait(time)) => self.sleeping = Some(Box::pin(sleep(time))),
                Some(Step::Break) => {
                    return Poll::Ready(Some(Err(io::Error::other("a connection that broke"))));
                }
                Some(Step::Panic) => panic!("a body with a mistake"),
                None if self.hangs => return Poll::Pending,
                None => return Poll::Ready(None),
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.steps.is_empty() && !self.hangs && self.sleeping.is_none()
    }

    fn size_hint(&self) -> SizeHint {
        self.length.map_or(SizeHint::new(), SizeHint::with_exact)
    }
}

/// Remembers every sample; the limit stays 100.
struct Notes(mpsc::Sender<Sample>);

impl Limit for Notes {
    fn limit(&self) -> usize {
        100
    }

    fn update(&mut self, sample: &Sample) -> usize {
        let _ = self.0.send(*sample);
        100
    }
}

/// What the model was asked.
pub struct Seen {
    pub head: request::Parts,
    pub body: Bytes,
}

impl Seen {
    pub fn charge(&self) -> &Charge {
        self.head.extensions.get().expect("every call is charged")
    }
}

type Answers = Arc<Mutex<VecDeque<(Duration, Result<Response<Script>, io::Error>)>>>;

/// Gives the answers of the test, in their order.
#[derive(Clone, Default)]
pub struct Model {
    answers: Answers,
    seen: Arc<Mutex<Vec<Seen>>>,
}

impl<B> Service<Request<RequestBody<B>>> for Model
where
    B: Body + Send + Unpin + 'static,
    B::Error: std::fmt::Debug,
{
    type Response = Response<Script>;
    type Error = io::Error;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Script>, io::Error>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), io::Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<RequestBody<B>>) -> Self::Future {
        let (answers, seen) = (Arc::clone(&self.answers), Arc::clone(&self.seen));
        Box::pin(async move {
            let (head, body) = request.into_parts();
            let body = body.collect().await.unwrap().to_bytes();
            seen.lock().unwrap().push(Seen { head, body });
            let (after, answer) = answers.lock().unwrap().pop_front().expect("an answer");
            sleep(after).await;
            answer
        })
    }
}

pub struct Bench {
    pub layer: LlmLayer,
    samples: mpsc::Receiver<Sample>,
    model: Model,
}

impl Bench {
    pub fn new() -> Self {
        Self::with(|layer| layer)
    }

    pub fn with(f: impl FnOnce(LlmLayer) -> LlmLayer) -> Self {
        Self::over(|gate| gate, f)
    }

    pub fn over(
        gate: impl FnOnce(BackpressureLayer) -> BackpressureLayer,
        f: impl FnOnce(LlmLayer) -> LlmLayer,
    ) -> Self {
        let (notes, samples) = mpsc::channel();
        let gate = gate(BackpressureLayer::adaptive(Notes(notes)));
        Self {
            layer: f(LlmLayer::new(gate)),
            samples,
            model: Model::default(),
        }
    }

    /// What the model answers next.
    pub fn answers(&self, answer: Response<Script>) {
        self.answers_after(Duration::ZERO, Ok(answer));
    }

    pub fn answers_after(&self, time: Duration, answer: Result<Response<Script>, io::Error>) {
        self.model.answers.lock().unwrap().push_back((time, answer));
    }

    pub fn call(
        &self,
        request: Request<Full<Bytes>>,
    ) -> impl Future<Output = Result<Answer, io::Error>> + Send + use<> {
        self.layer.layer(self.model.clone()).oneshot(request)
    }

    pub async fn ask(&self, request: Request<Full<Bytes>>) -> Answer {
        self.call(request).await.unwrap()
    }

    /// The answer to an ordinary streamed request.
    pub async fn stream(&self, script: Script) -> Answer {
        self.answers(script.streamed());
        self.ask(asks_for_stream()).await
    }

    pub fn in_flight(&self) -> usize {
        self.layer.handle().in_flight()
    }

    pub fn seen(&self) -> Vec<Seen> {
        mem::take(&mut self.model.seen.lock().unwrap())
    }

    pub fn calls(&self) -> usize {
        self.model.seen.lock().unwrap().len()
    }

    /// As (milliseconds, outcome).
    pub fn samples(&self) -> Vec<(u128, Outcome)> {
        let samples = self.samples.try_iter();
        samples
            .map(|it| (it.latency.as_millis(), it.outcome))
            .collect()
    }
}

pub fn openai(body: &str) -> Request<Full<Bytes>> {
    let mut request = Request::new(Full::from(Bytes::copy_from_slice(body.as_bytes())));
    *request.method_mut() = http::Method::POST;
    *request.uri_mut() = "/v1/chat/completions".parse().unwrap();
    request
}

pub fn anthropic(body: &str) -> Request<Full<Bytes>> {
    let mut request = openai(body);
    *request.uri_mut() = "/v1/messages".parse().unwrap();
    request
}

/// Some twenty tokens, who knows; at most forty for the answer.
pub fn asks_for_stream() -> Request<Full<Bytes>> {
    openai(
        r#"{"model":"m","stream":true,"max_tokens":40,"messages":[{"role":"user","content":"Will it rain tomorrow?"}]}"#,
    )
}

pub fn asks_for_whole() -> Request<Full<Bytes>> {
    openai(
        r#"{"model":"m","max_tokens":40,"messages":[{"role":"user","content":"Will it rain tomorrow?"}]}"#,
    )
}

/// A prompt of about so many tokens.
pub fn asks_at_length(tokens: usize) -> Request<Full<Bytes>> {
    let words = "rain ".repeat(tokens);
    openai(&format!(
        r#"{{"model":"m","stream":true,"messages":[{{"role":"user","content":"{words}"}}]}}"#
    ))
}

/// Everything that comes out, as text.
pub async fn text(answer: Answer) -> String {
    let body = answer.into_body().collect().await.unwrap().to_bytes();
    String::from_utf8(body.to_vec()).unwrap()
}

/// The next frame, as text; empty where there is none.
pub async fn frame(answer: &mut Answer) -> String {
    let Some(frame) = answer.body_mut().frame().await else {
        return String::new();
    };
    let data = frame.unwrap().into_data().unwrap();
    String::from_utf8(data.to_vec()).unwrap()
}

pub fn header<'a>(headers: &'a HeaderMap, name: &str) -> &'a str {
    headers
        .get(name)
        .map_or("", |value| value.to_str().unwrap())
}
