#!/usr/bin/env bash
# make clean: removes what the other errands made. Nothing that git tracks.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
rm -rf target dist .venv .venv-* .venv*.lock .mypy_cache .ruff_cache .pytest_cache bench-results test-results
find python tests ci examples benches -name __pycache__ -type d -prune -exec rm -rf {} + 2>/dev/null || true
rm -f python/raddle/_raddle*.so
