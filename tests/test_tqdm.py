"""`tqdm.contrib.concurrent` with our executors in the place of the standard library's: its bar moves with the calls."""

from __future__ import annotations

import concurrent.futures
import io
import os
from typing import ClassVar

import pytest

import calls
import raddle.futures

tqdm = pytest.importorskip("tqdm")

from tqdm.contrib.concurrent import process_map, thread_map


class Bar(tqdm.tqdm):
    """A bar that tells how far it came."""

    made: ClassVar[list[Bar]] = []

    def __init__(self, *args, **options):
        super().__init__(*args, file=io.StringIO(), **options)
        Bar.made.append(self)


@pytest.fixture(autouse=True)
def ours(monkeypatch):
    for name in ("ThreadPoolExecutor", "ProcessPoolExecutor"):
        monkeypatch.setattr(concurrent.futures, name, getattr(raddle.futures, name))
    yield
    Bar.made.clear()


def last_bar():
    return Bar.made[-1].n, Bar.made[-1].total


def test_thread_map():
    assert thread_map(calls.add, range(50), range(50), max_workers=2, tqdm_class=Bar) == list(range(0, 100, 2))
    assert last_bar() == (50, 50)


@pytest.mark.parametrize("chunksize", [1, 7])
def test_process_map(chunksize):
    options = {"max_workers": 2, "chunksize": chunksize, "tqdm_class": Bar}
    assert process_map(calls.add, range(50), [1] * 50, **options) == list(range(1, 51))
    assert last_bar() == (50, 50)
    assert os.getpid() not in process_map(calls.pid, range(4), **options)


def test_an_exception_ends_it():
    with pytest.raises(ValueError, match="^5$"):
        thread_map(calls.fail_if, range(50), [5] * 50, max_workers=2, tqdm_class=Bar)
    with pytest.raises(ValueError, match="^5$"):
        process_map(calls.fail_if, range(50), [5] * 50, max_workers=2, tqdm_class=Bar, chunksize=1)


def test_its_bar_around_our_maps(pool):
    bar = Bar(pool.map(calls.identity, range(20)), total=20)
    assert list(bar) == list(range(20))
    assert last_bar() == (20, 20)
