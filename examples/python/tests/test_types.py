"""The stubs say what is there, and people can work with them."""

import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("mypy")

USES = """
from tower_backpressure import BoundedDSpyStream, Sender, create_stream

sender: Sender[int]
stream: BoundedDSpyStream[int]
sender, stream = create_stream(10, "drop_oldest", weigh=lambda item: 1, max_weight=3)


async def use() -> None:
    reveal_type(await sender.send(1))
    reveal_type(await stream.receive_many(3))
    async for item in stream:
        reveal_type(item)
    async with stream as again:
        reveal_type(again)


for item in stream:
    reveal_type(item)
sender.send_nowait("a string")
create_stream(10, "drop")
"""


def mypy(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-m", *arguments], capture_output=True, text=True, timeout=50)


def test_the_stubs_are_those_of_the_module() -> None:
    checked = mypy("mypy.stubtest", "tower_backpressure", "--ignore-disjoint-bases")
    assert checked.returncode == 0, checked.stdout + checked.stderr


def test_items_have_their_type(tmp_path: Path) -> None:
    uses = tmp_path / "uses.py"
    uses.write_text(USES)
    said = mypy("mypy", "--strict", "--cache-dir", str(tmp_path), str(uses)).stdout.replace("builtins.", "")
    revealed = [line.split('"')[1] for line in said.splitlines() if "Revealed type" in line]
    stream = "tower_backpressure._native.BoundedDSpyStream[int]"
    assert revealed == ["tuple[int, ...]", "list[int]", "int", stream, "int"], said
    errors = [line.split("[")[-1] for line in said.splitlines() if " error: " in line]
    assert errors == ["arg-type]", "arg-type]"], said
