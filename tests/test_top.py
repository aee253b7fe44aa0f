"""`raddle top` shows live what the threads of another process do, and leaves the terminal as it was, however it ends."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap

import pytest

from terminals import Terminal

DEADLOCK = """
    import threading

    accounts, ledger = threading.Lock(), threading.Lock()
    both = threading.Barrier(2)

    def first():
        with accounts:
            both.wait()
            with ledger:
                pass

    def second():
        with ledger:
            both.wait()
            with accounts:
                pass

    alpha = threading.Thread(target=first, name="alpha")
    beta = threading.Thread(target=second, name="beta")
    alpha.start()
    beta.start()
    print("ready", flush=True)
    alpha.join()
"""

BUSY = """
    import threading

    def crunch():
        while True:
            sum(range(1000))

    for number in range(3):
        threading.Thread(target=crunch, name=f"worker-{number}", daemon=True).start()
    print("ready", flush=True)
    input()
"""

TASKS = """
    import asyncio

    async def wait_for(others):
        await others[0]

    async def main():
        others = []
        first = asyncio.create_task(wait_for(others), name="first")
        second = asyncio.create_task(wait_for([first]), name="second")
        others.append(second)
        print("ready", flush=True)
        await asyncio.sleep(1000)

    asyncio.run(main())
