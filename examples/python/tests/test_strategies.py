"""What each strategy does, however it is sent."""

import asyncio
import math
import time
from collections.abc import Callable
from typing import Any

import pytest
from tower_backpressure import (
    AdaptiveRate,
    BoundedDSpyStream,
    EndOfStream,
    Sender,
    StreamClosed,
    StreamEmpty,
    StreamFull,
    StreamOverflow,
    TooEarly,
    TooHeavy,
    create_stream,
)

Send = Callable[[Sender[int], int], tuple[int, ...]]


def awaited(sender: Sender[int], item: int) -> tuple[int, ...]:
    return asyncio.run(sender.send(item))


WAYS = [
    pytest.param(Sender.send_nowait, id="send_nowait"),
    pytest.param(Sender.blocking_send, id="blocking_send"),
    pytest.param(awaited, id="send"),
]


def drained(stream: BoundedDSpyStream[int]) -> list[int]:
    items = []
    try:
        while True:
            items.append(stream.receive_nowait())
    except StreamEmpty:
        return items


@pytest.mark.parametrize("send", WAYS)
@pytest.mark.parametrize(
    ("strategy", "capacity", "left", "displaced"),
    [
        ("drop_oldest", 100, range(101, 201), range(1, 101)),
        ("drop_newest", 100, range(1, 101), range(101, 201)),
        ("drop_oldest", 1, [200], range(1, 200)),
    ],
)
def test_200_items_and_nobody_reads(strategy: Any, capacity: int, left: Any, displaced: Any, send: Send) -> None:
    sender, stream = create_stream(capacity, strategy)
    back: list[int] = []
    for item in range(1, 201):
        back += send(sender, item)
    assert back == list(displaced)
    statistics = stream.statistics()
    assert statistics.produced_count == 200
    assert statistics.dropped_count == len(displaced)
    assert statistics.current_depth == statistics.peak_depth == capacity
    assert drained(stream) == list(left)
    assert stream.statistics().consumed_count == capacity


def test_block_delivers_everything_in_order_to_a_slow_reader() -> None:
    async def main() -> list[int]:
        sender, stream = create_stream(10)

        async def produce() -> None:
            async with sender:
                for item in range(1, 1001):
                    assert await sender.send(item) == ()

        producer = asyncio.create_task(produce())
        items = []
        async for item in stream:
            items.append(item)
            await asyncio.sleep(0)
        await producer
        assert stream.statistics().peak_depth <= 10
        return items

    assert asyncio.run(main()) == list(range(1, 1001))


def test_block_lets_nothing_in_at_once_when_it_is_full() -> None:
    sender, stream = create_stream(1)
    sender.send_nowait("a")
    with pytest.raises(StreamFull, match="not sent: the stream is full") as raised:
        sender.send_nowait("b")
    assert raised.value.item == "b"
    assert stream.receive_nowait() == "a"


def test_fail_delivers_what_came_before_and_then_the_error() -> None:
    sender, stream = create_stream(2, "fail")
    sender.send_nowait(1)
    sender.send_nowait(2)
    with pytest.raises(StreamFull):
        sender.send_nowait(3)
    with pytest.raises(StreamClosed):
        sender.send_nowait(4)
    assert sender.is_closed
    items = []
    with pytest.raises(StreamOverflow, match="with a capacity of 2") as raised:
        for item in stream:
            items.append(item)
    assert items == [1, 2]
    assert raised.value.capacity == 2
    with pytest.raises(StreamOverflow):
        asyncio.run(stream.receive_many(10))


def test_adaptive_says_when_the_rate_allows_the_next() -> None:
    sender, _stream = create_stream(10, "adaptive", rate=AdaptiveRate(initial=0.1, min=0.1, burst=1))
    sender.send_nowait(1)
    with pytest.raises(TooEarly) as raised:
        sender.send_nowait(2)
    assert raised.value.item == 2
    assert 0 < raised.value.retry_after <= 10
    assert sender.statistics().current_rate_limit == 0.1


@pytest.mark.parametrize("send", WAYS[1:])
def test_adaptive_paces_senders(send: Send) -> None:
    sender, stream = create_stream(100, "adaptive", rate=AdaptiveRate(initial=100, max=100, burst=1))
    began = time.monotonic()
    for item in range(6):
        assert send(sender, item) == ()
    # The first at once, five more of 10 ms each.
    assert time.monotonic() - began >= 0.049
    assert drained(stream) == list(range(6))


