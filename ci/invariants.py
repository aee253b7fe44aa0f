"""Checks the invariants of the house, as far as a script that reads the sources can. ARCHITECTURE.md lists them all.

    python ci/invariants.py            # this tree
    python ci/invariants.py DIRECTORY  # another one

Every finding is one line, `path:line: [rule] what is wrong`, and the exit code is 1. The rules are functions from a tree to
findings, listed in RULES; tests/test_house.py feeds each of them a small tree that breaks it. What a rule permits, and why,
stands in the tables below: to permit something new, add a line with a reason there and expect to be asked about it.

This reads text, not meaning. A determined author can hide from it; an absent-minded one cannot, and that is its purpose.
Comments, strings and `#[cfg(test)]` modules are taken out first. Standard library only.
"""

from __future__ import annotations

import ast
import json
import re
import subprocess
import sys
import tomllib
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

# What is permitted, and why. A path ending in "/" permits everything below it.

DEPENDS_ON = {
    "raddle-core": set(),
    "raddle-shm": {"raddle-core"},
    "raddle-proc": {"raddle-core", "raddle-shm"},
    "raddle-reactor": {"raddle-core"},
    "raddle-probe": {"raddle-core"},
    "raddle-trace": {"raddle-core", "raddle-probe"},
    "raddle-top": {"raddle-probe"},
    "raddle-py": {
        "raddle-core",
        "raddle-shm",
        "raddle-proc",
        "raddle-reactor",
        "raddle-trace",
        "raddle-probe",
        "raddle-top",
    },
}
"""Which of our crates a crate may use: only those below it."""

ROOMS = ["prim", "life", "park", "sync", "channel", "sched", "scope"]
"""The rooms of raddle-core. A room uses those before `sync` that stand before it; the rest stand side by side on `park`."""

KNOWS_PYTHON = {"raddle-py"}

MODEL_FUTEX = {
    "crates/raddle-shm/src/futex/model.rs": "built under cfg(loom) only, where it stands in for the kernel's futex"
}

NAMES_PRIMITIVES = MODEL_FUTEX | {
    "crates/raddle-core/src/prim/": "the one place that chooses between std and the model checker",
}

SLEEPS = {
    "crates/raddle-core/src/park/": "every thread of ours sleeps here",
    "crates/raddle-shm/src/futex/": "the futex between processes",
    "crates/raddle-proc/src/watch.rs": "the keeper's one epoll wait, and the reaping of what it reported",
    "crates/raddle-proc/src/kernel.rs": "the waitid of that reaping",
    "crates/raddle-top/src/wait.rs": "the one wait of `raddle top`, a program of its own: for a key, a signal, or the next look",
    "crates/raddle-py/src/recorder/children.rs": "stands in front of the program's own waits for its children",
}

UNSAFE = {
    "crates/raddle-shm/src/": "raw memory shared between processes",
    "crates/raddle-proc/src/lane/link.rs": "words and records inside shared segments",
    "crates/raddle-proc/src/lane/seat.rs": "records inside shared segments",
    "crates/raddle-proc/src/signal.rs": "signal masks and handlers through libc",
    "crates/raddle-proc/src/kernel.rs": "system calls that rustix does not wrap",
    "crates/raddle-proc/src/child.rs": "descriptors that a child inherits by number",
    "crates/raddle-py/src/attached.rs": "sharing what the interpreter's lock guards",
    "crates/raddle-py/src/gate.rs": "functions of ours that CPython calls without PyO3 in between",
    "crates/raddle-py/src/of_process.rs": "what a fork leaves behind and nobody may free",
    "crates/raddle-py/src/shortcut.rs": "methods in CPython's own calling convention",
    "crates/raddle-py/src/buffer.rs": "shared memory behind the buffer protocol",
    "crates/raddle-py/src/parcel.rs": "buffers of Python objects, and shared memory that they are copied to",
    "crates/raddle-py/src/shared_channel/": "descriptors that Python hands over by number, and what a forked child must not drop",
    "crates/raddle-py/src/codec.rs": "CPython's C functions that PyO3 does not wrap",
    "crates/raddle-py/src/process_lane.rs": "descriptors that Python hands over by number",
    "crates/raddle-py/src/zygote.rs": "descriptors that Python hands over by number",
    "crates/raddle-py/src/worker.rs": "descriptors that Python hands over by number",
    "crates/raddle-py/src/unit.rs": "the interpreter's number of a thread",
    "crates/raddle-py/src/wait_graph.rs": "the interpreter's list of thread states",
    "crates/raddle-py/src/recorder/": "functions in front of CPython's and pthread's, a mapped file, the interpreter's frames",
    "crates/raddle-py/src/runtime.rs": "making an object of a Python subclass through its type's slots",
}

