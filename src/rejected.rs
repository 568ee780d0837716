use std::{error, fmt, time::Duration};

/// A refusal: why, and when to come back.
///
/// It is the error of the plain layer, and an extension of the response that the HTTP layer answers with, so that an
/// outer layer can tell a refusal from a failure:
///
/// ```
/// use tower_backpressure::Rejected;
///
/// fn was_refused<B>(response: &http::Response<B>) -> bool {
///     response.extensions().get::<Rejected>().is_some()
/// }
/// # assert!(!was_refused(&http::Response::new(())));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rejected {
    reason: Reason,
    limit: u32,
    /// Both in milliseconds: four small numbers travel in two registers, and a refusal has to be quick.
    retry_after: u32,
    waited: u32,
    by_rate: bool,
}

impl Rejected {
    /// A refusal as the gate would make it. For tests of your own `respond` closures and outer layers.
    ///
    /// Times are kept in whole milliseconds, up to 49 days: the hint is rounded up, what was waited is rounded down.
    #[inline]
    pub fn new(reason: Reason, retry_after: Duration, limit: usize, waited: Duration) -> Self {
        let millis = |duration: Duration| u32::try_from(duration.as_millis()).unwrap_or(u32::MAX);
        Self {
            reason,
            limit: u32::try_from(limit).unwrap_or(u32::MAX),
            retry_after: millis(retry_after.saturating_add(Duration::from_nanos(999_999))),
            waited: millis(waited),
            by_rate: matches!(reason, Reason::Rate | Reason::OverBurst),
        }
    }

    /// It was a rate that had no room, whatever was the end of the waiting.
    pub(crate) fn by_rate(mut self) -> Self {
        self.by_rate = true;
        self
    }

    /// Whether a rate had no room, rather than a limit: over HTTP such a refusal is a 429 and not a 503.
    pub fn is_by_rate(&self) -> bool {
        self.by_rate
    }

    /// Whether it is no use to come back: the request asks for more than there can ever be.
    pub fn is_final(&self) -> bool {
        self.reason == Reason::OverBurst
    }

    /// Why it was refused.
    pub fn reason(&self) -> Reason {
        self.reason
    }

    /// When to try again. Where a limit was in the way: the time in which the gate works off those that wait and those it
    /// has just refused, at the pace it has lately kept; 1 s where it has no pace yet, and while it drains; between 1 ms and
    /// 60 s, and spread by ± 30 % so that those refused together do not come back together. Where a rate was in the way:
    /// exactly when there is room for this request if nobody else takes it, behind those that wait. 49 days stand for
    /// longer, and for never.
    pub fn retry_after(&self) -> Duration {
        Duration::from_millis(self.retry_after.into())
    }

    /// The limit in force at the refusal, in requests; where a rate was in the way, what can be spent at once.
    pub fn limit(&self) -> usize {
        self.limit as usize
    }

    /// How long the request had waited; zero where it was refused at once.
    pub fn waited(&self) -> Duration {
        Duration::from_millis(self.waited.into())
    }
}

impl fmt::Display for Rejected {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("rejected: ")?;
        match self.reason {
            Reason::Limit => write!(f, "all {} slots are in use", self.limit)?,
            Reason::QueueFull => f.write_str("the queue is full")?,
            Reason::Evicted => write!(
                f,
                "evicted from the queue by a newer request after {}",
                Seconds(self.waited())
            )?,
            Reason::MaxWait => write!(f, "its turn did not come in {}", Seconds(self.waited()))?,
            Reason::Rate => f.write_str("over the rate")?,
            Reason::OverBurst => write!(
                f,
                "it costs more than the {} that can be spent at once",
                self.limit
            )?,
            Reason::Unavailable => f.write_str("the shared rate cannot be asked")?,
            Reason::Deadline => f.write_str("it cannot be answered by its deadline")?,
            Reason::Draining => f.write_str("the service is shutting down")?,
        }
        if self.is_final() {
            return f.write_str("; it will never be let in");
        }
        write!(f, "; retry after {}", Seconds(self.retry_after()))
    }
}

/// To the millisecond, as the headers say it. In whole numbers: floating-point ones take longer than all else of a refusal's text.
struct Seconds(Duration);

impl fmt::Display for Seconds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{:03} s", self.0.as_secs(), self.0.subsec_millis())
    }
}

impl error::Error for Rejected {}

/// Why a request was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Reason {
    /// As many as may were in flight, and nobody may wait.
    Limit,
    /// As many as may were waiting.
    QueueFull,
    /// It had waited longest when a newer request came and the queue was full.
    Evicted,
    /// It had waited for `max_wait`.
    MaxWait,
    /// There was no room in a rate, and nobody may wait.
    Rate,
    /// It costs more than the burst of a rate, which can never be spent.
    OverBurst,
    /// The store of a shared rate did not answer, and nobody may be let in while it does not.
    Unavailable,
    /// It could not have been answered by the time at which its caller gives up.
    Deadline,
    /// The gate is draining.
    Draining,
}

impl Reason {
    /// The value of the `reason` label in metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Reason::Limit => "limit",
            Reason::QueueFull => "queue_full",
            Reason::Evicted => "evicted",
            Reason::MaxWait => "max_wait",
            Reason::Rate => "rate",
            Reason::OverBurst => "over_burst",
            Reason::Unavailable => "unavailable",
            Reason::Deadline => "deadline",
            Reason::Draining => "draining",
        }
    }

    #[cfg(feature = "metrics")]
    pub(crate) const ALL: [Reason; 9] = [
        Reason::Limit,
        Reason::QueueFull,
        Reason::Evicted,
        Reason::MaxWait,
        Reason::Rate,
        Reason::OverBurst,
        Reason::Unavailable,
        Reason::Deadline,
        Reason::Draining,
    ];
}
