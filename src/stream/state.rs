//! What the channel's lock guards: the ring, the line of senders, and who is still there.
//!
//! Every step is one of these methods. None of them runs anybody else's code but the cloning of a waker; what has to be
//! woken or dropped goes into an [`After`], for when the lock is free.

use std::{task::Waker, time::Duration};

use super::{
    Displaced, Overflow, SendErrorKind,
    line::{Line, Ticket},
    pacing::Pacer,
    ring::{Bounds, Ring, Tally},
};
use crate::{BackpressureStrategy, contained::contained};

#[derive(Debug)]
#[repr(C)]
pub(super) struct State<T> {
    ring: Ring<T>,
    /// What wakes the reader, if it waits.
    reader: Option<Waker>,
    /// Nothing more is let in.
    closed: bool,
    /// There has been a sender. A stream without one has not ended, but not begun.
    begun: bool,
    /// The reader has gone.
    reader_gone: bool,
    line: Line<Waker>,
    pacer: Option<Pacer>,
    senders: usize,
    overflow: Option<Overflow>,
    readings: u64,
}

/// All numbers at one moment.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Reading {
    /// Tells which of two is the later.
    #[cfg_attr(not(feature = "metrics"), allow(dead_code))]
    pub(super) nth: u64,
    pub(super) tally: Tally,
    /// In items per second, if there is one.
    pub(super) rate: Option<f64>,
}

/// What is left to do when the lock is free: as a rule nothing, or to wake one task.
#[derive(Debug)]
pub(super) struct After<T> {
    wake: Option<Waker>,
    more: Option<Box<More<T>>>,
}

#[derive(Debug)]
struct More<T> {
    wake: Vec<Waker>,
    /// Wakers that are not needed any more.
    spent: Vec<Waker>,
    /// Items that nobody gets: they have outlived their time, or their reader.
    gone: Displaced<T>,
}

impl<T> Default for After<T> {
    fn default() -> Self {
        Self {
            wake: None,
            more: None,
        }
    }
}

impl<T> After<T> {
    #[inline]
    fn wake(&mut self, waker: Waker) {
        if self.wake.is_none() {
            self.wake = Some(waker);
        } else {
            self.more().wake.push(waker);
        }
    }

    /// Drops a waker, if there is one.
    #[inline]
    fn spend(&mut self, waker: Option<Waker>) {
        if let Some(waker) = waker {
            self.more().spent.push(waker);
        }
    }

    #[cold]
    fn more(&mut self) -> &mut More<T> {
        self.more.get_or_insert_with(|| {
            Box::new(More {
                wake: Vec::new(),
                spent: Vec::new(),
                gone: Displaced::default(),
            })
        })
    }

    /// Wakes and drops. A waker that panics keeps none of the others asleep.
    #[inline]
    pub(super) fn run(self) {
        if let Some(waker) = self.wake {
            contained(|| waker.wake());
        }
        if let Some(more) = self.more {
            for waker in more.wake {
                contained(|| waker.wake());
            }
        }
    }
}

/// How a sender in the line stands.
#[derive(Debug)]
pub(super) enum Turn {
    /// A place is kept for it.
    Come,
    Closed,
    /// It waits, and has to look again when this time has come, if there is one.
    Waiting(Option<Duration>),
}

impl<T> State<T> {
    pub(super) fn new(bounds: &Bounds, pacer: Option<Pacer>) -> Self {
        Self {
            ring: Ring::new(bounds),
            line: Line::new(),
            pacer,
            reader: None,
            senders: 0,
            begun: false,
            closed: false,
            reader_gone: false,
            overflow: None,
            readings: 0,
        }
    }

    /// To be called after each step but the quick ones: whether those may follow. Nobody waits on either side, nobody looks
    /// on, and a place is nothing but a number.
    #[inline]
    pub(super) fn settle(&mut self, looked_on: bool) {
        self.ring.quick = !looked_on
            && !self.closed
            && self.reader.is_none()
            && self.line.is_empty()
            && self.pacer.is_none()
            && self.ring.is_simple();
    }

