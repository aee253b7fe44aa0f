"""`raddle doctor`: what of Raddle works here, tried and not guessed, and what to do about the rest.

Each check says `ok`, `limited` or `missing`. Only what is necessary counts for the exit code: without it pools, locks and channels do not work.
"""

from __future__ import annotations

import os
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable, Iterator
    from typing import Any

__all__ = ["add_parser", "run"]

_OK, _LIMITED, _MISSING = "ok", "limited", "missing"

_KNOWN = {(3, 11), (3, 12), (3, 13), (3, 14)}
"""Versions of CPython whose memory `raddle dump`, `top` and `run` know; with a GIL."""

_OPTIONAL = {
    "numpy": "arrays travel to worker processes without copies",
    "tqdm": "progress=True draws with it",
    "rich": "progress=True draws with it",
    "joblib": "raddle.joblib runs its Parallel",
    "dask": "its schedulers can use Raddle's executors",
}

_PATIENCE = 20.0
"""Seconds for an interpreter to start."""


class Check:
    """What was found about one thing."""

    __slots__ = ("hint", "is_necessary", "name", "said", "state")

    def __init__(
        self, name: str, state: str, said: str, hint: str | None = None, *, is_necessary: bool = False
    ) -> None:
        self.name = name
        self.state = state
        self.said = said
        self.hint = hint
        self.is_necessary = is_necessary


