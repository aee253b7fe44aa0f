"""`raddle run` runs a program as it is: what it writes, how it ends, what it is told, and what it starts are those of plain Python."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest

from raddle import _run

PATIENCE = 40
# The script and not `-m raddle`: that would put the directory of the program in front of the standard library for Raddle itself.
RADDLE = [os.path.join(os.path.dirname(sys.executable), "raddle")]
MODES = [pytest.param([], id="recorded"), pytest.param(["--safe"], id="safe")]


@pytest.fixture
def write(tmp_path):
    """Writes a program, and returns its name."""

    def write(source, name="program.py"):
        (tmp_path / name).write_text(textwrap.dedent(source))
        return name

    return write


@pytest.fixture(params=MODES)
def both(request, tmp_path):
    """Runs a command line under plain Python and under `raddle run`."""

    def both(*words, **options):
        options = {"cwd": tmp_path, "capture_output": True, "timeout": PATIENCE, **options}
        plain = subprocess.run([sys.executable, *words], **options)
        seen = subprocess.run([*RADDLE, "run", *request.param, *words], **options)
        return plain, seen

    return both


def same(plain, seen):
    """What the program wrote and how it ended are the same; what Raddle says comes after that."""
    assert seen.stdout == plain.stdout
    assert seen.returncode == plain.returncode
    assert seen.stderr.startswith(plain.stderr), (plain.stderr.decode(), seen.stderr.decode())


def test_streams_arguments_and_main_are_as_they_are(both, write):
    program = write(
        """
        import os, sys, threading
        print(sys.argv, __name__, __file__, sys.path[0] == os.getcwd(), sys.modules["__main__"].__dict__ is globals())
        print(sys.stdin.read(), file=sys.stderr)
        print([thread.name for thread in threading.enumerate()], threading.Thread().name)
        print(sys.flags, sys.excepthook is sys.__excepthook__, threading.excepthook is threading.__excepthook__)
        print(sorted(name for name in sys.modules if "raddle" not in name))
        sys.exit(7)
        """
    )
    same(*both(program, "--safe", "-x", "ä", input=b"what is said"))


def test_a_module_and_code_are_run_too(both, write):
    write("import sys; print(sys.argv[1:], __name__, __spec__.name)", "module.py")
    same(*both("-m", "module", "one"))
    same(*both("-c", "import sys; print(sys.argv, __name__)", "one", "-m"))


@pytest.mark.parametrize(
    "ending",
    [
        "raise ValueError('wrong')",
        "1 / 0",
        "sys.exit('a sentence')",
        "os._exit(9)",
        "os.abort()",
        "os.kill(os.getpid(), 15)",
        "raise KeyboardInterrupt",
        "os.kill(os.getpid(), 9)",
        "exec('def f(:')",
    ],
)
def test_it_ends_as_the_program_ends(both, write, ending):
    same(*both(write(f"import os, sys\ndef f():\n    {ending}\nf()\n")))


def test_what_is_not_there_fails_as_python_fails(both):
    same(*both("missing.py"))
    same(*both("-m", "missing"))


def test_modules_beside_the_script_are_the_scripts_own(both, write):
    for name in ("queue", "logging", "threading", "subprocess", "concurrent", "raddle"):
        write(f"print('own {name}')", f"{name}.py")
    same(*both(write("import queue, logging, threading, subprocess, concurrent, raddle")))


def test_descriptors_and_the_environment_are_the_programs(both, write):
    program = write(
        """
        import os, signal
        print(sorted(set(os.environ) - {"RADDLE_SESSION"}) == sorted(os.environ.keys() - {"RADDLE_SESSION"}))
        print(sorted(name for name in os.environ if name != "RADDLE_SESSION"))
        print([number for number in range(3, 64) if os.path.exists(f"/proc/self/fd/{number}") and number != 3])
        print([signal.getsignal(number) for number in (signal.SIGINT, signal.SIGPIPE, signal.SIGTERM, signal.SIGHUP)])
        """
    )
    read, written = os.pipe()
    os.set_inheritable(read, True)
    try:
        same(*both(program, pass_fds=[read]))
    finally:
        os.close(read)
        os.close(written)


def test_a_signal_to_the_command_line_reaches_the_program(tmp_path, write):
    program = write(
        """
        import signal, sys, time
        def end(number, frame):
            print("told", number, flush=True)
            sys.exit(5)
        signal.signal(signal.SIGTERM, end)
        print("ready", flush=True)
        while True:
            time.sleep(0.05)  # a signal that comes just before a sleep may be handled after it
        """
    )
    run = subprocess.Popen(
        [*RADDLE, "run", program], cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    )
    assert run.stdout.readline() == "ready\n"
    run.send_signal(signal.SIGTERM)
    assert run.communicate(timeout=PATIENCE)[0] == f"told {int(signal.SIGTERM)}\n"
    assert run.returncode == 5


def test_a_signal_that_comes_before_the_program_is_there_reaches_it_then():
    before = signal.getsignal(signal.SIGUSR1)
    with _run._Sent() as sent:
        os.kill(os.getpid(), signal.SIGUSR1)
        sleeps = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
        sent.started(sleeps.pid)
    assert sleeps.wait(timeout=PATIENCE) == -signal.SIGUSR1
    assert signal.getsignal(signal.SIGUSR1) == before


def test_a_page_that_cannot_be_written_is_told_in_a_sentence():
    with open("/dev/full", "w") as full:
        run = subprocess.run(
            [*RADDLE, "run", "--explain", "deadlock"], stdout=full, stderr=subprocess.PIPE, text=True, timeout=PATIENCE
        )
    assert (run.returncode, run.stderr) == (1, "raddle: standard output cannot be written: No space left on device\n")


def test_ctrl_c_ends_the_program_and_shows_the_report(tmp_path, write):
    program = write("import time; print('ready', flush=True)\nwhile True: time.sleep(0.05)")
    run = subprocess.Popen(
        [*RADDLE, "run", program],
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    assert run.stdout.readline() == "ready\n"
    os.killpg(run.pid, signal.SIGINT)
    said = run.communicate(timeout=PATIENCE)[1]
    assert "KeyboardInterrupt" in said
    assert said.index("KeyboardInterrupt") < said.index("program.raddle")
    assert run.returncode == -signal.SIGINT


def test_the_third_ctrl_c_ends_a_program_that_does_not_mind(tmp_path, write):
    program = write(
        """
        import signal, subprocess, sys, time
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"], stdout=subprocess.DEVNULL)
        print(child.pid, flush=True)
        time.sleep(60)
        """
    )
    run = subprocess.Popen(
        [*RADDLE, "run", program],
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        start_new_session=True,
    )
    child = int(run.stdout.readline())
    for _ in range(3):
        os.killpg(run.pid, signal.SIGINT)
        time.sleep(0.3)
    run.communicate(timeout=PATIENCE)
    assert run.returncode == -signal.SIGKILL
    with pytest.raises(ProcessLookupError):
        end = time.monotonic() + PATIENCE
        while time.monotonic() < end:
            os.kill(child, 0)
            time.sleep(0.01)


def test_a_directory_that_holds_something_else_is_left_alone(tmp_path, write):
    program = write("print('ran')")
    kept = tmp_path / "kept"
    kept.mkdir()
    (kept / "letter").write_text("dear")
    run = subprocess.run(
        [*RADDLE, "run", "--output", str(kept), program], cwd=tmp_path, capture_output=True, text=True, timeout=PATIENCE
    )
    assert (run.returncode, run.stdout) == (1, "")
    assert "it holds something else than a session" in run.stderr
    assert "--output DIRECTORY" in run.stderr
    assert [path.name for path in kept.iterdir()] == ["letter"]


@pytest.mark.parametrize("option", ["--json", "--sarif"])
def test_a_program_is_not_taken_for_the_file_that_an_option_writes(option, tmp_path):
    program = tmp_path / "job.py"
    program.write_text("print('ran')\n")
    for words in ([option, "job.py", "5"], [option, "job.py"]):
        run = subprocess.run([*RADDLE, "run", *words], cwd=tmp_path, capture_output=True, text=True, timeout=PATIENCE)
        assert (run.returncode != 0, run.stdout) == (True, "")
        assert program.read_text() == "print('ran')\n"
    run = subprocess.run(
        [*RADDLE, "run", option, "job.py", "5"], cwd=tmp_path, capture_output=True, text=True, timeout=PATIENCE
    )
    assert f"{option} would write over job.py, which is something else" in run.stderr
    assert f"raddle run {option} found.json job.py 5" in run.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["job.py"]
    for _ in range(2):  # and again over what it has written
        run = subprocess.run(
            [*RADDLE, "run", option, "found", "job.py"], cwd=tmp_path, capture_output=True, text=True, timeout=PATIENCE
        )
        assert (run.returncode, run.stdout) == (0, "ran\n")
        assert (tmp_path / "found").read_bytes().startswith(b"{")


def test_json_may_go_into_a_pipe(tmp_path, write):
    program, pipe = write("print('ran')"), tmp_path / "pipe"
    os.mkfifo(pipe)
    with subprocess.Popen(["cat", pipe], stdout=subprocess.PIPE) as reader:
        try:
            run = subprocess.run(
                [*RADDLE, "run", "--json", pipe, program],
                cwd=tmp_path,
                capture_output=True,
                text=True,
                timeout=PATIENCE,
            )
            said, _ = reader.communicate(timeout=PATIENCE)
        finally:
            reader.kill()
    assert (run.returncode, run.stdout) == (0, "ran\n")
    assert said.startswith(b"{")


def test_a_session_takes_the_place_of_the_one_before(tmp_path, write):
    program = write("print('ran')")
    for _ in range(2):
        run = subprocess.run([*RADDLE, "run", program], cwd=tmp_path, capture_output=True, text=True, timeout=PATIENCE)
        assert (run.returncode, run.stdout) == (0, "ran\n")
        (tmp_path / "program.raddle" / "own-notes").write_text("kept")
    assert (tmp_path / "program.raddle" / "own-notes").exists()


def test_a_file_of_the_report_that_cannot_be_written_is_named(tmp_path, write):
    program = write("import os; os.mkdir('seen/report.html'); os.mkdir('seen/report.html/full')")
    seen = subprocess.run(
        [*RADDLE, "run", "--output", "seen", program], cwd=tmp_path, capture_output=True, text=True, timeout=PATIENCE
    )
    assert seen.returncode == 0
    assert f"raddle: {tmp_path}/seen/report.html cannot be written: Is a directory\n" in seen.stderr
    assert {"report.json", "trace.perfetto"} <= {path.name for path in (tmp_path / "seen").iterdir()}


def test_a_command_line_without_a_program_says_so(tmp_path):
    run = subprocess.run([*RADDLE, "run"], cwd=tmp_path, capture_output=True, text=True, timeout=PATIENCE)
    assert run.returncode == 2
    assert "which program?" in run.stderr
    assert not list(tmp_path.iterdir())


def unknown_interpreters():
    """One Python without a GIL and one before 3.11, as far as they are here."""
    free = (shutil.which(f"python3.{minor}t") for minor in (13, 14))
    old = sorted(map(str, Path.home().glob(".pyenv/versions/3.10.*/bin/python3")))
    return [*filter(None, free), *old[:1]]


@pytest.mark.parametrize("python", unknown_interpreters())
def test_an_interpreter_that_is_not_known_is_watched_from_outside_and_the_report_says_so(tmp_path, write, python):
    program = write("import time; time.sleep(1)")
    run = subprocess.run(
        [*RADDLE, "run", "--python", python, program],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
    )
    assert run.returncode == 0
    said = " ".join(run.stderr.split())
    assert re.search(
        r"note: (CPython 3\.1\d\.\S+ without a GIL|a CPython before 3\.11) is not known: what runs it is watched from outside only",
        said,
    )


def test_an_interpreter_that_is_not_there_is_named(tmp_path, write):
    program = write("print('ran')")
    run = subprocess.run(
        [*RADDLE, "run", "--python", "/nowhere/python", program],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
    )
    assert run.returncode == 1
    assert "/nowhere/python cannot be started: No such file or directory" in run.stderr


def test_words_and_names_that_are_no_text_are_passed_on_as_they_are(both, tmp_path):
    name = os.fsdecode(b"na\xffme.py")
    (tmp_path / name).write_text("import os, sys; print([os.fsencode(word) for word in sys.argv])")
    same(*both(name, os.fsdecode(b"\xfe")))


@pytest.mark.parametrize("ending", ["sys.exit(3)", "os.kill(os.getpid(), 9)", "os.kill(os.getpid(), 15)"])
def test_where_nobody_reads_the_report_the_exit_code_is_the_programs(tmp_path, write, ending):
    program = write(f"import os, sys\nprint('said', flush=True)\n{ending}\n")
    plain = subprocess.run([sys.executable, program], cwd=tmp_path, capture_output=True, check=False)
    for redirection in ("2>&-", "2>/dev/full"):
        seen = subprocess.run(
            ["sh", "-c", f'exec "$0" "$@" {redirection}', *RADDLE, "run", program],
            cwd=tmp_path,
            stdout=subprocess.PIPE,
            timeout=PATIENCE,
            check=False,
        )
        assert (seen.stdout, seen.returncode) == (b"said\n", plain.returncode), redirection


def test_a_program_runs_in_a_directory_that_is_not_there_any_more(tmp_path):
    command = [*RADDLE, "run", "--output", str(tmp_path / "seen"), "-c", "print('said')"]
    script = 'mkdir gone; cd gone; rmdir ../gone; exec "$0" "$@"'
    seen = subprocess.run(
        ["sh", "-c", script, *command], cwd=tmp_path, capture_output=True, timeout=PATIENCE, check=False
    )
    assert (seen.stdout, seen.returncode) == (b"said\n", 0), seen.stderr
    assert f"{tmp_path}/seen/report.html".encode() in seen.stderr


def test_a_finding_that_there_is_none_of_is_not_waited_for(tmp_path):
    seen = subprocess.run(
        [*RADDLE, "run", "--fail-on", "deadlock,gil-bund", "-c", "print('said')"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )
    assert (seen.stdout, seen.returncode) == ("", 2)
    assert seen.stderr.endswith("there is no finding 'gil-bund'\n")


def test_where_warnings_are_errors_loading_the_recorder_gives_none(tmp_path, write):
    # In this mode whatever loads an extension looks up the codec for its name.
    write("import sys; print(sorted({name for name in sys.modules if 'raddle' not in name} - {'encodings.ascii'}))")
    words = ["-X", "dev", "-W", "error", "program.py"]
    plain = subprocess.run([sys.executable, *words], cwd=tmp_path, capture_output=True, check=False)
    seen = subprocess.run(
        [*RADDLE, "run", "--", *words], cwd=tmp_path, capture_output=True, timeout=PATIENCE, check=False
    )
    same(plain, seen)
