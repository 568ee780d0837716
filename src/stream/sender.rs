use std::{
    fmt,
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use futures_sink::Sink;

use super::{Displaced, SendError, SendErrorKind, channel::Channel, transit::Transit};
use crate::BackpressureMetrics;

/// A producer's end of a [`BoundedStream`](super::BoundedStream), from [`BoundedStream::sender`](super::BoundedStream::sender).
///
/// Clones are further producers. When the last has gone the stream ends, once it has been read to its end; when the reader
/// has gone, whatever is sent comes back at once, with [`SendErrorKind::Closed`].
///
/// Under `Block` and `Adaptive` senders that wait get their turns first come first served, and none that comes later goes
/// before them, [`try_send`](Self::try_send) included. Items of one sender stay in order.
///
/// | | waits if the strategy does | where |
/// |---|---|---|
/// | [`send`](Self::send) | yes | in a task |
/// | [`blocking_send`](Self::blocking_send) | yes | on a thread |
/// | [`try_send`](Self::try_send) | no | anywhere |
/// | `Sink` | yes, with one item on its way; what is displaced is dropped | in a task |
pub struct Sender<T> {
    channel: Arc<Channel<T>>,
    /// What a `Sink` took and could not send yet.
    sinking: Option<Transit<T>>,
    /// Closed as a `Sink`: it counts as gone.
    gone: bool,
}

impl<T> Sender<T> {
    pub(super) fn new(channel: Arc<Channel<T>>) -> Self {
        channel.add_sender();
        Self {
            channel,
            sinking: None,
            gone: false,
        }
    }

    /// Sends an item, waiting for room or for the rate if the strategy does.
    ///
    /// Gives what had to make room: nothing, unless the strategy is `DropNewest` or `DropOldest`.
    ///
    /// # Errors
    ///
    /// With the item: [`Closed`](SendErrorKind::Closed) when the reader is gone, also if it goes while this waits;
    /// [`TooHeavy`](SendErrorKind::TooHeavy); and [`Full`](SendErrorKind::Full) under `Fail`.
    ///
    /// # Cancel safety
    ///
    /// A send that is dropped before it gave its answer has not sent its item, and its place in the line goes to the next. The
    /// item is dropped with it, unless [`Sending::into_item`] gets it back.
    ///
    /// # Panics
    ///
    /// If it has to wait for a time, under `Adaptive` or with a time to live, outside of a tokio runtime with time enabled.
    /// Otherwise any executor will do.
    pub fn send(&self, item: T) -> Sending<'_, T> {
        Sending {
            sender: self,
            transit: Transit::new(item),
        }
    }

    /// Sends an item at once or not at all.
    ///
    /// Gives what had to make room: nothing, unless the strategy is `DropNewest` or `DropOldest`.
    ///
    /// # Errors
    ///
    /// With the item, and why it was not sent.
    #[inline]
    pub fn try_send(&self, item: T) -> Result<Displaced<T>, SendError<T>> {
        if self.gone {
            return Err(SendError::new(item, SendErrorKind::Closed));
        }
        self.channel.try_send(item)
    }

    /// Like [`send`](Self::send), for a thread, which it blocks. Needs no runtime.
    ///
    /// # Errors
    ///
    /// As [`send`](Self::send).
    ///
    /// # Panics
    ///
    /// In a task, where it would stop the very thread that may have to make room. Threads of `spawn_blocking` may call it.
    ///
    /// # Examples
    ///
    /// ```
    /// use tower_backpressure::{BackpressureController, BackpressureStrategy};
    ///
    /// let controller = BackpressureController::new(10, BackpressureStrategy::Block);
    /// let mut stream = controller.create_stream();
    /// let sender = stream.sender();
    /// let producer = std::thread::spawn(move || {
    ///     for n in 0..1000 {
    ///         if sender.blocking_send(n).is_err() {
    ///             break; // nobody reads any more
    ///         }
    ///     }
    /// });
    /// for n in 0..1000 {
    ///     assert_eq!(stream.blocking_receive(), Some(n));
    /// }
    /// assert_eq!(stream.blocking_receive(), None);
    /// # producer.join().unwrap();
    /// ```
    #[track_caller]
    pub fn blocking_send(&self, item: T) -> Result<Displaced<T>, SendError<T>> {
        if self.gone {
            return Err(SendError::new(item, SendErrorKind::Closed));
        }
        Transit::new(item).block(&self.channel)
    }

    /// Whether nothing can be sent any more: the reader has gone or closed the stream, or it has failed.
    pub fn is_closed(&self) -> bool {
        self.gone || self.channel.is_closed()
    }

    /// Waits until nothing can be sent any more, for a producer that has long work to do between two items.
    ///
    /// # Cancel safety
    ///
    /// Nothing is lost.
    pub async fn closed(&self) {
        if !self.gone {
            self.channel.closed().await;
        }
    }

    /// The numbers of the stream.
    pub fn metrics(&self) -> BackpressureMetrics {
        self.channel.metrics()
    }

    fn leave(&mut self) {
        if let Some(mut transit) = self.sinking.take() {
            transit.give_up(&self.channel);
        }
        if !std::mem::replace(&mut self.gone, true) {
            self.channel.remove_sender();
        }
    }
}

