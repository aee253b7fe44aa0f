"""What each worker process of a pool may take."""

from __future__ import annotations

import operator
import re

from ._cpus import share_of_cpus, share_of_each

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Any, Final

__all__ = ["Limits", "bytes_of", "whole"]

#: Whole numbers are less than this.
_TOO_LARGE: Final = 1 << 63

_UNITS = {"": 1, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30, "T": 1 << 40}


class Limits:
    """Limits as `Pool` takes them, checked."""

    def __init__(
        self,
        memory: int | str | None,
        max_tasks_per_child: int | None,
        nice: int,
        affinity: Iterable[int] | None,
        blas_threads: int | str | None,
    ) -> None:
        self.memory = None if memory is None else bytes_of(memory)
        self.max_tasks_per_child = None
        if max_tasks_per_child is not None:
            self.max_tasks_per_child = whole(max_tasks_per_child, "max_tasks_per_child")
            if self.max_tasks_per_child < 1:
                raise ValueError(f"max_tasks_per_child must be at least 1, or None, not {max_tasks_per_child}")
        self.nice = whole(nice, "nice")
        if self.nice < 0:
            raise ValueError(f"nice must be 0 or more, not {nice}")
        self.affinity = None if affinity is None else sorted({whole(cpu, "a CPU") for cpu in affinity})
        if self.affinity == []:
            raise ValueError("affinity must name at least one CPU, or be None")
        #: CPUs of the whole pool. Found here, because workers are started from any thread.
        self.cpus = share_of_cpus() if self.affinity is None else len(self.affinity)
        if isinstance(blas_threads, str) and blas_threads != "auto":
            raise ValueError(f"blas_threads must be a number, 'auto' or None, not {blas_threads!r}")
        if isinstance(blas_threads, int) and blas_threads < 1:
            raise ValueError(f"blas_threads must be at least 1, not {blas_threads}")
        self.blas_threads = blas_threads

    def are_any(self) -> bool:
        """Whether something was asked for."""
        return bool(
            self.memory
            or self.max_tasks_per_child
            or self.nice
            or self.affinity
            or self.blas_threads not in ("auto", None)
        )

    def share_of_each(self, workers: int) -> int:
        """CPUs for each of so many workers."""
        return share_of_each(workers, self.cpus)

    def of_each(self, workers: int, *, preloads: bool = False) -> dict[str, Any]:
        """What a worker is told, one of so many. `preloads`: it is forked from a process that has loaded libraries already."""
        threads = self.share_of_each(workers) if self.blas_threads == "auto" else self.blas_threads
        if preloads and self.blas_threads == "auto":
            threads = 1  # a library that starts threads when it is loaded would keep the process from being forked
        return {
            "memory": self.memory,
            "nice": self.nice,
            "affinity": self.affinity,
            "threads": threads,
            "are_asked_for": self.blas_threads != "auto",
        }


def bytes_of(size: int | str) -> int:
    """A number of bytes: a whole number, or a text such as ``"2GiB"`` or ``"500M"``; all units are powers of 1024.

    Raises:
        ValueError: If it is neither, or not positive.
    """
    if isinstance(size, str):
        match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([KMGT]?)(?:i?B)?\s*", size, re.IGNORECASE)
        if match is None:
            raise ValueError(f"memory must be a number of bytes or a text such as '2GiB', not {size!r}")
        size = int(float(match[1]) * _UNITS[match[2].upper()])
    size = whole(size, "memory")
    if size < 1:
        raise ValueError(f"memory must be more than 0 bytes, not {size}")
    return size


def whole(number: object, what: str) -> int:
    """A whole number of no more than 63 bits; anything else is an error that says what it should have been."""
    try:
        if isinstance(number, bool):
            raise TypeError
        found = operator.index(number)  # type: ignore[arg-type]
    except TypeError:
        raise TypeError(f"{what} must be a whole number, not {number!r}") from None
    if found >= _TOO_LARGE:
        raise ValueError(
            f"{what} must be less than 2**63, not {found:#x}"
        )  # Python writes no decimals of thousands of digits
    return found
