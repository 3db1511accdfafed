"""`lab arp`: hosts that all resolve each other at once, with suppression and without.

All engines are started anew for each of the two, without limits of broadcasts, and as they were at
the end. With suppression on, and all addresses known, no question crosses the fabric.
"""

from __future__ import annotations

import argparse
import contextlib
import ipaddress
import itertools
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

from .. import askers, netns, resolution
from ..askers import Asker
from ..figures import Figure, kept, table
from ..interrupt import catch_signals, ignore_signals
from ..netns import Namespace
from ..node import ACCESS, NodeError
from ..report import heading
from ..resolution import Figures, Round
from . import disclosure, histograms, members, runs, state
from .arguments import add_name, whole
from .progress import Progress
from .state import LabError, Space, State

HOSTS = 10
CONFIG = "fabric-arp.yaml"
# For all addresses to be known on all nodes, and for frames under way to arrive.
WARM_SECONDS = 20.0
# Of the namespace that the thread is in.
DISABLE_IPV6 = Path("/proc/sys/net/ipv6/conf/default/disable_ipv6")
SETTLE_SECONDS = 0.5


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command line."""
    add_name(parser)
    text = f"nodes that ask, each for all others of them ({HOSTS})"
    parser.add_argument("--hosts", type=whole(2, 200), default=HOSTS, help=text)
    parser.add_argument("--rounds", type=whole(1, 100), default=3, help="of all questions (3)")


@contextlib.contextmanager
def restarted(lab: State, progress: Progress) -> Iterator[None]:
    """Gives engines their own configuration back at the end, whatever happens."""
    try:
        yield
    finally:
        ignore_signals()
        set_ipv6(lab, disabled=False)
        progress.step("engines as they were")
        members.restart_nodes(lab, None, progress.done)
        progress.close()
        for node in lab.nodes:
            (Path(node.folder) / CONFIG).unlink(missing_ok=True)


def set_suppression(lab: State, suppression: str, progress: Progress) -> None:
    """Starts all engines with suppression on or off."""
    for node in lab.nodes:
        folder = Path(node.folder)
        text = (folder / members.NODE_CONFIG).read_text()
        (folder / CONFIG).write_text(resolution.with_switch(text, suppression))
    set_ipv6(lab, disabled=True)
    progress.step(f"engines with suppression {suppression}")
    members.restart_nodes(lab, CONFIG, progress.done)
    progress.close()


def set_ipv6(lab: State, disabled: bool) -> None:
    """Whether access ports that engines make from now on have IPv6, which says a lot unasked."""
    for node in lab.nodes:
        with netns.inside(node.netns()):
            DISABLE_IPV6.write_text(str(int(disabled)))


def settle(stack: ExitStack, nodes: Sequence[Space]) -> list[Asker]:
    """A socket on the access port of each node. Ports are new with each start of an engine."""
    found = []
    for node in nodes:
        namespace: Namespace = node.netns()
        link = netns.link(namespace, ACCESS)
        if link is None:
            raise NodeError(f"{node.name}: there is no {ACCESS}")
        with netns.inside(namespace):
            opened = askers.open_socket(ACCESS)
        stack.callback(opened.close)
        mac = bytes.fromhex(link["address"].replace(":", ""))
        address = ipaddress.ip_address(str(node.overlay)).packed
        found.append(Asker(node.name, namespace, address, mac, opened))
    return found


def warm(lab: State, hosts: Sequence[Asker]) -> None:
    """Waits until every node knows every host's address. Raises NodeError when one does not."""
    wanted = {str(ipaddress.ip_address(host.address)) for host in hosts}
    deadline = time.monotonic() + WARM_SECONDS
    while True:
        askers.announce(hosts)
        time.sleep(SETTLE_SECONDS)
        ignorant = [node.name for node in lab.nodes if not wanted <= addresses(node)]
        if not ignorant:
            return
        if time.monotonic() > deadline:
            reason = f"{ignorant[0]} does not know all addresses after {WARM_SECONDS:g} s"
            raise NodeError(reason)


