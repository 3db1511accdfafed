#!/bin/sh
# Fills a folder with what an image needs: the package's programs, the libraries that they load, a
# user, and empty folders to mount over.
#
#   root.sh PACKAGE ROOT
#
# PACKAGE is the unpacked package. Libraries are those of the system that this runs on.
set -eu

package=$1 root=$2
user=65532

umask 022
mkdir -p "$root/usr/bin" "$root/etc/omni" "$root/run/omni" "$root/var/lib/omni" "$root/tmp"
for program in omni-engine omni omni-nucleus; do
    cp "$package/usr/bin/$program" "$root/usr/bin/"
    # The lines are: NAME => /PATH (0x...), and the loader's without a name.
    ldd "$package/usr/bin/$program" | grep -o '/[^ ]*' | while read -r library; do
        mkdir -p "$root${library%/*}"
        # The file itself, whatever links lead to it.
        [ -e "$root$library" ] || cp -L "$library" "$root$library"
    done
done
setcap cap_net_admin,cap_net_raw,cap_bpf,cap_ipc_lock,cap_sys_nice=ep "$root/usr/bin/omni-engine"

echo "omni:x:$user:$user:OmniNervous:/var/lib/omni:/usr/sbin/nologin" >"$root/etc/passwd"
echo "omni:x:$user:" >"$root/etc/group"
chown "$user:$user" "$root/run/omni" "$root/var/lib/omni"
chown "0:$user" "$root/etc/omni"
chmod 0750 "$root/etc/omni"
chmod 0700 "$root/run/omni" "$root/var/lib/omni"
chmod 1777 "$root/tmp"
