"""Drop-in for `queue`: the same names and behaviour, as native objects.

`Queue` and `LifoQueue` are native as long as nobody looks inside. A subclass that replaces `_put` or `_get`, or a user who takes
`q.mutex` or `q.queue`, *opens* the queue: from then on it works as the standard library's does, step by step, in Python.
`PriorityQueue` compares its items, which may be code of yours; it is open from the beginning.

`shutdown()` and `ShutDown`, which are new in Python 3.13, are here for every version.
"""

from __future__ import annotations

import queue as _stdlib
import time
import types
from collections import deque
from heapq import heappop, heappush
from queue import Empty, Full

from . import _raddle
from ._raddle import SimpleQueue
from .threading import Condition, Lock

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    class ShutDown(Exception):
        """The queue was shut down."""

else:
    try:
        from queue import ShutDown
    except ImportError:

        class ShutDown(Exception):
            """The queue was shut down."""

            __module__ = "raddle.queue"


__all__ = ["Empty", "Full", "LifoQueue", "PriorityQueue", "Queue", "ShutDown", "SimpleQueue"]
_REPLACED = (
    "LifoQueue",
    "PriorityQueue",
    "Queue",
    "SimpleQueue",
    *(["ShutDown"] if hasattr(_stdlib, "ShutDown") else []),
)
_HOOKS = ("_init", "_qsize", "_put", "_get")
_KNOWN_HOOKS: dict[str, set[object]] = {}
"""The hooks of those classes whose queues are native."""


class Queue(_raddle.QueueCore):
    """A queue for any number of threads, as `queue.Queue`.

    Args:
        maxsize: How many items it holds, at most; 0 or less: any number.
    """

    _is_lifo = False
    _is_hooked = False
    """Whether the class has hooks of its own, so that every queue of it is opened at once."""

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        cls._is_hooked = any(getattr(cls, name) not in known for name, known in _KNOWN_HOOKS.items())

    def __init__(self, maxsize: int = 0) -> None:
        self._capacity = maxsize
        self._maxsize = maxsize
        if self._is_hooked:
            self._move_out()
            self._opened = _Opened(self)
            self._init(maxsize)

    def put_nowait(self, item: Any) -> None:
        """As `put(item, block=False)`."""
        self.put(item, False)

    def get_nowait(self) -> Any:
        """As `get(block=False)`."""
        return self.get(False)

    def qsize(self) -> int:
        """How many items are in it, about."""
        if not self._is_open:
            return self._length()
        with self.mutex:
            return self._qsize()

    def empty(self) -> bool:
        """Whether there are none, about."""
        return not self.qsize()

    def full(self) -> bool:
        """Whether there is no room, about."""
        return 0 < self.maxsize <= self.qsize()

    __class_getitem__: Any = classmethod(types.GenericAlias)

    @property
    def maxsize(self) -> int:
        """How many items it holds, at most; 0 or less: any number."""
        return self._maxsize

    @maxsize.setter
    def maxsize(self, maxsize: int) -> None:
        self._maxsize = self._capacity = maxsize

    @property
    def unfinished_tasks(self) -> int:
        """How many items were put for which `task_done` was not called yet."""
        return self._opened.unfinished if self._is_open else self._unfinished

    @unfinished_tasks.setter
    def unfinished_tasks(self, count: int) -> None:
        self._open().unfinished = count

    @property
    def is_shutdown(self) -> bool:
        """Whether `shutdown` was called."""
        return self._opened.is_shut if self._is_open else self._is_shut

    @is_shutdown.setter
    def is_shutdown(self, is_shut: bool) -> None:
        self._open().is_shut = is_shut

    # What follows opens the queue.

    @property
    def mutex(self) -> Lock:
        """The lock under which an opened queue changes."""
        return self._open().mutex

    @property
    def not_empty(self) -> Condition:
        """Notified when an item was put."""
        return self._open().not_empty

    @property
    def not_full(self) -> Condition:
        """Notified when an item was got."""
        return self._open().not_full

    @property
    def all_tasks_done(self) -> Condition:
        """Notified when the number of unfinished tasks falls to 0."""
        return self._open().all_tasks_done

    @property
    def queue(self) -> Any:
        """The items, for those who hold `mutex`."""
        return self._open().items

    @queue.setter
    def queue(self, items: Any) -> None:
        self._open().items = items

    def _open(self) -> _Opened:
        if not self._is_open:
            # The first one counts. It is there before the queue has moved: whoever finds that looks for it.
            opened = self.__dict__.setdefault("_opened", _Opened(self))
            with opened.mutex:
                moved = self._move_out()
                if moved is None:
                    return self._opened
                self._init(self.maxsize)
                items, opened.unfinished = moved
                opened.is_shut = self._is_shut
                for item in items:
                    self._put(item)
        return self._opened

    def _init(self, maxsize: int) -> None:
        self.queue = deque()

    def _qsize(self) -> int:
        return len(self.queue)

    def _put(self, item: Any) -> None:
        self.queue.append(item)

    def _get(self) -> Any:
        return self.queue.popleft()


