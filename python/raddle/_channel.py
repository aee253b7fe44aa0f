"""Channels: what threads and tasks pass values through, and the choice among several things that may happen.

    tx, rx = raddle.channel(64)

A channel has two sides. Senders put values in, receivers take them out, each value once, and the values of a sender in its order. It ends
when one side is gone: every sender closed or forgotten, and receivers learn that no more will come (a `for` loop ends); every receiver
closed or forgotten, and senders learn that nobody will take theirs (`Closed`).

# Rules

1. One object serves threads and `async` code: `send`, `recv` and `for` wait in the thread; `asend`, `arecv` and `async for` let the loop go
   on meanwhile.
2. Any number of threads and tasks may use the same sender or receiver. It counts once: who closes it closes it for all. Who wants to
   close for itself alone takes a `clone()`.
3. A value that could not be sent stays with its sender: `send` has raised. One that was sent is not lost when a receiver is stopped.
4. A wait obeys `raddle.stop`, Ctrl-C and its timeout. `timeout=0` only tries.
"""

from __future__ import annotations

import asyncio
import atexit
import math
import operator
import weakref
from typing import Any, Generic, NamedTuple, TypeVar, overload

from . import _raddle
from .errors import Closed
from .threading import Event

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator
    from types import TracebackType
    from typing import Literal, Self

    from ._raddle import Pipe
    from ._shared_channel import SharedReceiver, SharedSender

__all__ = [
    "BroadcastSender",
    "Receiver",
    "Selected",
    "Sender",
    "Timer",
    "WatchReceiver",
    "after",
    "aselect",
    "broadcast",
    "channel",
    "every",
    "oneshot",
    "select",
    "watch",
]

T = TypeVar("T")

#: What is received when nothing is there.
_NOTHING: Any = object()


class End:
    """What all ends of channels have in Python. The rest of them is native: they inherit that, too."""

    __slots__ = ()

    def __copy__(self) -> Self:
        end: Any = self
        copy: Self = end.clone()
        return copy

    def __deepcopy__(self, memo: object) -> Self:
        return self.__copy__()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None = None,
        error: BaseException | None = None,
        traceback: TracebackType | None = None,
    ) -> None:
        end: Any = self
        end.close()

    def __repr__(self) -> str:
        end: Any = self
        senders, receivers = end._ends()
        room = "any number" if end.capacity is None else end.capacity
        parts = [f"{len(end)} of {room} values", f"{senders} senders, {receivers} receivers"]
        return f"<raddle.{type(self).__name__}: {'closed, ' * end.closed}{', '.join(parts)}>"


class SendingEnd(End, Generic[T]):
    """What all senders have in Python."""

    __slots__ = ()

    async def asend(self, value: T, timeout: float | None = None) -> None:
        """The same as `send` for `async` code."""
        end: Any = self
        if timeout is None and end._try(value):
            return
        case = self.sending(value)
        try:
            await _choose((case,), timeout, "nobody took the value in time")
        except Closed as closed:
            if closed.source is case:
                closed.source = self
            raise

    def sending(self, value: T) -> _raddle.Sending:
        """To send this value, as one of the things that `raddle.select` waits for."""
        end: Any = self
        return _raddle.Sending(end, value)


class ReceivingEnd(End, Generic[T]):
    """What all receivers have in Python."""

    __slots__ = ()

    async def arecv(self, timeout: float | None = None) -> T:
        """The same as `recv` for `async` code. A task that is cancelled has taken nothing."""
        end: Any = self
        value = end._try(_NOTHING) if timeout is None else _NOTHING
        if value is _NOTHING:
            value = (await _choose((self,), timeout, "nothing was sent in time"))[1]
        found: T = value
        return found

    def __aiter__(self) -> AsyncIterator[T]:
        return self

    async def __anext__(self) -> T:
        try:
            return await self.arecv()
        except Closed:
            raise StopAsyncIteration from None


def _stays_here(end: End) -> TypeError:
    """What an end of a channel of this process says when it is to be pickled."""
    return TypeError(
        f"a {type(end).__name__} cannot be sent to another process\n  hint: make the channel with raddle.channel(..., shared=True)"
    )


