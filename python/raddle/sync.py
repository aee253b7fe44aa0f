"""What threads guard things with, where the standard library's `threading` has nothing: fair locks, locks for readers and writers, things
that are done once, latches, atomics, and a dict for many threads.

All are native objects. What waits here, waits as everything of Raddle's does: `timeout=` is in seconds, Ctrl-C and `raddle.stop` end every
wait, and a wait that can never end is named (`raddle.on_deadlock`). In the child of a fork, what threads of the parent held stays
held, and a wait for it is named as a deadlock; what they waited for is forgotten.

`statistics()` says how each was used. The clock is read by those who wait, and by nobody else, so that counting costs next to nothing.

Example:
    >>> import raddle
    >>> from raddle.sync import ConcurrentDict
    >>> words = ConcurrentDict()
    >>> def count(text):
    ...     for word in text.split():
    ...         words.update(word, lambda n: n + 1, 0)
    >>> with raddle.scope() as s:
    ...     for text in ("to be or", "not to be"):
    ...         _ = s.thread(count, text)
    >>> sorted(words.items())
    [('be', 2), ('not', 1), ('or', 1), ('to', 2)]
"""

from __future__ import annotations

import functools
from typing import Any, NamedTuple, TypeVar

from . import _exit as _exit  # a forked child must be told of the fork
from . import _raddle
from ._raddle import RwSide

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = [
    "AtomicFlag",
    "AtomicInt",
    "AtomicRef",
    "AtomicStatistics",
    "ConcurrentDict",
    "Counter",
    "CounterStatistics",
    "DictStatistics",
    "Latch",
    "LatchStatistics",
    "Lock",
    "LockStatistics",
    "Once",
    "OnceStatistics",
    "RLock",
    "RwLock",
    "RwLockStatistics",
    "RwSide",
    "once",
]

_T = TypeVar("_T")
_K = TypeVar("_K")
_V = TypeVar("_V")


class LockStatistics(NamedTuple):
    """How a lock, or one side of it, was used. Times are seconds."""

    acquisitions: int
    """How often it was taken. Takings by a thread that has it already do not count for an `RLock`."""

    contended: int
    """How often somebody had to wait for it, in vain or not."""

    gave_up: int
    """How often somebody has waited in vain: a timeout, a stop, Ctrl-C, a deadlock."""

    total_wait: float
    """All waits together."""

    longest_wait: float
    """The longest of them."""

    longest_hold: float
    """The longest hold that is known: one is timed from the moment at which somebody first waits for its end, or from its beginning if it began
    with a wait. Holds that were in nobody's way are not timed. For the reading side of an `RwLock`: from the same moment until the last reader
    was gone."""


class RwLockStatistics(NamedTuple):
    """How the two sides of an `RwLock` were used."""

    reads: LockStatistics
    """To read."""

    writes: LockStatistics
    """To write."""


class OnceStatistics(NamedTuple):
    """How a `Once` was used. Times are seconds."""

    runs: int
    """How often its function was called."""

    failures: int
    """How many of these calls have raised."""

    contended: int
    """How often somebody had to wait for another thread's call."""

    gave_up: int
    """How often somebody has waited in vain."""

    total_wait: float
    """All waits together."""

    longest_wait: float
    """The longest of them."""


class LatchStatistics(NamedTuple):
    """How a `Latch` was waited for. Times are seconds."""

    waits: int
    """How often somebody had to wait."""

    gave_up: int
    """How often in vain."""

    total_wait: float
    """All waits together."""

    longest_wait: float
    """The longest of them."""


class AtomicStatistics(NamedTuple):
    """How an atomic was used. It never waits."""

    failed: int
    """How often `compare_exchange`, or a try of `update`, has found another value, or `test_and_set` the flag set."""


class CounterStatistics(NamedTuple):
    """How a `Counter` is made. It never waits."""

    shards: int
    """The number of its parts, each of which has a cache line of its own."""


class DictStatistics(NamedTuple):
    """How a `ConcurrentDict` was used. Times are seconds."""

    size: int
    """How many keys it has."""

    computed: int
    """How often `get_or_compute` has called its function."""

    failed: int
    """How many calls of `get_or_compute` and `update` have ended with an exception of their function."""

    repeated: int
    """How often `update` has called its function once more, because somebody has set or deleted the key meanwhile."""

    contended: int
    """How often `get_or_compute` or `update` had to wait for another thread's call for the same key."""

    gave_up: int
    """How often in vain."""

    total_wait: float
    """All waits together."""

    longest_wait: float
    """The longest of them."""


