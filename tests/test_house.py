"""The house's own checks: each rule of ci/invariants.py catches what it is there for, and the errands are wired up."""

from __future__ import annotations

import importlib.util
import os
import re
import signal
import subprocess
import sys
import textwrap
import tomllib
from pathlib import Path

import pytest

HOUSE = Path(__file__).parent.parent


def load(path):
    """A script of ci/ as a module: ci/ is not a package."""
    spec = importlib.util.spec_from_file_location(f"house_{path.stem}", path)
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


invariants = load(HOUSE / "ci" / "invariants.py")

GATE = """
    pub fn enter() { std::panic::catch_unwind(|| Python::attach(|py| py.detach(work))); }
    pub unsafe fn called() { unsafe { Python::assume_attached() } }
"""

SOUND = {
    "Cargo.toml": '[workspace]\nmembers = ["crates/*"]\n[profile.release]\npanic = "unwind"\n',
    "crates/raddle-core/Cargo.toml": '[package]\nname = "raddle-core"\n',
    "crates/raddle-core/src/prim/mod.rs": "pub use std::sync::{atomic, Mutex}; pub use std::thread; pub use std::hint::spin_loop;",
    "crates/raddle-core/src/life/atomic.rs": """
        pub struct AtomicState { word: AtomicU32 }
        impl AtomicState { fn step(&self) { self.word.compare_exchange(a, b, AcqRel, Acquire); } }
    """,
    "crates/raddle-core/src/park/mod.rs": "use rustix::thread::futex; use crate::{life, prim};",
    "crates/raddle-core/src/sched/mod.rs": """
        // A comment may name std::thread::sleep, and "a string" as well: unsafe { static mut }
        const HELP: &str = "std::thread::sleep";
        const RAW: &str = r#"unsafe "std::thread::park" "#;
        /* and /* nested */ so may std::sync::Mutex */
        fn lifetime<'a>(x: &'a str) -> char { '"' }
        pub fn push(&self, item: T) -> Result<(), Closed<T>> {}
        #[cfg(test)]
        mod tests { use std::thread; fn t() { thread::sleep(x); y.unwrap(); let brace = '{'; } }
    """,
    "crates/raddle-shm/Cargo.toml": '[package]\nname = "raddle-shm"\n[dependencies]\nraddle-core.workspace = true\n',
    "crates/raddle-shm/src/ring.rs": "fn f() { unsafe { g() } }",
    "crates/raddle-py/Cargo.toml": '[package]\nname = "raddle-py"\n[dependencies]\npyo3 = "0"\nraddle-core = "0"\n',
    "crates/raddle-py/src/gate.rs": GATE,
    "crates/raddle-py/src/future.rs": """
        use raddle_core::life::State;
        fn state(&self) -> State { self.life.load() }
        fn name(&self) -> &str { match self.state() { state if state.told => "done", _ => "pending" } }
    """,
    "python/raddle/pool.py": "import time\n\ndef f(event, timeout):\n    event.wait(timeout)\n    event.wait(5.0)\n",
    "python/raddle_boot/__init__.py": "import os\n\ndef late():\n    import raddle._raddle\n",
    "README.md": "[a file](Cargo.toml), [a page](https://example.org), [an item](crate::park), `[code](nowhere.md)`\n",
}

