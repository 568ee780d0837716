use std::{
    collections::VecDeque,
    future::Future,
    mem,
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::{Bytes, BytesMut};
use http_body::{Body, Frame, SizeHint};
use pin_project::{pin_project, pinned_drop};
use tokio::sync::futures::OwnedNotified;

use super::{
    Meaning, Whole, account::Account, answer::whole_data, patience::Patience, stream::Cut,
};
use crate::limit::Outcome;

/// An answer in one piece. It is collected, so that whatever goes wrong on the way is told by a status; one that is too long
/// for that is read as it passes.
#[pin_project(PinnedDrop)]
pub(super) struct Piece<R> {
    #[pin]
    rest: R,
    #[pin]
    told_to_end: OwnedNotified,
    read: VecDeque<Bytes>,
    /// Bytes of `read`.
    length: usize,
    whole: Whole,
    patience: Patience,
    account: Account,
}

/// What came of collecting.
pub(super) enum Collected {
    Complete(Meaning),
    /// It is not, and there is no room for more.
    TooLong,
    Broken,
    Cut(Cut),
}

impl<R: Body> Piece<R> {
    pub(super) fn new(rest: R, account: Account, patience: Patience) -> Self {
        Self {
            told_to_end: account.shared.state.told_to_end(),
            read: VecDeque::new(),
            length: 0,
            whole: Whole::new(account.call.dialect),
            rest,
            patience,
            account,
        }
    }

    pub(super) fn poll_collect(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Collected> {
        let mut this = self.project();
        let most = this.account.shared.settings.max_body;
        while *this.length <= most {
            match this.rest.as_mut().poll_frame(cx) {
                Poll::Ready(Some(Ok(frame))) => {
                    if let Ok(data) = whole_data(frame).into_data() {
                        this.whole.read(&data);
                        *this.length += data.len();
                        this.read.push_back(data);
                    }
                }
                Poll::Ready(Some(Err(_))) => return Poll::Ready(Collected::Broken),
                Poll::Ready(None) => return Poll::Ready(Collected::Complete(this.whole.finish())),
                Poll::Pending => {
                    let cut = ready!(poll_cut(this.account, this.told_to_end, this.patience, cx));
                    return Poll::Ready(Collected::Cut(cut));
                }
            }
        }
        if this.rest.is_end_stream() {
            // It is here already; nobody would ask for more.
            return Poll::Ready(Collected::Complete(this.whole.finish()));
        }
        this.account.passes();
        Poll::Ready(Collected::TooLong)
    }

    /// What does not go out with the head.
    pub(super) fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, R::Error>>> {
        let mut this = self.project();
        if let Some(bytes) = this.read.pop_front() {
            *this.length -= bytes.len();
            return Poll::Ready(Some(Ok(Frame::data(bytes))));
        }
        let frame = match ready!(this.rest.as_mut().poll_frame(cx)) {
            Some(Ok(frame)) => whole_data(frame),
            Some(Err(error)) => {
                this.account.came(&this.whole.finish());
                this.account.cut(Outcome::Ignore);
                return Poll::Ready(Some(Err(error)));
            }
            None => {
                this.account.passed(&this.whole.finish());
                return Poll::Ready(None);
            }
        };
        if let Some(data) = frame.data_ref() {
            this.whole.read(data);
        }
        if this.rest.is_end_stream() {
            this.account.passed(&this.whole.finish());
        }
        Poll::Ready(Some(Ok(frame)))
    }

    pub(super) fn is_over(&self) -> bool {
        self.read.is_empty() && self.rest.is_end_stream()
    }

    pub(super) fn size_hint(&self) -> SizeHint {
        let read = self.length as u64;
        let rest = self.rest.size_hint();
        let mut hint = SizeHint::new();
        hint.set_lower(rest.lower().saturating_add(read));
        if let Some(upper) = rest.upper().and_then(|upper| upper.checked_add(read)) {
            hint.set_upper(upper);
        }
        hint
    }
}

impl<R> Piece<R> {
    pub(super) fn account(self: Pin<&mut Self>) -> &mut Account {
        self.project().account
    }

    /// What was collected.
    pub(super) fn take(self: Pin<&mut Self>) -> Bytes {
        let this = self.project();
        let (mut read, length) = (mem::take(this.read), mem::take(this.length));
        if read.len() == 1 {
            return read.pop_front().unwrap_or_default();
        }
        let mut all = BytesMut::with_capacity(length);
        for bytes in read {
            all.extend_from_slice(&bytes);
        }
        all.freeze()
    }
}

#[pinned_drop]
impl<R> PinnedDrop for Piece<R> {
    /// Whoever leaves it pays for what came.
    fn drop(self: Pin<&mut Self>) {
        let this = self.project();
        if !this.account.is_over() {
            this.account.came(&this.whole.finish());
        }
    }
}

/// The service behind has nothing: whether it is not to be waited for any longer.
pub(super) fn poll_cut(
    account: &Account,
    told_to_end: Pin<&mut OwnedNotified>,
    patience: &mut Patience,
    cx: &mut Context<'_>,
) -> Poll<Cut> {
    let state = &account.shared.state;
    if state.is_ending() || told_to_end.poll(cx).is_ready() {
        return Poll::Ready(Cut::ShuttingDown);
    }
    patience.poll(&state.clock, cx).map(Cut::Timeout)
}
