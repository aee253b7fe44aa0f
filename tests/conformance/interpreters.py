"""Which interpreters there are, and which of them ship the suite."""

from __future__ import annotations

import glob
import json
import os
import subprocess
from dataclasses import dataclass
from pathlib import Path

from house import SUITES, SetupError, Suite


@dataclass(frozen=True)
class Interpreter:
    """An interpreter, and the files of each suite; none of a suite that it does not ship."""

    path: str
    version: tuple[int, int, int]
    files: dict[Suite, tuple[str, ...]]
    is_free_threaded: bool = False

    @property
    def minor(self) -> str:
        """`3.14`, or `3.14t` for a free-threaded build."""
        return f"{self.version[0]}.{self.version[1]}{'t' * self.is_free_threaded}"

    @property
    def full(self) -> str:
        """`3.14.2`, or `3.14.2t`."""
        return f"{'.'.join(map(str, self.version))}{'t' * self.is_free_threaded}"

    @property
    def lacks(self) -> str:
        """The suites that it does not ship."""
        return " and ".join(f"test.{suite.source}" for suite in SUITES if not self.files[suite])


ASK = """
import json, os, sys, sysconfig
free = bool(sysconfig.get_config_var("Py_GIL_DISABLED"))
print(json.dumps([sys.implementation.name, sys.executable, sys.version_info[:3], sysconfig.get_path("stdlib"), free]))
"""


def ask(command: str) -> Interpreter | None:
    """What is behind a path or a command; `None` when it does not answer or is no CPython from 3.11 on."""
    try:
        done = subprocess.run([command, "-I", "-c", ASK], capture_output=True, text=True, timeout=60, check=True)
        name, path, version, stdlib, is_free_threaded = json.loads(done.stdout)
    except (OSError, ValueError, subprocess.SubprocessError):
        return None
    if name != "cpython" or tuple(version) < (3, 11):
        return None
    files = {suite: files_of(suite, Path(stdlib, "test")) for suite in SUITES}
    return Interpreter(path, tuple(version), files, is_free_threaded)


def files_of(suite: Suite, tests: Path) -> tuple[str, ...]:
    """The test files of a suite, as far as `tests` has it."""
    if (tests / suite.source).is_dir():
        return tuple(sorted(file.stem for file in (tests / suite.source).glob("test_*.py")))
    return (suite.files or (suite.source,)) if (tests / f"{suite.source}.py").is_file() else ()


def named_interpreters(names: list[str]) -> list[Interpreter]:
    """The interpreters that `PYTHONS` names; each must be there and ship the suite."""
    found = []
    for name in names:
        # A name on PATH may be a shim of pyenv for a version that is installed but not chosen.
        places = [name] if "/" in name else [name, *glob.glob(os.path.expanduser(f"~/.pyenv/versions/*/bin/{name}"))]
        interpreter = next(filter(None, map(ask, places)), None)
        if interpreter is None:
            raise SetupError(f"PYTHONS: {name!r} does not run, or is not CPython 3.11 or newer")
        if not any(interpreter.files.values()):
            raise SetupError(f"PYTHONS: {name!r} ({interpreter.full}) does not ship {interpreter.lacks}")
        found.append(interpreter)
    return found


def found_interpreters() -> list[Interpreter]:
    """Every interpreter on PATH and of pyenv that ships a suite; one per full version."""
    candidates = []
    for minor in ("11", "12", "13", "14", "14t"):
        for folder in os.environ.get("PATH", "").split(os.pathsep):
            candidates += glob.glob(os.path.join(folder, f"python3.{minor}"))
        candidates += glob.glob(os.path.expanduser(f"~/.pyenv/versions/*/bin/python3.{minor}"))
    found: dict[str, Interpreter] = {}
    without: dict[str, Interpreter] = {}
    for candidate in dict.fromkeys(candidates):
        interpreter = ask(candidate)
        if interpreter is not None:
            (found if any(interpreter.files.values()) else without).setdefault(interpreter.full, interpreter)
    for full, interpreter in without.items():
        if full not in found:
            print(f"CPython {full} ({interpreter.path}) does not ship {interpreter.lacks}: left out")
    if not found:
        raise SetupError(
            f"no interpreter here ships {' or '.join(f'test.{suite.source}' for suite in SUITES)}\n"
            "  hint: on Debian `apt-get install libpython3.11-testsuite`; pyenv's source builds of 3.13 have it"
        )
    return sorted(found.values(), key=lambda interpreter: interpreter.version)