BROKEN = [
    # rule, path, content, the finding that is expected
    (
        "only_py_depends_on_pyo3",
        "crates/raddle-core/Cargo.toml",
        '[package]\nname = "raddle-core"\n[target."cfg(unix)".dependencies]\npy = { package = "pyo3", version = "0" }\n',
        "crates/raddle-core/Cargo.toml:1: [invariant 1] raddle-core depends on pyo3",
    ),
    (
        "only_prim_names_primitives",
        "crates/raddle-core/src/sched/queue.rs",
        "use std::{sync::{Arc, atomic::AtomicU32}, fmt};",
        "crates/raddle-core/src/sched/queue.rs:1: [invariant 2] names std::sync::atomic::AtomicU32",
    ),
    (
        "only_prim_names_primitives",
        "crates/raddle-shm/src/bell.rs",
        "\nfn f() { let t = std::thread::spawn(g); }",
        "crates/raddle-shm/src/bell.rs:2: [invariant 2] names std::thread::spawn",
    ),
    (
        "only_named_rooms_sleep",
        "crates/raddle-proc/src/reap.rs",
        "use rustix::event::{eventfd, epoll};",
        "crates/raddle-proc/src/reap.rs:1: [invariant 3] names rustix::event::epoll",
    ),
    (
        "only_named_rooms_sleep",
        "crates/raddle-py/src/pool.rs",
        "use std::thread;\nfn f() { thread::sleep(x) }",
        "crates/raddle-py/src/pool.rs:2: [invariant 3] names std::thread::sleep",
    ),
    (
        "only_life_changes_a_state",
        "crates/raddle-core/src/life/atomic.rs",
        "pub struct AtomicState { pub word: AtomicU32 }",
        "[invariant 4] the word of AtomicState must be private",
    ),
    (
        "only_life_changes_a_state",
        "crates/raddle-core/src/life/atomic.rs",
        "impl AtomicState { fn reset(&self) { self.word.store(0, Release); } }",
        "[invariant 4] store outside `step`",
    ),
    (
        "only_life_changes_a_state",
        "crates/raddle-py/src/future.rs",
        "use raddle_core::life::{State, Phase};\nfn f() -> State { State { phase: Phase::New } }",
        "crates/raddle-py/src/future.rs:2: [invariant 4] makes up a State",
    ),
    (
        "only_life_changes_a_state",
        "crates/raddle-py/src/future.rs",
        "fn f() { life.phase = Phase::New; }",
        "[invariant 4] changes a field of a State",
    ),
    (
        "errors_give_the_value_back",
        "crates/raddle-core/src/sched/queue.rs",
        "impl<T> Queue<T> { pub fn push(&self, item: T) -> Result<Vec<(T, u8)>, Closed> {} }",
        "[invariant 6] push loses the value",
    ),
    (
        "no_lock_in_shared_memory",
        "crates/raddle-shm/src/ring.rs",
        "use raddle_core::prim::Mutex; fn f() { unsafe { g() } }",
        "crates/raddle-shm/src/ring.rs:1: [invariant 7] Mutex",
    ),
    (
        "only_the_gate_crosses",
        "crates/raddle-py/src/pool.rs",
        "fn f(py: Python<'_>) { py.detach(|| wait()) }",
        "crates/raddle-py/src/pool.rs:1: [invariant 8] detach",
    ),
    (
        "unsafe_only_in_named_modules",
        "crates/raddle-core/src/sched/queue.rs",
        "fn f() {\n    unsafe { g() }\n}",
        "crates/raddle-core/src/sched/queue.rs:2: [invariant 9] unsafe outside",
    ),
    (
        "unsafe_only_in_named_modules",
        "crates/raddle-shm/src/ring.rs",
        "fn f() {}",
        "[invariant 9] crates/raddle-shm/src/ has no unsafe code any more",
    ),
    (
        "a_panic_stays_inside",
        "Cargo.toml",
        '[profile.release]\npanic = "abort"\n',
        "[invariant 10] profile release must unwind",
    ),
    (
        "a_panic_stays_inside",
        "crates/raddle-py/src/gate.rs",
        "fn enter() {}",
        "[invariant 10] the gate must catch panics",
    ),
    ("a_panic_stays_inside", "crates/raddle-py/src/pool.rs", "fn f() { x.unwrap(); }", "[invariant 10] unwrap"),
    (
        "a_panic_stays_inside",
        "crates/raddle-py/src/pool.rs",
        "fn f() { std::process::abort() }",
        "[invariant 10] std::process::abort",
    ),
    (
        "nothing_polls",
        "crates/raddle-core/src/sched/queue.rs",
        "fn f() { crate::prim::hint::spin_loop() }",
        "[invariant 11] spin_loop",
    ),
    (
        "nothing_polls",
        "crates/raddle-py/src/pool.rs",
        "fn f() { wait(Duration::from_millis(50)) }",
        "[invariant 11] Duration::from_millis",
    ),
    (
        "nothing_polls",
        "python/raddle/pool.py",
        "import time\ntime.sleep(1)\n",
        "python/raddle/pool.py:2: [invariant 11] time.sleep",
    ),
    (
        "nothing_polls",
        "python/raddle/pool.py",
        "from time import sleep\n",
        "python/raddle/pool.py:1: [invariant 11] time.sleep",
    ),
    ("nothing_polls", "python/raddle/pool.py", "event.wait(timeout=0.05)\n", "[invariant 11] event.wait(timeout=0.05)"),
    (
        "dependence_points_down",
        "crates/raddle-core/Cargo.toml",
        '[package]\nname = "raddle-core"\n[dev-dependencies]\nraddle-shm = "0"\n',
        "[direction] raddle-core may not depend on raddle-shm",
    ),
    (
        "dependence_points_down",
        "crates/raddle-new/Cargo.toml",
        '[package]\nname = "raddle-new"\n',
        "[direction] raddle-new has no place",
    ),
    (
        "dependence_points_down",
        "crates/raddle-core/src/life/state.rs",
        "fn f() { crate::park::with_current(g) }",
        "[direction] room life may not use park",
    ),
    ("no_mutable_statics", "crates/raddle-py/src/runtime.rs", "static mut COUNT: u32 = 0;", "[statics] static mut"),
    (
        "boot_uses_the_standard_library",
        "python/raddle_boot/__init__.py",
        "import cloudpickle\n",
        "python/raddle_boot/__init__.py:1: [boot] imports cloudpickle",
    ),
    (
        "licences_and_sources",
        "Cargo.lock",
        '[[package]]\nname = "stray"\nversion = "1.0.0"\nsource = "git+https://example.org/stray"\n',
        "[sources] stray comes from git+https://example.org/stray",
    ),
    (
        "licences_and_sources",
        "Cargo.lock",
        '[[package]]\nname = "stray"\nversion = "1.0.0"\ndependencies = ["pyo3"]\n',
        "[bans] stray depends on pyo3",
    ),
    ("documents_are_sound", "README.md", "[gone](docs/gone.md)\n", "README.md:1: [links] leads nowhere: docs/gone.md"),
    ("documents_are_sound", "crates/raddle-core/src/lib.rs", "// TODO later\n", "[leftovers] 'TODO'"),
    ("documents_are_sound", "ci/build.sh", "cd /root/raddle\n", "ci/build.sh:1: [leftovers] '/root/'"),
]