class Sender(_raddle.SenderCore, SendingEnd[T]):
    """The side of a channel that puts values in. See `raddle.channel`."""

    __slots__ = ()

    if TYPE_CHECKING:  # what is called for every value is native, with its text

        def send(self, value: T, timeout: float | None = None) -> None: ...

    def clone(self) -> Self:
        """One more sender of the same channel, with an end of its own.

        Raises:
            Closed: There is no sender any more.
        """
        return type(self)(self)

    def __reduce_ex__(self, protocol: object) -> Any:
        raise _stays_here(self)


class BroadcastSender(Sender[T]):
    """The side of a broadcast that puts values in. See `raddle.broadcast`."""

    __slots__ = ()

    def subscribe(self) -> Receiver[T]:
        """A new receiver, which gets everything that is sent from now on."""
        receiver: Receiver[T] = Receiver(self)
        return receiver


class Receiver(_raddle.ReceiverCore, ReceivingEnd[T]):
    """The side of a channel that takes values out. See `raddle.channel`.

    It is an iterator, and an asynchronous one, over the values until the channel ends.
    """

    __slots__ = ()

    if TYPE_CHECKING:  # as above

        def recv(self, timeout: float | None = None) -> T: ...
        def __iter__(self) -> Iterator[T]: ...
        def __next__(self) -> T: ...

    def clone(self) -> Self:
        """One more receiver of the same channel, with an end of its own. Each value still goes to one receiver; of a broadcast, to each.

        Raises:
            Closed: There is no receiver any more.
        """
        return type(self)(self)

    def __reduce_ex__(self, protocol: object) -> Any:
        raise _stays_here(self)


class WatchReceiver(Receiver[T]):
    """The side of a watch that looks at its value. See `raddle.watch`."""

    __slots__ = ()

    def latest(self) -> T:
        """The value as it is now. It counts as seen: `recv` waits for another one."""
        value: T = self._latest()
        return value


class Timer(_raddle.TimerCore):
    """Moments to wait for. See `raddle.after` and `raddle.every`.

    It is an iterator, and an asynchronous one: each step waits for the next moment, and gives the seconds that it has come late.

    Attributes:
        remaining: Seconds until the next moment; None: there will be none.
    """

    def __iter__(self) -> Iterator[float]:
        return self

    def __next__(self) -> float:
        try:
            late: float = _raddle.select((self,), None).value
        except Closed as closed:
            if closed.source is not None:  # of a channel, which a signal's handler has used
                raise
            raise StopIteration from None
        return late

    def __aiter__(self) -> AsyncIterator[float]:
        return self

    async def __anext__(self) -> float:
        try:
            late: float = (await _choose((self,), None, ""))[1]
        except Closed:
            raise StopAsyncIteration from None
        return late

    def __repr__(self) -> str:
        remaining = self.remaining
        return "<raddle.Timer: over>" if remaining is None else f"<raddle.Timer: due in {remaining:.3g} s>"


class Selected(NamedTuple):
    """What has happened.

    Attributes:
        source: That which was waited for, as it was given to `select`.
        value: What was received; None for something that was sent; True for an event; the future itself; for a timer the seconds
            by which it has come late.
    """

    source: Any
    value: Any


@overload
def channel(capacity: int | None, *, shared: Literal[False] = False) -> tuple[Sender[Any], Receiver[Any]]: ...
@overload
def channel(
    capacity: int, *, shared: Literal[True], bytes: int | None = None
) -> tuple[SharedSender[Any], SharedReceiver[Any]]: ...
def channel(
    capacity: int | None,
    *,
    shared: bool = False,
    bytes: int | None = None,  # noqa: A002  # beside `capacity`, nothing else says it as well
) -> tuple[Sender[Any], Receiver[Any]] | tuple[SharedSender[Any], SharedReceiver[Any]]:
    """A channel: what its senders send, each value goes to one of its receivers.

    Its ends serve threads and `async` code alike. With ``shared=True`` they can be sent to other processes besides: as arguments of a
    `multiprocessing.Process`, of calls of a process pool, or through another shared channel. Then values are copied through shared memory
    (pickled, unless they are plain; large buffers of arrays once, and used where they lie), while in one process they are handed over as
    they are. When a process is killed, what it has sent is not lost, and what it was just sending does not arrive; a value that it was just
    receiving is lost with it, one for each of its threads at most.

    Args:
        capacity: How many values it holds before a sender has to wait. None: any number. 0: none, a sender waits until a receiver
            has taken its value (a *rendezvous*). A shared channel holds a number from 1 on.
        shared: Whether its ends can be sent to other processes.
        bytes: Of a shared channel: how many bytes those values may have together that take more than 112; a single one of more is refused.
            Several senders at the same moment may exceed it by one value each. None: the number alone counts, and one value may have a
            gibibyte.

    Returns:
        A sender and a receiver.

    Raises:
        TypeError: The capacity is no integer.
        ValueError: It is negative, or what a shared channel does not have; or `bytes` is less than 1, or there without `shared`.

    Example:
        >>> tx, rx = raddle.channel(2)
        >>> with tx:
        ...     tx.send("a")
        ...     tx.send("b")
        >>> list(rx)
        ['a', 'b']
        >>> tx, rx = raddle.channel(2, shared=True)
        >>> tx.send({"answer": 42})
        >>> rx.recv()
        {'answer': 42}
    """
    if shared:
        from ._shared_channel import make

        return make(capacity, bytes)
    if bytes is not None:
        raise ValueError("bytes bounds the memory of a shared channel\n  hint: add shared=True")
    return _ends(_raddle.Pipe.channel(None if capacity is None else _size(capacity, 0)))


