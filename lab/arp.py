#!/usr/bin/env python3
"""Hosts that all resolve each other at once: with suppression, and without.

    25 hosts - bridge - omni0 - alpha ---- wire ---- beta - omni0 - bridge - 25 hosts

Every host is a namespace whose kernel answers ARP. With suppression on and all addresses known no
question crosses the fabric, and answers come faster. The same questions between hosts behind one
port are measured beside it: there the hosts answer themselves.

Needs root, the built programs (omni-engine and omni) and what scripts/install-deps.sh installs.
Works in network namespaces of its own, touches nothing else and removes all it made.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

from omni_lab import askers, commands, netns, resolution
from omni_lab.askers import Asker
from omni_lab.commands import CommandError
from omni_lab.interrupt import Interrupted, catch_signals, ignore_signals
from omni_lab.netns import Host
from omni_lab.node import ACCESS, Identity, Node, NodeError, Programs, render_config
from omni_lab.resolution import Figures, Round

REPOSITORY = Path(__file__).resolve().parent.parent
FABRIC = "arp"
UNDERLAY = {"alpha": "192.0.2.1", "beta": "192.0.2.2"}
NUMBERS = {"alpha": 10, "beta": 110}
# The most hosts of one node: their addresses must not run into the other node's.
HOSTS_MAX = 100
# For all addresses to be known on both nodes, and for frames under way to arrive.
WARM_SECONDS = 10.0
SETTLE_SECONDS = 0.5

LabError = (CommandError, NodeError)


class Fabric:
    """Two nodes, and hosts behind both."""

    def __init__(self, stack: ExitStack, programs: Programs, hosts: int) -> None:
        self.stack = stack
        prefix = f"omni-arp-{os.getpid()}"
        wanted = [Host(name, f"{address}/24") for name, address in UNDERLAY.items()]
        underlay = netns.build(stack, prefix, wanted)
        underlay.connect()
        self.nodes: dict[str, Node] = {}
        self.askers: list[Asker] = []
        self.identities: dict[str, Identity] = {}
        for name, address in UNDERLAY.items():
            namespace = underlay.hosts[name]
            askers.silence_ipv6(namespace)
            folder = stack.enter_context(tempfile.TemporaryDirectory(prefix=f"omni-{name}-"))
            node = Node(name, namespace, Path(folder), programs)
            self.nodes[name] = node
            stack.callback(node.kill)
            self.identities[name] = Identity(name, address, (), node.make_keys())
            addresses = [f"10.7.0.{NUMBERS[name] + number}" for number in range(hosts)]
            self.askers += askers.settle_hosts(stack, prefix, name, namespace, addresses)
        askers.acquaint(self.askers)

    def start(self, suppression: str) -> None:
        """Starts both nodes, puts their ports on the bridges and lets all become known."""
        for name, node in self.nodes.items():
            peers = [self.identities[other] for other in UNDERLAY if other != name]
            text = render_config(FABRIC, self.identities[name], peers, node.socket)
            node.config.write_text(resolution.with_switch(text, suppression))
            node.start()
            node.wait_ready()
            commands.run(node.namespace.ip("link", "set", ACCESS, "master", askers.BRIDGE))
        deadline = time.monotonic() + WARM_SECONDS
        while not self.is_warm():
            if time.monotonic() > deadline:
                raise NodeError(f"not all addresses are known after {WARM_SECONDS:g} s")
            askers.announce(self.askers)
            time.sleep(SETTLE_SECONDS)

    def is_warm(self) -> bool:
        """Whether every node knows every host's address."""
        for node in self.nodes.values():
            shown = node.show()
            known = {entry["ip"] for entry in shown["neighbors"]}
            if len(known) < len(self.askers) or len(shown["fdb"]) < len(self.askers):
                return False
        return True

    def stop(self) -> None:
        for node in self.nodes.values():
            node.stop()

    def sealed(self) -> int:
        """Frames that the nodes sent each other."""
        shown = [node.show() for node in self.nodes.values()]
        return sum(peer["tx_frames"] for show in shown for peer in show["peers"])

    def round(self, near: bool) -> Round:
        """Every host asks for every other one that is behind the same node, or behind the other."""
        pairs = [
            (asker, target)
            for target in self.askers
            for asker in self.askers
            if asker is not target and (asker.node == target.node) == near
        ]
        time.sleep(SETTLE_SECONDS)
        before = self.sealed()
        asked = askers.ask_all(pairs)
        time.sleep(SETTLE_SECONDS)
        return replace(asked, fabric_frames=self.sealed() - before)


def measure(fabric: Fabric, rounds: int) -> dict[str, Figures]:
    """Both settings, both kinds of questions."""
    measured = {}
    for suppression, state in (("on", "warm"), ("off", "off")):
        fabric.start(suppression)
        for near, where in ((False, "behind the other node"), (True, "behind the same port")):
            asked = [fabric.round(near) for _ in range(rounds)]
            measured[f"{state}, {where}"] = Figures.of(asked)
        fabric.stop()
    return measured


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    default = REPOSITORY / "target" / "release"
    option = parser.add_argument
    option("--programs", type=Path, default=default, help="where the programs are")
    option("--hosts", type=int, default=25, help=f"behind each node, up to {HOSTS_MAX} (25)")
    option("--rounds", type=int, default=5, help="of all questions, for each kind (5)")
    option("--json", type=Path, metavar="FILE", help="write all that was measured")
    return parser.parse_args()


def main() -> int:
    """Asks everybody for everybody. Exit status 0 when all figures are met."""
    options = parse_arguments()
    folder = options.programs.resolve()
    programs = Programs(folder / "omni-engine", folder / "omni")
    if os.geteuid() != 0 or not os.access(programs.engine, os.X_OK):
        print("arp: needs root, and omni-engine and omni built", file=sys.stderr)
        return 1
    if not 1 <= options.hosts <= HOSTS_MAX:
        print(f"arp: --hosts: {options.hosts} is not 1 to {HOSTS_MAX}", file=sys.stderr)
        return 1
    catch_signals()
    try:
        with ExitStack() as stack:
            try:
                fabric = Fabric(stack, programs, options.hosts)
                measured = measure(fabric, options.rounds)
            except LabError as error:
                print(f"\nFAILED: {error}", flush=True)
                return 1
            finally:
                # From here on all is undone; nothing may cut that short.
                ignore_signals()
    except Interrupted as signal_name:
        print(f"\ninterrupted by {signal_name}: all that was made is removed", flush=True)
        return 130
    if options.json is not None:
        report = {kind: figures.report() for kind, figures in measured.items()}
        options.json.write_text(json.dumps(report, indent=1) + "\n")
    print("\n".join(resolution.table(measured)), flush=True)
    warm, cold = (measured[f"{state}, behind the other node"] for state in ("warm", "off"))
    missed = resolution.misses(warm, cold)
    for miss in missed:
        print(f"MISSED: {miss}", flush=True)
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
