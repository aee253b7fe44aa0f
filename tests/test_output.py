"""What workers print and log, and their warnings: it reaches the parent, in order, and says where it comes from."""

from __future__ import annotations

import io
import logging
import os
import re
import signal
import subprocess
import sys
import threading
import warnings

import pytest

import calls
import raddle


def speak(number):
    print("out", number)
    print("err", number, file=sys.stderr)
    return number


def log(number):
    logging.getLogger("a.b").info("logged %d", number)
    return number


def warn(_):
    warnings.warn("careful", RuntimeWarning, stacklevel=1)


@pytest.fixture
def lines():
    return []


@pytest.fixture
def listening(lines):
    with raddle.Pool("process", 2, output=lines.append) as pool:
        yield pool


def test_lines_come_with_the_call_and_the_process_in_front(capsys):
    with raddle.Pool("process", 1) as pool:
        pid = pool.submit(os.getpid).result(20)
        pool.submit(speak, 7).result(20)
        shown = capsys.readouterr()
        assert shown.out == f"[speak {pid}] out 7\n"
        assert shown.err == f"[speak {pid}] err 7\n"


def test_or_plain(capsys):
    with raddle.Pool("process", 1, output="plain") as pool:
        assert list(pool.map(speak, range(3))) == [0, 1, 2]
    shown = capsys.readouterr()
    assert shown.out == "out 0\nout 1\nout 2\n"
    assert shown.err == "err 0\nerr 1\nerr 2\n"


def test_or_to_a_function(listening, lines):
    pid = listening.submit(calls.nap_and_pid, 0).result(20)
    assert listening.submit(speak, 1).result(20) == 1
    line = lines[0]
    assert (line.text, line.stream, line.call) == ("out 1\n", "stdout", "speak")
    assert re.fullmatch(rf"\[speak {line.pid}\] out 1\n", str(line))
    assert isinstance(line, raddle.OutputLine)
    assert pid > 0


def test_or_where_it_would_go_anyway(script):
    ended = script(
        """
        import raddle, subprocess
        with raddle.Pool("process", 1, output="inherit") as pool:
            pool.submit(print, "from the worker").result()
        """
    ).run()
    assert (ended.out, ended.err) == ("from the worker\n", "")


def test_what_was_printed_is_there_when_the_call_has_ended(listening, lines):
    for number in range(300):
        assert listening.submit(speak, number).result(20) == number
        assert [line.text for line in lines[-2:]] == [f"out {number}\n", f"err {number}\n"]


def test_as_seen_by_map_as_completed_and_callbacks_too(listening, lines):
    for number in listening.map(speak, range(50)):
        assert f"out {number}\n" in [line.text for line in lines]
    seen = []

    def look(future):
        seen.append(any(line.text == f"out {future.result()}\n" for line in lines))

    futures = [listening.submit(speak, number) for number in range(100, 120)]
    for future in futures:
        future.add_done_callback(look)
    for future in listening.as_completed(futures):
        assert f"out {future.result()}\n" in [line.text for line in lines]
    calls.until(lambda: len(seen) == 20, "the callbacks")
    assert all(seen)


def print_many(count):
    for number in range(count):
        print(number, "x" * 60)


def test_much_more_than_a_ring_holds_arrives_in_order(listening, lines):
    assert listening.submit(print_many, 20_000).exception(60) is None
    assert [int(line.text.split()[0]) for line in lines] == list(range(20_000))


def test_a_call_that_still_runs_is_heard(gate, lines):
    with raddle.Pool("process", 1, output=lines.append) as pool:
        future = pool.submit(say_and_wait, gate)
        calls.until(lambda: lines, "the line of a call that runs")
        assert not future.done()
        gate.open()
        future.result(20)
    assert [line.text for line in lines] == ["before\n", "after\n"]


def say_and_wait(gate):
    print("before")
    gate()
    print("after")


