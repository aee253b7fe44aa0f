"""`Pool.trace`: what became of each call, and when."""

from __future__ import annotations

import itertools
import json
import os
import signal
import threading
import time

import pytest

import calls
import raddle
from calls import until


def spin(seconds):
    """Keeps a worker busy."""
    until = time.perf_counter() + seconds
    while time.perf_counter() < until:
        pass
    return os.getpid(), threading.get_native_id()


def test_a_traced_call_says_who_ran_it_and_when(kind, pool):
    before = time.monotonic()
    with pool.trace() as trace:
        ran_by = [future.result(30) for future in [pool.submit(spin, 0.01) for _ in range(4)]]
    after = time.monotonic()
    found = trace.calls()
    assert [(call.name, call.outcome, call.items) for call in found] == [("spin", "returned", 1)] * 4
    workers = [pid if kind == "process" else thread for pid, thread in ran_by]
    assert sorted(call.worker for call in found) == sorted(workers)
    for call in found:
        assert call.thread == threading.get_native_id()
        moments = [before, call.submitted, call.queued, call.begun, call.ended, call.received, after]
        assert moments == sorted(moments)
        assert call.ended - call.begun > 0.0099
    assert "4 calls" in repr(trace)
    assert len(trace) == 4


def test_calls_of_one_worker_do_not_overlap():
    with raddle.Pool("process", 1) as pool, pool.trace() as trace:
        list(pool.map(spin, [0.001] * 30))
    spans = sorted((call.begun, call.ended) for call in trace.calls())
    assert all(ended <= begun for (_, ended), (begun, _) in itertools.pairwise(spans))


def test_every_end_is_named(kind, pool, gate):
    with pool.trace() as trace:
        held = [pool.submit(gate) for _ in range(2)]
        gate.wait_entered(2)
        cancelled = pool.submit(calls.identity, 1)
        assert cancelled.cancel()
        gate.open()
        assert [future.result(30) for future in held]
        assert pool.submit(calls.fail).exception(30)
        if kind == "process":
            assert isinstance(pool.submit(calls.kill_itself).exception(30), raddle.WorkerDied)
            gone = pool.submit(time.sleep, 60)
            until(gone.running, "the call to begin")
            assert gone.cancel()
            late = pool.options(timeout=0.2).submit(time.sleep, 60)
            assert isinstance(late.exception(30), raddle.CallTimeout)
            assert pool.submit(calls.identity, threading.Lock()).exception(30)
            lock = threading.Lock()
            assert pool.submit(lambda: lock).exception(30)
    expected = [
        ("identity", "cancelled", False),
        ("Gate", "returned", True),
        ("Gate", "returned", True),
        ("fail", "raised", True),
    ]
    if kind == "process":
        expected += [("kill_itself", "died", True), ("sleep", "cancelled", True), ("sleep", "timeout", True)]
        expected += [("identity", "unsent", False)]
        expected += [("test_every_end_is_named.<locals>.<lambda>", "unsent", False)]
    assert [(call.name, call.outcome, call.begun is not None) for call in trace.calls()] == expected


def test_the_items_of_batches_add_up(pool):
    with pool.trace() as trace:
        assert list(pool.map(calls.identity, range(20_000))) == list(range(20_000))
    found = trace.calls()
    assert sum(call.items for call in found) == 20_000
    assert max(call.items for call in found) > 1, "cheap calls travel in batches"


def test_a_batch_that_raises_is_traced_as_far_as_it_came(pool):
    with pool.trace() as trace:
        with pytest.raises(calls.Mishap):
            for _ in pool.map(calls.mishap_at_5000, range(20_000)):
                pass
        until(lambda: pool.statistics().pending == 0, "what the other worker has begun to end")
    found = trace.calls()
    (raised,) = [call for call in found if call.outcome == "raised"]
    assert {call.outcome for call in found} <= {"returned", "raised", "cancelled"}
    # The items behind it were handed in with it, and nobody has begun them.
    behind = found[found.index(raised) + 1]
    assert (behind.outcome, behind.worker, behind.begun, behind.ended) == ("cancelled", None, None, None)
    assert (behind.submitted, behind.queued) == (raised.submitted, raised.queued)
    numbers = pool.statistics()
    assert sum(call.items for call in found if call.outcome == "cancelled") == numbers.cancelled
    assert sum(call.items for call in found) == numbers.submitted


