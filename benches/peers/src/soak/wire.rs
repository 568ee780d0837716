//! As much of HTTP/1.1 as a badly behaved client needs, by hand, so that nothing tidies up behind it.

use std::{io, net::SocketAddr, time::Duration};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpSocket, TcpStream},
    time::sleep,
};

use super::server::{CELL, ID, REFUSED, cell};

/// What is read at a time by who reads slowly.
const SIP: usize = 4096;

pub(super) struct Connection {
    pub(super) stream: TcpStream,
    unread: Vec<u8>,
    /// How long to wait before each reading.
    pub(super) pause: Duration,
}

pub(super) struct Head {
    id: u64,
    pub(super) refused: bool,
    body: Length,
    closes: bool,
}

enum Length {
    Exact(usize),
    Chunked,
}

impl Connection {
    pub(super) async fn open(address: SocketAddr) -> io::Result<Self> {
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        Ok(Self::on(stream))
    }

    /// One that takes little at a time, so that the server has to wait for it.
    pub(super) async fn open_narrow(address: SocketAddr) -> io::Result<Self> {
        let socket = TcpSocket::new_v4()?;
        socket.set_recv_buffer_size(SIP as u32)?;
        Ok(Self::on(socket.connect(address).await?))
    }

    fn on(stream: TcpStream) -> Self {
        Self {
            stream,
            unread: Vec::new(),
            pause: Duration::ZERO,
        }
    }

    pub(super) async fn send(&mut self, request: &str) -> io::Result<()> {
        self.stream.write_all(request.as_bytes()).await
    }

    /// Whether there is more to read than was asked for.
    pub(super) fn has_more(&self) -> bool {
        !self.unread.is_empty()
    }

    /// The head of the answer to request `id`; `None` if the connection was closed before it.
    pub(super) async fn head(&mut self, id: u64) -> io::Result<Option<Head>> {
        let head = loop {
            if let Some(head) = self.parsed()? {
                break head;
            }
            if !self.fill().await? {
                return Ok(None);
            }
        };
        if head.id != id {
            return Err(wrong(format!("the answer to {} came for {id}", head.id)));
        }
        Ok(Some(head))
    }

    /// Reads the whole body. `None` if the connection was closed before its end; otherwise whether it may be used again.
    pub(super) async fn body(&mut self, head: &Head) -> io::Result<Option<bool>> {
        let mut read = 0;
        match head.body {
            Length::Exact(length) => {
                while read < length {
                    if !self.some(head, length - read, &mut read).await? {
                        return Ok(None);
                    }
                }
            }
            Length::Chunked => loop {
                let Some(line) = self.line().await? else {
                    return Ok(None);
                };
                let size = usize::from_str_radix(&line, 16).map_err(wrong)?;
                let end = read + size;
                while read < end {
                    if !self.some(head, end - read, &mut read).await? {
                        return Ok(None);
                    }
                }
                if self.line().await?.is_none() {
                    return Ok(None);
                }
                if size == 0 {
                    break;
                }
            },
        }
        Ok(Some(!head.closes))
    }

    /// Takes up to `most` of what was read of a body, and sees to it that it is that of the request.
    async fn some(&mut self, head: &Head, most: usize, read: &mut usize) -> io::Result<bool> {
        if self.unread.is_empty() && !self.fill().await? {
            return Ok(false);
        }
        let taken = most.min(self.unread.len());
        let cell = cell(head.id);
        for byte in self.unread.drain(..taken) {
            if !head.refused && byte != cell[*read % CELL] {
                return Err(wrong(format!(
                    "a byte of another's in the answer to {}",
                    head.id
                )));
            }
            *read += 1;
        }
        Ok(true)
    }

    async fn line(&mut self) -> io::Result<Option<String>> {
        loop {
            if let Some(end) = self.unread.windows(2).position(|two| two == b"\r\n") {
                let line = self.unread.drain(..end + 2).take(end).collect();
                return String::from_utf8(line).map(Some).map_err(wrong);
            }
            if !self.fill().await? {
                return Ok(None);
            }
        }
    }

    /// `false` at the end, whichever way the connection ended.
    async fn fill(&mut self) -> io::Result<bool> {
        if !self.pause.is_zero() {
            sleep(self.pause).await;
        }
        let mut sip = [0; SIP];
        match self.stream.read(&mut sip).await {
            Ok(0) => Ok(false),
            Ok(read) => {
                self.unread.extend_from_slice(&sip[..read]);
                Ok(true)
            }
            Err(error) if error.kind() == io::ErrorKind::ConnectionReset => Ok(false),
            Err(error) => Err(error),
        }
    }

    fn parsed(&mut self) -> io::Result<Option<Head>> {
        let mut headers = [httparse::EMPTY_HEADER; 32];
        let mut response = httparse::Response::new(&mut headers);
        let status = response.parse(&self.unread).map_err(wrong)?;
        let httparse::Status::Complete(length) = status else {
            return Ok(None);
        };
        let find = |name: &str| {
            let header = response.headers.iter();
            let mut header = header.filter(|header| header.name.eq_ignore_ascii_case(name));
            let value = header.next_back()?.value;
            std::str::from_utf8(value).ok()
        };
        let number = |name: &str| find(name).and_then(|value| value.parse().ok());
        let head = Head {
            id: number(ID.as_str()).ok_or_else(|| wrong("an answer to nobody"))?,
            refused: find(REFUSED.as_str()).is_some(),
            body: match number("content-length") {
                Some(length) => Length::Exact(length as usize),
                None => Length::Chunked,
            },
            closes: find("connection") == Some("close"),
        };
        self.unread.drain(..length);
        Ok(Some(head))
    }
}

pub(super) fn wrong(what: impl ToString) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what.to_string())
}
