//! What the reader does.

use std::{
    task::{Context, Poll, Waker},
    time::Duration,
};

use super::{Channel, Ended};
use crate::{
    stream::state::State,
    sync::{MutexGuard, lock},
};

impl<T> Channel<T> {
    #[inline(always)]
    pub(in crate::stream) fn poll_receive(&self, cx: &mut Context<'_>) -> Poll<Option<T>> {
        let now = self.now();
        let mut state = lock(&self.state);
        match state.receive_quickly() {
            Some(item) => Poll::Ready(Some(item)),
            None => self.poll_receive_slowly(state, now, cx.waker()),
        }
    }

    #[inline(never)]
    fn poll_receive_slowly(
        &self,
        state: MutexGuard<'_, State<T>>,
        now: Duration,
        waker: &Waker,
    ) -> Poll<Option<T>> {
        self.step(state, |state, after| match state.receive(now, after) {
            Some(item) => Poll::Ready(Some(item)),
            None if state.has_ended() => Poll::Ready(None),
            None => {
                state.park_reader(waker, after);
                Poll::Pending
            }
        })
    }

    /// Up to `limit` of what is there. How many, where there are any.
    pub(in crate::stream) fn poll_receive_many(
        &self,
        cx: &mut Context<'_>,
        items: &mut Vec<T>,
        limit: usize,
    ) -> Poll<usize> {
        // Not under the lock: it may take long.
        let limit = limit.min(self.bounds.capacity);
        items.reserve(limit.min(1024));
        let now = self.now();
        self.step(lock(&self.state), |state, after| {
            let before = items.len();
            while items.len() - before < limit {
                match state.receive(now, after) {
                    Some(item) => items.push(item),
                    None => break,
                }
            }
            match items.len() - before {
                0 if !state.has_ended() => {
                    state.park_reader(cx.waker(), after);
                    Poll::Pending
                }
                count => Poll::Ready(count),
            }
        })
    }

    /// What is there, or whether the stream has ended.
    #[inline]
    pub(in crate::stream) fn try_receive(&self) -> Result<Option<T>, Ended> {
        let now = self.now();
        let mut state = lock(&self.state);
        match state.receive_quickly() {
            Some(item) => Ok(Some(item)),
            None => self.try_receive_slowly(state, now),
        }
    }

    #[inline(never)]
    fn try_receive_slowly(
        &self,
        state: MutexGuard<'_, State<T>>,
        now: Duration,
    ) -> Result<Option<T>, Ended> {
        self.step(state, |state, after| match state.receive(now, after) {
            None if state.has_ended() => Err(Ended),
            item => Ok(item),
        })
    }

    pub(in crate::stream) fn close(&self) {
        self.step(lock(&self.state), State::close);
    }

    pub(in crate::stream) fn leave_reader(&self) {
        if self.step(lock(&self.state), State::leave_reader) {
            self.registry.retire(self.id);
        }
    }
}