def shout(count):
    def one(name):
        for number in range(count):
            print(name, number, "y" * 300)

    threads = [threading.Thread(target=one, args=(name,)) for name in "abc"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def test_any_thread_of_a_worker_may_print(listening, lines):
    assert listening.submit(shout, 1500).exception(60) is None
    spoken = {}
    for line in lines:
        name, number, rest = line.text.split()
        assert rest == "y" * 300
        spoken.setdefault(name, []).append(int(number))
    assert spoken == {name: list(range(1500)) for name in "abc"}


def test_an_unfinished_line_is_shown_when_nothing_more_comes(lines):
    with raddle.Pool("process", 1, output=lines.append) as pool:
        pool.submit(print, "no end", end="").result(20)
    assert [line.text for line in lines] == ["no end\n"]


def test_bytes_and_long_lines_arrive_whole(listening, lines):
    assert listening.submit(write_bytes).exception(20) is None
    assert [line.text for line in lines] == ["grüße " * 20_000 + "\n", "raw �\n"]


def write_bytes():
    print("grüße " * 20_000)
    sys.stdout.buffer.write(b"raw \xff\n")
    sys.stdout.buffer.flush()


def test_a_process_that_a_worker_forks_off_writes_where_it_did_before(script):
    ended = script(
        """
        import os, raddle, subprocess, sys
        def fork():
            print("worker")
            pid = os.fork()
            if pid == 0:
                print("child", flush=True)
                os._exit(0)
            os.waitpid(pid, 0)
            subprocess.run([sys.executable, "-c", "print('program')"], stdout=sys.stdout, check=True)
        with raddle.Pool("process", 1, output="plain") as pool:
            pool.submit(fork).result(20)
        """
    ).run()
    assert sorted(ended.out.split()) == ["child", "program", "worker"]
    assert ended.err == ""


def test_a_worker_that_dies_has_said_what_it_said(lines):
    with raddle.Pool("process", 1, output=lines.append) as pool:
        error = pool.submit(speak_and_die).exception(20)
    assert isinstance(error, raddle.WorkerDied)
    assert [line.text for line in lines] == [f"line {number}\n" for number in range(50)]
    assert error.output == "\n".join(f"line {number}" for number in range(40, 50))
    assert "the last lines that it has printed:\nline 40\n" in error.__notes__[0]


def speak_and_die():
    for number in range(50):
        print("line", number)
    os.kill(os.getpid(), signal.SIGKILL)


def test_log_records_go_through_the_handlers_of_the_parent():
    text = io.StringIO()
    handler = logging.StreamHandler(text)
    handler.setFormatter(logging.Formatter("%(levelname)s %(name)s %(call)s %(message)s"))
    logger = logging.getLogger("a")
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    try:
        with raddle.Pool("process", 2) as pool:
            assert [pool.submit(log, number).result(20) for number in range(3)] == [0, 1, 2]
            assert text.getvalue() == "".join(f"INFO a.b log logged {number}\n" for number in range(3))
            pool.submit(log_failure).result(20)
            assert "ValueError: invalid literal" in text.getvalue()
    finally:
        logger.removeHandler(handler)
        logger.setLevel(logging.NOTSET)


def log_failure():
    try:
        int("no number")
    except ValueError:
        logging.getLogger("a").exception("it failed", extra={"cannot": threading.Lock()})


def test_what_the_parent_does_not_log_its_workers_do_not_send(caplog):
    with raddle.Pool("process", 1) as pool:
        pool.submit(log, 1).result(20)  # INFO, and the root logs warnings
    assert caplog.records == []


def test_a_warning_of_many_workers_is_shown_once():
    with raddle.Pool("process", 2) as pool, warnings.catch_warnings(record=True) as shown:
        warnings.simplefilter("always")
        list(pool.map(warn, range(20), window=2))
    assert [(str(one.message), one.category) for one in shown] == [("careful", RuntimeWarning)]


def test_a_stream_that_cannot_be_written_costs_no_result(monkeypatch):
    closed = io.StringIO()
    closed.close()
    monkeypatch.setattr(sys, "stdout", closed)
    with raddle.Pool("process", 1) as pool:
        assert pool.submit(speak, 3).result(20) == 3


def test_a_function_that_raises_is_reported_and_costs_no_result(monkeypatch):
    reported = []
    monkeypatch.setattr(sys, "unraisablehook", reported.append)

    def refuse(line):
        raise LookupError(line.text)

    with raddle.Pool("process", 1, output=refuse) as pool:
        assert pool.submit(print, "x").result(20) is None
    assert [str(one.exc_value) for one in reported] == ["x\n"]


def test_a_stream_may_use_the_pool_itself(lines):
    def echo(line):
        lines.append((line.text, pool.submit(abs, -5).result(20)))

    with raddle.Pool("process", 2, output=echo) as pool:
        pool.submit(print, "x").result(20)
    assert lines == [("x\n", 5)]


def test_ctrl_c_while_much_is_printed_reaches_the_caller(script):
    source = """
        import raddle
        def talk():
            while True: print("word " * 20)
        with raddle.Pool("process", 2) as pool:
            futures = [pool.submit(talk) for _ in range(2)]
            for future in futures: future.result()
        """
    one = script(source)
    child = one.start()
    for _ in range(50):
        assert child.stdout.readline().startswith("[talk ")
    child.send_signal(signal.SIGINT)
    ended = one.finish()
    assert ended.code == -signal.SIGINT
    assert "KeyboardInterrupt" in ended.err


def test_nonsense_is_refused():
    with pytest.raises(ValueError, match="output must be 'attributed', 'plain', 'inherit' or a function"):
        raddle.Pool("process", 1, output="loud")
    with pytest.raises(NotImplementedError, match="threads print where the program prints"):
        raddle.Pool("thread", 1, output="plain")


def test_a_program_that_ends_without_shutdown_has_shown_everything(script):
    ended = script(
        """
        import raddle
        pool = raddle.Pool("process", 1)
        pool.submit(print, "the last words")
        """
    ).run()
    assert re.fullmatch(r"\[print \d+\] the last words\n", ended.out)


def test_a_pipe_that_is_closed_ends_nothing(tmp_path):
    path = tmp_path / "talker.py"
    path.write_text(
        "import raddle\nwith raddle.Pool('process', 1) as pool:\n"
        "    for _ in pool.map(print, range(5000)): pass\n    import sys; print('done', file=sys.stderr)\n"
    )
    talker = subprocess.Popen([sys.executable, path], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    talker.stdout.readline()
    talker.stdout.close()
    err = talker.stderr.read()
    talker.stderr.close()
    talker.wait(30)
    assert "done" in err


def test_a_function_that_waits_for_whoever_waits_for_it_delays_and_does_not_hang():
    lock = threading.RLock()

    def collect(line):
        with lock:
            pass

    with raddle.Pool("process", 1, output=collect) as pool:
        with lock:
            for number in range(3):
                assert pool.submit(speak, number).result(20) == number


def test_a_stream_that_blocks_does_not_keep_a_deadline_from_being_kept(gate):
    blocked = threading.Event()

    def block(line):
        blocked.set()
        gate()

    with raddle.Pool("process", 1, output=block) as pool:
        pool.submit(print, "x")
        assert blocked.wait(20)
        late = pool.options(timeout=0.1).submit(calls.nap_and_pid, 60)
        calls.until(late.done, "the deadline")
        gate.open()
        assert isinstance(late.exception(20), raddle.CallTimeout)


def test_what_the_stream_cannot_encode_is_escaped(script, monkeypatch):
    monkeypatch.setenv("PYTHONIOENCODING", "ascii")
    ended = script(
        """
        import raddle
        with raddle.Pool("process", 1, output="plain") as pool:
            pool.submit(print, "caf\u00e9").result(20)
        """
    ).run()
    assert (ended.out, ended.err) == ("caf\\xe9\n", "")


def test_a_function_that_fails_for_one_line_is_called_for_the_next(monkeypatch, lines):
    reported = []
    monkeypatch.setattr(sys, "unraisablehook", lambda one: reported.append(type(one.exc_value)))

    def fail_once(line):
        lines.append(line.text)
        if len(lines) == 1:
            raise SystemExit
        if len(lines) == 2:
            raise ValueError(line.text)

    with raddle.Pool("process", 1, output=fail_once) as pool:
        pool.submit(print, "one")
        calls.until(lambda: lines, "the first line")
        for text in ("two", "three"):
            pool.submit(print, text)
        calls.until(lambda: len(lines) == 3, "the other lines")
    assert lines == ["one\n", "two\n", "three\n"]
    assert reported == [SystemExit, ValueError]


def test_a_hook_for_an_import_waits_until_the_module_is_loaded(tmp_path, monkeypatch):
    import importlib.util

    import raddle_boot

    (tmp_path / "hooked_one.py").write_text(
        "import os\nif not os.path.exists(__file__ + '.ready'): raise ValueError('not yet')"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    seen = []
    raddle_boot.when_imported("hooked_one", seen.append)
    assert importlib.util.find_spec("hooked_one") is not None
    with pytest.raises(ValueError, match="not yet"):
        import hooked_one
    assert seen == []
    (tmp_path / "hooked_one.py.ready").touch()
    import hooked_one

    assert seen == [hooked_one]
    raddle_boot.when_imported("hooked_one", seen.append)
    assert seen == [hooked_one, hooked_one]
