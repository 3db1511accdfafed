#!/usr/bin/env python3
"""The fabric's main job on real traffic: three nodes, a Nucleus, a wire, and a look at all of it.

Needs root, the built programs and what scripts/install-deps.sh installs. Works in network
namespaces of its own, touches nothing else and removes all it made, also when interrupted.
"""

from __future__ import annotations

import argparse
import ipaddress
import itertools
import os
import sys
import tempfile
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from omni_lab import commands, netns, rendezvous, report, traffic
from omni_lab.capture import CaptureError, Tally, Wiretap
from omni_lab.classify import Kind
from omni_lab.commands import CommandError
from omni_lab.interrupt import Interrupted, catch_signals, ignore_signals
from omni_lab.netns import Host, Underlay
from omni_lab.node import ACCESS, PORT, Identity, Node, NodeError, Programs, render_config
from omni_lab.rendezvous import Authority, Meeting, Nucleus
from omni_lab.report import Figures, NodeFigures, heading
from omni_lab.traffic import TrafficError

REPOSITORY = Path(__file__).resolve().parent.parent
FABRIC = "demo"
NAMES = ("alpha", "beta", "gamma")
# Who measures with whom.
PAIR = NAMES[:2]
NUCLEUS = "nucleus"
UNDERLAY = {
    "alpha": "192.0.2.1",
    "beta": "192.0.2.2",
    "gamma": "192.0.2.3",
    NUCLEUS: "192.0.2.4",
}
ACCESS_V4 = {"alpha": "10.7.0.1", "beta": "10.7.0.2", "gamma": "10.7.0.3"}
ACCESS_V6 = {"alpha": "fd00:7::1", "beta": "fd00:7::2", "gamma": "fd00:7::3"}
VLAN = 7
VLAN_V4 = {"alpha": "10.7.7.1", "beta": "10.7.7.2"}
# The veth pairs have one queue, so a node has one worker, which is one lane.
LANES = 1
TCP_SECONDS = 5
UDP_SECONDS = 3
UDP_RATE = "300M"
# While iperf3 runs, one data message in this many is searched for plaintext.
BULK_SAMPLE = 64
# Frames that the hosts may send between the last look at the nodes and their end.
COUNT_SLACK = 32

LabError = (CaptureError, CommandError, NodeError, TrafficError)


