//! The answer's body on its way to the client, looked at for the page.

use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use axum::body::Body;
use bytes::Bytes;
use http::{HeaderMap, header};
use http_body::{Frame, SizeHint};
use tokio::time::Instant;
use tower_backpressure::llm::{Dialect, Kind, Whole, sse::Reader};

use super::live::Live;
use crate::clock::now;

pub struct Watched {
    inner: Body,
    seen: Seen,
    dialect: Dialect,
}

/// What is known of one request; tells when it goes.
pub struct Seen {
    live: Arc<Live>,
    came: Instant,
    answer: Answer,
    first: bool,
    end: End,
}

enum Answer {
    Events(Reader),
    Whole(Whole),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    Answered,
    Left,
    Broken,
    Refused,
}

impl Seen {
    /// Nothing has come yet: whoever goes now has left.
    pub fn new(live: Arc<Live>, came: Instant, dialect: Dialect) -> Self {
        live.arrived();
        Self {
            live,
            came,
            answer: Answer::Whole(Whole::new(dialect)),
            first: true,
            end: End::Left,
        }
    }

    pub fn refused(mut self, reason: &str) {
        self.live.refused(reason);
        self.end = End::Refused;
    }

    /// The first event that says something is when the first token came.
    fn read(&mut self, dialect: Dialect, mut chunk: &[u8]) {
        let mut tokens = 0;
        match &mut self.answer {
            Answer::Whole(whole) => {
                whole.read(chunk);
                return;
            }
            Answer::Events(reader) => loop {
                let read = reader.read(chunk);
                let Some(event) = read.event else {
                    break;
                };
                match dialect.read(&event).kind {
                    Kind::Content { .. } => tokens += 1,
                    Kind::Failed(_) => self.end = End::Broken,
                    Kind::End => self.end = End::Answered,
                    _ => {}
                }
                chunk = &chunk[read.used..];
            },
        }
        self.tokens(tokens);
    }

    fn tokens(&mut self, tokens: u64) {
        if tokens > 0 {
            self.live.tokens(tokens);
            if std::mem::take(&mut self.first) {
                let at = now();
                self.live.first_token(at, at - self.came);
            }
        }
    }

    fn complete(&mut self) {
        if let Answer::Whole(whole) = &self.answer {
            let meaning = whole.finish();
            self.tokens(
                meaning
                    .reported
                    .and_then(|reported| reported.output)
                    .unwrap_or(0),
            );
            self.end = End::Answered;
        } else if self.end == End::Left {
            self.end = End::Broken;
        }
    }
}

impl Drop for Seen {
    fn drop(&mut self) {
        let end = self.end;
        self.live.ended(|counts| match end {
            End::Answered => counts.answered += 1,
            End::Left => counts.left += 1,
            End::Broken => counts.broken += 1,
            End::Refused => {}
        });
    }
}

impl Watched {
    pub fn new(inner: Body, mut seen: Seen, head: &HeaderMap, dialect: Dialect) -> Self {
        let is_stream = head
            .get(header::CONTENT_TYPE)
            .is_some_and(|kind| kind.as_bytes().starts_with(b"text/event-stream"));
        if is_stream {
            seen.answer = Answer::Events(Reader::new());
        }
        Self {
            inner,
            seen,
            dialect,
        }
    }
}

impl http_body::Body for Watched {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let this = &mut *self;
        let frame = ready!(Pin::new(&mut this.inner).poll_frame(cx));
        match &frame {
            Some(Ok(frame)) => {
                if let Some(data) = frame.data_ref() {
                    this.seen.read(this.dialect, data);
                }
                // After the last frame of a known length nobody asks for more.
                if this.inner.is_end_stream() {
                    this.seen.complete();
                }
            }
            Some(Err(_)) => this.seen.end = End::Broken,
            None => this.seen.complete(),
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}
