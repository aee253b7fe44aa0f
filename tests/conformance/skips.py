"""The list of tests that are not run, and the rules it is held to."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from typing import TYPE_CHECKING

from house import SUITE, SetupError

if TYPE_CHECKING:
    from pathlib import Path

MAX_SKIPS = 5


@dataclass(frozen=True)
class Skip:
    """One entry of `skips.toml`."""

    file: str
    test: str
    since: tuple[int, ...]
    reason: str

    def concerns(self, file: str, version: tuple[int, ...]) -> bool:
        return version >= self.since and file in (self.file, SUITE)


def load_skips(path: Path) -> list[Skip]:
    """Reads and checks the list of skips."""
    with path.open("rb") as source:
        entries = tomllib.load(source).get("skip", [])
    if len(entries) > MAX_SKIPS:
        raise SetupError(f"{path.name} lists {len(entries)} tests, at most {MAX_SKIPS} are allowed")
    skips = []
    for entry in entries:
        if set(entry) != {"file", "test", "since", "reason"}:
            raise SetupError(f"{path.name}: an entry needs file, test, since and reason, and has {sorted(entry)}")
        skip = Skip(entry["file"], entry["test"], version_of(entry["since"]), entry["reason"].strip())
        class_name, dot, method = skip.test.partition(".")
        if not dot or not class_name or not method.isidentifier():
            raise SetupError(f"{path.name}: {skip.test!r} is not Class.method, or has a wildcard in its method")
        if not skip.reason:
            raise SetupError(f"{path.name}: {skip.test} has no reason")
        skips.append(skip)
    return skips


def version_of(text: str) -> tuple[int, ...]:
    return tuple(int(part) for part in text.split("."))