def test_adaptive_cuts_the_rate_of_a_stream_that_nobody_reads() -> None:
    sender, stream = create_stream(4, "adaptive", rate=AdaptiveRate(initial=1000))
    with pytest.raises(StreamFull):
        for item in range(5):
            sender.send_nowait(item)
    assert stream.statistics().current_rate_limit == 500
    assert stream.statistics().backpressure_events == 1


def test_without_a_rate_there_is_no_limit_of_it() -> None:
    _sender, stream = create_stream(1)
    assert stream.statistics().current_rate_limit == math.inf


def test_an_item_that_is_not_read_in_time_is_dropped() -> None:
    sender, stream = create_stream(10, time_to_live=0.01)
    sender.send_nowait("old")
    time.sleep(0.02)
    with pytest.raises(StreamEmpty):
        stream.receive_nowait()
    assert stream.statistics().dropped_count == 1


def test_a_send_waits_for_an_item_to_expire() -> None:
    sender, stream = create_stream(1, time_to_live=0.02)
    sender.send_nowait("old")
    sender.blocking_send("new", timeout=10)
    assert stream.statistics().produced_count == 2
    assert stream.statistics().dropped_count >= 1


def test_a_bound_by_weight() -> None:
    sender, stream = create_stream(100, "drop_oldest", max_weight=10, weigh=len)
    for word in ("four", "five!", "a"):
        assert sender.send_nowait(word) == ()
    assert sender.send_nowait("seven..") == ("four", "five!")
    with pytest.raises(TooHeavy) as raised:
        sender.send_nowait("eleven bytes")
    assert raised.value.item == "eleven bytes"
    with pytest.raises(TypeError):
        sender.send_nowait(3)
    assert drained(stream) == ["a", "seven.."]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"capacity": 0}, "capacity is 0, but must be at least 1"),
        ({"capacity": -3}, "capacity is -3, but must be at least 1"),
        ({"capacity": 2**70}, r"capacity is 1180591620717411303424, but must be at most \d+"),
        (
            {"strategy": "drop"},
            "strategy is drop, but must be one of block, drop_newest, drop_oldest, adaptive, fail",
        ),
        ({"time_to_live": 0}, "time_to_live is 0ns, but must be longer than 0"),
        ({"time_to_live": -1.5}, "time_to_live is -1.5, but must be a number of seconds above 0, and below 1e19"),
        ({"time_to_live": math.inf}, "time_to_live is inf, but must be a number of seconds above 0"),
        ({"time_to_live": math.nan}, "time_to_live is NaN, but must be a number of seconds above 0"),
        ({"rate": AdaptiveRate()}, "strategy is block, but must be adaptive, since there is a rate"),
        ({"strategy": "adaptive", "rate": AdaptiveRate(factor=2)}, "factor is 2, but must be above 0 and below 1"),
        ({"strategy": "adaptive", "rate": AdaptiveRate(burst=0)}, "burst is 0, but must be at least 1"),
        ({"strategy": "adaptive", "rate": AdaptiveRate(interval=-1)}, "interval is -1, but must be a number"),
        ({"max_weight": 0, "weigh": len}, "max_weight is 0, but must be at least 1"),
        ({"max_weight": 5}, "max_weight is 5, but nothing weighs: give weigh as well"),
        ({"weigh": len}, "max_weight is None, but must be at least 1, since there is weigh"),
    ],
)
def test_settings_that_cannot_work_are_refused(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        create_stream(**{"capacity": 1, **arguments})


def test_an_argument_of_another_type_is_a_type_error() -> None:
    with pytest.raises(TypeError, match="capacity is 1.5, of <class 'float'>, but must be an int"):
        create_stream(1.5)  # type: ignore[arg-type]


def test_values_that_cannot_work_are_refused_when_they_are_given() -> None:
    sender, stream = create_stream(1, max_weight=1, weigh=int)
    with pytest.raises(ValueError, match="weight is -1, but must be at least 0"):
        sender.send_nowait(-1)
    with pytest.raises(ValueError, match="timeout is -1, but must be a number of seconds from 0 to 1e19, or None"):
        sender.blocking_send(0, timeout=-1)
    with pytest.raises(ValueError, match="limit is 0, but must be at least 1"):
        asyncio.run(stream.receive_many(0))


def test_an_error_can_be_caught_by_its_kind() -> None:
    sender, stream = create_stream(1)
    stream.close()
    with pytest.raises(EndOfStream):
        stream.receive_nowait()
    with pytest.raises(StreamClosed, match="not sent: nobody reads the stream any more"):
        sender.send_nowait(1)