PRIVATE_BOOKS = {
    "crates/raddle-shm/src/heap/": "books about shared memory, in the ordinary memory of the process that keeps them",
    "crates/raddle-shm/src/ear.rs": "the line of those of one process who wait at a gong, in its ordinary memory",
}

ENDS_PROCESS = {
    "crates/raddle-proc/src/signal.rs": "a worker whose parent died ends itself: it is our process, not the user's",
}

GATE = {"crates/raddle-py/src/gate.rs": "the one way in and out of the interpreter"}

SPINS = {
    "crates/raddle-core/src/prim/": "names the hint",
    "crates/raddle-core/src/park/patience.rs": "the one bounded look before a sleep, no longer than a wake-up costs",
}

SHORT_TIMES = {
    "crates/raddle-py/src/gate.rs": "the main thread comes back a few times for a signal that came in a gap (decision 0012); how long a "
    "thread keeps the interpreter while it runs one call after the other",
    "crates/raddle-py/src/wait_graph.rs": "a thread that was asked whether its wait can ever end looks a few times, while another one is just ending; and "
    "who waits for a call enters the wait graph once, after a moment",
    "crates/raddle-py/src/batch.rs": "when a batch of calls that were thought cheap is handed back",
    "crates/raddle-core/src/park/patience.rs": "the longest look before a sleep",
    "crates/raddle-probe/src/look.rs": "for how long the names of threads are believed by who looks again and again",
    "crates/raddle-probe/src/watch.rs": "for how long the list of processes is believed; observation is the exception of invariant 11",
    "crates/raddle-top/src/wait.rs": "how long the second half of a key may take to arrive",
    "crates/raddle-proc/src/lane/seat.rs": "when a call that was foretold to be short turns out not to be",
}
"""Files that may name durations in milliseconds or less."""

ATOMICS_AND_THREADS = [
    "std::sync::atomic",
    "core::sync::atomic",
    "std::thread",
    "std::cell::UnsafeCell",
    "core::cell::UnsafeCell",
    "std::sync::Mutex",
    "std::sync::RwLock",
    "std::sync::Condvar",
    "std::sync::Barrier",
    "std::sync::mpsc",
    "loom",
]

SLEEPING_CALLS = [
    "std::thread::park",
    "std::thread::park_timeout",
    "std::thread::sleep",
    "std::sync::Condvar",
    "std::sync::Barrier",
    "std::sync::mpsc",
    "rustix::thread::futex",
    "rustix::thread::nanosleep",
    "rustix::thread::clock_nanosleep_relative",
    "rustix::event::epoll",
    "rustix::event::poll",
    "rustix::event::select",
    "rustix::process::waitid",
    "rustix::process::waitpid",
    *(f"libc::{name}" for name in ["poll", "ppoll", "select", "epoll_wait", "pause", "sleep", "usleep", "nanosleep"]),
    *(f"libc::{name}" for name in ["sigwait", "sigsuspend", "sem_wait", "waitpid", "wait4", "waitid", "SYS_waitid"]),
]

