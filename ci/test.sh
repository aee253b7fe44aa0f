#!/usr/bin/env bash
# make test: Rust tests of the crates without Python, then the Python tests.
#
# PYTHONS names further interpreters for the Python tests; each gets its own environment, .venv-3.12 and so on.
# Arguments go to pytest.
source "$(dirname "${BASH_SOURCE[0]}")/env.sh"

say "cargo test: the crates without Python"
crates=(-p raddle-core -p raddle-shm -p raddle-proc -p raddle-probe -p raddle-trace -p raddle-top)
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
    local run="$$-$pythons-$RANDOM" rc=0
    RADDLE_TEST_RUN="$run" "$VENV/bin/python" -m pytest -m "not stress" "$@" || rc=$?
    # A process that is left holds the output open, and whoever reads it would wait for ever.
    ci/leftovers.py "$run" || rc=1
    return "$rc"
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
