//! A proxy before an LLM on loopback, and around it what asks it and what it asks: many streams at once, an event for a token.
//!
//! The proxy has a thread of its own, and another one is both the clients and the LLM, so that it knows what is on its way: the next
//! events of a stream are written when all but a given number have come out at the other end. It never sleeps, so that the proxy
//! always has something to go on with: what is counted is what the proxy can do.

use std::{
    io::{self, ErrorKind, Read, Write},
    net::{TcpListener, TcpStream},
    time::{Duration, Instant},
};

use axum::Router;

use crate::keepalive::{Thread, serve};

/// How many streams there are at any time.
pub const STREAMS: usize = 200;
/// How many tokens an answer has.
pub const TOKENS: usize = 200;

const HEAD: &str =
    "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n";
const END: &[u8] = b"0\r\n\r\n";
/// An empty line: neither heads nor the frame around a chunk have one that ends so.
const EVENT_END: u8 = b'\n';
const BODY: &str = r#"{"model":"gpt-4.1-2025-04-14","messages":[{"role":"system","content":"You are a helpful assistant."},{"role":"user","content":"Will it rain in Utrecht tomorrow? Should I take an umbrella, or will a coat do? Please answer at length."}],"temperature":0.7,"stream":true}"#;

/// A proxy, its clients and the LLM behind it.
#[derive(Debug)]
pub struct Proxy {
    thread: Thread,
    listener: TcpListener,
    streams: Vec<Stream>,
    connections: Vec<Connection>,
    events: Events,
    buffer: Box<[u8]>,
}

/// What the proxy has done in a round.
#[derive(Debug)]
pub struct Served {
    /// Tokens per second.
    pub per_second: f64,
    /// Processor time of the proxy's thread for each token, in microseconds.
    pub cpu_micros: f64,
    /// The share of the time in which the proxy's thread ran.
    pub busy: f64,
}

/// A client.
#[derive(Debug)]
struct Stream {
    socket: TcpStream,
    request: String,
    /// How many tokens its next answer has. The first answers differ, so that they do not all end at once.
    tokens: usize,
    /// The connection on which it is answered.
    answered_by: Option<usize>,
    asked: bool,
    sent: usize,
    /// How many events have come.
    came: usize,
    /// The last bytes that came.
    tail: [u8; 5],
}

/// From the proxy to the LLM.
#[derive(Debug)]
struct Connection {
    socket: TcpStream,
    request: Vec<u8>,
    busy: bool,
}

/// As they go over the wire, each a chunk.
#[derive(Debug)]
struct Events {
    begin: Vec<u8>,
    token: Vec<u8>,
    end: Vec<u8>,
}

