#!/usr/bin/env bash
# make stress: the tests that run under load. TIME is the number of seconds each may spend (default 20); each prints its seed, and
# RADDLE_STRESS_SEED repeats it. The whole of them, twenty thousand payloads and half an hour of churn, is TIME=1800.
#
# Then the Rust tests of core and shm under the thread sanitizer, again and again for as long; without a nightly toolchain a line says
# that they were not. Arguments go to pytest; with some, these are all that is run.
source "$(dirname "${BASH_SOURCE[0]}")/env.sh"
export RADDLE_STRESS_SECONDS="${TIME:-20}"
failed=0
say "stress tests, $RADDLE_STRESS_SECONDS s each"
"$VENV/bin/python" -m pytest -m stress -s -o faulthandler_timeout=0 --timeout $((RADDLE_STRESS_SECONDS * 6 + 120)) "$@" || failed=1
if (($# == 0)); then
    say "core and shm under the thread sanitizer, $RADDLE_STRESS_SECONDS s"
    SANITIZERS=thread SAN_SECONDS="$RADDLE_STRESS_SECONDS" ci/san.sh -p raddle-core -p raddle-shm || failed=1
fi
exit "$failed"
