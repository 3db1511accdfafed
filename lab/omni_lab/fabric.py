"""A fabric of any size whose nodes know nobody: hosts on a wire, an authority, Nuclei, engines.

    node1      node2      ...      nucleus
    eth0       eth0                 eth0
      |          |                    |
    [ br0 ------------------------------- ]  wire

They meet at a Nucleus, or at several. Nothing in a node's file says who else there is.
"""

from __future__ import annotations

import ipaddress
import itertools
import os
import tempfile
import time
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType

from . import commands, netns, rendezvous
from .interrupt import Interrupted
from .netns import Host, Namespace
from .node import Identity, Node, NodeError, Programs, render_config
from .pinger import Pinger
from .rendezvous import Authority, Meeting, Nucleus
from .watch import Watch

# A network for benchmarks (RFC 2544), and a private one.
UNDERLAY_NET = ipaddress.ip_network("198.18.0.0/16")
ACCESS_NET = ipaddress.ip_network("10.7.0.0/16")
STOP_SECONDS = 20.0
# Between two pings of a pair, and until all pairs of a few nodes have to have reached each other.
PING_SECONDS = 0.05
MEET_SECONDS = 60.0
# Of neighbours in all namespaces together: from where on Linux forgets, and how many it notes.
NEIGHBOURS = Path("/proc/sys/net/ipv4/neigh/default")
NEIGHBOUR_LIMITS = ("gc_thresh2", "gc_thresh3")


class Fabric:
    """All of it. The stack removes what was made, the last first."""

    def __init__(
        self,
        stack: ExitStack,
        name: str,
        programs: Programs,
        *,
        nodes: Sequence[str],
        nuclei: Sequence[str] = ("nucleus",),
        others: Sequence[str] = (),
    ) -> None:
        """Makes the hosts on their wire; `others` are hosts without any of our programs."""
        self.name, self.programs = name, programs
        made = tempfile.TemporaryDirectory(prefix=f"omni-{name}-")
        self.folder = Path(stack.enter_context(made))
        names = [*nodes, *nuclei, *others]
        self.underlay = {name: str(UNDERLAY_NET[at + 1]) for at, name in enumerate(names)}
        prefix = f"omni-{name}-{os.getpid()}"
        length = UNDERLAY_NET.prefixlen
        hosts = [Host(name, f"{address}/{length}") for name, address in self.underlay.items()]
        self.wire = netns.build_many(stack, prefix, hosts)
        self.access = {name: str(ACCESS_NET[at + 1]) for at, name in enumerate(nodes)}
        self.authority = Authority(self.folder_of("authority"), name, programs)
        self.nuclei = {
            name: Nucleus(self.wire.hosts[name], self.folder_of(name), programs) for name in nuclei
        }
        self.nodes = {
            name: Node(name, self.wire.hosts[name], self.folder_of(name), programs)
            for name in nodes
        }
        self.keys: dict[str, str] = {}
        stack.push(self.leave)

    def folder_of(self, name: str) -> Path:
        """A new folder of mode 0700."""
        folder = self.folder / name
        folder.mkdir(mode=0o700)
        return folder

    def namespaces(self) -> dict[str, Namespace]:
        """Those of the nodes."""
        return {name: node.namespace for name, node in self.nodes.items()}

    def configure(self, etcd: Sequence[str] = (), more: Sequence[str] = ()) -> None:
        """Makes all keys, certificates and configurations. `etcd` are URLs of a common store,
        `more` are lines of each fabric.yaml.
        """
        places = []
        for name, nucleus in self.nuclei.items():
            places.append((f"{self.underlay[name]}:{rendezvous.PORT}", nucleus.make_keys()))
            key = self.authority.public_key
            text = rendezvous.render_nucleus(self.name, key, nucleus.socket, etcd)
            nucleus.config.write_text(text)
        meeting = Meeting(tuple(places), self.authority.public_key)
        for name, node in self.nodes.items():
            self.keys[name] = key = node.make_keys()
            certificate = f"{name}.cert"
            commands.run(self.authority.enroll(name, key, node.folder / certificate))
            access = (f"{self.access[name]}/{ACCESS_NET.prefixlen}",)
            me = Identity(name, self.underlay[name], access, key)
            lines = [*more, *meeting.lines(certificate)]
            node.config.write_text(render_config(self.name, me, [], node.socket, lines))

    def start(self, names: Sequence[str]) -> None:
        """Starts nodes, and waits until each is ready."""
        for name in names:
            self.nodes[name].start()
        for name in names:
            self.nodes[name].wait_ready()

    def watch(self, stack: ExitStack, nucleus: str) -> Watch:
        """Writes down what a Nucleus tells."""
        command = self.nuclei[nucleus].ask_command("watch", "--json")
        watch = Watch(command, self.folder / f"{nucleus}.watch")
        stack.callback(watch.close)
        return watch

    def pairs(self, names: Sequence[str]) -> list[tuple[str, str]]:
        """All pairs of nodes, both ways: the name of one, and the other's address on the fabric."""
        both = itertools.permutations(names, 2)
        return [(one, self.access[other]) for one, other in both]

    def meet(self, pinger: Pinger, names: Sequence[str]) -> None:
        """Waits until nodes have reached each other."""
        streams = pinger.add(self.pairs(names), PING_SECONDS, once=True)
        if not pinger.wait(lambda: all(each.done for each in streams), MEET_SECONDS):
            silent = [f"{each.source} to {each.address}" for each in streams if not each.done]
            raise NodeError(f"no answer within {MEET_SECONDS:g} s: {', '.join(silent)}")

    def leave(
        self,
        kind: type[BaseException] | None,
        _error: BaseException | None,
        _trace: TracebackType | None,
    ) -> None:
        """The end, of which logs say more when it is an error's."""
        if kind is not None and not issubclass(kind, Interrupted):
            self.print_logs()
        self.end()

    def end(self) -> None:
        """Ends all programs: all are asked before any is waited for."""
        running = []
        for node in self.nodes.values():
            if node.process is not None and node.process.poll() is None:
                node.process.terminate()
                running.append(node.process)
        deadline = time.monotonic() + STOP_SECONDS
        while time.monotonic() < deadline and any(each.poll() is None for each in running):
            time.sleep(0.05)
        for node in self.nodes.values():
            node.kill()
        for nucleus in self.nuclei.values():
            nucleus.kill()

    def check_running(self) -> None:
        """Raises the error of a program that ended without being told."""
        for node in self.nodes.values():
            if node.process is not None and node.process.poll() is not None:
                raise NodeError(f"{node.name}: {node.condition()}")

    def print_logs(self, most: int = 3) -> None:
        """The last that some programs said, for whoever has to find out what went wrong."""
        for name, nucleus in self.nuclei.items():
            if nucleus.log.exists():
                print(f"\n-- {name}: its log's last lines:")
                print("\n".join(nucleus.log.read_text(errors="replace").splitlines()[-25:]))
        started = [node for node in self.nodes.values() if node.process is not None]
        # Those that ended come first.
        started.sort(key=lambda node: node.running().poll() is None)
        for node in started[:most]:
            print(f"\n-- {node.name}: {node.condition()}; its log's last lines:")
            print("\n".join(node.log_tail()), flush=True)


def make_room_for_neighbours(stack: ExitStack, count: int) -> None:
    """Lets the kernel note that many neighbours in all namespaces together; `stack` takes it back.

    Hosts with kernels of their own have this room each.
    """
    for name in NEIGHBOUR_LIMITS:
        limit = NEIGHBOURS / name
        before = limit.read_text()
        if int(before) < count:
            stack.callback(limit.write_text, before)
            limit.write_text(str(count))
