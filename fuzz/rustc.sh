#!/bin/sh
# Compiles the repository's own crates for fuzzing: cargo calls it as `fuzz/rustc.sh rustc ...` for
# these, and the compiler itself for dependencies, which stay as fast as in a release.
#
# What follows is what `cargo fuzz` passes to the compiler, for coverage. FUZZ_SANITIZER names a
# sanitizer, or none. The standard library and dependencies are without it, and those who link them
# have to say that they may be. Build scripts run on this machine, without a `--target`, and are
# left alone.
case " $* " in
*" --target "*) ;;
*) exec "$@" ;;
esac
if [ -n "$FUZZ_SANITIZER" ]; then
    set -- "$@" "-Zsanitizer=$FUZZ_SANITIZER" -Cunsafe-allow-abi-mismatch=sanitizer
fi
exec "$@" -Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 \
    -Cllvm-args=-sanitizer-coverage-inline-8bit-counters \
    -Cllvm-args=-sanitizer-coverage-pc-table -Cllvm-args=-sanitizer-coverage-trace-compares
