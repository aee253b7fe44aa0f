"""What only type checkers see. Nothing imports this at run time: `typing` takes longer to load than the rest of Raddle."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Literal, ParamSpec, Protocol, SupportsIndex, TypeAlias, TypeVar

__all__ = ["Ending", "Order", "Output", "P", "Shape", "T"]

from ._output import OutputLine

P = ParamSpec("P")
T = TypeVar("T")

#: The lengths of an array.
Shape: TypeAlias = SupportsIndex | Sequence[SupportsIndex]
#: Rows first, or columns first.
Order: TypeAlias = Literal["C", "F"]
#: What becomes of what workers print.
Output: TypeAlias = Literal["attributed", "plain"] | Callable[[OutputLine], object]


class Ending(Protocol):
    """Something that ends by itself once it is told to."""

    def close(self) -> None:
        """Takes no more work."""

    def join(self) -> None:
        """Waits until everything is done."""

    def abandon(self) -> None:
        """Ends what can be ended at once, and waits for it whatever happens."""

    def is_over(self) -> bool:
        """Whether there is nothing to wait for."""
