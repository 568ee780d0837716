use std::{fmt, future::Future, pin::pin, sync::Arc, time::Duration};

use http::request;
use tokio::time::timeout;
use tower_layer::Layer;

use super::{
    Dialect, Learned, LlmService, Weights,
    account::Call,
    shared::{Settings, Shared, State},
    upstream::Upstream,
};
use crate::{
    BackpressureLayer, ConfigError, Handle,
    config::{at_least_one, built},
    sync::lock,
};

/// How long clients may take to read that their answer has been cut off.
const FAREWELL: Duration = Duration::from_secs(1);

/// Keeps the service behind it, which answers for a model, from being asked for more than it can do.
///
/// It is made around a [`BackpressureLayer`], which decides as ever who runs, who waits and who is refused. The gate alone sees
/// heads of requests and frames of answers. This layer reads what is in them and tells the gate; it stands on both sides of it,
/// so that the two sides cannot be put together in the wrong order:
///
/// ```text
/// request ─► read: what is asked, by when, about how many tokens ─► gate ─► the call of the service ─► answer, read as it passes
///               │ too large, or too late                             │ refused     │ an error in the first event becomes a status
///               ▼                                                    ▼             ▼
///              413 · 503 or 529                                  503, 529, 429   503, 529, 429, 502, 504     in the client's words
/// ```
///
/// ```
/// use bytes::Bytes;
/// use http::{Request, Response};
/// use http_body_util::Full;
/// use tower::{ServiceBuilder, service_fn};
/// use tower_backpressure::{BackpressureLayer, limit::Aimd, llm::{LlmLayer, RequestBody}, rate::TokenBucket};
///
/// let gate = BackpressureLayer::adaptive(Aimd::default().initial(32))
///     .and_rate(TokenBucket::per_minute(500_000).burst(100_000))
///     .named("chat");
/// let proxy = ServiceBuilder::new()
///     .layer(LlmLayer::new(gate))
///     .service(service_fn(|request: Request<RequestBody<Full<Bytes>>>| async move {
///         // Here the request goes to the model, with whatever client there is.
///         Ok::<_, std::convert::Infallible>(Response::new(request.into_body()))
///     }));
/// # let _ = proxy;
/// ```
///
/// # What it does
///
/// - **Requests** for an answer are read before they come to the gate, so that no permit waits for a slow client. They reach
///   the service with an [`Asked`](super::Asked) in their extensions, in one piece, without `accept-encoding`, and with a
///   request id. Others (a list of models, say) go through the gate as they are.
/// - **Costs**: a request is charged what its prompt has, about, and what answers like it had before, or the most it allows.
///   What it really used is settled when it ends. A client that leaves is charged for what was streamed until then; a request
///   that the service behind refused costs nothing. Only a prompt can be too large for a burst: of an answer, of whose length
///   nothing is certain, no more is reserved than there can be room for, and the rest is owed once it was used. Usage is asked
///   for where the client did not, and hidden from it again.
/// - **What is counted otherwise**: a [`Demand`](crate::Demand) that is there already is left alone, and whoever put it there
///   settles it. The gate's own [`cost`](BackpressureLayer::cost) is that of requests that ask no model for an answer.
/// - **The head of a stream is held** until its first token, for [at most two seconds](Self::hold_head). An overload that shows
///   in between is a status that clients retry, instead of an event that they do not.
/// - **The latency** that the limit learns from is that of the first token, not of a comment that keeps the connection alive,
///   made comparable whatever the size of the prompt. Whole answers, which come much later, are learned from only where nothing
///   is streamed, by the size of the answer.
/// - **Deadlines** that the SDKs send are kept: a request that cannot begin to be answered in time is refused at once, or
///   leaves the line when its time has come.
/// - **Timeouts** for the [first token](Self::first_token_timeout), [between tokens](Self::token_timeout), and for a [whole
///   answer](Self::answer_timeout). How long one may wait is the gate's [`max_wait`](BackpressureLayer::max_wait).
/// - **A client that leaves** takes the call of the service behind with it, at once.
///
/// One layer is for one service behind, or for several that are alike: what it learns of latencies, it learns of all of them
/// together.
///
/// # Memory
///
/// What waits is in memory, up to [`max_body`](Self::max_body) each, and at each gate no more wait than
/// [`max_waiting`](BackpressureLayer::max_waiting) says. What is being read is in memory as well, and no gate has let it in
/// yet. Nothing is read while the gate drains, or is full and has no room for one more to wait; but under `drop_oldest`, with
/// keys, and where only a rate has no room, it is. So as many may be read at once as there are connections that send them,
/// however slowly: bound those where they come in, and the time that a request may take to arrive.
///
/// An [`exempt`](BackpressureLayer::exempt) closure may be asked twice: before a request was read, without an
/// [`Asked`](super::Asked), and after.
///
/// # Metrics
///
/// Beside those of the gate, each with its name as the label `gate`:
///
/// | metric | type | labels |
/// |---|---|---|
/// | `backpressure_llm_requests_total` | counter | `retry`: `0`, `1`, `2`, `more`, `unknown`, as the client counts |
/// | `backpressure_llm_time_to_first_token_seconds` | histogram | |
/// | `backpressure_llm_tokens_total` | counter | `kind`: `prompt` (without what was cached), `cached`, `output` |
/// | `backpressure_llm_timeouts_total` | counter | `waiting_for`: `first_token`, `between_tokens`, `answer` |
///
/// # Panics
///
/// Timeouts and deadlines are kept by tokio's timer: a request that has to wait for one panics outside of a runtime whose
/// time is enabled.
#[derive(Clone)]
pub struct LlmLayer {
    gate: BackpressureLayer,
    settings: Arc<Settings>,
    state: Arc<State>,
}

