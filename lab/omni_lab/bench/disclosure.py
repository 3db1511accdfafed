"""What has to be told with every figure: the machine, versions, settings, and which driver each
port really has.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from .. import commands, machine
from ..commands import CommandError
from ..compare_contestants import first_line
from ..netns import UNDERLAY
from ..node import ACCESS
from . import members, runs
from .state import Space, State

MITIGATIONS = Path("/sys/devices/system/cpu/vulnerabilities")
PROGRAMS = ("omni-engine", "omni-nucleus", "omni-perf")


def write(lab: State) -> Path:
    """Writes disclosure.json into the lab's run."""
    path = Path(lab.run) / "disclosure.json"
    before = json.loads(path.read_text()) if path.exists() else {}
    return runs.write(Path(lab.run), "disclosure", joined(before, gather(lab)))


def joined(before: Mapping[str, Any], now: Mapping[str, Any]) -> dict[str, Any]:
    """What was told at first, and what there is now: the machine as it was before anything was
    measured, and contestants that have been taken down since.
    """
    contestants = before.get("contestants", {}) | now["contestants"]
    return {**now, "machine": before.get("machine", now["machine"]), "contestants": contestants}


def gather(lab: State) -> dict[str, Any]:
    """All that is to be told of a lab that is up."""
    return {
        **runs.result("disclosure"),
        "machine": machine.describe(runs.REPOSITORY) | {"mitigations": mitigations()},
        "versions": versions(lab),
        "seed": lab.options["seed"],
        "topology": {
            "options": lab.options,
            "spaces": [[each.name, each.role, each.underlay] for each in lab.spaces],
            "notes": notes(lab.options),
        },
        "nodes": [node(each) for each in lab.nodes],
        "contestants": {
            each.name: {"version": each.version, "interface": each.interface, "mtu": each.mtu}
            for each in lab.contestants
        },
    }


def mitigations() -> dict[str, str]:
    """What the kernel does about faults of the CPU, by fault; those that it has not are left
    out.
    """
    found = {}
    for path in sorted(MITIGATIONS.glob("*")):
        said = path.read_text().strip()
        if said != "Not affected":
            found[path.name] = said
    return found


def versions(lab: State) -> dict[str, str]:
    """What programs say of themselves."""
    said = {name: first_line([f"{lab.programs}/{name}", "--version"]) for name in PROGRAMS}
    said["iproute2"] = first_line(["ip", "-V"])
    if lab.options["etcd"]:
        said["etcd"] = first_line(["etcd", "--version"])
    return said


def notes(options: Mapping[str, Any]) -> list[str]:
    """What a reader might not expect of the underlay."""
    found = ["All hosts share the machine's cores, and each frame is copied by the kernel."]
    if options["link_rate"] and not (options["delay"] or options["loss"]):
        found.append(
            "Rates are a token bucket at both ends of a link. What AF_XDP sends passes by the "
            "host's own: only the switch's end, towards the host, limits it."
        )
    return found


def node(space: Space) -> dict[str, Any]:
    """A node: its ports as the engine found them, and how the MTU goes down from link to link."""
    shown = members.show(space)
    queues = [] if shown is None else shown["queues"]
    kept = ("port", "queue", "mode", "copy", "worker", "core")
    return {
        "name": space.name,
        "ports": [{key: queue[key] for key in kept} for queue in queues],
        "mtu": mtus(space),
    }


def mtus(space: Space) -> dict[str, int]:
    """Of the underlay's interface and of the access port."""
    try:
        links = json.loads(commands.run(space.netns().ip("-j", "link", "show")))
    except CommandError:
        return {}
    return {link["ifname"]: link["mtu"] for link in links if link["ifname"] in (UNDERLAY, ACCESS)}


def contestant_of(lab: State) -> str:
    """What our own fabric is called in results: by the drivers that the first node's ports have."""
    shown = members.show(lab.nodes[0])
    return "omni" if shown is None else f"omni {drivers(shown['queues'])}"


def drivers(queues: Sequence[Mapping[str, Any]]) -> str:
    """The access port's driver and the underlay's, in the words of fabric.yaml."""
    found = {}
    for queue in queues:
        is_underlay = queue["port"] == UNDERLAY
        by_xdp = "afxdp" if is_underlay else "xdp"
        said = queue["mode"]
        found[is_underlay] = by_xdp if said in ("native", "generic") else said
    return "+".join(found[side] for side in (False, True) if side in found)