ENDING_CALLS = [
    "std::process::abort",
    "std::process::exit",
    *(f"libc::{name}" for name in ["abort", "exit", "_exit", "quick_exit"]),
]


# Reading.


class Finding(NamedTuple):
    path: str
    line: int
    rule: str
    text: str

    def __str__(self) -> str:
        return f"{self.path}:{self.line}: [{self.rule}] {self.text}"


def blank(text: str) -> str:
    """As many characters and lines, but nothing to see."""
    return re.sub(r"[^\n]", " ", text)


RUST_NOISE = re.compile(
    r"""//[^\n]*                                   # comment
      | /\*                                        # block comment: its end is found by counting
      | b?c?r(?P<hashes>\#*)".*?"(?P=hashes)       # raw string
      | b?c?"(?:\\.|[^"\\])*"                      # string
      | b?'(?:\\(?:x..|u\{[^}]*\}|.)|[^'\\\n])'    # character, not a lifetime
    """,
    re.VERBOSE | re.DOTALL,
)


def without_noise(source: str) -> str:
    """Rust source with comments, strings and characters blanked out."""
    parts, at = [], 0
    while match := RUST_NOISE.search(source, at):
        end = match.end()
        if match[0] == "/*":
            depth = 1
            while depth and (mark := re.compile(r"/\*|\*/").search(source, end)):
                depth += 1 if mark[0] == "/*" else -1
                end = mark.end()
            end = end if not depth else len(source)
        parts += [source[at : match.start()], blank(source[match.start() : end])]
        at = end
    return "".join([*parts, source[at:]])


def without_tests(code: str) -> str:
    """Code without its `#[cfg(test)]` modules."""
    for match in reversed(
        list(re.finditer(r"#\[cfg\((?:test|all\(test\b[^]]*)\)\]\s*(?:pub(?:\([^)]*\))?\s+)?mod\s+\w+\s*\{", code))
    ):
        depth, end = 1, match.end()
        while depth and end < len(code):
            depth += {"{": 1, "}": -1}.get(code[end], 0)
            end += 1
        code = code[: match.start()] + blank(code[match.start() : end]) + code[end:]
    return code


def expand_use(tree: str, prefix: str = "") -> Iterator[str]:
    """The full paths that a `use` tree names."""
    depth, start, items = 0, 0, []
    for at, character in enumerate(tree):
        depth += {"{": 1, "}": -1}.get(character, 0)
        if character == "," and depth == 0:
            items.append(tree[start:at])
            start = at + 1
    for item in [*items, tree[start:]]:
        item = item.strip().removeprefix("::")
        if match := re.fullmatch(r"(.*?)\s*\{(.*)\}", item, re.DOTALL):
            yield from expand_use(match[2], prefix + match[1].replace(" ", ""))
        elif item:
            path = prefix + re.sub(r"\s+as\s+\w+$", "", item).replace(" ", "")
            yield path.removesuffix("::self")


@dataclass(frozen=True)
class RustFile:
    path: str
    source: str

    @cached_property
    def code(self) -> str:
        return without_tests(without_noise(self.source))

    @cached_property
    def names(self) -> list[tuple[int, str]]:
        """Every path that the code names, in full where a `use` tells, with its line."""
        found, short = [], {}
        for match in re.finditer(r"\buse\s+([^;]+);", self.code):
            for path in expand_use(match[1]):
                found.append((self.line(match.start()), path))
                short[path.rpartition("::")[2]] = path
        rest = re.sub(r"\buse\s+[^;]+;", lambda match: blank(match[0]), self.code)
        for match in re.finditer(r"(?<![\w:])(\w+)((?:::\w+)+)", rest):
            found.append((self.line(match.start()), short.get(match[1], match[1]) + match[2]))
        return found

    def line(self, position: int) -> int:
        return self.code.count("\n", 0, position) + 1

    def search(self, pattern: str) -> Iterator[tuple[int, re.Match[str]]]:
        for match in re.finditer(pattern, self.code):
            yield self.line(match.start()), match


