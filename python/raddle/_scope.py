"""`raddle.scope`: a block that owns what is started in it.

None of the threads, processes and calls that are started in a scope outlives it. Leaving the block waits for all of them. The first
that fails stops the others, and the block ends with an `ExceptionGroup` of what was raised.

    with raddle.scope(deadline=30) as s:
        page = s.thread(download, url)
        table = s.process(crunch, path)
    print(page.result(), table.result())

# Rules

1. A scope is *open* until its block ends, then it *waits*; it is *stopping* from the first failure, the deadline, or Ctrl-C on. Once it is
   stopping, what is started in it is stopped at once.
2. To stop means: threads get `Stopped` in their waits and checkpoints, calls in pools and processes are cancelled, which ends a
   running one. The block itself, if it waits in Raddle, gets `Stopped` as well; that never leaves the scope.
3. Who was stopped by the scope is no failure. Who fails while stopping is.
4. `KeyboardInterrupt` stops, joins, and is raised again, alone.
5. What does not end within a few seconds of being stopped is named on stderr, with its stack; the scope goes on waiting for it.
6. A thread whose start was interrupted has either begun, and is owned like every other, or it never calls its function: who comes first
   under the scope's lock decides. That lock is a plain one of the interpreter's, so that nobody is stopped while they wait for it.

Structured concurrency as in Nathaniel J. Smith, "Notes on structured concurrency, or: Go statement considered harmful" (2018).
"""

from __future__ import annotations

import _thread
import asyncio
import contextvars
import sys
import threading
import time
import traceback
from typing import Generic, TypeVar

from . import _raddle
from ._stop import Stopped, stop
from .futures import Future, wait
from .threading import Event, Thread, Timer

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine
    from types import TracebackType
    from typing import Any

    from ._types import P
    from .pool import Options, Pool

__all__ = ["Handle", "Scope", "scope"]

T = TypeVar("T")

#: Seconds after which what does not obey is named.
GRACE = 5.0

#: With so many handles a scope looks for the first time which are over.
_FIRST_LOOK = 64

_current: contextvars.ContextVar[Scope | None] = contextvars.ContextVar("raddle.scope", default=None)


class Handle(Generic[T]):
    """One thing that was started in a scope.

    Attributes:
        name: Its name.
        future: The `Future` of its result; it can be waited for, and awaited through `asyncio.wrap_future`.
    """

    def __init__(self, name: str, future: Future[T], end: Callable[[str], object]) -> None:
        self.name = name
        self.future = future
        self._end = end
        self._stopped = False
        self._has_begun = False

    def result(self, timeout: float | None = None) -> T:
        """Its result; waits for it. Raises what it raised, `Stopped` or `CancelledError` if it was stopped, `TimeoutError`."""
        return self.future.result(timeout)

    def exception(self, timeout: float | None = None) -> BaseException | None:
        """What it raised; waits for its end."""
        return self.future.exception(timeout)

    def done(self) -> bool:
        """Whether it has ended."""
        return self.future.done()

    def _is_over(self) -> bool:
        """Whether nothing of it runs any more: not the last steps of its thread either."""
        thread = getattr(self, "thread", None)
        return self.done() and (thread is None or not thread.is_alive())

    def stop(self, reason: str | None = None) -> None:
        """Asks it to end. That is no failure."""
        self._stopped = True
        self._end(reason or "its handle was asked to stop it")

    def __repr__(self) -> str:
        return f"<{self.name}: {'done' if self.done() else 'running'}>"


