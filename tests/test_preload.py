"""Workers forked from a zygote that has loaded what they need: what they have, who sees them end, and what is left over."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import subprocess
import sys
import textwrap
import threading
import time
import warnings
from pathlib import Path

import pytest

import calls
import raddle
from calls import is_gone, until

MODULES = {
    "heavy": """
        import os
        LOADED_IN = os.getpid()

        def where():
            return LOADED_IN, os.getpid(), os.getppid(), os.getpgid(0)
    """,
    "threaded": """
        import threading
        threading.Thread(target=threading.Event().wait, daemon=True).start()
    """,
    "threads_later": """
        import os, threading
        forks = []
        def after_a_fork():
            forks.append(1)
            if len(forks) == 1:
                threading.Thread(target=threading.Event().wait, daemon=True).start()
        os.register_at_fork(after_in_parent=after_a_fork)
    """,
    "unforkable": """
        import os
        def refuse():
            raise OSError(11, "no more processes")
        os.fork = refuse
    """,
    "broken": "raise ValueError('no such table')",
    "leaving": "raise SystemExit(3)",
    "dying": "import os; os._exit(5)",
    "endless": """
        import os, select
        with open(os.environ["LOADING"], "w") as file:
            file.write(str(os.getpid()))
        select.select([], [], [])
    """,
    "endless_once": """
        import os, select
        if not os.path.exists(os.environ["LOADING"]):
            with open(os.environ["LOADING"] + ".new", "w") as file:
                file.write(str(os.getpid()))
            os.rename(os.environ["LOADING"] + ".new", os.environ["LOADING"])
            select.select([], [], [])
    """,
    "logging_already": """
        import logging
        logging.basicConfig(format="by the module: %(message)s")

        def warn():
            logging.getLogger("deep").warning("a record")
    """,
    "talking": "print('loaded', end=' ')",
    "greedy": """
        import os, resource
        last = os.open("/dev/null", os.O_RDONLY)
        resource.setrlimit(resource.RLIMIT_NOFILE, (last + 3, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))
        os.close(last)
    """,
}


@pytest.fixture(autouse=True)
def modules(tmp_path, monkeypatch):
    """A directory of small modules, which can be imported here and by workers."""
    directory = tmp_path / "modules"
    directory.mkdir()
    for name, source in MODULES.items():
        (directory / f"{name}.py").write_text(textwrap.dedent(source))
    monkeypatch.syspath_prepend(str(directory))
    monkeypatch.setenv("LOADING", str(tmp_path / "loading"))
    return directory


@pytest.fixture
def warned():
    """The warnings of the test, on whatever thread: in a free-threaded build `catch_warnings` sees those of its own thread alone."""
    seen = []

    def show(message, category, filename, lineno, file=None, line=None):
        seen.append(warnings.WarningMessage(message, category, filename, lineno))

    with warnings.catch_warnings(), pytest.MonkeyPatch.context() as patched:
        warnings.simplefilter("always")
        patched.setattr(warnings, "showwarning", show)
        yield seen


def zygote_of(pool):
    return pool._lane._lane.zygote()


def pids_of(pool):
    return pool._lane._lane.pids()


def where():
    """Where `heavy` was loaded, and who runs this."""
    import heavy

    return heavy.where()


def read(path):
    return path.exists() and path.read_text()


@pytest.fixture
def pool():
    with raddle.Pool("process", 2, preload=["heavy", "json.tool"]) as pool:
        yield pool


def warn_by_a_module():
    import logging_already

    logging_already.warn()


def test_a_record_is_logged_once_also_if_a_loaded_module_has_set_up_logging(caplog, capfd):
    with raddle.Pool("process", 1, preload=["logging_already"]) as pool:
        pool.submit(warn_by_a_module).result(30)
    assert [record.getMessage() for record in caplog.records if record.name == "deep"] == ["a record"]
    assert "by the module" not in capfd.readouterr().err


# --- what workers have ------------------------------------------------------------------------------------------------


def test_workers_have_what_the_zygote_has_loaded(pool, gate):
    held = [pool.submit(gate, number) for number in range(2)]
    gate.wait_entered(2)
    gate.open()
    assert [future.result(30) for future in held] == [0, 1]
    found = {pool.submit(where).result(30) for _ in range(20)}
    for loaded_in, pid, parent, group in found:
        assert loaded_in == parent == zygote_of(pool)
        assert pid == group != os.getpid()
    assert pool.submit(lambda: "json.tool" in sys.modules).result() is True


def test_a_worker_is_ready_with_one_thread_and_can_start_others(pool):
    def count():
        before = len(os.listdir("/proc/self/task"))
        thread = threading.Thread(target=lambda: None)
        thread.start()
        thread.join()
        return before

    assert pool.submit(count).result(30) == 1


def test_a_later_worker_has_the_environment_of_its_time(pool, tmp_path, monkeypatch):
    def look():
        return os.environ.get("COLOUR"), os.environ.get("LOADING"), os.getcwd(), sys.path[0], sys.argv[0], os.getpid()

    *before, pid = pool.submit(look).result(30)
    assert before == [None, os.environ["LOADING"], os.getcwd(), sys.path[0], sys.argv[0]]
    monkeypatch.setenv("COLOUR", "blue")
    monkeypatch.delenv("LOADING")
    monkeypatch.syspath_prepend("/somewhere/else")
    monkeypatch.setattr(sys, "argv", ["another"])
    monkeypatch.chdir(tmp_path)
    for worker in pids_of(pool):
        os.kill(worker, signal.SIGKILL)
    until(lambda: is_gone(pid), "the first worker to end")
    *after, _ = pool.submit(look).result(30)
    assert after == ["blue", None, str(tmp_path), "/somewhere/else", "another"]


def test_a_later_worker_prints_where_its_parent_prints_by_then(script):
    ended = script("""
        import os, signal, raddle, calls

        with raddle.Pool("process", 1, preload=["json"], output="inherit") as pool:
            pool.submit(print, "first").result()
            pid = pool.submit(os.getpid).result()
            os.dup2(2, 1)
            os.kill(pid, signal.SIGKILL)
            calls.until(lambda: calls.is_gone(pid))
            pool.submit(print, "second").result()
    """).run()
    assert ended == type(ended)(0, "first\n", "second\n")


def test_what_a_module_prints_when_it_is_loaded_comes_once(script, modules):
    ended = script(f"""
        import sys, raddle, calls
        sys.path.insert(0, {str(modules)!r})

        with raddle.Pool("process", 2, preload=["talking"], output="plain") as pool:
            for _ in range(3):
                pool.submit(calls.exit_now, 0).exception()
            pool.submit(print, "and used").result()
    """).run()
    assert (ended.code, ended.out, ended.err) == (0, "loaded and used\n", "")


def test_no_two_workers_draw_the_same_random_numbers(gate):
    pytest.importorskip("numpy")

    def draw():
        import numpy as np

        gate()
        return os.getpid(), random.random(), float(np.random.random())

    with raddle.Pool("process", 2, preload=["random", "numpy.random"]) as pool:
        drawn = [pool.submit(draw) for _ in range(2)]
        gate.wait_entered(2)
        gate.open()
        pids, ours, numpys = zip(*(future.result(30) for future in drawn), strict=True)
    assert len(set(pids)) == len(set(ours)) == len(set(numpys)) == 2


def test_numpy_starts_no_threads_when_it_is_preloaded():
    pytest.importorskip("numpy")

    def use():
        import numpy as np

        return float((np.ones((200, 200)) @ np.ones((200, 200))).sum()), os.getppid()

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with raddle.Pool("process", 1, preload=["numpy"]) as pool:
            result, parent = pool.submit(use).result(30)
            assert (result, parent) == (8e6, zygote_of(pool))


def test_workers_have_none_of_the_zygotes_descriptors(pool, gate):
    held = [pool.submit(gate, number) for number in range(2)]
    gate.wait_entered(2)
    gate.open()
    for future in held:
        future.result(30)

    def inside():
        names = [f"/proc/self/fd/{fd}" for fd in os.listdir("/proc/self/fd")]
        return [os.readlink(name) for name in names if os.path.exists(name)]

    def below():
        program = "import os; print(*[os.readlink(f'/proc/self/fd/{f}') for f in os.listdir('/proc/self/fd') if os.path.exists(f'/proc/self/fd/{f}')])"
        return subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, close_fds=False).stdout

    for _ in range(6):
        found = pool.submit(inside).result(30)
        assert not [name for name in found if name.startswith("socket:") or "pidfd" in name], found
        assert len([name for name in found if "raddle-boot" in name]) == 0, found
        assert len([name for name in found if "raddle-link" in name]) == 1, found
        assert "raddle" not in pool.submit(below).result(30)


# --- limits and the like ----------------------------------------------------------------------------------------------


def test_limits_are_those_of_every_pool():
    cpu = min(os.sched_getaffinity(0))
    with raddle.Pool("process", 1, preload=["heavy"], memory="300MiB", nice=7, affinity=[cpu]) as pool:
        assert isinstance(pool.submit(bytearray, 500 << 20).exception(30), MemoryError)
        assert pool.submit(os.nice, 0).result(30) == os.nice(0) + 7
        assert pool.submit(os.sched_getaffinity, 0).result() == {cpu}
        assert pool.statistics().died == 0


def test_libraries_are_loaded_with_one_thread_unless_it_was_asked_for_more(monkeypatch):
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    for given, expected in (({}, "1"), ({"blas_threads": 3}, "3"), ({"blas_threads": None}, None)):
        with raddle.Pool("process", 1, preload=["heavy"], **given) as pool:
            assert pool.submit(os.getenv, "OMP_NUM_THREADS").result(30) == expected


def test_a_worker_is_replaced_after_so_many_calls():
    with raddle.Pool("process", 1, preload=["heavy"], max_tasks_per_child=3) as pool:
        pids = [pool.submit(os.getpid).result(30) for _ in range(10)]
        assert [pids.count(pid) for pid in dict.fromkeys(pids)] == [3, 3, 3, 1]
        assert pool.statistics().died == 0
        until(lambda: is_gone(pids[0]), "the first worker to be collected")


def test_the_initializer_runs_in_each_worker(pool):
    with raddle.Pool("process", 2, preload=["heavy"], initializer=calls.initialize, initargs=("set",)) as pool:
        assert pool.submit(calls.initialized).result(30) == ["set"]
    with raddle.Pool("process", 1, preload=["heavy"], initializer=calls.refuse_to_start, initargs=("no",)) as pool:
        with pytest.raises(raddle.BrokenPool, match="initializer"):
            pool.submit(calls.identity).result(30)


def test_maps_arrays_and_put_go_through(pool):
    np = pytest.importorskip("numpy")
    assert list(pool.map(calls.identity, range(3000))) == list(range(3000))
    large = np.arange(1 << 20, dtype=np.float64)
    assert pool.submit(calls.first_and_size, large).result(30) == (0.0, 1 << 20)
    table = pool.put(large)
    assert pool.submit(calls.sum_of, table).result(30) == large.sum()


@pytest.mark.parametrize(
    ("preload", "error", "match"),
    [
        ("numpy", TypeError, r"hint: preload=\['numpy'\]"),
        ([7], TypeError, "names of modules"),
        (7, TypeError, "not iterable"),
        (["two words"], ValueError, "cannot be one"),
        ([""], ValueError, "cannot be one"),
        ([".relative"], ValueError, "cannot be one"),
    ],
)
def test_what_cannot_be_a_module_is_said_at_once(preload, error, match):
    with pytest.raises(error, match=match):
        raddle.Pool("process", 1, preload=preload)


def test_threads_have_the_modules_of_their_process():
    with pytest.raises(NotImplementedError, match="import them before"):
        raddle.Pool("thread", 1, preload=["heavy"])


# --- modules that cannot be preloaded ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "text"),
    [("broken", "no such table"), ("leaving", "SystemExit: 3"), ("not_there.at_all", "No module named 'not_there'")],
)
def test_a_module_that_cannot_be_loaded_breaks_the_pool_with_its_traceback(name, text):
    with raddle.Pool("process", 2, preload=["heavy", name]) as pool:
        futures = [pool.submit(calls.identity, 0)]
        with contextlib.suppress(raddle.BrokenPool):  # it may be known already
            futures += [pool.submit(calls.identity, number) for number in range(1, 5)]
        for future in futures:
            with pytest.raises(raddle.BrokenPool, match=f"{name} could not be loaded") as caught:
                future.result(30)
            assert "Traceback (most recent call last)" in str(caught.value)
            assert text in str(caught.value)
        with pytest.raises(raddle.BrokenPool):
            pool.submit(calls.identity)


def test_a_module_that_ends_the_process_breaks_the_pool_after_three_times():
    with raddle.Pool("process", 2, preload=["dying"]) as pool:
        with pytest.raises(raddle.BrokenPool, match="3 zygotes in a row .* exit code 5"):
            pool.submit(calls.identity).result(30)


def test_a_module_with_threads_is_named_once_and_workers_are_new_interpreters(warned):
    def parent_and_module():
        return os.getppid(), "threaded" in sys.modules

    with raddle.Pool("process", 2, preload=["heavy", "threaded"]) as pool:
        futures = [pool.submit(parent_and_module) for _ in range(20)]
        assert {future.result(30) for future in futures} == {(os.getpid(), True)}
        until(lambda: zygote_of(pool) is None, "the zygote to go")
        assert isinstance(pool.submit(calls.exit_now, 1).exception(30), raddle.WorkerDied)
        assert pool.submit(parent_and_module).result(30) == (os.getpid(), True)
    (warning,) = warned
    assert warning.category is RuntimeWarning
    assert str(warning.message).startswith("threaded has started threads when it was loaded")
    assert "\n  hint: " in str(warning.message)


def test_threads_that_start_later_are_seen_before_the_next_fork(gate, warned):
    with raddle.Pool("process", 2, preload=["threads_later"]) as pool:
        first = pool.submit(gate, 1)
        gate.wait_entered()
        zygote = zygote_of(pool)
        second = pool.submit(os.getppid)
        assert second.result(30) == os.getpid(), "it is a new interpreter"
        gate.open()
        assert first.result(30) == 1
        parents = {pool.submit(os.getppid).result(30) for _ in range(50)}
        assert parents <= {os.getpid(), zygote}
        for worker in pids_of(pool):
            os.kill(worker, signal.SIGKILL)
        until(lambda: zygote_of(pool) is None, "the zygote to go with its last worker")
        assert pool.submit(os.getppid).result(30) == os.getpid()
    assert ["has started threads" in str(warning.message) for warning in warned] == [True]


@pytest.mark.parametrize("module", ["unforkable", "greedy"])
def test_where_it_cannot_fork_workers_are_new_interpreters(module):
    with raddle.Pool("process", 2, preload=[module]) as pool:
        assert {pool.submit(os.getppid).result(30) for _ in range(10)} == {os.getpid()}


# --- death ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fn", "args", "exitcode", "word"),
    [
        (calls.exit_now, (0,), 0, "exit code 0"),
        (calls.exit_now, (7,), 7, "exit code 7"),
        (calls.signal_self, (signal.SIGKILL,), -9, "SIGKILL"),
        (calls.signal_self, (signal.SIGTERM,), -15, "SIGTERM"),
        (calls.segfault, (), -11, "SIGSEGV"),
    ],
)
def test_a_dead_worker_is_told_of_as_a_child_of_ours_would_be(pool, fn, args, exitcode, word):
    zygote = pool.submit(os.getppid).result(30)
    with pytest.raises(raddle.WorkerDied, match=word) as caught:
        pool.submit(fn, *args).result(30)
    error = caught.value
    assert (error.exitcode, error.call) == (exitcode, f"{fn.__qualname__}()")
    assert error.peak_memory > 5 << 20
    until(lambda: not os.path.exists(f"/proc/{error.pid}"), "it to be collected")
    assert pool.submit(os.getppid).result(30) == zygote
    assert pool.statistics().died == 1


def test_the_peak_memory_of_a_forked_worker_is_known_however_large_its_parent_is(script):
    ended = script("""
        import os, signal, raddle
        kept = bytearray(b"x") * (300 << 20)

        def die(size):
            kept = bytearray(b"x") * size
            os.kill(os.getpid(), signal.SIGKILL)

        with raddle.Pool("process", 1, preload=["json"]) as pool:
            for size in (10 << 20, 100 << 20):
                error = pool.submit(die, size).exception()
                assert size < error.peak_memory < size + (60 << 20), (size, error.peak_memory)
    """).run()
    assert (ended.code, ended.err) == (0, "")


def test_a_crash_says_where_it_happened(pool):
    error = pool.submit(calls.crash_deep_inside).exception(30)
    assert error.exitcode == -signal.SIGSEGV
    assert "in the_culprit" in "\n".join(error.__notes__)


def test_a_call_that_runs_for_too_long_ends_with_all_that_it_has_started(pool, tmp_path):
    future = pool.options(timeout=0.5).submit(calls.sleep_in_a_child, tmp_path / "pid")
    assert isinstance(future.exception(30), raddle.CallTimeout)
    child = int((tmp_path / "pid").read_text())
    until(lambda: is_gone(child), "the grandchild to end")
    began = time.monotonic()
    error = pool.options(timeout=0.2).submit(calls.ignore_and_sleep).exception(30)
    assert isinstance(error, raddle.CallTimeout)
    assert time.monotonic() - began < 10


def test_a_running_call_can_be_cancelled(pool, tmp_path):
    for number in range(5):
        future = pool.submit(calls.touch_and_sleep, tmp_path / f"pid{number}")
        pid = int(until(lambda number=number: read(tmp_path / f"pid{number}"), "the call to run"))
        assert future.cancel()
        assert future.cancelled()
        until(lambda pid=pid: is_gone(pid), "the worker to end")
    assert pool.submit(calls.add, 1, 1).result(30) == 2


def test_a_killed_zygote_costs_the_calls_that_run_and_the_pool_lives_on(pool, gate):
    running = [pool.submit(gate, number) for number in range(2)]
    gate.wait_entered(2)
    queued = [pool.submit(calls.add, number, 1) for number in range(30)]
    zygote, workers = zygote_of(pool), pids_of(pool)
    os.kill(zygote, signal.SIGKILL)
    for future in running:
        error = future.exception(30)
        assert isinstance(error, raddle.WorkerDied)
        assert "ended with the zygote that had forked it" in str(error)
        assert error.exitcode is None
    assert [future.result(30) for future in queued] == list(range(1, 31))
    loaded_in, _, parent, _ = pool.submit(where).result(30)
    assert loaded_in == parent == zygote_of(pool) != zygote
    until(lambda: all(is_gone(pid) for pid in [zygote, *workers]), "the old ones to end")


def test_a_zygote_that_is_killed_while_its_workers_are_idle_costs_no_call(pool):
    for _ in range(5):
        first = pool.submit(os.getppid).result(30)
        assert first == zygote_of(pool)
        os.kill(first, signal.SIGKILL)
        values = [pool.submit(calls.add, number, 1) for number in range(5)]
        ended = [future.exception(30) for future in values]
        assert all(error is None or isinstance(error, raddle.WorkerDied) for error in ended)
        until(lambda first=first: is_gone(first), "the zygote to be collected")
        assert pool.submit(calls.add, 1, 1).result(30) == 2


def test_a_zygote_that_is_killed_while_it_loads_is_replaced(tmp_path):
    with raddle.Pool("process", 2, preload=["endless_once"]) as pool:
        futures = [pool.submit(calls.add, number, 1) for number in range(10)]
        pid = int(until(lambda: read(tmp_path / "loading"), "the zygote to load"))
        assert pid == zygote_of(pool)
        os.kill(pid, signal.SIGKILL)
        assert [future.result(30) for future in futures] == list(range(1, 11))


def test_workers_and_zygotes_killed_at_random_moments_leave_no_call_behind():
    generator = random.Random(7)
    with raddle.Pool("process", 2, preload=["heavy"]) as pool:
        for _ in range(40):
            futures = [pool.submit(calls.nap_and_return, number) for number in range(6)]
            time.sleep(generator.random() * 0.02)  # not to let something happen, but to hit another moment
            for pid in generator.sample([zygote_of(pool), *pids_of(pool)], 1):
                if pid is not None:
                    os.kill(pid, signal.SIGKILL)
            for number, future in enumerate(futures):
                error = future.exception(30)
                assert isinstance(error, raddle.WorkerDied) or future.result() == number
        assert pool.submit(calls.add, 1, 1).result(30) == 2


PARENT = """
    import os, sys, time
    import calls, raddle

    pool = raddle.Pool("process", 2, preload=["json"])
    gate = calls.Gate(sys.argv[2])
    futures = [pool.submit(gate, n) for n in range(2)]
    gate.wait_entered(2)
    if sys.argv[1] == "idle":
        gate.open()
        for future in futures:
            future.result()
    lane = pool._lane._lane
    print(lane.zygote(), *lane.pids(), flush=True)
    time.sleep(60)
