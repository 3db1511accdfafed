#!/bin/bash
# AF_XDP zero copy in a virtual machine, for function: boots a guest with two virtio network cards
# on one wire, runs an engine on each, and checks what they say and carry.
#
# Everything but the packages that it installs is made in a folder that goes with it.
set -euo pipefail

usage() {
    cat <<'END'
usage: scripts/zero-copy-guest.sh [options]

Boots a virtual machine with Debian's kernel and two virtio-net cards that are connected to each
other, and runs omni-engine on both with `zero_copy: on`: a session, pings, files by TCP, iperf3,
where all packet memory is, stops, restarts and kills. Prints PASS or FAIL for each check. Exit
status: 0 when all passed, 1 when one failed, 2 when the guest could not be made or run.

  --suite NAME      Debian suite that the kernel is of [trixie-backports]
  --kernel DEB      a kernel's package file instead; again for a package of its modules
  --mode MODE       zero_copy of the engines: on, auto or off [on]
  --access WHAT     card: hosts behind cards of their own; made: an omni0 on each node [card]
  --programs DIR    where omni-engine and omni are [target/release]
  --accel WHAT      kvm, tcg (emulated), or auto [auto]
  --cpus N          of the guest [2]
  --seconds N       of each TCP measurement [5]
  --pings N         of each series [1000]
  --timeout N       seconds the guest may run [300]
  --keep FILE       keep the guest's console there
  --help

It runs as root on Debian with /dev/kvm; without that the guest is emulated, which takes some ten
times as long. Packages that are missing (QEMU, busybox, jq, cpio and such) are installed; the
kernel is fetched by apt from the mirror of this system, and not installed.

virtio-net has zero copy from Linux 6.13 on, where the guest's memory is reached by its DMA
interface: iommu_platform=on of QEMU. docs/zero-copy.md has more.
END
}

say() { echo "zero-copy-guest: $*" >&2; }
fail() {
    say "$*"
    exit 2
}

root=$(cd "$(dirname "$0")/.." && pwd)
suite=trixie-backports kernels=() mode=on access=card programs="$root/target/release"
accel=auto cpus=2 seconds=5 pings=1000 limit=300 keep=""
while [ $# -gt 0 ]; do
    case "$1" in
    --help)
        usage
        exit 0
        ;;
    --suite | --kernel | --mode | --access | --programs | --accel | --cpus | --seconds | --pings | \
        --timeout | --keep)
        [ $# -ge 2 ] || fail "$1 wants a value"
        case "$1" in
        --suite) suite=$2 ;;
        --kernel) kernels+=("$2") ;;
        --mode) mode=$2 ;;
        --access) access=$2 ;;
        --programs) programs=$2 ;;
        --accel) accel=$2 ;;
        --cpus) cpus=$2 ;;
        --seconds) seconds=$2 ;;
        --pings) pings=$2 ;;
        --timeout) limit=$2 ;;
        --keep) keep=$2 ;;
        esac
        shift 2
        ;;
    *)
        usage >&2
        exit 2
        ;;
    esac
done
for number in "$cpus" "$seconds" "$pings" "$limit"; do
    [[ $number =~ ^[1-9][0-9]{0,4}$ ]] || fail "$number is no number from 1 to 99999"
done
[[ $mode =~ ^(on|auto|off)$ ]] || fail "--mode is on, auto or off"
[[ $access =~ ^(made|card)$ ]] || fail "--access is made or card"
[[ $accel =~ ^(auto|kvm|tcg)$ ]] || fail "--accel is auto, kvm or tcg"
[ "$(id -u)" -eq 0 ] || fail "this needs root"
command -v apt-get >/dev/null || fail "this needs Debian's apt-get"
for program in omni-engine omni; do
    [ -x "$programs/$program" ] || fail "$programs/$program is missing: make build"
done

folder=$(mktemp -d)
guest=""
clean() {
    [ -z "$guest" ] || kill "$guest" 2>/dev/null || true
    rm -rf "$folder"
}
trap clean EXIT
trap 'exit 2' INT TERM

quietly() { "$@" >"$folder/log" 2>&1 || {
    tail -n 10 "$folder/log" >&2
    fail "failed: $*"
}; }

