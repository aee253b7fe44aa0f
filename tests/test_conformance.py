"""The conformance runner: it must not be able to call a bad run good."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

HERE = Path(__file__).resolve().parent / "conformance"
sys.path.insert(0, str(HERE))
try:
    import session
    from house import SetupError
    from skips import load_skips
finally:
    sys.path.remove(str(HERE))

ENTRY = '[[skip]]\nfile = "test_x"\ntest = "{test}"\nsince = "3.11"\nreason = "{reason}"\n'

SUITE = """
import subprocess, sys, time, unittest
from concurrent.futures import ThreadPoolExecutor
class Case(unittest.TestCase):
    def test_good(self):
        with ThreadPoolExecutor(1) as pool:
            self.assertEqual(pool.submit(abs, -1).result(), 1)
    def test_bad(self): self.assertEqual(1, 2)
    def test_skipped(self): self.skipTest("not here")
    def test_hanging(self): time.sleep(1000)
    def test_leaving(self): subprocess.Popen([sys.executable, "-c", "import time; time.sleep(1000)"])
"""


def skips_file(folder: Path, *entries: str) -> Path:
    path = folder / "skips.toml"
    path.write_text("".join(entries))
    return path


def test_the_skips_of_this_repository_are_in_order():
    assert load_skips(HERE / "skips.toml")


def test_more_than_ten_skips_are_refused(tmp_path: Path):
    path = skips_file(tmp_path, *(ENTRY.format(test=f"Case.test_{n}", reason="why") for n in range(11)))
    with pytest.raises(SetupError, match="lists 11 tests, at most 10"):
        load_skips(path)


def test_a_skip_names_one_method_and_a_reason(tmp_path: Path):
    with pytest.raises(SetupError, match="wildcard"):
        load_skips(skips_file(tmp_path, ENTRY.format(test="Case.test_*", reason="why")))
    with pytest.raises(SetupError, match="no reason"):
        load_skips(skips_file(tmp_path, ENTRY.format(test="Case.test_x", reason=" ")))


def test_a_skip_holds_for_the_versions_it_names(tmp_path: Path):
    entry = ENTRY.format(test="Case.test_x", reason="why").replace('test_x"\ntest', 'test_*"\nuntil = "3.13"\ntest')
    (skip,) = load_skips(skips_file(tmp_path, entry))
    assert skip.concerns("test_y", (3, 11, 0))
    assert skip.concerns("test_y", (3, 12, 9))
    assert not skip.concerns("test_y", (3, 13, 0))
    assert not skip.concerns("other", (3, 12, 0))


def test_a_part_of_a_module_may_be_run(tmp_path: Path):
    result, _ = one_file(tmp_path, "--part", "*.test_good", "--part", "Case.test_skipped", "--only", "*.test_good")
    assert (result["passed"], result["skipped"], result["failed"]) == (1, [], [])


def one_file(folder: Path, *arguments: str, patched: bool = False) -> tuple[dict[str, object], str]:
    """Runs `one_file.py` on the little suite above; returns its result and the log of the patcher."""
    (folder / "suite.py").write_text(SUITE)
    proof = folder / "proof"
    proof.touch()
    environment = os.environ | {"PYTHONPATH": f"{folder}:{HERE / 'patch'}"}
    start = [sys.executable]
    if patched:
        environment |= {
            "RADDLE_CONFORMANCE_LOG": str(proof),
            "RADDLE_CONFORMANCE_FACE": "raddle_conformance_baseline",
        }
        boot = (
            "import runpy, sys, raddle_conformance; del sys.argv[0]; runpy.run_path(sys.argv[0], run_name='__main__')"
        )
        start += ["-c", boot]
    command = [*start, str(HERE / "one_file.py"), "suite", "--result", str(folder / "result"), *arguments]
    subprocess.run(command, env=environment, capture_output=True, check=True, timeout=30)
    return json.loads((folder / "result").read_text()), proof.read_text()


def test_what_passed_failed_and_was_skipped_is_counted(tmp_path: Path):
    result, _ = one_file(
        tmp_path, "--skip", "*se.test_hanging", "--skip", "Case.test_leaving", "--skip", "Case.test_no"
    )
    assert result["passed"] == 1
    assert [name for name, _ in result["failed"]] == ["suite.Case.test_bad"]
    assert result["skipped"] == [["suite.Case.test_skipped", "not here"]]
    assert result["left_out"] == {
        "*se.test_hanging": ["Case.test_hanging"],
        "Case.test_leaving": ["Case.test_leaving"],
        "Case.test_no": [],
    }


def test_a_module_that_cannot_be_imported_is_a_failure(tmp_path: Path):
    (tmp_path / "broken.py").write_text("import no_such_module")
    command = [sys.executable, str(HERE / "one_file.py"), "broken", "--result", str(tmp_path / "result")]
    subprocess.run(command, env=os.environ | {"PYTHONPATH": str(tmp_path)}, capture_output=True, check=True, timeout=30)
    result = json.loads((tmp_path / "result").read_text())
    assert "no_such_module" in result["failed"][0][1]


def test_the_patch_reports_every_pool_of_the_face(tmp_path: Path):
    result, proof = one_file(tmp_path, "--only", "Case.test_good", patched=True)
    assert result["passed"] == 1
    assert [line.split()[:-1] for line in proof.splitlines()] == [["patched"], ["ours", "ThreadPoolExecutor"]]


def test_a_run_without_the_patch_is_no_proof(tmp_path: Path):
    report = session.Report("suite")
    session.read_proof(tmp_path / "absent", report)
    assert not report.ok
    assert "never took place" in report.troubles[0]


def test_a_pool_of_the_standard_library_spoils_the_proof(tmp_path: Path):
    (tmp_path / "proof").write_text("patched 1\nours ThreadPoolExecutor 1\nstdlib ProcessPoolExecutor 2\n")
    report = session.Report("suite")
    session.read_proof(tmp_path / "proof", report)
    assert (report.pools, report.processes) == (1, 1)
    assert report.troubles == ["process 2 made the standard library's ProcessPoolExecutor"]


def test_a_hang_is_cut_and_its_stack_shown(tmp_path: Path):
    (tmp_path / "suite.py").write_text(SUITE)
    log = tmp_path / "log"
    command = [sys.executable, str(HERE / "one_file.py"), "suite", "--result", str(tmp_path / "result")]
    command += ["--only", "Case.test_hanging"]
    began = time.monotonic()
    troubles = session.run_session(command, os.environ | {"PYTHONPATH": str(tmp_path)}, log, timeout=2)
    assert time.monotonic() - began < 20
    assert "after 2 s it did not end" in troubles[0]
    assert "one_file.py" in troubles[0]
    assert "in test_hanging" in log.read_text()


def test_a_process_left_behind_is_reported_and_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(session, "GRACE", 0.2)
    (tmp_path / "suite.py").write_text(SUITE)
    command = [sys.executable, str(HERE / "one_file.py"), "suite", "--result", str(tmp_path / "result")]
    command += ["--only", "Case.test_leaving"]
    troubles = session.run_session(command, os.environ | {"PYTHONPATH": str(tmp_path)}, tmp_path / "log", timeout=20)
    assert len(troubles) == 1
    assert "outlived the tests" in troubles[0]
    pid = int(troubles[0].split()[1])
    deadline = time.monotonic() + 5
    while Path(f"/proc/{pid}/exe").exists() and time.monotonic() < deadline:
        os.sched_yield()
    assert not Path(f"/proc/{pid}/exe").exists()
