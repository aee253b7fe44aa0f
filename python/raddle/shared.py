"""Memory that crosses between processes without being copied.

What is made here is an ordinary array or buffer. Sent to a worker of a process pool, as an argument or inside of one, it is sent as a
place: the worker uses the same memory, and so does whoever gets it back. Both see what the other writes; who may write when is
theirs to agree on. The memory is free when the last array or view of it is gone, in every process, without anybody's doing.

It has no name, needs no space in ``/dev/shm``, and is gone when the processes that use it are, however they ended.

Example:
    >>> import raddle
    >>> block = raddle.shared.Buffer(8)
    >>> with raddle.Pool("process", workers=1) as pool:
    ...     pool.submit(lambda shared: memoryview(shared).cast("B").__setitem__(0, 42), block).result()
    >>> bytes(block)[0]
    42
"""

from __future__ import annotations

from . import _pins, _raddle
from ._pins import Pin
from ._raddle import Buffer

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from numpy.typing import ArrayLike, DTypeLike, NDArray

    from ._shared_statistics import Holding as Holding
    from ._shared_statistics import Statistics as Statistics
    from ._types import Order, Shape

__all__ = [
    "Buffer",
    "Holding",
    "Pin",
    "Statistics",
    "asarray",
    "empty",
    "full",
    "in_use",
    "limit",
    "pins",
    "statistics",
    "zeros",
]


def empty(shape: Shape, dtype: DTypeLike = float, order: Order = "C") -> NDArray[Any]:
    """A NumPy array in shared memory; what it contains is not said.

    Args:
        shape: Its lengths.
        dtype: The type of its items: one without Python objects.
        order: ``"C"`` for rows first, ``"F"`` for columns first.

    Raises:
        MemoryError: If there is no room for it.
        TypeError: If the type has Python objects in it.
    """
    return _made(shape, dtype, order, zeroed=False)


def zeros(shape: Shape, dtype: DTypeLike = float, order: Order = "C") -> NDArray[Any]:
    """The same as `empty`, full of zeros."""
    return _made(shape, dtype, order, zeroed=True)


def full(shape: Shape, value: Any, dtype: DTypeLike | None = None, order: Order = "C") -> NDArray[Any]:
    """The same as `empty`, full of a value. By default of the value's type."""
    import numpy as np

    made = empty(shape, np.asarray(value).dtype if dtype is None else dtype, order)
    made[...] = value
    return made


def asarray(array: ArrayLike, dtype: DTypeLike | None = None) -> NDArray[Any]:
    """A copy of an array in shared memory; the array itself if it lies there already and is of that type."""
    import numpy as np

    source = np.asarray(array, dtype)
    if _pins.owner(source) is not None:
        return source
    made = empty(source.shape, source.dtype, "F" if source.flags.fnc else "C")
    made[...] = source
    return made


def limit(size: int) -> None:
    """Says how much shared memory arguments of calls may take, in bytes. One gibibyte at first.

    A `submit` for which there is no room waits until calls that are under way have made some. It does not wait for what only the
    program itself can free: arrays made here, and refs.

    Raises:
        ValueError: If it is less than 0.
    """
    if size < 0:
        raise ValueError(f"the limit of shared memory must be 0 or more bytes, not {size}")
    _raddle.limit_shared_memory(size)


def in_use() -> int:
    """Bytes of shared memory that this process has made and that are in use: arguments under way, shared arrays, refs."""
    return _raddle.shared_memory_in_use()


def statistics() -> Statistics:
    """Who has what of the shared memory of this process and its workers.

    Example:
        >>> import raddle
        >>> array = raddle.shared.zeros(1000)
        >>> raddle.shared.statistics().arrays >= array.nbytes
        True
    """
    from ._shared_statistics import gathered

    return gathered()


def pins(least: int = 1 << 20) -> list[Pin]:
    """Small arrays of this process that keep large blocks of shared memory, of at least so many bytes.

    It looks through what the program keeps, which may take seconds in a large one. When shared memory runs short, it is done for you, and what
    is found comes as a warning.
    """
    return _pins.find(least)


def __getattr__(name: str) -> object:
    if name not in ("Holding", "Statistics"):
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from . import _shared_statistics  # it needs `typing`, which takes longer to load than the rest

    return getattr(_shared_statistics, name)


def _made(shape: Shape, dtype: DTypeLike, order: Order, zeroed: bool) -> NDArray[Any]:
    import math

    import numpy as np

    kind = np.dtype(dtype)
    if kind.hasobject:
        raise TypeError(f"items of {kind} are Python objects, which cannot lie in shared memory")
    lengths = tuple(shape) if isinstance(shape, (tuple, list)) else (shape,)
    size = math.prod(map(int, lengths)) * kind.itemsize
    if size < 0:
        raise ValueError(f"an array cannot have the shape {shape!r}")
    memory = memoryview(Buffer(size, zeroed=zeroed))
    return np.ndarray(lengths, kind, memory, order=order)
