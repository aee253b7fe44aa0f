"""The guides are true: every Python block in docs/guide runs, and prints what its comments say."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

GUIDES = Path(__file__).parent.parent / "docs" / "guide"


def blocks():
    """Each Python block of each guide, with a name for it."""
    for guide in sorted(GUIDES.glob("*.md")):
        for number, block in enumerate(
            re.findall(r"^```python\n(.*?)^```", guide.read_text(), re.MULTILINE | re.DOTALL)
        ):
            yield pytest.param(block, id=f"{guide.stem}-{number + 1}")


def promised(block):
    """What a block says that it prints: the comments behind its calls of `print`."""
    return [match[1].strip() for match in re.finditer(r"^ *print\(.*\) +# (.*)$", block, re.MULTILINE)]


@pytest.mark.parametrize("block", list(blocks()))
def test_an_example_runs_and_prints_what_it_says(block, tmp_path):
    program = tmp_path / "example.py"
    program.write_text(block)
    done = subprocess.run([sys.executable, program], capture_output=True, text=True, timeout=50, cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    lines = iter(done.stdout.splitlines())
    for promise in promised(block):
        assert promise in lines, f"{promise!r} is not printed, or not in this order:\n{done.stdout}"


def test_every_guide_has_an_example():
    found = {block.id.rpartition("-")[0] for block in blocks()}
    # What is for a terminal alone has none.
    assert found == {guide.stem for guide in GUIDES.glob("*.md")} - {"top"}
    assert found >= {"pool", "futures"}
