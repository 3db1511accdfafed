"""All rounds of a comparison, and what is told of them."""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping, Sequence
from pathlib import Path

from . import compare_peers, compare_report, compare_targets, compare_turn, figures
from .commands import CommandError
from .compare_contestants import Bare, ContestError, Contestant, Kind, Vxlan
from .compare_omni import Omni
from .compare_pair import Wire
from .compare_stats import Results
from .node import NodeError, Programs
from .traffic import TrafficError

TURN_ERRORS = (CommandError, ContestError, NodeError, TrafficError)
# Whose failure is one of this comparison, not of somebody else's program.
OWN_KINDS = (Kind.BARE, Kind.PLAIN, Kind.OMNI)
# Who failed so often has shown that it does not work here.
FAILURES_MAX = 2


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
                    failed = sum(other is each for other, _ in self.failures)
                    if each.name not in self.absent and failed < FAILURES_MAX:
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

    def own_failed(self) -> bool:
        """Whether somebody failed who must not."""
        return any(contestant.kind in OWN_KINDS for contestant, _ in self.failures)

    def kinds(self) -> dict[str, Kind]:
        """What each of them is."""
        return {each.name: each.kind for each in self.contestants if each.name in self.present()}


def brief(values: Mapping[str, float]) -> str:
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


def report(comparison: Comparison, told: Mapping[str, str], plan: str) -> tuple[list[str], bool]:
    """All that is printed at the end, and whether every target is met."""
    results, names = comparison.results, comparison.present()
    lines = ["", *compare_report.disclosure(told, plan), ""]
    lines += [f"- {each.name}: {each.about} {version(each)}" for each in comparison.contestants]
    for wire in comparison.arguments.wires:
        lines += compare_report.tables(results, names, wire)
        lines += compare_report.ratios(results, names, wire, compare_targets.VXLAN)
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
    """A contestant's version in brackets."""
    said = contestant.version()
    return f"({said})" if said else ""


def write_json(comparison: Comparison, told: Mapping[str, str], plan: str, path: Path) -> None:
    """All rounds, so that others can make of them what they like."""
    results = comparison.results
    targets, unchecked = compare_targets.check(results, comparison.kinds())
    rounds = [
        {"contestant": contestant, "wire": wire, "metric": metric, "rounds": values}
        for (contestant, wire, metric), values in results.rounds.items()
    ]
    kept = {
        "machine": dict(told),
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