class Lock(_raddle.GuardCore):
    """A lock that only the thread that holds it can release. With `fair=True` it is taken in the order in which threads came.

    An unfair lock goes to whoever is there first: a thread that releases it and takes it again at once is mostly faster than one that has to wake up.
    That is quick, and can starve others. A fair one is kept, when it is released, for the thread that has waited longest, and nobody overtakes; each
    hand-over costs a change of threads. Use a fair one where waits must be bounded, not for speed.

    Because nobody else can release it, a ring of such locks is always found (`raddle.on_deadlock`).

    Args:
        fair: Whether it is taken in the order of arrival.

    Example:
        >>> from raddle.sync import Lock
        >>> lock = Lock(fair=True)
        >>> with lock:
        ...     lock.locked()
        True
        >>> lock.acquire(timeout=0.5), lock.release()
        (True, None)
        >>> lock.statistics().acquisitions
        2
    """

    __slots__ = ()

    def statistics(self) -> LockStatistics:
        """How it was used until now."""
        return LockStatistics(*self._usage())

    def __repr__(self) -> str:
        return _repr(self, "fair" if self.fair else None, "locked" if self.locked() else "unlocked")


class RLock(_raddle.RGuardCore):
    """A `Lock` that its holder may take again; it is free when it was released as often as it was taken.

    Args:
        fair: Whether it is taken in the order of arrival.

    Example:
        >>> from raddle.sync import RLock
        >>> lock = RLock()
        >>> with lock:
        ...     with lock:
        ...         print("twice")
        twice
        >>> lock.locked()
        False
    """

    __slots__ = ()

    def statistics(self) -> LockStatistics:
        """How it was used until now."""
        return LockStatistics(*self._usage())

    def __repr__(self) -> str:
        return _repr(self, "fair" if self.fair else None, "locked" if self.locked() else "unlocked")


class RwLock(_raddle.RwLockCore):
    """A lock for many readers or one writer.

    `with rw.read():` and `with rw.write():` are the two sides of it. A thread that has it may take it again, whoever waits. A thread that writes may
    also read, and may take `read()` before it releases `write()` in order to go on as a reader. A thread that reads cannot begin to write: that is
    refused with a `RuntimeError`, because two threads that did so would wait for each other for ever.

    Args:
        prefer: Who goes first. "fair": everybody in the order of arrival, readers next to each other together; nobody starves. "readers": a reader never
            waits for a writer that waits; writers can starve. "writers": new readers wait as long as any writer waits; readers can starve.

    Raises:
        ValueError: `prefer` is none of these.

    The preferences are the two problems of Courtois, Heymans and Parnas ("Concurrent control with readers and writers", 1971).

    Example:
        >>> from raddle.sync import RwLock
        >>> rw = RwLock()
        >>> with rw.read():
        ...     print(rw)
        <RwLock fair, 1 reader>
        >>> with rw.write(timeout=1):
        ...     print(rw)
        <RwLock fair, 1 writer>
        >>> with rw.read():
        ...     with rw.write():
        ...         pass
        Traceback (most recent call last):
        RuntimeError: this thread has the RwLock for reading, and cannot begin to write: ...
    """

    __slots__ = ()

    def statistics(self) -> RwLockStatistics:
        """How its two sides were used until now."""
        reads, writes = self._usage()
        return RwLockStatistics(LockStatistics(*reads), LockStatistics(*writes))

    def __repr__(self) -> str:
        holders, writes, readers, writers = self._state()
        parts = [
            _count(holders, "writer" if writes else "reader") if holders else "free",
            f"{_count(readers, 'reader')} waiting" if readers else None,
            f"{_count(writers, 'writer')} waiting" if writers else None,
        ]
        return _repr(self, self.prefer, *parts)


