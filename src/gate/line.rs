//! The gate's queue: its lock, its usher, and the waking of whoever can go on.

use std::{sync::Arc, task::Waker, time::Duration};

use super::{Gate, usher::Usher};
use crate::{
    admission::{Admission, Rules},
    contained::contained,
    queue::Ticket,
    slots::{Slots, Word},
    sync::{Ordering, lock},
};

/// What the queue's lock guards.
#[derive(Debug)]
pub(super) struct Line {
    pub(super) admission: Admission<Waker>,
    /// When the usher looks next; `None` while there is none.
    usher_due: Option<Duration>,
}

/// What has to be done about the usher once the queue's lock is free.
enum Errand {
    None,
    Send(Duration),
    Hurry,
}

impl Line {
    pub(super) fn new(rules: Rules) -> Self {
        Self {
            admission: Admission::new(rules),
            usher_due: None,
        }
    }

    fn errand(&mut self, can_send: bool) -> Errand {
        let Some(due) = self.admission.next_due() else {
            return Errand::None;
        };
        match self.usher_due {
            None if !can_send => Errand::None,
            Some(planned) if planned <= due => Errand::None,
            planned => {
                self.usher_due = Some(due);
                match planned {
                    Some(_) => Errand::Hurry,
                    None => Errand::Send(due),
                }
            }
        }
    }
}

impl Gate {
    /// Refuses everybody who has no permit yet.
    pub(super) fn drain(self: &Arc<Self>) {
        self.with_queue(|admission, slots, _, wake| admission.drain(slots, wake));
        self.drained_by(self.slots.read());
    }

    /// A waiter's caller has left.
    pub(super) fn leave(self: &Arc<Self>, ticket: Ticket) {
        self.left.fetch_add(1, Ordering::Relaxed);
        let (spent, word) = self.with_queue(|admission, slots, now, wake| {
            let spent = admission.leave(slots, ticket, now, wake);
            (spent, slots.read())
        });
        discard(spent);
        self.drained_by(word);
    }

    /// The usher looks at the queue; when it has to look again.
    pub(super) fn usher_turn(self: &Arc<Self>, now: Duration) -> Option<Duration> {
        let mut wake = Vec::new();
        let due = {
            let mut line = lock(&self.queue);
            line.admission.turn(&self.slots, now, &mut wake);
            self.count_waiting(&line);
            line.usher_due = line.admission.next_due();
            line.usher_due
        };
        self.recording.waiting(self);
        wake_all(wake);
        self.drained_by(self.slots.read());
        due
    }

    /// The usher has gone, with its runtime or because that has no timer.
    pub(super) fn usher_lost(self: &Arc<Self>, no_timer: bool) {
        self.no_timer.fetch_or(no_timer, Ordering::Relaxed);
        lock(&self.queue).usher_due = None;
        self.call_all();
    }

    /// Where nobody can find out who comes when called, everybody is.
    fn call_all(self: &Arc<Self>) {
        let now = self.clock.now();
        let mut wake = Vec::new();
        lock(&self.queue).admission.call_all(now, &mut wake);
        wake_all(wake);
    }

    /// Does something about the queue, wakes those it concerns, and sees to it that the queue is looked at in time.
    ///
    /// Nothing of anybody else's runs under the lock.
    pub(super) fn with_queue<R>(
        self: &Arc<Self>,
        f: impl FnOnce(&mut Admission<Waker>, &Slots, Duration, &mut Vec<Waker>) -> R,
    ) -> R {
        let now = self.clock.now();
        let usher = Usher::at_hand(self);
        let mut wake = Vec::new();
        let (result, errand) = {
            let mut line = lock(&self.queue);
            let result = f(&mut line.admission, &self.slots, now, &mut wake);
            self.count_waiting(&line);
            (result, line.errand(usher.is_some()))
        };
        match (errand, usher) {
            (Errand::Hurry, _) => self.earlier.notify_one(),
            (Errand::Send(due), Some(usher)) => usher.send(due),
            // Without an usher nobody would find out that one who was called does not come.
            (_, None) if self.slots.read().free() > 0 => self.call_all(),
            _ => {}
        }
        wake_all(wake);
        self.recording.waiting(self);
        result
    }

    fn count_waiting(&self, line: &Line) {
        self.waiting
            .store(line.admission.waiting(), Ordering::Relaxed);
    }

    /// Whatever led to this word, it may have brought the last permit back.
    pub(super) fn drained_by(&self, word: Word) {
        if word.draining() && word.in_flight() == 0 {
            self.drained.notify_waiters();
        }
    }
}

/// One that panics keeps none of the others asleep.
fn wake_all(wakers: Vec<Waker>) {
    for waker in wakers {
        contained(|| waker.wake());
    }
}

/// Drops a waker that is not needed any more, where no lock is held: it may own whatever it wakes.
pub(super) fn discard(waker: Option<Waker>) {
    contained(|| drop(waker));
}