impl LlmLayer {
    /// The layer around `gate`. What the gate's [`respond`](BackpressureLayer::respond) says is not asked: refusals are in the
    /// client's dialect.
    pub fn new(gate: BackpressureLayer) -> Self {
        Self {
            gate: gate.demands(|head, gate| head.extensions.get::<Arc<Call>>()?.demand(gate)),
            settings: Arc::new(Settings::default()),
            state: Arc::new(State::new()),
        }
    }

    /// Which requests ask for an answer of a model, and in which dialect; `None` for others, which pass unread. Default: a `POST`
    /// to a path that ends in `/chat/completions`, `/completions`, `/responses` or `/messages`, in the dialect of
    /// [`Dialect::of`].
    #[must_use]
    pub fn dialect<F>(mut self, dialect: F) -> Self
    where
        F: Fn(&request::Parts) -> Option<Dialect> + Send + Sync + 'static,
    {
        self.settings_mut().dialect = Arc::new(dialect);
        self
    }

    /// What a token costs. Default: 1, whether of the prompt or of the answer.
    #[must_use]
    pub fn weights(mut self, weights: Weights) -> Self {
        self.settings_mut().weights = weights;
        self
    }

    /// What is learned of how long answers are, and where it begins. Default: [`Learned::default`]. By the model, and by the
    /// credential that the request came with (`authorization` or `x-api-key`), of which only a hash is kept.
    #[must_use]
    pub fn learned(self, learned: Learned) -> Self {
        *lock(&self.state.learned) = learned;
        self
    }

    /// How large a request may be, in bytes. Default: 8 MiB, some two million tokens; more where images come in requests. A larger
    /// one is refused with 413. Of an answer in one piece as much is kept until it is complete; a longer one passes as it comes.
    ///
    /// # Panics
    ///
    /// If it is 0.
    #[track_caller]
    #[must_use]
    pub fn max_body(self, bytes: usize) -> Self {
        built(self.try_max_body(bytes))
    }

    /// As [`max_body`](Self::max_body), for a number from a file.
    ///
    /// # Errors
    ///
    /// If it is 0.
    pub fn try_max_body(mut self, bytes: usize) -> Result<Self, ConfigError> {
        self.settings_mut().max_body = at_least_one("max_body", bytes)?;
        Ok(self)
    }

