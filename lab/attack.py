#!/usr/bin/env python3
"""What a node under attack still carries: floods of every kind, each against its control.

    alpha (victim)   beta   attacker   newcomer   sink
         |            |        |          |        |
         +------------+---- bridge -------+--------+

TCP goes from beta to alpha through the fabric while the attacker sends. Each round sends the same
packets in turn to the fabric's port of alpha, to a closed port of alpha, and to the sink, whose
driver drops them. Meanwhile peers connect to alpha from the newcomer's host.

Needs root, the built programs (omni-engine, omni, omni-perf) and what scripts/install-deps.sh
installs. Works in network namespaces of its own, touches nothing else and removes all it made.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import os
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path
from typing import Any

from omni_lab import attack_figures, attack_tools, commands, netns, traffic
from omni_lab.attack_figures import ATTACKS, CLOSED, CONTROLS, DROPPED, REAL, Attack, Round
from omni_lab.attack_tap import Recorded
from omni_lab.attack_tools import Attacker, Process, Tool
from omni_lab.commands import CommandError
from omni_lab.interrupt import Interrupted, catch_signals, ignore_signals
from omni_lab.netns import Host, Namespace
from omni_lab.node import ACCESS, PORT, Identity, Node, NodeError, Programs, render_config
from omni_lab.traffic import TrafficError

REPOSITORY = Path(__file__).resolve().parent.parent
FABRIC = "attack"
UNDERLAY = {
    "alpha": "192.0.2.1",
    "beta": "192.0.2.2",
    "attacker": "192.0.2.66",
    "newcomer": "192.0.2.9",
    "sink": "192.0.2.99",
}
ACCESS_V4 = {"alpha": "10.7.0.1", "beta": "10.7.0.2"}
# Bridged packets go by no hooks of iptables, where the kernel has them.
SWITCHES = "/proc/sys/net/bridge/bridge-nf-call-*"
WITHOUT_FIREWALL = f"for s in {SWITCHES}; do [ ! -e $s ] || echo 0 >$s; done"
# The attacker's port where all of a flood has one source.
ATTACKER_PORT = 4000
# The newcomer's ports: of peers whose endpoint alpha knows, and of those where it does not.
KNOWN_PORT, UNKNOWN_PORT = 20_000, 40_000
# Peers whose initiations were recorded, and how many initiations.
VICTIMS, INITIATIONS = 100, 1000
# Data messages to be replayed.
REPLAYS = 4096
# A handshake's first try and two more, each after 5.3 s at most.
PATIENCE = 11
SETTLE_SECONDS = 0.5

LabError = (CommandError, NodeError, TrafficError)


class Siege:
    """The hosts, the nodes and the floods."""

    def __init__(self, stack: ExitStack, programs: Programs, options: argparse.Namespace) -> None:
        self.stack, self.programs, self.options = stack, programs, options
        self.perf = programs.engine.with_name("omni-perf")
        folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="omni-attack-"))
        self.folder = Path(folder)
        self.nodes: dict[str, Node] = {}
        self.keys: dict[str, str] = {}
        self.hosts: dict[str, Namespace] = {}
        self.wire: Namespace
        self.attacker: Attacker

    def build(self) -> None:
        """Hosts, wire and nodes, up to a session between alpha and beta."""
        hosts = [Host(name, f"{address}/24") for name, address in UNDERLAY.items()]
        underlay = netns.build(self.stack, f"omni-atk-{os.getpid()}", hosts)
        self.hosts, self.wire = underlay.hosts, underlay.wire
        # A wire has no firewall, and what one costs would hide what is measured.
        commands.run(self.wire.inside("sh", "-c", WITHOUT_FIREWALL))
        underlay.connect()
        self.attacker = Attacker(self.hosts["attacker"], self.perf)
        # Answers to spoofed sources go to the attacker, who does not care for them.
        route = ("route", "add", attack_figures.SPOOFED)
        commands.run(self.hosts["alpha"].ip(*route, "via", UNDERLAY["attacker"]))
        commands.run(self.hosts["attacker"].ip(route[0], route[1], "blackhole", route[2]))
        self.dig_sink()
        self.start_nodes()

    def dig_sink(self) -> None:
        """A host that drops all it receives in its driver. It cannot be asked for its address."""
        command = [str(self.perf), "drop", "--interface", netns.UNDERLAY]
        self.start(self.hosts["sink"].inside(*command), ready="ready")
        link = netns.link(self.hosts["sink"], netns.UNDERLAY)
        mac = link["address"] if link is not None else ""
        neighbour = ("neighbour", "add", UNDERLAY["sink"], "lladdr", mac, "dev", netns.UNDERLAY)
        commands.run(self.hosts["attacker"].ip(*neighbour))

    def start(self, command: Sequence[str], ready: str | None = None) -> Tool:
        """Starts a program that ends with the lab at the latest."""
        tool = Tool(command, ready)
        self.stack.callback(tool.kill)
        return tool

    def start_nodes(self) -> None:
        identities = {}
        for name, access in ACCESS_V4.items():
            folder = self.stack.enter_context(tempfile.TemporaryDirectory(prefix=f"omni-{name}-"))
            node = Node(name, self.hosts[name], Path(folder), self.programs)
            self.nodes[name] = node
            self.stack.callback(node.kill)
            self.keys[name] = node.make_keys()
            identities[name] = Identity(name, UNDERLAY[name], (f"{access}/24",), self.keys[name])
        for name, node in self.nodes.items():
            peers = [identities[other] for other in ACCESS_V4 if other != name]
            text = render_config(FABRIC, identities[name], peers, node.socket)
            if name == "alpha":
                text = attack_tools.with_peers(text, self.more_peers())
            node.config.write_text(text)
            node.start()
            node.wait_ready()
            if self.options.nice:
                attack_tools.favour(node.running().pid, self.options.nice)
        for _ in range(100):
            if traffic.ping(self.hosts["beta"], ACCESS_V4["alpha"], 1).complete:
                return
        raise NodeError("alpha and beta have no session")

    def more_peers(self) -> list[tuple[str, str, str | None]]:
        """The peers that alpha has beside beta. Their private keys go to files."""
        each = self.options.peers
        found: list[tuple[str, str, str | None]] = []
        groups = {"known": each, "unknown": each, "victim": VICTIMS, "hostile": 1}
        for group, count in groups.items():
            private = [self.omni("keygen").strip() for _ in range(count)]
            self.key_file(group).write_text("\n".join(private) + "\n")
            for index, key in enumerate(private):
                endpoint = f"{UNDERLAY['newcomer']}:{KNOWN_PORT + index}"
                public = self.omni("pubkey", stdin=key).strip()
                found.append((f"{group}{index}", public, endpoint if group == "known" else None))
        return found

    def omni(self, *arguments: str, stdin: str | None = None) -> str:
        return commands.run([str(self.programs.omni), *arguments], stdin=stdin)

    def key_file(self, group: str) -> Path:
        return self.folder / f"{group}.keys"

    def towards_alpha(self) -> list[str]:
        """Options of the programs that speak to alpha as peers."""
        target = ["--target", f"{UNDERLAY['alpha']}:{PORT}", "--target-key", self.keys["alpha"]]
        return [*target, "--fabric", FABRIC]

    def record_initiations(self) -> Path:
        """Initiations that alpha has accepted once."""
        out = self.folder / "initiations"
        command = [str(self.perf), "record", "--keys", str(self.key_file("victim"))]
        command += [*self.towards_alpha(), "--count", str(INITIATIONS), "--out", str(out)]
        commands.run(self.hosts["newcomer"].inside(*command), timeout=60)
        return out

    def record_data(self, out: Path) -> Recorded:
        """Data messages from beta to alpha, in the session that they use now."""
        port = netns.port_of("beta")
        tool = attack_tools.tap(self.wire, port, PORT, REPLAYS, out)
        self.stack.callback(tool.kill)
        self.tcp(1)
        return attack_tools.recorded(tool)

    def ingredients(self, attack: Attack) -> list[str]:
        """What `omni-perf flood` needs to know for this kind, as it is now."""
        if attack.is_peer:
            # What the control sends: as many packets, and nobody's.
            attack = ATTACKS["unknown-session"]
            rate = self.options.handshake_rate
        else:
            rate = self.options.data_rate if attack.is_data else self.options.handshake_rate
        options = ["--kind", attack.message]
        options += ["--rate", str(rate), "--target-key", self.keys["alpha"]]
        options += ["--sources", self.sources(attack)]
        if attack.is_data:
            out = self.folder / "data"
            seen = self.record_data(out)
            options += ["--session-id", str(seen.session_id), "--lane", str(seen.lane)]
            options += ["--length", str(self.options.length), "--messages", str(out)]
        elif attack.message == "recorded":
            options += ["--messages", str(self.record_initiations())]
        return options

    def sources(self, attack: Attack) -> str:
        """Where a flood claims to come from."""
        if attack.poses_as_peer:
            return f"{UNDERLAY['beta']}:{PORT}"
        one = f"{UNDERLAY['attacker']}:{ATTACKER_PORT}"
        return attack_figures.SPOOFED if attack.is_spoofed else one

    def target(self, name: str) -> str:
        """Where a flood goes."""
        host = UNDERLAY["sink" if name == DROPPED else "alpha"]
        return f"{host}:{attack_figures.CLOSED_PORT if name == CLOSED else PORT}"

    def tcp(self, seconds: int) -> float:
        """One stream from beta to alpha through the fabric, in bits a second."""
        with contextlib.redirect_stdout(io.StringIO()):
            alpha, beta = (self.hosts[name] for name in ("alpha", "beta"))
            return traffic.tcp(alpha, beta, ACCESS_V4["alpha"], seconds).bits_per_second

    def connect(self, group: str, first_port: int) -> Tool:
        """Peers that connect to alpha, spread over the flood."""
        seconds = self.options.seconds
        command = [str(self.perf), "connect", "--keys", str(self.key_file(group))]
        command += [*self.towards_alpha(), "--from", UNDERLAY["newcomer"]]
        command += ["--first-port", str(first_port), "--patience", str(PATIENCE)]
        command += ["--spread", str(max(seconds - PATIENCE, 1))]
        return self.start(self.hosts["newcomer"].inside(*command))

    def flood(self, attack: Attack, name: str) -> Round:
        """One flood, and all that is measured while it lasts."""
        options = self.ingredients(attack)
        alpha, beta = self.nodes["alpha"], self.nodes["beta"]
        engine = Process(alpha.running().pid)
        seconds, peers = self.options.seconds, self.options.peers > 0
        lasts = (max(seconds, PATIENCE + 2) if peers else seconds) + 3
        # What is on its way from before arrives.
        time.sleep(SETTLE_SECONDS)
        engine.forget_peak()
        # Sent is read first here and last below, so that nothing verified was not sent.
        believed = self.whereabouts()
        there_before, before = beta.show(), alpha.show()
        rss_before, _ = engine.rss_bytes()
        cpu_before, began = engine.cpu_seconds(), time.monotonic()
        if attack.is_peer and name == REAL:
            flood = self.hostile_peer(attack, lasts)
        else:
            flood = self.attacker.flood(lasts, "--target", self.target(name), *options)
        self.stack.callback(flood.kill)
        time.sleep(SETTLE_SECONDS)
        groups = (("known", KNOWN_PORT), ("unknown", UNKNOWN_PORT))
        connecting = [self.connect(*group) for group in groups] if peers else []
        goodput = self.tcp(seconds)
        cpu_after, took = engine.cpu_seconds(), time.monotonic() - began
        connected = [
            attack_figures.Connected.parse(tool.finish(2 * PATIENCE + seconds))
            for tool in connecting
        ] or [attack_figures.Connected()] * 2
        sent = flood.finish(lasts + 10)
        time.sleep(SETTLE_SECONDS)
        _, rss_most = engine.rss_bytes()
        after = alpha.show()
        there_after = beta.show()
        if (now := self.whereabouts()) != believed:
            raise NodeError(f"alpha was made to believe {now}, not {believed}")
        cores = {name: (cpu_after[name] - cpu_before[name]) / took for name in cpu_after}
        if "cpu_seconds" in sent:
            cores["attacker"] = sent["cpu_seconds"] / lasts
        return Round(
            target=name,
            bits_per_second=goodput,
            packets_per_second=sent["sent"] / lasts,
            rss_before_bytes=rss_before,
            rss_most_bytes=rss_most,
            delivered=verified(before, after) - sent_by(there_before, there_after),
            drops=difference(before["drops"], after["drops"]),
            cores={name: round(share, 3) for name, share in cores.items()},
            known=connected[0],
            unknown=connected[1],
        )

    def hostile_peer(self, attack: Attack, seconds: float) -> Tool:
        """A peer of alpha's that sends what no engine would."""
        victim = netns.link(self.hosts["beta"], ACCESS)
        options = ["--keys", str(self.key_file("hostile")), *self.towards_alpha()]
        options += ["--from", f"{UNDERLAY['attacker']}:{ATTACKER_PORT}", "--kind", attack.message]
        options += ["--rate", str(self.options.handshake_rate), "--seconds", str(round(seconds))]
        mac = victim["address"] if victim else ""
        options += ["--victim", mac, "--victim-ip", ACCESS_V4["beta"]]
        return self.attacker.start("hostile", *options, ready="ready")

    def whereabouts(self) -> dict[str, str]:
        """Behind whom alpha believes what is beta's."""
        link = netns.link(self.hosts["beta"], ACCESS)
        mac = link["address"] if link is not None else ""
        show = self.nodes["alpha"].show()
        owners = {entry["mac"]: entry["owner"] for entry in show["fdb"]}
        bound = {entry["ip"]: entry["mac"] for entry in show["neighbors"]}
        return {"mac": owners.get(mac, ""), "ip": bound.get(ACCESS_V4["beta"], mac)}

    def run(self) -> dict[str, list[dict[str, Round]]]:
        """All kinds, all rounds."""
        measured: dict[str, list[dict[str, Round]]] = {}
        targets = [REAL, *self.options.controls]
        for kind in self.options.kinds:
            measured[kind] = []
            for number in range(self.options.rounds):
                turn: dict[str, Round] = {}
                for name in attack_figures.order(targets, number):
                    turn[name] = self.flood(ATTACKS[kind], name)
                    rate = turn[name].bits_per_second / 1e9
                    sent = turn[name].packets_per_second / 1e3
                    print(f"{kind:<22}{name:<9}{sent:>4.0f} kpps  {rate:.2f} Gb/s", flush=True)
                measured[kind].append(turn)
        return measured


