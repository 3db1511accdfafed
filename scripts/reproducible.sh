#!/usr/bin/env bash
# Builds the programs twice from the same commit, in two folders, and compares them octet by octet.
# What is built depends on sources, Cargo.lock, compilers and libraries, and on nothing else.
#
# scripts/reproducible.sh [FOLDER]    where to build; by default a new folder, removed at the end
#
# Takes two release builds. Exit status 1 when a program differs. JOBS limits the compilers at work.
set -euo pipefail
cd "$(dirname "$0")/.."

cargo_home=${CARGO_HOME:-$HOME/.cargo}
programs="omni-engine omni omni-nucleus"
# The programs for the kernel, which clang compiles, beside those that contain them.
objects="omni_redirect omni_handover"
epoch=$(git log -1 --format=%ct)

if [ $# -gt 0 ]; then
    work=$(realpath -m "$1")
    mkdir -p "$work"
else
    work=$(mktemp -d)
    trap 'rm -rf "$work"' EXIT
fi

# libxdp's build gives clang no options of ours, and what it compiles is in the programs, with the
# path that it was compiled at.
cat > "$work/clang" <<'END'
#!/bin/sh
exec "$REAL_CLANG" "$@" $PREFIX_MAP
END
chmod +x "$work/clang"

# Folders of different lengths, so that a path that is left in shows.
build() {
    local tree=$1
    rm -rf "$tree"
    mkdir -p "$tree"
    git archive HEAD | tar -x -C "$tree"
    local map="-ffile-prefix-map=$tree=/omni -ffile-prefix-map=$cargo_home=/cargo"
    (
        cd "$tree"
        env -u CARGO_BUILD_TARGET -u CARGO_ENCODED_RUSTFLAGS \
            SOURCE_DATE_EPOCH="$epoch" CARGO_TARGET_DIR="$tree/target" LC_ALL=C TZ=UTC \
            CFLAGS="$map" CXXFLAGS="$map" ZERO_AR_DATE=1 \
            CLANG="$work/clang" REAL_CLANG="${CLANG:-clang}" PREFIX_MAP="$map" \
            RUSTFLAGS="--remap-path-prefix=$cargo_home=/cargo --remap-path-prefix=$tree=/omni" \
            cargo build --release --locked ${JOBS:+--jobs "$JOBS"} -p omni-engine -p omni-nucleus
    )
}

# What is compared, by a name that does not depend on the folder.
parts() {
    local tree=$1 name
    for name in $programs; do
        echo "$name $tree/target/release/$name"
    done
    for name in $objects; do
        find "$tree/target/release/build" -path '*/omni-xdp-redirect-*/out/*' -name "$name*.o" \
            -printf '%f %p\n'
    done | sort
}

first=$work/a
second=$work/another-folder
build "$first"
build "$second"

differ=0
compared=0
while read -r name path && read -r _ other <&3; do
    compared=$((compared + 1))
    if cmp -s "$path" "$other"; then
        echo "same     $(sha256sum "$path" | cut -d ' ' -f 1)  $name"
    else
        echo "differs  $name: $path $other"
        differ=1
    fi
    # A path that is left in would make builds in other places differ.
    if grep -qaF -e "$first" -e "$cargo_home" "$path"; then
        echo "has a path of this machine in it: $name"
        differ=1
    fi
done < <(parts "$first") 3< <(parts "$second")
if [ "$compared" -lt 5 ]; then
    echo "only $compared files found to compare" >&2
    exit 1
fi
exit "$differ"
