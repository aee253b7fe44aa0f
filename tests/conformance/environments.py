"""One virtual environment per interpreter: Raddle from a wheel, and the patcher."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
import subprocess
import sys
from typing import TYPE_CHECKING

from house import BUILD, HERE, ROOT, SetupError

if TYPE_CHECKING:
    from pathlib import Path

    from interpreters import Interpreter


def run_quietly(command: list[str], what: str, **options: object) -> None:
    """Runs a command of the set-up; its output is shown only when it fails."""
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, **options)  # type: ignore[call-overload]
    if done.returncode:
        raise SetupError(f"{what} failed: {' '.join(command)}\n{done.stdout}")


def sources_digest() -> str:
    """A digest of everything the wheel is built from."""
    digest = hashlib.sha256()
    files = [ROOT / name for name in ("Cargo.toml", "Cargo.lock", "pyproject.toml")]
    for folder, patterns in (("crates", ("*.rs", "*.toml", "*.md")), ("python", ("*.py", "*.pyi", "py.typed"))):
        for pattern in patterns:
            files += sorted((ROOT / folder).rglob(pattern))
    for file in files:
        if file.is_file():
            digest.update(f"{file.relative_to(ROOT)}\0{file.stat().st_size}\0".encode() + file.read_bytes())
    return digest.hexdigest()


def build_wheel(interpreter: Interpreter) -> Path:
    """A release wheel for this interpreter; cargo decides what has to be compiled again."""
    out = BUILD / f"wheel-{interpreter.full}"
    shutil.rmtree(out, ignore_errors=True)
    environment = os.environ | {"CARGO_TARGET_DIR": str(BUILD / interpreter.full)}
    print(f"building the wheel for CPython {interpreter.full}", flush=True)
    command = [sys.executable, "-m", "maturin", "build", "--release", "--quiet"]
    command += ["--interpreter", interpreter.path, "--out", str(out)]
    run_quietly(command, "building the wheel", cwd=ROOT, env=environment)
    wheels = list(out.glob("*.whl"))
    if len(wheels) != 1:
        raise SetupError(f"expected one wheel in {out}, found {len(wheels)}")
    return wheels[0]


def make_environment(interpreter: Interpreter, name: str, with_raddle: bool) -> Path:
    """The virtual environment of this interpreter, brought up to date; returns its interpreter."""
    folder = ROOT / f".venv-conformance-{name}"
    python = folder / "bin" / "python"
    stamp = folder / "raddle-conformance.json"
    state = {}
    with contextlib.suppress(OSError, ValueError):
        state = json.loads(stamp.read_text())
    if state.get("base") != [interpreter.path, interpreter.full] or not python.exists():
        print(f"making {folder.name} from {interpreter.path}", flush=True)
        shutil.rmtree(folder, ignore_errors=True)
        # Without pip: Debian's interpreter has no `ensurepip`, and our own pip can install into it.
        run_quietly([interpreter.path, "-m", "venv", "--without-pip", str(folder)], "making the environment")
        state = {"base": [interpreter.path, interpreter.full]}
    if with_raddle:
        digest = sources_digest()
        if state.get("wheel") != digest:
            wheel = build_wheel(interpreter)
            command = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--python", str(python), "install"]
            run_quietly([*command, "--quiet", str(wheel)], "installing the wheel's dependencies")
            run_quietly([*command, "--quiet", "--no-deps", "--force-reinstall", str(wheel)], "installing the wheel")
            state["wheel"] = digest
    site = next(folder.glob("lib/python3*/site-packages"))
    for file in (HERE / "patch").iterdir():
        if file.suffix in (".py", ".pth"):
            shutil.copy(file, site)
    stamp.write_text(json.dumps(state))
    return python
