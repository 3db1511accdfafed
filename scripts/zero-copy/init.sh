#!/bin/sh
# The first process of the guest that zero-copy-guest.sh starts: two engines on two network cards
# that are connected to each other, checked, one line a check. It runs on busybox.
#
#   namespace a                                    namespace b
#   omni0 - engine - eth0 ===== one wire ===== eth1 - engine - omni0
#
# With omni.access=card hosts are behind cards as well, in place of omni0: ha with eth3 behind
# eth2, hb with eth5 behind eth4.
set -u
export PATH=/bin:/sbin:/usr/bin:/usr/sbin LD_LIBRARY_PATH=/lib

mount -t proc proc /proc
mount -t sysfs sys /sys
mount -t devtmpfs dev /dev
mount -t tmpfs run /run
mount -t tmpfs tmp /tmp
# What cannot be locked into memory is no packet memory.
# shellcheck disable=SC3045  # busybox has it.
ulimit -l unlimited
mkdir -p /run/netns

# This shell takes busybox's own commands first. A function in the background is a process more,
# so what is to be killed is started by the whole name.
ip() { /bin/ip "$@"; }

failures=0
check() { # description, command...
    what=$1
    shift
    if "$@" >/tmp/check 2>&1; then
        echo "PASS $what"
    else
        echo "FAIL $what"
        tail -n 5 /tmp/check
        failures=$((failures + 1))
    fi
}

finish() {
    echo "ZERO-COPY-GUEST failures=$failures"
    sync
    poweroff -f
}

# $OMNI_* come by the kernel's command line.
for word in $(cat /proc/cmdline); do
    case "$word" in omni.*) eval "omni_${word#omni.}" ;; esac
done
: "${omni_mode:=on}" "${omni_access:=made}" "${omni_seconds:=5}" "${omni_pings:=1000}"

for module in $(cat /modules/order); do
    insmod "/modules/$module" || echo "no $module"
done
echo "Linux $(uname -r), driver $(basename "$(readlink /sys/class/net/eth0/device/driver)")," \
    "zero_copy: $omni_mode"
# Where hosts are, and by what they speak.
host_a=a host_b=b port_a=omni0 port_b=omni0
if [ "$omni_access" = card ]; then
    host_a=ha host_b=hb port_a=eth2 port_b=eth4
    for place in ha:eth3:1 hb:eth5:2; do
        IFS=: read -r host nic number <<END
$place
END
        ip netns add "$host"
        ip link set "$nic" netns "$host"
        ip -n "$host" link set "$nic" mtu 1426 up
        ip -n "$host" addr add "10.7.0.$number/24" dev "$nic"
    done
fi
make_node() { # name, underlay, number, access port
    ip netns add "$1"
    ip link set "$2" netns "$1"
    ip -n "$1" link set lo up
    ip -n "$1" link set "$2" up
    ip -n "$1" addr add "192.0.2.$3/24" dev "$2"
    if [ "$4" != omni0 ]; then
        ip link set "$4" netns "$1"
        ip -n "$1" link set "$4" up
    fi
    (umask 077 && mkdir -p "/tmp/$1" && omni keygen >"/tmp/$1/key")
}
configure() { # name, underlay, number, access port, its peer's name and number
    addresses="addresses: [\"10.7.0.$3/24\"]"
    [ "$4" = omni0 ] || addresses="mtu: auto"
    cat >"/tmp/$1/fabric.yaml" <<END
fabric: guest
node: { name: $1, private_key_file: key, state_file: state }
underlay: { interface: $2, xdp: native, zero_copy: $omni_mode }
access:
  - interface: $4
    $addresses
peers:
  - name: $5
    public_key: "$(omni pubkey <"/tmp/$5/key")"
    endpoint: "192.0.2.$6:51820"
control: { socket: /tmp/$1/socket }
END
}
start() {
    for side in a b; do
        /bin/ip netns exec $side omni-engine --config /tmp/$side/fabric.yaml >>/tmp/$side/log 2>&1 &
        echo $! >/tmp/$side/pid
    done
}
make_node a eth0 1 $port_a
make_node b eth1 2 $port_b
configure a eth0 1 $port_a b 2
configure b eth1 2 $port_b a 1
start

show() { omni --socket /tmp/"$1"/socket show --json; }
shows() { # node, what must hold
    text=$(show "$1") && echo "$text" | jq -e "$2"
}
established() { shows a '.peers[0].state == "established"'; }
within() { # seconds, command...
    left=$1
    shift
    while ! "$@" >/dev/null 2>&1; do
        left=$((left - 1))
        [ $left -gt 0 ] || return 1
        sleep 1
    done
}

check "a session within 20 s" within 20 established
if [ $failures -gt 0 ]; then
    for side in a b; do
        echo "--- log of $side"
        cat /tmp/$side/log
    done
    dmesg | tail -n 20
    finish
fi

