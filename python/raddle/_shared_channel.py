"""`raddle.channel(..., shared=True)`: a bounded channel whose ends go to other processes, through shared memory.

# How an end travels

The channel is a piece of anonymous memory, of which a process needs a descriptor.

* With the arguments of a `multiprocessing.Process` the descriptor travels as `multiprocessing` has it: forked, inherited, or sent.
* Elsewhere (a call of a pool, another channel) an end is pickled as the place of its descriptor, ``/proc/PID/fd/N``.

Either way the end is counted as one under way until it has arrived, so that no side seems to be closed in between.

# Fork

A child that `multiprocessing` has forked is given those ends that it can reach from its target and arguments, and the globals that
its target names. The others rest: they do not count in the child until they are used. After a plain `os.fork` the child has all ends
of its parent, as with a pipe.

# Awaiting

A task stands in line, as at any channel; a native thread that sleeps in the channel for all of them tells it when to try.
"""

from __future__ import annotations

import os
import sys
import weakref
from typing import Any, NamedTuple, TypeVar

import raddle_boot

from . import _exit as _exit  # its hooks for forks come before those of this module
from . import _raddle
from ._channel import ReceivingEnd, SendingEnd, _size
from .errors import Closed

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Self

__all__ = ["ChannelStatistics", "SharedReceiver", "SharedSender", "shared_channel"]

T = TypeVar("T")

#: The ends of this process.
_ends: weakref.WeakSet[SharedSender[Any] | SharedReceiver[Any]] = weakref.WeakSet()


class ChannelStatistics(NamedTuple):
    """What has become of the messages of a shared channel.

    Attributes:
        sent: Messages that were sent, in all processes.
        received: Messages that were received.
        held: Messages that are in the channel.
        bytes: Bytes of long messages in the channel; short ones lie in their slots and count as nothing.
        senders: Sending ends that are open, in all processes.
        receivers: Receiving ends that are open.
    """

    sent: int
    received: int
    held: int
    bytes: int
    senders: int
    receivers: int


class _End(_raddle.SharedEnd):
    """What both ends have in Python, beside what all ends of channels have."""

    def statistics(self) -> ChannelStatistics:
        """What has become of the messages of the channel, in all processes. One that a killed process left half sent counts, too."""
        sent, received, size = self._numbers()
        return ChannelStatistics(sent, received, len(self), size, *self._ends())

    def clone(self) -> Self:
        """One more end of the same channel, which is closed on its own.

        Raises:
            Closed: This end was closed.
        """
        return type(self)(self._channel())  # type: ignore[call-arg]

    def __reduce_ex__(self, protocol: object) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        descriptor, identity, transit = self._dispatch()
        context = sys.modules.get("multiprocessing.context")
        popen = None if context is None else context.get_spawning_popen()
        if popen is not None:
            _when_started(popen, lambda pid: self._carried_by(transit, pid))
            # Each has a descriptor of its own: `multiprocessing` passes none twice.
            own = os.dup(descriptor)
            weakref.finalize(self, os.close, own).atexit = False
            return _arrive, (type(self), raddle_boot.Descriptor(own), None, identity, transit)
        return _arrive, (type(self), descriptor, os.getpid(), identity, transit)


def _when_started(popen: Any, act: Callable[[int], object]) -> None:
    """Does something when a process has a number that `multiprocessing` is just starting.

    There is no hook for it: what is being started takes note of its number by itself.
    """
    kind = type(popen)
    if not hasattr(kind, "_raddle_acts"):

        def set_attribute(self: Any, name: str, value: object) -> None:
            object.__setattr__(self, name, value)
            if name == "pid" and isinstance(value, int):
                for act in self.__dict__.pop("_raddle_acts", ()):
                    act(value)

        popen.__class__ = type(kind.__name__, (kind,), {"__setattr__": set_attribute, "_raddle_acts": ()})
    popen.__dict__.setdefault("_raddle_acts", []).append(act)


def _arrive(
    kind: type[SharedSender[Any]] | type[SharedReceiver[Any]],
    place: int | raddle_boot.Descriptor,
    pid: int | None,
    identity: tuple[int, int],
    transit: tuple[int, int],
) -> SharedSender[Any] | SharedReceiver[Any]:
    """An end that another process has sent."""
    if isinstance(place, raddle_boot.Descriptor):
        descriptor = place.fd
        os.set_inheritable(descriptor, False)
    else:
        try:
            descriptor = os.open(f"/proc/{pid}/fd/{place}", os.O_RDWR | os.O_CLOEXEC)
        except OSError as error:
            raise Closed(f"the process that has sent this end of a channel has ended ({error.strerror})") from None
    channel = _raddle.SharedChannel.open(descriptor, identity)
    end = kind(channel)
    channel.arrived(transit)
    return end


