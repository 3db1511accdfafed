"""Two nodes on a wire, alpha and beta, of which alpha is the one that suffers.

alpha                 wire                  beta
eth0 ------- to-alpha [ br0 ] to-beta ------ eth0
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from . import commands, netns
from .faults_talk import INTERVAL_SECONDS, Talk
from .netns import Host, Namespace
from .node import Drivers, Identity, Node, NodeError, Programs, render_config

NAMES = ("alpha", "beta")
UNDERLAY = {"alpha": "192.0.2.1", "beta": "192.0.2.2"}
ACCESS = {"alpha": "10.7.0.1", "beta": "10.7.0.2"}
# Each way to move frames that is tried: of the underlay, and of the access port.
WAYS = {
    f"{underlay}/{access}": Drivers(access, underlay)
    for underlay in ("afxdp", "udp")
    for access in ("tap", "xdp")
}
# No duplicate address detection (RFC 4862), on the underlay and on what is made later.
WITHOUT_DAD = [f"net.ipv6.conf.{name}.accept_dad=0" for name in ("default", netns.UNDERLAY)]
# Until a pair that was just started talks.
MEET_SECONDS = 15.0


@dataclass
class Pair:
    """The nodes, each in a namespace and with a folder of its own."""

    wire: Namespace
    nodes: dict[str, Node]
    identities: dict[str, Identity]

    @property
    def alpha(self) -> Node:
        """The node that suffers."""
        return self.nodes["alpha"]

    @property
    def beta(self) -> Node:
        """The other one."""
        return self.nodes["beta"]

    def configure(self, drivers: Drivers, more: Sequence[str] = ()) -> None:
        """Writes both configurations; `more` are lines of each."""
        for name, node in self.nodes.items():
            node.config.write_text(self.config_of(name, drivers, more))

    def config_of(self, name: str, drivers: Drivers, more: Sequence[str] = ()) -> str:
        """A node's configuration."""
        peers = [self.identities[other] for other in NAMES if other != name]
        me, socket = self.identities[name], self.nodes[name].socket
        return render_config("faults", me, peers, socket, more, drivers)

    def start(self) -> None:
        """Starts both."""
        for node in self.nodes.values():
            node.start()
        for node in self.nodes.values():
            node.wait_ready()

    def talk(self, stack: ExitStack, interval: float = INTERVAL_SECONDS) -> Talk:
        """Datagrams both ways from here on; waits until they arrive."""
        hosts = {name: node.namespace for name, node in self.nodes.items()}
        talk = Talk(hosts, ACCESS, interval)
        stack.callback(talk.close)
        talk.set_mark()
        if not talk.wait_both(MEET_SECONDS):
            raise NodeError(f"alpha and beta do not reach each other: {talk.firsts()}")
        return talk

    def stop(self) -> list[str]:
        """Stops both. Returns what is wrong then, nothing when all is well."""
        wrong = []
        for node in self.nodes.values():
            status = node.stop()
            if status:
                wrong.append(f"{node.name}: exit status {status}")
            wrong += [f"{node.name}: {each}" for each in node.leftovers()]
        return wrong


def make(stack: ExitStack, trial: str, programs: Programs) -> Pair:
    """Makes hosts, folders and keys; the stack removes them all."""
    hosts = [Host(name, f"{UNDERLAY[name]}/30") for name in NAMES]
    underlay = netns.build(stack, f"omni-{trial}-{os.getpid()}", hosts)
    for namespace in underlay.hosts.values():
        # Addresses and routes are there at once: no other host has them.
        commands.run(namespace.inside("sysctl", "-e", "-q", "-w", *WITHOUT_DAD))
    underlay.connect()
    nodes, identities = {}, {}
    for name in NAMES:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix=f"omni-{name}-")))
        nodes[name] = Node(name, underlay.hosts[name], folder, programs)
        stack.callback(nodes[name].kill)
        key = nodes[name].make_keys()
        identities[name] = Identity(name, UNDERLAY[name], (f"{ACCESS[name]}/24",), key)
    return Pair(underlay.wire, nodes, identities)


def drops(node: Node) -> int:
    """All that a node dropped so far, whatever for."""
    return sum(node.look()["drops"].values())
