#!/usr/bin/env bash
# make demo: sets up, builds, and runs examples/stdlib_census.py on the interpreter's own standard library.
RADDLE_EXTRAS="" source "$(dirname "${BASH_SOURCE[0]}")/env.sh"
exec "$VENV/bin/python" examples/stdlib_census.py "$@"