@pytest.fixture
def plant(tmp_path):
    """Plants a small tree that keeps every rule, changed by the files given."""

    def plant(**files):
        for path, content in (SOUND | files).items():
            file = tmp_path / path
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(textwrap.dedent(content))
        return invariants.Tree(tmp_path)

    return plant


@pytest.fixture
def no_cargo(monkeypatch):
    """The small trees have nothing that cargo could resolve; the licences are checked in a test of their own."""
    monkeypatch.setattr(invariants, "cargo_packages", lambda root: [])


def found_by(rule, tree):
    return [str(finding) for finding in rule(tree)]


@pytest.mark.parametrize("rule", invariants.RULES, ids=lambda rule: rule.__name__)
def test_a_sound_tree_has_no_findings(plant, rule):
    assert found_by(rule, plant()) == []


@pytest.mark.usefixtures("no_cargo")
@pytest.mark.parametrize(
    ("rule", "path", "content", "expected"), BROKEN, ids=[f"{case[0]}-{n}" for n, case in enumerate(BROKEN)]
)
def test_a_rule_finds_what_breaks_it(plant, rule, path, content, expected):
    tree = plant(**{"deny.toml": (HOUSE / "deny.toml").read_text(), path: content})
    findings = found_by(getattr(invariants, rule), tree)
    assert any(expected in finding for finding in findings), findings


