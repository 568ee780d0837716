"""The README's code runs, and says what it should."""

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent.parent
BLOCKS = [block.split("```")[0] for block in (HERE / "README.md").read_text().split("```python\n")[1:]]

SAID = ["no\nmore\nthan\ntwo\nahead\n2\n", "nobody reads any more\n", "it does not\n"]


@pytest.mark.parametrize(
    ("block", "said"),
    list(zip(BLOCKS, SAID, strict=True)),
)
def test_the_readmes_code(block: str, said: str) -> None:
    if "dspy" in block and importlib.util.find_spec("dspy") is None:
        pytest.skip("dspy is not installed")
    ran = subprocess.run(
        [sys.executable, "-c", block],
        capture_output=True,
        text=True,
        timeout=50,
        env={**os.environ, "PYTHONPATH": str(HERE / "recipes"), "LITELLM_LOCAL_MODEL_COST_MAP": "True"},
    )
    assert (ran.stdout, ran.stderr) == (said, "")
