#!/usr/bin/env bash
# make stress: the tests that run under load. TIME is the number of seconds each may spend (default 20); each prints its seed, and
# RADDLE_STRESS_SEED repeats it. The whole of them, twenty thousand payloads and half an hour of churn, is TIME=1800.
source "$(dirname "${BASH_SOURCE[0]}")/env.sh"
export RADDLE_STRESS_SECONDS="${TIME:-20}"
say "stress tests, $RADDLE_STRESS_SECONDS s each"
exec "$VENV/bin/python" -m pytest -m stress -s -o faulthandler_timeout=0 --timeout $((RADDLE_STRESS_SECONDS * 6 + 120)) tests/stress "$@"
