"""What has to be told with every figure: machine, versions, settings, and honest caveats. Pure."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Mapping
from typing import Any

from ...netns import UNDERLAY
from ...node import ACCESS
from . import units
from .blocks import Beside, Cell, Row, Section, Subheading, Table, Text
from .colours import BARE
from .load import Results, is_ours

COMMAND = "`lab up`"
LOAD = "load before the run"


def disclosure(results: Results) -> Mapping[str, Any]:
    """What was told of the run; nothing where it was not."""
    found = results.of("disclosure")
    return found[-1].data if found else {}


def section(results: Results) -> Section:
    """All of it."""
    made = Section("disclosure", "Machine, versions, settings", COMMAND)
    told = disclosure(results)
    if not told:
        return made
    made.add(*(Text(each, important=True) for each in caveats(told)))
    machine: Mapping[str, Any] = told["machine"]
    rows = [(key, plain(value)) for key, value in machine.items() if key != "mitigations"]
    versions = [(key, plain(value)) for key, value in (told.get("versions") or {}).items()]
    made.add(
        Beside(
            [
                Table(("what", "is"), rows, "Machine"),
                settings(told),
                Table(("program", "says"), versions, "Versions"),
            ]
        )
    )
    mitigations = machine.get("mitigations")
    if isinstance(mitigations, dict):
        rows = [(key, plain(value)) for key, value in mitigations.items()]
        made.add(
            Table(
                ("fault of the CPU", "what the kernel does about it"),
                rows,
                f"What the kernel mitigates of this CPU's faults: {len(rows)}",
                folded=True,
            )
        )
    made.add(Subheading("Ports as the engines have them"), drivers(told))
    peers = contestants(results, told)
    if peers.rows:
        made.add(Subheading("Contestants"), peers)
    return made


def plain(value: Any) -> str:
    """A value as one line of text."""
    if value is None or value == "":
        return units.ABSENT
    if isinstance(value, bool):
        return "yes" if value else "no"
    return value if isinstance(value, str) else json.dumps(value)


def caveats(told: Mapping[str, Any]) -> list[str]:
    """What a reader is not to take figures for."""
    nodes = len(told.get("nodes") or ())
    cpu = plain(told["machine"].get("CPU"))
    hosts = f"All {nodes} hosts are network namespaces" if nodes else "All hosts are namespaces"
    found = [
        f"{hosts} on one machine ({cpu}) and share its cores with what makes the traffic. Figures "
        "compare contestants on the same hosts, one after the other: read ratios. They say nothing "
        "about a network card, a cable or a cluster."
    ]
    if is_busy(told["machine"]):
        found.append(
            f"Others used the machine: its load was {plain(told['machine'][LOAD])} before the run. "
            "Measure again on a quiet one."
        )
    notes = (told.get("topology") or {}).get("notes") or ()
    return found + [plain(each) for each in notes]


def is_busy(machine: Mapping[str, Any]) -> bool:
    """Whether others had more than a quarter of the machine's cores before the run."""
    cores = re.search(r"(\d+) cores?\b", str(machine.get("CPU")))
    try:
        return float(machine[LOAD]) > int(cores[1]) / 4 if cores else False
    except (KeyError, TypeError, ValueError):
        return False


def settings(told: Mapping[str, Any]) -> Table:
    """How the fabric was brought up."""
    topology = told.get("topology") or {}
    rows = [
        (key.replace("_", " "), plain(value))
        for key, value in (topology.get("options") or {}).items()
    ]
    roles = Counter(str(space[1]) for space in topology.get("spaces") or () if len(space) > 1)
    if roles:
        rows.append(("namespaces", ", ".join(f"{count} × {role}" for role, count in roles.items())))
    if told.get("seed") is not None and not any(key == "seed" for key, _ in rows):
        rows.append(("seed", plain(told["seed"])))
    return Table(("setting", "value"), rows, "Topology and its settings")


def drivers(told: Mapping[str, Any]) -> Table:
    """Driver and mode of each port and the MTUs on the way, nodes that have the same together."""
    alike: dict[tuple[tuple[str, str, str], ...], list[str]] = {}
    for node in told.get("nodes") or ():
        mtus = node.get("mtu") or {}
        ports: Counter[tuple[str, str, str]] = Counter(
            (plain(port.get("port")), plain(port.get("mode")), plain(port.get("copy")))
            for port in node.get("ports") or ()
        )
        key = tuple(
            (f"{name} × {count}" if count > 1 else name, f"{mode}, {copy}", plain(mtus.get(name)))
            for (name, mode, copy), count in sorted(ports.items())
        )
        alike.setdefault(key, []).append(plain(node.get("name")))
    rows = []
    for key, names in alike.items():
        said = names[0] if len(names) == 1 else f"{names[0]} … {names[-1]} ({len(names)} nodes)"
        if not key:
            rows.append((said, "did not answer", "", ""))
        rows += [(said, *port) for port in key]
    caption = "Read back from the running engines."
    return Table(("nodes", "port and its queues", "mode", ">MTU"), rows, caption)


def contestants(results: Results, told: Mapping[str, Any]) -> Table:
    """How each contestant was set up."""
    set_up: dict[str, Any] = dict(told.get("contestants") or {})
    mtus = next((node.get("mtu") or {} for node in told.get("nodes") or ()), {})
    engine = (told.get("versions") or {}).get("omni-engine")
    names = results.contestants
    for name in names:
        if is_ours(name):
            set_up[name] = {"version": engine, "interface": ACCESS, "mtu": mtus.get(ACCESS)}
        elif name == BARE:
            set_up[name] = {"interface": UNDERLAY, "mtu": mtus.get(UNDERLAY)}
    rows: list[Row] = []
    for name in [*names, *(each for each in set_up if each not in names)]:
        said = set_up.get(name) or {}
        values = (plain(said.get(key)) for key in ("version", "interface", "mtu"))
        rows.append((Cell(name, contestant=name), *values))
    return Table(("contestant", "version", "interface", ">MTU"), rows)
