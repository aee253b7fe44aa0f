"""What `map` shows while it goes on: whose bar, where, and what it says about the workers."""

from __future__ import annotations

import fcntl
import gc
import io
import os
import pty
import struct
import subprocess
import sys
import termios
import textwrap

import pytest

import calls
import raddle
from calls import until
from raddle import _raddle

PROGRAM = """
    import sys, threading
    {before}
    import raddle
    with raddle.Pool("process", 2, name="mill") as pool:
        for number in pool.map(abs, range(3000), progress={progress}):
            if number == 1500:
                print("threads:", sorted(thread.name for thread in threading.enumerate()))
    print("after")
"""
WITHOUT = "import sys; sys.modules.update(dict.fromkeys([{names}]));"


def program(before="", progress="True"):
    return textwrap.dedent(PROGRAM).format(before=before, progress=progress)


class Terminal:
    """A terminal of 110 columns, and a program that runs on it."""

    def __init__(self, source):
        self.ours, theirs = pty.openpty()
        fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 110, 0, 0))
        environment = {name: value for name, value in os.environ.items() if name not in ("COLUMNS", "NO_COLOR", "CI")}
        environment["TERM"] = "xterm"
        self.child = subprocess.Popen(
            [sys.executable, "-c", source], stdin=subprocess.DEVNULL, stdout=theirs, stderr=theirs, env=environment
        )
        os.close(theirs)

    def read(self):
        """What it shows next; empty at the end."""
        try:
            return os.read(self.ours, 65536)
        except OSError:  # nobody is at the other end any more
            return b""

    def finish(self):
        """Everything that it shows until its end, and how the program ended."""
        shown = b""
        while more := self.read():
            shown += more
        os.close(self.ours)
        return shown.decode(), self.child.wait(30)


def ends_on_a_line_of_its_own(shown):
    return shown.replace("\x1b[?25h", "").endswith("\r\nafter\r\n")  # which makes the cursor visible again


# --- on a terminal ---------------------------------------------------------------------------------------------------

PLAIN, TQDM, RICH = "3,000/3,000 (100 %)", "3000/3000 [", "\x1b[?25l"


@pytest.mark.parametrize(
    ("missing", "imported", "sign"),
    [
        ((), (), TQDM),
        ((), ("rich",), RICH),
        ((), ("tqdm",), TQDM),
        ((), ("rich", "tqdm"), TQDM),
        (("tqdm",), (), RICH),
        (("rich",), (), TQDM),
        (("tqdm", "rich"), (), PLAIN),
    ],
)
def test_a_bar_of_tqdm_or_rich_is_used_where_there_is_one(missing, imported, sign):
    pytest.importorskip("tqdm")
    pytest.importorskip("rich")
    before = WITHOUT.format(names=", ".join(map(repr, missing))) + "".join(f"import {name};" for name in imported)
    shown, code = Terminal(program(before)).finish()
    assert code == 0, shown
    assert sign in shown
    assert not any(other in shown for other in {TQDM, RICH} - {sign})
    assert "mill" in shown
    assert "2 workers" in shown
    assert "% busy" in shown
    assert "threads: ['MainThread']" in shown, "nothing runs beside the work"
    assert ends_on_a_line_of_its_own(shown)


@pytest.mark.parametrize("missing", ["", "'tqdm'", "'tqdm', 'rich'"])
def test_an_empty_map_ends_its_line_too(missing):
    source = program(WITHOUT.format(names=missing)).replace("3000", "0")
    shown, code = Terminal(source).finish()
    assert code == 0, shown
    assert ends_on_a_line_of_its_own(shown)


@pytest.mark.parametrize("missing", ["", "'tqdm'", "'tqdm', 'rich'"])
def test_a_terminal_that_goes_away_silences_the_bar_and_not_the_work(tmp_path, missing):
    source = f"""
        import sys; sys.path.insert(0, {os.path.dirname(calls.__file__)!r})
        {WITHOUT.format(names=missing)}
        import calls, raddle
        gate = calls.Gate({str(tmp_path)!r})
        with raddle.Pool("thread", 1) as pool:
            results = pool.map(lambda number: (gate(), number)[1], range(300), window=2, progress=True)
            total = sum(calls.nap_and_return(number) if number < 50 else number for number in results)
        with open({str(tmp_path / "total")!r}, "w") as file:
            file.write(str(total))
    """
    terminal = Terminal(textwrap.dedent(source))
    assert terminal.read(), "the bar is there before the first result"
    os.close(terminal.ours)
    calls.Gate(tmp_path).open()
    terminal.child.wait(30)
    assert (tmp_path / "total").read_text() == str(sum(range(300)))


def test_the_label_may_be_named():
    shown, code = Terminal(program(WITHOUT.format(names="'tqdm', 'rich'"), progress="'milling {x}'")).finish()
    assert code == 0, shown
    assert "milling {x}  " in shown
    assert "mill  " not in shown