def test_who_has_run_a_call_that_was_killed_and_since_when(tmp_path):
    ends = {}
    before = time.monotonic()
    with raddle.Pool("process", 1) as pool, pool.trace(tmp_path / "trace.json") as trace:
        ends["timeout"] = pool.options(timeout=0.3).submit(calls.ignore_and_sleep).exception(30)
        ends["died"] = pool.submit(calls.kill_itself).exception(30)
        gone = pool.submit(calls.touch_and_sleep, tmp_path / "pid")
        pid = int(until(lambda: (tmp_path / "pid").exists() and (tmp_path / "pid").read_text()))
        assert gone.cancel()
    found = {call.outcome: call for call in trace.calls()}
    assert list(found) == ["timeout", "died", "cancelled"]
    assert [call.worker for call in found.values()] == [ends["timeout"].pid, ends["died"].pid, pid]
    for call in found.values():
        moments = [before, call.submitted, call.queued, call.begun, call.ended, call.received, time.monotonic()]
        assert moments == sorted(moments)
    assert found["timeout"].ended - found["timeout"].begun > 1, "it was asked to end, and a second later it had to"
    ran = runs(json.loads((tmp_path / "trace.json").read_text()))
    assert [(event["args"]["outcome"], event["pid"]) for event in ran] == [
        (k, call.worker) for k, call in found.items()
    ]


def test_a_batch_that_dies_has_a_row():
    with raddle.Pool("process", 1) as pool, pool.trace() as trace, pytest.raises(raddle.WorkerDied):
        for _ in pool.map(kill_at_5000, range(20_000)):
            pass
    (died,) = [call for call in trace.calls() if call.outcome == "died"]
    assert died.worker
    assert died.begun < died.ended <= died.received


def kill_at_5000(number):
    if number == 5000:
        os.kill(os.getpid(), signal.SIGKILL)
    return number


def test_what_runs_when_its_pool_is_killed_has_a_row(tmp_path):
    with pytest.raises(KeyboardInterrupt), raddle.Pool("process", 1) as pool, pool.trace() as trace:
        running = pool.submit(calls.touch_and_sleep, tmp_path / "pid")
        waiting = pool.submit(calls.identity, 1)
        pid = int(until(lambda: (tmp_path / "pid").exists() and (tmp_path / "pid").read_text()))
        raise KeyboardInterrupt
    assert running.exception(30)
    assert waiting.exception(30)
    rows = [(call.name, call.outcome, call.worker, call.begun is not None) for call in trace.calls()]
    assert rows == [("touch_and_sleep", "broken", pid, True), ("identity", "broken", None, False)]


def test_a_worker_that_died_before_it_said_when_it_began_is_named_all_the_same(pool, tmp_path):
    trace = pool.trace()
    with trace:
        pool.submit(calls.identity).result(30)
    known = trace.calls()[0]
    trace._calls = lambda count: iter([known._replace(begun=None, outcome="died")])
    trace.save(tmp_path / "trace.json")
    (event,) = runs(json.loads((tmp_path / "trace.json").read_text()))
    assert (event["dur"], event["args"]["waited_ms"], event["args"]["outcome"]) == (0, "not known", "died")