class Tree:
    """The files of one checkout."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def read(self, path: str) -> str:
        file = self.root / path
        return file.read_text(encoding="utf-8") if file.is_file() else ""

    def toml(self, path: str) -> dict[str, Any]:
        return tomllib.loads(self.read(path))

    @cached_property
    def crates(self) -> dict[str, dict[str, Any]]:
        """The manifest of each of our crates, by name."""
        manifests = (
            tomllib.loads(path.read_text(encoding="utf-8")) for path in sorted(self.root.glob("crates/*/Cargo.toml"))
        )
        return {manifest["package"]["name"]: manifest for manifest in manifests}

    @cached_property
    def rust(self) -> list[RustFile]:
        """Product code: what lies in src/. Tests, examples and benches keep their own rules."""
        # A file `tests.rs` below `src` is the body of its parent's `#[cfg(test)] mod tests;`.
        paths = [path for path in sorted(self.root.glob("crates/*/src/**/*.rs")) if path.name != "tests.rs"]
        return [self.rust_file(path) for path in paths]

    def rust_file(self, path: Path) -> RustFile:
        return RustFile(path.relative_to(self.root).as_posix(), path.read_text(encoding="utf-8"))

    @cached_property
    def python(self) -> list[tuple[str, ast.Module]]:
        """The Python that is installed."""
        paths = sorted(self.root.glob("python/**/*.py"))
        return [(path.relative_to(self.root).as_posix(), ast.parse(path.read_text(encoding="utf-8"))) for path in paths]

    @cached_property
    def ours(self) -> list[str]:
        """The paths of everything that git tracks or would track; every file where there is no git."""
        command = ["git", "-C", str(self.root), "ls-files", "--cached", "--others", "--exclude-standard", "-z"]
        try:
            listed = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split("\0")
        except (OSError, subprocess.CalledProcessError):
            listed = [path.relative_to(self.root).as_posix() for path in self.root.rglob("*")]
        return sorted(path for path in listed if path and (self.root / path).is_file())


def permitted(path: str, table: dict[str, str]) -> bool:
    return any(path == entry or (entry.endswith("/") and path.startswith(entry)) for entry in table)


def is_below(path: str, prefix: str) -> bool:
    return path == prefix or path.startswith(prefix + "::")


def dependencies(manifest: dict[str, Any], *, dev: bool = True) -> set[str]:
    """What a manifest asks for, in all its tables, by the name of the package."""
    kinds = ["dependencies", "build-dependencies", *(["dev-dependencies"] if dev else [])]
    tables = [manifest, *manifest.get("target", {}).values()]
    found = set()
    for table in tables:
        for kind in kinds:
            for name, wish in table.get(kind, {}).items():
                found.add(wish.get("package", name) if isinstance(wish, dict) else name)
    return found


# The rules. Their order is that of ARCHITECTURE.md; the house's other rules follow.


def only_py_depends_on_pyo3(tree: Tree) -> Iterator[Finding]:
    """Invariant 1: also not through another crate (Cargo.lock knows)."""
    locked: dict[str, set[str]] = {}
    for package in tree.toml("Cargo.lock").get("package", []):
        locked.setdefault(package["name"], set()).update(name.split()[0] for name in package.get("dependencies", []))
    for name, manifest in tree.crates.items():
        if name in KNOWS_PYTHON:
            continue
        seen: set[str] = set()
        queue = list(dependencies(manifest))
        while queue:
            if (package := queue.pop()) not in seen:
                seen.add(package)
                queue += locked.get(package, ())
        for package in sorted(seen & {"pyo3", "pyo3-ffi"}):
            yield Finding(
                f"crates/{name}/Cargo.toml", 1, "invariant 1", f"{name} depends on {package}; only raddle-py may"
            )


def only_prim_names_primitives(tree: Tree) -> Iterator[Finding]:
    """Invariant 2. Not for raddle-py: it is not model-checked, and its atomics are those of `prim` by habit."""
    for file in tree.rust:
        if permitted(file.path, NAMES_PRIMITIVES) or file.path.startswith("crates/raddle-py/"):
            continue
        for line, path in file.names:
            if any(is_below(path, banned) for banned in ATOMICS_AND_THREADS):
                yield Finding(file.path, line, "invariant 2", f"names {path}; take it from raddle_core::prim")


def only_named_rooms_sleep(tree: Tree) -> Iterator[Finding]:
    """Invariant 3."""
    for file in tree.rust:
        if permitted(file.path, SLEEPS) or permitted(file.path, NAMES_PRIMITIVES):
            continue
        for line, path in file.names:
            if any(is_below(path, banned) for banned in SLEEPING_CALLS):
                yield Finding(file.path, line, "invariant 3", f"names {path}, which sleeps; sleep through core::park")


def only_life_changes_a_state(tree: Tree) -> Iterator[Finding]:
    """Invariant 4: the word is private, one family of functions changes it, and nobody else makes up a state."""
    for file in tree.rust:
        if file.path.startswith("crates/raddle-core/src/life/"):
            for line, match in file.search(r"\bstruct\s+AtomicState\s*\{([^}]*)\}"):
                if re.search(r"\bpub\b", match[1]):
                    yield Finding(file.path, line, "invariant 4", "the word of AtomicState must be private")
            for line, match in file.search(r"\.(compare_exchange\w*|swap|store|fetch_\w+)\("):
                functions = re.findall(r"\bfn\s+(\w+)", file.code[: match.start()])
                if not functions or not functions[-1].startswith("step"):
                    yield Finding(
                        file.path, line, "invariant 4", f"{match[1]} outside `step`: a life changes by steps only"
                    )
            continue
        if any(re.fullmatch(r"(raddle_core|crate)::life::State", path) for _, path in file.names):
            for line, _ in file.search(r"(?<!struct )(?<!enum )(?<!impl )(?<!-> )\bState\s*\{"):
                yield Finding(file.path, line, "invariant 4", "makes up a State; ask core::life for a step")
        for line, _ in file.search(r"\.(phase|stop_asked|told)\s*=(?![=>])"):
            yield Finding(file.path, line, "invariant 4", "changes a field of a State; ask core::life for a step")


def errors_give_the_value_back(tree: Tree) -> Iterator[Finding]:
    """Invariant 6: a function that takes an `item: T` and may refuse it has T in its error."""
    for file in tree.rust:
        for line, match in file.search(
            r"\bpub fn (\w+)(?:<[^(]*>)?\(\s*&(?:mut )?self,\s*(?:item|value|message): T\b[^{;]*?->\s*Result<([^{;]*)>"
        ):
            depth = 0
            for at, character in enumerate(match[2]):
                depth += {"<": 1, "(": 1, ">": -1, ")": -1}.get(character, 0)
                if character == "," and depth == 0:
                    if not re.search(r"\bT\b", match[2][at:]):
                        yield Finding(
                            file.path, line, "invariant 6", f"{match[1]} loses the value: its error must hold the T"
                        )
                    break


def no_lock_in_shared_memory(tree: Tree) -> Iterator[Finding]:
    """Invariant 7: raddle-shm knows no lock, no retry loop and no spinning, but for books that one process keeps for itself."""
    for file in tree.rust:
        if not file.path.startswith("crates/raddle-shm/") or permitted(file.path, MODEL_FUTEX | PRIVATE_BOOKS):
            continue
        for line, match in file.search(
            r"\b(Mutex|RwLock|Condvar|spin_loop|pthread_(?:mutex|rwlock|cond|spin)\w*|compare_exchange_weak|fetch_update)\b"
        ):
            yield Finding(
                file.path,
                line,
                "invariant 7",
                f"{match[1]}: a shared word changes by one read-modify-write, never under a lock",
            )


def only_the_gate_crosses(tree: Tree) -> Iterator[Finding]:
    """Invariant 8."""
    for file in tree.rust:
        if permitted(file.path, GATE):
            continue
        for line, match in file.search(
            r"\bPython::(?:attach|try_attach|attach_unchecked|with_gil|assume_attached)\b|\.(?:detach|allow_threads)\(|\bPyEval_(?:Save|Restore)Thread\b|\bPyGILState_\w+"
        ):
            yield Finding(
                file.path,
                line,
                "invariant 8",
                f"{match[0].strip('.(')}: only raddle-py/src/gate.rs goes in and out of Python",
            )


def unsafe_only_in_named_modules(tree: Tree) -> Iterator[Finding]:
    """Invariant 9. That each block has a SAFETY comment is clippy's `undocumented_unsafe_blocks`."""
    for file in tree.rust:
        if permitted(file.path, UNSAFE):
            continue
        for line, _ in file.search(r"\bunsafe\b(?!_)"):
            yield Finding(
                file.path, line, "invariant 9", "unsafe outside the modules named for it (UNSAFE in ci/invariants.py)"
            )
    for entry in UNSAFE:
        files = [file for file in tree.rust if permitted(file.path, {entry: ""})]
        if files and not any(re.search(r"\bunsafe\b", file.code) for file in files):
            yield Finding(
                "ci/invariants.py", 1, "invariant 9", f"{entry} has no unsafe code any more: take it out of UNSAFE"
            )