class Demo:
    """The steps, in the order in which the reader sees them."""

    def __init__(self, stack: ExitStack, programs: Programs, pause: bool) -> None:
        self.stack = stack
        self.pause = pause
        self.programs = programs
        self.nodes: dict[str, Node] = {}
        self.nucleus: Nucleus
        self.problems: list[str] = []
        self.idle_queues: dict[str, list[dict[str, Any]]] = {}
        self.frames_sent = self.frames_dropped = 0
        self.ipv6 = False
        self.underlay: Underlay
        self.tap: Wiretap

    def check(self, good: bool, problem: str) -> None:
        """Something that must hold."""
        if not good:
            print(f"WRONG: {problem}", flush=True)
            self.problems.append(problem)

    def run(self) -> Figures:
        """All of it."""
        self.build_wire()
        self.ping_in_the_clear()
        meeting, authority = self.start_nucleus()
        self.start_nodes(meeting, authority)
        figures = self.measure()
        if self.pause:
            wait_for_enter()
        shown = self.look_inside()
        self.stop_nodes()
        wire = self.read_wire()
        return Figures(
            **figures,
            wire=wire,
            nodes=shown,
            cores=len(os.sched_getaffinity(0)),
            problems=tuple(self.problems),
        )

    def build_wire(self) -> None:
        heading("Hosts in network namespaces, a bridge as the wire, a capture on it")
        prefix = f"omni-demo-{os.getpid()}"
        hosts = [Host(name, f"{address}/29") for name, address in UNDERLAY.items()]
        self.underlay = netns.build(self.stack, prefix, hosts, run=echoed)
        self.tap = Wiretap(self.underlay.wire, self.underlay.ports(), PORT, LANES)
        self.stack.callback(self.tap.close)
        commands.echo(self.tap.command)
        self.tap.wait_listening()
        self.underlay.connect(run=echoed)
        self.ipv6 = netns.has_ipv6(self.underlay.hosts["alpha"])

    def ping_in_the_clear(self) -> None:
        """Without this, finding no plaintext later could as well mean a blind capture."""
        heading("First without the fabric: the capture must see what this ping carries")
        self.tap.request(phase="clear", needles=secrets(self.ipv6))
        pinged = traffic.ping(self.underlay.hosts["alpha"], UNDERLAY["beta"], 1)
        self.check(pinged.complete, "the hosts do not reach each other by the wire")
        self.tap.request(phase="fabric")

    def start_nucleus(self) -> tuple[Meeting, Authority]:
        heading("An authority's key, and a Nucleus on its embedded store")
        folder = self.folder("authority")
        authority = Authority(folder, FABRIC, self.programs)
        nucleus = Nucleus(self.underlay.hosts[NUCLEUS], self.folder(NUCLEUS), self.programs)
        self.nucleus = nucleus
        self.stack.callback(nucleus.kill)
        public_key = nucleus.make_keys()
        text = rendezvous.render_nucleus(FABRIC, authority.public_key, nucleus.socket)
        nucleus.config.write_text(text)
        print(text, end="")
        commands.echo(nucleus.command(), background=True)
        nucleus.start()
        endpoint = f"{UNDERLAY[NUCLEUS]}:{rendezvous.PORT}"
        return Meeting(((endpoint, public_key),), authority.public_key), authority

    def folder(self, name: str) -> Path:
        """A folder of mode 0700: keys and control sockets are nobody else's business."""
        made = tempfile.TemporaryDirectory(prefix=f"omni-{name}-")
        return Path(self.stack.enter_context(made))

    def start_nodes(self, meeting: Meeting, authority: Authority) -> None:
        heading("A key pair, a certificate, a fabric.yaml and an engine for each node")
        for name in NAMES:
            folder = self.folder(name)
            node = Node(name, self.underlay.hosts[name], folder, self.programs)
            self.nodes[name] = node
            self.stack.callback(node.kill)
            access = [f"{ACCESS_V4[name]}/24"]
            if self.ipv6:
                access.append(f"{ACCESS_V6[name]}/64")
            identity = Identity(name, UNDERLAY[name], tuple(access), node.make_keys())
            certificate = f"{name}.cert"
            echoed(authority.enroll(name, identity.public_key, folder / certificate))
            lines = meeting.lines(certificate)
            node.config.write_text(render_config(FABRIC, identity, [], node.socket, lines))
        print(self.nodes["alpha"].config.read_text(), end="")
        # One after the other, so that the next one sees on which core those before it work.
        for node in self.nodes.values():
            commands.echo(node.command(), background=True)
            node.start()
            node.wait_ready()
        macs = [node.access_mac() for node in self.nodes.values()]
        self.tap.request(needles=([mac.hex() for mac in macs], []))
        # A session is made when there is something to send.
        for here, there in itertools.combinations(NAMES, 2):
            host = self.underlay.hosts[here]
            traffic.ping(host, ACCESS_V4[there], 1, patience_seconds=10)
        for node in self.nodes.values():
            node.wait_established()
            attached = netns.has_xdp(node.namespace, netns.UNDERLAY)
            self.check(attached, f"{node.name}: no XDP program on {netns.UNDERLAY}")
        commands.show(self.nucleus.ask_command("members"))
        print("all nodes have found each other and have sessions", flush=True)

    def measure(self) -> dict[str, Any]:
        alpha, beta = (self.underlay.hosts[name] for name in PAIR)
        there = ACCESS_V4["beta"]
        mtu = self.nodes["alpha"].access_mtu()
        heading("Ping over the fabric")
        ping = traffic.ping(alpha, there, 5, "-i", "0.5")
        self.check(ping.complete, "ping over the fabric lost packets")
        full = traffic.ping(alpha, there, 3, *traffic.full_size_options(mtu))
        self.check(full.complete, f"packets of the whole MTU, {mtu}, do not pass")
        ping_ipv6 = ping_vlan = None
        if self.ipv6:
            ping_ipv6 = traffic.ping(alpha, ACCESS_V6["beta"], 3, "-i", "0.2")
            self.check(ping_ipv6.complete, "IPv6 over the fabric lost packets")
        if self.add_vlans():
            ping_vlan = traffic.ping(alpha, VLAN_V4["beta"], 3, "-i", "0.2")
            self.check(ping_vlan.complete, "VLAN-tagged packets over the fabric were lost")
        self.idle_queues = {name: node.show()["queues"] for name, node in self.nodes.items()}
        heading("TCP and UDP over the fabric")
        self.tap.request(sample=BULK_SAMPLE)
        tcp_there = traffic.tcp(beta, alpha, there, TCP_SECONDS)
        tcp_back = traffic.tcp(beta, alpha, there, TCP_SECONDS, "-R")
        udp = traffic.udp(beta, alpha, there, UDP_SECONDS, UDP_RATE)
        self.tap.request(sample=1)
        for stream in (tcp_there, tcp_back):
            self.check(stream.bits_per_second > 0, "TCP: nothing arrived")
        self.check(udp.packets > udp.lost, "UDP: nothing arrived")
        return {
            "ping": ping,
            "ping_full": full,
            "mtu": mtu,
            "ping_ipv6": ping_ipv6,
            "ping_vlan": ping_vlan,
            "tcp_there": tcp_there,
            "tcp_back": tcp_back,
            "udp": udp,
            "udp_rate": f"{UDP_RATE}b/s".replace("Mb", " Mb"),
        }

    def add_vlans(self) -> bool:
        """VLAN devices on both sides. False on a kernel that has none."""
        device = f"{ACCESS}.{VLAN}"
        for name in PAIR:
            ip = self.underlay.hosts[name].ip
            try:
                kind = ("type", "vlan", "id", str(VLAN))
                commands.run(ip("link", "add", "link", ACCESS, "name", device, *kind))
            except CommandError:
                return False
            echoed(ip("address", "add", f"{VLAN_V4[name]}/24", "dev", device))
            # The tag takes 4 octets of what the underlay leaves.
            mtu = self.nodes[name].access_mtu() - 4
            echoed(ip("link", "set", device, "mtu", str(mtu), "up"))
        return True

    def look_inside(self) -> tuple[NodeFigures, ...]:
        heading("What the nodes say")
        found = []
        for name, node in self.nodes.items():
            for section in ("peers", "fdb", "queues"):
                command = node.show_command(section)
                commands.show(command)
            shown = node.show()
            self.check(report.umem_adds_up(shown["umem"]), f"{name}: frames are missing")
            odd = report.unexpected_drops(shown["drops"])
            self.check(not odd, f"{name}: dropped without need: {report.drops_text(odd)}")
            lanes = len({queue["worker"] for queue in shown["queues"]})
            self.check(lanes == LANES, f"{name}: {lanes} workers on {LANES} queue")
            self.frames_sent += sum(peer["tx_frames"] for peer in shown["peers"])
            self.frames_dropped += sum(shown["drops"].values())
            queues = (self.idle_queues[name], shown["queues"])
            found.append(NodeFigures(name, shown["drops"], *queues, shown["umem"]))
        return tuple(found)

    def stop_nodes(self) -> None:
        heading("Stop")
        for name, node in self.nodes.items():
            commands.echo(["kill", "-TERM", str(node.running().pid)])
            status = node.stop()
            print(f"{name}: exit status {status}", flush=True)
            self.check(status == 0, f"{name}: exit status {status} after SIGTERM")
            left = node.leftovers()
            self.check(not left, f"{name}: left behind: {', '.join(left)}")
        status = self.nucleus.stop()
        print(f"{NUCLEUS}: exit status {status}", flush=True)
        self.check(status == 0, f"{NUCLEUS}: exit status {status} after SIGTERM")

    def read_wire(self) -> Tally:
        phases = self.tap.finish()
        clear, wire = phases["clear"], phases["fabric"]
        self.check(clear.leaks > 0, "the capture saw no plaintext without the fabric: it is blind")
        self.check(wire.leaks == 0, f"plaintext on the wire in {wire.leaks} frames")
        self.check(wire.missed == 0, f"the capture missed {wire.missed} frames")
        foreign = wire.count(Kind.FOREIGN)
        self.check(foreign == 0, f"{foreign} frames on the wire are not of the fabric")
        for violation in wire.violations:
            print(f"  {violation}", flush=True)
        for kind in (Kind.INITIATION, Kind.RESPONSE, Kind.DATA):
            self.check(wire.seen.get(kind.name, 0) > 0, f"the capture saw no {kind.value}")
        # Two counts that know nothing of each other: the bridge's ports, and the engines.
        data = wire.count(Kind.DATA)
        self.check(
            abs(data - self.frames_sent) <= self.frames_dropped + COUNT_SLACK,
            f"{data} data messages on the wire, but the nodes sent {self.frames_sent}",
        )
        return wire

    def print_logs(self) -> None:
        """The last that the engines said, for whoever has to find out what went wrong."""
        for node in self.nodes.values():
            print(f"\n-- {node.name}: {node.condition()}; its log's last lines:", flush=True)
            print("\n".join(node.log_tail()), flush=True)