def verified(before: dict[str, Any], after: dict[str, Any]) -> int:
    """Frames of beta that alpha verified."""
    return of_peer("beta", "rx_frames", after) - of_peer("beta", "rx_frames", before)


def sent_by(before: dict[str, Any], after: dict[str, Any]) -> int:
    """Frames that beta sent to alpha."""
    return of_peer("alpha", "tx_frames", after) - of_peer("alpha", "tx_frames", before)


def of_peer(name: str, key: str, show: dict[str, Any]) -> int:
    return next(int(peer[key]) for peer in show["peers"] if peer["name"] == name)


def difference(before: dict[str, int], after: dict[str, int]) -> dict[str, int]:
    """What was counted in between; only reasons that grew."""
    grown = {reason: count - before.get(reason, 0) for reason, count in after.items()}
    return {reason: count for reason, count in grown.items() if count}


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    default = REPOSITORY / "target" / "release"
    option = parser.add_argument
    option("--programs", type=Path, default=default, help="where the programs are")
    option("--seconds", type=int, default=30, help="of TCP in each flood (30)")
    option("--rounds", type=int, default=3, help="rounds of each kind (3)")
    option("--kinds", nargs="+", choices=ATTACKS, default=list(ATTACKS), help="kinds of floods")
    option("--controls", nargs="*", choices=CONTROLS, default=list(CONTROLS), help="controls")
    option("--peers", type=int, default=50, help="that connect, of either sort (50)")
    option("--handshake-rate", type=int, default=attack_figures.HANDSHAKE_RATE, help="a second")
    option("--data-rate", type=int, default=attack_figures.DATA_RATE, help="a second")
    option("--length", type=int, default=96, help="octets of a forged data message (96)")
    option("--nice", type=int, default=0, help="niceness of nodes and traffic, where others work")
    option("--json", type=Path, metavar="FILE", help="write all that was measured")
    return parser.parse_args()


