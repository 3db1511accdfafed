#!/usr/bin/env bash
# Runs tests with the sanitizers of the compiler's own toolchain.
#
# scripts/sanitize.sh [address] [thread]     one or both; both by default
#
# address: our own vectors, parsers, handshakes and data path, for accesses out of bounds and memory
#          that is used after it was freed, and for what is never freed.
# thread:  the tests that have several threads, for data races.
#
# The standard library is not instrumented, as that takes its sources and a nightly compiler. For the
# thread sanitizer it is a library of its own, of which nothing is believed or reported; so what a
# thread hands over by a contended lock of the standard library alone would look like a race. What
# is known to be none is in scripts/thread-sanitizer.txt. RUSTC_BOOTSTRAP lets a stable compiler
# take the options.
set -euo pipefail
cd "$(dirname "$0")/.."

host=$(rustc -vV | sed -n 's/^host: //p')
target=${CARGO_TARGET_DIR:-target}

# With a target named, build scripts are left alone.
sanitized() {
    local kind=$1 flags=$2
    shift 2
    RUSTC_BOOTSTRAP=1 \
        RUSTFLAGS="-Zsanitizer=$kind -Cunsafe-allow-abi-mismatch=sanitizer $flags" \
        cargo test --locked --no-fail-fast --target "$host" --target-dir "$target/$kind" "$@"
}

address() {
    export ASAN_OPTIONS=detect_leaks=1:strict_string_checks=1
    sanitized address "" -p omni-wire -p omni-aead -p omni-offload -p omni-replay -p omni-shared \
        --lib --tests
    sanitized address "" -p omni-control --lib --test pair
    sanitized address "" -p omni-engine --lib --test memory
}

thread() {
    local lib
    lib=$(rustc --print target-libdir)
    export LD_LIBRARY_PATH="$lib${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}"
    export TSAN_OPTIONS="ignore_noninstrumented_modules=1 halt_on_error=0 \
suppressions=$PWD/scripts/thread-sanitizer.txt"
    sanitized thread -Cprefer-dynamic -p omni-replay --test window -- of_four_threads
    sanitized thread -Cprefer-dynamic -p omni-shared --lib --test threads
}

for kind in "${@:-address thread}"; do
    for one in $kind; do
        case $one in
        address | thread) "$one" ;;
        *)
            echo "sanitize: '$one' is neither address nor thread" >&2
            exit 2
            ;;
        esac
    done
done
