//! A server behind each strategy for as long as one likes, and clients that do to it what clients do.
//!
//! They keep connections open and ask in pipelines, leave in the middle of a request, of the wait and of a stream, send resets,
//! read slowly or not at all; meanwhile the limit moves. At rest nothing may be left, every count must add up, and memory
//! must have stopped growing.

mod clients;
mod server;
mod wire;

use std::{
    fs, io,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::SeqCst},
    },
    time::Duration,
};

use tokio::{
    task::JoinSet,
    time::{sleep, timeout},
};
use tower_backpressure::{
    BackpressureLayer,
    limit::{Aimd, Gradient2, Vegas},
    rate::TokenBucket,
};

use self::server::Server;

/// How long what is under way may take to end.
const PATIENCE: Duration = Duration::from_secs(10);
/// How often it is looked whether it has.
const LOOKS: Duration = Duration::from_millis(10);
/// The limit is moved so often.
const MOVES: Duration = Duration::from_millis(5);
const HIGHEST_LIMIT: usize = 16;

/// What clients saw, in all.
#[derive(Clone, Copy, Debug, Default)]
pub struct Seen {
    /// Answers that were read to their end, each that of its request.
    pub answered: u64,
    /// Of them refusals.
    pub refused: u64,
    /// Requests that were left before their end.
    pub left: u64,
}

impl Seen {
    fn add(&mut self, other: Self) {
        self.answered += other.answered;
        self.refused += other.refused;
        self.left += other.left;
    }
}

/// A server behind one strategy, for all rounds.
#[derive(Debug)]
pub struct Stage {
    /// What the table calls it.
    pub name: &'static str,
    server: Server,
    seen: Seen,
}

/// One for each strategy.
///
/// # Errors
///
/// If there is no port.
pub async fn stages() -> io::Result<Vec<Stage>> {
    let max_wait = Duration::from_millis(20);
    let bucket = || TokenBucket::per_second(500).burst(20);
    let layers = [
        ("block", BackpressureLayer::block(8)),
        (
            "block, max_wait",
            BackpressureLayer::block(8).max_wait(max_wait),
        ),
        (
            "block, max_waiting",
            BackpressureLayer::block(8).max_waiting(4),
        ),
        (
            "block, exempt",
            // Has everybody wait in the call.
            BackpressureLayer::block(8).exempt(|head| head.uri.path() == "/healthz"),
        ),
        ("drop_newest", BackpressureLayer::drop_newest(8)),
        (
            "drop_newest, waiting",
            BackpressureLayer::drop_newest(8)
                .max_waiting(4)
                .max_wait(max_wait),
        ),
        ("drop_oldest", BackpressureLayer::drop_oldest(8, 8)),
        (
            "adaptive(Aimd)",
            BackpressureLayer::adaptive(Aimd::default()),
        ),
        (
            "adaptive(Gradient2), waiting",
            BackpressureLayer::adaptive(Gradient2::default()).max_waiting(8),
        ),
        (
            "adaptive(Vegas)",
            BackpressureLayer::adaptive(Vegas::default()),
        ),
        ("rate", BackpressureLayer::rate(bucket())),
        (
            "drop_oldest and a rate",
            BackpressureLayer::drop_oldest(8, 8).and_rate(bucket()),
        ),
    ];
    let mut stages = Vec::new();
    for (name, layer) in layers {
        stages.push(Stage {
            name,
            server: Server::start(layer).await?,
            seen: Seen::default(),
        });
    }
    Ok(stages)
}

impl Stage {
    /// Lets clients at the server for `time`, and waits until all is quiet. Some of them speak HTTP/2, if they may.
    ///
    /// # Errors
    ///
    /// What is wrong: an answer that is not that of its request, or something that is left at rest.
    pub async fn round(&mut self, time: Duration, seed: u64, http2: bool) -> Result<(), String> {
        let over = Arc::new(AtomicBool::new(false));
        let mut clients = JoinSet::new();
        let kinds = clients::KINDS
            .iter()
            .filter(|kind| http2 || !kind.is_http2());
        for (nth, kind) in kinds.enumerate() {
            let random = fastrand::Rng::with_seed(seed << 8 | nth as u64);
            let over = Arc::clone(&over);
            clients.spawn(clients::run(*kind, self.server.address, random, over));
        }
        self.move_limit(time, seed).await;
        over.store(true, SeqCst);
        timeout(PATIENCE, self.join(clients))
            .await
            .unwrap_or_else(|_| Err(self.wrong("a client is stuck")))?
            .into_iter()
            .for_each(|seen| self.seen.add(seen));
        self.quiet().await
    }

    async fn join(&self, mut clients: JoinSet<io::Result<Seen>>) -> Result<Vec<Seen>, String> {
        let mut seen = Vec::new();
        while let Some(client) = clients.join_next().await {
            let client = client.map_err(|error| self.wrong(error))?;
            seen.push(client.map_err(|error| self.wrong(error))?);
        }
        Ok(seen)
    }

    async fn move_limit(&self, time: Duration, seed: u64) {
        let mut random = fastrand::Rng::with_seed(seed);
        let limited = self.name != "rate";
        for _ in 0..time.as_millis() / MOVES.as_millis() {
            sleep(MOVES).await;
            if limited {
                let limit = random.usize(1..=HIGHEST_LIMIT);
                self.server.handle.set_limit(limit);
            }
            let _ = self.server.handle.snapshot();
        }
    }

    async fn quiet(&self) -> Result<(), String> {
        let mut last = Ok(());
        for _ in 0..PATIENCE.as_millis() / LOOKS.as_millis() {
            last = self.server.check();
            if last.is_ok() {
                break;
            }
            sleep(LOOKS).await;
        }
        last.map_err(|wrong| self.wrong(wrong))
    }

    fn wrong(&self, what: impl std::fmt::Display) -> String {
        format!("{}: {what}", self.name)
    }

    /// A line of the table.
    pub fn report(&self) -> String {
        let metrics = self.server.handle.snapshot();
        let Seen {
            answered,
            refused,
            left,
        } = self.seen;
        format!(
            "{:30} {:>8} {:>8} {:>8} {:>8} {:>9} {:>8} {:>8}",
            self.name,
            metrics.produced_count,
            metrics.consumed_count,
            metrics.dropped_count,
            metrics.produced_count - metrics.consumed_count - metrics.dropped_count,
            answered,
            refused,
            left,
        )
    }
}

/// The head of the table.
pub fn heading() -> String {
    format!(
        "{:30} {:>8} {:>8} {:>8} {:>8} {:>9} {:>8} {:>8}",
        "", "came", "let in", "refused", "left", "answered", "of them", "aborted"
    )
}

/// The memory of this process that is in use, in bytes.
///
/// # Errors
///
/// Where there is no such file.
pub fn resident() -> io::Result<u64> {
    const PAGE: u64 = 4096;
    let statm = fs::read_to_string("/proc/self/statm")?;
    let pages = statm.split_whitespace().nth(1);
    let pages = pages.and_then(|pages| pages.parse::<u64>().ok());
    pages
        .map(|pages| pages * PAGE)
        .ok_or_else(|| io::Error::other(format!("statm is {statm:?}")))
}