def add_parser(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Adds `raddle doctor` to the command line."""
    command = commands.add_parser(
        "doctor",
        help="what of Raddle works here, and what to do about the rest",
        description="Tries what Raddle needs of the interpreter, the kernel and the machine.",
        epilog="exit code: 0 all that is necessary is there; 1 something necessary is missing",
    )
    command.add_argument("--json", action="store_true", help="write one line of JSON instead of text")
    command.set_defaults(do=run)


def run(options: argparse.Namespace) -> int:
    """Tries everything and says so; returns the exit code."""
    rooms = {title: list(checks()) for title, checks in _ROOMS.items()}
    is_sound = all(check.state != _MISSING or not check.is_necessary for checks in rooms.values() for check in checks)
    if options.json:
        import json

        found = [_document(title, check) for title, checks in rooms.items() for check in checks]
        said = json.dumps({"version": 1, "ok": is_sound, "checks": found})
    else:
        said = _text(rooms)
    sys.stdout.buffer.write(
        said.encode(sys.stdout.encoding if not options.json else "utf-8", "backslashreplace") + b"\n"
    )
    sys.stdout.flush()
    return 0 if is_sound else 1


def _document(title: str, check: Check) -> dict[str, Any]:
    return {
        "room": title,
        "name": check.name,
        "state": check.state,
        "necessary": check.is_necessary,
        "said": check.said,
        "hint": check.hint,
    }


_COLOURS = {_OK: "32", _LIMITED: "33", _MISSING: "31"}


def _text(rooms: dict[str, list[Check]]) -> str:
    from ._terminal import wants_colour

    has_colour = wants_colour(sys.stdout)
    width = max(len(check.name) for checks in rooms.values() for check in checks)
    lines: list[str] = []
    for title, checks in rooms.items():
        lines += ["", title] if lines else [title]
        for check in checks:
            word = f"{check.state:8}"
            if has_colour:
                word = f"\x1b[{_COLOURS[check.state]}m{word}\x1b[0m"
            lines.append(f"  {word} {check.name:{width}}  {_clean(check.said)}")
            if check.hint is not None and check.state != _OK:
                lines.append(f"  {'':8} {'':{width}}  hint: {check.hint}")
    return "\n".join(lines)


def _clean(text: str) -> str:
    """Control characters, of a path for one, as escapes."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def _here() -> Iterator[Check]:
    yield _raddle()
    yield _interpreter()
    yield _system()
    yield _cores()


def _raddle() -> Check:
    from . import __version__, _raddle

    return Check("raddle", _OK, f"{__version__}, {_raddle.__file__}", is_necessary=True)


def _interpreter() -> Check:
    import platform
    import sysconfig

    free = bool(sysconfig.get_config_var("Py_GIL_DISABLED"))
    shared = "in a shared library" if sysconfig.get_config_var("Py_ENABLE_SHARED") else "in the program itself"
    gil = "free-threaded" if free else "with a GIL"
    said = f"{platform.python_implementation()} {platform.python_version()}, {gil}, {shared}: {sys.executable}"
    if sys.implementation.name != "cpython":
        return Check("interpreter", _MISSING, said, "Raddle is for CPython 3.11 and newer", is_necessary=True)
    return Check("interpreter", _OK, said, is_necessary=True)


def _system() -> Check:
    import platform

    said = f"{platform.system()} {platform.release()}, {platform.machine()}, {platform.libc_ver()[0] or 'another C library'}"
    if sys.platform != "linux":
        return Check("system", _LIMITED, said, "processes, raddle run, dump and top need Linux")
    return Check("system", _OK, said, is_necessary=True)


def _cores() -> Check:
    there, usable = os.cpu_count() or 1, len(os.sched_getaffinity(0))
    limit = _cgroup_limit()
    said = f"{usable} of {there} may be used"
    if limit is not None and limit < usable:
        hint = f"pools take {usable} workers by default; give them workers={max(1, round(limit))}"
        return Check("cores", _LIMITED, f"{said}, but the container's share is {limit:.3g}", hint)
    if usable < there:
        return Check(
            "cores", _LIMITED, said, "this process is bound to some of them: see taskset -p, or the container's cpuset"
        )
    return Check("cores", _OK, said)


def _cgroup_limit() -> float | None:
    """How many processors the control groups around this process permit, if they say."""
    limits = []
    for line in _read("/proc/self/cgroup").splitlines():
        _, controllers, path = line.split(":", 2)
        if not controllers:
            # Version 2: each group above has a say.
            parts = [part for part in path.split("/") if part]
            for depth in range(len(parts) + 1):
                quota, _, period = (
                    _read(os.path.join("/sys/fs/cgroup", *parts[:depth], "cpu.max")).strip().partition(" ")
                )
                if quota.isdigit() and period.isdigit():
                    limits.append(int(quota) / int(period))
        elif "cpu" in controllers.split(","):
            for place in (f"/sys/fs/cgroup/cpu{path}", "/sys/fs/cgroup/cpu"):
                quota = _read(f"{place}/cpu.cfs_quota_us").strip()
                period = _read(f"{place}/cpu.cfs_period_us").strip()
                if quota.isdigit() and period.isdigit():
                    limits.append(int(quota) / int(period))
    return min(limits, default=None)


def _read(path: str) -> str:
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            return file.read()
    except OSError:
        return ""


def _do() -> Iterator[Check]:
    yield _tried(
        "memfd",
        _memfd,
        "memory that worker processes share",
        "a kernel before 3.17, or a sandbox that forbids memfd_create",
    )
    yield _tried(
        "pidfd",
        _pidfd,
        "the end of a worker process is seen at once",
        "a kernel before 5.3, or a sandbox that forbids pidfd_open",
    )
    yield _tried(
        "futex", _futex, "sleeping and waking across processes", "a sandbox that forbids futex: Python itself needs it"
    )
    yield _shm()
    yield _start_methods()


def _tried(name: str, attempt: Callable[[], None], use: str, hint: str) -> Check:
    try:
        attempt()
    except (OSError, AttributeError, NotImplementedError) as error:
        return Check(name, _MISSING, f"{use}: {error}", hint, is_necessary=True)
    return Check(name, _OK, use, is_necessary=True)


def _memfd() -> None:
    import mmap

    memory = os.memfd_create("raddle-doctor", os.MFD_CLOEXEC)
    try:
        os.ftruncate(memory, mmap.PAGESIZE)
        mmap.mmap(memory, mmap.PAGESIZE).close()
    finally:
        os.close(memory)


def _pidfd() -> None:
    os.close(os.pidfd_open(os.getpid()))


_SYS_FUTEX = {"x86_64": 202, "aarch64": 98}


def _futex() -> None:
    """A wait for a word that is not what it is waited to be: it returns at once."""
    import ctypes
    import errno
    import platform

    number = _SYS_FUTEX.get(platform.machine())
    if number is None:
        raise NotImplementedError(f"not known on {platform.machine()}")
    word = ctypes.c_uint32(1)
    library = ctypes.CDLL(None, use_errno=True)
    library.syscall(ctypes.c_long(number), ctypes.byref(word), 0, 0, None, None, 0)
    if (code := ctypes.get_errno()) != errno.EAGAIN:
        raise OSError(code, os.strerror(code))


def _shm() -> Check:
    import shutil

    use = "not used by Raddle; multiprocessing and other libraries share arrays through it"
    try:
        total = shutil.disk_usage("/dev/shm").total
    except OSError:
        return Check("/dev/shm", _LIMITED, f"not there; {use}", "mount a tmpfs there, or docker run --shm-size=1g")
    said = f"{total / 2**20:.0f} MiB; {use}"
    if total <= 64 * 2**20:
        return Check("/dev/shm", _LIMITED, said, "docker run --shm-size=1g, where other libraries need more")
    return Check("/dev/shm", _OK, said)


def _start_methods() -> Check:
    import multiprocessing

    methods = multiprocessing.get_all_start_methods()
    chosen = multiprocessing.get_start_method(allow_none=True) or methods[0]
    return Check(
        "start methods", _OK, f"{', '.join(methods)}; {chosen} by default. Native pools spawn, and need none of them"
    )


def _see() -> Iterator[Check]:
    yield _syscall()
    yield _schedstat()
    yield _yama()
    yield from _looks()
    level = _read("/proc/sys/kernel/perf_event_paranoid").strip()
    yield Check("perf_event", _OK, f"not needed{f' (kernel.perf_event_paranoid is {level})' if level else ''}")


def _syscall() -> Check:
    if _read("/proc/thread-self/syscall"):
        return Check("/proc/…/syscall", _OK, "which system call a thread is in")
    hint = "a kernel without CONFIG_HAVE_ARCH_TRACEHOOK, or a container that hides it: threads that wait are not told from those that run"
    return Check("/proc/…/syscall", _MISSING, "which system call a thread is in: not readable", hint)


def _schedstat() -> Check:
    words = _read("/proc/thread-self/schedstat").split()
    if len(words) == 3 and words[2] != "0":
        return Check("/proc/…/schedstat", _OK, "how often and for how long a thread has run")
    hint = "the kernel does not count (kernel.sched_schedstats, CONFIG_SCHED_INFO): deadlocks are not certain, and CPU is not told"
    return Check("/proc/…/schedstat", _LIMITED, "how often and for how long a thread has run: not counted", hint)


_YAMA = {
    "0": "own processes may be looked into",
    "1": "only processes that were started from here may be looked into",
    "2": "only root may look into processes",
    "3": "nobody may look into processes",
}


def _yama() -> Check:
    scope = _read("/proc/sys/kernel/yama/ptrace_scope").strip()
    if not scope:
        return Check("ptrace_scope", _OK, "the kernel has no Yama: own processes may be looked into")
    said = f"kernel.yama.ptrace_scope is {scope}: {_YAMA.get(scope, 'not known')}"
    if scope == "0" or (os.geteuid() == 0 and scope in ("1", "2")):
        return Check("ptrace_scope", _OK, said if scope == "0" else f"{said}, but root may")
    hint = (
        "sudo raddle dump PID, or sudo sysctl kernel.yama.ptrace_scope=0; raddle run works all the same"
        if scope == "1"
        else "sudo raddle dump PID"
    )
    return Check(
        "ptrace_scope", _LIMITED, said, hint if scope != "3" else "it stays so until the machine is started again"
    )


_CHILD = "import sys; print('ready', flush=True); sys.stdin.read()"

_ORPHAN = "import os, sys\nif not os.fork():\n print(os.getpid(), flush=True); sys.stdin.read()"


_HINT = "\nhint: "
"""Stands between what `raddle dump` says and its advice."""


def _looks() -> Iterator[Check]:
    """Really tries to look into a child, and into a process that is not one any more."""
    version = ".".join(map(str, sys.version_info[:3]))
    kind, said = _look_into(_CHILD)
    if kind in ("seen", "deadlock"):
        yield Check("layout", _OK, f"the memory of CPython {version} is known")
    elif kind == "unknown-version":
        yield Check(
            "layout",
            _MISSING,
            f"the memory of this interpreter is not known: {said.partition(_HINT)[0]}",
            "raddle dump, top and run know CPython 3.11 to 3.14 with a GIL; pools, locks and channels work all the same",
        )
    else:
        yield Check("layout", _LIMITED, f"not tried: {said}", "see below")
    yield _look_check("own children", kind, said)
    yield _look_check("own processes", *_look_into(_ORPHAN))


def _look_check(name: str, kind: str, said: str) -> Check:
    if kind in ("seen", "deadlock", "unknown-version"):
        return Check(name, _OK, "may be looked into: tried")
    first, _, hint = said.partition(_HINT)
    return Check(name, _MISSING if name == "own children" else _LIMITED, first, hint or None)


def _look_into(program: str) -> tuple[str, str]:
    """Starts a program that says something when it is ready, looks into it or into what it names, and ends it."""
    import json
    import select
    import subprocess

    from ._raddle import dump

    command = [sys.executable, "-I", "-S", "-c", program]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    ) as child:
        assert child.stdin is not None
        assert child.stdout is not None
        word = child.stdout.readline().strip()
        if not word:
            return "not-started", f"{sys.executable} could not be started"
        pid = int(word) if word.isdigit() else child.pid
        if pid != child.pid:
            # Only then is it somebody else's child.
            os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
        end = os.pidfd_open(pid)
        try:
            kind, said = dump(pid, tree=False, as_json=True, colour=False)
            # It reads until its input ends.
            child.stdin.close()
            select.select([end], [], [], _PATIENCE)
        finally:
            os.close(end)
    trouble = json.loads(said).get("error")
    return kind, "" if trouble is None else f"{trouble['message']}{_HINT}{trouble['hint']}"


