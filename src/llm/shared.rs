//! What all requests through one layer have in common.

use std::{
    fmt,
    hash::{BuildHasher, RandomState},
    sync::Arc,
    time::Duration,
};

use http::{HeaderMap, Method, header::AUTHORIZATION, request};
use tokio::sync::{Notify, futures::OwnedNotified};

use super::{Dialect, Learned, Weights, norm::Norm, recording::Recording};
use crate::{
    contained::contained,
    gate::clock::Clock,
    sync::{AtomicBool, Mutex, Ordering, lock},
};

pub(super) type Classify = dyn Fn(&request::Parts) -> Option<Dialect> + Send + Sync;

const SECOND: Duration = Duration::from_secs(1);
/// For how many whole answers it is remembered that there are streams.
const REMEMBERED: u32 = 64;
/// Where the path of a request for an answer ends.
const PATHS: [&str; 4] = [
    "/chat/completions",
    "/completions",
    "/responses",
    "/messages",
];

#[derive(Clone)]
pub(super) struct Settings {
    pub(super) dialect: Arc<Classify>,
    pub(super) weights: Weights,
    pub(super) max_body: usize,
    pub(super) hold_head: Option<Duration>,
    pub(super) first_token_timeout: Option<Duration>,
    pub(super) token_timeout: Option<Duration>,
    pub(super) answer_timeout: Option<Duration>,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            dialect: Arc::new(dialect_by_path),
            weights: Weights::default(),
            max_body: 8 << 20,
            hold_head: Some(2 * SECOND),
            first_token_timeout: Some(300 * SECOND),
            token_timeout: Some(60 * SECOND),
            answer_timeout: Some(600 * SECOND),
        }
    }
}

fn dialect_by_path(head: &request::Parts) -> Option<Dialect> {
    let path = head.uri.path().trim_end_matches('/');
    let asks = head.method == Method::POST && PATHS.iter().any(|end| path.ends_with(end));
    asks.then(|| Dialect::of(head))
}

/// What is learned, and what happens to all at once.
pub(super) struct State {
    pub(super) clock: Clock,
    pub(super) learned: Mutex<Learned>,
    pub(super) latencies: Mutex<Latencies>,
    pub(super) recording: Recording,
    ending: AtomicBool,
    told_to_end: Arc<Notify>,
    hasher: RandomState,
}

impl State {
    pub(super) fn new() -> Self {
        Self {
            clock: Clock::new(),
            learned: Mutex::new(Learned::default()),
            latencies: Mutex::new(Latencies::default()),
            recording: Recording::new(),
            ending: AtomicBool::new(false),
            told_to_end: Arc::new(Notify::new()),
            hasher: RandomState::new(),
        }
    }

    /// Whose answers are alike: those of one credential, which is not kept.
    pub(super) fn key(&self, headers: &HeaderMap) -> u64 {
        let key = headers.get(AUTHORIZATION).or(headers.get("x-api-key"));
        self.hasher.hash_one(key.map(|key| key.as_bytes()))
    }

    /// Every answer is to end now.
    pub(super) fn end(&self) {
        self.ending.store(true, Ordering::SeqCst);
        contained(|| self.told_to_end.notify_waiters());
    }

    pub(super) fn is_ending(&self) -> bool {
        self.ending.load(Ordering::SeqCst)
    }

    /// Resolves when every answer is to end. It has to be made before [`is_ending`](Self::is_ending) is asked.
    pub(super) fn told_to_end(&self) -> OwnedNotified {
        Arc::clone(&self.told_to_end).notified_owned()
    }
}

/// How long answers take, by their size.
#[derive(Debug, Default)]
pub(super) struct Latencies {
    /// To the first token, by the size of the prompt.
    streamed: Timed,
    /// To the end, by the size of the answer.
    whole: Timed,
    /// After how many more whole answers the last stream is forgotten.
    streams_forgotten_in: u32,
    /// How long an answer lasts, from admission to its end, in seconds: an average over some sixteen.
    lasting: Option<f64>,
}

