"""What a pool was asked for, checked."""

from __future__ import annotations

from ._cpus import share_of_cpus
from ._limits import whole
from ._output import checked as checked_output

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from typing import Any

    from ._limits import Limits
    from ._types import Output

__all__ = ["Settings"]


class Settings:
    """The settings of a `Pool`, as its lanes take them.

    Attributes:
        most: Workers at most.
        least: So many workers stay when there is nothing to do.
        idle_timeout: Seconds until a worker beyond them ends that has nothing to do.
        waits: Whether a `submit` beyond `max_pending` waits.
        output: None if workers keep the streams that they have inherited.
        preload: Names of modules that worker processes have from the start.
    """

    def __init__(
        self,
        workers: int | tuple[int, int] | None,
        idle_timeout: float,
        name: str,
        initializer: Callable[..., object] | None,
        initargs: tuple[Any, ...],
        limits: Limits,
        max_pending: int | None,
        when_full: str,
        output: Any,
        preload: Iterable[str],
    ) -> None:
        self.least, self.most = _width(workers)
        if isinstance(idle_timeout, bool) or not isinstance(idle_timeout, (int, float)):
            raise TypeError(f"idle_timeout must be a number of seconds, not {idle_timeout!r}")
        if not idle_timeout > 0:
            raise ValueError(f"idle_timeout must be more than 0 seconds, not {idle_timeout!r}")
        self.idle_timeout = float(idle_timeout)
        self.name = name
        if initializer is not None and not callable(initializer):
            raise TypeError(f"initializer must be callable, not {initializer!r}")
        self.initializer = initializer
        self.initargs = initargs
        self.limits = limits
        if max_pending is not None and whole(max_pending, "max_pending") < 1:
            raise ValueError(f"max_pending must be at least 1, or None, not {max_pending}")
        self.max_pending = max_pending
        if when_full not in ("wait", "raise"):
            raise ValueError(f"when_full must be 'wait' or 'raise', not {when_full!r}")
        self.waits = when_full == "wait"
        self.output: Output | None = checked_output(output)
        self.preload = _modules(preload)

    @property
    def is_elastic(self) -> bool:
        """Whether workers that have nothing to do end after a while."""
        return self.least < self.most


def _width(workers: int | tuple[int, int] | None) -> tuple[int, int]:
    """The least and the most workers."""
    if workers is None:
        return share_of_cpus(), share_of_cpus()
    if not isinstance(workers, tuple):
        most = whole(workers, "workers")
        if most < 1:
            raise ValueError(f"a pool needs at least 1 worker, not {most}")
        return most, most
    if len(workers) != 2:
        raise ValueError(f"workers must be a number, or a pair of the least and the most, not {workers!r}")
    least, most = whole(workers[0], "the least number of workers"), whole(workers[1], "the most workers")
    if not (0 <= least <= most and most >= 1):
        raise ValueError(f"workers must be from 0 or more to at least 1 and as many, not {workers!r}")
    return least, most


def _modules(preload: Iterable[str]) -> tuple[str, ...]:
    if isinstance(preload, str):
        raise TypeError(f"preload must be several names of modules, not one text\n  hint: preload=[{preload!r}]")
    names: list[str] = []
    for name in preload:
        if not isinstance(name, str):
            raise TypeError(f"preload must be names of modules, and {name!r} is none\n  hint: preload=['numpy']")
        if not all(part.isidentifier() for part in name.split(".")):
            raise ValueError(f"preload must be names of modules, and {name!r} cannot be one")
        names.append(name)
    return tuple(names)
