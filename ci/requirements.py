"""Prints requirements from pyproject.toml, one per line.

`run` is what the package needs, `build` what building it needs; every other word names an extra.
"""

from __future__ import annotations

import sys
import tomllib
from pathlib import Path


def requirements(pyproject: Path, groups: list[str]) -> list[str]:
    """The requirement lines of the named groups, in their order."""
    document = tomllib.loads(pyproject.read_text(encoding="utf-8"))
    project = document["project"]
    known = {
        "run": project["dependencies"],
        "build": document["build-system"]["requires"],
        **project["optional-dependencies"],
    }
    for group in groups:
        if group not in known:
            raise SystemExit(f"error: pyproject.toml has no extra {group!r}\nhint: one of {', '.join(known)}")
    return [line for group in groups for line in known[group]]


if __name__ == "__main__":
    print("\n".join(requirements(Path(__file__).parent.parent / "pyproject.toml", sys.argv[1:])))
