#!/usr/bin/env bash
# make check: everything about the code that can be said without running it.
#
# Runs every check even when one fails, names those that did, and ends with their number.
RADDLE_EXTRAS="test dev" source "$(dirname "${BASH_SOURCE[0]}")/env.sh"

python="$VENV/bin/python"
failed=()
check() { # NAME COMMAND...
    local name="$1" started=$SECONDS
    shift
    if "$@"; then
        say "$name: ok ($((SECONDS - started)) s)"
    else
        say "$name: FAILED"
        failed+=("$name")
    fi
}

under_loom() { RUSTFLAGS="--cfg loom" CARGO_TARGET_DIR="${CARGO_TARGET_DIR:-$ROOT/target}/loom" "$@"; }

check "rustfmt" cargo fmt --all --check
check "clippy" cargo clippy --locked --quiet --workspace --all-targets -- -D warnings
check "clippy, cfg(loom)" under_loom cargo clippy --locked --quiet -p raddle-core -p raddle-shm -p raddle-proc --all-targets -- -D warnings
check "rustdoc" env RUSTDOCFLAGS="-D warnings" cargo doc --locked --quiet --no-deps --workspace
check "ruff check" "$python" -m ruff check --quiet .
check "ruff format" "$python" -m ruff format --quiet --check .
check "mypy --strict" "$python" -m mypy --no-error-summary
check "stubtest" "$python" -m mypy.stubtest raddle --mypy-config-file pyproject.toml --allowlist ci/stubtest-allowlist.txt
check "invariants" "$python" ci/invariants.py
if cargo deny --version >/dev/null 2>&1; then
    check "cargo-deny" cargo deny --locked --log-level error check advisories bans licenses sources
else
    say "cargo-deny is not installed: its bans, licences and sources were checked by ci/invariants.py, advisories were not"
fi

if (( ${#failed[@]} )); then
    say "${#failed[@]} failed: $(IFS=,; echo "${failed[*]}")"
    exit 1
fi
say "all checks passed"