def _others() -> Iterator[Check]:
    yield from _interpreters()
    yield from _packages()


def _interpreters() -> Iterator[Check]:
    """The other interpreters on PATH."""
    import re

    seen, told = {os.path.realpath(sys.executable)}, {os.path.realpath(sys.executable)}
    for directory in os.get_exec_path():
        try:
            names = sorted(os.listdir(directory))
        except OSError:
            continue
        for name in names:
            path = os.path.join(directory, name)
            if not re.fullmatch(r"python3(\.\d+t?)?", name) or not os.access(path, os.X_OK):
                continue
            if (real := os.path.realpath(path)) in seen:
                continue
            seen.add(real)
            itself, found = _ask(path)
            # One may be a shim that starts another one.
            if found is not None and itself not in told:
                told.add(itself)
                yield found


_QUESTION = """
import sys, sysconfig
print(sys.implementation.name, *sys.version_info[:3], sysconfig.get_config_var("Py_GIL_DISABLED") or 0, sys.executable)
"""


def _ask(path: str) -> tuple[str, Check | None]:
    """The program that it is, and which version; nothing if it does not say, as a shim without a version behind it."""
    import subprocess

    try:
        asked = subprocess.run(
            [path, "-I", "-c", _QUESTION],
            check=False,
            capture_output=True,
            text=True,
            timeout=_PATIENCE,
            stdin=subprocess.DEVNULL,
        )
        name, major, minor, micro, free, itself = asked.stdout.rstrip("\n").split(" ", 5)
    except (OSError, ValueError, subprocess.TimeoutExpired):
        return path, None
    itself = os.path.realpath(itself)
    version = f"{'CPython' if name == 'cpython' else name} {major}.{minor}.{micro}"
    if name == "cpython" and free == "0" and (int(major), int(minor)) in _KNOWN:
        return itself, Check("other Python", _OK, f"{version}: {path}")
    said = f"{version}{', free-threaded' if free == '1' else ''}: {path}"
    return itself, Check("other Python", _LIMITED, said, "raddle dump, top and run do not know it")


def _packages() -> Iterator[Check]:
    from importlib import metadata

    for name, use in _OPTIONAL.items():
        try:
            yield Check(name, _OK, f"{metadata.version(name)}: {use}")
        except metadata.PackageNotFoundError:
            yield Check(name, _MISSING, f"optional: {use}", f"pip install {name}, if you want that")


_ROOMS = {
    "here": _here,
    "do: pools, locks, channels": _do,
    "see: run, dump, top": _see,
    "others": _others,
}
