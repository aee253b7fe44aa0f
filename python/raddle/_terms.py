"""What is agreed upon for a call."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Final

__all__ = ["NO_TERMS", "Terms"]


class Terms:
    """Terms of a call, see `Pool.options`. `given` has them in the order in which the lanes take them."""

    __slots__ = ("given", "name", "priority", "retries", "timeout")

    def __init__(
        self, timeout: float | None = None, retries: int = 0, priority: int = 0, name: str | None = None
    ) -> None:
        self.timeout = timeout
        self.retries = retries
        self.priority = priority
        self.name = name
        self.given = (timeout, retries, priority, name)

    def __repr__(self) -> str:
        return f"timeout={self.timeout!r} retries={self.retries} priority={self.priority} name={self.name!r}"


#: Those of a plain `Pool.submit`.
NO_TERMS: Final = Terms()