install_missing() {
    local missing=() package
    for package in qemu-system-x86 busybox-static jq cpio iperf3 iproute2 iputils-ping kmod \
        xz-utils; do
        dpkg-query -W -f '${db:Status-Abbrev}' "$package" 2>/dev/null | grep -q '^.i' ||
            missing+=("$package")
    done
    [ ${#missing[@]} -eq 0 ] && return
    say "installing ${missing[*]}"
    export DEBIAN_FRONTEND=noninteractive
    apt-get -qq install -y --no-install-recommends "${missing[@]}" >"$folder/log" 2>&1 ||
        { quietly apt-get -qq update && quietly apt-get -qq install -y \
            --no-install-recommends "${missing[@]}"; }
}

# Fetches the kernel of a suite by lists of its own: the system's sources stay as they are.
fetch_kernel() {
    local apt="$folder/apt" mirror package options
    # shellcheck disable=SC2016  # These are apt's variables.
    mirror=$(apt-get indextargets --format '$(ORIGIN) $(LABEL) $(REPO_URI)' |
        sed -n 's/^Debian Debian //p' | sort -u | head -n 1)
    [ -n "$mirror" ] || fail "apt knows no mirror of Debian: name a kernel by --kernel"
    mkdir -p "$apt/lists/partial" "$apt/cache/archives/partial"
    echo "deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] $mirror $suite main" \
        >"$apt/sources.list"
    options=(-o "Dir::Etc::sourcelist=$apt/sources.list" -o Dir::Etc::sourceparts=/dev/null
        -o "Dir::State::lists=$apt/lists" -o "Dir::Cache=$apt/cache" -o APT::Sandbox::User=root)
    quietly apt-get "${options[@]}" update
    depends() {
        apt-cache "${options[@]}" depends "$1" |
            sed -n 's/^ *Depends: \(linux-\(image\|binary\|modules\)-[0-9].*\)/\1/p'
    }
    package=$(depends linux-image-amd64 | head -n 1)
    [ -n "$package" ] || fail "suite $suite has no kernel"
    say "fetching $package of $suite"
    # Newer ones have the image and its modules in packages of their own.
    # shellcheck disable=SC2046  # Names are words.
    (cd "$folder" && quietly apt-get "${options[@]}" download "$package" $(depends "$package"))
    kernels=("$folder"/linux-*.deb)
}

# Copies a program and the libraries that it is linked to.
add_program() {
    local path library
    path=$(command -v "$1") || fail "$1 is missing"
    install -D "$path" "$folder/root/bin/$(basename "$path")"
    { ldd "$path" 2>/dev/null || true; } | grep -o '/[^ ]*' | sort -u | while read -r library; do
        install -D "$library" "$folder/root/lib/$(basename "$library")"
    done
}

# A kernel's modules with all that they need, in the order in which they are loaded.
add_modules() {
    local tree=$1 module path needed
    mkdir -p "$folder/root/modules"
    : >"$folder/root/modules/order"
    quietly depmod -b "$folder/kernel" "$(basename "$tree")"
    for module in "${@:2}"; do
        needed=$(grep "/$module\.ko[.a-z]*:" "$tree/modules.dep" | tr -d : | tr ' ' '\n' | tac)
        for path in $needed; do
            local name=${path##*/}
            name=${name%%.ko*}
            grep -qx "$name.ko" "$folder/root/modules/order" && continue
            case "$path" in
            *.xz) xz -dc "$tree/$path" >"$folder/root/modules/$name.ko" ;;
            *) cp "$tree/$path" "$folder/root/modules/$name.ko" ;;
            esac
            echo "$name.ko" >>"$folder/root/modules/order"
        done
    done
}

make_initramfs() {
    local root=$folder/root command
    mkdir -p "$root"/{bin,lib,lib64,proc,sys,dev,run,tmp,etc}
    install -D /bin/busybox "$root/bin/busybox"
    # Applets first: programs of their own take their places.
    for command in $("$root/bin/busybox" --list); do
        [ "$command" = busybox ] || ln -s busybox "$root/bin/$command"
    done
    for command in "$programs"/omni{-engine,} ip ping iperf3 jq; do
        rm -f "$root/bin/$(basename "$command")"
        add_program "$command"
    done
    cp "$root/lib/ld-linux-x86-64.so.2" "$root/lib64/"
    echo 'root:x:0:0:root:/:/bin/sh' >"$root/etc/passwd"
    install "$(dirname "$0")/zero-copy/init.sh" "$root/init"
    add_modules "$1" virtio_net veth tun
    (cd "$root" && find . | cpio --quiet -o -H newc | gzip -1) >"$folder/initramfs"
}

install_missing
[ ${#kernels[@]} -gt 0 ] || fetch_kernel
for kernel in "${kernels[@]}"; do
    quietly dpkg-deb -x "$kernel" "$folder/kernel"
done
# Modules are looked for in one place, wherever a package has them.
[ -d "$folder/kernel/lib" ] || ln -s usr/lib "$folder/kernel/lib"
image=$(find "$folder/kernel" -name 'vmlinuz*' -type f | head -n 1)
tree=$(find "$folder/kernel/" -path '*/lib/modules/*' -name kernel -type d | head -n 1)
if [ -z "$image" ] || [ -z "$tree" ]; then
    fail "${kernels[*]}: no kernel with modules"
fi
make_initramfs "${tree%/kernel}"

if [ "$accel" = auto ]; then
    # Some virtual machines have a /dev/kvm and no processor for it.
    accel=tcg
    ! grep -qwE 'vmx|svm' /proc/cpuinfo || ! [ -w /dev/kvm ] || accel=kvm
fi
processor=host
[ "$accel" = kvm ] || processor=max
# Cards, in the order of their names in the guest, each on a wire.
cards=()
add_card() { # number, wire
    cards+=(-netdev "hubport,id=eth$1,hubid=$2" -device "virtio-net-pci,netdev=eth$1,\
mac=52:54:00:00:00:0$1,disable-legacy=on,iommu_platform=on")
}
add_card 0 0
add_card 1 0
if [ "$access" = card ]; then
    add_card 2 1
    add_card 3 1
    add_card 4 2
    add_card 5 2
fi
console=${keep:-$folder/console}
: >"$console"
say "booting $(basename "$image") by $accel with $cpus CPUs for at most $limit s"
timeout "$limit" qemu-system-x86_64 -accel "$accel" -cpu "$processor" -smp "$cpus" -m 2048 \
    -nodefaults -no-user-config -display none -no-reboot -serial stdio \
    -kernel "$image" -initrd "$folder/initramfs" \
    -append "console=ttyS0 quiet panic=-1 omni.mode=$mode omni.access=$access \
omni.seconds=$seconds omni.pings=$pings" "${cards[@]}" </dev/null >"$console" 2>&1 &
guest=$!
# What the guest says is shown as it comes.
tail -n +1 -f --pid="$guest" "$console" &
wait "$guest" || say "the guest ended with status $?"
guest=""
wait
failures=$(sed -n 's/.*ZERO-COPY-GUEST failures=\([0-9]*\).*/\1/p' "$console")
[ -n "$failures" ] || fail "the guest did not come to its end"
if [ "$failures" -gt 0 ]; then
    echo "FAIL: $failures checks failed"
    exit 1
fi
echo "PASS: all checks passed"
