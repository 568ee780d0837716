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

use super::{Overflow, Sender, channel::Channel, transit::block_on};
use crate::BackpressureMetrics;

/// So many items cost one unit of tokio's cooperative budget, as much as one does in tokio's channels: asking for it costs
/// half as much as an item, and what matters is that a reader that never waits yields after some microseconds.
const ITEMS_PER_UNIT: u64 = 8;

/// What producers send and one reader reads, from [`BackpressureController::create_stream`](crate::BackpressureController::create_stream).
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
    pub fn try_receive(&mut self) -> Option<T> {
        if self.ended {
            return None;
        }
        let received = self.channel.try_receive();
        self.ended = received.is_err();
        let item = received.ok()?;
        self.looks
            .passed(&self.channel, usize::from(item.is_some()));
        item
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
        if self.looks.consumed % ITEMS_PER_UNIT != 0 {
            return self.poll_unbudgeted(cx);
        }
        let budget = ready!(coop::poll_proceed(cx));
        let item = ready!(self.poll_unbudgeted(cx));
        budget.made_progress();
        Poll::Ready(item)
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
                self.looks.passed(&self.channel, count);
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

    #[inline(always)]
    fn poll_unbudgeted(&mut self, cx: &mut Context<'_>) -> Poll<Option<T>> {
        if self.ended {
            return Poll::Ready(None);
        }
        let received = self.channel.poll_receive(cx);
        match &received {
            Poll::Ready(Some(_)) => self.looks.passed(&self.channel, 1),
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

/// When to look at the clock: for each item of a slow stream, and the more seldom the faster it is.
#[derive(Debug)]
struct Looks {
    consumed: u64,
    last: Duration,
    looked: u64,
    stride: u64,
}

impl Default for Looks {
    fn default() -> Self {
        Self {
            consumed: 0,
            last: Duration::ZERO,
            looked: 0,
            stride: 1,
        }
    }
}

impl Looks {
    const OFTEN: Duration = Duration::from_millis(1);
    const SELDOM: Duration = Duration::from_millis(10);
    const MAX_STRIDE: u64 = 64;

    /// So many items were read.
    #[inline]
    fn passed<T>(&mut self, channel: &Channel<T>, count: usize) {
        self.consumed += count as u64;
        if self.consumed - self.looked >= self.stride {
            self.look(channel);
        }
    }

    /// The reader is about to wait, nobody knows how long.
    #[inline]
    fn waiting<T>(&mut self, channel: &Channel<T>) {
        if self.consumed > self.looked {
            self.look(channel);
        }
    }

    #[cold]
    fn look<T>(&mut self, channel: &Channel<T>) {
        let now = channel.mark(self.consumed);
        let elapsed = now.saturating_sub(self.last);
        if elapsed < Self::OFTEN {
            self.stride = (2 * self.stride).min(Self::MAX_STRIDE);
        } else if elapsed > Self::SELDOM {
            self.stride = 1;
        }
        self.last = now;
        self.looked = self.consumed;
    }
}
