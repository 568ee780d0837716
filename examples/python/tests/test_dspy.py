"""The recipe for DSPy, with the real DSPy and a language model that answers from a list."""

import asyncio
import os
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

RECIPES = Path(__file__).parent.parent / "recipes"
sys.path.insert(0, str(RECIPES))
# Without it, litellm looks for a list of prices on the network.
os.environ["LITELLM_LOCAL_MODEL_COST_MAP"] = "True"

if "BACKPRESSURE_REQUIRE_DSPY" not in os.environ:
    pytest.importorskip("dspy")

import dspy  # noqa: E402
from dspy.lm15 import Message, Response, TextPart, Usage, response_to_events  # noqa: E402
from dspy_streamify import streamify  # noqa: E402

WORDS = 300


class Model:
    """Streams an answer of many words."""

    def __init__(self) -> None:
        self.produced = 0
        self.ended = threading.Event()

    def complete(self, request: Any) -> Response:
        text = "[[ ## a ## ]]\n" + " ".join(str(n) for n in range(WORDS)) + "\n[[ ## completed ## ]]"
        usage = Usage(input_tokens=0, output_tokens=0, total_tokens=0)
        message = Message.assistant([TextPart(text)])
        return Response(id="1", model="stub", message=message, finish_reason="stop", usage=usage)

    def stream(self, request: Any) -> Iterator[Any]:
        try:
            for event in response_to_events(self.complete(request)):
                if event.type != "delta":
                    yield event
                    continue
                for word in event.delta.text.split(" "):
                    self.produced += 1
                    yield replace(event, delta=replace(event.delta, text=word + " "))
        finally:
            self.ended.set()

    def close(self) -> None:
        pass


class AsyncModel:
    def __init__(self, model: Model) -> None:
        self.model = model

    async def complete(self, request: Any) -> Response:
        return self.model.complete(request)

    async def stream(self, request: Any) -> AsyncIterator[Any]:
        for event in self.model.stream(request):
            yield event

    async def aclose(self) -> None:
        pass


@pytest.fixture
def model() -> Iterator[Model]:
    model = Model()
    lm = dspy.LM("openai/stub", engine=model, async_engine=AsyncModel(model), cache=False)
    with dspy.context(lm=lm):
        yield model


MANY_TOOLS = """
import asyncio, sys
import dspy
from dspy.utils import DummyLM
from dspy_streamify import streamify

def look(q: str) -> str:
    print("looked", flush=True)
    return q

class ManyTools(dspy.Module):
    def __init__(self):
        super().__init__()
        self.tool = dspy.Tool(look)
        self.answer = dspy.Predict("q -> a")

    async def aforward(self, q):
        for _ in range(20):
            await self.tool.acall(q=q)
        return await self.answer.acall(q=q)

async def main():
    make = {"own": dspy.streamify, "recipe": streamify}[sys.argv[1]]
    program = make(ManyTools(), is_async_program=True, **eval(sys.argv[2]))
    with dspy.context(lm=DummyLM([{"a": "yes"}])):
        values = [value async for value in program(q="what")]
    print([type(value).__name__ for value in values])
    print(values[-1].a)

asyncio.run(main())
"""


LOOKED = "looked\n"


ENV = {**os.environ, "PYTHONPATH": str(RECIPES)}


def many_tools_command(whose: str, options: str = "{}") -> list[str]:
    return [sys.executable, "-c", MANY_TOOLS, whose, options]


def many_tools(options: str = "{}") -> list[str]:
    """40 status messages, sent from the running loop."""
    ran = subprocess.run(many_tools_command("recipe", options), capture_output=True, text=True, timeout=50, env=ENV)
    assert ran.returncode == 0, ran.stderr
    looked, names, answer = ran.stdout[: ran.stdout.index("[")], *ran.stdout.splitlines()[-2:]
    assert looked == LOOKED * 20
    return [names, answer]


def test_where_dspys_own_stream_hangs_the_recipe_does_not() -> None:
    names, answer = many_tools()
    assert names == str(["StatusMessage"] * 40 + ["Prediction"])
    assert answer == "yes"

    with subprocess.Popen(many_tools_command("own"), stdout=subprocess.PIPE, text=True, env=ENV) as own:
        try:
            assert own.stdout is not None
            # Before and after each tool there is a message; the seventeenth is one too many.
            assert [own.stdout.readline() for _ in range(8)] == [LOOKED] * 8
            with pytest.raises(subprocess.TimeoutExpired):
                own.wait(timeout=2)
        finally:
            own.kill()
        assert own.stdout.read() == ""


@pytest.mark.parametrize("strategy", ["block", "drop_newest", "drop_oldest", "adaptive", "fail"])
def test_status_messages_that_find_no_room_are_left_out(strategy: str) -> None:
    names, answer = many_tools(str({"capacity": 16, "strategy": strategy}))
    count = names.count("StatusMessage")
    # No less than there is room for, or than the burst of the rate.
    assert (10 if strategy == "adaptive" else 16) <= count < 40
    assert names.endswith("'Prediction']")
    assert answer == "yes"


@pytest.mark.parametrize("is_async", [False, True])
def test_a_slow_reader_gets_every_chunk_in_order(model: Model, is_async: bool) -> None:
    async def main() -> None:
        listener = dspy.streaming.StreamListener(signature_field_name="a")
        program = streamify(dspy.Predict("q -> a"), capacity=4, is_async_program=is_async, stream_listeners=[listener])
        text, ahead = "", 0
        async for value in program(q="what"):
            if isinstance(value, dspy.streaming.StreamResponse):
                assert value.predict_name == "self"
                text += value.chunk
                ahead = max(ahead, model.produced - len(text.split()))
                await asyncio.sleep(0)
        assert isinstance(value, dspy.Prediction)
        assert text.split() == [str(n) for n in range(WORDS)] == value.a.split()
        # Ours, DSPy's own, and what the listener holds back.
        assert ahead < 50

    asyncio.run(main())


@pytest.mark.parametrize("is_async", [False, True])
def test_a_program_whose_reader_leaves_stops(model: Model, is_async: bool) -> None:
    async def main() -> None:
        program = streamify(dspy.Predict("q -> a"), capacity=4, is_async_program=is_async)
        values = program(q="what")
        async for _ in values:
            break
        await values.aclose()
        assert await asyncio.to_thread(model.ended.wait, 30)

    asyncio.run(main())
    assert model.produced < 50


def test_an_error_of_the_program_is_the_readers(model: Model) -> None:
    class Failing(dspy.Module):
        async def aforward(self, q: str) -> Any:
            raise LookupError("no such thing")

    async def main() -> None:
        with pytest.raises(LookupError, match="no such thing"):
            async for _ in streamify(Failing(), is_async_program=True)(q="what"):
                pass

    asyncio.run(main())


def test_it_streams_without_async_as_well(model: Model) -> None:
    program = streamify(dspy.Predict("q -> a"), capacity=4, async_streaming=False)
    *chunks, last = program(q="what")
    assert len(chunks) > WORDS
    assert isinstance(last, dspy.Prediction)
