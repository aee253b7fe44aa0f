"""Raddle's process pool as a backend of joblib, and with it of scikit-learn.

Example:
    >>> import raddle.joblib  # doctest: +SKIP
    >>> from joblib import Parallel, delayed, parallel_config
    >>> raddle.joblib.register()
    >>> with parallel_config(backend="raddle"):
    ...     Parallel(n_jobs=2)(delayed(pow)(number, 2) for number in range(4))
    [0, 1, 4, 9]
"""

from __future__ import annotations

import os
import threading

from joblib import register_parallel_backend
from joblib._parallel_backends import (
    AutoBatchingMixin,
    FallbackToBackend,
    ParallelBackendBase,
    SequentialBackend,
)

import raddle_boot

from ._cpus import share_of_cpus
from ._process_crew import dumps_by_reference_or_value
from .pool import Pool

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from ._future import Future

__all__ = ["RaddleBackend", "register"]

_lock = threading.Lock()
_kept: tuple[tuple[Any, ...], Pool] | None = None


def register(*, make_default: bool = False) -> None:
    """Makes joblib know the backend ``"raddle"``.

    Args:
        make_default: Use it wherever no other backend is asked for.
    """
    register_parallel_backend("raddle", RaddleBackend, make_default=make_default)


def _pool(
    workers: int, threads: int | str, initializer: Callable[..., object] | None, initargs: tuple[Any, ...]
) -> Pool:
    """The pool of the last time, if it is as wide as is wanted; its workers have loaded what they need."""
    global _kept
    # What a worker makes of its initializer follows from the pickle.
    beginning = None if initializer is None else dumps_by_reference_or_value((initializer, initargs))
    with _lock:
        # A forked child cannot use its parent's pool, and workers have the environment of the time when they were started.
        environment = [os.environ.get(name) for name in raddle_boot.NUMBERS_OF_THREADS]
        wanted = (os.getpid(), workers, threads, beginning, *environment)
        if _kept is None or _kept[0] != wanted or _kept[1]._lane.state() != "open":
            if _kept is not None and _kept[0][0] == os.getpid():
                _kept[1].shutdown(wait=False)
            pool = Pool(
                "process",
                workers,
                name=f"joblib-{workers}",
                initializer=initializer,
                initargs=initargs,
                blas_threads=threads,
            )
            _kept = (wanted, pool)
        return _kept[1]


def _run(batch: Callable[[], Any]) -> Any:
    """What a worker does: calls inside of calls may ask for this backend, too."""
    register()
    return batch()


def _let_go(pool: Pool) -> None:
    """Ends a pool at once, with what it runs; the next one is made anew."""
    global _kept
    with _lock:
        if _kept is not None and _kept[1] is pool:
            _kept = None
    pool._lane.kill("joblib has given up a parallel run")
    pool.shutdown(wait=False, cancel_futures=True)


class RaddleBackend(AutoBatchingMixin, ParallelBackendBase):  # type: ignore[misc]  # joblib has no types
    """The calls of `joblib.Parallel` on worker processes that stay for the next time."""

    supports_retrieve_callback = True
    supports_inner_max_num_threads = True

    _pool: Pool | None = None
    _options: dict[str, Any] = {}  # noqa: RUF012  # replaced, never changed

    def effective_n_jobs(self, n_jobs: int | None) -> int:
        """How many workers `n_jobs` stands for; -1 are as many as there are CPUs for a pool that is made here."""
        if n_jobs == 0:
            raise ValueError("n_jobs == 0 in Parallel has no meaning")
        if n_jobs is None:
            return 1
        return max(share_of_cpus() + 1 + n_jobs, 1) if n_jobs < 0 else n_jobs

    def configure(self, n_jobs: int = 1, parallel: Any = None, **options: Any) -> int:
        """Makes workers ready. Returns how many calls should be under way.

        Of the options of `joblib.Parallel` and of its context managers, `initializer` and `initargs` concern this backend.
        """
        n_jobs = self.effective_n_jobs(n_jobs)
        if n_jobs == 1:
            raise FallbackToBackend(SequentialBackend(nesting_level=self.nesting_level))
        self._options = options
        settings = {**getattr(self, "backend_kwargs", {}), **options}
        self._pool = _pool(
            n_jobs,
            self.inner_max_num_threads or "auto",
            settings.get("initializer"),
            tuple(settings.get("initargs") or ()),
        )
        self.parallel = parallel
        return n_jobs

    def submit(self, func: Callable[[], Any], callback: Callable[[Any], object] | None = None) -> Future[Any]:
        """Schedules a batch of calls."""
        assert self._pool is not None, "joblib configures a backend before it uses it"
        future = self._pool.submit(_run, func)
        if callback is not None:
            future.add_done_callback(callback)
        return future

    def retrieve_result_callback(self, future: Future[Any]) -> Any:
        """What a batch of calls came to."""
        return future.result()

    def terminate(self) -> None:
        """Ends a parallel run. The workers stay."""
        self._pool = None
        self.reset_batch_stats()

    def abort_everything(self, ensure_ready: bool = True) -> None:
        """Ends a parallel run at once, with what is running."""
        if self._pool is not None:
            _let_go(self._pool)
            self._pool = None
        if ensure_ready:
            self.configure(n_jobs=self.parallel.n_jobs, parallel=self.parallel, **self._options)
