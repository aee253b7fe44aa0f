"""What type checkers see: mypy accepts tests/typing, where every claim about a type is an `assert_type`."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

HOUSE = Path(__file__).parent.parent


def test_mypy_accepts_the_claims_about_types(tmp_path):
    pytest.importorskip("mypy", reason="mypy is one of the tools of `make check`")
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "mypy",
            "--strict",
            "--cache-dir",
            tmp_path,
            "--no-error-summary",
            "tests/typing/check_types.py",
        ],
        cwd=HOUSE,
        capture_output=True,
        text=True,
        timeout=55,
    )
    assert (done.returncode, done.stdout) == (0, ""), done.stdout + done.stderr
