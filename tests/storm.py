"""What the tests under load share: payloads that can be checked, a ledger of what ran, a killer, and measures of this process.

Workers import it by name, as they do `calls`.
"""

from __future__ import annotations

import collections
import ctypes
import gc
import math
import mmap
import os
import random
import signal
import struct
import subprocess
import threading
import time
import zlib

from calls import until

#: The longest payload.
LONGEST = 8 << 20

_open = {}

#: The C library, if it is the GNU one, which can be asked to give memory back.
_allocator = ctypes.CDLL(None) if hasattr(ctypes.CDLL(None), "malloc_trim") else None
_ARENA_MAX = -8


# --- in workers ------------------------------------------------------------------------------------------------------


def material(path):
    """The bytes that every payload is a piece of, the same in every process."""
    if path not in _open:
        with open(path, "rb") as file:
            _open[path] = mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ)
    return _open[path]


def write_down(path, number):
    """Notes that task `number` has begun. One write to a file that is open for appending: whole, or not at all."""
    if path not in _open:
        _open[path] = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    os.write(_open[path], struct.pack("<I", number))


def exchange(number, payload, expected, place, how, paths):
    """Checks what came. Returns this process's number and a piece of the material: `place` says from where to where."""
    write_down(paths["ledger"], number)
    found = zlib.crc32(payload)
    if found != expected:
        raise AssertionError(f"task {number} got {len(memoryview(payload).cast('B'))} bytes with checksum {found}")
    piece = material(paths["material"])[place[0] : place[1]]
    if how == "array":
        import numpy

        return os.getpid(), numpy.frombuffer(piece, dtype=numpy.uint8).copy()
    return os.getpid(), piece


def leave(number, code, paths):
    """Ends the worker from inside."""
    write_down(paths["ledger"], number)
    os._exit(code)


def gorge(number, paths):
    """Takes memory until there is no more, and lets it go."""
    write_down(paths["ledger"], number)
    hoard = []
    while True:
        hoard.append(bytearray(16 << 20))


def start_child_and_nap(seconds):
    """Leaves a process behind that belongs to this worker's group, and says which."""
    return subprocess.Popen(["sleep", str(seconds)]).pid


# --- in the parent ---------------------------------------------------------------------------------------------------


class Ledger:
    """What has begun, and how often."""

    def __init__(self, path):
        self.path = str(path)

    def counts(self):
        """How often each task has begun."""
        with open(self.path, "rb") as file:
            found = file.read()
        assert len(found) % 4 == 0, "each entry is one write"
        return collections.Counter(number for (number,) in struct.iter_unpack("<I", found))


def write_material(path, seed):
    """Makes the material: random bytes, so that no piece looks like another."""
    path.write_bytes(random.Random(seed).randbytes(LONGEST + (1 << 20)))
    return str(path)


def size(chance, longest=LONGEST):
    """A number of bytes; as many between 1 and 2 as between half of the longest and the longest. Now and then none."""
    return 0 if chance.random() < 0.03 else int(math.exp(chance.uniform(0, math.log(longest))))


class Killer(threading.Thread):
    """Ends a random worker every now and then, in one of the ways in turn.

    It takes those that have answered a call: a pool none of whose workers lives long enough to start gives up, and rightly.
    """

    WAYS = ("SIGKILL", "SIGSEGV", "SIGSTOP+SIGKILL", "SIGTERM", "all at once")

    def __init__(self, pool, chance, pauses=(0.0, 0.06), ways=WAYS):
        super().__init__(name="killer")
        self.pool = pool
        self.chance = chance
        self.pauses = pauses
        self.ways = ways
        self.answered = set()
        self.over = threading.Event()
        self.killed = collections.Counter()

    def run(self):
        turn = 0
        while not self.over.wait(self.chance.uniform(*self.pauses)):
            pids = [pid for pid in self.pool._lane._lane.pids() if pid in self.answered]
            if pids and self.kill(pids, self.ways[turn % len(self.ways)]):
                turn += 1

    def kill(self, pids, way):
        """Kills in this way. False: it has died of something else meanwhile."""
        pid = self.chance.choice(pids)
        try:
            if way == "all at once":
                for each in pids:
                    os.kill(each, signal.SIGKILL)
            elif way == "SIGSTOP+SIGKILL":
                os.kill(pid, signal.SIGSTOP)
                self.over.wait(self.chance.uniform(0, 0.02))
                os.kill(pid, signal.SIGKILL)
            else:
                os.kill(pid, getattr(signal, way))
        except ProcessLookupError:
            return False
        self.killed[way] += 1
        return True

    def stop(self):
        """No more of it."""
        self.over.set()
        self.join()


