//! What happens to an arrival when everything is in use.

/// What happens when it is full.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Strategy {
    /// The arrival waits, before it is even made: `poll_ready` is pending.
    Block,
    /// The arrival is turned away.
    DropNewest,
    /// The arrival waits and, if too many do, the one that has waited longest is turned away.
    DropOldest,
}

impl Strategy {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Strategy::Block => "block",
            Strategy::DropNewest => "drop_newest",
            Strategy::DropOldest => "drop_oldest",
        }
    }
}