class Once(_raddle.OnceCore):
    """Something that is done once, by whoever comes first, while the others wait for it.

    A call that raises does not count: its exception goes to its caller, and the next thread tries.

    Example:
        >>> from raddle.sync import Once
        >>> ready = Once()
        >>> ready.call(lambda: print("connecting") or "connection")
        connecting
        'connection'
        >>> ready.call(lambda: "another")
        'connection'
        >>> ready.statistics().runs
        1
    """

    __slots__ = ()

    if TYPE_CHECKING:

        def call(self, function: Callable[[], _T], *, timeout: float | None = None) -> _T:
            """What the one successful call has returned; the first caller makes it.

            Args:
                function: Called without arguments, unless a call has succeeded before.
                timeout: Seconds to wait for another thread's call.

            Raises:
                TimeoutError: Another thread's call did not end in time.
                RuntimeError: The function has come here again, in the same thread.
                BaseException: Whatever the function raises.
            """

    def statistics(self) -> OnceStatistics:
        """How it was used until now."""
        runs, failures, (_, contended, gave_up, total, longest, _) = self._usage()
        return OnceStatistics(runs, failures, contended, gave_up, total, longest)

    def __repr__(self) -> str:
        return _repr(self, "done" if self.done else "not done")


def once(function: Callable[[], _T]) -> Callable[[], _T]:
    """A decorator: the function is called once, and what it has returned is returned to everybody.

    Args:
        function: A function without arguments.

    Returns:
        A function whose attribute `once` is the `Once` behind it.

    Example:
        >>> from raddle.sync import once
        >>> @once
        ... def settings():
        ...     print("reading")
        ...     return {"depth": 3}
        >>> settings() is settings()
        reading
        True
    """
    guard = Once()

    @functools.wraps(function)
    def call() -> _T:
        return guard.call(function)

    call.once = guard  # type: ignore[attr-defined]
    return call


class Latch(_raddle.LatchCore):
    """A count that falls to zero once, and threads that wait for that. As a context manager it is counted down by one at the end of the block,
    however the block ends.

    Args:
        count: What is to be counted down.

    Raises:
        ValueError: The count is negative.

    Example:
        >>> import raddle
        >>> from raddle.sync import Latch
        >>> latch, done = Latch(3), []
        >>> def work(number):
        ...     with latch:
        ...         done.append(number)
        >>> with raddle.scope() as s:
        ...     for number in range(3):
        ...         _ = s.thread(work, number)
        ...     latch.wait(timeout=10), len(done)
        (True, 3)
    """

    __slots__ = ()

    def __enter__(self) -> Latch:
        return self

    def __exit__(self, *_: object) -> None:
        self.count_down()

    def statistics(self) -> LatchStatistics:
        """How it was waited for until now."""
        _, waits, gave_up, total, longest, _ = self._usage()
        return LatchStatistics(waits, gave_up, total, longest)

    def __repr__(self) -> str:
        return _repr(self, f"{self.count} to go" if self.count else "open")


class AtomicInt(_raddle.AtomicIntCore):
    """A whole number of 64 bits, with a sign, that threads change in single steps.

    `exchange`, `add`, `sub`, `and_`, `or_`, `xor`, `max` and `min` return the value that they have replaced. `+=`, `-=`, `&=`, `|=` and `^=` are the same
    without a result. `update(f)` stores `f(value)` and returns it; `f` is called again if somebody came between.

    It does not wrap around: a result that does not fit in 64 bits, or an argument that does not, is an `OverflowError`, and nothing is changed.

    Args:
        value: What it is at first.

    Example:
        >>> from raddle.sync import AtomicInt
        >>> tickets = AtomicInt(100)
        >>> tickets.add(1), tickets.load()
        (100, 101)
        >>> tickets.compare_exchange(101, 7)
        True
        >>> tickets += 3
        >>> tickets
        <AtomicInt 10>
        >>> AtomicInt(2**63 - 1).add(1)
        Traceback (most recent call last):
        OverflowError: the AtomicInt is 9223372036854775807, and the sum does not fit in 64 bits; it was not changed
    """

    __slots__ = ()

    def statistics(self) -> AtomicStatistics:
        """How it was used until now."""
        return AtomicStatistics(self._failed)

    def __repr__(self) -> str:
        return _repr(self, str(self.load()))


class AtomicFlag(_raddle.AtomicFlagCore):
    """A flag that threads set and clear in single steps. Nobody waits for it; see `raddle.threading.Event` for that.

    Args:
        value: Whether it is set at first.

    Example:
        >>> from raddle.sync import AtomicFlag
        >>> claimed = AtomicFlag()
        >>> claimed.test_and_set(), claimed.test_and_set()
        (False, True)
        >>> bool(claimed)
        True
    """

    __slots__ = ()

    def statistics(self) -> AtomicStatistics:
        """How it was used until now."""
        return AtomicStatistics(self._failed)

    def __repr__(self) -> str:
        return _repr(self, "set" if self.is_set() else "unset")


