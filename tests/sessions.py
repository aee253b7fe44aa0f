"""What `raddle run` and the recorder write as JSON, with names for what is in its rows."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pathlib import Path

SPAN = ("from", "until", "state", "place", "thing", "holder")
PASS = ("from", "at", "to", "until", "thing")


def session_of(text: str) -> dict[str, Any]:
    """A session."""
    return _named(json.loads(text))


def document(directory: Path) -> dict[str, Any]:
    """`report.json` of a session's directory."""
    read: dict[str, Any] = json.loads((directory / "report.json").read_text())
    assert read["version"] == 2
    _named(read["session"])
    return read


def _named(session: dict[str, Any]) -> dict[str, Any]:
    session["passes"] = [dict(zip(PASS, row, strict=True)) for row in session["passes"]]
    for process in session["processes"]:
        for thread in process["threads"]:
            thread["spans"] = [dict(zip(SPAN, row, strict=True)) for row in thread["spans"]]
    return session