def main() -> int:
    """Runs the floods. Exit status 0 when all figures are met."""
    options = parse_arguments()
    folder = options.programs.resolve()
    programs = Programs(folder / "omni-engine", folder / "omni")
    if os.geteuid() != 0 or not os.access(folder / "omni-perf", os.X_OK):
        print("attack: needs root, and omni-engine, omni and omni-perf built", file=sys.stderr)
        return 1
    if options.nice:
        attack_tools.favour(os.getpid(), options.nice)
    catch_signals()
    try:
        with ExitStack() as stack:
            siege = Siege(stack, programs, options)
            try:
                siege.build()
                measured = siege.run()
            except LabError as error:
                print(f"\nFAILED: {error}", flush=True)
                for node in siege.nodes.values():
                    print(f"-- {node.name}: {node.condition()}", *node.log_tail(), sep="\n")
                return 1
            finally:
                ignore_signals()
    except Interrupted as signal_name:
        print(f"\ninterrupted by {signal_name}: all that was made is removed", flush=True)
        return 130
    if options.json is not None:
        rounds = {
            kind: [{name: asdict(turn[name]) for name in turn} for turn in turns]
            for kind, turns in measured.items()
        }
        options.json.write_text(json.dumps(rounds, indent=1) + "\n")
    print()
    print("\n".join(attack_figures.table(measured)), flush=True)
    missed = any(attack_figures.misses(ATTACKS[kind], turns) for kind, turns in measured.items())
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
