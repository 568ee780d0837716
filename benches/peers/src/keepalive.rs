//! An axum server on loopback, and a client that keeps connections open and asks again as soon as it is answered.
//!
//! Each has a thread of its own. The client never sleeps, so that the server never has to wake it, and the server always
//! has a request to go on with: what is counted is what the server can do.

use std::{
    convert::Infallible,
    fs,
    io::{self, ErrorKind, Read, Write},
    net::{SocketAddr, TcpStream},
    sync::mpsc,
    thread,
    time::{Duration, Instant},
};

use axum::{ServiceExt, extract::Request, response::Response, serve::ListenerExt};
use tokio::net::TcpListener;
use tower::Service;

/// How many requests the server has before it at any time.
const CONNECTIONS: usize = 16;
const REQUEST: &[u8] = b"GET / HTTP/1.1\r\nhost: localhost\r\naccept: */*\r\n\r\n";

/// A server, and the connections to it.
#[derive(Debug)]
pub struct Server {
    thread: Thread,
    connections: Vec<Connection>,
}

#[derive(Debug)]
struct Connection {
    stream: TcpStream,
    sent: Instant,
    buffer: [u8; 4096],
    filled: usize,
}

/// What a server serves: a router, or one with layers around it.
pub trait App:
    Service<Request, Response = Response, Error = Infallible, Future: Send> + Clone + Send + 'static
{
}

impl<S> App for S where
    S: Service<Request, Response = Response, Error = Infallible, Future: Send>
        + Clone
        + Send
        + 'static
{
}

/// What the server has done in a round.
#[derive(Debug)]
pub struct Served {
    /// Answers per second.
    pub per_second: f64,
    /// Below it were 99 of 100 latencies, in microseconds.
    pub p99_micros: f64,
    /// Processor time of the server's thread for each answer, in microseconds.
    pub cpu_micros: f64,
    /// The share of the time in which the server's thread ran.
    pub busy: f64,
    /// The share of answers that had this status.
    pub right: f64,
}

impl Server {
    /// Starts to serve `app`, and connects to it.
    ///
    /// # Errors
    ///
    /// If there is no port, or no connection.
    pub fn start(app: impl App) -> io::Result<Self> {
        let (address, thread) = serve(app)?;
        let connections: io::Result<_> = (0..CONNECTIONS).map(|_| connect(address)).collect();
        Ok(Self {
            thread,
            connections: connections?,
        })
    }

    /// Asks for `round`, and expects answers of the given `status`.
    ///
    /// # Errors
    ///
    /// If a connection breaks, or an answer is not HTTP.
    #[allow(clippy::disallowed_methods, reason = "real time is what is measured")]
    pub fn load(&mut self, round: Duration, status: u16) -> io::Result<Served> {
        let mut latencies: Vec<u32> = Vec::with_capacity(1 << 16);
        let mut right = 0;
        let ran = self.thread.ran()?;
        let begin = Instant::now();
        for connection in &mut self.connections {
            connection.ask(begin)?;
        }
        let mut waiting = CONNECTIONS;
        let mut elapsed = Duration::ZERO;
        while waiting > 0 {
            for connection in &mut self.connections {
                let Some(answer) = connection.answer()? else {
                    continue;
                };
                let now = Instant::now();
                elapsed = now - begin;
                latencies.push((now - connection.sent).as_nanos() as u32);
                right += usize::from(answer == status);
                if elapsed < round {
                    connection.ask(now)?;
                } else {
                    waiting -= 1;
                }
            }
        }
        let ran = self.thread.ran()? - ran;
        let count = latencies.len();
        let (_, p99, _) = latencies.select_nth_unstable(count * 99 / 100);
        Ok(Served {
            per_second: count as f64 / elapsed.as_secs_f64(),
            p99_micros: f64::from(*p99) / 1e3,
            cpu_micros: ran.as_secs_f64() * 1e6 / count as f64,
            busy: ran.as_secs_f64() / elapsed.as_secs_f64(),
            right: right as f64 / count as f64,
        })
    }
}

/// Serves `app` on a thread of its own, and says where.
///
/// # Errors
///
/// If there is no port.
pub(crate) fn serve(app: impl App) -> io::Result<(SocketAddr, Thread)> {
    let (started, starting) = mpsc::channel();
    thread::spawn(move || -> io::Result<()> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        runtime.block_on(async {
            let listener = TcpListener::bind("127.0.0.1:0").await?;
            let thread = fs::read_link("/proc/thread-self")?;
            let _ = started.send((listener.local_addr()?, thread));
            let listener = listener.tap_io(|stream| {
                let _ = stream.set_nodelay(true);
            });
            axum::serve(listener, app.into_make_service()).await
        })
    });
    let (address, thread) = starting
        .recv()
        .map_err(|_| io::Error::other("the server did not start"))?;
    let thread = Thread(format!("/proc/{}/schedstat", thread.display()));
    Ok((address, thread))
}

/// Where the kernel accounts for a thread.
#[derive(Debug)]
pub(crate) struct Thread(String);

impl Thread {
    /// For how long it has run.
    pub(crate) fn ran(&self) -> io::Result<Duration> {
        let stat = fs::read_to_string(&self.0)?;
        let nanos = stat.split(' ').next().and_then(|nanos| nanos.parse().ok());
        nanos
            .map(Duration::from_nanos)
            .ok_or_else(|| io::Error::other(format!("no processor time in {stat:?}")))
    }
}

#[allow(clippy::disallowed_methods, reason = "real time is what is measured")]
fn connect(address: SocketAddr) -> io::Result<Connection> {
    let stream = TcpStream::connect(address)?;
    stream.set_nodelay(true)?;
    stream.set_nonblocking(true)?;
    Ok(Connection {
        stream,
        sent: Instant::now(),
        buffer: [0; 4096],
        filled: 0,
    })
}

impl Connection {
    fn ask(&mut self, now: Instant) -> io::Result<()> {
        self.sent = now;
        self.filled = 0;
        // It is short, and the last one has been answered: there is room for it.
        self.stream.write_all(REQUEST)
    }

    /// The status, once the answer is there to its end.
    fn answer(&mut self) -> io::Result<Option<u16>> {
        match self.stream.read(&mut self.buffer[self.filled..]) {
            Ok(0) => return Err(ErrorKind::UnexpectedEof.into()),
            Ok(read) => self.filled += read,
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(None),
            Err(error) => return Err(error),
        }
        let mut headers = [httparse::EMPTY_HEADER; 16];
        let mut response = httparse::Response::new(&mut headers);
        let head = response.parse(&self.buffer[..self.filled]);
        let httparse::Status::Complete(head) = head.map_err(io::Error::other)? else {
            return Ok(None);
        };
        let length = response
            .headers
            .iter()
            .find(|header| header.name.eq_ignore_ascii_case("content-length"))
            .and_then(|header| {
                std::str::from_utf8(header.value)
                    .ok()?
                    .parse::<usize>()
                    .ok()
            })
            .ok_or_else(|| io::Error::other("an answer without its length"))?;
        Ok((self.filled >= head + length)
            .then_some(response.code)
            .flatten())
    }
}
