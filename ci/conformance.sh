#!/usr/bin/env bash
# CPython's own tests of concurrent.futures and of multiprocessing's pools against Raddle's drop-ins.
#
#   ci/conformance.sh                            every interpreter found that ships the tests
#   ci/conformance.sh test_shutdown pools_fork   these files only
#   ci/conformance.sh --baseline                 the standard library itself: is a failure the machine's doing?
#   PYTHONS="python3.13 /usr/bin/python3.11"     names the interpreters

set -euo pipefail
# The wheels are built per interpreter by the runner: of .venv only its tools are needed.
RADDLE_BUILD=no RADDLE_EXTRAS="" source "$(dirname "${BASH_SOURCE[0]}")/env.sh"

exec "$VENV/bin/python" tests/conformance/run.py "$@"
