"""joblib and scikit-learn on Raddle's process pool."""

from __future__ import annotations

import multiprocessing
import os
import time

import pytest

import calls

joblib = pytest.importorskip("joblib")

from joblib import Parallel, delayed

import raddle.joblib

raddle.joblib.register()


@pytest.fixture
def backend():
    with joblib.parallel_config(backend="raddle"):
        yield


def test_calls_run_in_other_processes_and_come_back_in_order(backend):
    assert Parallel(n_jobs=2)(delayed(calls.add)(number, 1) for number in range(500)) == list(range(1, 501))
    pids = set(Parallel(n_jobs=2)(delayed(os.getpid)() for _ in range(20)))
    assert os.getpid() not in pids
    assert len(pids) <= 2


def test_workers_stay_for_the_next_run(backend):
    first = set(Parallel(n_jobs=2)(delayed(calls.nap_and_pid)(0.02) for _ in range(8)))
    second = set(Parallel(n_jobs=2)(delayed(calls.nap_and_pid)(0.02) for _ in range(8)))
    assert second <= first


def test_lambdas_and_arrays(backend):
    np = pytest.importorskip("numpy")
    big = np.arange(100_000.0)
    results = Parallel(n_jobs=2)(delayed(lambda values, by: values * by)(big, by) for by in range(5))
    assert all((result == big * by).all() for by, result in enumerate(results))
    assert all(result.flags.writeable for result in results)


@pytest.mark.parametrize("kind", ["list", "generator", "generator_unordered"])
def test_every_way_to_return(backend, kind):
    results = Parallel(n_jobs=2, return_as=kind)(delayed(calls.identity)(number) for number in range(100))
    assert sorted(results) == list(range(100))


def test_an_exception_is_raised_and_the_next_run_works(backend):
    with pytest.raises(ValueError, match="^7$"):
        Parallel(n_jobs=2)(delayed(calls.fail_if)(number, 7) for number in range(50))
    assert Parallel(n_jobs=2)(delayed(calls.identity)(number) for number in range(5)) == list(range(5))


def test_a_timeout_stops_what_runs_and_the_next_run_works(backend):
    began = time.monotonic()
    with pytest.raises(multiprocessing.TimeoutError):
        Parallel(n_jobs=2, timeout=0.3)(delayed(time.sleep)(30) for _ in range(2))
    assert Parallel(n_jobs=2)(delayed(calls.identity)(number) for number in range(5)) == list(range(5))
    assert time.monotonic() - began < 15


def test_a_worker_that_dies_is_an_error_of_that_run_alone(backend):
    with pytest.raises(raddle.WorkerDied):
        Parallel(n_jobs=2)(delayed(calls.exit_now)(3) for _ in range(2))
    assert Parallel(n_jobs=2)(delayed(calls.identity)(number) for number in range(5)) == list(range(5))


def test_a_run_inside_of_a_run(backend):
    def inner(number):
        return sum(Parallel(n_jobs=2)(delayed(calls.add)(number, other) for other in range(3)))

    assert Parallel(n_jobs=2)(delayed(inner)(number) for number in range(4)) == [3, 6, 9, 12]


def test_an_initializer_runs_in_every_worker_and_the_same_one_keeps_the_workers(backend):
    def run(value):
        job = delayed(calls.nap_and_initialized)(0.02)
        found = Parallel(n_jobs=2, initializer=calls.initialize, initargs=(value,))(job for _ in range(8))
        assert [seen for _, seen in found] == [[value]] * 8
        return {pid for pid, _ in found}

    first = run("one")
    assert run("one") <= first
    assert not run("two") & first


def test_an_initializer_of_the_context_runs_again_in_the_workers_after_an_exception():
    with joblib.parallel_config(backend="raddle", n_jobs=2, initializer=calls.initialize, initargs=("yes",)):
        with Parallel() as parallel:
            with pytest.raises(ValueError, match="^3$"):
                parallel(delayed(calls.fail_if)(number, 3) for number in range(4))
            assert parallel(delayed(calls.initialized)() for _ in range(4)) == [["yes"]] * 4


def test_numbers_of_workers_are_those_of_joblib(backend):
    backend_of = raddle.joblib.RaddleBackend
    cpus = len(os.sched_getaffinity(0))
    made = backend_of()
    assert made.effective_n_jobs(-1) == cpus
    assert made.effective_n_jobs(-1000) == made.effective_n_jobs(None) == 1
    with pytest.raises(ValueError, match="no meaning"):
        made.effective_n_jobs(0)


def test_scikit_learn_runs_on_it(backend):
    pytest.importorskip("sklearn")
    from sklearn.datasets import make_classification
    from sklearn.ensemble import RandomForestClassifier
    from sklearn.model_selection import GridSearchCV, cross_val_score

    x, y = make_classification(300, random_state=0)
    search = GridSearchCV(RandomForestClassifier(10, random_state=0), {"max_depth": [2, 4]}, cv=3, n_jobs=2).fit(x, y)
    assert search.best_score_ > 0.8
    forest = RandomForestClassifier(20, random_state=0, n_jobs=2)
    assert cross_val_score(forest, x, y, n_jobs=2).mean() > 0.8
