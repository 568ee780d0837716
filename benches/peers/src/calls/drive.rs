//! The service at the bottom, and the loops that call what stands before it.

use std::{
    convert::Infallible,
    future::Future,
    hint::{black_box, spin_loop},
    pin::{Pin, pin},
    task::{Context, Poll, Waker},
};

use tower::Service;

use super::{Loop, Tally};

/// What a call asks of the [`Constant`].
#[derive(Clone, Copy, Debug)]
pub enum Ask {
    /// An answer at once.
    Answer,
    /// None ever, so that the call holds its slot.
    Hold,
}

/// The service behind every layer.
#[derive(Clone, Copy, Debug)]
pub struct Constant;

/// What the [`Constant`] answers.
#[derive(Debug)]
pub struct Answer(Ask);

impl Service<Ask> for Constant {
    type Response = u64;
    type Error = Infallible;
    type Future = Answer;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, ask: Ask) -> Answer {
        Answer(ask)
    }
}

impl Future for Answer {
    type Output = Result<u64, Infallible>;

    fn poll(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Self::Output> {
        match self.0 {
            Ask::Answer => Poll::Ready(Ok(1)),
            Ask::Hold => Poll::Pending,
        }
    }
}

/// Asks again until it is there: two threads may meet at a limit of one. Part of whoever asks, as what `.await` becomes is.
#[inline(always)]
pub fn spin<T>(pending: &mut u64, mut poll: impl FnMut() -> Poll<T>) -> T {
    loop {
        match poll() {
            Poll::Ready(ready) => return ready,
            Poll::Pending => {
                *pending += 1;
                spin_loop();
            }
        }
    }
}

/// Calls `service` and asks `admitted` how it went.
pub fn calls<S, F>(service: S, admitted: F) -> Loop
where
    S: Service<Ask> + Clone + Send + 'static,
    F: Fn(&Result<S::Response, S::Error>) -> bool + Send + 'static,
{
    Box::new(move |calls| {
        let cx = &mut Context::from_waker(Waker::noop());
        let mut tally = Tally::default();
        for _ in 0..calls {
            let mut service = service.clone();
            let ready = spin(&mut tally.pending, || service.poll_ready(cx));
            assert!(ready.is_ok(), "the service is always ready");
            let mut answer = pin!(service.call(black_box(Ask::Answer)));
            let answer = black_box(spin(&mut tally.pending, || answer.as_mut().poll(cx)));
            tally.admitted += u64::from(admitted(&answer));
        }
        tally
    })
}

/// Calls a `service` in whose queue each call takes the place of the one before, which is then refused.
pub fn evictions<S>(service: S) -> Loop
where
    S: Service<Ask> + Clone + Send + 'static,
{
    Box::new(move |calls| {
        let cx = &mut Context::from_waker(Waker::noop());
        let mut tally = Tally::default();
        let (mut older, mut newer) = (pin!(None), pin!(None));
        let join = |place: &mut Pin<&mut Option<S::Future>>, cx: &mut Context<'_>| {
            let mut service = service.clone();
            let ready = service.poll_ready(cx);
            assert!(
                matches!(ready, Poll::Ready(Ok(()))),
                "waiting is in the call"
            );
            place.set(Some(service.call(black_box(Ask::Answer))));
            let answer = place.as_mut().as_pin_mut().map(|waiting| waiting.poll(cx));
            // Another thread may have taken its place already.
            assert!(
                !matches!(answer, Some(Poll::Ready(Ok(_)))),
                "nobody is let in"
            );
            matches!(answer, Some(Poll::Pending))
        };
        let mut waits = join(&mut older, cx);
        for _ in 0..calls {
            let newer_waits = join(&mut newer, cx);
            if waits {
                let evicted = older.as_mut().as_pin_mut().expect("it has joined");
                let answer = black_box(evicted.poll(cx));
                tally.admitted += u64::from(!matches!(answer, Poll::Ready(Err(_))));
            }
            older.set(None);
            std::mem::swap(&mut older, &mut newer);
            waits = newer_waits;
        }
        tally
    })
}

/// Calls that keep their slots, or their places in the queue, for as long as they are kept.
pub fn hold<S: Service<Ask> + Clone>(service: &S, calls: usize) -> Vec<Pin<Box<S::Future>>> {
    let cx = &mut Context::from_waker(Waker::noop());
    (0..calls)
        .map(|_| {
            let mut service = service.clone();
            let ready = service.poll_ready(cx);
            assert!(
                matches!(ready, Poll::Ready(Ok(()))),
                "there is room for what is held"
            );
            let mut call = Box::pin(service.call(Ask::Hold));
            assert!(
                call.as_mut().poll(cx).is_pending(),
                "what is held is never answered"
            );
            call
        })
        .collect()
}
