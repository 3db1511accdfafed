#!/usr/bin/env python3
"""What the fabric carries from one host to the other, beside what else there is for that.

Two hosts in network namespaces, joined by a veth pair. On it, in turn: nothing (the bare veth), the
kernel's VXLAN in plaintext, omni with any of its drivers, and encrypted tunnels of others. Rounds
are interleaved: round 1 of all, then round 2 of all, so that what disturbs one disturbs all.

  wires     whole   the veth passes super-frames of 64 KB, as between containers of one machine
            cut     every packet crosses by itself, at most 1500 octets
            cutgro  as cut, and the receiver joins packets again (GRO): nearest to a network card
  measures  tcp        iperf3: one stream, four, reverse; processor time per GB of the first
            trips      round trips of 64 octets while idle, 1000 a second: percentiles
            loaded     the same beside TCP of one stream
            datagrams  64 octets: what arrives at overload, and the highest rate without loss
  omni      ACCESS+UNDERLAY[/POLL][/PRIORITY]: access port tap, xdp or auto; underlay udp, afxdp or
            auto; poll spin, adaptive or sleep; priority normal or realtime
  peers     see --list; those that are not installed are left out, and the report says so

Prints tables of medians with the least and greatest round, and the targets that could be checked.
Exit status 0; 1 when a contestant of ours, VXLAN or the bare veth failed, or with --check when a
target is missed; 130 when interrupted. Needs root, the built programs (omni-engine, omni and
omni-perf) and what scripts/install-deps.sh installs. Removes all it made, also when interrupted.

A round of one contestant on one wire takes about 25 s with the defaults, and a slow peer more. Use
an otherwise idle machine: everything shares its cores.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(REPOSITORY / "lab"))

from omni_lab import compare_peers, compare_report, compare_targets, compare_turn, figures, machine
from omni_lab.commands import CommandError
from omni_lab.compare_contestants import Bare, ContestError, Contestant, Kind, Vxlan
from omni_lab.compare_omni import Omni, Setup, parse_setup
from omni_lab.compare_pair import Wire
from omni_lab.compare_stats import Results
from omni_lab.interrupt import Interrupted, catch_signals, ignore_signals
from omni_lab.node import NodeError, Programs
from omni_lab.traffic import TrafficError

TURN_ERRORS = (CommandError, ContestError, NodeError, TrafficError)
# Whose failure is one of this comparison, not of somebody else's program.
OWN_KINDS = (Kind.BARE, Kind.PLAIN, Kind.OMNI)
QUICK = {"seconds": 1.0, "rounds": 1, "search_steps": 4, "search_seconds": 0.3}
DEFAULT_OMNI = "xdp+afxdp"


def within(least: float, most: float, kind: type) -> Callable[[str], float]:
    """A number within bounds, as argparse takes a type."""

    def parse(text: str) -> float:
        value: float = kind(text)
        if not least <= value <= most:
            raise argparse.ArgumentTypeError(f"{text} is not within {least}..={most}")
        return value

    parse.__name__ = "number"
    return parse


def words(allowed: Sequence[str]) -> Callable[[str], list[str]]:
    """A list with commas of some of the words that are allowed."""

    def parse(text: str) -> list[str]:
        found = [word.strip() for word in text.split(",") if word.strip()]
        for word in found:
            if word not in allowed:
                raise argparse.ArgumentTypeError(f"{word!r} is none of {', '.join(allowed)}")
        return found

    parse.__name__ = "list"
    return parse


def setups(text: str) -> list[Setup]:
    """Omni's drivers, as the command line has them."""
    try:
        return [parse_setup(word) for word in text.split(",") if word.strip()]
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from error


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    wires = [wire.value for wire in Wire]
    peers = list(compare_peers.names())
    add("--omni", type=setups, metavar="LIST", default=setups(DEFAULT_OMNI),
        help=f"omni's configurations, with commas (default: {DEFAULT_OMNI})")
    add("--peers", type=words([*peers, "all", "none"]), metavar="LIST", default=[],
        help="encrypted peers, with commas, or all (default: none)")
    add("--wires", type=words(wires), metavar="LIST", default=wires,
        help="wires, with commas (default: all)")
    add("--measures", type=words(compare_turn.MEASURES), metavar="LIST",
        default=list(compare_turn.MEASURES), help="measures, with commas (default: all)")
    add("--rounds", type=within(1, 1000, int), metavar="N", default=3,
        help="rounds of all (default: 3)")
    add("--seconds", type=within(1, 60, float), metavar="S", default=3.0,
        help="how long each measure takes (default: 3)")
    add("--search-seconds", type=within(0.1, 60, float), metavar="S", default=0.5,
        help="how long a rate must be without loss (default: 0.5)")
    add("--search-steps", type=within(1, 30, int), metavar="N", default=8,
        help="rates that are tried at most (default: 8)")
    add("--octets", type=within(24, 1400, int), metavar="N", default=64,
        help="octets in each datagram of `datagrams` (default: 64)")
    add("--quick", action="store_true",
        help="one short round of the bare veth, VXLAN and omni on a cut wire: about a minute")
    add("--check", action="store_true",
        help="exit status 1 when a target is missed that could be checked")
    add("--json", type=Path, metavar="FILE", help="write all rounds, ratios and targets as JSON")
    add("--install", action="store_true",
        help="first install the peers: Debian packages, and crates below target/peers")
    add("--list", action="store_true", help="list the contestants, and end")
    add("--newest-wireguard-go", type=Path, metavar="PROGRAM",
        help=f"a wireguard-go that is newer than the system's: {compare_targets.NEWEST_WIREGUARD}")
    add("--programs", type=Path, metavar="FOLDER", default=REPOSITORY / "target" / "release",
        help="where omni-engine, omni and omni-perf are (default: target/release)")
    arguments = parser.parse_args()
    if arguments.quick:
        vars(arguments).update(QUICK, wires=[Wire.CUT.value])
    if "all" in arguments.peers:
        arguments.peers = peers
    return arguments


