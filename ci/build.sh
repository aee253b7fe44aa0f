#!/usr/bin/env bash
# make build: the environment and the release extension in it.
RADDLE_EXTRAS="" source "$(dirname "${BASH_SOURCE[0]}")/env.sh"
"$VENV/bin/python" -c 'import raddle, sys; print(f"raddle {raddle.__version__} for Python {sys.version.split()[0]}: {raddle.__file__}")'
