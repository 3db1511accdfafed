"""What the kernel holds for an engine: BPF objects, sockets, interfaces, routes, descriptors.

BPF objects are asked for by `bpf(2)` itself, one by one and by the identifiers that an engine held.
Lists of all that there are would have those of others who work on the same machine.
"""

from __future__ import annotations

import ctypes
import errno
import json
import os
import platform
import re
import struct
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from . import commands, netns
from .commands import CommandError
from .netns import Namespace

# Numbers of bpf(2).
SYSCALLS = {"x86_64": 321, "aarch64": 280, "riscv64": 280}
# Of <linux/bpf.h>: the commands that give the next identifier after one.
NEXT_ID = {"prog": 11, "map": 12, "btf": 23, "link": 31}
PROG_GET_FD_BY_ID, OBJ_GET_INFO_BY_FD = 13, 15
ATTRIBUTES = 64
# Of struct bpf_prog_info: how many maps, and where their identifiers go.
INFO_OCTETS, MAPS_AT, MAPS_MAX = 232, 52, 64
HELD = re.compile(r"^(prog|map|link|btf)_id:\s*(\d+)$", re.MULTILINE)
# What a dead process held is freed a grace period later.
FREED_SECONDS = 2.0
POLL_SECONDS = 0.005
# What duplicate address detection takes at most, and more.
SETTLED_SECONDS = 10.0
# Protocols of which an engine has sockets, as the kernel names them.
ENGINE_SOCKETS = ("XDP", "UDP", "UDPv6", "PACKET")
# Of `ip -details link`: what stays the same while nobody changes the interface.
STEADY = ("ifname", "mtu", "qdisc", "master", "address", "promiscuity", "num_rx_queues", "xdp")


@dataclass(frozen=True, order=True)
class BpfObject:
    """A program, map, link or type description of the kernel's."""

    kind: str
    number: int


def bpf(command: int, attributes: ctypes.Array[ctypes.c_char]) -> int:
    """The system call. Returns what it returns, or the error's number below zero."""
    number = SYSCALLS.get(platform.machine())
    if number is None:
        raise CommandError(f"bpf(2) has no known number on {platform.machine()}")
    library = ctypes.CDLL(None, use_errno=True)
    done = library.syscall(number, command, attributes, ATTRIBUTES)
    return int(done) if done >= 0 else -ctypes.get_errno()


def exists(wanted: BpfObject) -> bool:
    """Whether the kernel still has it."""
    attributes = ctypes.create_string_buffer(struct.pack("=II", wanted.number - 1, 0), ATTRIBUTES)
    done = bpf(NEXT_ID[wanted.kind], attributes)
    if done == -errno.ENOENT:
        return False
    if done < 0:
        raise CommandError(f"cannot ask for BPF objects: {os.strerror(-done)}")
    return bool(struct.unpack_from("=I", attributes, 4)[0] == wanted.number)


def maps_of(program: int) -> list[int]:
    """The maps that a program uses, none when there is no such program."""
    attributes = ctypes.create_string_buffer(struct.pack("=I", program), ATTRIBUTES)
    descriptor = bpf(PROG_GET_FD_BY_ID, attributes)
    if descriptor < 0:
        return []
    try:
        numbers = (ctypes.c_uint32 * MAPS_MAX)()
        info = ctypes.create_string_buffer(INFO_OCTETS)
        struct.pack_into("=IQ", info, MAPS_AT, MAPS_MAX, ctypes.addressof(numbers))
        described = struct.pack("=IIQ", descriptor, INFO_OCTETS, ctypes.addressof(info))
        asked = ctypes.create_string_buffer(described, ATTRIBUTES)
        if bpf(OBJ_GET_INFO_BY_FD, asked) < 0:
            return []
        (count,) = struct.unpack_from("=I", info, MAPS_AT)
        return list(numbers[: min(count, MAPS_MAX)])
    finally:
        os.close(descriptor)


def parse_held(text: str) -> set[BpfObject]:
    """The BPF objects that a file of /proc/PID/fdinfo names."""
    return {BpfObject(kind, int(number)) for kind, number in HELD.findall(text)}


def held_by(pid: int) -> set[BpfObject]:
    """All BPF objects that live as long as a process does."""
    found: set[BpfObject] = set()
    for entry in Path(f"/proc/{pid}/fdinfo").iterdir():
        # A descriptor may be closed meanwhile.
        try:
            found |= parse_held(entry.read_text())
        except OSError:
            continue
    programs = [each.number for each in found if each.kind == "prog"]
    return found | {BpfObject("map", number) for each in programs for number in maps_of(each)}


def left_of(held: Iterable[BpfObject]) -> list[BpfObject]:
    """What the kernel still has of it when it was given time to free it."""
    left = sorted(held)
    wait(lambda: not any(map(exists, left)), FREED_SECONDS)
    return [each for each in left if exists(each)]