def chosen(arguments: argparse.Namespace, programs: Programs) -> list[Contestant]:
    """Everybody that is to take part."""
    found: list[Contestant] = [Bare(), Vxlan()]
    if not arguments.quick:
        found.append(Vxlan("vxlan-gso", software_gso=True))
    found += [Omni(setup, programs) for setup in arguments.omni]
    newest = arguments.newest_wireguard_go
    wanted = [name for name in arguments.peers if name != "none"]
    found += compare_peers.make(wanted, newest.resolve() if newest else None)
    return found


class Comparison:
    """All rounds, and what came of them."""

    def __init__(self, contestants: Sequence[Contestant], arguments: argparse.Namespace) -> None:
        self.contestants = list(contestants)
        self.arguments = arguments
        self.results = Results()
        self.drops: list[dict[str, object]] = []
        # Why somebody did not take part, or not to the end.
        self.absent: dict[str, str] = {}
        self.failures: list[tuple[Contestant, str]] = []
        self.plan = compare_turn.Plan(
            arguments.seconds,
            arguments.measures,
            arguments.octets,
            arguments.search_seconds,
            arguments.search_steps,
            arguments.programs.resolve() / "omni-perf",
        )

    def run(self) -> None:
        """All turns: each round has every contestant on every wire."""
        for each in self.contestants:
            if reason := each.missing():
                self.absent[each.name] = reason
                print(f"{each.name}: left out, {reason}", flush=True)
        wires = [wire for wire in Wire if wire.value in self.arguments.wires]
        for number in range(1, self.arguments.rounds + 1):
            for wire in wires:
                for each in self.contestants:
                    # Who failed twice has shown that it does not work here.
                    failed = sum(other is each for other, _ in self.failures)
                    if each.name not in self.absent and failed < 2:
                        self.take(each, wire, number)

    def take(self, contestant: Contestant, wire: Wire, number: int) -> None:
        """One turn. What goes wrong in it is told, and the others go on."""
        where = f"{contestant.name}, wire {wire.value}, round {number}"
        try:
            turn = compare_turn.take(contestant, wire, self.plan)
        except TURN_ERRORS as error:
            self.failures.append((contestant, f"{where}: {error}"))
            print(f"{where}: FAILED: {error}", flush=True)
            return
        self.results.add(contestant.name, wire.value, number, turn.values)
        if turn.drops:
            told = {"contestant": contestant.name, "wire": wire.value, "round": number}
            self.drops.append({**told, "drops": turn.drops})
        print(f"{where}: {brief(turn.values)}", flush=True)

    def present(self) -> list[str]:
        """Who took part."""
        return [each.name for each in self.contestants if each.name not in self.absent]

    def kinds(self) -> dict[str, Kind]:
        """What each of them is."""
        return {each.name: each.kind for each in self.contestants if each.name in self.present()}