def echoed(command: Sequence[str], *, timeout: float = 10.0) -> str:
    """Runs a command and shows it."""
    commands.echo(command)
    return commands.run(command, timeout=timeout)


def secrets(ipv6: bool) -> tuple[list[str], list[str]]:
    """What must not be on the wire in the clear, in hex: anywhere, and outside of messages."""
    tables = [ACCESS_V4, VLAN_V4] + ([ACCESS_V6] if ipv6 else [])
    # Source and destination are next to each other in an IP header, either way round.
    pairs = [
        packed(table[a]) + packed(table[b])
        for table in tables
        for a, b in itertools.permutations(table, 2)
    ]
    # Enough of iperf3's repeated pattern not to occur by chance, whatever its phase.
    long = [traffic.MARKER, traffic.IPERF_PATTERN, *pairs]
    short = [packed(address) for table in tables for address in table.values()]
    return [needle.hex() for needle in long], [needle.hex() for needle in short]


def packed(address: str) -> bytes:
    """An address as it is in a header."""
    return ipaddress.ip_address(address).packed


def wait_for_enter() -> None:
    """Leaves the reader alone with nodes that run."""
    heading("All of it is still running: the commands above work in another terminal")
    print("Enter goes on to the end. ", end="", flush=True)
    sys.stdin.readline()


