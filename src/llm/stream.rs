use std::{
    collections::VecDeque,
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::{Buf, Bytes};
use http::{HeaderMap, StatusCode};
use http_body::{Body, Frame};
use pin_project::pin_project;
use tokio::sync::futures::OwnedNotified;

use super::{
    Failure, Kind, Meaning,
    account::Account,
    passage::Passage,
    patience::{Patience, Timeout},
    piece::poll_cut,
};
use crate::limit::Outcome;

/// A streamed answer on its way to the client: read as it passes, and cut off when there is reason to.
#[pin_project]
pub(super) struct Stream<R> {
    /// `None` once it is over. The service behind is let go of at once, whenever the client comes for the rest.
    #[pin]
    body: Option<R>,
    #[pin]
    told_to_end: OwnedNotified,
    passage: Passage,
    patience: Patience,
    /// What may go out.
    out: VecDeque<Bytes>,
    trailers: Option<HeaderMap>,
    /// What the stream says of its own failure, for as long as there is a status to say it with.
    failure: Option<Failure>,
    has_begun: bool,
    account: Account,
}

/// What came of asking for more.
pub(super) enum More<E> {
    /// Something was read. It may be nothing that goes out.
    Read,
    Over,
    Cut(Cut),
    Failed(E),
}

/// Why an answer is cut off.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Cut {
    Timeout(Timeout),
    ShuttingDown,
}

impl Cut {
    pub(super) fn status(self, account: &Account) -> StatusCode {
        match self {
            Cut::Timeout(_) => StatusCode::GATEWAY_TIMEOUT,
            Cut::ShuttingDown => account.call.dialect.overloaded(),
        }
    }

    pub(super) fn message(self) -> String {
        match self {
            Cut::Timeout(timeout) => timeout.message(),
            Cut::ShuttingDown => String::from("the service is shutting down"),
        }
    }

    /// Settles what is cut off.
    pub(super) fn settle(self, account: &mut Account) {
        account.cut(match self {
            Cut::Timeout(timeout) => {
                account.shared.state.recording.timed_out(timeout);
                Outcome::Overload
            }
            Cut::ShuttingDown => Outcome::Ignore,
        });
    }
}

impl<R> Stream<R>
where
    R: Body,
{
    /// The head has come; what is waited for is the first token.
    pub(super) fn new(body: R, account: Account, patience: Patience) -> Self {
        let call = &*account.call;
        Self {
            told_to_end: account.shared.state.told_to_end(),
            passage: Passage::new(call.dialect, call.hides_usage),
            patience,
            body: Some(body),
            out: VecDeque::new(),
            trailers: None,
            failure: None,
            has_begun: false,
            account,
        }
    }

    /// Reads on, as far as there is something to be read.
    pub(super) fn poll_more(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<More<R::Error>> {
        let mut this = self.project();
        let Some(body) = this.body.as_mut().as_pin_mut() else {
            return Poll::Ready(More::Over);
        };
        if this.account.shared.state.is_ending() {
            return Poll::Ready(More::Cut(Cut::ShuttingDown));
        }
        let frame = match body.poll_frame(cx) {
            Poll::Ready(frame) => frame,
            Poll::Pending => {
                let cut = poll_cut(this.account, this.told_to_end, this.patience, cx);
                return cut.map(More::Cut);
            }
        };
        let account = &mut *this.account;
        let (mut tokens, mut begun) = (false, false);
        let mut failure = None;
        let mut heed = |meaning: Meaning| {
            account.add(&meaning);
            tokens |= meaning.is_content();
            match meaning.kind {
                Kind::Content { .. } | Kind::End => begun = true,
                Kind::Failed(it) => failure = Some(it),
                _ => {}
            }
        };
        let mut over = false;
        match frame {
            Some(Ok(frame)) => match frame.into_data() {
                Ok(mut data) => {
                    let chunk = data.copy_to_bytes(data.remaining());
                    this.passage.read(chunk, this.out, &mut heed);
                }
                Err(frame) => *this.trailers = frame.into_trailers().ok(),
            },
            Some(Err(error)) => {
                this.passage.stop();
                this.body.set(None);
                this.account.fail(Outcome::Ignore);
                this.account.close();
                return Poll::Ready(More::Failed(error));
            }
            None => over = true,
        }
        // Nobody asks again once a body says that it has ended.
        over |= this
            .body
            .as_ref()
            .as_pin_ref()
            .is_some_and(|body| body.is_end_stream());
        if over {
            this.passage.finish(this.out, &mut heed);
            this.body.set(None);
        }
        *this.has_begun |= begun;
        *this.failure = this.failure.take().or(failure);
        match tokens {
            true => {
                let between = this.account.shared.settings.token_timeout;
                this.patience.token(between);
            }
            false => this.patience.came(&this.account.shared.state.clock),
        }
        if over {
            this.account.close();
        }
        Poll::Ready(More::Read)
    }

    /// Ends it, with an error that the client understands unless all has been said.
    fn cut(self: Pin<&mut Self>, cut: Cut) {
        let mut this = self.project();
        this.body.set(None);
        if this.account.has_ended() {
            return this.account.close();
        }
        if this.passage.stop() {
            this.out.push_back(Bytes::from_static(b"\n\n"));
        }
        let call = &*this.account.call;
        let status = cut.status(this.account);
        let event = call.dialect.error_event(status, &cut.message(), &call.id);
        this.out.push_back(event);
        cut.settle(this.account);
    }

    pub(super) fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, R::Error>>> {
        loop {
            let this = self.as_mut().project();
            if let Some(bytes) = this.out.pop_front() {
                return Poll::Ready(Some(Ok(Frame::data(bytes))));
            }
            if this.body.is_none() {
                let trailers = this.trailers.take();
                return Poll::Ready(trailers.map(|trailers| Ok(Frame::trailers(trailers))));
            }
            match ready!(self.as_mut().poll_more(cx)) {
                More::Read | More::Over => {}
                More::Cut(cut) => self.as_mut().cut(cut),
                More::Failed(error) => return Poll::Ready(Some(Err(error))),
            }
        }
    }
}

impl<R> Stream<R> {
    pub(super) fn is_over(&self) -> bool {
        self.body.is_none() && self.out.is_empty() && self.trailers.is_none()
    }

    /// Whether a part of the answer has been read, or its end.
    pub(super) fn has_begun(&self) -> bool {
        self.has_begun || self.body.is_none()
    }

    /// How many bytes have been read and have not gone out.
    pub(super) fn kept(&self) -> usize {
        self.out.iter().map(Bytes::len).sum()
    }

    pub(super) fn account(self: Pin<&mut Self>) -> &mut Account {
        self.project().account
    }

    pub(super) fn take_failure(self: Pin<&mut Self>) -> Option<Failure> {
        self.project().failure.take()
    }
}
