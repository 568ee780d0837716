//! The line of senders that wait for their turn.
//!
//! Tickets are given in order and turns are given in order, so one number says whose turn has come: whoever stands below it,
//! and is still there, has a place kept. A sender that leaves from the middle of the line costs O(log n), so that a storm of
//! cancellations stays linear.

use std::{collections::BTreeMap, time::Duration};

/// A place in the line. The lower, the longer it has waited.
pub(crate) type Ticket = u64;

#[derive(Debug)]
struct Waiting<W> {
    weight: usize,
    waker: W,
}

/// Generic over what wakes a sender.
#[derive(Debug)]
pub(crate) struct Line<W> {
    waiting: BTreeMap<Ticket, Waiting<W>>,
    next: Ticket,
    /// The turn of every ticket below has come.
    turn: Ticket,
    /// Who holds a timer for the whole line, and when it rings.
    timer: Option<(Ticket, Duration)>,
}

impl<W> Line<W> {
    pub(crate) fn new() -> Self {
        Self {
            waiting: BTreeMap::new(),
            next: 0,
            turn: 0,
            timer: None,
        }
    }

    #[inline]
    pub(crate) fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    /// Who has waited longest, and the weight of its item.
    pub(crate) fn front(&self) -> Option<(Ticket, usize)> {
        let (ticket, waiting) = self.waiting.first_key_value()?;
        Some((*ticket, waiting.weight))
    }

    pub(crate) fn join(&mut self, weight: usize, waker: W) -> Ticket {
        let ticket = self.next;
        self.next += 1;
        self.waiting.insert(ticket, Waiting { weight, waker });
        ticket
    }

    /// Whether the sender, which has not left, was told to send.
    pub(crate) fn has_turn(&self, ticket: Ticket) -> bool {
        ticket < self.turn
    }

    /// The turn of the one in front has come. Gives what wakes it.
    pub(crate) fn advance(&mut self) -> Option<W> {
        let (ticket, waiting) = self.waiting.pop_first()?;
        self.turn = ticket + 1;
        Some(waiting.waker)
    }

    /// What wakes the sender from now on. Gives what did so far, unless that will do.
    pub(crate) fn wait_on(
        &mut self,
        ticket: Ticket,
        will_do: impl Fn(&W) -> bool,
        waker: impl FnOnce() -> W,
    ) -> Option<W> {
        let waiting = self.waiting.get_mut(&ticket)?;
        if will_do(&waiting.waker) {
            return None;
        }
        Some(std::mem::replace(&mut waiting.waker, waker()))
    }

    /// The sender goes without its turn. Gives what would have woken it.
    pub(crate) fn leave(&mut self, ticket: Ticket) -> Option<W> {
        self.waiting.remove(&ticket).map(|waiting| waiting.waker)
    }

    /// Everybody goes.
    pub(crate) fn clear(&mut self) -> impl Iterator<Item = W> + use<W> {
        std::mem::take(&mut self.waiting)
            .into_values()
            .map(|waiting| waiting.waker)
    }

    /// The sender looks at the line again when it is `due`, whatever else happens.
    pub(crate) fn set_timer(&mut self, ticket: Ticket, due: Duration) {
        self.timer = Some((ticket, due));
    }

    /// What wakes the one in front, if the line is to be looked at when it is `due` and nobody there will. To be asked
    /// once: the one in front is taken to see to it.
    pub(crate) fn entrust_timer(&mut self, due: Duration) -> Option<&W> {
        /// What a timer does not tell apart.
        const TICK: Duration = Duration::from_millis(1);
        let (ticket, waiting) = self.waiting.first_key_value()?;
        match self.timer {
            Some((holder, planned)) if holder == *ticket && planned <= due + TICK => None,
            _ => {
                self.timer = Some((*ticket, due));
                Some(&waiting.waker)
            }
        }
    }
}