def oneshot() -> tuple[Sender[Any], Receiver[Any]]:
    """A channel for a single value: with it the channel has ended.

    Returns:
        A sender and a receiver.

    Example:
        >>> tx, rx = raddle.oneshot()
        >>> tx.send(42)
        >>> rx.recv()
        42
    """
    return _ends(_raddle.Pipe.once())


def broadcast(capacity: int, *, overwrite: bool = False) -> BroadcastSender[Any]:
    """A channel of which every receiver gets every value that is sent after it has subscribed.

    What is sent while there is no receiver is dropped.

    Args:
        capacity: How many values it keeps for the slowest receiver.
        overwrite: What happens when it keeps that many. False: the sender waits. True: the oldest goes, and a receiver that had not
            taken it gets `Lagged`, once, and goes on with the oldest that is left.

    Returns:
        A sender, whose `subscribe()` gives receivers.

    Example:
        >>> tx = raddle.broadcast(8)
        >>> first, second = tx.subscribe(), tx.subscribe()
        >>> tx.send("news")
        >>> first.recv(), second.recv()
        ('news', 'news')
    """
    sender: BroadcastSender[Any] = BroadcastSender(_raddle.Pipe.broadcast(_size(capacity, 1), bool(overwrite)))
    return sender


def watch(value: T) -> tuple[Sender[T], WatchReceiver[T]]:
    """A value that is replaced now and then, and receivers that want to know the latest; what is replaced before they look is gone.

    `recv` waits for a value that this receiver has not seen, `latest` does not wait. To send never waits.

    Args:
        value: The first. It counts as seen.

    Returns:
        A sender and a receiver.

    Example:
        >>> tx, rx = raddle.watch("red")
        >>> tx.send("green")
        >>> tx.send("blue")
        >>> rx.recv(), rx.latest()
        ('blue', 'blue')
    """
    pipe = _raddle.Pipe.watch(value)
    return Sender(pipe), WatchReceiver(pipe)


def after(seconds: float) -> Timer:
    """One moment: so many seconds from now.

    Example:
        >>> tx, rx = raddle.channel(1)
        >>> timer = raddle.after(0.01)
        >>> raddle.select(rx, timer).source is timer
        True
    """
    timer: Timer = Timer(seconds, False)
    return timer


def every(seconds: float) -> Timer:
    """Moments that are so many seconds apart, the first after as many. Who comes late finds one moment, not all that were missed.

    Example:
        >>> ticks = raddle.every(0.01)
        >>> len([next(ticks) for _ in range(3)])
        3
    """
    timer: Timer = Timer(seconds, True)
    return timer


def select(*cases: Any, timeout: float | None = None) -> Selected:
    """Waits for the first of several things, and does exactly that one. If several are ready, each is as likely as the others.

    Args:
        *cases: Receivers; what a sender would send, as ``tx.sending(value)``; timers (`after`, `every`); `raddle.threading.Event`s; futures
            of Raddle and of `concurrent.futures`. Channels may be shared with other processes or not. A timer that is over takes no part.
        timeout: Seconds to wait at most; None: as long as it takes.

    Returns:
        What has happened: ``source``, one of the cases, and its ``value``.

    Raises:
        Closed: One of the channels has come to its end; ``source`` says which. Go on without it. Or all of them are timers that are over.
        TimeoutError: Nothing happened in time.
        Lagged: As from `Receiver.recv`.

    Example:
        >>> tx, rx = raddle.channel(1)
        >>> source, value = raddle.select(rx, tx.sending("x"))
        >>> source.value, value
        ('x', None)
        >>> raddle.select(rx).value
        'x'
    """
    found: Selected = _raddle.select(cases, timeout)
    return found


