"""Where the links of a lab are, and how they are cut. Pure: `faults` has it carried out.

A partition is a filter in all namespaces of switches, as a firewall's would be: frames on bridges
and packets on routers, by the addresses of both halves. Hosts' own links stay up.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from ...netns import UNDERLAY
from .. import plan as plans
from ..state import LabError, State

TABLE = "omni_chaos"
FAMILIES = ("bridge", "inet")
# What a link carries for a while, in octets.
NARROW_MTU = 1300
# Links that carry no more than this are left alone.
WIDE_MTU = 1400


@dataclass(frozen=True)
class End:
    """An interface in a namespace."""

    namespace: str
    interface: str


def plan_of(lab: State) -> plans.Plan:
    """The underlay of a lab, as `lab up` made it; without forwarders, which lie within links."""
    roles = ("node", "nucleus", "etcd")
    hosts = [each.name for role in roles for each in lab.of(role)]
    return plans.make(lab.options["topology"], hosts, lab.options["sites"])


def ends(lab: State) -> dict[str, tuple[End, End]]:
    """The link of each host: its end at the switch, and its own."""
    spaces = {each.name: each.namespace for each in lab.spaces}
    found = {}
    for cable in plan_of(lab).cables:
        if cable.one.bridged:
            one = End(spaces[cable.one.space], cable.one.interface)
            found[cable.other.space] = (one, End(spaces[cable.other.space], UNDERLAY))
    missing = [each.name for each in lab.spaces if each.underlay and each.name not in found]
    if missing:
        raise LabError(f"{missing[0]} has no link in the plan of the lab")
    return found


def partition_rules(one: Collection[str], other: Collection[str]) -> str:
    """What `nft` is told so that two sets of addresses get nothing of each other."""
    lines = []
    for family in FAMILIES:
        matches = ["ip saddr @{} ip daddr @{}"]
        # Routers do not carry ARP.
        matches += ["arp saddr ip @{} arp daddr ip @{}"] if family == "bridge" else []
        lines.append(f"table {family} {TABLE} {{")
        for name, addresses in (("one", one), ("other", other)):
            listed = ", ".join(sorted(addresses))
            lines.append(f"  set {name} {{ type ipv4_addr; elements = {{ {listed} }} }}")
        lines.append("  chain forward {")
        lines.append("    type filter hook forward priority 0; policy accept;")
        for match in matches:
            for sides in (("one", "other"), ("other", "one")):
                lines.append(f"    {match.format(*sides)} drop")
        lines += ["  }", "}"]
    return "\n".join(lines) + "\n"


def heal_rules() -> str:
    """What `nft` is told so that no partition is left, whether there is one or not."""
    lines = []
    for family in FAMILIES:
        lines += [f"table {family} {TABLE}", f"delete table {family} {TABLE}"]
    return "\n".join(lines) + "\n"