@pytest.mark.parametrize("there_was", [True, False])
def test_what_interrupts_the_writing_leaves_the_file_as_it_was(pool, tmp_path, there_was):
    path = tmp_path / "trace.json"
    if there_was:
        path.write_text("precious")
        path.chmod(0o640)
    with pool.trace() as trace:
        pool.submit(calls.identity).result(30)

    def interrupted(count):
        raise KeyboardInterrupt

    write, trace._counters = trace._counters, interrupted
    with pytest.raises(KeyboardInterrupt):
        trace.save(path)
    assert os.listdir(tmp_path) == (["trace.json"] if there_was else [])
    assert not there_was or path.read_text() == "precious"
    trace._counters = write
    trace.save(path)
    assert len(runs(json.loads(path.read_text()))) == 1
    assert os.listdir(tmp_path) == ["trace.json"]
    assert not there_was or path.stat().st_mode & 0o777 == 0o640


def test_links_and_what_is_no_file_stay_what_they_are(pool, tmp_path):
    (tmp_path / "there.json").touch()
    (tmp_path / "link.json").symlink_to("there.json")
    os.mkfifo(tmp_path / "pipe")
    heard = []
    reader = threading.Thread(target=lambda: heard.append((tmp_path / "pipe").read_text()))
    reader.start()
    with pool.trace(tmp_path / "link.json") as trace:
        pool.submit(calls.identity).result(30)
    trace.save(tmp_path / "pipe")
    reader.join(30)
    assert (tmp_path / "link.json").is_symlink()
    assert (tmp_path / "there.json").read_text() == heard[0]


def test_a_file_whose_folder_is_closed_is_written_to(pool, tmp_path, monkeypatch):
    def refuse(source, target):
        raise PermissionError

    monkeypatch.setattr(os, "replace", refuse)
    with pool.trace(tmp_path / "trace.json"):
        pool.submit(calls.identity).result(30)
    assert len(runs(json.loads((tmp_path / "trace.json").read_text()))) == 1
    assert os.listdir(tmp_path) == ["trace.json"]


@pytest.mark.parametrize("size", [0, 100, 40_000, 5_000_000])
def test_results_of_every_size_are_the_same_when_they_are_traced(size):
    with raddle.Pool("process", 1) as pool, pool.trace() as trace:
        assert pool.submit(calls.make_bytes, size).result(30) == calls.make_bytes(size)
        assert pool.submit(calls.length, b"x" * size).result(30) == size
    assert len(trace) == 2


def test_a_name_that_was_given_is_the_name_of_the_call():
    with raddle.Pool("process", 1) as pool, pool.trace() as trace:
        pool.options(name="fit 7").submit(calls.identity).result(30)
        list(pool.map(calls.identity, range(3), name="score"))
        pool.submit(lambda: 1).result(30)
    names = [call.name for call in trace.calls()]
    assert names[:4] == ["fit 7", "score", "score", "score"]
    assert "<lambda>" in names[4]


def test_a_call_that_runs_again_is_one_call(tmp_path):
    with raddle.Pool("process", 1) as pool, pool.trace() as trace:
        assert pool.options(retries=3).submit(calls.die_until, tmp_path / "log", 3).result(30)
    assert [(call.name, call.outcome) for call in trace.calls()] == [("die_until", "returned")]


def test_calls_from_before_and_after_are_not_in_it(pool, gate):
    held = pool.submit(gate)
    gate.wait_entered()
    with pool.trace() as trace:
        pool.submit(calls.add, 1, 1).result(30)
        gate.open()
        held.result(30)
    pool.submit(calls.add, 2, 2).result(30)
    assert [call.name for call in trace.calls()] == ["add"]


def test_a_call_that_ends_after_the_block_is_in_the_trace_but_not_in_its_file(pool, gate, tmp_path):
    with pool.trace(tmp_path / "trace.json") as trace:
        held = pool.submit(gate)
        gate.wait_entered()
    assert runs(json.loads((tmp_path / "trace.json").read_text())) == []
    gate.open()
    held.result(30)
    until(lambda: len(trace) == 1, "the call to be entered")