class AtomicRef(_raddle.AtomicRefCore[_T]):
    """A reference to any object, that threads replace in single steps.

    `compare_exchange(expected, value)` compares by identity (`is`), not by equality. `update(f)` stores `f(value)` and returns it; `f` is called again if
    somebody came between.

    Args:
        value: What it refers to at first.

    Example:
        >>> from raddle.sync import AtomicRef
        >>> config = AtomicRef({"depth": 3})
        >>> before = config.load()
        >>> config.compare_exchange(before, {**before, "depth": 4})
        True
        >>> config.update(lambda now: {**now, "jobs": 2})
        {'depth': 4, 'jobs': 2}
    """

    __slots__ = ()

    def statistics(self) -> AtomicStatistics:
        """How it was used until now."""
        return AtomicStatistics(self._failed)

    def __repr__(self) -> str:
        return _repr(self, f"to a {type(self.load()).__name__}")


class Counter(_raddle.CounterCore):
    """A sum that many threads add to without meeting: each adds to one of several parts, and `value()` adds these up.

    `value()` is exact when nobody adds meanwhile. Otherwise it has all that was added before it was called, and some of what was added during the call.
    `take()` empties it; each addition is in exactly one `take()`. Beyond 64 bits it wraps around. Where a value must be seen as of one moment, or a
    number must be given out once, use `AtomicInt`.

    Args:
        start: What it is at first.

    Example:
        >>> from raddle.sync import Counter
        >>> hits = Counter()
        >>> hits.add(2)
        >>> hits += 3
        >>> hits.value()
        5
        >>> hits.take(), hits.value()
        (5, 0)
    """

    __slots__ = ()

    def statistics(self) -> CounterStatistics:
        """How it is made."""
        return CounterStatistics(self._shards)

    def __repr__(self) -> str:
        return _repr(self, str(self.value()))


class ConcurrentDict(_raddle.ConcurrentDictCore[_K, _V]):
    """A dict for many threads: every operation happens at one moment, with or without a GIL.

    `get`, `setdefault`, `pop`, `in`, `len`, `[]` are those of `dict`. `keys()`, `values()`, `items()` and iteration give lists of what was there at one moment, in
    the order of insertion; it may be changed meanwhile. Two operations make a new value from Python code:

    - `get_or_compute(key, f)`: the value; if there is none, `f(key)` is called, by one thread. Others that want the same key this way wait for
      it. If it raises, the exception goes to its caller, and the next one tries.
    - `update(key, f, default)`: stores `f(value)` and returns it, so that nothing comes between reading and storing. Calls for one key go
      one after the other. If somebody sets or deletes the key meanwhile, `f` is called again with what is there then. Without a default,
      a key that is not there is a `KeyError`.

    Both are called without any lock: `f` may use this dict, also for other keys. A ring of threads that wait for each other's keys is named as a
    deadlock, and asking for the key that is being made, in the same thread, is a `RuntimeError`. Reading and setting never wait for such a call.

    `__hash__` and `__eq__` of keys may run any code too; no lock is held meanwhile. What they say of a key must not change while it is here.

    Args:
        items: A mapping, or pairs, that it has at first.

    Example:
        >>> from raddle.sync import ConcurrentDict
        >>> cache = ConcurrentDict({"one": 1})
        >>> cache.get_or_compute("two", lambda key: len(key))
        3
        >>> cache.update("one", lambda value: value + 10)
        11
        >>> cache.update("three", lambda value: value + 1, 0)
        1
        >>> list(cache), cache.pop("two")
        (['one', 'two', 'three'], 3)
    """

    __slots__ = ()

    def copy(self) -> dict[_K, _V]:
        """An ordinary dict of what is there at this moment."""
        return dict(self.items())

    def statistics(self) -> DictStatistics:
        """How it was used until now."""
        computed, failed, repeated, (_, contended, gave_up, total, longest, _) = self._usage()
        return DictStatistics(len(self), computed, failed, repeated, contended, gave_up, total, longest)

    def __repr__(self) -> str:
        return _repr(self, _count(len(self), "item"))


def _count(number: int, what: str) -> str:
    return f"{number} {what}" if number == 1 else f"{number} {what}s"


def _repr(primitive: Any, *parts: str | None) -> str:
    name = type(primitive).__qualname__
    return f"<{name} {', '.join(part for part in parts if part)}>"
