#!/usr/bin/env bash
# make model: loom runs the small programs in tests/model through every interleaving it can tell apart.
#
# ARGS="-p raddle-shm" for one crate, ARGS="-p raddle-core -- queue" for the models whose name has `queue` in it.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

export RUSTFLAGS="--cfg loom"
export CARGO_TARGET_DIR="${CARGO_TARGET_DIR:-$PWD/target}/loom"
[[ " $* " == *" -p "* ]] || set -- -p raddle-core -p raddle-shm -p raddle-proc "$@"
exec cargo test --locked --release --test model "$@"