def test_there_is_room_for_so_many(pool):
    with pool.trace(most=3) as trace:
        for number in range(5):
            pool.submit(calls.identity, number).result(30)
    assert (len(trace.calls()), trace.left_out) == (3, 2)


def test_a_pool_is_traced_once_at_a_time(pool):
    with pool.trace():
        with pytest.raises(RuntimeError, match="traced already\n  hint: "), pool.trace():
            pass
        pool.submit(calls.identity).result(30)
    with pool.trace() as trace:
        pool.submit(calls.identity).result(30)
    assert len(trace) == 1


def test_more_room_than_there_is_is_refused(pool):
    with pytest.raises(ValueError, match=r"most must be less than 2\*\*63, not 0x10000000000000000"):
        pool.trace(most=1 << 64)


@pytest.mark.parametrize("most", [0, -1])
def test_room_for_none_is_refused(pool, most):
    with pytest.raises(ValueError, match=f"most must be at least 1, not {most}"):
        pool.trace(most=most)


def test_a_file_that_cannot_be_written_is_named_before_the_work(pool, tmp_path):
    with pytest.raises(FileNotFoundError, match="nowhere"), pool.trace(tmp_path / "nowhere" / "trace.json"):
        raise AssertionError("the block does not begin")
    with pool.trace():
        pass  # and the pool is as it was


def test_the_file_is_written_when_the_block_is_left_by_an_exception(pool, tmp_path):
    with pytest.raises(ZeroDivisionError), pool.trace(tmp_path / "trace.json"):
        pool.submit(calls.identity).result(30)
        raise ZeroDivisionError
    assert len(runs(json.loads((tmp_path / "trace.json").read_text()))) == 1


def test_a_pool_of_a_parent_is_not_traced_by_its_fork(pool):
    child = os.fork()
    if child == 0:
        try:
            pool.trace().__enter__()
        except RuntimeError as error:
            os._exit(0 if "fork" in str(error) else 1)
        finally:
            os._exit(2)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


def test_tracing_goes_on_while_workers_are_killed(tmp_path):
    with raddle.Pool("process", 2) as pool, pool.trace(tmp_path / "trace.json") as trace:
        futures = [pool.submit(calls.nap_and_pid, 0.005) for _ in range(200)]
        for _ in range(5):
            time.sleep(0.02)
            busy = [worker.pid for worker in pool.statistics().per_worker if worker.state == "busy"]
            if busy:
                os.kill(busy[0], signal.SIGKILL)
        outcomes = ["died" if future.exception(30) else "returned" for future in futures]
    assert sorted(call.outcome for call in trace.calls()) == sorted(outcomes)
    json.loads((tmp_path / "trace.json").read_text())


def runs(trace):
    return [event for event in trace["traceEvents"] if event["ph"] == "X" and event["cat"] == "run"]


def test_the_file_is_what_viewers_open(kind, tmp_path):
    with raddle.Pool(kind, 2, name="mill") as pool, pool.trace(tmp_path / "trace.json") as trace:
        threads = [threading.Thread(target=lambda: list(pool.map(spin, [0.001] * 10)), name="feeder") for _ in range(2)]
        [thread.start() for thread in threads]
        [thread.join() for thread in threads]
        pool.submit(calls.fail).exception(30)
    written = json.loads((tmp_path / "trace.json").read_text())
    events = written["traceEvents"]
    assert written["otherData"] == {"writer": "raddle", "version": 1, "pool": "mill", "kind": kind, "left_out": 0}
    assert {event["ph"] for event in events} == {"M", "X", "s", "f", "C"}
    assert all(event["dur"] >= 0 for event in events if event["ph"] == "X")
    ran = runs(written)
    assert len(ran) == 21
    assert [event["args"]["outcome"] for event in ran].count("raised") == 1
    assert {(event["pid"], event["tid"]) for event in ran} == {
        (call.worker if kind == "process" else os.getpid(), call.worker) for call in trace.calls()
    }
    # Each arrow begins where a call was handed in, and ends at the beginning of its run.
    arrows = [{event["id"]: event for event in events if event["ph"] == phase} for phase in "sf"]
    assert arrows[0].keys() == arrows[1].keys()
    assert len(arrows[0]) == 21
    assert all(arrows[0][key]["ts"] <= arrows[1][key]["ts"] for key in arrows[0])
    assert {event["ts"] for event in ran} == {event["ts"] for event in arrows[1].values()}
    # The counters come back to nothing.
    counters = [event["args"] for event in events if event["ph"] == "C"]
    assert counters[-1] == {"waiting": 0, "running": 0}
    assert max(counter["running"] for counter in counters) <= 2
    names = [event["args"]["name"] for event in events if event["ph"] == "M"]
    assert "program, with pool 'mill'" in names
    assert any("worker of 'mill'" in name or name.startswith("mill_") for name in names)