def wait(done: Callable[[], bool], seconds: float) -> bool:
    """Waits until something is so, at most for so long. Returns whether it is."""
    deadline = time.monotonic() + seconds
    while not done():
        if time.monotonic() > deadline:
            return done()
        time.sleep(POLL_SECONDS)
    return True


def parse_protocols(text: str) -> dict[str, int]:
    """Sockets by protocol, of /proc/net/protocols; only those of which there are some."""
    rows = (line.split() for line in text.splitlines()[1:])
    counts = {words[0]: int(words[2]) for words in rows if len(words) > 2}
    return {name: count for name, count in counts.items() if count > 0}


def sockets(namespace: Namespace) -> dict[str, int]:
    """The sockets of a namespace by protocol, those of AF_XDP as `XDP`."""
    with netns.inside(namespace):
        return parse_protocols(Path("/proc/thread-self/net/protocols").read_text())


def links(namespace: Namespace) -> list[dict[str, Any]]:
    """What `ip` says of a namespace's interfaces, with all details."""
    shown = commands.run(namespace.ip("-j", "-details", "link", "show"))
    found: list[dict[str, Any]] = json.loads(shown or "[]")
    return found


def traces(shown: Iterable[Mapping[str, Any]], counts: Mapping[str, int]) -> list[str]:
    """What interfaces and sockets show of an engine that has none of its own beside its veth pair:
    XDP programs, taps, and sockets. `shown` is of `links`, `counts` of `sockets`.
    """
    found = []
    for link in shown:
        name = link["ifname"]
        if link.get("xdp"):
            found.append(f"XDP program on {name}")
        if link.get("linkinfo", {}).get("info_kind") == "tun":
            found.append(f"tap {name}")
    open_ones = [kind for kind in ENGINE_SOCKETS if counts.get(kind)]
    return found + [f"{counts[kind]} sockets of {kind}" for kind in open_ones]


def steady(links: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Of what `ip` says of interfaces, that which only a change makes different."""
    told = []
    for link in links:
        row = {key: link[key] for key in STEADY if key in link}
        row["flags"] = sorted(link.get("flags", []))
        told.append(row)
    return sorted(told, key=lambda row: str(row.get("ifname")))


def wait_settled(namespace: Namespace) -> None:
    """Waits until no IPv6 address is tentative any more: its route comes only then."""

    def settled() -> bool:
        return "tentative" not in commands.run(namespace.ip("address", "show"))

    if not wait(settled, SETTLED_SECONDS):
        raise CommandError(f"{namespace.name}: an IPv6 address stays tentative")


def inventory(namespace: Namespace) -> dict[str, Any]:
    """All that a namespace has and that an engine might leave changed."""

    def listed(*words: str) -> Any:
        return json.loads(commands.run(namespace.ip("-j", *words)) or "[]")

    wait_settled(namespace)
    shown = links(namespace)
    names = [link["ifname"] for link in shown]
    processes = commands.run(["ip", "netns", "pids", namespace.name]).split()
    return {
        "interfaces": steady(shown),
        "offloads": {name: offloads(namespace, name) for name in names if name != "lo"},
        "addresses": sorted(address_lines(listed("address", "show"))),
        "routes": sorted(json.dumps(each) for each in listed("route", "show", "table", "all")),
        "rules": sorted(json.dumps(each) for each in listed("rule", "show")),
        "sockets": sockets(namespace),
        "processes": len(processes),
    }


def address_lines(links: Iterable[Mapping[str, Any]]) -> list[str]:
    """The addresses of all interfaces."""
    return [
        f"{link['ifname']} {address['local']}/{address['prefixlen']}"
        for link in links
        for address in link.get("addr_info", [])
    ]


def offloads(namespace: Namespace, interface: str) -> str:
    """What `ethtool` says that an interface does by itself."""
    return commands.run(namespace.inside("ethtool", "-k", interface))


def differences(before: Mapping[str, Any], after: Mapping[str, Any]) -> list[str]:
    """What is not as it was, one line for each part of an inventory."""
    keys = sorted(before.keys() | after.keys())
    return [
        f"{key}: {difference(before.get(key), after.get(key))}"
        for key in keys
        if before.get(key) != after.get(key)
    ]


def difference(before: Any, after: Any) -> str:
    """How one part differs; of a list only what came and went."""
    if isinstance(before, list) and isinstance(after, list):
        gone = [each for each in before if each not in after]
        return f"gone {gone}, come {[each for each in after if each not in before]}"
    return f"{before!r} became {after!r}"


def descriptors(pid: int) -> int:
    """How many descriptors a process has open."""
    return len(list(Path(f"/proc/{pid}/fd").iterdir()))


def pins() -> list[str]:
    """What is pinned in the file system of BPF, where that is mounted."""
    root = Path("/sys/fs/bpf")
    return sorted(str(each) for each in root.rglob("*")) if root.is_dir() else []