def a_panic_stays_inside(tree: Tree) -> Iterator[Finding]:
    """Invariant 10: panics unwind, the gate catches them, nothing else ends the process, and `unwrap` is for tests."""
    manifest = tree.toml("Cargo.toml")
    for name, profile in manifest.get("profile", {}).items():
        if profile.get("panic", "unwind") != "unwind":
            yield Finding(
                "Cargo.toml", 1, "invariant 10", f"profile {name} must unwind: a panic may not end the user's process"
            )
    for file in tree.rust:
        if file.path in GATE and "catch_unwind" not in file.code:
            yield Finding(file.path, 1, "invariant 10", "the gate must catch panics (catch_unwind)")
        for line, _ in file.search(r"\.unwrap\(\)"):
            yield Finding(
                file.path, line, "invariant 10", 'unwrap: use expect("why this cannot fail"), or return an error'
            )
        if permitted(file.path, ENDS_PROCESS):
            continue
        for line, path in file.names:
            if any(is_below(path, banned) for banned in ENDING_CALLS):
                yield Finding(file.path, line, "invariant 10", f"{path} ends the user's process")


def nothing_polls(tree: Tree) -> Iterator[Finding]:
    """Invariant 11: no sleeping, spinning or short time-outs in order to look again."""
    for file in tree.rust:
        if not permitted(file.path, SPINS):
            for line, match in file.search(r"\b(?:spin_loop|yield_now)\b"):
                yield Finding(
                    file.path, line, "invariant 11", f"{match[0]}: wait for the condition instead of looking again"
                )
        if not permitted(file.path, SHORT_TIMES):
            for line, match in file.search(r"\bDuration::from_(?:millis|micros|nanos)\("):
                yield Finding(
                    file.path,
                    line,
                    "invariant 11",
                    f"{match[0].strip('(')}: a short time built in looks like polling (SHORT_TIMES)",
                )
    for path, module in tree.python:
        for node in ast.walk(module):
            if (
                isinstance(node, ast.ImportFrom)
                and node.module == "time"
                and any(name.name == "sleep" for name in node.names)
            ):
                yield Finding(path, node.lineno, "invariant 11", "time.sleep: wait for the condition itself")
            if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Attribute):
                continue
            if node.func.attr == "sleep":
                yield Finding(
                    path, node.lineno, "invariant 11", f"{ast.unparse(node.func)}: wait for the condition itself"
                )
            if node.func.attr in {"wait", "poll", "get", "join", "acquire", "select", "result"}:
                times = [*node.args, *(word.value for word in node.keywords if word.arg == "timeout")]
                for time in times:
                    if isinstance(time, ast.Constant) and isinstance(time.value, float) and 0 < time.value <= 1:
                        yield Finding(
                            path,
                            node.lineno,
                            "invariant 11",
                            f"{ast.unparse(node)}: a short time-out looks like polling",
                        )