def test_ctrl_c_ends_workers_and_writes_no_file(tmp_path):
    path = tmp_path / "trace.json"
    began = time.monotonic()
    with pytest.raises(KeyboardInterrupt), raddle.Pool("process", 1) as pool, pool.trace(path) as trace:
        pool.submit(calls.identity).result(30)
        pool.submit(time.sleep, 60)
        raise KeyboardInterrupt
    assert time.monotonic() - began < 30
    assert path.read_text() == ""
    trace.save(path)
    assert "identity" in path.read_text()


def test_what_the_block_raises_goes_before_what_its_file_does(pool, tmp_path):
    folder = tmp_path / "folder"
    folder.mkdir()
    with pytest.raises(ZeroDivisionError) as caught, pool.trace(folder / "trace.json"):
        (folder / "trace.json").unlink()
        folder.rmdir()
        raise ZeroDivisionError
    assert "could not be written" in caught.value.__notes__[0]
    folder.mkdir()
    with pytest.raises(FileNotFoundError), pool.trace(folder / "trace.json"):
        (folder / "trace.json").unlink()
        folder.rmdir()


def test_a_file_is_left_alone_where_no_trace_begins(pool, tmp_path):
    (tmp_path / "old.json").write_text("precious")
    with pool.trace(), pytest.raises(RuntimeError), pool.trace(tmp_path / "old.json"):
        pass
    assert (tmp_path / "old.json").read_text() == "precious"


def test_an_end_too_many_ends_nobody_elses_trace(pool):
    first = pool.trace()
    with first:
        pass
    with pool.trace() as second:
        first.__exit__(None, None, None)
        pool.submit(calls.identity).result(30)
    assert (len(first), len(second)) == (0, 1)


def test_the_file_is_where_it_was_named(pool, tmp_path, monkeypatch):
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path)
    with pool.trace("trace.json"):
        monkeypatch.chdir(tmp_path / "elsewhere")
    assert (tmp_path / "trace.json").read_text()
    assert not os.listdir(tmp_path / "elsewhere")


def test_threads_that_have_ended_have_rows_of_the_program(tmp_path):
    with raddle.Pool("process", 1) as pool, pool.trace(tmp_path / "trace.json") as trace:
        thread = threading.Thread(target=lambda: pool.submit(calls.identity).result(30))
        thread.start()
        thread.join()
    events = json.loads((tmp_path / "trace.json").read_text())["traceEvents"]
    workers = [
        event["pid"] for event in events if event["name"] == "process_name" and "worker" in event["args"]["name"]
    ]
    assert workers == [trace.calls()[0].worker]
    named = {event["tid"]: event["pid"] for event in events if event["name"] == "thread_name"}
    assert named[trace.calls()[0].thread] == os.getpid()


def test_odd_names_are_names(tmp_path):
    with raddle.Pool("process", 1) as pool, pool.trace(tmp_path / "trace.json") as trace:
        pool.options(name="caf\udce9").submit(calls.identity).result(30)
    assert trace.calls()[0].name.startswith("caf")
    json.loads((tmp_path / "trace.json").read_text())
