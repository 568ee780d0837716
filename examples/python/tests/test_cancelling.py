"""Cancelling loses nothing, wherever it falls."""

import asyncio
import random
import threading
from typing import Any

import pytest
from conftest import turns
from tower_backpressure import EndOfStream, StreamClosed, StreamEmpty, create_stream


def test_a_receive_cancelled_after_it_was_woken_leaves_the_item() -> None:
    async def main() -> None:
        sender, stream = create_stream(10)
        for item in range(100):
            receiving = asyncio.create_task(stream.receive())
            await turns()
            sender.send_nowait(item)
            receiving.cancel()
            with pytest.raises(asyncio.CancelledError):
                await receiving
            assert stream.receive_nowait() == item

    asyncio.run(main())


def test_a_cancelled_receive_passes_its_turn_on() -> None:
    async def main() -> None:
        sender, stream = create_stream(10)
        first, second, third = (asyncio.create_task(stream.receive()) for _ in range(3))
        await turns()
        first.cancel()
        second.cancel()
        sender.send_nowait("item")
        assert await third == "item"

    asyncio.run(main())


@pytest.mark.parametrize("many", [False, True])
def test_receives_cancelled_at_any_moment_while_a_thread_sends(many: bool) -> None:
    """The gap between a thread that sends and the loop that is told: thousands of tries to fall into it."""
    count = 20_000
    sender, stream = create_stream(4)

    def produce() -> None:
        with sender:
            for item in range(count):
                sender.blocking_send(item)

    async def main() -> tuple[list[int], int]:
        chance = random.Random(7)
        items: list[int] = []
        cancelled = 0
        while True:
            receiving: asyncio.Task[Any] = asyncio.create_task(stream.receive_many(3) if many else stream.receive())
            await turns(chance.randrange(3))
            receiving.cancel()
            try:
                got = await receiving
            except asyncio.CancelledError:
                cancelled += 1
            except EndOfStream:
                return items, cancelled
            else:
                if got == []:
                    return items, cancelled
                items += got if many else [got]

    producer = threading.Thread(target=produce)
    producer.start()
    items, cancelled = asyncio.run(main())
    producer.join()
    assert items == list(range(count))
    assert cancelled > 100
    assert stream.statistics().consumed_count == count


def test_wait_for_and_timeouts_lose_nothing() -> None:
    count = 2_000

    async def main() -> list[int]:
        sender, stream = create_stream(2)
        chance = random.Random(3)

        async def produce() -> None:
            async with sender:
                for item in range(count):
                    await sender.send(item)
                    await turns(chance.randrange(3))

        producer = asyncio.create_task(produce())
        items = []
        while True:
            try:
                items.append(await asyncio.wait_for(stream.receive(), chance.choice([0.00001, 0.0001, 1])))
            except asyncio.TimeoutError:
                pass
            except EndOfStream:
                await producer
                return items

    assert asyncio.run(main()) == list(range(count))


def test_a_cancelled_send_has_not_sent_its_item() -> None:
    async def main() -> None:
        sender, stream = create_stream(1)
        sender.send_nowait("in")
        first = asyncio.create_task(sender.send("first"))
        second = asyncio.create_task(sender.send("second"))
        await turns()
        # Its turn has come, and it is cancelled before it knows.
        assert stream.receive_nowait() == "in"
        first.cancel()
        with pytest.raises(asyncio.CancelledError):
            await first
        assert await second == ()
        assert stream.receive_nowait() == "second"
        with pytest.raises(StreamEmpty):
            stream.receive_nowait()

    asyncio.run(main())


def test_sends_cancelled_at_any_moment_send_exactly_what_they_say() -> None:
    async def main() -> None:
        sender, stream = create_stream(3)
        chance = random.Random(11)
        sent: list[int] = []
        received: list[int] = []

        async def read() -> None:
            async for item in stream:
                received.append(item)
                await turns(chance.randrange(3))

        reader = asyncio.create_task(read())
        cancelled = 0
        for item in range(5_000):
            sending = asyncio.create_task(sender.send(item))
            await turns(chance.randrange(3))
            sending.cancel()
            try:
                await sending
            except asyncio.CancelledError:
                cancelled += 1
            else:
                sent.append(item)
        sender.close()
        await reader
        assert received == sent
        assert cancelled > 100
        assert stream.statistics().produced_count == len(sent)

    asyncio.run(main())


def test_a_blocking_send_that_takes_too_long_has_not_sent_its_item() -> None:
    sender, stream = create_stream(1)
    sender.blocking_send("in")
    with pytest.raises(TimeoutError):
        sender.blocking_send("out", timeout=0.01)
    with pytest.raises(TimeoutError):
        sender.blocking_send("out", timeout=0)
    assert stream.blocking_receive(timeout=0) == "in"
    with pytest.raises(TimeoutError):
        stream.blocking_receive(timeout=0.01)
    sender.send_nowait("next")
    assert stream.blocking_receive() == "next"


def test_a_coroutine_that_is_never_awaited_does_nothing() -> None:
    sender, stream = create_stream(1)
    sender.send("never")
    sender.send_nowait("item")
    stream.receive()
    stream.receive().close()
    assert stream.receive_nowait() == "item"
    with pytest.raises(StreamEmpty):
        stream.receive_nowait()


def test_whoever_waits_is_told_when_the_reader_leaves() -> None:
    async def main() -> None:
        sender, stream = create_stream(1)
        receiving = [asyncio.create_task(stream.receive()) for _ in range(3)]
        await turns()
        await stream.aclose()
        for task in receiving:
            with pytest.raises(EndOfStream):
                await task

        sender, stream = create_stream(1)
        sender.send_nowait("in")
        sending = [asyncio.create_task(sender.send(item)) for item in range(3)]
        watching = asyncio.create_task(sender.wait_closed())
        await turns()
        assert not watching.done()
        async with stream:
            pass
        for item, task in enumerate(sending):
            with pytest.raises(StreamClosed) as raised:
                await task
            assert raised.value.item == item
        await watching
        assert stream.statistics().dropped_count == 1

    asyncio.run(main())
