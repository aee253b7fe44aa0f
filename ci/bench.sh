#!/usr/bin/env bash
# Raddle beside the standard library and its peers, in one run on this machine: a table, JSON, docs/benchmarks.md.
#
#   ci/bench.sh latency threading      rows, beginnings of rows, or lanes; the document is then left as it is
#   BENCH_ROWS="latency threading"     the same
#   BENCH_ROUNDS=1                     rounds per row
#   BENCH_QUICK=1                      everything small: for a look, not for a claim
#   BENCH=all                          Ray and Dask take part, too
#   ci/bench.sh --report               write docs/benchmarks.md again from the last whole run, without measuring

set -euo pipefail
RADDLE_EXTRAS="bench$([[ "${BENCH:-}" != all ]] || echo " bench-all")" source "$(dirname "${BASH_SOURCE[0]}")/env.sh"

case "${1:-}" in
    --report) exec "$VENV/bin/python" benches/python/report.py ;;
    -*) die "bench takes no argument '$1'" "BENCH, BENCH_ROUNDS and BENCH_QUICK are variables of the environment" ;;
    *)
        (( $# == 0 )) || export BENCH_ROWS="$*"
        # The peers were installed with their bytecode; so is what stands here in place.
        "$VENV/bin/python" -m compileall -q python
        exec "$VENV/bin/python" benches/python/bench_pool.py ;;
esac