def dependence_points_down(tree: Tree) -> Iterator[Finding]:
    """Crates use only those below them; rooms of the core likewise."""
    for name, manifest in tree.crates.items():
        if name not in DEPENDS_ON:
            yield Finding(
                f"crates/{name}/Cargo.toml", 1, "direction", f"{name} has no place in DEPENDS_ON (ci/invariants.py)"
            )
            continue
        for other in sorted(dependencies(manifest) & set(DEPENDS_ON) - DEPENDS_ON[name] - {name}):
            yield Finding(
                f"crates/{name}/Cargo.toml", 1, "direction", f"{name} may not depend on {other}: dependence points down"
            )
    for file in tree.rust:
        match = re.match(r"crates/raddle-core/src/(\w+)/", file.path)
        if not match or match[1] not in ROOMS:
            continue
        room = match[1]
        below = {"prim", "life", "park"} & set(ROOMS[: ROOMS.index(room)]) | {room}
        for line, path in file.names:
            parts = path.split("::")
            if parts[0] == "crate" and len(parts) > 1 and parts[1] in ROOMS and parts[1] not in below:
                yield Finding(
                    file.path, line, "direction", f"room {room} may not use {parts[1]}: dependence points down"
                )


def no_mutable_statics(tree: Tree) -> Iterator[Finding]:
    for file in tree.rust:
        for line, _ in file.search(r"\bstatic\s+mut\b"):
            yield Finding(file.path, line, "statics", "static mut: no thread may write it safely")