class LifoQueue(Queue):
    """The item that was put last is got first, as `queue.LifoQueue`."""

    _is_lifo = True

    def _init(self, maxsize: int) -> None:
        self.queue = []

    def _get(self) -> Any:
        return self.queue.pop()


_KNOWN_HOOKS.update({name: {getattr(kind, name) for kind in (Queue, LifoQueue)} for name in _HOOKS})


class PriorityQueue(Queue):
    """The smallest item is got first, as `queue.PriorityQueue`."""

    # It is open from the beginning, so it need not ask.

    def put(self, item: Any, block: bool = True, timeout: float | None = None) -> None:
        """Puts an item, as `queue.Queue.put`."""
        self._opened.put(item, block, timeout)

    def get(self, block: bool = True, timeout: float | None = None) -> Any:
        """Gets the smallest, as `queue.Queue.get`."""
        return self._opened.get(block, timeout)

    def _init(self, maxsize: int) -> None:
        self._opened.items = []

    def _qsize(self) -> int:
        return len(self._opened.items)

    def _put(self, item: Any) -> None:
        heappush(self._opened.items, item)

    def _get(self) -> Any:
        return heappop(self._opened.items)


class _Opened:
    """An opened queue: a mutex, three conditions over it, and the hooks of the queue's class."""

    def __init__(self, queue: Queue) -> None:
        self.queue = queue
        self.mutex = Lock()
        self.not_empty = Condition(self.mutex)
        self.not_full = Condition(self.mutex)
        self.all_tasks_done = Condition(self.mutex)
        self.unfinished = 0
        self.is_shut = False
        self.items: Any = None

    def put(self, item: Any, block: bool = True, timeout: float | None = None) -> None:
        queue = self.queue
        with self.not_full:
            if self.is_shut:
                raise ShutDown
            if queue._maxsize > 0 and not self._wait(self.not_full, self._has_room, block, timeout):
                raise Full
            if self.is_shut:
                raise ShutDown
            queue._put(item)
            self.unfinished += 1
            self.not_empty.notify()

    def get(self, block: bool = True, timeout: float | None = None) -> Any:
        queue = self.queue
        with self.not_empty:
            if not block or timeout is not None or not queue._qsize():
                if not self._wait(self.not_empty, self._has_item, block, timeout):
                    raise Empty
                if self.is_shut and not queue._qsize():
                    raise ShutDown
            item = queue._get()
            self.not_full.notify()
            return item

    def _has_room(self) -> bool:
        return self.is_shut or self.queue._qsize() < self.queue.maxsize or self.queue.maxsize <= 0

    def _has_item(self) -> bool:
        return self.is_shut or bool(self.queue._qsize())

    def _wait(self, condition: Condition, is_ready: Callable[[], bool], block: bool, timeout: float | None) -> bool:
        if not block:
            return is_ready()
        if timeout is None:
            while not is_ready():
                condition.wait()
            return True
        if timeout < 0:
            raise ValueError("'timeout' must be a non-negative number")
        deadline = time.monotonic() + timeout
        while not is_ready():
            left = deadline - time.monotonic()
            if left <= 0.0:
                return False
            condition.wait(left)
        return True

    def task_done(self) -> None:
        with self.all_tasks_done:
            unfinished = self.unfinished - 1
            if unfinished <= 0:
                if unfinished < 0:
                    raise ValueError("task_done() called too many times")
                self.all_tasks_done.notify_all()
            self.unfinished = unfinished

    def join(self) -> None:
        with self.all_tasks_done:
            while self.unfinished:
                self.all_tasks_done.wait()

    def shutdown(self, immediate: bool = False) -> None:
        queue = self.queue
        with self.mutex:
            self.is_shut = True
            if immediate:
                while queue._qsize():
                    queue._get()
                    if self.unfinished > 0:
                        self.unfinished -= 1
                self.all_tasks_done.notify_all()
            self.not_empty.notify_all()
            self.not_full.notify_all()
