from collections.abc import Callable, Coroutine
from types import GenericAlias, TracebackType
from typing import Any, Generic, Literal, TypeVar, final

from typing_extensions import Self

from ._types import AdaptiveRate, Statistics

__all__ = ["BoundedDSpyStream", "Sender", "create_stream"]

_T = TypeVar("_T")

def create_stream(
    capacity: int,
    strategy: Literal["block", "drop_newest", "drop_oldest", "adaptive", "fail"] = "block",
    *,
    time_to_live: float | None = None,
    rate: AdaptiveRate | None = None,
    max_weight: int | None = None,
    weigh: Callable[[Any], int] | None = None,
) -> tuple[Sender[Any], BoundedDSpyStream[Any]]:
    """A stream that holds up to `capacity` items, and the first of its senders.

    When it is full: under "block" senders wait, first come first served; under "drop_newest" the arriving item goes back to
    its sender, under "drop_oldest" the one that waited longest does; under "adaptive" senders keep to a rate that follows the
    reader, `rate`, and wait if need be; under "fail" the stream ends with an error, after what is in it.

    An item that is not read within `time_to_live` seconds is dropped. With `weigh` the stream is also full when its items
    together weigh `max_weight`.

    Raises ValueError for settings that cannot work.
    """

@final
class Sender(Generic[_T]):
    """A producer's end of a stream, for any thread and any event loop. The stream ends when every sender has gone.

    What a send gives is what had to make room for its item, oldest first: nothing, unless the strategy is "drop_newest" or
    "drop_oldest".
    """

    def send(self, item: _T) -> Coroutine[Any, Any, tuple[_T, ...]]:
        """Sends an item, waiting if the strategy does. One that is cancelled has not sent its item.

        Raises StreamClosed, also if the reader leaves while this waits; TooHeavy; and StreamFull under "fail".
        """

    def send_nowait(self, item: _T) -> tuple[_T, ...]:
        """Sends an item at once or not at all.

        Raises as `send`, and StreamFull or TooEarly where that would wait.
        """

    def blocking_send(self, item: _T, timeout: float | None = None) -> tuple[_T, ...]:
        """Like `send`, for a thread, which waits without the GIL, for up to `timeout` seconds.

        Raises as `send`; TimeoutError, and then the item was not sent; and RuntimeError on a thread that runs an event loop.
        """

    def wait_closed(self) -> Coroutine[Any, Any, None]:
        """Waits until nothing can be sent any more, for a producer that has long work to do between two items."""

    @property
    def is_closed(self) -> bool:
        """Whether nothing can be sent any more: the reader has left, the stream has failed, or this sender is closed."""

    def clone(self) -> Sender[_T]:
        """A further producer, which is closed by itself."""

    def statistics(self) -> Statistics:
        """The numbers of the stream."""

    def close(self) -> None:
        """This sender goes. Sends of it that wait already still get their turns."""

    def aclose(self) -> Coroutine[Any, Any, None]: ...
    def __enter__(self) -> Self: ...
    def __exit__(
        self, kind: type[BaseException] | None, raised: BaseException | None, traceback: TracebackType | None, /
    ) -> None: ...
    def __aenter__(self) -> Coroutine[Any, Any, Self]: ...
    def __aexit__(
        self, kind: type[BaseException] | None, raised: BaseException | None, traceback: TracebackType | None, /
    ) -> Coroutine[Any, Any, None]: ...
    @classmethod
    def __class_getitem__(cls, key: Any) -> GenericAlias: ...

@final
class BoundedDSpyStream(Generic[_T]):
    """The reader's end of a stream, for any thread and any event loop. Several may read: each item goes to one of them.

    Cancelling whatever waits to receive loses nothing. Closing it, or letting it go, is how the reader leaves: every send
    raises StreamClosed from then on, also those that wait, and what was not read is dropped, and counted as that.
    """

    def receive(self) -> Coroutine[Any, Any, _T]:
        """The next item. Raises EndOfStream, and under "fail" StreamOverflow."""

    def receive_many(self, limit: int) -> Coroutine[Any, Any, list[_T]]:
        """What is there, up to `limit` items, after waiting until something is; an empty list at the end."""

    def receive_nowait(self) -> _T:
        """The next item, if there is one now. Raises StreamEmpty, and as `receive`."""

    def blocking_receive(self, timeout: float | None = None) -> _T:
        """Like `receive`, for a thread, which waits without the GIL, for up to `timeout` seconds.

        Raises as `receive`; TimeoutError; and RuntimeError on a thread that runs an event loop.
        """

    def __aiter__(self) -> Self: ...
    def __anext__(self) -> Coroutine[Any, Any, _T]: ...
    def __iter__(self) -> Self: ...
    def __next__(self) -> _T: ...
    def statistics(self) -> Statistics:
        """The numbers of the stream, also after it has been closed."""

    def close(self) -> None:
        """The reader leaves."""

    def aclose(self) -> Coroutine[Any, Any, None]: ...
    def __enter__(self) -> Self: ...
    def __exit__(
        self, kind: type[BaseException] | None, raised: BaseException | None, traceback: TracebackType | None, /
    ) -> None: ...
    def __aenter__(self) -> Coroutine[Any, Any, Self]: ...
    def __aexit__(
        self, kind: type[BaseException] | None, raised: BaseException | None, traceback: TracebackType | None, /
    ) -> Coroutine[Any, Any, None]: ...
    @classmethod
    def __class_getitem__(cls, key: Any) -> GenericAlias: ...
