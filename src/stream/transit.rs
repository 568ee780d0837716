//! An item on its way into a stream.

use std::{
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, Wake, Waker, ready},
    thread::{self, Thread},
    time::Duration,
};

use tokio::{
    runtime::Handle,
    task::coop,
    time::{Sleep, sleep_until},
};

use super::{
    Displaced, SendError,
    channel::{Channel, Sent, Step},
};

/// It does not know its stream: whoever drops it before it is done has to [give it up](Self::give_up) first, or its place in the
/// line stays taken.
pub(super) struct Transit<T> {
    step: Step,
    /// `None` once it has arrived or come back.
    item: Option<T>,
    /// Made when there is a time to wait for, which most streams never have.
    timer: Option<Pin<Box<Sleep>>>,
}

impl<T> Transit<T> {
    pub(super) fn new(item: T) -> Self {
        Self {
            step: Step::Begin,
            item: Some(item),
            timer: None,
        }
    }

    #[inline]
    pub(super) fn poll(
        &mut self,
        channel: &Channel<T>,
        cx: &mut Context<'_>,
    ) -> Poll<Result<Displaced<T>, SendError<T>>> {
        let budget = ready!(coop::poll_proceed(cx));
        loop {
            let due = match channel.poll_send(&mut self.step, &mut self.item, cx) {
                Sent::Done(result) => {
                    budget.made_progress();
                    return Poll::Ready(result);
                }
                Sent::Waiting(None) => return Poll::Pending,
                Sent::Waiting(Some(due)) => due,
            };
            let Some(due) = channel.at(due) else {
                return Poll::Pending;
            };
            let timer = match &mut self.timer {
                Some(timer) => {
                    timer.as_mut().reset(due);
                    timer
                }
                none => none.insert(Box::pin(sleep_until(due))),
            };
            ready!(timer.as_mut().poll(cx));
        }
    }

    /// Sends on this thread, which must not be one that drives tasks.
    #[track_caller]
    pub(super) fn block(mut self, channel: &Channel<T>) -> Result<Displaced<T>, SendError<T>> {
        block_on(
            |cx| match channel.poll_send(&mut self.step, &mut self.item, cx) {
                Sent::Done(result) => Ok(result),
                Sent::Waiting(due) => Err(due.map(|due| channel.until(due))),
            },
        )
    }

    /// The item is not to be sent any more. It comes back if it has not been.
    pub(super) fn give_up(&mut self, channel: &Channel<T>) -> Option<T> {
        let item = self.item.take();
        if item.is_some() {
            channel.give_up(self.step);
        }
        item
    }
}

/// Polls on this thread until there is an answer. As long as there is none, `poll` says how long to wait at most.
///
/// # Panics
///
/// If this thread drives tasks.
#[track_caller]
pub(super) fn block_on<R>(
    mut poll: impl FnMut(&mut Context<'_>) -> Result<R, Option<Duration>>,
) -> R {
    if let Ok(runtime) = Handle::try_current() {
        // Panics in a task, where parking the thread would stop whoever has to make room.
        runtime.block_on(async {});
    }
    let waker = Waker::from(Arc::new(Unpark(thread::current())));
    let mut cx = Context::from_waker(&waker);
    loop {
        match poll(&mut cx) {
            Ok(answer) => return answer,
            Err(None) => thread::park(),
            Err(Some(wait)) => thread::park_timeout(wait),
        }
    }
}

struct Unpark(Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}