def obstacles(programs: Programs) -> list[str]:
    """What keeps the demo from running at all."""
    found = []
    if os.geteuid() != 0:
        found.append("the demo makes network namespaces and loads XDP programs: run it as root")
    nucleus = programs.engine.with_name("omni-nucleus")
    for program in (programs.engine, programs.omni, nucleus):
        if not os.access(program, os.X_OK):
            found.append(f"{program} is not built: `make demo` builds it")
    return found


def main() -> int:
    """Runs the demo. Exit status 0 when all was as it should be."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--programs",
        type=Path,
        default=REPOSITORY / "target" / "release",
        metavar="FOLDER",
        help="where omni-engine, omni and omni-nucleus are (default: target/release)",
    )
    parser.add_argument(
        "--pause",
        action="store_true",
        help="before the end, leave all running until Enter, to try things by hand",
    )
    arguments = parser.parse_args()
    folder = arguments.programs.resolve()
    programs = Programs(folder / "omni-engine", folder / "omni")
    for obstacle in (found := obstacles(programs)):
        print(f"demo: {obstacle}", file=sys.stderr)
    if found:
        return 1
    catch_signals()
    try:
        with ExitStack() as stack:
            demo = Demo(stack, programs, arguments.pause)
            try:
                figures = demo.run()
                if figures.problems:
                    demo.print_logs()
            except LabError as error:
                print(f"\nFAILED: {error}", flush=True)
                demo.print_logs()
                return 1
            finally:
                # From here on all is undone; nothing may cut that short.
                ignore_signals()
    except Interrupted as signal_name:
        print(f"\ninterrupted by {signal_name}: all that was made is removed", flush=True)
        return 130
    print()
    print("\n".join(report.summary(figures)), flush=True)
    return 1 if figures.problems else 0


if __name__ == "__main__":
    sys.exit(main())
