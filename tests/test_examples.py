"""The examples are programs, so they are tested as such: started, given arguments, judged by what they print and how they end."""

from __future__ import annotations

import http.client
import json
import os
import re
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from calls import is_gone, until

HOUSE = Path(__file__).parent.parent
EXAMPLES = HOUSE / "examples"
PROGRAMS = sorted(path.name for path in EXAMPLES.glob("*.py"))


def run(program, *arguments, timeout=55, **options):
    environment = {**os.environ, "NO_COLOR": "1"}
    return subprocess.run(
        [sys.executable, EXAMPLES / program, *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=timeout,
        env=environment,
        **options,
    )


def test_the_list_of_examples_has_them_all():
    listed = re.findall(r"^\| \[(\w+\.py)\]\(\1\) \|", (EXAMPLES / "README.md").read_text(), re.MULTILINE)
    assert sorted(listed) == PROGRAMS


@pytest.mark.parametrize("program", PROGRAMS)
def test_every_example_explains_itself(program):
    done = run(program, "--help")
    assert done.returncode == 0, done.stderr
    first = (EXAMPLES / program).read_text().splitlines()[0].strip('"')
    assert first in " ".join(done.stdout.split())


@pytest.mark.parametrize(
    ("program", "package", "needs"), [("thumbnails.py", "PIL", "Pillow"), ("grid_search.py", "sklearn", "scikit-learn")]
)
def test_what_is_not_installed_is_one_sentence(program, package, needs, tmp_path):
    (tmp_path / f"{package}.py").write_text("raise ImportError('not here')")
    done = subprocess.run(
        [sys.executable, EXAMPLES / program],
        capture_output=True,
        text=True,
        timeout=55,
        env={**os.environ, "PYTHONPATH": str(tmp_path)},
    )
    assert done.returncode == 2
    assert done.stderr == f"error: this example needs {needs}; install it with: pip install {needs.lower()}\n"


@pytest.mark.parametrize(
    ("program", "arguments", "message"),
    [
        ("thumbnails.py", ["--workers", "0", "."], "expected a whole number from 1 up, not '0'"),
        ("thumbnails.py", [], "name a folder of pictures, or have some drawn with --sample 40"),
        ("thumbnails.py", ["/nonexistent"], "not a directory: /nonexistent"),
        ("word_count.py", ["/nonexistent"], "not a directory: /nonexistent"),
        ("sweep.py", ["--timeout", "0"], "timeout must be more than 0 seconds, or None, not 0.0"),
        ("grid_search.py", ["--folds", "1"], "a cross-validation needs 2 folds at least"),
        ("service.py", ["--grace", "soon"], "expected a number of seconds above 0, not 'soon'"),
        ("pipeline.py", ["/nonexistent"], "/nonexistent is not a directory"),
        (
            "producers_consumers.py",
            ["--consumers", "0"],
            "there must be a producer and a consumer, and no number may be negative",
        ),
        ("runaway.py", ["--after", "0"], "--after must be more than 0 seconds"),
        ("service.py", ["--port", "70000"], "a port is a number from 0 to 65535, not 70000"),
    ],
)
def test_bad_arguments_are_one_clear_line(program, arguments, message):
    done = run(program, *arguments)
    assert done.returncode == 2
    assert done.stderr.splitlines()[-1].endswith(message)
    assert "Traceback" not in done.stderr


# --- thumbnails -----------------------------------------------------------------------------------------------------


def test_thumbnails_of_a_folder(tmp_path):
    image = pytest.importorskip("PIL.Image")
    (tmp_path / "deeper").mkdir()
    image.new("RGB", (400, 200), "red").save(tmp_path / "wide.png")
    image.new("P", (30, 60)).save(tmp_path / "deeper" / "small.gif")
    (tmp_path / "notes.txt").write_text("no picture")
    done = run("thumbnails.py", tmp_path, "--size", 100, "--workers", 2)
    assert done.returncode == 0, done.stderr
    assert f"made      2 thumbnails in {tmp_path / 'thumbnails'}" in done.stdout.splitlines()
    with image.open(tmp_path / "thumbnails" / "wide.png.jpg") as wide:
        assert (wide.size, wide.format) == ((100, 50), "JPEG")
        red, green, blue = wide.getpixel((50, 25))
        assert red > 250
        assert green < 5
        assert blue < 5
    with image.open(tmp_path / "thumbnails" / "deeper" / "small.gif.jpg") as small:
        assert small.size == (30, 60)
    again = run("thumbnails.py", tmp_path, "--workers", 2)
    assert "made      2 thumbnails" in again.stdout


def test_a_picture_that_cannot_be_read_is_named_and_the_others_go_on(tmp_path):
    image = pytest.importorskip("PIL.Image")
    image.new("RGB", (40, 20)).save(tmp_path / "good.png")
    (tmp_path / "bad.png").write_bytes(b"not a picture")
    done = run("thumbnails.py", tmp_path, "--into", tmp_path / "out", "--workers", 2)
    assert done.returncode == 1
    assert "made      1 thumbnails" in done.stdout
    assert re.search(
        rf"^problem   {re.escape(str(tmp_path / 'bad.png'))}: UnidentifiedImageError: ", done.stdout, re.MULTILINE
    )
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["good.png.jpg"]


def test_thumbnails_of_pictures_that_are_drawn_for_it():
    pytest.importorskip("PIL")
    done = run("thumbnails.py", "--sample", 6, "--workers", 2)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("made      6 thumbnails in ")


def test_a_folder_without_pictures_is_said_so(tmp_path):
    pytest.importorskip("PIL")
    done = run("thumbnails.py", tmp_path)
    assert (done.returncode, done.stderr) == (2, f"error: no picture below {tmp_path}\n")


# --- word_count -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["process", "thread"])
def test_words_are_counted(tmp_path, kind):
    for number in range(50):
        folder = tmp_path / f"folder{number % 3}"
        folder.mkdir(exist_ok=True)
        (folder / f"{number}.txt").write_text("Warp weft, warp!\n" + ("heddle " if number % 2 else "Größe 12 a b"))
    (tmp_path / "other.md").write_text("warp " * 1000)
    done = run("word_count.py", tmp_path, "--top", 3, "--workers", 2, "--kind", kind)
    assert done.returncode == 0, done.stderr
    lines = [line.split() for line in done.stdout.splitlines()]
    assert lines[0] == ["100", "warp"]
    assert lines[1] == ["50", "weft"]
    assert lines[2][0] == "25"
    assert re.match(
        rf" +200  words, 4 different ones, in 50 files; .* with 2 {kind} workers$", done.stdout.splitlines()[3]
    )


def test_words_of_other_files_and_none_at_all(tmp_path):
    (tmp_path / "one.md").write_text("shuttle")
    done = run("word_count.py", tmp_path, "--suffix", ".md", "--workers", 1)
    assert done.stdout.splitlines()[0].split() == ["1", "shuttle"]
    done = run("word_count.py", tmp_path)
    assert (done.returncode, done.stderr) == (2, f"error: no .py or .txt file below {tmp_path}\n")


# --- sweep ----------------------------------------------------------------------------------------------------------


def test_a_sweep_records_what_settles_what_is_stopped_and_what_dies():
    # A cycle of two, chaos, and numbers that run away.
    done = run("sweep.py", "--from", 3.2, "--to", 4.2, "--runs", 3, "--timeout", 2, "--retries", 1, "--workers", 2)
    assert done.returncode == 0, done.stderr
    settled, stopped, died, summary = done.stdout.splitlines()
    assert re.match(r"r = 3\.2 +growth +-0\.\d+  cycle of 2$", settled)
    assert re.match(r"r = 3\.7 +growth +0\.\d+  no cycle within 2 s, 2 times$", stopped)
    assert re.match(r"r = 4\.2 +growth +\d\.\d+  ended worker \d+ with exit code 134, 2 times$", died)
    assert summary.startswith(
        "1 settled, 1 were stopped, 1 ended their worker; 2 worker processes were lost on the way"
    )
    assert "3/3" in done.stderr  # the bar of the first stage


def test_a_sweep_in_which_all_is_well():
    done = run("sweep.py", "--from", 3.1, "--to", 3.3, "--runs", 3, "--timeout", 20, "--retries", 0, "--workers", 2)
    assert done.returncode == 0, done.stderr
    assert [line.partition("  cycle of ")[2] for line in done.stdout.splitlines()[:-1]] == ["2", "2", "2"]


# --- grid_search ----------------------------------------------------------------------------------------------------


@pytest.mark.timeout(180)  # program and workers import scikit-learn, which takes a busy machine its time
@pytest.mark.parametrize("backend", ["raddle", "threading"])
def test_a_grid_search_finds_the_same_on_raddle_and_on_threads(backend):
    pytest.importorskip("sklearn")
    done = run("grid_search.py", "--jobs", 2, "--folds", 2, "--images", 400, "--backend", backend, timeout=170)
    assert done.returncode == 0, done.stderr
    *ranks, unseen, summary = done.stdout.splitlines()
    assert len(ranks) == 9
    assert ranks[0] == "  1. 0.9800  C = 10    gamma = 0.01"
    assert re.match(r"0\.\d{4} of the unseen digits are told right by the best$", unseen)
    assert re.match(rf"18 fits in \d+\.\d\d s on {backend}$", summary)


# --- service --------------------------------------------------------------------------------------------------------

#: A product of two primes of twelve digits: found by trying in hours.
HARD = 999999999989 * 999999999961


class Running:
    """The service, started; talks to it."""

    def __init__(self, *arguments):
        self.connections = []
        self.child = subprocess.Popen(
            [sys.executable, EXAMPLES / "service.py", *map(str, arguments)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        line = self.child.stdout.readline()
        assert line.startswith("listening on http://127.0.0.1:"), line + self.child.stderr.read()
        self.port = int(line.rpartition(":")[2])

    def ask(self, path):
        """Status and body of an answer."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=50)
        connection.request("GET", path)
        answer = connection.getresponse()
        return answer.status, json.loads(answer.read())

    def begin(self, path):
        """A connection that has asked, and waits for its answer."""
        connection = socket.create_connection(("127.0.0.1", self.port), timeout=50)
        self.connections.append(connection)
        connection.sendall(f"GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
        return connection

    def statistics(self):
        return self.ask("/statistics")[1]

    def end(self, number=signal.SIGTERM):
        """Asks it to end; returns how it did, and what it said."""
        self.child.send_signal(number)
        out, err = self.child.communicate(timeout=50)
        return self.child.returncode, out, err


@pytest.fixture
def service():
    """Starts services, and leaves none running."""
    made = []

    def start(*arguments):
        made.append(Running("--workers", 2, *arguments))
        return made[-1]

    yield start
    for one in made:
        for connection in one.connections:
            connection.close()
        if one.child.poll() is None:
            os.killpg(one.child.pid, signal.SIGKILL)
            one.child.communicate()


def test_the_service_answers(service):
    running = service()
    assert running.ask("/factors/600851475143") == (200, {"number": 600851475143, "factors": [71, 839, 1471, 6857]})
    assert running.ask("/factors/1") == (200, {"number": 1, "factors": []})
    assert (
        running.ask("/factors/-3")[0] == running.ask("/factors/0")[0] == running.ask("/factors/" + "9" * 5000)[0] == 400
    )
    assert running.ask("/nothing") == (404, {"error": "ask for /factors/NUMBER or /statistics"})
    assert running.statistics()["finished"] == 2
    assert running.end() == (
        0,
        "2 computations ended, 0 were stopped; 0 requests were given up at the end\n",
        "",
    )


def test_a_client_that_goes_away_stops_its_computation(service):
    running = service()
    client = running.begin(f"/factors/{HARD}")
    until(lambda: running.statistics()["running"] == 1, "the computation to begin")
    client.close()
    until(lambda: running.statistics()["cancelled"] == 1, "the computation to be stopped")
    assert running.ask("/factors/15")[1]["factors"] == [3, 5]
    assert running.end()[:2] == (0, "1 computations ended, 1 were stopped; 0 requests were given up at the end\n")


def test_an_answer_that_takes_too_long_is_given_up_and_said_so(service):
    running = service("--timeout", 0.3)
    assert running.ask(f"/factors/{HARD}") == (503, {"error": "no answer within 0.3 s"})
    assert running.statistics()["cancelled"] == 1


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_the_service_answers_what_it_has_and_ends(service, number):
    running = service("--grace", 40)
    # A product of two primes that takes a moment.
    left, right = 1000003, 1000033
    client = running.begin(f"/factors/{left * right}")
    until(lambda: running.statistics()["submitted"] == 1, "the computation to begin")
    code, out, err = running.end(number)
    assert (code, err) == (0, "")
    assert out == "1 computations ended, 0 were stopped; 0 requests were given up at the end\n"
    answer = b"".join(iter(lambda: client.recv(4096), b""))
    assert answer.endswith(b'"factors": [1000003, 1000033]}\n')


def test_what_takes_longer_than_the_grace_is_given_up_and_nothing_is_left(service):
    running = service("--grace", 0.2)
    client = running.begin(f"/factors/{HARD}")
    until(lambda: running.statistics()["running"] == 1, "the computation to begin")
    code, out, err = running.end()
    assert (code, err) == (0, "")
    assert out == "0 computations ended, 1 were stopped; 1 requests were given up at the end\n"
    assert client.recv(1) == b""
    with pytest.raises(ProcessLookupError):
        os.killpg(running.child.pid, 0)
    assert is_gone(running.child.pid)


def test_a_port_that_is_taken_is_one_clear_line(service):
    running = service()
    done = run("service.py", "--port", running.port)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == f"error: cannot listen on port {running.port}: Address already in use\n"


# --- philosophers -------------------------------------------------------------------------------------------------------


def test_the_philosophers_deadlock_once_and_then_dine():
    done = run("philosophers.py", "--meals", 50)
    assert done.returncode == 0, done.stderr
    assert "deadlock: 5 threads wait for each other" in done.stdout
    assert "take the locks in the same order everywhere" in done.stdout
    assert "250 meals in" in done.stdout


# --- channels and stopping ----------------------------------------------------------------------------------------------


def test_a_pipeline_reads_everything(tmp_path):
    for number in range(30):
        (tmp_path / f"{number}.py").write_text("x = 1\n" * (number // 2 + 1))
    done = run("pipeline.py", "--every", 5, tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == "    30 files,    0.0 MB in all; 15 are copies of others\n"


def test_a_pipeline_is_stopped_at_its_deadline():
    done = run("pipeline.py", "--for", 0, "--files", 1000000)
    assert (done.returncode, done.stderr) == (0, "")
    assert "stopped after 0 s" in done.stdout


def test_producers_and_consumers_agree():
    done = run("producers_consumers.py", "--items", 300, "--room", 4)
    assert (done.returncode, done.stderr) == (0, "")
    sent, received = re.search(r"sums: (\d+) sent, (\d+) received", done.stdout).groups()
    assert sent == received == str(sum(sum(range(first, first + 300)) for first in range(3)))
    assert int(re.search(r"never more than (\d+) waited", done.stdout)[1]) <= 4


def test_runaway_threads_are_ended():
    done = run("runaway.py", "--after", 0.1)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.count("(stopped)") == 3
    assert "everything did not end before its deadline, and was stopped" in done.stdout


# --- readers and writers ------------------------------------------------------------------------------------------------


def test_the_fair_lock_lets_the_writer_through_that_readers_starve():
    done = run("readers_writers.py", "--seconds", 0.6)
    assert done.returncode == 0, done.stderr
    rows = dict(re.findall(r"^(readers|writers|nobody \(fair\)) +([\d,]+) ", done.stdout, re.MULTILINE))
    assert int(rows["nobody (fair)"]) > int(rows["readers"])
    assert int(rows["writers"]) > int(rows["readers"])


def test_too_few_readers_are_refused():
    done = run("readers_writers.py", "--readers", 1)
    assert done.returncode == 2
    assert "it takes two or more readers" in done.stderr
