"""DSPy's `streamify` over a bounded stream.

    from dspy_streamify import streamify

    program = streamify(dspy.Predict("question -> answer"), capacity=256)
    async for value in program(question="..."):
        ...

What DSPy's own stream does not do:

- While a status message is sent from a running event loop, DSPy blocks that loop until it has been sent: from a tool that is
  called in an async program, say. Its stream holds 16, and who would make room is the very loop that is blocked, so the
  17th message is where the program hangs, for good. Here a status message never waits: one for which there is no room is
  left out. Everything else waits for room, as the strategy says, and nothing of it is lost.
- A reader that breaks out of its loop leaves DSPy's tasks to be closed in another task than they were opened in, which
  they refuse. Here they are closed where they were opened, and a program that runs in a thread of its own is stopped as
  well: its next chunk raises `StreamClosed`.

The sender is handed over by DSPy's public means: whatever a program sends goes to `dspy.settings.send_stream`, and the
program that `streamify` gets is one that puts the sender there. What comes out of the stream is passed on by the event loop
that reads, which never blocks. Listeners, status messages and the final prediction remain DSPy's business.
"""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from typing import Any, Literal

import dspy
from tower_backpressure import Sender, StreamFull, TooEarly, create_stream


def streamify(
    program: Any,
    *,
    capacity: int = 256,
    strategy: Literal["block", "drop_newest", "drop_oldest", "adaptive", "fail"] = "block",
    is_async_program: bool = False,
    async_streaming: bool = True,
    **options: Any,
) -> Callable[..., Any]:
    """`dspy.streamify`, with a bounded stream for what `program` sends. `options` are DSPy's."""
    # Under "fail" what is sent without room is the end of the stream, and a status message must not be.
    room = capacity if strategy == "fail" else None
    bounded = _Bounded(program, is_async_program, lambda: create_stream(capacity, strategy), room)
    streaming = dspy.streamify(bounded, is_async_program=True, **options)

    def read(*args: Any, **kwargs: Any) -> Any:
        values = _in_a_task(streaming, args, kwargs)
        return values if async_streaming else dspy.streaming.apply_sync_streaming(values)

    return read


async def _in_a_task(streaming: Callable[..., Any], args: Any, kwargs: Any) -> AsyncIterator[Any]:
    """What DSPy gives, read to its end in one task, whoever reads here and for how long."""
    sender, stream = create_stream(1)

    async def pass_on() -> None:
        async with sender:
            async for value in streaming(*args, **kwargs):
                await sender.send(value)

    passing = asyncio.create_task(pass_on())
    try:
        async for value in stream:
            yield value
        await passing
    finally:
        passing.cancel()
        await asyncio.wait([passing])


class _Bounded:
    """As much of a `dspy.Module` as `streamify` asks for."""

    def __init__(self, program: Any, is_async: bool, make_stream: Callable[[], Any], room: int | None) -> None:
        self._call = program.acall if is_async else dspy.asyncify(program)
        self._make_stream = make_stream
        self._room = room
        # By these a listener finds what it listens to.
        self.named_predictors = getattr(program, "named_predictors", list)

    async def acall(self, *args: Any, **kwargs: Any) -> Any:
        reader = dspy.settings.send_stream
        sender, stream = self._make_stream()

        async def run() -> Any:
            async with sender:
                with dspy.context(send_stream=_Outlet(sender, self._room)):
                    return await self._call(*args, **kwargs)

        async with stream:
            running = asyncio.create_task(run())
            try:
                async for message in stream:
                    await reader.send(message)
                return await running
            finally:
                running.cancel()


class _Outlet:
    """What DSPy sends to."""

    def __init__(self, sender: Sender[Any], room: int | None) -> None:
        self._sender = sender
        self._room = room

    async def send(self, message: Any) -> None:
        if isinstance(message, dspy.streaming.StatusMessage):
            if self._room is not None and self._sender.statistics().current_depth >= self._room:
                return
            # The loop that would make room may be blocked until this returns.
            with suppress(StreamFull, TooEarly):
                self._sender.send_nowait(message)
        else:
            await self._sender.send(message)
