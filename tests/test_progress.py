"""The progress bar: what it shows, when it draws, and that it never gets in the way of the work."""

from __future__ import annotations

import io
import os
import pty
import re
import subprocess
import sys
import time

import pytest

import raddle._progress
from raddle._progress import Bar


class Terminal(io.StringIO):
    """A stream that says it is a terminal and remembers what was drawn."""

    encoding = "utf-8"  # type: ignore[assignment]

    def isatty(self) -> bool:
        return True

    def drawings(self) -> list[str]:
        return [line.removesuffix("\x1b[K").rstrip() for line in self.getvalue().rstrip("\n").split("\r")[1:]]


@pytest.fixture(autouse=True)
def clock(monkeypatch):
    """A clock that the test turns, and an environment without the caller's preferences."""

    class Clock:
        now = 1000.0

        def __call__(self) -> float:
            return self.now

    for name in ("COLUMNS", "NO_COLOR"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("TERM", "xterm")
    clock = Clock()
    monkeypatch.setattr(raddle._progress, "monotonic", clock)
    return clock


def test_a_terminal_shows_bar_count_rate_and_time_left(clock):
    terminal = Terminal()
    bar = Bar(200, "reading", terminal)
    clock.now += 2
    bar.advance(50)
    assert re.fullmatch(r"reading  █{7}░{21}  50/200 \(25 %\)  25/s  0:06 left", terminal.drawings()[-1])


def test_a_terminal_is_redrawn_at_most_ten_times_a_second(clock):
    terminal = Terminal()
    bar = Bar(1000, "reading", terminal)
    for _ in range(1000):
        clock.now += 0.001
        bar.advance()
    assert 10 <= len(terminal.drawings()) <= 11


def test_failures_are_shown_and_red_only_where_color_is_wanted(clock, monkeypatch):
    terminal = Terminal()
    with Bar(10, "reading", terminal) as bar:
        bar.advance(3, failed=2)
    assert "\x1b[31m  2 failed\x1b[0m" in terminal.getvalue()

    monkeypatch.setenv("NO_COLOR", "1")
    terminal = Terminal()
    with Bar(10, "reading", terminal) as bar:
        bar.advance(3, failed=2)
    assert "2 failed" in terminal.getvalue()
    assert "\x1b" not in terminal.getvalue()


@pytest.mark.parametrize("columns", [1, 5, 20, 40, 60, 80, 200])
def test_a_line_never_fills_the_last_column(clock, monkeypatch, columns):
    monkeypatch.setenv("COLUMNS", str(columns))
    monkeypatch.setenv("NO_COLOR", "1")
    terminal = Terminal()
    with Bar(100_000, "a rather long label for a narrow terminal", terminal) as bar:
        clock.now += 1
        bar.advance(12_345, failed=678)
    assert terminal.drawings()
    for line in terminal.getvalue().rstrip("\n").split("\r")[1:]:
        assert len(line) == columns - 1


@pytest.mark.parametrize(("columns", "is_shown"), [(200, True), (85, True), (84, False), (40, False), (5, False)])
def test_what_is_said_besides_is_shown_where_there_is_room_for_it(clock, monkeypatch, columns, is_shown):
    monkeypatch.setenv("COLUMNS", str(columns))
    terminal = Terminal()
    bar = Bar(200, "reading", terminal)
    clock.now += 2
    bar.state(50, 3, "workers 2/2 98 % busy")
    bar.draw()
    drawn = terminal.getvalue().rpartition("\r")[2].removesuffix("\x1b[K").rstrip()
    visible = re.sub("\x1b\\[[0-9]*m", "", drawn)
    assert ("  0:06 left  workers 2/2 98 % busy  3 failed" in visible) == is_shown
    assert len(visible) < columns


def test_what_is_said_besides_is_part_of_a_line_in_a_log(clock):
    log = io.StringIO()
    with Bar(200, "reading", log) as bar:
        clock.now += 2
        bar.state(200, 1, "2 workers 98 % busy")
    assert log.getvalue() == "reading  200/200 (100 %)  100/s  0:02  2 workers 98 % busy  1 failed\n"


def test_a_total_of_zero_is_complete_from_the_start():
    terminal = Terminal()
    with Bar(0, "nothing", terminal):
        pass
    assert "0/0 (100 %)" in terminal.drawings()[-1]


def test_an_unknown_total_shows_count_rate_and_time_spent(clock):
    terminal = Terminal()
    bar = Bar(None, "reading", terminal)
    clock.now += 65
    bar.advance(6500)
    assert terminal.drawings()[-1] == "reading  6,500 done  100/s  1:05"


def test_more_steps_than_the_total_do_not_overfill_the_bar(clock):
    terminal = Terminal()
    bar = Bar(10, "reading", terminal)
    clock.now += 1
    bar.advance(15)
    assert "█" * 28 + "  15/10 (100 %)" in terminal.drawings()[-1]


def test_one_hundred_per_cent_means_all(clock):
    terminal = Terminal()
    bar = Bar(1000, "reading", terminal)
    clock.now += 1
    bar.advance(999)
    assert "(99 %)" in terminal.drawings()[-1]


def test_a_log_gets_a_whole_line_every_five_seconds_and_one_at_the_end(clock):
    log = io.StringIO()
    with Bar(100, "reading", log) as bar:
        for _ in range(100):
            clock.now += 0.11
            bar.advance()
    assert log.getvalue() == (
        "reading  46/100 (46 %)  9.1/s  0:06 left\n"
        "reading  92/100 (92 %)  9.1/s  0:01 left\n"
        "reading  100/100 (100 %)  9.1/s  0:11\n"
    )


def test_a_dumb_terminal_is_treated_as_a_log(monkeypatch):
    monkeypatch.setenv("TERM", "dumb")
    terminal = Terminal()
    with Bar(1, "reading", terminal):
        pass
    assert "\r" not in terminal.getvalue()


def test_a_stream_that_cannot_draw_blocks_gets_ascii(clock):
    terminal = Terminal()
    terminal.encoding = "ascii"
    with Bar(4, "reading", terminal) as bar:
        bar.advance(2)
    assert "#" * 14 + "." * 14 in terminal.drawings()[-1]


def test_the_line_is_ended_after_an_exception_and_the_exception_goes_on():
    terminal = Terminal()
    with pytest.raises(ZeroDivisionError):
        with Bar(10, "reading", terminal):
            raise ZeroDivisionError
    assert terminal.getvalue().endswith("\n")


def test_close_twice_and_advance_after_close_draw_nothing_more(clock):
    terminal = Terminal()
    bar = Bar(10, "reading", terminal)
    bar.close()
    before = terminal.getvalue()
    clock.now += 10
    bar.advance()
    bar.close()
    assert terminal.getvalue() == before


def test_a_broken_stream_silences_the_bar_and_not_the_work(clock):
    class Broken(Terminal):
        def write(self, text: str, /) -> int:
            raise BrokenPipeError

    closed = io.StringIO()
    closed.close()
    for stream in (Broken(), closed):
        with Bar(10, "reading", stream) as bar:
            clock.now += 10
            bar.advance(10)


def test_without_any_stream_the_bar_is_silent(monkeypatch):
    monkeypatch.setattr(sys, "stderr", None)
    with Bar(10, "reading") as bar:
        bar.advance(10)


def test_braces_and_line_breaks_in_a_label_are_harmless():
    terminal = Terminal()
    with Bar(10, "reading {x}\nnow", terminal):
        pass
    assert terminal.drawings()[-1].startswith("reading {x} now  ")


def test_repr_shows_name_and_numbers():
    bar = Bar(10, "reading", io.StringIO())
    bar.advance(3, failed=1)
    assert repr(bar) == "<Bar 'reading' 3/10, 1 failed>"
    assert repr(Bar(None, "reading", io.StringIO())) == "<Bar 'reading' 0/?, 0 failed>"


def test_an_advance_that_draws_nothing_is_cheap(monkeypatch):
    monkeypatch.setattr(raddle._progress, "monotonic", time.monotonic)
    bar = Bar(10**9, "reading", io.StringIO())

    def nanoseconds_each() -> float:
        started = time.perf_counter_ns()
        for _ in range(10_000):
            bar.advance()
        return (time.perf_counter_ns() - started) / 10_000

    # The best of many: a busy machine makes single runs slow, never fast.
    assert min(nanoseconds_each() for _ in range(50)) < 1000


def test_on_a_real_terminal_the_program_ends_on_a_line_of_its_own():
    program = "from raddle._progress import Bar\nwith Bar(3, 'reading') as bar:\n    bar.advance(3)\nprint('after')"
    ours, theirs = pty.openpty()
    try:
        environment = {**os.environ, "COLUMNS": "60"}
        child = subprocess.run(
            [sys.executable, "-c", program], stderr=theirs, stdout=theirs, timeout=30, env=environment
        )
        shown = os.read(ours, 10_000).decode()
    finally:
        os.close(ours)
        os.close(theirs)
    assert child.returncode == 0
    assert "3/3 (100 %)" in shown
    assert shown.endswith("\r\nafter\r\n")
