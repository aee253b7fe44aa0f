"""Odd exceptions, odd results, odd machines, odd ways to start a program."""

from __future__ import annotations

import os
import pickle
import shutil
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

import calls
import raddle

HERE = str(Path(calls.__file__).parent)
ENVIRONMENT = {**os.environ, "PYTHONPATH": HERE}


@pytest.fixture
def pool():
    with raddle.Pool("process", 1) as pool:
        yield pool


# --- exceptions ------------------------------------------------------------------------------------------------------


class KeywordOnly(Exception):
    def __init__(self, *, code):
        super().__init__(f"code {code}")
        self.code = code


class OtherArguments(Exception):
    def __init__(self, path, line):
        super().__init__(f"{path}:{line}")
        self.path = path
        self.line = line


class NoArguments(Exception):
    def __init__(self):
        super().__init__("made", "without")


class RefusesToPickle(Exception):
    def __reduce__(self):
        raise RuntimeError("stays here")


class ComesBackAsSomethingElse(Exception):
    def __reduce__(self):
        return str, ("not an exception",)


class CannotBeShown(Exception):
    def __init__(self, one, two):
        super().__init__(one)

    def __str__(self):
        raise ZeroDivisionError("in __str__")


class WorksAsItIs(Exception):
    def __init__(self, path, line):
        super().__init__(path, line)
        self.path = path
        self.line = line

    def __str__(self):
        return f"{self.path}:{self.line}"


def throw(make):
    raise make()


ODD = [
    (lambda: KeywordOnly(code=5), "KeywordOnly", "code 5"),
    (lambda: OtherArguments("file", 3), "OtherArguments", "file:3"),
    (NoArguments, "NoArguments", "('made', 'without')"),
    (lambda: RefusesToPickle("x"), "RefusesToPickle", "x"),
    (lambda: CannotBeShown(1, 2), "CannotBeShown", "<its message raised ZeroDivisionError>"),
]


@pytest.mark.parametrize(("make", "name", "message"), ODD, ids=[name for _, name, _ in ODD])
def test_an_exception_that_cannot_be_made_again_is_told_by_name_message_and_traceback(pool, make, name, message):
    error = pool.submit(throw, make).exception(30)
    assert isinstance(error, raddle.RemoteError)
    assert error.type_name.endswith(name)
    assert error.message == message
    assert "in throw" in str(error.__cause__)
    assert name in str(error.__cause__)
    assert pool.submit(calls.identity, 1).result(30) == 1, "it is the same pool, and nobody has died"
    assert pool.statistics().died == 0


def test_an_exception_that_is_unpickled_as_something_else_is_an_error_of_that_call(pool):
    error = pool.submit(throw, lambda: ComesBackAsSomethingElse("x")).exception(30)
    assert isinstance(error, Exception)
    assert pool.submit(calls.identity, 1).result(30) == 1


def test_odd_exceptions_in_a_map_come_at_their_place(pool):
    results = pool.map(lambda n: throw(NoArguments) if n == 300 else n, range(1000))
    seen = []
    with pytest.raises(raddle.RemoteError, match="NoArguments"):
        seen.extend(results)
    for value in results:
        seen.append(value)
    assert seen == list(range(len(seen)))


def test_what_an_exception_carries_arrives(pool):
    def raise_it():
        error = WorksAsItIs("file", 3)
        error.add_note("a note")
        error.more = {"detail": [1]}
        raise error

    error = pool.submit(raise_it).exception(30)
    assert type(error).__name__ == "WorksAsItIs"
    assert (error.path, error.line, error.more, str(error)) == ("file", 3, {"detail": [1]}, "file:3")
    assert error.__notes__ == ["a note"]


def test_groups_of_exceptions_arrive_with_their_members(pool):
    def raise_group():
        inner = ExceptionGroup("inner", [KeyError("k"), OSError(2, "no such thing")])
        error = ExceptionGroup("outer", [ValueError(1), inner])
        error.add_note("of the group")
        raise error

    error = pool.submit(raise_group).exception(30)
    assert isinstance(error, ExceptionGroup)
    assert error.__notes__ == ["of the group"]
    matched, rest = error.split(OSError)
    assert matched.exceptions[0].exceptions[0].errno == 2
    assert len(rest.exceptions) == 2
    assert "of the group" in str(error.__cause__)


def test_a_group_with_an_odd_member_is_told(pool):
    error = pool.submit(throw, lambda: ExceptionGroup("all", [ValueError(1), KeywordOnly(code=7)])).exception(30)
    assert isinstance(error, raddle.RemoteError)
    assert "code 7" in str(error.__cause__)