impl Events {
    fn new() -> Self {
        let role = event(
            r#"{"role":"assistant","content":"","refusal":null}"#,
            "null",
        );
        let stop = event("{}", "\"stop\"");
        let usage = r#"data: {"id":"chatcmpl-B9MBs8CjcvOU2jLn4n570S5qMJKcT","object":"chat.completion.chunk","created":1741569952,"model":"gpt-4.1-2025-04-14","choices":[],"usage":{"prompt_tokens":52,"completion_tokens":200,"total_tokens":252,"prompt_tokens_details":{"cached_tokens":0},"completion_tokens_details":{"reasoning_tokens":0}}}"#;
        let mut end = Vec::new();
        for event in [&*stop, &format!("{usage}\n\n"), "data: [DONE]\n\n"] {
            end.extend(chunk(event));
        }
        end.extend(END);
        Self {
            begin: [HEAD.as_bytes(), &chunk(&role)].concat(),
            token: chunk(&event(r#"{"content":" umbrella"}"#, "null")),
            end,
        }
    }
}

/// Some 300 bytes, with what OpenAI puts into each.
fn event(delta: &str, finish: &str) -> String {
    format!(
        r#"data: {{"id":"chatcmpl-B9MBs8CjcvOU2jLn4n570S5qMJKcT","object":"chat.completion.chunk","created":1741569952,"model":"gpt-4.1-2025-04-14","service_tier":"default","system_fingerprint":"fp_b376dfbbd5","choices":[{{"index":0,"delta":{delta},"logprobs":null,"finish_reason":{finish}}}],"usage":null}}"#
    ) + "\n\n"
}

fn chunk(event: &str) -> Vec<u8> {
    format!("{:x}\r\n{event}\r\n", event.len()).into_bytes()
}

impl Proxy {
    /// Starts the proxy that `app` makes before the LLM at an address, and connects to it.
    ///
    /// # Errors
    ///
    /// If there is no port, or no connection.
    pub fn start(app: impl FnOnce(std::net::SocketAddr) -> Router) -> io::Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        listener.set_nonblocking(true)?;
        let (address, thread) = serve(app(listener.local_addr()?))?;
        let streams = (0..STREAMS).map(|number| {
            Ok(Stream {
                socket: ready(TcpStream::connect(address)?)?,
                request: format!(
                    "POST /v1/chat/completions HTTP/1.1\r\nhost: localhost\r\nauthorization: Bearer sk-bench\r\n\
                     content-type: application/json\r\nx-stream: {number}\r\ncontent-length: {}\r\n\r\n{BODY}",
                    BODY.len()
                ),
                tokens: TOKENS * (number + 1) / STREAMS,
                answered_by: None,
                asked: false,
                sent: 0,
                came: 0,
                tail: [0; 5],
            })
        });
        Ok(Self {
            thread,
            streams: streams.collect::<io::Result<_>>()?,
            listener,
            connections: Vec::new(),
            events: Events::new(),
            buffer: vec![0; 64 * 1024].into(),
        })
    }

    /// Streams for `round`, with up to `ahead` tokens of each stream on their way at once.
    ///
    /// # Errors
    ///
    /// If a connection breaks, or an answer is not what it should be.
    #[allow(clippy::disallowed_methods, reason = "real time is what is measured")]
    pub fn load(&mut self, round: Duration, ahead: usize) -> io::Result<Served> {
        let ran = self.thread.ran()?;
        let begin = Instant::now();
        let mut tokens = 0;
        let mut elapsed = Duration::ZERO;
        let mut quiet = false;
        while !quiet {
            elapsed = begin.elapsed();
            let goes_on = elapsed < round;
            quiet = !goes_on;
            let mut unanswered = false;
            for number in 0..STREAMS {
                let stream = &mut self.streams[number];
                if goes_on && !stream.asked {
                    stream.ask()?;
                }
                let Some(connection) = stream.answered_by else {
                    unanswered |= stream.asked;
                    quiet &= !stream.asked;
                    continue;
                };
                stream.come(&mut self.buffer)?;
                let connection = &mut self.connections[connection];
                if stream.is_over() {
                    stream.end()?;
                    connection.busy = false;
                    continue;
                }
                while goes_on && stream.is_to_have_more(ahead) {
                    stream.sent += 1;
                    tokens += 1;
                    connection.write(&self.events.token)?;
                    if stream.sent == stream.tokens {
                        connection.write(&self.events.end)?;
                    }
                }
                quiet &= stream.is_between_tokens();
            }
            if unanswered {
                tokens += self.begin_answers()?;
            }
        }
        let ran = (self.thread.ran()? - ran).as_secs_f64();
        Ok(Served {
            per_second: f64::from(tokens) / elapsed.as_secs_f64(),
            cpu_micros: ran * 1e6 / f64::from(tokens),
            busy: ran / elapsed.as_secs_f64(),
        })
    }

    /// As the LLM: takes new connections and begins to answer requests, each with its first token. How many tokens those were.
    fn begin_answers(&mut self) -> io::Result<u32> {
        loop {
            match self.listener.accept() {
                Ok((socket, _)) => self.connections.push(Connection {
                    socket: ready(socket)?,
                    request: Vec::new(),
                    busy: false,
                }),
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) => return Err(error),
            }
        }
        let mut begun = 0;
        for (at, connection) in self.connections.iter_mut().enumerate() {
            if connection.busy {
                continue;
            }
            let Some(number) = connection.asked(&mut self.buffer)? else {
                continue;
            };
            connection.busy = true;
            connection.write(&self.events.begin)?;
            connection.write(&self.events.token)?;
            let stream = &mut self.streams[number];
            stream.answered_by = Some(at);
            stream.sent = 1;
            begun += 1;
            if stream.sent == stream.tokens {
                connection.write(&self.events.end)?;
            }
        }
        Ok(begun)
    }
}

