use std::{error, fmt, time::Duration};

/// An item that was not sent, and why.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct SendError<T> {
    item: T,
    kind: SendErrorKind,
}

impl<T> SendError<T> {
    pub(super) fn new(item: T, kind: SendErrorKind) -> Self {
        Self { item, kind }
    }

    /// Why it was not sent.
    pub fn kind(&self) -> SendErrorKind {
        self.kind
    }

    /// The item, back.
    pub fn into_item(self) -> T {
        self.item
    }
}

/// Why an item was not sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum SendErrorKind {
    /// There is no room, or others wait for it already. Under `Fail` the stream has failed with this very item.
    Full,
    /// The rate does not allow it yet, but in so much time.
    TooEarly(Duration),
    /// It weighs more than everything in the stream together may.
    TooHeavy,
    /// Nobody reads any more: the stream is gone, closed, or has failed. No later item can be sent either.
    Closed,
}

impl<T> fmt::Debug for SendError<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SendError")
            .field("kind", &self.kind)
            .finish_non_exhaustive()
    }
}

impl<T> fmt::Display for SendError<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.kind {
            SendErrorKind::Full => f.write_str("not sent: the stream is full"),
            SendErrorKind::TooEarly(wait) => {
                write!(f, "not sent: the rate allows it in {wait:?}")
            }
            SendErrorKind::TooHeavy => {
                f.write_str("not sent: the item weighs more than the whole stream may")
            }
            SendErrorKind::Closed => f.write_str("not sent: nobody reads the stream any more"),
        }
    }
}

impl<T> error::Error for SendError<T> {}

/// A stream whose strategy is `Fail` was full, and an item was lost to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Overflow {
    capacity: usize,
}

impl Overflow {
    pub(super) fn new(capacity: usize) -> Self {
        Self { capacity }
    }

    /// How many items the stream holds at most.
    pub fn capacity(&self) -> usize {
        self.capacity
    }
}

impl fmt::Display for Overflow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let capacity = self.capacity;
        write!(
            f,
            "the stream was full, with a capacity of {capacity}, when another item came"
        )
    }
}

impl error::Error for Overflow {}
