"""`lab baseline`: sets up what others have for the same, on the same hosts, beside our own fabric.

  bare        the underlay itself: always there
  vxlan       the kernel's VXLAN in plaintext, each host joined to all: static entries, no learning
  fastd       tap, salsa2012+umac, each host joined to all
  vpncloud    tap, switch, its own choice of cipher, each host joined to all
  wireguard   the kernel's VXLAN within wireguard-go, each host joined to all

`lab iperf --over vxlan` and the like then go over it. Engines stay up meanwhile, and idle.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from ..figures import Figure, percentile, table
from ..interrupt import catch_signals
from ..pinger import Pinger
from . import baseline_kernel, baseline_tunnels, disclosure, runs, state
from .arguments import add_name, whole
from .over import BARE
from .state import Contestant, LabError, Space, State

# Each host has a tunnel to each other one, in user space.
TUNNEL_NODES = 8
TUNNEL_NODES_MAX = 16
PING_SECONDS = 0.1
# Some wait before they try again.
PATIENCE_SECONDS = 20.0


@dataclass(frozen=True)
class Recipe:
    """How a contestant is set up, and taken down again."""

    needs: Sequence[str]
    nodes: int | None
    up: Callable[[State, Contestant, Sequence[Space]], None]
    down: Callable[[State, Contestant], None]


RECIPES = {
    "vxlan": Recipe(("ip", "bridge"), None, baseline_kernel.vxlan, baseline_kernel.remove),
    "fastd": Recipe(("fastd",), TUNNEL_NODES, baseline_tunnels.fastd, baseline_tunnels.remove),
    "vpncloud": Recipe(
        ("vpncloud",), TUNNEL_NODES, baseline_tunnels.vpncloud, baseline_tunnels.remove
    ),
    "wireguard": Recipe(
        ("wireguard-go", "wg"), TUNNEL_NODES, baseline_tunnels.wireguard, baseline_tunnels.remove
    ),
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command line."""
    add_name(parser)
    parser.add_argument("contestant", choices=(BARE, *RECIPES), help="what to set up")
    text = f"on the first so many nodes (vxlan: all; others: {TUNNEL_NODES}, at most "
    parser.add_argument(
        "--nodes", type=whole(2, 1000), metavar="N", help=f"{text}{TUNNEL_NODES_MAX})"
    )
    parser.add_argument("--remove", action="store_true", help="take it away again")


def run(options: argparse.Namespace) -> int:
    """Exit status 0 when all its hosts reach each other."""
    catch_signals()
    lab = state.load_complete(options.name)
    if options.contestant == BARE:
        print("the bare underlay is there: `--over bare` goes over it")
        return 0
    recipe = RECIPES[options.contestant]
    if options.remove:
        take_down(lab, lab.contestant(options.contestant))
        return 0
    found = make(lab, options.contestant, recipe, chosen(lab, recipe, options.nodes))
    measured = reach(lab, found)
    runs.add_event(lab, "baseline", detail=found.name)
    disclosure.write(lab)
    print("\n".join(table(measured)), flush=True)
    return 0 if all(each.met for each in measured) else 1


def chosen(lab: State, recipe: Recipe, wanted: int | None) -> list[Space]:
    """The hosts that take part."""
    missing = [name for name in recipe.needs if baseline_tunnels.find(name) is None]
    if missing:
        reason = f"{missing[0]} is not installed: `perf/fabric.py --install` installs peers"
        raise LabError(reason)
    if recipe.nodes is not None and (wanted or 0) > TUNNEL_NODES_MAX:
        raise LabError(f"--nodes: it is set up on {TUNNEL_NODES_MAX} hosts at most")
    return lab.nodes[: wanted or recipe.nodes]


def make(lab: State, name: str, recipe: Recipe, hosts: Sequence[Space]) -> Contestant:
    """Sets it up; what was made of it is removed when that fails."""
    if any(each.name == name for each in lab.contestants):
        raise LabError(f"{name} is set up already: --remove takes it away")
    found = Contestant(name, {}, "", 0)
    lab.contestants.append(found)
    lab.save()
    try:
        recipe.up(lab, found, hosts)
        baseline_tunnels.check_running(lab, found)
    except BaseException:
        take_down(lab, found)
        raise
    lab.save()
    return found


def take_down(lab: State, found: Contestant) -> None:
    """Removes a contestant from all hosts."""
    RECIPES[found.name].down(lab, found)
    lab.contestants.remove(found)
    lab.save()
    for node in lab.nodes:
        baseline_tunnels.forget(Path(node.folder) / found.name)


def reach(lab: State, found: Contestant) -> list[Figure]:
    """Whether its hosts reach each other: each the next one, and the first all."""
    names = list(found.addresses)
    spaces = {node.name: node.netns() for node in lab.nodes if node.name in found.addresses}
    pairs = {(one, names[(at + 1) % len(names)]) for at, one in enumerate(names)}
    pairs |= {(names[0], other) for other in names[1:]}
    pinger = Pinger(spaces, lab.options["seed"])
    try:
        wanted = [(one, found.addresses[other]) for one, other in sorted(pairs)]
        streams = pinger.add(wanted, PING_SECONDS, once=True)
        pinger.wait(lambda: all(each.done for each in streams), PATIENCE_SECONDS)
    finally:
        pinger.close()
    slowest = [each.slowest_seconds * 1000 for each in streams if each.done]
    return [
        Figure("hosts", len(names)),
        Figure("access MTU", found.mtu, "octets"),
        Figure("pairs that never answered", len(streams) - len(slowest), at_most=0),
        Figure("first round trip, slowest", percentile(slowest, 100), "ms"),
    ]