fn ready(socket: TcpStream) -> io::Result<TcpStream> {
    socket.set_nodelay(true)?;
    socket.set_nonblocking(true)?;
    Ok(socket)
}

/// What is there, if anything.
fn read<'a>(mut socket: &TcpStream, buffer: &'a mut [u8]) -> io::Result<&'a [u8]> {
    match socket.read(buffer) {
        Ok(0) => Err(ErrorKind::UnexpectedEof.into()),
        Ok(read) => Ok(&buffer[..read]),
        Err(error) if error.kind() == ErrorKind::WouldBlock => Ok(&[]),
        Err(error) => Err(error),
    }
}

impl Stream {
    fn ask(&mut self) -> io::Result<()> {
        self.asked = true;
        self.socket.write_all(self.request.as_bytes())
    }

    fn come(&mut self, buffer: &mut [u8]) -> io::Result<()> {
        let came = read(&self.socket, buffer)?;
        let (Some(&first), Some(last)) = (came.first(), came.len().checked_sub(1)) else {
            return Ok(());
        };
        if self.tail == [0; 5] && !came.starts_with(b"HTTP/1.1 200") {
            let text = String::from_utf8_lossy(came);
            return Err(io::Error::other(format!("an answer was {text}")));
        }
        let pairs = came[..last].iter().zip(&came[1..]);
        self.came += pairs
            .filter(|(one, next)| **one == EVENT_END && **next == EVENT_END)
            .count();
        self.came += usize::from(self.tail[4] == EVENT_END && first == EVENT_END);
        let end = &came[came.len().saturating_sub(5)..];
        self.tail.rotate_left(end.len());
        self.tail[5 - end.len()..].copy_from_slice(end);
        Ok(())
    }

    /// Beside its tokens an answer has an event that says who speaks.
    fn is_to_have_more(&self, ahead: usize) -> bool {
        self.sent < self.tokens && self.sent + 1 < self.came + ahead
    }

    fn is_between_tokens(&self) -> bool {
        self.sent < self.tokens && self.sent < self.came
    }

    fn is_over(&self) -> bool {
        self.sent == self.tokens && self.tail == END
    }

    /// With the events of its role, of its end and after it; and of its usage, unless that was hidden.
    fn end(&mut self) -> io::Result<()> {
        let others = self.came - self.tokens;
        if !matches!(others, 3 | 4) {
            let text = format!("{others} events beside the {} tokens", self.tokens);
            return Err(io::Error::other(text));
        }
        self.tokens = TOKENS;
        self.answered_by = None;
        self.asked = false;
        (self.sent, self.came) = (0, 0);
        self.tail = [0; 5];
        Ok(())
    }
}

impl Connection {
    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        // What is on its way is little: there is room for it.
        self.socket.write_all(bytes)
    }

    /// Which stream it is whose request is there to its end.
    fn asked(&mut self, buffer: &mut [u8]) -> io::Result<Option<usize>> {
        self.request.extend_from_slice(read(&self.socket, buffer)?);
        if self.request.is_empty() {
            return Ok(None);
        }
        let mut headers = [httparse::EMPTY_HEADER; 16];
        let mut request = httparse::Request::new(&mut headers);
        let head = request.parse(&self.request).map_err(io::Error::other)?;
        let httparse::Status::Complete(head) = head else {
            return Ok(None);
        };
        let number = |name: &str| -> io::Result<usize> {
            let mut headers = request.headers.iter();
            let header = headers.find(|header| header.name.eq_ignore_ascii_case(name));
            let value =
                header.and_then(|header| std::str::from_utf8(header.value).ok()?.parse().ok());
            value.ok_or_else(|| io::Error::other(format!("a request without {name}")))
        };
        if self.request.len() < head + number("content-length")? {
            return Ok(None);
        }
        let stream = number("x-stream")?;
        self.request.clear();
        Ok(Some(stream))
    }
}
