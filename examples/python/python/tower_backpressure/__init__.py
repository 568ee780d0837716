"""A bounded stream between producers and a reader, with a decision about what happens when the reader is slower."""

from ._native import BoundedDSpyStream, Sender, create_stream
from ._types import (
    AdaptiveRate,
    EndOfStream,
    SendError,
    Statistics,
    StreamClosed,
    StreamEmpty,
    StreamError,
    StreamFull,
    StreamOverflow,
    TooEarly,
    TooHeavy,
)

__all__ = [
    "AdaptiveRate",
    "BoundedDSpyStream",
    "EndOfStream",
    "SendError",
    "Sender",
    "Statistics",
    "StreamClosed",
    "StreamEmpty",
    "StreamError",
    "StreamFull",
    "StreamOverflow",
    "TooEarly",
    "TooHeavy",
    "create_stream",
]
