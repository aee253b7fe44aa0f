# The Python environment of every errand. To be sourced by bash from another script in ci/:
#
#     source "$(dirname "${BASH_SOURCE[0]}")/env.sh"              # .venv, test tools, release build
#     RADDLE_EXTRAS="test bench" source .../env.sh                # and the extras `bench` of pyproject.toml
#     RADDLE_BUILD=no source .../env.sh                           # tools only, no extension
#
# In:   PYTHON (name or path of the interpreter), VENV (the environment's directory), RADDLE_EXTRAS, RADDLE_BUILD
# Out:  ROOT, PYTHON (absolute), VENV (absolute; "$VENV/bin/python" is ready), PYO3_PYTHON, and the functions below
#
# Everything is done once and remembered in stamp files inside the environment, so that a second call costs
# a fraction of a second. A lock keeps two errands from setting up the same environment at once.

set -euo pipefail

ROOT="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)"
cd "$ROOT"

say() { printf '\033[1m>\033[0m %s\n' "$*" >&2; }
[[ -t 2 && -z "${NO_COLOR:-}" ]] || say() { printf '> %s\n' "$*" >&2; }
die() { printf 'error: %s\n' "$1" >&2; shift; printf 'hint: %s\n' "$@" >&2; exit 1; }

# find_python NAME: the interpreter's own absolute path, or failure. A name on PATH may be a shim that does not work.
find_python() {
    local name="$1" found places=("$1")
    [[ "$name" == */* ]] || places+=("$HOME"/.pyenv/versions/*/bin/"$name")
    for found in "${places[@]}"; do
        found="$("$found" -c 'import sys; print(sys.executable)' 2>/dev/null)" && [[ -n "$found" ]] && echo "$found" && return
    done
    return 1
}

# venv_for PYTHON: where a further interpreter's environment lives, e.g. .venv-3.13t.
venv_for() {
    "$1" -c 'import sys, sysconfig
print(".venv-%d.%d%s" % (*sys.version_info[:2], "t" if sysconfig.get_config_var("Py_GIL_DISABLED") else ""))'
}

# remembered FILE TEXT: does the stamp say that this was done?
remembered() { [[ -f "$1" && "$(<"$1")" == "$2" ]]; }

# hash_of PATH...: one hash over the names and contents of files and directories.
hash_of() {
    find "$@" -type f ! -path '*/__pycache__/*' ! -path '*/target/*' -print0 | LC_ALL=C sort -z | xargs -0 sha256sum | sha256sum | cut -c1-64
}

choose_python() {
    local asked="${PYTHON:-}"
    if [[ -n "$asked" ]]; then
        PYTHON="$(find_python "$asked")" || die "no working Python called '$asked'" "give a name on PATH or an absolute path: PYTHON=/usr/bin/python3.11"
    else
        PYTHON="$(find_python python3.11 || find_python python3)" || die "no Python found" "on Debian 12: apt install python3"
    fi
    "$PYTHON" -c 'import sys; sys.exit(sys.version_info < (3, 11))' ||
        die "Raddle needs Python 3.11 or newer, and $PYTHON is $("$PYTHON" -c 'import platform; print(platform.python_version())')" \
            "name another one: make demo PYTHON=python3.12"
    export PYTHON
}

make_venv() {
    local stamp="$VENV/.raddle/python" what
    what="$PYTHON $("$PYTHON" -c 'import sys; print(sys.version)' | tr '\n' ' ')"
    if remembered "$stamp" "$what" && [[ -x "$VENV/bin/python" ]]; then return; fi
    say "making $(basename "$VENV") with $PYTHON ($("$PYTHON" -c 'import platform; print(platform.python_version())'))"
    rm -rf "$VENV"
    "$PYTHON" -c 'import venv' 2>/dev/null ||
        die "$PYTHON has no module venv" "on Debian 12: apt install python3-venv"
    if "$PYTHON" -c 'import ensurepip' 2>/dev/null; then
        "$PYTHON" -m venv "$VENV"
    else
        # Debian keeps ensurepip in python3-venv. Without it, bring pip in by its pinned wheel.
        "$PYTHON" -m venv --without-pip "$VENV"
        say "this Python has no ensurepip; fetching pip"
        "$VENV/bin/python" "$ROOT/ci/get_pip.py" ||
            die "pip could not be fetched, and $PYTHON has no ensurepip" "on Debian 12: apt install python3-venv"
    fi
    mkdir -p "$VENV/.raddle"
    echo "$what" >"$stamp"
}

install_tools() {
    local extra stamp what missing=()
    what="$(hash_of pyproject.toml)"
    for extra in "$@"; do
        stamp="$VENV/.raddle/extra-$extra"
        remembered "$stamp" "$what" || missing+=("$extra")
    done
    (( ${#missing[@]} )) || return 0
    say "installing what pyproject.toml asks for: ${missing[*]}"
    "$VENV/bin/python" ci/requirements.py "${missing[@]}" >"$VENV/.raddle/requirements.txt"
    "$VENV/bin/python" -m pip install --quiet --disable-pip-version-check --requirement "$VENV/.raddle/requirements.txt"
    for extra in "${missing[@]}"; do echo "$what" >"$VENV/.raddle/extra-$extra"; done
}

build_extension() {
    local stamp="$VENV/.raddle/build" what library
    command -v cargo >/dev/null || die "cargo is not on PATH" "install Rust 1.88 or newer: https://rustup.rs"
    local cargo
    cargo="$(cargo --version | cut -d' ' -f2)"
    [[ "$(printf '1.88\n%s\n' "$cargo" | sort -V | head -1)" == 1.88 ]] ||
        die "building needs Rust 1.88 or newer, and this is $cargo" "install it with https://rustup.rs"
    command -v cc >/dev/null || die "no C compiler (cc) to link with" "on Debian 12: apt install gcc libc6-dev"
    what="$(hash_of Cargo.toml Cargo.lock pyproject.toml crates) $(cargo --version)"
    library="python/raddle/_raddle$("$VENV/bin/python" -c 'import sysconfig; print(sysconfig.get_config_var("EXT_SUFFIX"))')"
    if remembered "$stamp" "$what" && [[ -f "$library" ]]; then return; fi
    say "building the extension (release); the first time takes a minute or two"
    # A directory of its own per further interpreter: PyO3 builds anew when the interpreter changes.
    local target="${CARGO_TARGET_DIR:-$ROOT/target}"
    [[ "$VENV" == "$ROOT/.venv" ]] || target="$target/$(basename "$VENV")"
    env -u CONDA_PREFIX VIRTUAL_ENV="$VENV" CARGO_TARGET_DIR="$target" \
        "$VENV/bin/python" -m maturin develop --release --locked --quiet 2>&1 |
        sed '/^Ignoring .* markers/d; /^Requirement already satisfied/d; /^Looking in links/d; /^[^[:alnum:][:space:]=-]/d' >&2
    # maturin leaves a wheel's data out of an editable installation.
    cp crates/raddle-py/data/purelib/raddle_recorder.pth "$("$VENV/bin/python" -c 'import sysconfig; print(sysconfig.get_path("purelib"))')/"
    sed "1s|.*|#!$VENV/bin/python|" crates/raddle-py/data/scripts/raddle >"$VENV/bin/raddle"
    chmod +x "$VENV/bin/raddle"
    echo "$what" >"$stamp"
}

choose_python
VENV="${VENV:-$ROOT/.venv}"
[[ "$VENV" == /* ]] || VENV="$ROOT/$VENV"
export PYO3_PYTHON="$VENV/bin/python"
unset PYTHONHOME PYTHONPATH

(
    if command -v flock >/dev/null; then
        exec 9>"$VENV.lock"
        flock --nonblock 9 || { say "waiting for another errand to set up $(basename "$VENV")"; flock 9; }
    fi
    make_venv
    # shellcheck disable=SC2086 # a list of words
    install_tools run build ${RADDLE_EXTRAS-test}
    [[ "${RADDLE_BUILD:-yes}" == no ]] || build_extension
)
