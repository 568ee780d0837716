//! How long is waited for what.

use std::{
    future::Future,
    pin::Pin,
    task::{Context, Poll, Waker},
    time::Duration,
};

use tokio::time::{Sleep, sleep_until};

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
            if sleep.as_mut().poll(cx).is_pending() {
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
