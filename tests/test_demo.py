"""The demo is a program, so it is tested as one: started, given arguments, judged by what it prints and how it ends."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

DEMO = Path(__file__).parent.parent / "examples" / "stdlib_census.py"

SOURCES = {
    "plain.py": b"import os\n\ndef f(x):\n    return os.path.join(x, 'a')\n",
    "package/empty.py": b"",
    "package/long.py": b"x = '" + b"a" * 5000 + b"'\n",
    "bad/coding.py": b"# coding: no-such-coding\n",
    "bad/unclosed.py": b"x = (1,\n",
    "bad/indent.py": b"if 1:\n        a\n    b\n",
    "site-packages/stranger.py": b"not = counted\n",
    "notes.txt": b"not Python\n",
}


@pytest.fixture
def sources(tmp_path):
    for name, content in SOURCES.items():
        file = tmp_path / name
        file.parent.mkdir(exist_ok=True)
        file.write_bytes(content)
    return tmp_path


def run(*arguments):
    environment = {**os.environ, "NO_COLOR": "1"}
    return subprocess.run(
        [sys.executable, DEMO, *arguments], capture_output=True, text=True, timeout=55, env=environment
    )


def test_three_lanes_find_the_same_and_the_table_says_how_long_they_took(sources):
    done = run("--workers", "2", sources)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert lines[1].split() == ["lane", "workers", "seconds", "speed-up", "files/s", "overhead", "idle", "waiting"]
    assert [line.split()[0] for line in lines[2:5]] == ["inline", "thread", "process"]
    for word in lines[1].split()[2:]:
        assert re.search(rf"^{re.escape(word)} +\w", done.stdout, re.MULTILINE), f"no sentence about {word}"
    assert "equal     the three lanes found the same in every file" in lines
    for label in ("inline", "thread", "process"):
        assert re.search(rf"^{label} +6/6 \(100 %\)", done.stderr, re.MULTILINE)


def test_files_that_cannot_be_tokenised_are_counted_with_the_reason(sources):
    done = run("--workers", "2", "--json", sources)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["files"] == 6
    assert found["bytes"] == sum(len(content) for name, content in SOURCES.items() if name.endswith(".py")) - len(
        SOURCES["site-packages/stranger.py"]
    )
    problems = {Path(path).name: problem for path, problem in found["problems"].items()}
    assert set(problems) == {"coding.py", "unclosed.py", "indent.py"}
    assert problems["coding.py"].startswith("SyntaxError: unknown encoding")
    assert found["differences"] == {"thread": [], "process": []}


def test_the_numbers_are_plausible(sources):
    done = run("--workers", "2", "--json", sources)
    lanes = json.loads(done.stdout)["lanes"]
    assert [(lane["name"], lane["workers"]) for lane in lanes] == [("inline", 1), ("thread", 2), ("process", 2)]
    for lane in lanes:
        assert lane["files"] == 6
        assert 0 < lane["seconds"] < 55
        assert 0 <= lane["task_cpu_seconds"] <= lane["all_cpu_seconds"] + 0.02
        for share in ("overhead", "idle", "waiting"):
            assert 0 <= lane[share] <= 1
        assert lane["files_per_second"] == pytest.approx(6 / lane["seconds"])
    assert lanes[0]["speed_up"] == 1


def test_limit_takes_the_first_files_of_the_standard_library():
    done = run("--workers", "2", "--limit", "5", "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["files"] == 5


def test_lanes_that_disagree_are_an_error_that_names_the_files(sources, tmp_path):
    # A census whose answer depends on the process that gives it.
    program = DEMO.read_text().replace('"longest_line"] = max(', '"longest_line"] = os.getpid() + max(')
    wrong = tmp_path / "wrong_census.py"
    wrong.write_text(program)
    done = subprocess.run(
        [sys.executable, wrong, "--workers", "2", sources], capture_output=True, text=True, timeout=55
    )
    assert done.returncode == 1
    assert "error: lane 'process' and lane 'inline' disagree about 7 files:" in done.stderr
    assert str(sources / "plain.py") in done.stderr
    assert "lane 'thread'" not in done.stderr


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--workers", "0"], "expected a whole number from 1 up, not '0'"),
        (["--workers", "two"], "expected a whole number from 1 up, not 'two'"),
        (["--limit", "-1"], "expected a whole number from 1 up, not '-1'"),
        (["/nonexistent"], "not a directory: /nonexistent"),
    ],
)
def test_bad_arguments_are_one_clear_line(arguments, message):
    done = run(*arguments)
    assert done.returncode == 2
    assert done.stderr.splitlines()[-1].endswith(message)
    assert "Traceback" not in done.stderr


def test_a_directory_without_sources_is_said_so(tmp_path):
    done = run(tmp_path)
    assert done.returncode == 2
    assert done.stderr == f"error: no .py file below {tmp_path}\n"


def test_ctrl_c_ends_it_without_a_traceback_and_without_orphans():
    program = subprocess.Popen(
        [sys.executable, DEMO, "--workers", "2"], stderr=subprocess.PIPE, text=True, start_new_session=True
    )
    try:
        program.stderr.readline()  # how many files there are: the inline lane begins
        program.send_signal(signal.SIGINT)
        _, rest = program.communicate(timeout=50)
    finally:
        program.kill()
    assert program.returncode == 130
    assert rest.endswith("interrupted\n")
    assert "Traceback" not in rest
    # The program's session has no one left in it.
    with pytest.raises(ProcessLookupError):
        os.killpg(program.pid, 0)