def test_cause_and_context_are_in_the_remote_traceback(pool):
    def chain():
        try:
            try:
                1 / 0  # noqa: B018
            except ZeroDivisionError as error:
                raise KeyError("middle") from error
        except KeyError:
            raise RuntimeError("outer")  # noqa: B904

    error = pool.submit(chain).exception(30)
    assert isinstance(error, RuntimeError)
    text = str(error.__cause__)
    for part in ("ZeroDivisionError", "direct cause", "middle", "During handling", "outer", "in chain"):
        assert part in text
    assert text.index("ZeroDivisionError") < text.index("middle") < text.index("outer")


def test_the_remote_traceback_is_shown_to_the_user(script):
    program = script("""
        import calls, raddle
        with raddle.Pool("process", 1) as pool:
            pool.submit(calls.fail, "a word").result()
    """)
    ended = program.run()
    assert ended.code == 1
    assert "calls.py" in ended.err
    assert "in fail" in ended.err
    assert ended.err.rstrip().endswith("ValueError: a word")


# --- results ---------------------------------------------------------------------------------------------------------


class Bomb:
    """Raises this exception when it is unpickled."""

    def __init__(self, error):
        self.error = error

    def __reduce__(self):
        return throw_again, (self.error,)


def throw_again(error):
    raise error


@pytest.mark.parametrize(
    "error", [ValueError("boom"), MemoryError(), EOFError(), ImportError("gone"), RecursionError()]
)
def test_a_result_whose_unpickling_raises_is_an_error_of_that_call(pool, error):
    found = pool.submit(lambda: Bomb(error)).exception(30)
    assert type(found) is type(error)
    assert "could not be unpickled here" in "".join(found.__notes__)
    assert pool.submit(calls.identity, 1).result(30) == 1


def test_a_result_whose_unpickling_ends_the_program_does_that_here_only(pool):
    future = pool.submit(lambda: Bomb(SystemExit(3)))
    with pytest.raises(SystemExit):
        future.result(30)
    assert pool.submit(calls.identity, 1).result(30) == 1


def test_a_result_too_deep_to_be_pickled_is_an_error_of_that_call(pool):
    def deep():
        value = []
        for _ in range(100_000):
            value = [value]
        return value

    assert isinstance(pool.submit(deep).exception(30), (RecursionError, pickle.PicklingError))
    assert pool.submit(calls.identity, 1).result(30) == 1


# --- machines --------------------------------------------------------------------------------------------------------


def run(source, *before, arguments=(), **more):
    """Runs source text with `python -c`, with a command before it."""
    command = [*before, sys.executable, "-c", textwrap.dedent(source), *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, env=ENVIRONMENT, **more)


@pytest.mark.parametrize("more", [14, 20, 30, 60])
def test_few_file_descriptors_mean_few_workers_or_a_clear_error(more):
    """Whatever fails, it fails with a word, and nothing hangs."""
    ended = run(
        """
        import os, resource, sys, warnings
        import calls, raddle

        used = max(map(int, os.listdir("/proc/self/fd")))
        resource.setrlimit(resource.RLIMIT_NOFILE, (used + int(sys.argv[1]), used + int(sys.argv[1])))
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            try:
                with raddle.Pool("process", 16) as pool:
                    assert sorted(pool.map(calls.nap_and_return, range(50), window=50)) == list(range(50))
                    print("works", len(caught))
            except OSError as error:
                assert error.errno == 24, error
                print("says so")
        assert all("of 16 workers" in str(one.message) for one in caught), [str(one.message) for one in caught]
        """,
        arguments=[str(more)],
    )
    assert ended.returncode == 0, ended
    assert ended.stdout.split()[0] in ("works", "says")
    assert ended.stderr == ""


def test_few_processes_mean_few_workers():
    """Another user, who may have four processes: this one, its keeper and two workers. Root has no such limit."""
    tool = shutil.which("setpriv")
    if tool is None or os.getuid() != 0:
        pytest.skip("only root can become somebody who has no processes yet")
    # Somebody else, who can read this interpreter wherever it lies.
    rights = "+dac_read_search,+dac_override"
    somebody = [
        tool,
        "--reuid=54321",
        "--regid=54321",
        "--clear-groups",
        f"--inh-caps={rights}",
        f"--ambient-caps={rights}",
    ]
    if subprocess.run([*somebody, sys.executable, "-c", ""], capture_output=True).returncode != 0:
        pytest.skip("nobody else can be become here")
    ended = run(
        """
        import resource, warnings
        import calls, raddle

        resource.setrlimit(resource.RLIMIT_NPROC, (4, 4))
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            with raddle.Pool("process", 6) as pool:
                assert sorted(pool.map(calls.nap_and_return, range(50), window=50)) == list(range(50))
                print(pool.statistics().workers)
        print("of 6 workers" in str(caught[0].message))
        """,
        *somebody,
    )
    assert (ended.returncode, ended.stderr) == (0, ""), ended
    workers, warned = ended.stdout.split()
    assert 1 <= int(workers) <= 3
    assert warned == "True"


# --- programs --------------------------------------------------------------------------------------------------------

