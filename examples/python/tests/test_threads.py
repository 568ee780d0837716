"""Threads and event loops, in any combination."""

import asyncio
import signal
import threading
import time
from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest
from conftest import turns
from tower_backpressure import BoundedDSpyStream, EndOfStream, Sender, create_stream

COUNT = 5_000


def numbered(producer: int) -> list[tuple[int, int]]:
    return [(producer, number) for number in range(COUNT)]


def in_order(items: list[tuple[int, int]], producers: int) -> bool:
    """Whether all are there, once, and those of one producer in order."""
    return all([item for item in items if item[0] == producer] == numbered(producer) for producer in range(producers))


def block(sender: Sender[Any], producer: int) -> None:
    with sender:
        for item in numbered(producer):
            sender.blocking_send(item)


def loop(sender: Sender[Any], producer: int) -> None:
    async def produce() -> None:
        async with sender:
            for item in numbered(producer):
                await sender.send(item)

    asyncio.run(produce())


def start(*targets: Any) -> list[threading.Thread]:
    threads = [threading.Thread(target=target, args=tuple(args)) for target, *args in targets]
    for thread in threads:
        thread.start()
    return threads


def test_threads_and_loops_send_to_a_thread() -> None:
    sender, stream = create_stream(8)
    ends = [sender.clone() for _ in range(4)]
    sender.close()
    threads = start((block, ends[0], 0), (loop, ends[1], 1), (block, ends[2], 2), (loop, ends[3], 3))
    items = list(stream)
    for thread in threads:
        thread.join()
    assert len(items) == 4 * COUNT
    assert in_order(items, 4)


def test_threads_and_loops_send_to_a_loop() -> None:
    async def read() -> list[Any]:
        return [item async for item in stream]

    sender, stream = create_stream(8)
    ends = [sender.clone() for _ in range(4)]
    sender.close()
    threads = start((block, ends[0], 0), (loop, ends[1], 1), (block, ends[2], 2), (loop, ends[3], 3))
    items = asyncio.run(read())
    for thread in threads:
        thread.join()
    assert len(items) == 4 * COUNT
    assert in_order(items, 4)


def test_two_loops_and_two_threads_read_one_stream() -> None:
    shares: list[list[Any]] = [[], [], [], []]

    def by_thread(share: list[Any]) -> None:
        share.extend(stream)

    def by_loop(share: list[Any]) -> None:
        async def read() -> None:
            async for item in stream:
                share.append(item)
                await asyncio.sleep(0)

        asyncio.run(read())

    sender, stream = create_stream(8)
    readers = start((by_thread, shares[0]), (by_loop, shares[1]), (by_thread, shares[2]), (by_loop, shares[3]))
    block(sender, 0)
    for thread in readers:
        thread.join()
    assert Counter(item for share in shares for item in share) == Counter(numbered(0))
    assert all(share == sorted(share) for share in shares)


def test_readers_take_turns() -> None:
    async def main() -> None:
        sender, stream = create_stream(8)
        tasks = [asyncio.create_task(stream.receive()) for _ in range(3)]
        await turns()
        for item in range(3):
            sender.send_nowait(item)
        assert await asyncio.gather(*tasks) == [0, 1, 2]

    asyncio.run(main())


def test_senders_wait_in_line_first_come_first_served() -> None:
    async def main() -> None:
        sender, stream = create_stream(1)
        tasks = [asyncio.create_task(sender.send(item)) for item in range(20)]
        await turns()
        assert [await stream.receive() for _ in tasks] == list(range(20))
        await asyncio.gather(*tasks)

    asyncio.run(main())


def test_a_reader_that_never_has_to_wait_lets_its_loop_go_on() -> None:
    async def main() -> None:
        sender, stream = create_stream(1000)
        for item in range(1000):
            sender.send_nowait(item)
        ticks = 0

        async def tick() -> None:
            nonlocal ticks
            while True:
                ticks += 1
                await asyncio.sleep(0)

        ticking = asyncio.create_task(tick())
        for _ in range(1000):
            await stream.receive()
        assert ticks >= 10
        ticking.cancel()

    asyncio.run(main())


def test_a_sender_that_never_has_to_wait_lets_its_reader_read() -> None:
    async def main() -> None:
        sender, stream = create_stream(1, "drop_oldest")
        items = []

        async def read() -> None:
            async for item in stream:
                items.append(item)

        reader = asyncio.create_task(read())
        for item in range(1000):
            await sender.send(item)
        sender.close()
        await reader
        assert len(items) >= 5
        assert items[-1] == 999

    asyncio.run(main())


def test_a_thread_that_runs_a_loop_is_not_blocked() -> None:
    async def main() -> None:
        sender, stream = create_stream(1)
        with pytest.raises(RuntimeError, match="blocking_send would stop the event loop .* use `await sender.send"):
            sender.blocking_send(1)
        with pytest.raises(RuntimeError, match="blocking_receive would stop the event loop"):
            stream.blocking_receive()
        with pytest.raises(RuntimeError, match="`for` would stop the event loop .* use `async for`"):
            next(stream)
        assert stream.statistics().produced_count == 0

    asyncio.run(main())


@pytest.fixture
def ctrl_c() -> Iterator[None]:
    """Heeded, also where whoever started the tests had it ignored, as a shell does for what runs in its background."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.skipif(not hasattr(signal, "pthread_kill"), reason="no signals for threads")
@pytest.mark.usefixtures("ctrl_c")
def test_ctrl_c_ends_a_wait() -> None:
    main = threading.get_ident()

    def interrupt() -> None:
        time.sleep(0.05)
        signal.pthread_kill(main, signal.SIGINT)

    sender, stream = create_stream(1)
    for wait in (stream.blocking_receive, stream.__next__):
        threading.Thread(target=interrupt).start()
        with pytest.raises(KeyboardInterrupt):
            wait()
    sender.send_nowait("in")
    threading.Thread(target=interrupt).start()
    with pytest.raises(KeyboardInterrupt):
        sender.blocking_send("out")
    assert stream.receive_nowait() == "in"


def test_a_thread_that_waits_is_told_when_the_reader_leaves() -> None:
    ends = []

    def wait() -> None:
        with pytest.raises(EndOfStream):
            stream.blocking_receive()
        ends.append("told")

    _sender, stream = create_stream(1)
    threads = start((wait,), (wait,))
    time.sleep(0.01)
    stream.close()
    for thread in threads:
        thread.join()
    assert ends == ["told", "told"]


def wait_for_the_end(stream: BoundedDSpyStream[Any]) -> None:
    with pytest.raises(EndOfStream):
        stream.blocking_receive()


def test_a_loop_that_is_closed_does_not_hurt_who_wakes_it() -> None:
    sender, stream = create_stream(4)
    stranded = asyncio.new_event_loop()
    receiving = stranded.create_task(stream.receive())
    stranded.run_until_complete(turns())
    stranded.close()
    sender.send_nowait("item")
    assert not receiving.done()

    # It has the turn for good, and who waits behind it is told when the reader leaves.
    behind = threading.Thread(target=wait_for_the_end, args=(stream,))
    behind.start()
    time.sleep(0.01)
    stream.close()
    behind.join()
    receiving._log_destroy_pending = False  # type: ignore[attr-defined]
