#!/usr/bin/env bash
# make wheel: builds a wheel into dist/, installs it into an empty environment outside the tree and uses both pools there.
RADDLE_BUILD=no RADDLE_EXTRAS="" source "$(dirname "${BASH_SOURCE[0]}")/env.sh"

say "building the wheel"
built="$(mktemp -d)"
trap 'rm -rf "$built"' EXIT
"$VENV/bin/python" -m maturin build --release --locked --quiet --interpreter "$VENV/bin/python" --out "$built"
wheel="$(find "$built" -name '*.whl')"

say "trying $(basename "$wheel") in an empty environment"
VENV_WHEEL="$built/venv"
"$PYTHON" -m venv --without-pip "$VENV_WHEEL"
"$VENV/bin/python" -m pip --python "$VENV_WHEEL/bin/python" install --quiet --disable-pip-version-check "$wheel"
cd "$built"
"$VENV_WHEEL/bin/python" - <<'PYTHON'
import raddle

for kind in ("thread", "process"):
    with raddle.Pool(kind, workers=2) as pool:
        assert list(pool.map(lambda x: x * x, range(100))) == [x * x for x in range(100)]
print(f"raddle {raddle.__version__}: both pools work, from {raddle.__path__[0]}")
PYTHON
"$VENV_WHEEL/bin/raddle" run -c 'print("raddle run: the command and its recorder are there")'
mkdir -p "$ROOT/dist"
mv "$wheel" "$ROOT/dist/"
say "dist/$(basename "$wheel")"
