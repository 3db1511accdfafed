"""WireGuard in user space as a contestant: layer 3 alone, and below the kernel's VXLAN."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path

from . import commands
from .compare_contestants import (
    POLL_SECONDS,
    START_SECONDS,
    VXLAN_OVERHEAD,
    ContestError,
    Contestant,
    Kind,
    Link,
    Package,
    add_vxlan,
    check_running,
    find_program,
    first_line,
    last_words,
    start,
    wait_for_interface,
)
from .compare_pair import PREFIX_BITS, End, Pair
from .node import write_private

PORT = 51820
# 20 and 8 of IPv4 and UDP, 32 of WireGuard's header and tag, and the rest for IPv6.
MTU = 1420
# Where user-space WireGuard listens for `wg`: one folder for all network namespaces.
SOCKETS = Path("/var/run/wireguard")
# Addresses of the tunnel where something else is carried in it.
INNER = {"left": "10.6.0.1", "right": "10.6.0.2"}


class Wireguard(Contestant):
    """A program that speaks WireGuard, between two hosts, set up by `wg`."""

    kind = Kind.LAYER3

    def __init__(
        self, name: str, programs: Mapping[str, Package], options: Sequence[str] = ()
    ) -> None:
        self.name, self.programs, self.options = name, programs, options
        self.about = f"layer 3 only, MTU {MTU}"

    @property
    def program(self) -> str:
        """The one that is not `wg`."""
        return find_program(next(iter(self.programs)))

    def version(self) -> str:
        return first_line([self.program, "--version"])

    def up(self, stack: ExitStack, pair: Pair) -> Link:
        addresses = {end.name: end.overlay for end in pair.ends}
        return Link(pair.left.overlay, pair.right.overlay, self.tunnel(stack, pair, addresses))

    def tunnel(
        self, stack: ExitStack, pair: Pair, addresses: Mapping[str, str]
    ) -> list[subprocess.Popen[bytes]]:
        """Makes the tunnel with an address at each end. Returns the processes."""
        processes = []
        keys = {}
        for end in pair.ends:
            private = commands.run(["wg", "genkey"])
            write_private(end.folder / "wireguard.key", private)
            keys[end.name] = commands.run(["wg", "pubkey"], stdin=private).strip()
        for end in pair.ends:
            device = device_of(end)
            command = [self.program, *self.options, "--foreground", device]
            socket = SOCKETS / f"{device}.sock"
            # After the program's end, which not all of them clean up at.
            stack.callback(socket.unlink, missing_ok=True)
            process = start(stack, end, command, {"LOG_LEVEL": "error"})
            wait_for_interface(end, device, process)
            wait_for_socket(end, socket, process)
            processes.append(process)
            there = pair.other(end)
            key = ("private-key", str(end.folder / "wireguard.key"), "listen-port", str(PORT))
            endpoint = ("endpoint", f"{there.underlay}:{PORT}", "allowed-ips", "0.0.0.0/0")
            commands.run(["wg", "set", device, *key, "peer", keys[there.name], *endpoint])
            ip = end.namespace.ip
            address = f"{addresses[end.name]}/{PREFIX_BITS}"
            commands.run(ip("address", "add", address, "dev", device))
            commands.run(ip("link", "set", device, "mtu", str(MTU), "up"))
        return processes


class VxlanOverWireguard(Wireguard):
    """Layer 2 out of parts: the kernel's VXLAN within WireGuard."""

    kind = Kind.PARTS

    def __init__(self, name: str, programs: Mapping[str, Package]) -> None:
        super().__init__(name, programs)
        self.about = f"kernel VXLAN within it, MTU {MTU - VXLAN_OVERHEAD}"

    def up(self, stack: ExitStack, pair: Pair) -> Link:
        processes = self.tunnel(stack, pair, INNER)
        add_vxlan(pair, INNER, MTU - VXLAN_OVERHEAD)
        return Link(pair.left.overlay, pair.right.overlay, processes)


def device_of(end: End) -> str:
    """A name that no other namespace has, as they share the folder of sockets."""
    return f"wg{os.getpid()}{end.name[0]}"


def wait_for_socket(end: End, path: Path, process: subprocess.Popen[bytes]) -> None:
    """Waits until a program listens for `wg`."""
    deadline = time.monotonic() + START_SECONDS
    while not path.exists():
        check_running(end, process)
        if time.monotonic() > deadline:
            raise ContestError(f"no {path} after {START_SECONDS:g} s; {last_words(end)}")
        time.sleep(POLL_SECONDS)
