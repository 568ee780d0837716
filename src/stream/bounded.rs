use std::{
    fmt,
    future::poll_fn,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};

use futures_core::{FusedStream, Stream};
use tokio::task::coop;

use super::{
    Overflow, Sender,
    channel::{Channel, Ended},
    transit::block_on,
};
use crate::BackpressureMetrics;

/// So many items cost one unit of tokio's cooperative budget, as much as one does in tokio's channels: asking for it costs
/// half as much as an item, and what matters is that a reader that never waits yields after some microseconds.
const ITEMS_PER_UNIT: u64 = 32;

/// What producers send and one reader reads, from
/// [`BackpressureController::create_stream`](crate::BackpressureController::create_stream).
///
/// It is a [`Stream`], and has the same as methods for who wants no adapters. It ends when every [`Sender`] has gone and
/// what they sent has been read; as long as there never was one, it waits for the first. Dropping it is how a reader leaves:
/// every send fails from then on, also those that wait, and what was not read is dropped, and counted as that.
///
/// It takes part in tokio's cooperative budget: a reader that never has to wait lets other tasks run now and then.
///
/// # Examples
///
/// ```
/// use futures_util::StreamExt;
/// use tower_backpressure::{BackpressureController, BackpressureStrategy};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() {
/// let controller = BackpressureController::new(10, BackpressureStrategy::Block);
/// let mut stream = controller.create_stream();
/// let sender = stream.sender();
/// tokio::spawn(async move {
///     for n in 0..100 {
///         if sender.send(n).await.is_err() {
///             break; // nobody reads any more
///         }
///     }
/// });
/// let mut sum = 0;
/// while let Some(n) = stream.next().await {
///     sum += n;
/// }
/// assert_eq!(sum, 4950);
/// # }
/// ```
pub struct BoundedStream<T> {
    channel: Arc<Channel<T>>,
    looks: Looks,
    ended: bool,
}

impl<T> BoundedStream<T> {
    pub(super) fn new(channel: Arc<Channel<T>>) -> Self {
        Self {
            channel,
            looks: Looks::default(),
            ended: false,
        }
    }

    /// A new producer. Of a stream that has ended, one that can send nothing.
    pub fn sender(&self) -> Sender<T> {
        Sender::new(Arc::clone(&self.channel))
    }

    /// The next item; `None` when the stream has ended.
    ///
    /// # Cancel safety
    ///
    /// Nothing is lost.
    #[inline]
    pub async fn receive(&mut self) -> Option<T> {
        poll_fn(|cx| self.poll_receive(cx)).await
    }

    /// Appends up to `limit` items to `items`: what is there, after waiting until something is. How many; 0 when the stream
    /// has ended, or if `limit` is 0.
    ///
    /// # Cancel safety
    ///
    /// Nothing is lost: what was taken is in `items`.
    pub async fn receive_many(&mut self, items: &mut Vec<T>, limit: usize) -> usize {
        poll_fn(|cx| self.poll_receive_many(cx, items, limit)).await
    }

    /// The next item, if there is one now. Where there is none, [`is_terminated`](FusedStream::is_terminated) tells whether
    /// there ever will be.
    #[inline]
    pub fn try_receive(&mut self) -> Option<T> {
        if self.ended {
            return None;
        }
        match self.channel.try_receive() {
            Ok(Some(item)) => {
                self.looks.passed(&self.channel);
                Some(item)
            }
            Ok(None) => None,
            Err(Ended) => {
                self.ended = true;
                None
            }
        }
    }

    /// Like [`receive`](Self::receive), for a thread, which it blocks. Needs no runtime.
    ///
    /// # Panics
    ///
    /// In a task. Threads of `spawn_blocking` may call it.
    #[track_caller]
    pub fn blocking_receive(&mut self) -> Option<T> {
        block_on(|cx| match self.poll_unbudgeted(cx) {
            Poll::Ready(item) => Ok(item),
            Poll::Pending => Err(None),
        })
    }

    /// [`receive`](Self::receive), to be polled.
    #[inline]
    pub fn poll_receive(&mut self, cx: &mut Context<'_>) -> Poll<Option<T>> {
        if self.looks.is_run_over() {
            return self.poll_budgeted(cx);
        }
        self.poll_unbudgeted(cx)
    }

    /// [`receive_many`](Self::receive_many), to be polled.
    pub fn poll_receive_many(
        &mut self,
        cx: &mut Context<'_>,
        items: &mut Vec<T>,
        limit: usize,
    ) -> Poll<usize> {
        if self.ended || limit == 0 {
            return Poll::Ready(0);
        }
        let budget = ready!(coop::poll_proceed(cx));
        match self.channel.poll_receive_many(cx, items, limit) {
            Poll::Ready(count) => {
                budget.made_progress();
                self.ended = count == 0;
                self.looks.many_passed(&self.channel, count as u64);
                Poll::Ready(count)
            }
            Poll::Pending => {
                self.looks.waiting(&self.channel);
                Poll::Pending
            }
        }
    }

