"""`raddle doctor` tries what Raddle needs, says what is not there and what to do about it, and leaves nothing behind."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import sysconfig

import pytest

import raddle
from raddle import _doctor


def run(*options, **environment):
    command = [sys.executable, "-m", "raddle", "doctor", *options]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, env={**os.environ, **environment})


def test_all_that_is_necessary_is_here():
    ended = run("--json")
    assert (ended.returncode, ended.stderr) == (0, "")
    document = json.loads(ended.stdout)
    assert (document["version"], document["ok"]) == (1, True)
    checks = {check["name"]: check for check in document["checks"]}
    for name in ("raddle", "interpreter", "memfd", "pidfd", "futex"):
        assert (checks[name]["state"], checks[name]["necessary"]) == ("ok", True)
    assert checks["raddle"]["said"].startswith(raddle.__version__)
    assert "with a GIL" in checks["interpreter"]["said"]
    is_known = (3, 11) <= sys.version_info[:2] <= (3, 14) and not sysconfig.get_config_var("Py_GIL_DISABLED")
    assert (checks["layout"]["state"] == "ok") == is_known
    assert checks["numpy"]["state"] == "ok"
    for check in document["checks"]:
        assert check["state"] == "ok" or check["hint"], check


def test_text_has_a_word_for_each_state_and_a_hint_for_what_is_not_ok():
    ended = run()
    assert ended.returncode == 0
    lines = ended.stdout.splitlines()
    assert lines[0] == "here"
    states = [line.split()[0] for line in lines if line.startswith("  ") and not line.lstrip().startswith("hint: ")]
    assert set(states) <= {"ok", "limited", "missing"}
    assert ended.stdout.count("hint: ") == sum(state != "ok" for state in states)
    assert "\x1b" not in ended.stdout


def test_other_interpreters_are_found_and_what_does_not_answer_is_passed_over(tmp_path):
    (tmp_path / "python3.11").write_text("#!/bin/sh\necho CPython for sure\n")
    (tmp_path / "python3.14").write_text("#!/bin/sh\necho cpython 3 14 0 0 /opt/python3.14\n")
    (tmp_path / "python3.99").write_text("#!/bin/sh\necho cpython 3 99 0 0 /opt/python3.99\n")
    (tmp_path / "python3.14t").write_text("#!/bin/sh\necho cpython 3 14 0 1 /opt/python3.14t\n")
    (tmp_path / "python3.12").write_text("#!/bin/sh\necho cpython 3 12 9 0 /opt/python3.12\n")
    (tmp_path / "python3-config").write_text("#!/bin/sh\necho cpython 3 12 9 0 /opt/other\n")
    for name in os.listdir(tmp_path):
        (tmp_path / name).chmod(0o755)
    document = json.loads(run("--json", PATH=str(tmp_path)).stdout)
    found = [(one["state"], one["said"]) for one in document["checks"] if one["name"] == "other Python"]
    assert found == [
        ("ok", f"CPython 3.12.9: {tmp_path}/python3.12"),
        ("ok", f"CPython 3.14.0: {tmp_path}/python3.14"),
        ("limited", f"CPython 3.14.0, free-threaded: {tmp_path}/python3.14t"),
        ("limited", f"CPython 3.99.0: {tmp_path}/python3.99"),
    ]


def test_something_necessary_that_is_missing_is_told_by_the_exit_code(monkeypatch, capfdbinary):
    def forbidden(*_):
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(os, "memfd_create", forbidden)
    monkeypatch.setattr(_doctor, "_ROOMS", {"do": _doctor._do})

    class Options:
        json = False

    assert _doctor.run(Options()) == 1
    said = capfdbinary.readouterr().out.decode()
    assert "missing  memfd" in said
    assert "a sandbox that forbids memfd_create" in said


@pytest.mark.parametrize(
    ("files", "limit"),
    [
        ({"/proc/self/cgroup": "0::/\n", "/sys/fs/cgroup/cpu.max": "max 100000\n"}, None),
        ({"/proc/self/cgroup": "0::/\n", "/sys/fs/cgroup/cpu.max": "150000 100000\n"}, 1.5),
        (
            {
                "/proc/self/cgroup": "0::/a/b\n",
                "/sys/fs/cgroup/a/cpu.max": "50000 100000\n",
                "/sys/fs/cgroup/a/b/cpu.max": "400000 100000\n",
            },
            0.5,
        ),
        (
            {
                "/proc/self/cgroup": "4:cpu,cpuacct:/docker/x\n0::/\n",
                "/sys/fs/cgroup/cpu/cpu.cfs_quota_us": "200000\n",
                "/sys/fs/cgroup/cpu/cpu.cfs_period_us": "100000\n",
            },
            2.0,
        ),
        ({"/proc/self/cgroup": "4:cpu:/\n", "/sys/fs/cgroup/cpu/cpu.cfs_quota_us": "-1\n"}, None),
        ({}, None),
    ],
)
def test_the_share_of_a_container(monkeypatch, files, limit):
    monkeypatch.setattr(_doctor, "_read", lambda path: files.get(path, ""))
    assert _doctor._cgroup_limit() == limit
    if limit is not None:
        monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)))
        check = _doctor._cores()
        assert check.state == "limited"
        assert check.hint.endswith(f"workers={max(1, round(limit))}")


@pytest.mark.parametrize(("scope", "state"), [("", "ok"), ("0\n", "ok"), ("1\n", "limited"), ("3\n", "limited")])
def test_what_yama_means(monkeypatch, scope, state):
    monkeypatch.setattr(_doctor, "_read", lambda _: scope)
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    check = _doctor._yama()
    assert check.state == state
    assert (check.hint is None) == (state == "ok")


def test_what_it_starts_has_ended_when_it_is_done():
    before = set(os.listdir("/proc"))
    assert list(_doctor._looks())
    ours = []
    for pid in set(os.listdir("/proc")) - before:
        try:
            with open(f"/proc/{pid}/cmdline", "rb") as file:
                command = file.read()
            with open(f"/proc/{pid}/stat") as file:
                is_zombie = file.read().rpartition(")")[2].split()[0] == "Z"
        except OSError:
            continue
        if b"sys.stdin.read()" in command and not is_zombie:
            ours.append(command)
    assert ours == []