PROGRAM = """
import raddle

class Point:
    def __init__(self, x):
        self.x = x

def double(point):
    return Point(point.x * factor)

factor = 2
pool = raddle.Pool("process", 2)
print([point.x for point in pool.map(double, map(Point, range(4)))])
"""


@pytest.mark.parametrize("way", ["file", "-c", "-", "-m", "zip"])
def test_a_program_runs_however_it_is_started_and_without_a_guard(tmp_path, way):
    (tmp_path / "program.py").write_text(PROGRAM)
    arguments, given = {
        "file": ([str(tmp_path / "program.py")], None),
        "-c": (["-c", PROGRAM], None),
        "-": (["-"], PROGRAM),
        "-m": (["-m", "program"], None),
        "zip": ([str(tmp_path / "program.pyz")], None),
    }[way]
    if way == "zip":
        import zipfile

        with zipfile.ZipFile(tmp_path / "program.pyz", "w") as archive:
            archive.writestr("__main__.py", PROGRAM)
    command = [sys.executable, *arguments]
    ended = subprocess.run(
        command, input=given, capture_output=True, text=True, timeout=50, env=ENVIRONMENT, cwd=tmp_path
    )
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, "[0, 2, 4, 6]\n", "")


def test_cells_of_a_notebook(script):
    """Each cell is compiled and run on its own, in a `__main__` that has no file; a later one changes what an earlier one has made."""
    program = script("""
        import sys, types
        cells = [
            "import raddle; pool = raddle.Pool('process', 2)",
            "def f(x): return x + offset",
            "offset = 10",
            "print(list(pool.map(f, range(3))))",
            "offset = 20",
            "print(pool.submit(f, 1).result())",
            "def f(x): return -x",
            "print(list(pool.map(f, range(3))))",
            "class Cell:\\n    value = 5",
            "print(pool.submit(lambda cell: cell.value, Cell()).result())",
        ]
        main = types.ModuleType("__main__")
        sys.modules["__main__"] = main
        for number, cell in enumerate(cells):
            exec(compile(cell, f"<cell {number}>", "exec"), main.__dict__)
    """)
    ended = program.run()
    assert (ended.code, ended.out, ended.err) == (0, "[10, 11, 12]\n21\n[0, -1, -2]\n5\n", "")


# --- other people's tables -------------------------------------------------------------------------------------------


def test_pandas_frames(pool):
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame({"a": range(50_000), "b": [0.5] * 50_000, "c": ["text"] * 50_000})

    def work(frame):
        frame["d"] = frame["a"] * frame["b"]
        return frame

    result = pool.submit(work, frame).result(50)
    assert list(result.columns) == ["a", "b", "c", "d"]
    assert result["d"].sum() == frame["a"].sum() / 2
    assert "d" not in frame
    result.loc[0, "a"] = 7
    assert result["a"][0] == 7
    ref = pool.put(frame)
    assert pool.submit(lambda frame: float(frame["b"].sum()), ref).result(50) == 25_000
    parts = [frame.iloc[start : start + 10_000] for start in range(0, 50_000, 10_000)]
    assert sum(pool.map(lambda part: int(part["a"].sum()), parts)) == frame["a"].sum()


def test_arrow_tables(pool):
    pyarrow = pytest.importorskip("pyarrow")
    table = pyarrow.table({"a": list(range(50_000)), "b": ["text"] * 50_000})

    def work(table):
        import pyarrow.compute

        return table.append_column("c", pyarrow.compute.multiply(table["a"], 2))

    result = pool.submit(work, table).result(50)
    assert result.column_names == ["a", "b", "c"]
    assert result["c"][-1].as_py() == 99_998
    assert result.drop_columns(["c"]).equals(table)
    ref = pool.put(table)
    assert pool.submit(lambda table: table.num_rows, ref).result(50) == 50_000


def test_polars_frames(pool):
    polars = pytest.importorskip("polars")
    frame = polars.DataFrame({"a": range(50_000), "b": ["text"] * 50_000})

    def work(frame):
        import polars

        return frame.with_columns((polars.col("a") * 2).alias("c"))

    result = pool.submit(work, frame).result(50)
    assert result.columns == ["a", "b", "c"]
    assert result["c"].sum() == 2 * frame["a"].sum()
    ref = pool.put(frame)
    assert pool.submit(lambda frame: frame.height, ref).result(50) == 50_000


def test_errors_of_raddle_itself_can_be_sent_on(pool):
    for make in (
        lambda: raddle.WorkerDied("f()", 1, -9, "was killed"),
        lambda: raddle.CallTimeout("f()", 1, 2.0),
        lambda: raddle.RemoteError("a.B", "message", "reason"),
    ):
        error = pool.submit(throw, make).exception(30)
        assert type(error) is type(make())
        assert str(error) == str(make())
        assert str(pickle.loads(pickle.dumps(error))) == str(make())
