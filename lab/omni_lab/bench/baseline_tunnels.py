"""Tunnels of others between many hosts, each joined to each, as their own documents set them up."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Sequence
from pathlib import Path

from .. import commands, netns
from ..compare_contestants import START_SECONDS, VXLAN_OVERHEAD, find_program, first_line
from ..compare_wireguard import MTU as WIREGUARD_MTU
from ..compare_wireguard import SOCKETS
from ..node import NodeError, write_private
from . import baseline_kernel, build, processes
from .baseline_kernel import PREFIX_BITS, address, is_there
from .state import Contestant, Helper, Space, State

PORT = 10000
WIREGUARD_PORT = 51830
# On an underlay of 1500 octets, and as much more as that has.
FASTD_MTU, VPNCLOUD_MTU, USUAL_MTU = 1420, 1400, 1500
SECRET = "a secret of the lab's"
FASTD_BASE, VPNCLOUD_BASE, WIREGUARD_BASE, INNER_BASE = 32, 48, 64, 80
STOP_SECONDS = 3.0
POLL_SECONDS = 0.05


def find(name: str) -> str | None:
    """Where a program is, None where it is not installed."""
    path = find_program(name)
    return path if os.path.isabs(path) else None


def folder_of(host: Space, found: Contestant) -> Path:
    """A new folder for a contestant's files on a host."""
    folder = Path(host.folder) / found.name
    folder.mkdir(mode=0o700)
    return folder


def forget(folder: Path) -> None:
    """Removes a contestant's files."""
    shutil.rmtree(folder, ignore_errors=True)


def start(
    lab: State,
    found: Contestant,
    host: Space,
    command: Sequence[str],
    interface: str,
    environment: dict[str, str] | None = None,
) -> None:
    """Starts a program on a host, and waits for its interface. Raises NodeError when there is
    none.
    """
    folder = Path(host.folder) / found.name
    log = folder / "log"
    inside = host.netns().inside(find_program(command[0]), *command[1:])
    process = processes.spawn(inside, log, folder=folder, environment=environment)
    found.helpers.append(Helper(f"{found.name} {host.name}", host.namespace, process))
    lab.save()
    deadline = time.monotonic() + START_SECONDS
    while not is_there(host, interface):
        if not processes.is_alive(process) or time.monotonic() > deadline:
            said = processes.last_words(log)
            raise NodeError(f"{found.name} on {host.name}: no {interface}; {said}")
        time.sleep(POLL_SECONDS)


def settle(found: Contestant, host: Space, number: int, base: int) -> None:
    """Gives a host its address over a contestant."""
    found.addresses[host.name] = address(base, number)
    lines = [
        f"address replace {address(base, number)}/{PREFIX_BITS} dev {found.interface}",
        f"link set {found.interface} mtu {found.mtu} up",
    ]
    netns.batch(lines, ["ip", "-n", host.namespace])


def mtu(lab: State, usual: int) -> int:
    """What a contestant's MTU is on this underlay."""
    return int(lab.options["mtu"]) - USUAL_MTU + usual


def fastd(lab: State, found: Contestant, hosts: Sequence[Space]) -> None:
    """fastd with the method that it is most often used with."""
    found.interface, found.mtu = "fastd0", mtu(lab, FASTD_MTU)
    found.version = first_line([find_program("fastd"), "--version"])
    keys = {}
    for host in hosts:
        said = commands.run([find_program("fastd"), "--generate-key"])
        keys[host.name] = dict(line.split(": ") for line in said.splitlines() if ": " in line)
    for host in hosts:
        lines = [
            f'interface "{found.interface}";',
            "mode tap;",
            'method "salsa2012+umac";',
            f"mtu {found.mtu};",
            f"bind {host.underlay}:{PORT};",
            f'secret "{keys[host.name]["Secret"]}";',
        ]
        for other in hosts:
            if other is not host:
                key = f'key "{keys[other.name]["Public"]}"'
                where = f"remote ipv4 {other.underlay} port {PORT}"
                lines.append(f'peer "{other.name}" {{ {key}; {where}; }}')
        folder = folder_of(host, found)
        write_private(folder / "fastd.conf", "\n".join(lines) + "\n")
    for number, host in enumerate(hosts, 1):
        start(lab, found, host, ["fastd", "--config", "fastd.conf"], found.interface)
        settle(found, host, number, FASTD_BASE)


