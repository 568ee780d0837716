//! How long is waited for what.

use std::{
    future::Future,
    pin::{Pin, pin},
    task::{Context, Poll, Waker},
    time::Duration,
};

use tokio::{
    task::unconstrained,
    time::{Sleep, sleep_until},
};

use crate::gate::clock::Clock;

/// What was waited for in vain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Timeout {
    FirstToken(Duration),
    BetweenTokens(Duration),
    Answer(Duration),
}

impl Timeout {
    pub(super) fn message(self) -> String {
        match self {
            Timeout::FirstToken(limit) => {
                format!("the model did not begin to answer within {limit:?}")
            }
            Timeout::BetweenTokens(limit) => {
                format!("the model stopped in the middle of its answer, for {limit:?}")
            }
            Timeout::Answer(limit) => format!("the answer was not complete within {limit:?}"),
        }
    }

    #[cfg_attr(not(feature = "metrics"), allow(dead_code))]
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Timeout::FirstToken(_) => "first_token",
            Timeout::BetweenTokens(_) => "between_tokens",
            Timeout::Answer(_) => "answer",
        }
    }
}

/// How long the service behind is waited for. The clock is only looked at where there is nothing to do but to wait, and time that
/// a slow reader takes is nobody's fault: only that in which the service behind was asked and had nothing counts between tokens.
#[derive(Debug, Default)]
pub(super) struct Patience {
    /// Until when something has to have come.
    until: Option<(Duration, Timeout)>,
    between: Option<Duration>,
    /// Of the time between tokens.
    left: Duration,
    waiting_since: Option<Duration>,
    alarm: Alarm,
}

impl Patience {
    /// From `began` on, `timeout` is waited; until the first token, or for good.
    pub(super) fn new(began: Duration, timeout: Option<Timeout>) -> Self {
        let until = timeout.map(|timeout| {
            let (Timeout::FirstToken(limit)
            | Timeout::BetweenTokens(limit)
            | Timeout::Answer(limit)) = timeout;
            (began.saturating_add(limit), timeout)
        });
        Self {
            until,
            ..Self::default()
        }
    }

    /// A token has come: from now on it is the next that is waited for.
    pub(super) fn token(&mut self, between: Option<Duration>) {
        self.until = None;
        self.between = between;
        self.left = between.unwrap_or_default();
        self.waiting_since = None;
    }

    /// Something has come that is no token.
    pub(super) fn came(&mut self, clock: &Clock) {
        if let Some(since) = self.waiting_since.take() {
            let waited = clock.now().saturating_sub(since);
            self.left = self.left.saturating_sub(waited);
        }
    }

    /// There is nothing: whether the patience is over. If not, the task is woken when it is.
    pub(super) fn poll(&mut self, clock: &Clock, cx: &mut Context<'_>) -> Poll<Timeout> {
        let (until, timeout) = match (self.until, self.between) {
            (Some(until), _) => until,
            (None, Some(between)) => {
                let since = *self.waiting_since.get_or_insert_with(|| clock.now());
                let until = since.saturating_add(self.left);
                (until, Timeout::BetweenTokens(between))
            }
            (None, None) => return Poll::Pending,
        };
        self.alarm.poll(clock, until, cx).map(|()| timeout)
    }
}

/// Rings at a time that keeps moving away. It is set anew when it rings too early, not each time that the time moves.
#[derive(Debug, Default)]
pub(super) struct Alarm {
    sleep: Option<(Pin<Box<Sleep>>, Duration)>,
    /// Whom the sleep wakes, which is nearly always the same task.
    wakes: Option<Waker>,
}

