//! The gate's queue: its lock, its usher, and the waking of whoever can go on.

use std::{sync::Arc, task::Waker, time::Duration};

use super::{
    Gate,
    usher::{Runtime, Usher},
};
use crate::{
    admission::{Admission, Rules, Woken},
    contained::contained,
    queue::Ticket,
    room::Room,
    slots::Word,
    sync::{Ordering, lock},
};

/// What the queue's lock guards.
#[derive(Debug)]
pub(super) struct Line {
    pub(super) admission: Admission<Waker>,
    /// When the usher looks next; `None` while there is none.
    usher_due: Option<Duration>,
    /// Of the last that came to wait. An usher can be sent there when a permit comes back on a thread that has none.
    pub(super) runtime: Option<Runtime>,
}

/// What has to be done about the usher once the queue's lock is free.
enum Errand {
    None,
    Send,
    Hurry,
}

impl Line {
    pub(super) fn new(rules: Rules) -> Self {
        Self {
            admission: Admission::new(rules),
            usher_due: None,
            runtime: None,
        }
    }

    fn errand(&mut self) -> Errand {
        match (self.usher_due, self.admission.next_due()) {
            (_, None) => Errand::None,
            (None, Some(_)) => Errand::Send,
            (Some(planned), Some(due)) if planned <= due => Errand::None,
            (Some(_), due) => {
                self.usher_due = due;
                Errand::Hurry
            }
        }
    }
}

impl Gate {
    /// Refuses everybody who has no permit yet.
    pub(crate) fn drain(self: &Arc<Self>) {
        self.with_queue(|admission, room, _, wake| admission.drain(room, wake));
        self.drained_by(self.room.slots.read());
    }

    /// A waiter's caller has left.
    pub(super) fn leave(self: &Arc<Self>, ticket: Ticket) {
        self.count_left();
        let (used, word) = self.with_queue(|admission, room, now, wake| {
            let used = admission.leave(room, ticket, now, wake);
            (used, room.slots.read())
        });
        discard(used);
        self.drained_by(word);
    }

    /// The usher looks at the queue; when it has to look again.
    pub(super) fn usher_turn(self: &Arc<Self>, now: Duration) -> Option<Duration> {
        let mut wake = Woken::new();
        let due = {
            let mut line = lock(&self.queue);
            line.admission.turn(&self.room, now, &mut wake);
            self.count_waiting(&line);
            line.usher_due = line.admission.next_due();
            line.usher_due
        };
        self.show_waiting();
        wake_all(wake);
        self.drained_by(self.room.slots.read());
        due
    }

    /// The usher has gone, with its runtime or because that has no timer.
    pub(super) fn usher_lost(self: &Arc<Self>, no_timer: bool) {
        self.no_timer.fetch_or(no_timer, Ordering::Relaxed);
        let _useless = {
            let mut line = lock(&self.queue);
            line.usher_due = None;
            // Or another would be sent there at once, and come back at once.
            line.runtime.take()
        };
        self.call_all();
    }

    /// Where nobody can find out who comes when called, everybody is.
    fn call_all(self: &Arc<Self>) {
        let now = self.clock.now();
        let mut wake = Woken::new();
        lock(&self.queue)
            .admission
            .call_all(&self.room, now, &mut wake);
        wake_all(wake);
    }

    /// Does something about the queue, wakes those it concerns, and sees to it that the queue is looked at in time.
    pub(super) fn with_queue<R>(
        self: &Arc<Self>,
        f: impl FnOnce(&mut Admission<Waker>, &Room, Duration, &mut Woken<Waker>) -> R,
    ) -> R {
        self.with_line(|line, room, now, wake| f(&mut line.admission, room, now, wake))
    }

    /// Likewise. Of what is anybody else's only rates run under the lock.
    pub(super) fn with_line<R>(
        self: &Arc<Self>,
        f: impl FnOnce(&mut Line, &Room, Duration, &mut Woken<Waker>) -> R,
    ) -> R {
        let now = self.clock.now();
        let mut wake = Woken::new();
        let (result, errand) = {
            let mut line = lock(&self.queue);
            let result = f(&mut line, &self.room, now, &mut wake);
            self.count_waiting(&line);
            (result, line.errand())
        };
        match errand {
            Errand::None => {}
            Errand::Send => self.send_usher(),
            Errand::Hurry => self.earlier.notify_one(),
        }
        wake_all(wake);
        self.show_waiting();
        result
    }

    fn send_usher(self: &Arc<Self>) {
        let Some(usher) = Usher::at_hand(self) else {
            // Nobody would find out that one who was called does not come. For a time that has not come nobody is woken: all would
            // be told to wait on, and send for an usher again.
            let can_go_on = lock(&self.queue).admission.can_go_on(&self.room);
            if can_go_on {
                self.call_all();
            }
            return;
        };
        let due = {
            let mut line = lock(&self.queue);
            if line.usher_due.is_some() {
                // Another thread was quicker, and has seen all that this one did.
                return;
            }
            line.usher_due = line.admission.next_due();
            line.usher_due
        };
        if let Some(due) = due {
            usher.send(due);
        }
    }

    fn count_waiting(&self, line: &Line) {
        let now = line.admission.waiting();
        // Under the queue's lock, so that the sum above misses nothing.
        let before = self.waiting.swap(now, Ordering::Relaxed);
        let demanded = line.admission.demanded();
        let demanded_before = self.demanded.swap(demanded, Ordering::Relaxed);
        if let Some(above) = &self.above {
            above.waiting_below(before, now);
            let more = demanded.wrapping_sub(demanded_before);
            above.demanded.fetch_add(more, Ordering::Relaxed);
        }
    }

    fn waiting_below(&self, before: usize, now: usize) {
        if now > before {
            let sum = self.waiting.fetch_add(now - before, Ordering::Relaxed) + now - before;
            self.peak_below.fetch_max(sum, Ordering::Relaxed);
        } else if now < before {
            self.waiting.fetch_sub(before - now, Ordering::Relaxed);
        }
    }

    fn show_waiting(&self) {
        let shown = self.shown();
        shown.recording.waiting(shown);
    }

    /// Whatever led to this word, it may have brought the last permit back.
    pub(super) fn drained_by(&self, word: Word) {
        if word.draining() && word.in_flight() == 0 {
            contained(|| self.drained.notify_waiters());
        }
    }
}

/// One that panics keeps none of the others asleep.
fn wake_all(wakers: Woken<Waker>) {
    for waker in wakers {
        contained(|| waker.wake());
    }
}

/// Drops a waker that is not needed any more, where no lock is held: it may own whatever it wakes.
pub(super) fn discard(waker: Option<Waker>) {
    contained(|| drop(waker));
}
