"""Where things are, and the words that all parts of the runner share."""

from __future__ import annotations

from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent
LOGS = ROOT / "test-results" / "conformance"
BUILD = ROOT / "target" / "conformance"

SUITE = "test_concurrent_futures"
"""The package or file of `test` that is run."""

FACE = "raddle.futures"
"""What is tested."""

BASELINE = "raddle_conformance_baseline"
"""The standard library itself as a face: what fails with it is not Raddle's doing."""


class SetupError(Exception):
    """The run could not be set up; the message says why and what to do."""