def boot_uses_the_standard_library(tree: Tree) -> Iterator[Finding]:
    """raddle_boot runs before anything else in a child: of what is not in the standard library it may load our extension."""
    for path, module in tree.python:
        if not path.startswith("python/raddle_boot/"):
            continue
        # Imports inside functions run when the child is set up; those at the top run before.
        for node in module.body:
            if isinstance(node, ast.Import):
                names = [name.name for name in node.names]
            elif isinstance(node, ast.ImportFrom) and not node.level:
                names = [node.module or ""]
            else:
                continue
            for name in names:
                if name.partition(".")[0] not in sys.stdlib_module_names | {"raddle_boot"}:
                    yield Finding(
                        path, node.lineno, "boot", f"imports {name}; raddle_boot starts with the standard library alone"
                    )


def licences_and_sources(tree: Tree) -> Iterator[Finding]:
    """What deny.toml says about licences, sources and banned crates, for machines without cargo-deny."""
    rules = tree.toml("deny.toml")
    banned = {entry["crate"]: set(entry.get("wrappers", ())) for entry in rules.get("bans", {}).get("deny", ())}
    for package in tree.toml("Cargo.lock").get("package", []):
        source = package.get("source", "")
        registries = rules.get("sources", {}).get("allow-registry", [])
        if source and source.removeprefix("registry+") not in registries:
            yield Finding("Cargo.lock", 1, "sources", f"{package['name']} comes from {source}")
        for name in (entry.split()[0] for entry in package.get("dependencies", [])):
            if name in banned and package["name"] not in banned[name] and package["name"] not in {"pyo3", "pyo3-ffi"}:
                yield Finding("Cargo.lock", 1, "bans", f"{package['name']} depends on {name}, which deny.toml forbids")
    if not tree.read("Cargo.lock"):
        return
    allowed = set(rules.get("licenses", {}).get("allow", ()))
    for package in cargo_packages(tree.root):
        if not licence_allowed(package["license"] or "", allowed):
            yield Finding(
                "Cargo.lock",
                1,
                "licences",
                f"{package['name']} has the licence {package['license']!r}, which deny.toml does not allow",
            )


