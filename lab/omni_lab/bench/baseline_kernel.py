"""The kernel's VXLAN between many hosts: each knows where every other one is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from .. import commands, netns
from ..commands import CommandError
from ..compare_contestants import VXLAN_ID, VXLAN_OVERHEAD, VXLAN_PORT, first_line
from .state import Contestant, Space, State

DEVICE = "vxlan0"
# For networks of contestants; the third octet says whose it is.
NET, PREFIX_BITS = "10.8", 20
VXLAN_BASE = 16
FLOOD = "00:00:00:00:00:00"


def address(base: int, number: int) -> str:
    """The address of a node, of which the first is 1, in a contestant's network."""
    return f"{NET}.{base + number // 256}.{number % 256}"


def mac(number: int) -> str:
    """Its MAC address, so that others need not learn it."""
    return f"02:00:0a:08:{number // 256:02x}:{number % 256:02x}"


def vxlan(lab: State, found: Contestant, hosts: Sequence[Space]) -> None:
    """Sets it up over the underlay."""
    outer = {each.name: str(each.underlay) for each in hosts}
    found.interface, found.mtu = DEVICE, lab.options["mtu"] - VXLAN_OVERHEAD
    found.version = first_line(["uname", "-r"])
    found.addresses = join(hosts, outer, found.mtu, VXLAN_BASE)


def join(hosts: Sequence[Space], outer: Mapping[str, str], mtu: int, base: int) -> dict[str, str]:
    """Makes the device on each host, and tells it all others. Returns the hosts' addresses."""
    numbers = {each.name: at + 1 for at, each in enumerate(hosts)}
    for host in hosts:
        number = numbers[host.name]
        lines = device_lines(number, outer[host.name], mtu, base)
        netns.batch(lines, ["ip", "-n", host.namespace])
        others = {numbers[name]: where for name, where in outer.items() if name != host.name}
        netns.batch(entry_lines(others), ["bridge", "-n", host.namespace])
    return {name: address(base, number) for name, number in numbers.items()}


def device_lines(number: int, local: str, mtu: int, base: int) -> list[str]:
    """What `ip -batch` is told on a host."""
    settings = f"id {VXLAN_ID} local {local} dstport {VXLAN_PORT} nolearning"
    return [
        f"link add {DEVICE} address {mac(number)} mtu {mtu} type vxlan {settings}",
        f"address add {address(base, number)}/{PREFIX_BITS} dev {DEVICE}",
        f"link set {DEVICE} up",
    ]


def entry_lines(others: Mapping[int, str]) -> list[str]:
    """What `bridge -batch` is told: where each other host is, and whom to send what is for all."""
    lines = []
    for number, where in others.items():
        lines.append(f"fdb add {mac(number)} dev {DEVICE} dst {where} self permanent")
        lines.append(f"fdb append {FLOOD} dev {DEVICE} dst {where} self permanent")
    return lines


def remove(lab: State, _found: Contestant) -> None:
    """Deletes the device where it is."""
    for host in lab.nodes:
        if netns.link(host.netns(), DEVICE) is not None:
            commands.run(host.netns().ip("link", "delete", DEVICE))


def is_there(host: Space, interface: str) -> bool:
    """Whether a host has an interface."""
    try:
        return netns.link(host.netns(), interface) is not None
    except CommandError:
        return False