"""


@pytest.mark.parametrize("busy", ["busy", "idle"])
def test_nobody_outlives_a_parent_that_is_killed(script, tmp_path, busy):
    child = script(PARENT).start(busy, tmp_path)
    pids = [int(pid) for pid in child.stdout.readline().split()]
    assert len(pids) == 3, child.communicate()
    assert not any(is_gone(pid) for pid in pids)
    child.kill()
    began = time.monotonic()
    until(lambda: all(is_gone(pid) for pid in pids), "zygote and workers to end", 5)
    assert time.monotonic() - began < 1.5
    child.communicate(timeout=10)


def test_a_zygote_that_loads_does_not_outlive_its_parent(script, tmp_path, modules):
    child = script(f"""
        import sys, raddle
        sys.path.insert(0, {str(modules)!r})
        raddle.Pool("process", 2, preload=["endless"]).submit(abs, 1).result()
    """).start()
    pid = int(until(lambda: read(tmp_path / "loading"), "the zygote to load"))
    child.kill()
    until(lambda: is_gone(pid), "the zygote to end", 5)
    child.communicate(timeout=10)


def test_the_thread_that_started_the_zygote_may_end(gate):
    with raddle.Pool("process", 1, preload=["heavy"]) as pool:
        parents = []
        starter = threading.Thread(target=lambda: parents.append(pool.submit(os.getppid).result(30)))
        starter.start()
        starter.join()
        assert [pool.submit(os.getppid).result(30) for _ in range(3)] == parents * 3


# --- the end ----------------------------------------------------------------------------------------------------------


def test_a_pool_that_is_shut_down_leaves_nobody(gate):
    pool = raddle.Pool("process", 2, preload=["heavy"])
    held = [pool.submit(gate, number) for number in range(2)]
    gate.wait_entered(2)
    pids = [zygote_of(pool), *pids_of(pool)]
    gate.open()
    pool.shutdown()
    assert [future.result(0) for future in held] == [0, 1]
    assert not any(os.path.exists(f"/proc/{pid}") for pid in pids)
    assert zygote_of(pool) is None


def test_a_pool_that_was_never_used_has_no_zygote():
    with raddle.Pool("process", 2, preload=["endless"]) as pool:
        assert zygote_of(pool) is None


def test_a_pool_can_be_shut_down_while_its_zygote_loads(tmp_path):
    pool = raddle.Pool("process", 2, preload=["endless"])
    futures = [pool.submit(calls.identity, number) for number in range(5)]
    pid = int(until(lambda: read(tmp_path / "loading"), "the zygote to load"))
    pool.shutdown(cancel_futures=True)
    assert all(future.cancelled() for future in futures)
    assert not os.path.exists(f"/proc/{pid}")


def test_a_pool_is_ended_at_once_also_when_its_zygote_is_stopped(gate):
    pool = raddle.Pool("process", 2, preload=["heavy"])
    held = pool.submit(gate, 1)
    gate.wait_entered()
    zygote = zygote_of(pool)
    os.kill(zygote, signal.SIGSTOP)
    with pytest.raises(KeyboardInterrupt), pool:
        raise KeyboardInterrupt
    assert isinstance(held.exception(30), raddle.BrokenPool)
    assert not os.path.exists(f"/proc/{zygote}")


def test_ctrl_c_is_not_for_the_zygote(pool):
    zygote = pool.submit(os.getppid).result(30)
    assert os.getpgid(zygote) == zygote
    os.kill(zygote, signal.SIGINT)
    assert isinstance(pool.submit(calls.exit_now, 1).exception(30), raddle.WorkerDied)
    assert pool.submit(os.getppid).result(30) == zygote


def test_a_program_that_is_interrupted_leaves_nobody(script):
    program = script("""
        import time, raddle
        with raddle.Pool("process", 2, preload=["json"]) as pool:
            future = pool.submit(time.sleep, 60)
            pool.submit(abs, 1).result()
            lane = pool._lane._lane
            print(lane.zygote(), *lane.pids(), flush=True)
            future.result()
    """)
    child = program.start()
    pids = [int(pid) for pid in child.stdout.readline().split()]
    until(lambda: "futex" in Path(f"/proc/{child.pid}/wchan").read_text(), "the program to wait")
    os.killpg(child.pid, signal.SIGINT)
    ended = program.finish()
    assert "KeyboardInterrupt" in ended.err
    assert all(is_gone(pid) for pid in pids)


def test_a_forked_child_leaves_the_zygote_alone(script):
    ended = script("""
        import gc, os, raddle, calls
        with raddle.Pool("process", 1, preload=["json"]) as pool:
            zygote = pool.submit(os.getppid).result()
            child = os.fork()
            if child == 0:
                try:
                    pool.submit(abs, 1)
                except RuntimeError as error:
                    print("refused", flush=True)
                del pool
                gc.collect()
                os._exit(0)
            os.waitpid(child, 0)
            assert isinstance(pool.submit(calls.exit_now, 1).exception(), raddle.WorkerDied)
            assert pool.submit(os.getppid).result() == zygote
            again = os.fork()
            if again == 0:
                raise SystemExit  # through the interpreter's end, with everything that is dropped there
            os.waitpid(again, 0)
            assert pool.submit(os.getppid).result() == zygote
        print("done")
    """).run()
    assert (ended.code, ended.out.splitlines()[0], ended.out.splitlines()[-1]) == (0, "refused", "done"), ended
