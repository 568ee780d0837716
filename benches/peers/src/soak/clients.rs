//! What clients do, well-behaved and not.

use std::{
    io,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering::SeqCst},
    },
    time::Duration,
};

use axum::body::{Body, Bytes};
use fastrand::Rng;
use http::{Request, response};
use http_body_util::BodyExt;
use hyper::client::conn::http2::{SendRequest, handshake};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::{
    net::TcpStream,
    task::JoinSet,
    time::{sleep, timeout},
};

use super::{
    Seen,
    server::{CELL, ID, REFUSED, cell},
    wire::{Connection, wrong},
};

#[derive(Clone, Copy, Debug)]
pub(super) enum Kind {
    /// Keeps its connection, asks, reads all of the answer.
    Polite,
    /// Asks four times before it reads.
    Pipelines,
    /// Leaves in the middle of sending a body.
    HalfSends,
    /// Leaves while it waits for the answer.
    LeavesWaiting,
    /// Leaves in the middle of a stream.
    LeavesStream,
    /// Sends a reset in the middle of a stream, or before the answer.
    Resets,
    /// Reads all of a large answer, slowly.
    ReadsSlowly,
    /// Asks for a large answer and does not read it.
    NeverReads,
    /// Calls a handler that panics.
    Panics,
    /// Many requests on one HTTP/2 connection, some of which it resets.
    Multiplexes,
}

use Kind::*;

impl Kind {
    pub(super) fn is_http2(self) -> bool {
        matches!(self, Multiplexes)
    }
}

/// All that are at a server at once.
pub(super) const KINDS: [Kind; 32] = [
    Polite,
    Polite,
    Polite,
    Polite,
    Polite,
    Polite,
    Polite,
    Polite,
    Pipelines,
    Pipelines,
    Pipelines,
    HalfSends,
    HalfSends,
    LeavesWaiting,
    LeavesWaiting,
    LeavesWaiting,
    LeavesWaiting,
    LeavesStream,
    LeavesStream,
    LeavesStream,
    Resets,
    Resets,
    Resets,
    Resets,
    ReadsSlowly,
    ReadsSlowly,
    NeverReads,
    NeverReads,
    Panics,
    Panics,
    Multiplexes,
    Multiplexes,
];

/// So that those who open connections do not use up the ports.
const BETWEEN_CONNECTIONS: Duration = Duration::from_millis(40);
/// More than the sockets hold of one who takes little at a time.
const LARGE: &str = "/stream/0/20/1000";
/// More than they ever hold.
const ENDLESS: &str = "/stream/0/1000/1000";

static NEXT: AtomicU64 = AtomicU64::new(1);

fn next() -> u64 {
    NEXT.fetch_add(1, SeqCst)
}

/// Goes on until it is over.
pub(super) async fn run(
    kind: Kind,
    address: SocketAddr,
    mut random: Rng,
    over: Arc<AtomicBool>,
) -> io::Result<Seen> {
    let mut seen = Seen::default();
    while !over.load(SeqCst) {
        match kind {
            Polite => polite(address, &mut random, &over, &mut seen).await?,
            Pipelines => pipelines(address, &mut random, &over, &mut seen).await?,
            Multiplexes => multiplexes(address, &mut random, &over, &mut seen).await?,
            ReadsSlowly => {
                let mut connection = Connection::open_narrow(address).await?;
                connection.pause = Duration::from_millis(2);
                let id = next();
                connection.send(&get(LARGE, id)).await?;
                read(&mut connection, id, &mut seen).await?;
            }
            _ => leaves(kind, address, &mut random, &mut seen).await?,
        }
        sleep(BETWEEN_CONNECTIONS).await;
    }
    Ok(seen)
}

fn get(path: &str, id: u64) -> String {
    format!("GET {path} HTTP/1.1\r\nhost: soak\r\n{ID}: {id}\r\n\r\n")
}

fn some_path(random: &mut Rng) -> String {
    match random.bool() {
        true => format!("/whole/{}/{}", random.u32(0..4), random.u32(0..200)),
        false => format!("/stream/{}/{}/20", random.u32(0..3), random.u32(0..5)),
    }
}

/// Reads one answer. Whether the connection may be used again.
async fn read(connection: &mut Connection, id: u64, seen: &mut Seen) -> io::Result<bool> {
    let Some(head) = connection.head(id).await? else {
        return Err(wrong(format!("{id} was not answered")));
    };
    let Some(again) = connection.body(&head).await? else {
        return Err(wrong(format!("the answer to {id} was cut off")));
    };
    seen.answered += 1;
    seen.refused += u64::from(head.refused);
    Ok(again)
}

async fn polite(
    address: SocketAddr,
    random: &mut Rng,
    over: &AtomicBool,
    seen: &mut Seen,
) -> io::Result<()> {
    let mut connection = Connection::open(address).await?;
    while !over.load(SeqCst) {
        let id = next();
        connection.send(&get(&some_path(random), id)).await?;
        if !read(&mut connection, id, seen).await? {
            break;
        }
        if connection.has_more() {
            return Err(wrong(format!("{id} was answered twice")));
        }
    }
    Ok(())
}

