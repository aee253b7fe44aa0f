#!/usr/bin/env bash
# make test: Rust tests of the crates without Python, then the Python tests.
#
# PYTHONS names further interpreters for the Python tests; each gets its own environment, .venv-3.12 and so on.
# Arguments go to pytest.
source "$(dirname "${BASH_SOURCE[0]}")/env.sh"

say "cargo test: raddle-core, raddle-shm, raddle-proc"
crates=(-p raddle-core -p raddle-shm -p raddle-proc)
if cargo nextest --version >/dev/null 2>&1; then
    cargo nextest run --locked "${crates[@]}" --status-level fail
    cargo test --locked --quiet "${crates[@]}" --doc
else
    cargo test --locked --quiet "${crates[@]}"
fi

pythons=0
test_python() { # with $VENV ready
    pythons=$((pythons + 1))
    say "pytest with $("$VENV/bin/python" -VV | head -1)"
    "$VENV/bin/python" -m pytest -m "not stress" "$@"
}

test_python "$@"
first="$PYTHON"
for name in ${PYTHONS:-}; do
    python="$(find_python "$name")" || die "no working Python called '$name'" "PYTHONS takes names on PATH or absolute paths"
    [[ "$python" != "$first" ]] || continue
    PYTHON="$python" VENV="$(venv_for "$python")"
    source ci/env.sh
    test_python "$@"
done
say "all passed on $pythons interpreter(s)"
