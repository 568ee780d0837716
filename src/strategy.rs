//! What happens to an arrival when everything is in use: a request before a gate, an item before a stream.

/// What happens to a request when every slot is in use.
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

/// What happens to an item when its stream is full.
///
/// | strategy | who pays for a slow reader |
/// |---|---|
/// | `Block` | the producers: they wait |
/// | `DropNewest` | whoever comes last: history is worth more than news |
/// | `DropOldest` | whatever has waited longest: news is worth more than history |
/// | `Adaptive` | the producers, before it is full: they are slowed down to what is read |
/// | `Fail` | everybody: a gap is worse than an end |
#[cfg(feature = "stream")]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum BackpressureStrategy {
    /// The sender waits, first come first served. Nothing is lost.
    Block,
    /// The arriving item goes back to its sender.
    DropNewest,
    /// The item that has waited longest makes room, and goes to the sender of the new one.
    DropOldest,
    /// Senders keep to a rate that follows how full the stream is, and wait when it is full all the same. Nothing is
    /// lost. See [`AdaptiveRateController`](crate::AdaptiveRateController).
    Adaptive,
    /// The stream ends with an error once what is in it has been read. See
    /// [`Overflow`](crate::stream::Overflow).
    Fail,
}

#[cfg(feature = "stream")]
impl BackpressureStrategy {
    pub(crate) const ALL: [Self; 5] = [
        Self::Block,
        Self::DropNewest,
        Self::DropOldest,
        Self::Adaptive,
        Self::Fail,
    ];

    /// `block`, `drop_newest`, `drop_oldest`, `adaptive` or `fail`: as it is called in metrics, and read from text.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Block => Strategy::Block.as_str(),
            Self::DropNewest => Strategy::DropNewest.as_str(),
            Self::DropOldest => Strategy::DropOldest.as_str(),
            Self::Adaptive => "adaptive",
            Self::Fail => "fail",
        }
    }

    /// Whether a sender waits for room.
    pub(crate) fn waits(self) -> bool {
        matches!(self, Self::Block | Self::Adaptive)
    }
}

#[cfg(feature = "stream")]
impl std::fmt::Display for BackpressureStrategy {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(self.as_str())
    }
}

/// From its name, as [`as_str`](Self::as_str) gives it.
#[cfg(feature = "stream")]
impl std::str::FromStr for BackpressureStrategy {
    type Err = crate::ConfigError;

    fn from_str(name: &str) -> Result<Self, Self::Err> {
        let found = Self::ALL
            .into_iter()
            .find(|strategy| strategy.as_str() == name);
        found.ok_or_else(|| {
            let names = Self::ALL.map(Self::as_str).join(", ");
            crate::ConfigError::new("strategy", name, format!("one of {names}"))
        })
    }
}