def addresses(node: Space) -> set[str]:
    """The addresses that a node knows."""
    shown = members.show(node)
    return set() if shown is None else {each["ip"] for each in shown["neighbors"]}


def sealed(lab: State) -> int:
    """Frames that the nodes sent each other."""
    shown = [members.show(node) for node in lab.nodes]
    return sum(peer["tx_frames"] for each in shown if each for peer in each["peers"])


def ask(lab: State, hosts: Sequence[Asker]) -> Round:
    """Every host asks for every other one."""
    time.sleep(SETTLE_SECONDS)
    before = sealed(lab)
    asked = askers.ask_all(list(itertools.permutations(hosts, 2)))
    time.sleep(SETTLE_SECONDS)
    return replace(asked, fabric_frames=sealed(lab) - before)


def measure(
    lab: State, options: argparse.Namespace, suppression: str, progress: Progress
) -> Figures:
    """All rounds with one setting."""
    set_suppression(lab, suppression, progress)
    with ExitStack() as stack:
        hosts = settle(stack, lab.nodes[: options.hosts])
        warm(lab, hosts)
        return Figures.of([ask(lab, hosts) for _ in range(options.rounds)])


def report(figures: Figures, suppression: str, options: argparse.Namespace) -> dict[str, Any]:
    """What is kept of one setting."""
    return {
        "suppression": suppression,
        "hosts": options.hosts,
        "rounds": options.rounds,
        "asked": figures.asked,
        "answered": len(figures.latencies_us),
        "wrong": figures.wrong,
        "fabric_frames": figures.fabric_frames,
        "histogram": histograms.of(round(each * 1000) for each in figures.latencies_us),
    }


def held(near: Figures, far: Figures) -> list[Figure]:
    """What is to be held to its target: `near` with suppression, `far` without."""
    found = []
    for name, each in (("on", near), ("off", far)):
        lost = each.asked - len(each.latencies_us)
        found += [
            Figure(f"{name}: questions", each.asked),
            Figure(f"{name}: not answered", lost, at_most=0),
            Figure(f"{name}: answered wrongly", each.wrong, at_most=0),
        ]
    found.append(Figure("on: frames on the fabric", near.fabric_frames, at_most=0))
    found.append(Figure("off: frames on the fabric", far.fabric_frames, at_least=1))
    for percent in (50, 99):
        quick, slow = near.percentile(percent), far.percentile(percent)
        found.append(Figure(f"on: p{percent}", quick, "us", at_most=slow))
        found.append(Figure(f"off: p{percent}", slow, "us"))
    return found


def run(options: argparse.Namespace) -> int:
    """Exit status 0 when all were answered, and suppression keeps questions near by."""
    catch_signals()
    lab = state.load_complete(options.name)
    if options.hosts > len(lab.nodes):
        raise LabError(f"--hosts: the lab has {len(lab.nodes)} nodes")
    contestant = disclosure.contestant_of(lab)
    heading(f"ARP: {options.hosts} hosts ask for each other at once, {options.rounds} times")
    runs.add_event(lab, "arp", detail=contestant)
    progress = Progress()
    measured = {}
    with restarted(lab, progress):
        for suppression in ("on", "off"):
            head = runs.result("arp", contestant)
            figures = measured[suppression] = measure(lab, options, suppression, progress)
            name = f"arp-{runs.slug(contestant)}-{suppression}"
            runs.write(Path(lab.run), name, head | report(figures, suppression, options))
    figures_held = held(measured["on"], measured["off"])
    runs.write(
        Path(lab.run),
        f"arp-{runs.slug(contestant)}",
        runs.result("arp-figures", contestant) | {"figures": kept(figures_held)},
    )
    print("\n".join(table(figures_held)), flush=True)
    return 0 if all(each.met for each in figures_held) else 1
