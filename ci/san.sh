#!/usr/bin/env bash
# make san: the Rust tests of core, shm and proc under the address (with leak) and the thread sanitizer.
#
# SANITIZERS="thread" picks one; SAN_SECONDS=60 runs the tests again and again until so much time has passed; arguments go to `cargo test`. Needs a nightly toolchain (NIGHTLY, default `nightly`), whose
# sanitizer runtimes come with it. Where rust-src is installed the standard library is instrumented too; where it is not,
# ci/tsan-suppressions.txt names what the thread sanitizer misunderstands, each line with its reason. ci/lsan-suppressions.txt names what
# is leaked on purpose.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

nightly="${NIGHTLY:-nightly}"
if ! rustc "+$nightly" --version >/dev/null 2>&1; then
    echo "> no toolchain called '$nightly': the sanitizers were not run" >&2
    echo "hint: rustup toolchain install nightly --component rust-src" >&2
    exit "${SAN_MISSING_RC:-0}"
fi
host="$(rustc "+$nightly" -vV | sed -n 's/^host: //p')"
sysroot="$(rustc "+$nightly" --print sysroot)"
build_std=()
if [[ -d "$sysroot/lib/rustlib/src/rust/library" ]]; then build_std=(-Z build-std); fi
echo "> $(rustc "+$nightly" --version), standard library $( ((${#build_std[@]})) && echo instrumented || echo "not instrumented (no rust-src)")" >&2

[[ " $* " == *" -p "* ]] || set -- -p raddle-core -p raddle-shm -p raddle-proc "$@"
for sanitizer in ${SANITIZERS:-address thread}; do
    echo "> $sanitizer sanitizer" >&2
    # rustix through libc: the sanitizers intercept libc's mmap and munmap and learn that an address has a new life; raw
    # system calls they do not see.
    flags="-Z sanitizer=$sanitizer --cfg rustix_use_libc" suppressions=""
    if ! ((${#build_std[@]})); then
        # A standard library without instrumentation links with instrumented crates, and hides what synchronises inside it:
        # the slow path of its Mutex is one such place, so prim::Mutex avoids that path under cfg(raddle_tsan).
        flags+=" -C unsafe-allow-abi-mismatch=sanitizer"
        suppressions="suppressions=$PWD/ci/tsan-suppressions.txt:"
    fi
    [[ "$sanitizer" != thread ]] || flags+=" --cfg raddle_tsan"
    rounds=0 started=$SECONDS
    while ((rounds == 0 || SECONDS - started < ${SAN_SECONDS:-0})); do
        RUSTFLAGS="$flags" \
            ASAN_OPTIONS="detect_leaks=1:detect_stack_use_after_return=1:allocator_may_return_null=1" \
            LSAN_OPTIONS="suppressions=$PWD/ci/lsan-suppressions.txt:print_suppressions=0" \
            TSAN_OPTIONS="${suppressions}second_deadlock_stack=1:history_size=4" \
            CARGO_TARGET_DIR="${CARGO_TARGET_DIR:-$PWD/target}/san-$sanitizer" \
            cargo "+$nightly" test --locked --target "$host" ${build_std[@]+"${build_std[@]}"} --lib --tests "$@"
        ((++rounds > 1)) || started=$SECONDS # building does not count
    done
done
echo "> no findings: ${SANITIZERS:-address thread}" >&2