    /// Lets nothing more in. Every send fails from now on; what is in the stream can still be read, and then it ends.
    pub fn close(&mut self) {
        self.channel.close();
    }

    /// Under `Fail`: that the stream has been full, once what was in it then has been read. It has ended with that.
    pub fn overflow(&self) -> Option<Overflow> {
        self.channel.overflow().filter(|_| self.ended)
    }

    /// The numbers of this stream.
    pub fn metrics(&self) -> BackpressureMetrics {
        self.channel.metrics()
    }

    #[inline(never)]
    fn poll_budgeted(&mut self, cx: &mut Context<'_>) -> Poll<Option<T>> {
        if self.ended {
            return Poll::Ready(None);
        }
        let budget = ready!(coop::poll_proceed(cx));
        let item = ready!(self.poll_unbudgeted(cx));
        budget.made_progress();
        Poll::Ready(item)
    }

    #[inline(always)]
    fn poll_unbudgeted(&mut self, cx: &mut Context<'_>) -> Poll<Option<T>> {
        let received = self.channel.poll_receive(cx);
        match &received {
            Poll::Ready(Some(_)) => self.looks.passed(&self.channel),
            Poll::Ready(None) => self.ended = true,
            Poll::Pending => self.looks.waiting(&self.channel),
        }
        received
    }
}

impl<T> Stream for BoundedStream<T> {
    type Item = T;

    #[inline]
    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<T>> {
        self.get_mut().poll_receive(cx)
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        match self.ended {
            true => (0, Some(0)),
            false => (0, None),
        }
    }
}

impl<T> FusedStream for BoundedStream<T> {
    /// Whether it has been read to its end.
    fn is_terminated(&self) -> bool {
        self.ended
    }
}

impl<T> Drop for BoundedStream<T> {
    fn drop(&mut self) {
        self.channel.leave_reader();
    }
}

impl<T> fmt::Debug for BoundedStream<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BoundedStream")
            .field("channel", &self.channel)
            .field("ended", &self.ended)
            .finish_non_exhaustive()
    }
}

/// When to look at the clock (for each item of a slow stream, and the more seldom the faster it is) and at the task's budget.
///
/// Between two looks is a run of items for which there is nothing to do but to count down.
#[derive(Debug)]
struct Looks {
    left_in_run: u64,
    run: u64,
    consumed_before: u64,
    /// What was consumed when the clock was looked at, and when that was.
    looked: u64,
    last: Duration,
    stride: u64,
    waits_passed_over: u32,
}

impl Default for Looks {
    fn default() -> Self {
        Self {
            left_in_run: 0,
            run: 0,
            consumed_before: 0,
            looked: 0,
            last: Duration::ZERO,
            stride: 1,
            waits_passed_over: 0,
        }
    }
}

impl Looks {
    const OFTEN: Duration = Duration::from_millis(1);
    const SELDOM: Duration = Duration::from_millis(10);
    const MAX_STRIDE: u64 = 64;
    const MAX_WAITS_PASSED_OVER: u32 = 3;

    #[inline]
    fn is_run_over(&self) -> bool {
        self.left_in_run == 0
    }

    /// An item was read.
    #[inline]
    fn passed<T>(&mut self, channel: &Channel<T>) {
        match self.left_in_run {
            0 => self.many_passed(channel, 1),
            left => self.left_in_run = left - 1,
        }
    }

    /// So many items were read, beside those of the run; a new one begins.
    #[inline(never)]
    fn many_passed<T>(&mut self, channel: &Channel<T>, count: u64) {
        self.consumed_before = self.consumed() + count;
        self.run = 0;
        self.left_in_run = 0;
        if self.consumed_before - self.looked >= self.stride {
            self.look(channel);
            channel.record();
        }
        let until_look = self.stride - (self.consumed_before - self.looked);
        self.run = until_look.min(ITEMS_PER_UNIT) - 1;
        self.left_in_run = self.run;
    }

    /// The reader is about to wait, nobody knows how long. What it has read since the last look is no longer fresh then; where
    /// that is next to nothing, and happens often, it is not looked at each time.
    #[inline]
    fn waiting<T>(&mut self, channel: &Channel<T>) {
        if self.consumed() == self.looked {
            return;
        }
        if self.stride == Self::MAX_STRIDE && self.waits_passed_over < Self::MAX_WAITS_PASSED_OVER {
            self.waits_passed_over += 1;
        } else {
            self.look(channel);
        }
    }

    fn consumed(&self) -> u64 {
        self.consumed_before + (self.run - self.left_in_run)
    }

    fn look<T>(&mut self, channel: &Channel<T>) {
        self.looked = self.consumed();
        self.waits_passed_over = 0;
        let now = channel.mark(self.looked);
        let elapsed = now.saturating_sub(self.last);
        if elapsed < Self::OFTEN {
            self.stride = (2 * self.stride).min(Self::MAX_STRIDE);
        } else if elapsed > Self::SELDOM {
            self.stride = 1;
        }
        self.last = now;
    }
}