impl Alarm {
    pub(super) fn poll(&mut self, clock: &Clock, at: Duration, cx: &mut Context<'_>) -> Poll<()> {
        loop {
            let now_or_never = |at| Some(sleep_until(clock.at(at)?));
            let (sleep, set_to) = match &mut self.sleep {
                Some((sleep, set_to)) if *set_to <= at => {
                    let mut wakes = self.wakes.iter();
                    if wakes.any(|waker| waker.will_wake(cx.waker())) && !sleep.is_elapsed() {
                        return Poll::Pending;
                    }
                    (sleep, *set_to)
                }
                _ => {
                    self.wakes = None;
                    let Some(sleep) = now_or_never(at) else {
                        // That far away is never.
                        return Poll::Pending;
                    };
                    let (sleep, set_to) = self.sleep.insert((Box::pin(sleep), at));
                    (sleep, *set_to)
                }
            };
            // Unconstrained: in a task that has done too much at once the timer would say that it is pending, and not be set.
            if pin!(unconstrained(sleep.as_mut())).poll(cx).is_pending() {
                self.wakes = Some(cx.waker().clone());
                return Poll::Pending;
            }
            self.sleep = None;
            self.wakes = None;
            if set_to >= at || clock.now() >= at {
                return Poll::Ready(());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{
        future::poll_fn,
        sync::{
            Arc,
            atomic::{AtomicBool, Ordering},
        },
        task::Wake,
    };

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[derive(Default)]
    struct Task {
        woken: AtomicBool,
    }

    impl Wake for Task {
        fn wake(self: Arc<Self>) {
            self.woken.store(true, Ordering::Relaxed);
        }
    }

    impl Task {
        fn asks(self: &Arc<Self>, alarm: &mut Alarm, clock: &Clock, at: Duration) -> bool {
            let waker = Arc::clone(self).into();
            let answer = alarm.poll(clock, at, &mut Context::from_waker(&waker));
            answer.is_ready()
        }

        async fn is_woken_within(&self, time: Duration) -> bool {
            tokio::time::sleep(time).await;
            tokio::task::yield_now().await;
            self.woken.swap(false, Ordering::Relaxed)
        }
    }

    #[tokio::test(start_paused = true)]
    async fn an_alarm_wakes_the_task_that_asked_last() {
        let (clock, mut alarm) = (Clock::new(), Alarm::default());
        let (first, second) = (Arc::<Task>::default(), Arc::<Task>::default());
        assert!(!first.asks(&mut alarm, &clock, SECOND));
        assert!(!first.asks(&mut alarm, &clock, SECOND));
        assert!(!second.asks(&mut alarm, &clock, SECOND));
        assert!(second.is_woken_within(2 * SECOND).await);
        assert!(!first.woken.load(Ordering::Relaxed));
        assert!(first.asks(&mut alarm, &clock, SECOND));
    }

    #[tokio::test(start_paused = true)]
    async fn an_alarm_rings_though_its_task_had_done_too_much_when_it_was_set() {
        let (clock, mut alarm) = (Clock::new(), Alarm::default());
        let task = Arc::<Task>::default();
        let (sender, mut receiver) = tokio::sync::mpsc::unbounded_channel();
        (0..1000).for_each(|n| sender.send(n).expect("a receiver"));
        poll_fn(|cx| {
            let mut received = 0;
            while receiver.poll_recv(cx).is_ready() {
                received += 1;
            }
            assert!(received < 1000, "tokio lets a task do only so much at once");
            assert!(!task.asks(&mut alarm, &clock, SECOND));
            Poll::Ready(())
        })
        .await;
        tokio::task::yield_now().await;
        assert!(!task.asks(&mut alarm, &clock, SECOND));
        task.woken.store(false, Ordering::Relaxed);
        assert!(task.is_woken_within(2 * SECOND).await);
    }

    #[tokio::test(start_paused = true)]
    async fn an_alarm_that_is_put_off_rings_when_it_is_to_and_no_earlier() {
        let (clock, mut alarm) = (Clock::new(), Alarm::default());
        let task = Arc::<Task>::default();
        assert!(!task.asks(&mut alarm, &clock, SECOND));
        assert!(!task.asks(&mut alarm, &clock, 3 * SECOND));
        assert!(task.is_woken_within(2 * SECOND).await, "set too early");
        assert!(!task.asks(&mut alarm, &clock, 3 * SECOND));
        assert!(task.is_woken_within(2 * SECOND).await);
        assert!(task.asks(&mut alarm, &clock, 3 * SECOND));
    }

    #[tokio::test(start_paused = true)]
    async fn an_alarm_that_is_put_forward_rings_in_time() {
        let (clock, mut alarm) = (Clock::new(), Alarm::default());
        let task = Arc::<Task>::default();
        assert!(!task.asks(&mut alarm, &clock, 9 * SECOND));
        assert!(!task.asks(&mut alarm, &clock, SECOND));
        assert!(task.is_woken_within(2 * SECOND).await);
        assert!(task.asks(&mut alarm, &clock, SECOND));
    }
}