    /// [`offer`](Self::offer), if it concerns nobody.
    ///
    /// # Errors
    ///
    /// With the item, if it might. Nothing was done.
    #[inline]
    pub(super) fn offer_quickly(&mut self, item: T) -> Result<Option<T>, T> {
        if !self.ring.quick {
            return Err(item);
        }
        self.ring.push_quickly(item)
    }

    /// [`receive`](Self::receive), if it concerns nobody.
    #[inline]
    pub(super) fn receive_quickly(&mut self) -> Option<T> {
        if !self.ring.quick {
            return None;
        }
        self.ring.pop_quickly()
    }

    /// To be taken after a step.
    pub(super) fn read(&mut self) -> Reading {
        self.readings += 1;
        let rate = self.pacer.as_ref().map(|pacer| match self.reader_gone {
            true => 0.0,
            false => pacer.per_second(),
        });
        let mut tally = self.ring.tally();
        if let Some(cuts) = self.pacer.as_ref().and_then(Pacer::cuts) {
            tally.events = cuts;
        }
        Reading {
            nth: self.readings,
            tally,
            rate,
        }
    }

    pub(super) fn reader_waits(&self) -> bool {
        self.reader.is_some()
    }

    pub(super) fn is_closed(&self) -> bool {
        self.closed
    }

    /// Whether nothing more will come. Once that has been said, it stays so.
    pub(super) fn has_ended(&mut self) -> bool {
        let ended = self.ring.depth() == 0 && (self.closed || (self.begun && self.senders == 0));
        self.closed |= ended;
        ended
    }

    pub(super) fn overflow(&self) -> Option<Overflow> {
        self.overflow
    }

    /// Sends at once, or says why not. What is displaced goes to `displaced`.
    #[inline]
    pub(super) fn offer(
        &mut self,
        item: T,
        weight: usize,
        now: Duration,
        displaced: &mut Displaced<T>,
        after: &mut After<T>,
    ) -> Result<(), (T, SendErrorKind)> {
        if self.closed {
            return Err((item, SendErrorKind::Closed));
        }
        self.expire(now, after);
        if self.ring.strategy().waits() {
            if let Err(kind) = self.may_send(weight, now) {
                return Err((item, kind));
            }
        }
        match self.ring.push(item, weight, now, displaced) {
            Ok(()) => {
                self.call_reader(after);
                Ok(())
            }
            Err(item) => {
                if self.ring.strategy() == BackpressureStrategy::Fail {
                    self.overflow = Some(Overflow::new(self.ring.capacity()));
                    self.close(after);
                }
                Err((item, SendErrorKind::Full))
            }
        }
    }

    /// Whether it is an arrival's turn at once. The rate is spent then.
    #[inline]
    fn may_send(&mut self, weight: usize, now: Duration) -> Result<(), SendErrorKind> {
        self.pace(now);
        if !self.ring.has_room(weight) {
            self.ring.note_full();
            return Err(SendErrorKind::Full);
        }
        if !self.line.is_empty() {
            return Err(SendErrorKind::Full);
        }
        self.spend(now).map_err(SendErrorKind::TooEarly)
    }

    /// Joins the line.
    pub(super) fn join(&mut self, weight: usize, waker: &Waker) -> Ticket {
        self.line.join(weight, waker.clone())
    }

    /// A sender in the line looks how it stands.
    pub(super) fn look(
        &mut self,
        ticket: Ticket,
        weight: usize,
        now: Duration,
        waker: &Waker,
        after: &mut After<T>,
    ) -> Turn {
        if self.closed {
            self.leave(ticket, weight, now, after);
            return Turn::Closed;
        }
        let due = self.admit(now, Some(ticket), after);
        if self.line.has_turn(ticket) {
            return Turn::Come;
        }
        let spent = self
            .line
            .wait_on(ticket, |old| old.will_wake(waker), || waker.clone());
        after.spend(spent);
        Turn::Waiting(due)
    }

    /// A sender whose turn has come sends.
    pub(super) fn send_reserved(
        &mut self,
        item: T,
        weight: usize,
        now: Duration,
        after: &mut After<T>,
    ) {
        self.ring.push_reserved(item, weight, now);
        self.call_reader(after);
    }