# --- elsewhere -------------------------------------------------------------------------------------------------------


def test_a_log_gets_whole_lines_without_control_characters_whatever_is_installed(script):
    ended = script(program("import tqdm, rich")).run()
    assert ended.code == 0, ended.err
    assert ended.err.endswith("\n")
    assert not any(character < " " for character in ended.err.replace("\n", ""))
    assert ended.err.splitlines()[-1].startswith("mill  3,000/3,000 (100 %)")
    assert "2 workers" in ended.err


@pytest.mark.parametrize("missing", ["", "'tqdm'", "'tqdm', 'rich'", "'ipywidgets'"])
def test_a_notebook_gets_one_bar_and_not_a_line_for_each_state(missing):
    pytest.importorskip("ipykernel")
    start_new_kernel = pytest.importorskip("jupyter_client.manager").start_new_kernel
    shown = []

    def note(message):
        content = message["content"]
        if message["msg_type"] == "stream":
            shown.append(content["text"])
        elif message["msg_type"] == "comm_msg":
            shown.append(str(content["data"]))
        elif message["msg_type"] == "display_data":
            shown.append(content["data"].get("text/plain", ""))

    manager, client = start_new_kernel(stderr=subprocess.DEVNULL)
    try:
        reply = client.execute_interactive(
            program(WITHOUT.format(names=missing)), output_hook=note, timeout=30, allow_stdin=False
        )
        client.stop_channels()
    finally:
        manager.shutdown_kernel(now=True)
    assert reply["content"]["status"] == "ok", reply["content"]
    text = "".join(shown).replace("\\u2007", " ")
    assert "mill" in text
    assert "2 workers" in text
    if missing in ("'tqdm', 'rich'", "'ipywidgets'"):  # the plain bar: one line, drawn again and again
        before, _, rest = text.partition("\rmill")
        assert "mill" not in before
        bar = "\rmill" + rest.partition("after")[0]
        assert "\r" in bar
        assert "\x1b" not in bar
        assert not [line for line in bar.split("\n")[1:] if "mill" in line]


# --- bars and functions of the user's own ------------------------------------------------------------------------------


def test_a_function_is_told_how_far_it_is_and_last_that_it_is_over(pool):
    told = []
    results = pool.map(calls.nap_and_return, range(60), progress=told.append)
    assert told == [], "nobody has asked for results"
    assert list(results) == list(range(60))
    first, last = told[0], told[-1]
    assert (first.done, first.total, first.ended) == (0, 60, False)
    assert (last.done, last.total, last.failed, last.ended) == (60, 60, 0, True)
    assert [now.ended for now in told].count(True) == 1
    assert [now.done for now in told] == sorted(now.done for now in told)
    assert [now.seconds for now in told] == sorted(now.seconds for now in told)
    assert last.label == pool.name
    assert last.rate == last.done / last.seconds
    assert last.seconds_left == 0
    assert last.workers == 2
    assert 0 < last.busy_share <= 1
    assert isinstance(last, raddle.Progress)


def test_it_says_how_many_workers_run_a_call(kind, gate):
    told = []

    def tell(now):
        told.append(now)
        gate.open()

    with raddle.Pool(kind, 3) as pool:
        results = pool.map(gate, range(2), progress=tell)
        gate.wait_entered(2)
        assert list(results) == [0, 1]
    assert told[0].busy == 2
    assert told[0].about_the_workers().startswith(f"workers 2/{told[0].workers} ")
    assert told[0].busy_share > 0, "calls that run count"


def test_an_input_without_a_length_has_no_total(pool):
    told = []
    assert list(pool.map(calls.identity, (number for number in range(9)), progress=told.append)) == list(range(9))
    assert (told[-1].total, told[-1].seconds_left, told[-1].done) == (None, None, 9)


@pytest.mark.parametrize("ordered", [True, False])
def test_a_failure_is_shown_where_it_ends_the_map(pool, ordered):
    told = []
    with pytest.raises(ValueError, match="7"):
        list(pool.map(calls.fail_if, range(40), [7] * 40, ordered=ordered, progress=told.append))
    assert (told[-1].failed, told[-1].ended) == (1, True)
    assert told[-1].done < 40


def test_failures_of_before_are_not_shown(pool):
    assert pool.submit(calls.fail).exception() is not None
    told = []
    list(pool.map(calls.identity, range(9), progress=told.append))
    assert told[-1].failed == 0


@pytest.mark.parametrize("leave", ["close", "drop"])
def test_an_iterator_that_is_left_ends_its_display(pool, leave):
    told = []
    results = pool.map(calls.identity, range(5000), progress=told.append)
    assert [next(results) for _ in range(10)] == list(range(10))
    if leave == "close":
        results.close()
    else:
        gc.disable()
        try:
            del results
        finally:
            gc.enable()
    assert (told[-1].done, told[-1].ended) == (10, True)