"""

UP, DOWN = "\x1b[A", "\x1b[B"


@pytest.fixture
def start(tmp_path):
    """Starts programs that say "ready", and ends them with the test."""
    started = []

    def start(source):
        script = tmp_path / f"program{len(started)}.py"
        script.write_text(textwrap.dedent(source))
        program = subprocess.Popen(
            [sys.executable, script.name], cwd=tmp_path, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        started.append(program)
        assert program.stdout.readline() == "ready\n"
        return program

    yield start
    for program in started:
        program.kill()
        program.wait()
        program.stdin.close()
        program.stdout.close()


@pytest.fixture
def top(tmp_path):
    """Starts `raddle top` in a terminal, and ends it with the test."""
    opened = []

    def top(pid, *options, interval=0.1, **settings):
        command = [sys.executable, "-m", "raddle", "top", str(pid), "--interval", str(interval), *options]
        opened.append(Terminal(command, cwd=tmp_path, **settings))
        return opened[-1]

    yield top
    for terminal in opened:
        terminal.close()


def leave(terminal):
    terminal.press("q")
    assert terminal.end() == 0
    assert terminal.is_as_before()


def test_a_deadlock_is_told_and_who_waits_for_whom(start, top):
    program = start(DEADLOCK)
    terminal = top(program.pid)
    text = terminal.wait_for("deadlock: ", "!alpha", "!beta", "held by", "2 blocked")
    assert "Lock 'ledger'" in text
    assert "Lock 'accounts'" in text
    row = next(line for line in text.splitlines() if "!alpha" in line)
    assert "blocked" in row
    assert "Lock 'ledger', held by" in row
    leave(terminal)
    assert program.poll() is None


def test_a_busy_program_shows_who_runs_and_who_waits_for_the_gil(start, top):
    terminal = top(start(BUSY).pid, columns=120)
    terminal.wait_for("worker-0", "worker-2", "GIL held 100 %")
    terminal.press("n")
    text = terminal.wait_for("by name", "█", "▒")
    rows = [line.split()[0] for line in text.splitlines() if "worker-" in line]
    assert rows == ["worker-0", "worker-1", "worker-2"]
    leave(terminal)


def test_enter_shows_the_stack_and_escape_closes_it(start, top):
    terminal = top(start(DEADLOCK).pid)
    terminal.wait_for("!alpha")
    terminal.press("n" + DOWN * 2 + "\r")
    terminal.wait_for('"alpha"', "(taken program0.py:", "program0.py:10  first", "holds Lock 'accounts'")
    terminal.press("\x1b")
    terminal.wait_for("!alpha", without=["holds Lock"])
    leave(terminal)


def test_a_filter_keeps_what_contains_it(start, top):
    terminal = top(start(BUSY).pid)
    terminal.wait_for("worker-0", "worker-2", "MainThread")
    terminal.press("/r-1")
    terminal.wait_for("worker-1", "/r-1", without=["worker-0", "worker-2", "MainThread"])
    terminal.press("\r")
    terminal.wait_for("worker-1", "q quit", without=["worker-0"])
    terminal.press("\x1b")
    terminal.wait_for("worker-0", without=["/r-1"])
    leave(terminal)


def test_the_tab_of_locks_and_that_of_tasks(start, top):
    terminal = top(start(DEADLOCK).pid)
    terminal.wait_for("Locks ", "!alpha")
    terminal.press("\t")
    text = terminal.wait_for("HELD BY", "Lock 'ledger'")
    assert '"beta"' in next(line for line in text.splitlines() if "Lock 'ledger'" in line and "waits" not in line)
    terminal.press("\t")
    terminal.wait_for("no task of asyncio is seen")
    leave(terminal)
    terminal = top(start(TASKS).pid)
    terminal.wait_for("deadlock: tasks await each other", "Tasks 3")
    terminal.press("\t\t")
    terminal.wait_for("AWAITS", "!first", "!second")
    leave(terminal)


def test_frozen_nothing_moves(start, top):
    program = start(BUSY)
    terminal = top(program.pid)
    terminal.wait_for("worker-0")
    terminal.press(" ")
    frozen = terminal.wait_for("frozen")
    program.stdin.write("\n")
    program.stdin.flush()
    program.wait()
    terminal.press(DOWN + UP)
    while terminal.read(0.5):
        pass
    assert "worker-0" in terminal.text
    assert "has ended" not in frozen + terminal.text
    terminal.press(" ")
    terminal.wait_for("has ended", without=["frozen"])
    leave(terminal)


def test_the_end_is_said_and_what_was_seen_last_stays(start, top):
    program = start(DEADLOCK)
    terminal = top(program.pid)
    terminal.wait_for("!alpha")
    program.kill()
    program.wait()
    terminal.wait_for(f"process {program.pid} has ended", "alpha")
    leave(terminal)


def test_until_end_leaves_when_it_has_ended(start, top):
    program = start(BUSY)
    terminal = top(program.pid, "--until-end")
    terminal.wait_for("worker-0")
    program.stdin.write("\n")
    program.stdin.flush()
    assert program.wait() == 0
    assert terminal.end() == 0
    assert terminal.is_as_before()
    assert f"process {program.pid} has ended" in terminal.text


def test_children_are_shown_under_the_one_that_has_started_them(start, top):
    program = start("""
        import subprocess, sys
        code = "import time; time.sleep(1000)"
        child = subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.DEVNULL)
        print("ready", flush=True)
        input()
        child.kill()
        child.wait()
    """)
    terminal = top(program.pid, columns=120)
    text = terminal.wait_for("2 processes", "sleeping")
    rows = [line for line in text.splitlines() if "MainThread" in line]
    assert len(rows) == 2
    assert len(rows[1]) - len(rows[1].lstrip()) > len(rows[0]) - len(rows[0].lstrip())
    terminal.press("t")
    terminal.wait_for("MainThread", without=["1 thread, CPython"])
    leave(terminal)
    program.stdin.write("\n")
    program.stdin.flush()
    assert program.wait() == 0


def test_a_dump_is_written_to_a_file_that_is_not_there_yet(start, top, tmp_path):
    program = start(DEADLOCK)
    (tmp_path / f"raddle-{program.pid}-1.txt").write_text("mine")
    terminal = top(program.pid)
    terminal.wait_for("!alpha")
    terminal.press("d")
    terminal.wait_for(f"written to raddle-{program.pid}-2.txt")
    leave(terminal)
    assert (tmp_path / f"raddle-{program.pid}-1.txt").read_text() == "mine"
    assert "deadlock: 2 threads wait for each other" in (tmp_path / f"raddle-{program.pid}-2.txt").read_text()


def test_another_size_is_drawn_at_once(start, top):
    terminal = top(start(DEADLOCK).pid, interval=1000)
    terminal.wait_for("!alpha", "q quit")
    terminal.resize(160, 40)
    text = terminal.wait_for("WAITS FOR", "PLACE", "? help")
    assert "q quit" in text.splitlines()[39]
    terminal.resize(40, 12)
    terminal.wait_for("q quit", "NAME")
    leave(terminal)


def test_ctrl_c_leaves_the_terminal_as_it_was(start, top):
    terminal = top(start(DEADLOCK).pid)
    terminal.wait_for("!alpha")
    terminal.press("\x03")
    assert terminal.end() == 130
    assert terminal.is_as_before()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGINT])
def test_a_signal_leaves_the_terminal_as_it_was(start, top, number):
    terminal = top(start(DEADLOCK).pid, interval=1000)
    terminal.wait_for("alpha")
    terminal.program.send_signal(number)
    assert terminal.end() == (130 if number == signal.SIGINT else -number)
    assert terminal.is_as_before()


SHELL = """
    import os, signal, subprocess, sys

    signal.signal(signal.SIGTTOU, signal.SIG_IGN)
    take = lambda: os.tcsetpgrp(0, os.getpid())
    program = subprocess.Popen(sys.argv[1:], process_group=0, preexec_fn=take)
    _, status = os.waitpid(program.pid, os.WUNTRACED)
    assert os.WIFSTOPPED(status), status
    os.tcsetpgrp(0, os.getpid())
    input("stopped. on? ")
    os.tcsetpgrp(0, program.pid)
    os.kill(program.pid, signal.SIGCONT)
    sys.exit(program.wait())