Belongings = collections.namedtuple("Belongings", "descriptors segments mappings threads children")


def belongings():
    """What this process has besides memory: descriptors, anonymous segments behind them and mapped, threads, children."""
    gc.collect()
    links, mapped, children = [], 0, 0
    for fd in os.listdir("/proc/self/fd"):
        try:
            links.append(os.readlink(f"/proc/self/fd/{fd}"))
        except FileNotFoundError:
            pass
    with open("/proc/self/maps") as file:
        mapped = sum("/memfd:" in line for line in file)
    for task in os.listdir("/proc/self/task"):
        try:
            with open(f"/proc/self/task/{task}/children") as file:
                children += len(file.read().split())
        except (FileNotFoundError, ProcessLookupError):
            pass
    segments = sum(link.startswith("/memfd:") for link in links)
    return Belongings(len(links), segments, mapped, len(os.listdir("/proc/self/task")), children)


def at_rest():
    """The least of what this process has within a moment: the kernel lists a thread for some time after it was joined."""
    found, end = belongings(), now() + 0.3
    while now() < end:
        found = Belongings(*map(min, found, belongings()))
    return found


def memory(of="RssAnon"):
    """Bytes of this process's own memory; `RssShmem` for what it shares, of which heaps keep pages that they have used once.

    Without what the C library's allocator keeps for later: it is asked to give that back, and to have one arena for all threads from
    the first measurement on. With one for each, what it keeps comes to tens of megabytes, more or less from round to round.
    """
    gc.collect()
    if _allocator is not None:
        _allocator.mallopt(_ARENA_MAX, 1)
        _allocator.malloc_trim(0)
    with open("/proc/self/status") as file:
        return next(int(line.split()[1]) * 1024 for line in file if line.startswith(f"{of}:"))


def settle(before, patience=15):
    """Waits until nothing is there that was not there before."""
    more = []

    def no_more():
        pairs = zip(before._fields, before, belongings())
        more[:] = [(name, old, new) for name, old, new in pairs if new > old]
        return not more

    try:
        until(no_more, "everything to be given back", patience)
    except AssertionError:
        raise AssertionError(f"left behind (what, before, now): {more}{_lanes()}") from None


def _lanes():
    """What is known of the pools that are still there, for a report."""
    from raddle import _exit

    found = [f"{ending!r}, over: {ending.is_over()}" for ending in _exit._live]
    for thing in gc.get_objects():
        if str(type(thing).__module__).startswith("raddle.") and type(thing).__name__ in (
            "Pool",
            "ProcessCrew",
            "Crew",
        ):
            holders = [f"{type(holder).__name__} {str(holder)[:150]}" for holder in gc.get_referrers(thing)]
            found.append(f"{thing!r} is held by {holders}")
    return "".join(f"\n  {line}" for line in found)


def seed(name):
    """The seed of a run: from RADDLE_STRESS_SEED, or a fresh one, and printed so that the run can be repeated."""
    found = int(os.environ.get("RADDLE_STRESS_SEED") or random.SystemRandom().randrange(2**32))
    print(f"\n{name}: RADDLE_STRESS_SEED={found}", flush=True)
    return found


def slope(samples):
    """The median of the slopes between all pairs of samples (Theil and Sen), per step: single peaks do not move it."""
    found = sorted(
        (samples[right] - samples[left]) / (right - left)
        for left in range(len(samples))
        for right in range(left + 1, len(samples))
    )
    return found[len(found) // 2]


def seconds():
    """How long a test under load may take, by `make stress TIME=...`."""
    return float(os.environ.get("RADDLE_STRESS_SECONDS", "20"))


def now():
    return time.monotonic()