    /// A sender leaves the line, whether or not its turn has come.
    pub(super) fn leave(
        &mut self,
        ticket: Ticket,
        weight: usize,
        now: Duration,
        after: &mut After<T>,
    ) {
        if self.line.has_turn(ticket) {
            self.ring.release(weight);
        } else {
            after.spend(self.line.leave(ticket));
        }
        if !self.closed {
            self.admit(now, None, after);
        }
    }

    /// The oldest item.
    #[inline]
    pub(super) fn receive(&mut self, now: Duration, after: &mut After<T>) -> Option<T> {
        self.expire(now, after);
        let item = self.ring.pop();
        if !self.line.is_empty() {
            self.admit(now, None, after);
        }
        // Not before those that waited have got their turns: an episode goes on while somebody waits.
        self.ring.note_room();
        item
    }

    /// The reader waits.
    #[inline]
    pub(super) fn park_reader(&mut self, waker: &Waker, after: &mut After<T>) {
        match &self.reader {
            Some(old) if old.will_wake(waker) => {}
            _ => after.spend(self.reader.replace(waker.clone())),
        }
    }

    /// Nothing more is let in; what is here can still be read.
    pub(super) fn close(&mut self, after: &mut After<T>) {
        self.closed = true;
        self.line.clear().for_each(|waker| after.wake(waker));
        self.call_reader(after);
    }

    /// The reader goes, and what it has not read with it. Whether nobody at all is left.
    pub(super) fn leave_reader(&mut self, after: &mut After<T>) -> bool {
        self.reader_gone = true;
        // It needs not be woken for its own leaving.
        after.spend(self.reader.take());
        self.close(after);
        self.ring.clear(&mut after.more().gone);
        self.senders == 0
    }

    pub(super) fn add_sender(&mut self) {
        self.begun = true;
        self.senders += 1;
    }

    /// A sender goes. Whether nobody at all is left.
    pub(super) fn remove_sender(&mut self, after: &mut After<T>) -> bool {
        self.senders -= 1;
        if self.senders == 0 {
            self.call_reader(after);
        }
        self.senders == 0 && self.reader_gone
    }

    #[inline]
    fn expire(&mut self, now: Duration, after: &mut After<T>) {
        if self.ring.has_expired(now) {
            self.ring.expire(now, &mut after.more().gone);
        }
    }

    #[inline]
    fn call_reader(&mut self, after: &mut After<T>) {
        if let Some(reader) = self.reader.take() {
            after.wake(reader);
        }
    }

    /// Gives turns in the order of the line, for as long as there is room and the rate allows it. When `me`, who is about to
    /// wait, has to look again. If somebody else has to, it is told so.
    fn admit(
        &mut self,
        now: Duration,
        me: Option<Ticket>,
        after: &mut After<T>,
    ) -> Option<Duration> {
        let (front, due) = loop {
            let (front, weight) = self.line.front()?;
            self.expire(now, after);
            self.pace(now);
            if !self.ring.has_room(weight) {
                self.ring.note_full();
                break (front, self.ring.next_expiry());
            }
            if let Err(wait) = self.spend(now) {
                break (front, Some(now.saturating_add(wait)));
            }
            self.ring.reserve(weight);
            match self.line.advance() {
                Some(waker) if me == Some(front) => after.spend(Some(waker)),
                Some(waker) => after.wake(waker),
                None => {}
            }
        };
        let due = due?;
        if me == Some(front) {
            self.line.set_timer(front, due);
            return Some(due);
        }
        if let Some(waker) = self.line.entrust_timer(due).cloned() {
            after.wake(waker);
        }
        None
    }

    /// Lets the rate follow how full the ring is.
    #[inline]
    fn pace(&mut self, now: Duration) {
        if let Some(pacer) = &mut self.pacer {
            pacer.observe(now, self.ring.level());
        }
    }

    /// Spends one item's worth of the rate, or says how much too early it is.
    #[inline]
    fn spend(&mut self, now: Duration) -> Result<(), Duration> {
        match &mut self.pacer {
            None => Ok(()),
            Some(pacer) => pacer.spend(now),
        }
    }
}
