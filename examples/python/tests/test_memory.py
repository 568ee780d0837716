"""A slow reader does not cost memory."""

import asyncio
import tracemalloc

from tower_backpressure import create_stream

COUNT = 100_000
SIZE = 1024
CAPACITY = 100


def resident() -> int:
    """In bytes."""
    with open("/proc/self/statm") as numbers:
        return int(numbers.read().split()[1]) * 4096


async def pass_through() -> int:
    sender, stream = create_stream(CAPACITY)

    async def produce() -> None:
        async with sender:
            for number in range(COUNT):
                await sender.send(number.to_bytes(8, "big") * (SIZE // 8))

    producer = asyncio.create_task(produce())
    number = 0
    async for item in stream:
        assert item[:8] == number.to_bytes(8, "big")
        number += 1
        await asyncio.sleep(0.001 if number % 1000 == 0 else 0)
    await producer
    assert stream.statistics().peak_depth == CAPACITY
    return number


def test_100_000_items_and_a_slow_reader_keep_memory_flat() -> None:
    asyncio.run(pass_through())
    before = resident()
    tracemalloc.start()
    try:
        assert asyncio.run(pass_through()) == COUNT
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    # All items together are 100 MiB; those in the stream are a tenth of one.
    assert peak < 1024 * 1024
    assert resident() - before < 8 * 1024 * 1024