def test_an_iterator_that_nobody_asks_shows_nothing_and_cancels_its_calls(pool):
    told = []
    pool.map(calls.nap_and_return, range(5000), progress=told.append).close()
    until(lambda: (now := pool.statistics()).pending == now.running == 0, "the calls to be cancelled")
    assert told == []


def test_a_bar_is_told_how_many_more_and_gets_a_total(pool):
    class Bar:
        total = None
        steps = ()
        postfix = ""

        def update(self, n):
            self.steps = (*self.steps, n)

        def set_postfix_str(self, text, refresh):
            self.postfix = text
            assert not refresh

    bar = Bar()
    assert list(pool.map(calls.nap_and_return, range(60), progress=bar)) == list(range(60))
    assert sum(bar.steps) == bar.total == 60
    assert all(step > 0 for step in bar.steps[:-1])
    assert bar.postfix.startswith("2 workers ")


def test_a_bar_needs_no_more_than_update_and_keeps_its_total(pool):
    class Bar:
        total = 100

        def __init__(self):
            self.n = 0

        def update(self, n):
            self.n += n

    bar = Bar()
    for _ in range(2):
        assert len(list(pool.map(calls.identity, range(50), progress=bar))) == 50
    assert (bar.n, bar.total) == (100, 100)


def test_bars_of_tqdm_and_rich_are_taken_as_they_are(pool, monkeypatch):
    tqdm = pytest.importorskip("tqdm")
    monkeypatch.setattr(tqdm.tqdm, "monitor_interval", 0)  # its thread would outlive this test
    rich = pytest.importorskip("rich.progress")
    out = io.StringIO()
    with tqdm.tqdm(desc="sifting", file=out) as bar:
        list(pool.map(calls.identity, range(30), progress=bar))
        list(pool.map(calls.identity, range(30), progress=bar))
        assert (bar.n, bar.total) == (60, 30)
    assert "sifting" in out.getvalue()
    assert "2 workers" in out.getvalue()

    with rich.Progress(auto_refresh=False, disable=True) as bars:
        list(pool.map(calls.identity, range(30), progress=bars))
        list(pool.map(calls.identity, range(40), progress=bars))
        assert [(task.description, task.completed, task.total) for task in bars.tasks] == [
            (pool.name, 30, 30),
            (pool.name, 40, 40),
        ]
        assert bars.tasks[0].fields["workers"].startswith("2 workers ")


@pytest.mark.parametrize("error", [LookupError, KeyboardInterrupt])
@pytest.mark.parametrize("when", ["first", "last", "between"])
def test_what_a_function_raises_ends_the_iteration_and_it_is_not_called_again(pool, error, when):
    times = []

    def tell(now):
        assert not times, "it is not called again"
        if when == ("first" if now.done == 0 else "last" if now.ended else "between"):
            times.append(now)
            raise error("enough")

    results = pool.map(calls.nap_and_return, range(80), progress=tell)
    with pytest.raises(error, match="enough"):
        list(results)
    assert len(times) == 1
    assert list(results) == []
    until(lambda: (now := pool.statistics()).pending == now.running == 0, "the rest to be cancelled")


@pytest.mark.parametrize("wanted", [0, 1, 3, 0.5, [], object()])
def test_anything_else_is_refused_before_a_call_is_made(pool, wanted):
    with pytest.raises(TypeError, match="progress must be True, False, a label"):
        pool.map(calls.identity, range(3), progress=wanted)
    assert pool.statistics().submitted == 0


def test_the_class_of_a_bar_is_no_bar(pool):
    class Bar:
        def update(self, n):
            raise AssertionError("nobody has made one")

    with pytest.raises(TypeError, match="progress must be a bar, not its class"):
        pool.map(calls.identity, range(3), progress=Bar)


@pytest.mark.parametrize("nothing", [False, None])
def test_no_progress_is_no_display(pool, capfd, nothing):
    assert list(pool.map(calls.identity, range(3), progress=nothing)) == [0, 1, 2]
    assert capfd.readouterr().err == ""


def test_calls_on_terms_show_progress_too():
    told = []
    with raddle.Pool("process", 1) as pool:
        assert list(pool.options(retries=1).map(calls.identity, range(5), progress=told.append)) == list(range(5))
    assert told[-1].done == 5


# --- counting ----------------------------------------------------------------------------------------------------------


def test_a_display_is_called_within_a_list_and_not_before_it_is_due():
    meter = _raddle.Meter()
    drawn = []
    results = _raddle.Results(iter([[1, 2, 3], [4, 5]]), (meter, lambda: drawn.append(meter.taken())))
    assert next(results) == 1
    assert drawn == [], "it is not due before it says so"
    meter.rest(0)
    assert next(results) == 2
    assert next(results) == 3
    assert drawn == [2], "it is due once"
    meter.rest(0)
    assert list(results) == [4, 5]
    assert (drawn, meter.taken()) == ([2, 4], 5)
    with pytest.raises(ValueError):
        meter.rest(-1)
