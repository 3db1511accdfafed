#!/bin/sh
# Installs the Debian (Ubuntu) packages that building, testing and the demo need: only those that
# are missing, so that a second run touches neither the network nor anything else.
set -eu

# For the build: clang and libbpf compile the XDP programs; gcc, libelf, zlib, m4 and make build
# libxdp; pkg-config finds what there is.
build="clang libbpf-dev libelf-dev zlib1g-dev linux-libc-dev libc6-dev pkg-config m4 gcc make"
# For the tests and the lab: namespaces and links, traffic, address translation, the lab itself.
lab="iproute2 iputils-ping iputils-arping ndisc6 iperf3 ethtool nftables python3"
# For the tests of the store that servers share, which start members of their own.
store="etcd-server"
# For the test that counts instructions a frame.
count="valgrind"
# For the tests of the units: groups of system calls, and those that a program makes.
units="strace systemd"

say() { echo "install-deps: $*"; }

# On other systems the commands are looked for, as package names differ from one to the next.
without_apt() {
    missing=""
    for command in clang gcc make m4 pkg-config ip ping arping ndisc6 iperf3 ethtool nft python3 \
        etcd valgrind; do
        command -v "$command" >/dev/null 2>&1 || missing="$missing $command"
    done
    if [ -n "$missing" ]; then
        say "this system has no apt-get: install these commands by its own means:$missing" >&2
        say "and the development files of libbpf, libelf and zlib" >&2
        exit 1
    fi
    say "no apt-get here; the commands are all there (libbpf, libelf and zlib were not checked)"
}

if ! command -v apt-get >/dev/null 2>&1 || ! command -v dpkg-query >/dev/null 2>&1; then
    without_apt
    exit 0
fi

# Packages that dpkg does not know make dpkg-query fail, which is no failure here.
# shellcheck disable=SC2086  # The lists are words.
installed=$(dpkg-query -W -f '${db:Status-Abbrev} ${Package}\n' \
    $build $lab $store $count $units 2>/dev/null |
    sed -n 's/^.i  *//p') || true
missing=""
for package in $build $lab $store $count $units; do
    # Line by line: a package name may be part of another.
    printf '%s\n' "$installed" | grep -qx "$package" || missing="$missing $package"
done
if [ -z "$missing" ]; then
    say "all packages are there"
    exit 0
fi

if [ "$(id -u)" -ne 0 ]; then
    say "must be root to install:$missing" >&2
    exit 1
fi

# iperf3 asks whether to run as a service; nobody is there to answer.
export DEBIAN_FRONTEND=noninteractive
install() {
    # shellcheck disable=SC2086
    apt-get -qq -o Dpkg::Use-Pty=0 -o DPkg::Lock::Timeout=120 install -y \
        --no-install-recommends $missing </dev/null >"$log" 2>&1
}

say "installing:$missing"
log=$(mktemp)
trap 'rm -f "$log"' EXIT
# A fresh container has no package lists, and old ones may name files that are gone.
if ! install; then
    say "fetching the package lists first"
    if ! { apt-get -qq -o DPkg::Lock::Timeout=120 update && install; } >>"$log" 2>&1; then
        say "apt-get failed:" >&2
        tail -n 20 "$log" >&2
        exit 1
    fi
fi
# Its package also starts a server, which nobody asked for here.
case "$missing" in
*etcd-server*) [ ! -d /run/systemd/system ] || systemctl -q disable --now etcd ;;
esac
say "done"