def test_every_rule_is_broken_by_some_test():
    assert {case[0] for case in BROKEN} == {rule.__name__ for rule in invariants.RULES}


def test_pyo3_is_found_behind_another_crate(plant):
    manifest = '[package]\nname = "raddle-core"\n[dependencies]\nmiddle = "1"\n'
    lock = '[[package]]\nname = "middle"\nversion = "1.0.0"\ndependencies = ["pyo3-ffi 0.1.0"]\n'
    tree = plant(**{"crates/raddle-core/Cargo.toml": manifest, "Cargo.lock": lock})
    assert found_by(invariants.only_py_depends_on_pyo3, tree) == [
        "crates/raddle-core/Cargo.toml:1: [invariant 1] raddle-core depends on pyo3-ffi; only raddle-py may"
    ]


@pytest.mark.parametrize(
    ("expression", "is_allowed"),
    [
        ("MIT", True),
        ("MIT OR GPL-3.0", True),
        ("MIT/Apache-2.0", True),
        ("MIT AND GPL-3.0", False),
        ("(MIT OR Apache-2.0) AND Unicode-3.0", True),
        ("(GPL-2.0 OR GPL-3.0) AND MIT", False),
        ("Apache-2.0 WITH LLVM-exception OR GPL-3.0", True),
        ("Apache-2.0 WITH Other-exception", False),
        ("", False),
    ],
)
def test_a_licence_expression_is_understood(expression, is_allowed):
    allowed = set(tomllib.loads((HOUSE / "deny.toml").read_text())["licenses"]["allow"])
    assert invariants.licence_allowed(expression, allowed) is is_allowed


def test_a_forbidden_licence_is_found(plant, monkeypatch):
    monkeypatch.setattr(invariants, "cargo_packages", lambda root: [{"name": "stray", "license": "GPL-3.0"}])
    tree = plant(**{"Cargo.lock": "version = 4\n", "deny.toml": '[licenses]\nallow = ["MIT"]\n'})
    assert found_by(invariants.licences_and_sources, tree) == [
        "Cargo.lock:1: [licences] stray has the licence 'GPL-3.0', which deny.toml does not allow"
    ]


@pytest.mark.usefixtures("no_cargo")
def test_the_script_names_place_and_rule_and_exits_with_one(plant):
    root = plant(**{"python/raddle/pool.py": "import time\ntime.sleep(1)\n"}).root
    done = subprocess.run(
        [sys.executable, HOUSE / "ci" / "invariants.py", root], capture_output=True, text=True, timeout=50
    )
    assert done.returncode == 1
    assert done.stdout == "python/raddle/pool.py:2: [invariant 11] time.sleep: wait for the condition itself\n"
    assert done.stderr == "1 findings\n"


def test_architecture_lists_the_twelve_invariants_each_with_its_check():
    text = (HOUSE / "ARCHITECTURE.md").read_text()
    rows = re.findall(r"^\| (\d+) \| (.+?) \| (.+?) \|$", text, re.MULTILINE)
    assert [int(number) for number, _, _ in rows] == list(range(1, 13))
    named = set(re.findall(r"`(\w+)`", " ".join(check for _, _, check in rows)))
    rules = {rule.__name__ for rule in invariants.RULES if re.match(r"Invariant \d", rule.__doc__ or "")}
    assert rules <= named


ERRANDS = "help demo build test check bench conformance ecosystem model stress san wheel clean".split()


def test_make_help_lists_every_errand():
    shown = subprocess.run(
        ["make", "--no-print-directory", "help"], cwd=HOUSE, capture_output=True, text=True, timeout=50
    )
    assert shown.returncode == 0, shown.stderr
    assert re.findall(r"^  (\w+) +\S", shown.stdout, re.MULTILINE) == ERRANDS


