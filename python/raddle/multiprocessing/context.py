"""Contexts: how workers are started, as in `multiprocessing`, with `Pool` of this package."""

from __future__ import annotations

import multiprocessing
from multiprocessing import context as stdlib

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from typing import Any, Final

    from .pool import Pool

__all__ = ["ForkContext", "ForkServerContext", "SpawnContext", "get_context"]


class _WithPool(stdlib.BaseContext):
    """A context whose pools are those of this package."""

    def Pool(  # noqa: N802  # the standard library's name
        self,
        processes: int | None = None,
        initializer: Callable[..., object] | None = None,
        initargs: Iterable[Any] = (),
        maxtasksperchild: int | None = None,
    ) -> Pool:
        """A `raddle.multiprocessing.pool.Pool` whose workers are started in this way."""
        from .pool import Pool

        return Pool(processes, initializer, initargs, maxtasksperchild, context=self)

    def get_context(self, method: str | None = None) -> Any:
        """The context of another start method; this one if none is named."""
        return self if method is None else get_context(method)


class ForkContext(_WithPool, stdlib.ForkContext):
    """Workers are forks of this process."""


class SpawnContext(_WithPool, stdlib.SpawnContext):
    """Workers are new interpreters."""


class ForkServerContext(_WithPool, stdlib.ForkServerContext):
    """Workers are forks of a server process."""


_CONTEXTS: Final[dict[str, _WithPool]] = {
    "fork": ForkContext(),
    "spawn": SpawnContext(),
    "forkserver": ForkServerContext(),
}


def get_context(method: str | None = None) -> ForkContext | SpawnContext | ForkServerContext:
    """The context of a start method, by default of the one that `multiprocessing` uses.

    Args:
        method: ``"fork"``, ``"spawn"`` or ``"forkserver"``.

    Example:
        >>> from raddle.multiprocessing import get_context
        >>> with get_context("spawn").Pool(1) as pool:
        ...     pool.apply(len, ("four",))
        4
    """
    known: Any = _CONTEXTS[multiprocessing.get_context(method).get_start_method()]
    return known  # type: ignore[no-any-return]
