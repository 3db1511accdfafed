#!/bin/bash
# Becomes the init of a system in a folder, as a container manager would: mounts what it needs, then
# runs its /sbin/init. To be run by lab/package.py in namespaces of its own (mount, PID, UTS, IPC,
# network), with its cgroup moved to one of its own before.
#
#   boot.sh LOWER UPPER WORK ROOT NAME
#
# LOWER is the system as it was made, UPPER what changes, ROOT an empty folder where both are joined.
set -euo pipefail

lower=$1 upper=$2 work=$3 root=$4 name=$5

mount --make-rprivate /
mount -t overlay overlay -o "lowerdir=$lower,upperdir=$upper,workdir=$work" "$root"
mount -t proc proc "$root/proc"
mount -t sysfs sysfs "$root/sys"
mount -t tmpfs -o mode=755 tmpfs "$root/run"
mount -t tmpfs -o mode=755 tmpfs "$root/dev"
for device in null zero full random urandom tty; do
    touch "$root/dev/$device"
    mount --bind "/dev/$device" "$root/dev/$device"
done
mkdir "$root/dev/net" "$root/dev/pts" "$root/dev/shm"
touch "$root/dev/net/tun" "$root/dev/console"
mount --bind /dev/net/tun "$root/dev/net/tun"
mount -t devpts -o newinstance,ptmxmode=0666 devpts "$root/dev/pts"
mount -t tmpfs tmpfs "$root/dev/shm"
ln -s pts/ptmx "$root/dev/ptmx"
ln -s /proc/self/fd "$root/dev/fd"

# One hierarchy, or the one of systemd's beside those of version 1, as the kernel was set up.
if grep -q '^[^ ]* /sys/fs/cgroup cgroup2 ' /proc/mounts; then
    mount -t cgroup2 cgroup2 "$root/sys/fs/cgroup"
else
    mount -t tmpfs -o mode=755 tmpfs "$root/sys/fs/cgroup"
    mkdir "$root/sys/fs/cgroup/systemd" "$root/sys/fs/cgroup/unified"
    mount -t cgroup -o none,name=systemd cgroup "$root/sys/fs/cgroup/systemd"
    mount -t cgroup2 cgroup2 "$root/sys/fs/cgroup/unified"
fi

# Its own network, and no udev: systemd takes interfaces as they are where /sys cannot be written to.
mount -o remount,bind,ro "$root/sys"

hostname "$name"
exec chroot "$root" /usr/bin/env -i container=lab PATH=/usr/sbin:/usr/bin \
    /sbin/init --log-level=warning
