"""The runner of other packages' tests: it must not be able to call a bad run good."""

from __future__ import annotations

import argparse
import importlib
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).resolve().parent / "ecosystem"
sys.path.insert(0, str(HERE))
try:
    # `run` is also what the runner for CPython's tests is called.
    spec = importlib.util.spec_from_file_location("ecosystem_run", HERE / "run.py")
    run = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = run
    spec.loader.exec_module(run)
finally:
    sys.path.remove(str(HERE))

ENTRY = '[[skip]]\nsuite = "{suite}"\ntest = "{test}"\nreason = "{reason}"\n'

SUITE = """
import subprocess, sys, pytest
from concurrent.futures import ThreadPoolExecutor, ProcessPoolExecutor
from multiprocessing.pool import ThreadPool

def test_good():
    with ThreadPoolExecutor(1) as executor:
        assert type(executor).__module__ == "raddle.futures"
        assert executor.submit(abs, -1).result() == 1

@pytest.mark.parametrize("pool_typ", [ThreadPool])
def test_pools(pool_typ):
    with pool_typ(1) as pool:
        assert list(pool.map(abs, [-1])) == [1]

@pytest.mark.parametrize("number", [1, 2, 3])
def test_numbers(number): assert number != 2

def test_skipped(): pytest.skip("not here")
def test_idle(): pass
def test_leaving(): subprocess.Popen([sys.executable, "-c", "import time; time.sleep(1000)"])
"""


@pytest.fixture
def mini(tmp_path, monkeypatch):
    """Runs some tests of a little package that is made for it."""
    package = tmp_path / "minipackage"
    package.mkdir()
    (package / "__init__.py").touch()
    (package / "test_it.py").write_text(SUITE)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(run, "LOGS", tmp_path / "logs")
    suite = run.Suite("minipackage", ("minipackage.test_it",), run.EXECUTORS, {"minipackage.test_it": "thread"})

    def outcome(*only, baseline=False, skips=()):
        options = argparse.Namespace(only=list(only), baseline=baseline, timeout=50)
        return run.run_suite(suite, dict.fromkeys(skips, "why"), options)

    return outcome


def test_the_skips_of_this_repository_are_in_order():
    assert run.load_skips(HERE / "skips.toml")


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        (ENTRY.format(suite="numpy", test="a::b", reason="why"), "'numpy' is no suite"),
        (ENTRY.format(suite="dask", test="test_it", reason="why"), "is not module::test"),
        (ENTRY.format(suite="dask", test="a::b", reason=" "), "has no reason"),
        ('[[skip]]\nsuite = "dask"\n', "needs suite, test and reason"),
    ],
)
def test_a_skip_names_a_suite_a_test_and_a_reason(tmp_path, entry, message):
    (tmp_path / "skips.toml").write_text(entry)
    with pytest.raises(run.SetupError, match=message):
        run.load_skips(tmp_path / "skips.toml")


def test_what_passed_failed_and_was_skipped_is_counted(mini):
    outcome = mini("good", "pools", "numbers", "skipped", skips=["test_it::test_numbers[3]", "test_it::test_idle"])
    assert outcome.passed == 4  # one of them with raddle.Pool
    assert [name for name, _ in outcome.failed] == ["test_it::test_numbers[2]"]
    assert "assert 2 != 2" in outcome.failed[0][1]
    assert outcome.skipped == [["test_it::test_skipped", "Skipped: not here"]]
    assert outcome.left_out == {
        "test_it::test_numbers[3]": ["test_it::test_numbers[3]"],
        "test_it::test_idle": ["test_it::test_idle"],
    }


def test_a_whole_run_counts_executors_and_fails_for_a_skip_that_matches_nothing_and_for_processes_left_behind(
    mini, monkeypatch
):
    monkeypatch.setattr(sys.modules["session"], "GRACE", 0.2)
    outcome = mini(skips=["test_it::test_numbers", "test_it::test_gone"])
    assert outcome.work == "1 executors"
    assert outcome.left_out["test_it::test_numbers"] == [f"test_it::test_numbers[{number}]" for number in (1, 2, 3)]
    whole, texts = zip(*outcome.failed)
    assert set(whole) == {"minipackage as a whole"}
    assert "outlived the tests" in texts[0]
    assert texts[1:] == ("skips.toml lists test_it::test_gone, which is no test",)


def test_without_raddle_the_tests_run_as_they_are(mini):
    outcome = mini("good", "pools", baseline=True)
    assert outcome.passed == 1
    assert [name for name, _ in outcome.failed] == ["test_it::test_good"]


def test_a_run_in_which_raddle_had_nothing_to_do_is_no_proof(tmp_path):
    (tmp_path / "proof").write_text("patched 1\n")
    suite = run.Suite("some", (), run.EXECUTORS)
    assert run.was_used(suite, 0, tmp_path / "proof", run.Outcome()) == ["no executor of Raddle was made"]
    assert "never took place" in run.was_used(suite, 0, tmp_path / "absent", run.Outcome())[0]
    assert run.was_used(run.Suite("some", (), run.BACKEND), 0, tmp_path, run.Outcome()) == [
        "no call went to Raddle's backend"
    ]


def test_a_module_that_cannot_be_imported_is_a_failure(mini, tmp_path):
    (tmp_path / "minipackage" / "test_it.py").write_text("import no_such_module")
    outcome = mini()
    assert not outcome.passed
    assert any("no_such_module" in text for _, text in outcome.failed)


FLAKY = """
import os, pathlib, pytest, joblib

def twice(path):
    path.open("a").write("x")
    assert len(path.read_text()) == 2

HERE = pathlib.Path(__file__).parent

def test_other(): twice(HERE / "other")
def test_ours():
    assert joblib.Parallel(n_jobs=2)(joblib.delayed(abs)(number) for number in range(-3, 0)) == [3, 2, 1]
    twice(HERE / "ours")
@pytest.mark.parametrize("backend", ["raddle"])
def test_named(backend): twice(HERE / "named")
def test_wrong(): assert False
"""


def test_only_a_test_that_raddle_has_no_part_in_gets_a_second_chance(tmp_path, monkeypatch):
    pytest.importorskip("joblib")
    package = tmp_path / "minijoblib"
    package.mkdir()
    (package / "__init__.py").touch()
    (package / "test_it.py").write_text(FLAKY)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(run, "LOGS", tmp_path / "logs")
    options = argparse.Namespace(only=[], baseline=False, timeout=50)
    outcome = run.run_suite(run.Suite("minijoblib", ("minijoblib.test_it",), run.BACKEND), {}, options)
    assert [name for name, _ in outcome.failed] == [
        "test_it::test_ours",
        "test_it::test_named[raddle]",
        "test_it::test_wrong",
    ]
    assert [name for name, _ in outcome.again] == ["test_it::test_other", "test_it::test_wrong"]
    assert outcome.passed == 1
    assert outcome.work != "0 batches"