impl<T> Clone for Sender<T> {
    /// A further producer. An item that a `Sink` has on its way stays with the first.
    fn clone(&self) -> Self {
        if !self.gone {
            self.channel.add_sender();
        }
        Self {
            channel: Arc::clone(&self.channel),
            sinking: None,
            gone: self.gone,
        }
    }
}

impl<T> Drop for Sender<T> {
    fn drop(&mut self) {
        self.leave();
    }
}

impl<T> fmt::Debug for Sender<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sender")
            .field("channel", &self.channel)
            .finish_non_exhaustive()
    }
}

/// Nothing of a sender is pinned.
impl<T> Unpin for Sender<T> {}

/// An item given to the sink is in the stream once the sink is flushed, or ready for the next.
///
/// Closing the sink is the end of this sender, as dropping it is.
impl<T> Sink<T> for Sender<T> {
    type Error = SendError<T>;

    fn poll_ready(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.poll_flush(cx)
    }

    fn start_send(self: Pin<&mut Self>, item: T) -> Result<(), Self::Error> {
        let sender = self.get_mut();
        if sender.is_closed() {
            return Err(SendError::new(item, SendErrorKind::Closed));
        }
        debug_assert!(sender.sinking.is_none(), "it was ready");
        sender.sinking = Some(Transit::new(item));
        Ok(())
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        let sender = self.get_mut();
        if let Some(transit) = &mut sender.sinking {
            let result = ready!(transit.poll(&sender.channel, cx));
            sender.sinking = None;
            result?;
        }
        Poll::Ready(Ok(()))
    }

    fn poll_close(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        let flushed = ready!(self.as_mut().poll_flush(cx));
        self.get_mut().leave();
        Poll::Ready(flushed)
    }
}

/// An item on its way into a stream, from [`Sender::send`].
#[must_use = "nothing is sent unless it is awaited"]
pub struct Sending<'a, T> {
    sender: &'a Sender<T>,
    transit: Transit<T>,
}

impl<T> Sending<'_, T> {
    /// Gives the send up. The item, unless it has been sent or has come back already.
    ///
    /// ```
    /// use tokio::time::{Duration, timeout};
    /// use tower_backpressure::{BackpressureController, BackpressureStrategy};
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() {
    /// let controller = BackpressureController::new(1, BackpressureStrategy::Block);
    /// let stream = controller.create_stream();
    /// let sender = stream.sender();
    /// assert!(sender.send("in").await.is_ok());
    ///
    /// let mut sending = sender.send("out");
    /// let result = timeout(Duration::from_millis(10), &mut sending).await;
    /// assert!(result.is_err());
    /// assert_eq!(sending.into_item(), Some("out"));
    /// # }
    /// ```
    pub fn into_item(mut self) -> Option<T> {
        self.transit.give_up(&self.sender.channel)
    }
}

/// Nothing of a send is pinned.
impl<T> Unpin for Sending<'_, T> {}

impl<T> Future for Sending<'_, T> {
    type Output = Result<Displaced<T>, SendError<T>>;

    /// # Panics
    ///
    /// If it has given its answer already.
    #[inline]
    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let sending = self.get_mut();
        if sending.sender.gone {
            let item = sending.transit.give_up(&sending.sender.channel);
            let item = item.expect("a send is polled until it is done");
            return Poll::Ready(Err(SendError::new(item, SendErrorKind::Closed)));
        }
        sending.transit.poll(&sending.sender.channel, cx)
    }
}

impl<T> Drop for Sending<'_, T> {
    fn drop(&mut self) {
        self.transit.give_up(&self.sender.channel);
    }
}

impl<T> fmt::Debug for Sending<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sending").finish_non_exhaustive()
    }
}
