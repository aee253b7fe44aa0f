"""The list of tests that are not run, and the rules it is held to."""

from __future__ import annotations

import fnmatch
import tomllib
from dataclasses import dataclass
from typing import TYPE_CHECKING

from house import SUITES, SetupError

if TYPE_CHECKING:
    from pathlib import Path

MAX_SKIPS = 10


@dataclass(frozen=True)
class Skip:
    """One entry of `skips.toml`."""

    file: str
    test: str
    since: tuple[int, ...]
    until: tuple[int, ...]
    reason: str

    def concerns(self, file: str, version: tuple[int, ...]) -> bool:
        return self.holds_for(version) and (
            fnmatch.fnmatchcase(file, self.file) or any(file == suite.source for suite in SUITES)
        )

    def holds_for(self, version: tuple[int, ...]) -> bool:
        return self.since <= version < self.until


def load_skips(path: Path) -> list[Skip]:
    """Reads and checks the list of skips."""
    with path.open("rb") as source:
        entries = tomllib.load(source).get("skip", [])
    if len(entries) > MAX_SKIPS:
        raise SetupError(f"{path.name} lists {len(entries)} tests, at most {MAX_SKIPS} are allowed")
    skips = []
    for entry in entries:
        if set(entry) - {"until"} != {"file", "test", "since", "reason"}:
            raise SetupError(f"{path.name}: an entry needs file, test, since and reason, and has {sorted(entry)}")
        since, until = version_of(entry["since"]), version_of(entry.get("until", "99"))
        skip = Skip(entry["file"], entry["test"], since, until, entry["reason"].strip())
        class_name, dot, method = skip.test.partition(".")
        if not dot or not class_name or not method.isidentifier():
            raise SetupError(f"{path.name}: {skip.test!r} is not Class.method, or has a wildcard in its method")
        if not skip.reason:
            raise SetupError(f"{path.name}: {skip.test} has no reason")
        skips.append(skip)
    return skips


def version_of(text: str) -> tuple[int, ...]:
    return tuple(int(part) for part in text.split("."))