def vpncloud(lab: State, found: Contestant, hosts: Sequence[Space]) -> None:
    """vpncloud as a switch."""
    found.interface, found.mtu = "vpncloud0", mtu(lab, VPNCLOUD_MTU)
    found.version = first_line([find_program("vpncloud"), "--version"])
    for number, host in enumerate(hosts, 1):
        folder_of(host, found)
        command = ["vpncloud", "--no-port-forwarding", "--type", "tap", "--mode", "switch"]
        command += ["--device", found.interface, "--listen", f"{host.underlay}:{PORT + 1}"]
        for other in hosts:
            if other is not host:
                command += ["--peer", f"{other.underlay}:{PORT + 1}"]
        start(lab, found, host, [*command, "--password", SECRET], found.interface)
        settle(found, host, number, VPNCLOUD_BASE)


def wireguard(lab: State, found: Contestant, hosts: Sequence[Space]) -> None:
    """wireguard-go between all, and the kernel's VXLAN within it."""
    inner_mtu = mtu(lab, WIREGUARD_MTU)
    found.version = first_line([find_program("wireguard-go"), "--version"])
    keys = {}
    for host in hosts:
        private = commands.run(["wg", "genkey"])
        write_private(folder_of(host, found) / "key", private)
        keys[host.name] = commands.run(["wg", "pubkey"], stdin=private).strip()
    inner = {host.name: address(INNER_BASE, at + 1) for at, host in enumerate(hosts)}
    for host in hosts:
        device = device_of(lab, host)
        # It listens for `wg` in a folder that all namespaces share: hence the device's name.
        command = ["wireguard-go", "--foreground", device]
        start(lab, found, host, command, device, {"LOG_LEVEL": "error"})
        wait_for_socket(device)
        words = ["wg", "set", device, "listen-port", str(WIREGUARD_PORT)]
        words += ["private-key", str(Path(host.folder) / found.name / "key")]
        for other in hosts:
            if other is not host:
                words += ["peer", keys[other.name], "allowed-ips", f"{inner[other.name]}/32"]
                words += ["endpoint", f"{other.underlay}:{WIREGUARD_PORT}"]
        commands.run(words)
        lines = [
            f"address add {inner[host.name]}/{PREFIX_BITS} dev {device}",
            f"link set {device} mtu {inner_mtu} up",
        ]
        netns.batch(lines, ["ip", "-n", host.namespace])
    found.interface, found.mtu = baseline_kernel.DEVICE, inner_mtu - VXLAN_OVERHEAD
    found.addresses = baseline_kernel.join(hosts, inner, found.mtu, WIREGUARD_BASE)


def device_of(lab: State, host: Space) -> str:
    """The name of a host's tunnel: within 15 characters, and no other's on this machine."""
    return f"w{lab.name}-{host.name.removeprefix('node')}"


def wait_for_socket(device: str) -> None:
    """Waits until a tunnel listens for `wg`."""
    path = SOCKETS / f"{device}.sock"
    deadline = time.monotonic() + START_SECONDS
    while not path.exists():
        if time.monotonic() > deadline:
            raise NodeError(f"no {path} after {START_SECONDS:g} s")
        time.sleep(POLL_SECONDS)


def check_running(lab: State, found: Contestant) -> None:
    """Raises NodeError when one of a contestant's programs ended by itself."""
    for each in found.helpers:
        if not processes.is_alive(each.process):
            host = each.what.rpartition(" ")[2]
            log = Path(lab.space(host).folder) / found.name / "log"
            raise NodeError(f"{each.what}: it ended; {processes.last_words(log)}")


def remove(lab: State, found: Contestant) -> None:
    """Ends its programs, with which their interfaces go, and removes what is left of it."""
    processes.end([each.process for each in found.helpers], STOP_SECONDS)
    if found.name == "wireguard":
        baseline_kernel.remove(lab, found)
        build.remove_sockets(lab)