def brief(values: dict[str, float]) -> str:
    """A turn in one line, for who watches."""
    shown = {
        "tcp": "TCP {} Gb/s",
        "cpu": "{} s of CPU per GB",
        "idle_p50": "idle p50 {} us",
        "loaded_p99": "loaded p99 {} us",
        "flood": "flood {} kpps",
        "lossless": "lossless {} kpps",
        "lost_unexplained": "{} lost and not counted",
    }
    return ", ".join(
        text.format(compare_report.number(values[key]))
        for key, text in shown.items()
        if key in values
    )


def report(comparison: Comparison, told: dict[str, str], plan: str) -> tuple[list[str], bool]:
    """All that is printed at the end, and whether every target is met."""
    results, names = comparison.results, comparison.present()
    lines = ["", *compare_report.disclosure(told, plan), ""]
    lines += [f"- {each.name}: {each.about} {version(each)}" for each in comparison.contestants]
    for wire in comparison.arguments.wires:
        lines += compare_report.tables(results, names, wire)
    lines += compare_report.losses(results, names, comparison.arguments.wires)
    for name, reason in comparison.absent.items():
        lines.append(f"\nleft out: {name}: {reason}")
    lines += [f"\nFAILED: {text}" for _, text in comparison.failures]
    targets, unchecked = compare_targets.check(results, comparison.kinds())
    if targets:
        lines += ["", "Targets:", "", *figures.table(targets)]
    if unchecked:
        lines += ["", f"{len(unchecked)} targets not checked, as a side of them was not measured"]
    return lines, all(figure.met for figure in targets)


def version(contestant: Contestant) -> str:
    said = contestant.version()
    return f"({said})" if said else ""


def write_json(comparison: Comparison, told: dict[str, str], plan: str, path: Path) -> None:
    """All rounds, so that others can make of them what they like."""
    results = comparison.results
    targets, unchecked = compare_targets.check(results, comparison.kinds())
    rounds = [
        {"contestant": contestant, "wire": wire, "metric": metric, "rounds": values}
        for (contestant, wire, metric), values in results.rounds.items()
    ]
    kept = {
        "machine": told,
        "run": plan,
        "contestants": {
            each.name: {"kind": each.kind.value, "about": each.about, "version": each.version()}
            for each in comparison.contestants
        },
        "measured": rounds,
        "drops": comparison.drops,
        "left_out": comparison.absent,
        "failures": [text for _, text in comparison.failures],
        "targets": figures.kept(targets),
        "targets_not_checked": unchecked,
    }
    path.write_text(json.dumps(kept, indent=1) + "\n")


def obstacles(programs: Programs) -> list[str]:
    """What keeps the comparison from running at all."""
    found = []
    if os.geteuid() != 0:
        found.append("this makes network namespaces and loads XDP programs: run it as root")
    for program in (programs.engine, programs.omni, programs.engine.with_name("omni-perf")):
        if not os.access(program, os.X_OK):
            package = "omni-perf" if program.name == "omni-perf" else "omni-engine"
            found.append(f"{program} is not built: cargo build --release -p {package}")
    return found


def main() -> int:
    """Runs the comparison."""
    arguments = parse_arguments()
    folder = arguments.programs.resolve()
    programs = Programs(folder / "omni-engine", folder / "omni")
    contestants = chosen(arguments, programs)
    if arguments.list:
        for each in [*contestants, *compare_peers.make(compare_peers.names(), None)]:
            print(f"{each.name:<22}{each.kind.value:<20}  {each.missing() or each.about}")
        return 0
    if found := obstacles(programs):
        print("\n".join(f"fabric: {text}" for text in found), file=sys.stderr)
        return 1
    plan = (
        f"{arguments.rounds} interleaved rounds, {arguments.seconds:g} s a measure, "
        f"{arguments.octets} octets a datagram, underlay MTU 1500"
    )
    comparison = Comparison(contestants, arguments)
    catch_signals()
    try:
        if arguments.install:
            compare_peers.install(comparison.contestants)
        told = machine.describe(REPOSITORY)
        comparison.run()
    except Interrupted as signal_name:
        print(f"\ninterrupted by {signal_name}: all that was made is removed", flush=True)
        return 130
    ignore_signals()
    lines, met = report(comparison, told, plan)
    print("\n".join(lines), flush=True)
    if arguments.json:
        write_json(comparison, told, plan, arguments.json)
    own = any(contestant.kind in OWN_KINDS for contestant, _ in comparison.failures)
    return 1 if own or (arguments.check and not met) else 0


if __name__ == "__main__":
    sys.exit(main())
