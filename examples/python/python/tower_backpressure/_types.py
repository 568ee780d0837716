"""What needs no Rust: the exceptions, the settings of a rate, the numbers of a stream."""

from dataclasses import dataclass
from typing import Any, NamedTuple


class StreamError(Exception):
    """Everything that a stream raises of its own."""

    def __str__(self) -> str:
        return str(self.args[0])


class SendError(StreamError):
    """An item was not sent. `item` is it."""

    def __init__(self, message: str, item: Any) -> None:
        super().__init__(message, item)
        self.item = item


class StreamClosed(SendError):
    """Nobody reads any more, or this sender has been closed: stop producing. No later item can be sent either."""


class StreamFull(SendError):
    """There is no room, or others wait for it already. Under "fail" the stream has failed with this very item."""


class TooEarly(SendError):
    """The rate does not allow it yet, but in `retry_after` seconds."""

    def __init__(self, message: str, item: Any, retry_after: float) -> None:
        super().__init__(message, item)
        self.args = (message, item, retry_after)
        self.retry_after = retry_after


class TooHeavy(SendError):
    """The item weighs more than everything in the stream together may."""


class EndOfStream(StreamError):
    """Everything has been read, and every sender has gone; or the stream was closed where it is read."""


class StreamEmpty(StreamError):
    """Nothing is there now, or others wait for it already."""


class StreamOverflow(StreamError):
    """Under "fail": the stream was full when another item came. All that came before it has been read."""

    def __init__(self, message: str, capacity: int) -> None:
        super().__init__(message, capacity)
        self.capacity = capacity


@dataclass(frozen=True)
class AdaptiveRate:
    """How fast senders may send under "adaptive": additive increase, multiplicative decrease.

    `initial`, `min`, `max` and `step` are in items per second. In each `interval`, in seconds, in which somebody wanted more,
    `step` is added; when the stream is three quarters full the rate is taken times `factor`. After a rest `burst` items can be
    sent at once.
    """

    initial: float = 1000.0
    min: float = 1.0
    max: float = 1_000_000.0
    step: float = 1.0
    factor: float = 0.5
    interval: float = 0.1
    burst: int = 10


class Statistics(NamedTuple):
    """At every moment: `produced_count == consumed_count + dropped_count + current_depth`."""

    current_depth: int
    """Items sent and neither read nor dropped."""
    peak_depth: int
    dropped_count: int
    """Displaced, turned away by "drop_newest", expired, or unread when the reader left."""
    produced_count: int
    consumed_count: int
    throughput_rate: float
    """Items read per second, lately."""
    backpressure_events: int
    """Episodes of being full; under "adaptive", cuts of the rate."""
    current_rate_limit: float
    """Items per second that senders may send; infinity where there is no rate."""