@cache
def cargo_packages(root: Path) -> list[dict[str, Any]]:
    """Every package of the dependence graph, with its manifest's fields."""
    command = ["cargo", "metadata", "--locked", "--format-version", "1", "--manifest-path", str(root / "Cargo.toml")]
    packages: list[dict[str, Any]] = json.loads(
        subprocess.run(command, capture_output=True, text=True, check=True).stdout
    )["packages"]
    return packages


def licence_allowed(expression: str, allowed: set[str]) -> bool:
    """Whether an SPDX expression can be met with the allowed licences. An old "/" means OR."""
    words = re.findall(r"\(|\)|[^\s()]+", expression.replace("/", " OR "))

    def either() -> bool:
        met = both()
        while words and words[0] == "OR":
            words.pop(0)
            met = both() or met
        return met

    def both() -> bool:
        met = one()
        while words and words[0] == "AND":
            words.pop(0)
            met = one() and met
        return met

    def one() -> bool:
        word = words.pop(0) if words else ""
        if word == "(":
            met = either()
            words[:1] = []
            return met
        if words and words[0] == "WITH":
            word += f" WITH {words[1]}"
            del words[:2]
        return word in allowed

    return either()


def documents_are_sound(tree: Tree) -> Iterator[Finding]:
    """Links between documents lead somewhere; nothing is left to do, and no machine's own paths stand in the tree."""
    for path in tree.ours:
        if path.endswith(".md"):
            text = re.sub(r"```.*?```|`[^`\n]*`", lambda match: blank(match[0]), tree.read(path), flags=re.DOTALL)
            for match in re.finditer(r"\]\(([^)\s]+)\)", text):
                target = match[1].partition("#")[0]
                # Rustdoc prose links to items (`crate::park`); rustdoc itself checks those.
                if target and not re.match(r"\w+:", target) and not (tree.root / path).parent.joinpath(target).exists():
                    line = text.count("\n", 0, match.start()) + 1
                    yield Finding(path, line, "links", f"leads nowhere: {match[1]}")
        if (
            path.endswith((".rs", ".py", ".pyi", ".md", ".sh", ".toml", ".yml", "Makefile"))
            and path not in SPEAKS_OF_RULES
        ):
            for number, line_text in enumerate(tree.read(path).splitlines(), 1):
                if left := re.search(r"\b(?:TODO|FIXME|XXX|HACK)\b|(?<![\w$}])/(?:root|home/\w+|work)/", line_text):
                    yield Finding(path, number, "leftovers", f"{left[0]!r} does not belong in the tree")


SPEAKS_OF_RULES = {"ci/invariants.py", "tests/test_house.py"}

RULES: list[Callable[[Tree], Iterator[Finding]]] = [
    only_py_depends_on_pyo3,
    only_prim_names_primitives,
    only_named_rooms_sleep,
    only_life_changes_a_state,
    errors_give_the_value_back,
    no_lock_in_shared_memory,
    only_the_gate_crosses,
    unsafe_only_in_named_modules,
    a_panic_stays_inside,
    nothing_polls,
    dependence_points_down,
    no_mutable_statics,
    boot_uses_the_standard_library,
    licences_and_sources,
    documents_are_sound,
]


def check(root: Path) -> list[Finding]:
    """Every finding of every rule."""
    tree = Tree(root)
    return list(dict.fromkeys(finding for rule in RULES for finding in rule(tree)))


def main() -> int:
    root = Path(sys.argv[1] if len(sys.argv) > 1 else Path(__file__).parent.parent).resolve()
    findings = check(root)
    for finding in findings:
        print(finding)
    if findings:
        print(f"{len(findings)} findings", file=sys.stderr)
        return 1
    tree = Tree(root)
    print(f"{len(RULES)} rules hold in {len(tree.rust)} Rust and {len(tree.python)} Python files")
    return 0


if __name__ == "__main__":
    sys.exit(main())
