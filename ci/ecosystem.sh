#!/usr/bin/env bash
# The tests of other packages with Raddle under them: joblib's and Dask's own.
#
#   ci/ecosystem.sh                        everything; ends with "N passed, N failed, N skipped"
#   ci/ecosystem.sh joblib                 this package only
#   ci/ecosystem.sh dask --only reuse      tests whose name has "reuse" in it
#   ci/ecosystem.sh --baseline             the packages without Raddle: is a failure the machine's doing?

set -euo pipefail
RADDLE_EXTRAS="ecosystem" source "$(dirname "${BASH_SOURCE[0]}")/env.sh"

exec "$VENV/bin/python" tests/ecosystem/run.py "$@"