async fn pipelines(
    address: SocketAddr,
    random: &mut Rng,
    over: &AtomicBool,
    seen: &mut Seen,
) -> io::Result<()> {
    let mut connection = Connection::open(address).await?;
    while !over.load(SeqCst) {
        let ids: Vec<_> = (0..4).map(|_| next()).collect();
        let requests = ids.iter().map(|id| get(&some_path(random), *id));
        connection.send(&requests.collect::<String>()).await?;
        for id in ids {
            if !read(&mut connection, id, seen).await? {
                return Ok(());
            }
        }
        if connection.has_more() {
            return Err(wrong("one of four was answered twice"));
        }
    }
    Ok(())
}

/// Those who do not see the end of what they asked for.
async fn leaves(
    kind: Kind,
    address: SocketAddr,
    random: &mut Rng,
    seen: &mut Seen,
) -> io::Result<()> {
    let mut connection = match kind {
        NeverReads => Connection::open_narrow(address).await?,
        _ => Connection::open(address).await?,
    };
    let a_moment = Duration::from_millis(random.u64(0..8));
    let id = next();
    let path = match kind {
        LeavesWaiting => "/whole/20/10".to_owned(),
        LeavesStream | Resets => "/stream/2/20/100".to_owned(),
        NeverReads => ENDLESS.to_owned(),
        _ => "/panic".to_owned(),
    };
    seen.left += 1;
    if let HalfSends = kind {
        let half = format!(
            "POST /upload HTTP/1.1\r\nhost: soak\r\n{ID}: {id}\r\ncontent-length: 1000\r\n\r\nhalf"
        );
        connection.send(&half).await?;
        sleep(a_moment).await;
        return Ok(());
    }
    connection.send(&get(&path, id)).await?;
    match kind {
        LeavesWaiting => sleep(a_moment).await,
        LeavesStream => {
            connection.head(id).await?;
        }
        NeverReads => {
            sleep(Duration::from_millis(100)).await;
            connection.stream.set_zero_linger()?;
        }
        Resets => {
            if random.bool() {
                connection.head(id).await?;
            }
            sleep(a_moment).await;
            connection.stream.set_zero_linger()?;
        }
        // Refused, or cut off.
        _ => {
            connection.head(id).await?;
        }
    }
    Ok(())
}

/// Until it is over, or the server closes the connection, as it does when it is sent many resets at once.
async fn multiplexes(
    address: SocketAddr,
    random: &mut Rng,
    over: &AtomicBool,
    seen: &mut Seen,
) -> io::Result<()> {
    let stream = TcpStream::connect(address).await?;
    let io = TokioIo::new(stream);
    let (sender, connection) = handshake(TokioExecutor::new(), io).await.map_err(wrong)?;
    let connection = tokio::spawn(connection);
    let mut streams = JoinSet::new();
    while !over.load(SeqCst) && !sender.is_closed() {
        while streams.len() < 10 {
            // Some are reset after a while, wherever they are then.
            let patience = random
                .bool()
                .then(|| Duration::from_millis(random.u64(0..10)));
            let one = one_of_many(sender.clone(), some_path(random), patience);
            streams.spawn(one);
        }
        if let Some(one) = streams.join_next().await {
            count(one.map_err(wrong)??, seen);
        }
    }
    while let Some(one) = streams.join_next().await {
        count(one.map_err(wrong)??, seen);
    }
    drop(sender);
    // It ends when nobody can send on it any more.
    let _ = connection.await.map_err(wrong)?;
    Ok(())
}

fn count(one: Option<bool>, seen: &mut Seen) {
    match one {
        Some(refused) => {
            seen.answered += 1;
            seen.refused += u64::from(refused);
        }
        None => seen.left += 1,
    }
}

/// Whether it was refused; `None` if it was left, or the connection closed.
async fn one_of_many(
    sender: SendRequest<Body>,
    path: String,
    patience: Option<Duration>,
) -> io::Result<Option<bool>> {
    let id = next();
    let whole = whole_answer(sender, path, id);
    let answer = match patience {
        None => whole.await.ok(),
        Some(patience) => timeout(patience, whole).await.ok().and_then(Result::ok),
    };
    let Some((head, body)) = answer else {
        return Ok(None);
    };
    let refused = head.headers.contains_key(REFUSED);
    let whose = head.headers.get(ID).and_then(|id| id.to_str().ok());
    if whose.is_none_or(|whose| whose != id.to_string()) {
        return Err(wrong(format!("the answer to {whose:?} came for {id}")));
    }
    if !refused && body.chunks(CELL).any(|one| one != cell(id)) {
        return Err(wrong(format!("a byte of another's in the answer to {id}")));
    }
    Ok(Some(refused))
}

async fn whole_answer(
    mut sender: SendRequest<Body>,
    path: String,
    id: u64,
) -> hyper::Result<(response::Parts, Bytes)> {
    let request = Request::get(format!("http://soak{path}"))
        .header(ID, id)
        .body(Body::empty())
        .expect("a valid request");
    sender.ready().await?;
    let (head, body) = sender.send_request(request).await?.into_parts();
    Ok((head, body.collect().await?.to_bytes()))
}