async def aselect(*cases: Any, timeout: float | None = None) -> Selected:
    """The same for `async` code: the loop goes on meanwhile.

    Example:
        >>> import asyncio
        >>> tx, rx = raddle.channel(1)
        >>> tx.send(1)
        >>> asyncio.run(raddle.aselect(rx, raddle.after(1))).value
        1
    """
    if not cases:
        raise ValueError("select() wants at least one thing to wait for")
    number, value = await _choose(cases, timeout, "nothing happened in time")
    return Selected(cases[number], value)


def _ends(pipe: Pipe) -> tuple[Sender[Any], Receiver[Any]]:
    return Sender(pipe), Receiver(pipe)


def _size(capacity: int, least: int) -> int:
    try:
        size = operator.index(capacity)
    except TypeError:
        raise TypeError(f"capacity must be an integer, not {type(capacity).__name__}") from None
    if size < least:
        raise ValueError(f"capacity must be at least {least}, not {size}")
    return size


class _Bell:
    """Tells a loop, from any thread, that a task has to look again. Gives False if the loop is closed, and the task with it."""

    __slots__ = ("_future", "_loop")

    def __init__(self, loop: asyncio.AbstractEventLoop, future: asyncio.Future[None]) -> None:
        self._loop = loop
        self._future = future

    def __call__(self) -> bool:
        try:
            if asyncio._get_running_loop() is self._loop:
                self._ring()
            else:
                self._loop.call_soon_threadsafe(self._ring)
        except RuntimeError:
            if self._loop.is_closed():
                return False
            raise
        return True

    def _ring(self) -> None:
        if not self._future.done():
            self._future.set_result(None)


# Daemon threads may ring until the very end of the interpreter. What was registered later, and may wait for tasks, runs before this.
atexit.register(_raddle.silence_bells)


async def _choose(cases: tuple[Any, ...], timeout: float | None, too_late: str) -> tuple[int, Any]:
    """Waits for the first of the cases in a task."""
    if timeout is not None and math.isnan(timeout):
        raise ValueError("timeout must be a number of seconds or None, not nan")
    loop = asyncio.get_running_loop()
    deadline = None if timeout is None else loop.time() + timeout
    selection = _raddle.Selection(*cases)
    sent: int | None = None
    try:
        while True:
            future: asyncio.Future[None] = loop.create_future()
            found = selection.begin(_Bell(loop, future))
            if found is not None:
                return found
            left = None if deadline is None else deadline - loop.time()
            if left is not None and left <= 0:
                break
            moments = [each for each in (left, selection.remaining()) if each is not None]
            alarm = loop.call_later(min(moments), _Bell(loop, future)) if moments else None
            try:
                await future
            finally:
                if alarm is not None:
                    alarm.cancel()
    finally:
        sent = selection.end()  # whoever interrupts this must find it done
    if sent is not None:
        return sent, None
    raise TimeoutError(too_late)


#: For each future that was waited for, an event that is set when it is done.
_events: weakref.WeakKeyDictionary[Any, Event] = weakref.WeakKeyDictionary()


def _event_of(future: Any) -> Event:
    """An event that is set when a future is done: one for each future, however often it is waited for.

    It takes no lock: a signal's handler, or a finalizer, may come here in the middle of it. An event is known only once the future will
    set it. Of two threads that are here at once the first decides.
    """
    if not (hasattr(future, "add_done_callback") and hasattr(future, "done")) or asyncio.isfuture(future):
        raise TypeError(
            f"cannot wait for {type(future).__name__}\n"
            "  hint: select() takes receivers, tx.sending(value), timers, events of raddle.threading, and futures of threads and processes"
        )
    known = _events.get(future)
    if known is not None:
        return known
    event: Event = Event()
    future.add_done_callback(lambda _: event.set())
    return _events.setdefault(future, event)
