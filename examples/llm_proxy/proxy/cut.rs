//! The end of a drain's patience: what has not ended by then is ended.

use std::{
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Poll},
};

use futures_util::future::{Future, FutureExt, Shared};
use tokio::sync::oneshot;

/// Each request holds one; cheap to clone.
#[derive(Clone)]
pub struct Cut {
    signal: Shared<oneshot::Receiver<()>>,
    cut: bool,
    counted: Arc<AtomicUsize>,
}

/// Cuts all off, once.
pub struct Scissors(oneshot::Sender<()>);

pub fn cut() -> (Scissors, Cut) {
    let (sender, receiver) = oneshot::channel();
    let cut = Cut {
        signal: receiver.shared(),
        cut: false,
        counted: Arc::default(),
    };
    (Scissors(sender), cut)
}

impl Scissors {
    pub fn cut(self) {
        let _ = self.0.send(());
    }
}

impl Cut {
    /// Ready once it is time to end. Never if the scissors were dropped.
    pub fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if !self.cut {
            match Pin::new(&mut self.signal).poll(cx) {
                Poll::Ready(Ok(())) => self.cut = true,
                Poll::Ready(Err(_)) | Poll::Pending => return Poll::Pending,
            }
        }
        Poll::Ready(())
    }

    pub async fn wait(mut self) {
        std::future::poll_fn(|cx| self.poll(cx)).await;
    }

    pub fn count(&self) {
        self.counted.fetch_add(1, Ordering::Relaxed);
    }

    /// How many were ended.
    pub fn counted(&self) -> usize {
        self.counted.load(Ordering::Relaxed)
    }
}