"""


def test_ctrl_z_stops_it_as_a_shell_expects_and_it_goes_on(start, tmp_path):
    shell = tmp_path / "shell.py"
    shell.write_text(textwrap.dedent(SHELL))
    program = start(DEADLOCK)
    command = [sys.executable, "-m", "raddle", "top", str(program.pid), "--interval", "0.1"]
    terminal = Terminal([sys.executable, str(shell), *command])
    try:
        terminal.wait_for("!alpha")
        terminal.press("\x1a")
        terminal.wait_for("stopped. on?")
        assert terminal.is_as_before()
        terminal.press("\r")
        terminal.wait_for("!beta")
        leave(terminal)
    finally:
        terminal.close()


def test_a_terminal_that_is_gone_ends_it(start, top):
    terminal = top(start(DEADLOCK).pid, interval=1000)
    terminal.wait_for("alpha")
    os.close(terminal.ours)
    os.close(terminal.theirs)
    assert terminal.program.wait(timeout=30) in (0, -signal.SIGHUP)


@pytest.mark.parametrize("term", ["dumb", ""])
def test_a_terminal_that_cannot_be_drawn_on(start, top, term):
    terminal = top(start(DEADLOCK).pid, TERM=term, columns=200)
    assert terminal.end() == 1
    assert "can only print" in terminal.text


def run(*arguments):
    command = [sys.executable, "-m", "raddle", "top", *map(str, arguments)]
    return subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60)


def test_without_a_terminal_it_says_so():
    ended = run(os.getpid())
    assert ended.returncode == 1
    assert ended.stderr.startswith(
        "raddle: standard input is not a terminal, and raddle top needs one\nhint: raddle dump "
    )


def test_a_command_line_that_makes_no_sense():
    assert run("nobody").returncode == 2
    assert run(1, "--interval", "0").returncode == 2
    assert run(1, "--interval", "nan").returncode == 2


def test_a_process_that_is_not_there_or_runs_no_python(top):
    child = subprocess.Popen(["sleep", "1000"])
    try:
        terminal = top(child.pid, columns=200)
        assert terminal.end() == 1
        assert "does not run CPython" in terminal.text
        assert b"\x1b[?1049h" not in terminal.output
    finally:
        child.kill()
        child.wait()
    terminal = top(child.pid, columns=200)
    assert terminal.end() == 1
    assert f"there is no process {child.pid}" in terminal.text


def test_an_order_to_the_terminal_in_a_name_is_not_obeyed(start, top):
    program = start(r"""
        import threading
        threading.Thread(target=threading.Event().wait, name="\x1b]0;title\x07evil\x1b[2J", daemon=True).start()
        print("ready", flush=True)
        input()
    """)
    terminal = top(program.pid, columns=120)
    terminal.wait_for("evil")
    leave(terminal)
    assert b"\x1b]" not in terminal.output
    assert terminal.output.count(b"\x1b[2J") == 1


def test_without_colours_if_that_is_asked_for(start, top):
    program = start(DEADLOCK)
    for settings in ({"NO_COLOR": "1"}, {}):
        terminal = top(program.pid, *([] if settings else ["--colour", "never"]), **settings)
        terminal.wait_for("!alpha")
        leave(terminal)
        assert not any(
            f"\x1b[{kind}8;5;{colour}m".encode() in terminal.output for kind in "34" for colour in range(1, 16)
        )


def test_looking_takes_a_small_share_of_a_processor(start, top):
    """As a count of looks: the more one costs, the fewer there are."""
    program = start("""
        import threading
        stop = threading.Event()
        for _ in range(300):
            threading.Thread(target=stop.wait, daemon=True).start()
        print("ready", flush=True)
        input()
    """)
    terminal = top(program.pid, interval=0.001)
    terminal.wait_for("not to cost more")
    leave(terminal)