#[derive(Debug, Default)]
struct Timed {
    norm: Norm,
    /// When it was last learned from, or its word last not taken.
    at: Duration,
}

impl Latencies {
    /// The first token came after `latency`. What the gate is to learn.
    pub(super) fn streamed(
        &mut self,
        now: Duration,
        prompt: u64,
        ahead: u64,
        latency: Duration,
    ) -> Duration {
        self.streams_forgotten_in = REMEMBERED;
        self.streamed.at = now;
        self.streamed.norm.learn(prompt, ahead, latency)
    }

    /// An answer of `output` tokens came whole, after `latency`. What the gate is to learn, if anything: beside streams, whose first
    /// tokens come much earlier, the time of a whole answer would look like congestion.
    pub(super) fn whole(
        &mut self,
        now: Duration,
        output: u64,
        latency: Duration,
    ) -> Option<Duration> {
        self.streams_forgotten_in = self.streams_forgotten_in.saturating_sub(1);
        self.whole.at = now;
        let normal = self.whole.norm.learn(output, 0, latency);
        self.only_whole().then_some(normal)
    }

    /// A caller left after `latency`, before there was an answer. What the gate is to learn, if anything.
    pub(super) fn left(&self, streams: bool, prompt: u64, latency: Duration) -> Option<Duration> {
        match streams {
            true => Some(self.streamed.norm.normal(prompt, latency)),
            false => self.only_whole().then_some(latency),
        }
    }

    /// A request is let in whose answer is streamed. How many tokens of giants are ahead of it.
    pub(super) fn arrives(&mut self, now: Duration, prompt: u64) -> u64 {
        self.streamed.norm.arrives(now, prompt)
    }

    /// An answer has ended that lasted so long.
    pub(super) fn lasted(&mut self, time: Duration) {
        let seconds = time.as_secs_f64();
        let lasting = self.lasting.get_or_insert(seconds);
        *lasting += (seconds - *lasting) / 16.0;
    }

    /// How long one waits behind `waiting` others where `running` run at once, by Little's law.
    pub(super) fn wait(&self, waiting: usize, running: usize) -> Duration {
        let turns = (waiting as f64 + 1.0) / running.max(1) as f64;
        let seconds = turns * self.lasting.unwrap_or(0.0);
        Duration::try_from_secs_f64(seconds).unwrap_or(Duration::MAX)
    }

    /// How long it takes at present until there is something to read, as far as is known. What was learned grows old: when nothing new
    /// was for as long as an answer takes, one request is let through to find out, so that nobody is refused for ever on
    /// the word of a bad hour.
    pub(super) fn expected(&mut self, now: Duration, streams: bool, size: u64) -> Option<Duration> {
        let timed = match streams {
            true => &mut self.streamed,
            false => &mut self.whole,
        };
        let expected = timed.norm.expected(size)?;
        if now.saturating_sub(timed.at) > expected.max(SECOND) {
            timed.at = now;
            return None;
        }
        Some(expected)
    }

    fn only_whole(&self) -> bool {
        self.streams_forgotten_in == 0
    }
}

/// What every service, body and future of a layer holds.
#[derive(Clone)]
pub(super) struct Shared {
    pub(super) settings: Arc<Settings>,
    pub(super) state: Arc<State>,
}

impl Shared {
    pub(super) fn now(&self) -> Duration {
        self.state.clock.now()
    }

    pub(super) fn latencies<R>(&self, f: impl FnOnce(&mut Latencies) -> R) -> R {
        f(&mut lock(&self.state.latencies))
    }
}

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.settings.fmt(f)
    }
}

impl fmt::Debug for Settings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Settings")
            .field("weights", &self.weights)
            .field("max_body", &self.max_body)
            .field("hold_head", &self.hold_head)
            .field("first_token_timeout", &self.first_token_timeout)
            .field("token_timeout", &self.token_timeout)
            .field("answer_timeout", &self.answer_timeout)
            .finish_non_exhaustive()
    }
}
