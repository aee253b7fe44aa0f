"""Dask's local schedulers on our executors and pools, through both doors that Dask has: `pool=` and `scheduler=`."""

from __future__ import annotations

import os
import threading

import pytest

import calls
import raddle
import raddle.futures

pytest.importorskip("dask")

import dask
import dask.array
import dask.bag

EXECUTORS = {"thread": raddle.futures.ThreadPoolExecutor, "process": raddle.futures.ProcessPoolExecutor}
SCHEDULERS = {"thread": "threads", "process": "processes"}


@pytest.fixture(params=["executor by pool=", "pool by pool=", "pool by scheduler="])
def on_dask(request, kind):
    """Dask, set up to compute on two workers of one kind; yields the kind."""
    if request.param == "executor by pool=":
        made = EXECUTORS[kind](2)
    else:
        made = raddle.Pool(kind, 2)
    with made:
        if request.param.endswith("pool="):
            settings = {"pool": made, "scheduler": SCHEDULERS[kind]}
        else:
            settings = {"scheduler": made.executor()}
        with dask.config.set(settings):
            yield kind


@dask.delayed
def where(number):
    return number, os.getpid(), threading.current_thread() is threading.main_thread()


def test_delayed(on_dask):
    results = dask.compute(*[where(number) for number in range(30)])
    assert [number for number, _, _ in results] == list(range(30))
    pids = {pid for _, pid, _ in results}
    if on_dask == "process":
        assert os.getpid() not in pids
        assert len(pids) <= 2
    else:
        assert pids == {os.getpid()}
        assert not any(is_main for _, _, is_main in results)


def test_delayed_calls_that_need_each_other(on_dask):
    total = dask.delayed(sum)([dask.delayed(lambda x: x * x)(number) for number in range(20)])
    assert (total + dask.delayed(1)).compute() == sum(number * number for number in range(20)) + 1


def test_bag(on_dask):
    words = dask.bag.from_sequence(["comb", "warp", "weft", "comb", "heddle", "comb"] * 10, npartitions=4)
    assert dict(words.frequencies().compute()) == {"comb": 30, "warp": 10, "weft": 10, "heddle": 10}
    assert {size: len(found) for size, found in words.groupby(len)} == {4: 50, 6: 10}
    assert words.map(len).filter(lambda size: size > 4).sum().compute() == 60


def test_array(on_dask):
    np = pytest.importorskip("numpy")
    plain = np.arange(400.0 * 300).reshape(400, 300)
    array = dask.array.from_array(plain, chunks=(100, 150))
    assert np.array_equal((array.T + 1).compute(), plain.T + 1)
    assert np.allclose((array @ array.T).sum(axis=0).compute(), (plain @ plain.T).sum(axis=0))
    assert array.mean().compute() == pytest.approx(plain.mean())


def test_what_a_task_raises_is_raised(on_dask):
    with pytest.raises(ValueError, match="7"):
        dask.compute(*[dask.delayed(calls.fail_if)(number, 7) for number in range(20)])
    assert dask.delayed(calls.add)(1, 2).compute() == 3


def test_the_scheduler_functions_take_our_executors(kind):
    from dask import multiprocessing, threaded

    get = {"thread": threaded, "process": multiprocessing}[kind].get
    graph = {"x": 1, "y": (calls.add, "x", 2), "z": (calls.add, "y", 10)}
    with EXECUTORS[kind](2) as executor, raddle.Pool(kind, 2) as pool:
        for workers in (executor, pool, pool.executor(), pool.options(name="dask")):
            assert get(graph, ["y", "z"], pool=workers) == (3, 13)


def test_executors_are_schedulers_themselves(kind):
    with EXECUTORS[kind](2) as executor:
        assert dask.delayed(calls.add)(1, 2).compute(scheduler=executor) == 3


def test_dask_keeps_as_many_tasks_under_way_as_there_are_workers(gate):
    with raddle.Pool("thread", 3) as pool:
        tasks = dask.delayed(list)([dask.delayed(gate)(number, dask_key_name=f"t{number}") for number in range(9)])
        done = []
        computing = threading.Thread(target=lambda: done.append(tasks.compute(pool=pool)))
        computing.start()
        gate.wait_entered(3)
        assert pool.statistics().submitted == 3
        gate.open()
        computing.join(30)
    assert done == [list(range(9))]


def test_a_worker_that_dies_costs_one_computation_of_a_pool():
    with raddle.Pool("process", 2) as pool, dask.config.set(scheduler=pool.executor()):
        with pytest.raises(raddle.WorkerDied):
            dask.delayed(calls.exit_now)(1).compute()
        assert dask.delayed(calls.add)(1, 2).compute() == 3


def test_tasks_on_terms_are_tried_again(tmp_path):
    with raddle.Pool("process", 2) as pool, dask.config.set(scheduler=pool.options(retries=2).executor()):
        assert dask.delayed(calls.die_until)(str(tmp_path / "log"), 3).compute() == 3


def test_a_shared_array_is_the_same_memory_in_a_task():
    pytest.importorskip("numpy")
    array = raddle.shared.zeros(100_000)
    with raddle.Pool("process", 2) as pool:
        dask.delayed(calls.write_first)(array, 7.0).compute(scheduler=pool.executor())
    assert array[0] == 7.0