class Scope:
    """See `scope`."""

    def __init__(self, deadline: float | None = None, name: str | None = None) -> None:
        self.name = name or "scope"
        self._limit = deadline
        self._lock = _thread.allocate_lock()
        #: What was started, first things first, and has not been forgotten: see `_forget`. The values say nothing.
        self._handles: dict[Handle[Any], None] = {}
        self._started = 0
        self._next_look = _FIRST_LOOK
        self._failures: list[BaseException] = []
        self._why: str | None = None
        """Why it is stopping; None: it is not."""
        self._is_late = False
        self._is_over = False
        self._pools: list[Pool] = []
        self._interrupt_body: Callable[[Stopped], object] | None = None
        self._body_stop: Stopped | None = None
        self._timer: Timer | None = None
        self._token: contextvars.Token[Scope | None] | None = None
        self._at: float | None = None

    @property
    def deadline(self) -> float | None:
        """When it is stopped at the latest, by `time.monotonic()`, in seconds: its own, or that of a scope around it."""
        return self._at

    # What can be started.

    def thread(self, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> Handle[T]:
        """Runs a function in a thread of its own, with a copy of this context."""
        return self._thread(fn, args, kwargs)

    def start(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Any:
        """Runs a function in a thread, as `thread`, and waits until it says that it is ready.

        The function gets an argument `ready`, to be called once, with or without a value.

        Returns:
            What `ready` was called with.

        Raises:
            RuntimeError: It ended without having said so.
        """
        said: list[Any] = []
        is_ready = Event()

        def ready(value: Any = None) -> None:
            said[:] = [value]
            is_ready.set()

        handle = self._thread(fn, args, {**kwargs, "ready": ready})
        handle.future.add_done_callback(lambda _: is_ready.set())
        is_ready.wait()
        if not said:
            raise RuntimeError(
                f"{handle.name} ended without having said that it is ready\n  hint: it has to call ready()"
            )
        return said[0]

    def process(self, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> Handle[T]:
        """Runs a function in a process of its own."""
        from .pool import Pool

        pool = Pool("process", workers=1, name=f"{self.name}-process")
        with self._lock:
            # Each has descriptors, also after its end, and so have the futures of its calls.
            self._pools = [*(other for other in self._pools if not other._lane.is_over()), pool]
            self._next_look = 0
        try:
            return self.submit(pool, fn, *args, **kwargs)
        finally:
            pool.shutdown(wait=False)  # the process ends with the call

    def submit(self, pool: Pool | Options, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> Handle[T]:
        """Hands a call to a pool. The scope waits for it and stops it; the pool stays as it is."""
        self._check_open()
        future = pool.submit(fn, *args, **kwargs)
        handle: Handle[T] = Handle(_name_of(fn), future, lambda _reason: future.cancel())
        self._own(handle)
        future.add_done_callback(lambda future: self._ended(handle, None if future.cancelled() else future.exception()))
        return handle

    def task(self, work: Coroutine[Any, Any, T]) -> Handle[T]:
        """Runs a coroutine as a task of the running loop. Only within `async with`."""
        self._check_open()
        loop = asyncio.get_running_loop()
        future: Future[T] = Future()
        future.set_running_or_notify_cancel()
        task = loop.create_task(work)
        handle: Handle[T] = Handle(task.get_name(), future, lambda _reason: loop.call_soon_threadsafe(task.cancel))

        def over(task: asyncio.Task[T]) -> None:
            if task.cancelled():
                self._finish(handle, Stopped("its task was cancelled"), as_stop=True)
            elif (error := task.exception()) is not None:
                self._finish(handle, error)
            else:
                future.set_result(task.result())
                self._ended(handle, None)

        self._own(handle)
        task.add_done_callback(over)
        return handle

    def stop(self, reason: str | None = None) -> None:
        """Stops all that was started in it, and the block."""
        self._stop(reason or "the scope was asked to stop")

    def _thread(self, fn: Callable[..., T], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Handle[T]:
        self._check_open()
        future: Future[T] = Future()
        future.set_running_or_notify_cancel()
        context = contextvars.copy_context()

        def run() -> None:
            with self._lock:
                if handle not in self._handles:
                    return
                handle._has_begun = True
            try:
                result = context.run(fn, *args, **kwargs)
            except BaseException as error:  # noqa: BLE001 (whoever asks for the result gets it)
                self._finish(handle, error, as_stop=isinstance(error, Stopped))
            else:
                future.set_result(result)
                self._ended(handle, None)

        thread = Thread(target=run, name=f"{self.name}-{_name_of(fn)}-{self._started + 1}")
        handle: Handle[T] = Handle(thread.name, future, lambda reason: stop(thread, reason))
        handle.thread = thread  # type: ignore[attr-defined]
        self._own(handle, start=thread.start)
        return handle

    # The life of it.

    def _check_open(self) -> None:
        if self._token is None or self._is_over:
            raise RuntimeError(
                f"the scope {self.name!r} is not open\n  hint: start things inside its `with` block, or from what runs in it"
            )

    def _own(self, handle: Handle[Any], start: Callable[[], object] | None = None) -> None:
        try:
            with self._lock:
                self._forget()
                self._handles[handle] = None
                self._started += 1
            if start is not None:
                start()
        except BaseException:
            with self._lock:
                if start is not None and not handle._has_begun:
                    self._handles.pop(handle, None)
            raise
        finally:
            if self._why is not None and not handle.done():
                handle._stopped = True
                handle._end(self._why)

    def _finish(self, handle: Handle[Any], error: BaseException, as_stop: bool = False) -> None:
        """It has raised. First the scope learns it, so that whoever waits for the result finds the others stopped."""
        self._ended(handle, None if as_stop and (handle._stopped or self._why is not None) else error)
        handle.future.set_exception(error)

    def _ended(self, handle: Handle[Any], error: BaseException | None) -> None:
        if error is None:
            return
        with self._lock:
            self._failures.append(error)
        self._stop(f"{handle.name} failed: {type(error).__name__}: {error}")

    def _stop(self, why: str) -> None:
        with self._lock:
            if self._why is not None:
                return
            self._why = why
            handles = list(self._handles)
        for handle in handles:
            if not handle.done():
                handle._stopped = True
                handle._end(why)
        # The block may have left its body meanwhile. It takes back what it finds asked then, and nothing is asked later.
        with self._lock:
            if self._interrupt_body is not None:
                self._body_stop = Stopped(why)
                self._interrupt_body(self._body_stop)

    def _expire(self) -> None:
        self._is_late = True
        self._stop(f"the deadline of the scope {self.name!r} has passed")

    def _open(self, interrupt_body: Callable[[Stopped], object]) -> None:
        if self._token is not None:
            raise RuntimeError("a scope is entered once\n  hint: make another one")
        outer = _current.get()
        own = None if self._limit is None else time.monotonic() + self._limit
        known = [at for at in (own, None if outer is None else outer._at) if at is not None]
        self._at = min(known, default=None)
        self._interrupt_body = interrupt_body
        self._token = _current.set(self)
        # A deadline of the scope around it stops that one, and this one with it.
        if own is not None and self._at == own:
            self._timer = Timer(max(own - time.monotonic(), 0.0), self._expire)
            self._timer.name = f"{self.name}-deadline"
            self._timer.daemon = True
            self._timer.start()

    def _forget(self) -> None:
        """Forgets what is over, so that a scope that is open for a year holds no more than one that is open for a day. Under the lock.

        It looks when twice as much was started as was left after the last look: so what a look costs is shared by as many starts.
        """
        if len(self._handles) >= self._next_look:
            self._handles = {handle: None for handle in self._handles if not handle._is_over()}
            self._next_look = max(_FIRST_LOOK, 2 * len(self._handles))

    def _left(self) -> list[Handle[Any]]:
        with self._lock:
            return [handle for handle in self._handles if not handle.done()]

    def _name_the_stubborn(self, left: list[Handle[Any]]) -> None:
        frames = sys._current_frames()
        for handle in left:
            thread = getattr(handle, "thread", None)
            frame = frames.get(thread.ident) if thread is not None else None
            stack = "" if frame is None else "\n" + "".join(traceback.format_stack(frame)).rstrip()
            sys.stderr.write(f"raddle: {handle.name} was stopped {GRACE:g} s ago and goes on ({self._why}){stack}\n")

    def _close(self) -> None:
        """All has ended."""
        self._is_over = True
        if self._timer is not None:
            self._timer.cancel()
            self._timer.join()
        if self._token is not None:
            _current.reset(self._token)

    def _end(self, body: BaseException | None, interrupted: BaseException | None) -> None:
        """All has ended: raises what leaves the block, unless that is what its body has raised and goes on by itself."""
        self._close()
        outcome = self._outcome(body, interrupted)
        self._handles.clear()
        self._pools.clear()
        if outcome is not None and outcome is not body:
            try:
                raise outcome
            finally:
                del outcome, body, interrupted

    def _outcome(self, body: BaseException | None, interrupted: BaseException | None) -> BaseException | None:
        """What leaves the block."""
        if interrupted is not None:
            return interrupted
        failures = list(self._failures)
        if body is not None and not any(body is failure for failure in failures):
            failures.insert(0, body)
        for failure in failures:
            if isinstance(failure, (KeyboardInterrupt, SystemExit)):
                return failure
        if failures:
            return BaseExceptionGroup(f"{self.name}: {_count(len(failures))} failed", failures)
        if self._is_late:
            return TimeoutError(f"{self.name} did not end before its deadline, and was stopped")
        return None

    # `with`

    def __enter__(self) -> Scope:
        unit = _raddle.my_unit()
        self._open(lambda stopped: _raddle.order(unit, stopped))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        del kind, traceback
        interrupted: BaseException | None = None
        self._leave_body()
        if error is self._body_stop and error is not None:
            error = None
        elif error is not None:
            self._stop(f"its block raised {type(error).__name__}")
        is_named = False
        left: list[Handle[Any]] = []
        while left or (left := self._left()[::-1]):
            try:
                waits = None if self._why is None or is_named else GRACE
                done, _ = wait([left[-1].future], waits)
                if done:
                    left.pop()
                else:
                    is_named = True
                    self._name_the_stubborn(self._left())
            except BaseException as interruption:  # noqa: BLE001 (Ctrl-C, or a scope around this one; raised again below)
                interrupted = interrupted or interruption
                self._stop(f"{type(interruption).__name__} in the scope")
        threads = [handle.thread for handle in list(self._handles) if hasattr(handle, "thread")]
        waits_left = [thread.join for thread in threads if thread is not threading.current_thread()]
        waits_left.extend(pool.shutdown for pool in self._pools)
        while waits_left:
            try:
                waits_left[-1]()
                waits_left.pop()
            except BaseException as interruption:  # noqa: BLE001 (as above; all is over in a moment)
                interrupted = interrupted or interruption
        if isinstance(error, (KeyboardInterrupt, SystemExit, Stopped)):
            interrupted, error = interrupted or error, None
        try:
            self._end(error, interrupted)
        finally:
            del error, interrupted  # what is raised must not be kept by a frame of its own traceback

    def _leave_body(self) -> None:
        """The block has ended: from now on it is not stopped, and what was asked and has not arrived is taken back."""
        with self._lock:
            self._interrupt_body = None
        if self._body_stop is not None:
            _raddle.recall(_raddle.my_unit())

    # `async with`

    async def __aenter__(self) -> Scope:
        loop, task = asyncio.get_running_loop(), asyncio.current_task()
        assert task is not None
        self._open(lambda _stopped: loop.call_soon_threadsafe(task.cancel))
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        del kind, traceback
        interrupted: BaseException | None = None
        with self._lock:
            self._interrupt_body = None
        if isinstance(error, asyncio.CancelledError):
            if self._body_stop is not None:
                _uncancel()
            else:
                interrupted = error
                self._stop("its task was cancelled")
            error = None
        elif error is not None:
            self._stop(f"its block raised {type(error).__name__}")
        is_named = False
        while left := self._left():
            try:
                waits = None if self._why is None or is_named else GRACE
                waiting: list[Awaitable[Any]] = [asyncio.wrap_future(handle.future) for handle in left]
                done, _ = await asyncio.wait([asyncio.ensure_future(_quietly(each)) for each in waiting], timeout=waits)
                if not done:
                    is_named = True
                    self._name_the_stubborn(left)
            except asyncio.CancelledError as interruption:
                if self._body_stop is not None and interrupted is None:
                    _uncancel()  # the scope's own, which came late
                    self._body_stop = None
                else:
                    interrupted = interrupted or interruption
                    self._stop("its task was cancelled")
        closing = asyncio.ensure_future(asyncio.to_thread(self._join))
        while not closing.done():
            try:
                await asyncio.shield(closing)
            except asyncio.CancelledError as interruption:  # as above; all is over in a moment
                if self._body_stop is not None and interrupted is None:
                    _uncancel()
                    self._body_stop = None
                else:
                    interrupted = interrupted or interruption
        try:
            self._end(error, interrupted)
        finally:
            del error, interrupted  # as above

    def _join(self) -> None:
        """Waits for the threads, whose results are there, and for the pools, which have nothing to do."""
        for handle in list(self._handles):
            if hasattr(handle, "thread"):
                handle.thread.join()
        for pool in self._pools:
            pool.shutdown()

    def __repr__(self) -> str:
        state = "over" if self._is_over else "stopping" if self._why else "open" if self._token else "new"
        return f"<scope {self.name!r}: {state}, {len(self._left())} running>"


async def _quietly(future: Awaitable[Any]) -> None:
    try:
        await future
    except BaseException:  # noqa: BLE001 (the scope has it)
        pass


def _uncancel() -> None:
    task = asyncio.current_task()
    if task is not None:
        task.uncancel()


def _name_of(fn: Callable[..., Any]) -> str:
    return getattr(fn, "__qualname__", None) or type(fn).__qualname__


def _count(number: int) -> str:
    return "one of its units" if number == 1 else f"{number} of its units"


def scope(deadline: float | None = None, *, name: str | None = None) -> Scope:
    """A block that owns what is started in it: `with raddle.scope() as s:` or `async with raddle.scope() as s:`.

    `s.thread(f, …)`, `s.process(f, …)`, `s.submit(pool, f, …)` start something and return a `Handle`; `s.start(f, …)` waits until
    what it started says that it is ready; `s.task(coroutine)` is for `async with`. The block ends when all have ended.

    Args:
        deadline: Seconds from entering it until all is stopped. A scope around it may have an earlier one, which counts then.
        name: For messages and the names of threads.

    Raises:
        ExceptionGroup: Something failed: all that was raised, first things first. The others were stopped.
        TimeoutError: The deadline has passed.
        KeyboardInterrupt: After all was stopped and has ended.

    Example:
        >>> with raddle.scope(deadline=10) as s:
        ...     squares = [s.thread(pow, x, 2) for x in range(3)]
        >>> [handle.result() for handle in squares]
        [0, 1, 4]
    """
    return Scope(deadline, name)