    /// How long the head of a stream is held while nothing but comments, pings and roles has come. `None` lets it go out at once.
    /// Default: 2 s.
    ///
    /// Clients see nothing before the first token in any case, and their own timeouts are minutes; but what stands between may
    /// close a connection on which there is no head for 15 s or more. Providers that are overloaded say so within a second or
    /// two, or begin to answer.
    #[must_use]
    pub fn hold_head(mut self, hold: impl Into<Option<Duration>>) -> Self {
        self.settings_mut().hold_head = hold.into();
        self
    }

    /// How long the first token of a stream may take from admission on. `None` is for ever. Default: 300 s, since some models think
    /// for minutes and say nothing. Switch it off for streams whose events are in no format that [`Dialect::read`] knows: no token
    /// is seen in them. Then the answer is a 504, or an error event where the head is out.
    #[must_use]
    pub fn first_token_timeout(mut self, timeout: impl Into<Option<Duration>>) -> Self {
        self.settings_mut().first_token_timeout = timeout.into();
        self
    }

    /// How long the service behind may have nothing between two tokens of a stream. `None` is for ever. Default: 60 s. Comments and
    /// pings are no tokens, and the time that a slow client takes is not the service's. Then the stream ends with an error event.
    #[must_use]
    pub fn token_timeout(mut self, timeout: impl Into<Option<Duration>>) -> Self {
        self.settings_mut().token_timeout = timeout.into();
        self
    }

    /// How long an answer in one piece may take. `None` is for ever. Default: 600 s, after which the SDKs' own timeouts have left
    /// nobody to read it. Then the answer is a 504. A stream may last as long as it has something to say.
    #[must_use]
    pub fn answer_timeout(mut self, timeout: impl Into<Option<Duration>>) -> Self {
        self.settings_mut().answer_timeout = timeout.into();
        self
    }

    /// A handle on the gate.
    pub fn handle(&self) -> Handle {
        self.gate.handle()
    }

    /// Refuses everybody who has no permit yet, as [`Handle::drain`] does, and gives the others `grace` to end. Then the answers
    /// that still run are ended: a stream with an error event, what has not begun to answer with a status that clients retry.
    /// Resolves with how many those were: 0 if all had ended by themselves, and then as soon as they have.
    ///
    /// Whoever was cut off has a second to read it. Requests that ask no model for anything are not cut off; they count if they are
    /// still there. Draining begins with the call, and does not end.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future stops the waiting, and nobody is cut off; the gate goes on draining.
    ///
    /// # Panics
    ///
    /// Polled outside of a tokio runtime with its time enabled.
    pub fn drain(&self, grace: Duration) -> impl Future<Output = usize> + Send + use<> {
        let (handle, state) = (self.handle(), Arc::clone(&self.state));
        let drained = handle.drain();
        async move {
            let mut drained = pin!(drained);
            if timeout(grace, drained.as_mut()).await.is_ok() {
                return 0;
            }
            let running = handle.in_flight();
            state.end();
            // Those that do not read are not waited for.
            let _ = timeout(FAREWELL, drained).await;
            running
        }
    }

    fn settings_mut(&mut self) -> &mut Settings {
        Arc::make_mut(&mut self.settings)
    }
}

impl<S> Layer<S> for LlmLayer {
    type Service = LlmService<S>;

    fn layer(&self, inner: S) -> LlmService<S> {
        let shared = Shared {
            settings: Arc::clone(&self.settings),
            state: Arc::clone(&self.state),
        };
        self.state.recording.name(self.handle().name());
        let dialect = Arc::clone(&self.settings.dialect);
        let gate = self.gate.clone().respond(move |asked, rejected| {
            let dialect = dialect(asked).unwrap_or_else(|| Dialect::of(asked));
            dialect.refuse(asked, rejected)
        });
        LlmService::new(gate.layer(Upstream::new(inner, shared.clone())), shared)
    }
}

impl fmt::Debug for LlmLayer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LlmLayer")
            .field("gate", &self.gate)
            .field("settings", &self.settings)
            .finish_non_exhaustive()
    }
}
