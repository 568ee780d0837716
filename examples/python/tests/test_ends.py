"""Who goes, and what the other side sees."""

import asyncio
import gc
import threading
import weakref
from typing import Any

import pytest
from conftest import turns
from tower_backpressure import EndOfStream, Sender, StreamClosed, StreamEmpty, create_stream


def test_the_stream_ends_when_every_sender_has_gone() -> None:
    sender, stream = create_stream(10)
    other = sender.clone()
    with sender:
        sender.send_nowait(1)
    assert sender.is_closed
    with pytest.raises(StreamClosed, match="not sent: this sender has been closed"):
        sender.send_nowait(2)
    other.send_nowait(3)
    assert [stream.receive_nowait(), stream.receive_nowait()] == [1, 3]
    with pytest.raises(StreamEmpty):
        stream.receive_nowait()
    del other
    assert list(stream) == []
    assert asyncio.run(stream.receive_many(5)) == []
    with pytest.raises(EndOfStream):
        stream.receive_nowait()


def test_closing_a_sender_lets_through_what_waits() -> None:
    async def main() -> list[int]:
        sender, stream = create_stream(1)
        sender.send_nowait(1)
        sending = asyncio.create_task(sender.send(2))
        await turns()
        await sender.aclose()
        items = [item async for item in stream]
        await sending
        return items

    assert asyncio.run(main()) == [1, 2]


def test_who_waits_for_the_reader_to_leave_keeps_no_stream_from_its_end() -> None:
    async def main() -> None:
        sender, stream = create_stream(1)
        watching = asyncio.create_task(sender.wait_closed())
        await turns()
        sender.close()
        assert [item async for item in stream] == []
        await watching

    asyncio.run(main())


def test_a_reader_that_left_is_the_producers_signal_to_stop() -> None:
    sent = []

    def produce(sender: Sender[int]) -> None:
        with pytest.raises(StreamClosed):
            for item in range(1_000_000):
                sender.blocking_send(item)
                sent.append(item)

    async def main() -> None:
        sender, stream = create_stream(4)
        producer = threading.Thread(target=produce, args=(sender,))
        producer.start()
        async with stream:
            async for item in stream:
                if item == 100:
                    break
        await asyncio.to_thread(producer.join)

    asyncio.run(main())
    assert 100 < len(sent) < 110


def test_a_reader_that_is_forgotten_has_left() -> None:
    sender, stream = create_stream(4)
    sender.send_nowait(1)
    del stream
    with pytest.raises(StreamClosed):
        sender.send_nowait(2)
    assert sender.statistics().dropped_count == 1


def test_what_was_not_read_is_let_go() -> None:
    class Thing:
        pass

    sender, stream = create_stream(4)
    thing = Thing()
    ghost = weakref.ref(thing)
    sender.send_nowait(thing)
    del thing
    gc.collect()
    assert ghost() is not None
    stream.close()
    assert ghost() is None


def test_nothing_is_kept_of_what_was_read() -> None:
    class Thing:
        pass

    async def main() -> list[Any]:
        sender, stream = create_stream(4, "drop_oldest", max_weight=100, weigh=lambda _: 1)
        ghosts = []
        for _ in range(100):
            thing = Thing()
            ghosts.append(weakref.ref(thing))
            await sender.send(thing)
            if len(ghosts) % 2:
                await stream.receive()
        del thing
        stream.close()
        return [ghost for ghost in ghosts if ghost() is not None]

    assert asyncio.run(main()) == []


def test_an_item_may_use_the_stream_when_it_goes() -> None:
    """Its `__del__` runs in the middle of a receive, a send, or the reader's leaving."""
    seen = []

    class Thing:
        def __init__(self, name: str) -> None:
            self.name = name

        def __del__(self) -> None:
            seen.append((self.name, stream.statistics().dropped_count))
            with pytest.raises((StreamEmpty, EndOfStream)):
                stream.receive_nowait()
            if self.name == "left":
                sender.close()
                stream.close()

    sender, stream = create_stream(2, "drop_oldest", time_to_live=0.001)
    sender.send_nowait(Thing("expired"))
    threading.Event().wait(0.002)
    with pytest.raises(StreamEmpty):
        stream.receive_nowait()
    sender.send_nowait(Thing("left"))
    stream.close()
    assert seen == [("expired", 1), ("left", 2)]


def test_the_statistics_outlive_the_stream() -> None:
    sender, stream = create_stream(4)
    sender.send_nowait(1)
    sender.send_nowait(2)
    stream.receive_nowait()
    stream.close()
    sender.close()
    statistics = stream.statistics()
    assert (statistics.produced_count, statistics.consumed_count, statistics.dropped_count) == (2, 1, 1)
    assert statistics.current_depth == 0
    assert statistics.peak_depth == 2
    assert statistics == sender.statistics()


def test_a_stream_that_its_weigher_holds_is_collected() -> None:
    class Weigher:
        held: Any = None

        def __call__(self, item: int) -> int:
            return 1

    weigher = Weigher()
    sender, stream = create_stream(4, max_weight=100, weigh=weigher)
    other = sender.clone()
    gc.collect()
    other.send_nowait(1)
    weigher.held = sender, other, stream
    gone = weakref.ref(weigher)
    del weigher, sender, other, stream
    gc.collect()
    assert gone() is None
