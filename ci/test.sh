#!/usr/bin/env bash
# make test: Rust tests of the crates without Python, then the Python tests.
#
# PYTHONS names further interpreters for the Python tests; each gets its own environment, .venv-3.12 and so on.
# Arguments go to pytest.
#
# With RADDLE_RERUN=1, as .ci/run sets it, up to three tests that failed are run once more, by themselves, as CPython's own
# `regrtest --rerun` does on machines that others use too. What passes then is named in the output as flaky, and is a bug to be
# found; what fails again, or more than three failures, fails the run. By default every failure counts.
#
# Where there is a browser, pages and traces are opened in it, and what shows them is installed.
RADDLE_EXTRAS=test
if "$(dirname "${BASH_SOURCE[0]}")/browser.sh" find; then RADDLE_EXTRAS+=" browser"; fi
source "$(dirname "${BASH_SOURCE[0]}")/env.sh"

say "cargo test: the crates without Python"
crates=(-p raddle-core -p raddle-shm -p raddle-proc -p raddle-probe -p raddle-trace -p raddle-top)
if cargo nextest --version >/dev/null 2>&1; then
    cargo nextest run --locked "${crates[@]}" --status-level fail ${RADDLE_RERUN:+--retries 1}
    cargo test --locked --quiet "${crates[@]}" --doc
else
    cargo test --locked --quiet "${crates[@]}"
fi

# What failed in the run before, by itself. Fails if it is too much, or fails again.
rerun_failed() {
    local failed="$ROOT/.pytest_cache/v/cache/lastfailed" names
    names="$("$VENV/bin/python" -c 'import json, sys; print(*json.load(open(sys.argv[1])), sep="\n")' "$failed")" || return 1
    (( "$(wc -l <<<"$names")" <= 3 )) || return 1
    say "failed, and run once more by itself: ${names//$'\n'/, }"
    "$VENV/bin/python" -m pytest -m "not stress" --last-failed --last-failed-no-failures none || return 1
    say "flaky, to be looked into: ${names//$'\n'/, }"
}

pythons=0
test_python() { # with $VENV ready
    pythons=$((pythons + 1))
    say "pytest with $("$VENV/bin/python" -VV | head -1)"
    local run="$$-$pythons-$RANDOM" rc=0
    RADDLE_TEST_RUN="$run" "$VENV/bin/python" -m pytest -m "not stress" ${RADDLE_RERUN:+-o timeout_method=signal} "$@" || rc=$?
    if [[ -n "${RADDLE_RERUN:-}" && "$rc" == 1 ]]; then
        RADDLE_TEST_RUN="$run" rerun_failed && rc=0
    fi
    # A process that is left holds the output open, and whoever reads it would wait for ever.
    ci/leftovers.py "$run" || rc=1
    return "$rc"
}

test_python "$@"
first="$PYTHON"
RADDLE_EXTRAS=test
for name in ${PYTHONS:-}; do
    python="$(find_python "$name")" || die "no working Python called '$name'" "PYTHONS takes names on PATH or absolute paths"
    [[ "$python" != "$first" ]] || continue
    PYTHON="$python" VENV="$(venv_for "$python")"
    source ci/env.sh
    test_python "$@"
done
say "all passed on $pythons interpreter(s)"