@pytest.mark.parametrize("errand", ERRANDS[1:])
def test_every_errand_is_a_script_that_bash_can_read(errand):
    script = HOUSE / "ci" / f"{errand}.sh"
    assert f"ci/{errand}.sh" in (HOUSE / "Makefile").read_text()
    assert script.stat().st_mode & 0o111
    assert subprocess.run(["bash", "-n", script], timeout=50).returncode == 0


def test_requirements_come_from_pyproject_and_unknown_groups_are_named():
    command = [sys.executable, HOUSE / "ci" / "requirements.py"]
    done = subprocess.run([*command, "run", "build", "test"], capture_output=True, text=True, timeout=50)
    names = [re.match(r"[\w-]+", line)[0] for line in done.stdout.splitlines()]
    assert names[:4] == ["cloudpickle", "maturin", "pytest", "pytest-timeout"]
    assert set(names[4:]) == {
        "numpy",
        "pyte",
        "joblib",
        "scikit-learn",
        "dask",
        "pillow",
        "tqdm",
        "rich",
        "ipykernel",
        "ipywidgets",
    }
    done = subprocess.run([*command, "tset"], capture_output=True, text=True, timeout=50)
    assert done.returncode == 1
    assert (
        done.stderr
        == "error: pyproject.toml has no extra 'tset'\nhint: one of run, build, test, browser, dev, ecosystem, bench, bench-all\n"
    )


def test_a_missing_interpreter_is_one_clear_line():
    environment = {"PATH": "/usr/bin:/bin", "HOME": "/nonexistent", "PYTHON": "python3.99"}
    done = subprocess.run([HOUSE / "ci" / "build.sh"], env=environment, capture_output=True, text=True, timeout=50)
    assert done.returncode == 1
    assert done.stderr.splitlines()[0] == "error: no working Python called 'python3.99'"
    assert done.stderr.splitlines()[1].startswith("hint: ")


def test_an_old_interpreter_is_refused_with_its_version(tmp_path):
    # Stands for an interpreter that is too old: it answers as one would.
    old = tmp_path / "python3.9"
    old.write_text(
        '#!/bin/sh\ncase "$2" in *sys.executable*) echo "$0";; *version_info*) exit 1;; *) echo 3.9.18;; esac\n'
    )
    old.chmod(0o755)
    environment = {"PATH": "/usr/bin:/bin", "HOME": "/nonexistent", "PYTHON": str(old)}
    done = subprocess.run([HOUSE / "ci" / "build.sh"], env=environment, capture_output=True, text=True, timeout=50)
    assert done.returncode == 1
    assert done.stderr.splitlines()[0] == f"error: Raddle needs Python 3.11 or newer, and {old} is 3.9.18"


def test_the_python_version_is_the_one_of_the_workspace():
    import raddle

    assert raddle.__version__ == tomllib.loads((HOUSE / "Cargo.toml").read_text())["workspace"]["package"]["version"]


def test_what_a_test_run_leaves_running_is_named_and_ended(tmp_path):
    run = tmp_path.name
    check = [sys.executable, HOUSE / "ci" / "leftovers.py", run, "0.1"]
    assert subprocess.run(check, check=False).returncode == 0
    left = subprocess.Popen(
        [sys.executable, "-c", "import time; time.sleep(60)"], env={**os.environ, "RADDLE_TEST_RUN": run}
    )
    try:
        told = subprocess.run(check, check=False, stderr=subprocess.PIPE, text=True)
        assert told.returncode == 1
        assert re.search(
            rf"^  {left.pid} \(state \w, parent \d+\): \S+python\S* -c import time", told.stderr, re.MULTILINE
        )
        assert left.wait(10) == -signal.SIGKILL
    finally:
        left.kill()
        left.wait()