class SharedSender(_raddle.SharedSender, _End, SendingEnd[T]):
    """The side of a shared channel that puts values in: a `Sender` that can be sent to other processes. See `raddle.channel`.

    The receivers see the end of the channel when all senders are closed, or their processes have ended.
    """

    if TYPE_CHECKING:  # native, with its text

        def send(self, value: T, timeout: float | None = None) -> None: ...

    def __init__(self, channel: _raddle.SharedChannel) -> None:
        _ends.add(self)


class SharedReceiver(_raddle.SharedReceiver, _End, ReceivingEnd[T]):
    """The side of a shared channel that takes values out: a `Receiver` that can be sent to other processes. See `raddle.channel`."""

    if TYPE_CHECKING:  # as above

        def recv(self, timeout: float | None = None) -> T: ...
        def __iter__(self) -> Self: ...
        def __next__(self) -> T: ...

    def __init__(self, channel: _raddle.SharedChannel) -> None:
        _ends.add(self)


def make(capacity: int | None, size: int | None) -> tuple[SharedSender[Any], SharedReceiver[Any]]:
    """The first two ends of a channel, of at most so many values and bytes."""
    if capacity is None:
        raise ValueError("a shared channel has a bound: capacity must be a number, not None")
    number = _size(capacity, 1)
    if number > _MOST:
        raise ValueError(f"capacity of a shared channel must be at most {_MOST}, not {number}")
    if size is not None and size < 1:
        raise ValueError(f"bytes must be at least 1, not {size}")
    channel = _raddle.SharedChannel(number, size)
    return SharedSender(channel), SharedReceiver(channel)


#: More messages than this are not held.
_MOST = 1 << 20


def shared_channel(
    capacity: int = 64,
    *,
    bytes: int | None = None,  # noqa: A002  # as in `channel`
) -> tuple[SharedSender[Any], SharedReceiver[Any]]:
    """The same as ``raddle.channel(capacity, shared=True, bytes=bytes)``.

    Example:
        >>> import raddle
        >>> sender, receiver = raddle.shared_channel()
        >>> with sender, receiver:
        ...     sender.send({"answer": 42})
        ...     receiver.recv()
        {'answer': 42}
    """
    return make(capacity, bytes)


# Forks.


def _in_child() -> None:
    _raddle.channels_in_child()
    for end in list(_ends):
        end._take_up()
    _raddle.channels_taken_up()


def _rest_of(multiprocessing_process: Any) -> None:
    """In a child that `multiprocessing` has forked: those ends rest that it was not given."""
    process = multiprocessing_process.current_process()
    given = _reachable([getattr(process, name, None) for name in ("_target", "_args", "_kwargs")] + [process])
    for end in list(_ends):
        if end not in given:
            end._rest()


def _reachable(roots: list[object]) -> weakref.WeakSet[Any]:
    """The ends that can be reached from arguments and functions, through what arguments are made of."""
    found: weakref.WeakSet[Any] = weakref.WeakSet()
    seen: set[int] = set()
    keep: list[object] = []
    while roots and len(seen) < 10_000:
        thing = roots.pop()
        if id(thing) in seen or isinstance(thing, (str, int, float, _Bytes, type)):
            continue
        seen.add(id(thing))
        keep.append(thing)
        if isinstance(thing, _End):
            found.add(thing)
        elif isinstance(thing, dict):
            roots += thing.values()
        elif isinstance(thing, (list, tuple, set, frozenset)):
            roots += thing
        else:
            roots += _parts(thing)
    return found


_Bytes = bytes


def _parts(thing: object) -> list[object]:
    code = getattr(thing, "__code__", None)
    if code is not None:
        cells = getattr(thing, "__closure__", None) or ()
        names = getattr(thing, "__globals__", {})
        values = [cell.cell_contents for cell in cells if cell != _EMPTY]
        return [
            *values,
            *(names[name] for name in code.co_names if isinstance(names.get(name), (_End, list, tuple, dict))),
        ]
    parts = [getattr(thing, name, None) for name in ("__self__", "__func__", "func", "args", "keywords")]
    return [*parts, getattr(thing, "__dict__", None)]


_EMPTY: Any = __import__("types").CellType()


def _look_after(util: Any) -> None:
    process = __import__("multiprocessing.process", fromlist=["current_process"])
    util.register_after_fork(_ends, lambda _: _rest_of(process))


if hasattr(os, "register_at_fork"):
    os.register_at_fork(
        before=_raddle.channels_before_fork,
        after_in_parent=_raddle.channels_after_fork,
        after_in_child=_in_child,
    )
raddle_boot.when_imported("multiprocessing.util", _look_after)

for _class in (ChannelStatistics, SharedSender, SharedReceiver, shared_channel):
    _class.__module__ = "raddle"
del _class