# The queues of cards; omni0 is a veth, which copies.
cards='[.queues[] | select(.port != "omni0")]'
for side in a b; do
    copy=zero_copy
    [ "$omni_mode" = off ] && copy=copy
    check "$side: all queues of cards: $copy" \
        shows $side "$cards | length > 0 and all(.copy == \"$copy\")"
    check "$side: XDP in the driver" shows $side "$cards | all(.mode == \"native\")"
done

# Each burst of pings must come back whole.
pings() { # namespace, target, size
    ip netns exec "$1" ping -n -q -c "$omni_pings" -i 0.002 -W 2 -s "$3" "$2" >/tmp/ping
    status=$?
    sed -n 's/^rtt/  rtt/p' /tmp/ping >/dev/console
    [ $status -eq 0 ] && grep -q "$omni_pings received, 0% packet loss" /tmp/ping
}
check "$omni_pings pings a to b, 56 octets" pings $host_a 10.7.0.2 56
check "$omni_pings pings b to a, 1398 octets" pings $host_b 10.7.0.1 1398

# A file through TCP arrives as it was sent.
transfer() { # from, to, address of the first
    rm -f /tmp/arrived
    /bin/ip netns exec "$1" httpd -f -p 5000 -h /tmp/files &
    server=$!
    sleep 1
    printf 'GET /file HTTP/1.0\r\n\r\n' |
        ip netns exec "$2" timeout 40 nc "$3" 5000 >/tmp/arrived
    kill $server
    # The answer's head comes before the file.
    tail -c "$(stat -c %s /tmp/files/file)" /tmp/arrived | cmp - /tmp/files/file
}
mkdir /tmp/files
dd if=/dev/urandom of=/tmp/files/file bs=1M count=8 2>/dev/null
check "8 MiB by TCP a to b, compared" transfer $host_a $host_b 10.7.0.1
check "8 MiB by TCP b to a, compared" transfer $host_b $host_a 10.7.0.2

iperf() { # from, to, address, options
    ip netns exec "$2" iperf3 -s -1 >/dev/null 2>&1 &
    sleep 1
    # shellcheck disable=SC2086  # The options are words.
    ip netns exec "$1" timeout $((omni_seconds + 20)) iperf3 -J -t "$omni_seconds" -c "$3" $4 \
        >/tmp/iperf
    jq -r '"  \(.end.sum_received.bits_per_second / 1e6 | floor) Mb/s, \(
        .end.sum_sent.retransmits // 0) retransmits"' /tmp/iperf >/dev/console
    jq -e '.error == null and .end.sum_received.bits_per_second > 1e7' /tmp/iperf
}
check "TCP a to b for $omni_seconds s" iperf $host_a $host_b 10.7.0.2 ""
check "TCP b to a for $omni_seconds s" iperf $host_b $host_a 10.7.0.1 "-P 4"

# Nothing is under way now, or what is was counted: every chunk is somewhere.
sleep 1
for side in a b; do
    check "$side: packet memory is all accounted for" shows $side \
        '.umem | .frames_total > 0 and .frames_total ==
            .frames_free + .frames_receiving + .frames_sending + .frames_held'
    check "$side: frames went by the cards' queues" shows $side \
        "$cards | (map(.rx_frames) | add) > 10000 and (map(.tx_frames) | add) > 10000"
    echo "  $side: $(show $side | jq -c '.umem, (.drops | with_entries(select(.value > 0)))' |
        tr '\n' ' ')"
done

# A stop while traffic flows, and a second life on the same card.
ip netns exec $host_a ping -n -q -f -c 100000 10.7.0.2 >/dev/null 2>&1 &
sleep 1
for side in a b; do
    kill -TERM "$(cat /tmp/$side/pid)"
    ended() { ! kill -0 "$(cat "/tmp/$side/pid")"; }
    check "$side: ends within 5 s" within 5 ended
    check "$side: leaves no program" sh -c "! /bin/ip -n $side -d link | grep -q prog/xdp"
done
start
check "a session again within 20 s" within 20 established
check "$omni_pings pings after a restart" pings $host_a 10.7.0.2 56
for side in a b; do
    kill -KILL "$(cat /tmp/$side/pid)"
done
start
check "a session after a kill within 20 s" within 20 established
check "$omni_pings pings after a kill" pings $host_b 10.7.0.1 56
for side in a b; do
    kill -TERM "$(cat /tmp/$side/pid)"
    wait "$(cat /tmp/$side/pid)"
    status=$?
    check "$side: exit status 0, is $status" [ $status -eq 0 ]
done
check "the kernel has no complaint" sh -c \
    "! dmesg | grep -E 'BUG|WARNING|Oops|Call Trace|refcount|KASAN|general protection'"
if [ $failures -gt 0 ]; then
    for side in a b; do
        echo "--- log of $side"
        tail -n 30 /tmp/$side/log
    done
    dmesg | tail -n 30
fi
finish
