"""What only type checkers see. Nothing imports this at run time: `typing` takes longer to load than the rest of Raddle."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Literal, ParamSpec, Protocol, SupportsIndex, TypeAlias, TypeVar

from ._output import OutputLine
from ._progress import Progress

__all__ = ["Ending", "Order", "Output", "P", "ProgressLike", "S", "Shape", "T"]

P = ParamSpec("P")
S = TypeVar("S")
T = TypeVar("T")

#: The lengths of an array.
Shape: TypeAlias = SupportsIndex | Sequence[SupportsIndex]
#: Rows first, or columns first.
Order: TypeAlias = Literal["C", "F"]
#: What becomes of what workers print.
Output: TypeAlias = Literal["attributed", "plain"] | Callable[[OutputLine], object]


class _Bar(Protocol):
    """A progress bar, such as those of tqdm."""

    def update(self, n: int, /) -> object:
        """So many more are done."""


class _Bars(Protocol):
    """A display of several bars, such as `rich.progress.Progress`."""

    @property
    def add_task(self) -> Callable[..., Any]:
        """Adds a bar."""

    @property
    def update(self) -> Callable[..., Any]:
        """Says how far a bar is."""


#: How a `map` shows how far it is.
ProgressLike: TypeAlias = bool | str | _Bar | _Bars | Callable[[Progress], object]


class Ending(Protocol):
    """Something that ends by itself once it is told to."""

    calls_back: bool
    """Whether it may call code of the user's from a thread that is none of Python's."""

    def close(self) -> None:
        """Takes no more work."""

    def join(self) -> None:
        """Waits until everything is done."""

    def abandon(self) -> None:
        """Ends what can be ended at once, and waits for it whatever happens."""

    def is_over(self) -> bool:
        """Whether there is nothing to wait for."""
