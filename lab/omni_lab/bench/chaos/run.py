"""A run: rounds of faults one after the other, with a look at all programs all the while."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ...report import umem_adds_up
from .. import drops, members, processes, runs
from ..state import Space, State
from . import accounts, convergence
from .accounts import Account
from .checker import Checker
from .convergence import Heal
from .faults import HEAL_ERRORS, Active, Faults
from .pairs import Pair
from .schedule import Fault, Round
from .shield import shielded

TICK_SECONDS = 0.25
# What has not converged after so long, has not.
GIVE_UP_SECONDS = 30.0
# A round begins no sooner than that after all had converged.
PAUSE_SECONDS = 1.0
UNDER_WAY_SECONDS = 0.1
# While all is quiet: for how long frames are counted, and how long none are under way before.
QUIET_SECONDS = 5.0
STILL_SECONDS = 1.0
# Evidence is kept of so many pairs that did not converge.
EVIDENCE_PAIRS = 4
LOG_TAIL_LINES = 40
# A program that ends by itself is started again, not sooner than that after the last time.
RESTART_SECONDS = 2.0


def timeline(one: Round) -> list[tuple[float, bool, Fault]]:
    """Begins and ends of a round in order: when, whether it is an end, of what."""
    begins = [(fault.at_s, False, fault) for fault in one.faults]
    ends = [(fault.ends_s, True, fault) for fault in one.faults]
    # What begins and ends at once has to begin first.
    return sorted([*begins, *ends], key=lambda step: step[:2])


@dataclass
class Findings:
    """What happened that must not."""

    # Programs that ended though nobody ended them: who, when, last words.
    died: list[dict[str, Any]] = field(default_factory=list)
    # Faults that could not be made, or not be healed.
    failed: list[str] = field(default_factory=list)
    # Nodes without an answer in the end, or whose packet memory does not add up.
    silent: list[str] = field(default_factory=list)
    wrong_memory: list[str] = field(default_factory=list)


class Run:
    """All rounds. The caller heals what is active when it breaks off."""

    def __init__(self, lab: State, checker: Checker, faults: Faults, active: Active) -> None:
        self.lab, self.checker, self.faults = lab, checker, faults
        self.active = active
        self.findings = Findings()
        self.heals: list[Heal] = []
        self.events: list[dict[str, Any]] = []
        # Times in which nothing was broken, and all had converged.
        self.rests: list[tuple[float, float]] = []
        self.began = time.monotonic()
        by_ends = {(s.source, s.destination): s for s in checker.streams}
        self.streams = {
            pair: (by_ends[one, other], by_ends[other, one])
            for pair in checker.pairs
            for one, other in [(checker.numbers[pair[0]], checker.numbers[pair[1]])]
        }
        self.quiet: Account | None = None
        # By how much the checker was late, at worst.
        self.latest_seconds = 0.0
        # By the name of a host: before that moment its program is not started again.
        self.resting: dict[str, float] = {}

    def now(self) -> float:
        """Seconds since the begin."""
        return time.monotonic() - self.began

    def play(self, rounds: Sequence[Round], seconds: float) -> int:
        """Plays rounds in turn, none after its time. Returns how many were played."""
        self.converge(Round(0, 0.0, (Fault("start", 0.0, 0.0, ()),)))
        for played, one in enumerate(rounds):
            rested_from = time.monotonic() + PAUSE_SECONDS / 2
            self.pass_time(max(self.began + one.begins_s, time.monotonic() + PAUSE_SECONDS))
            # What was sent just before a fault may be under way when it begins.
            self.rests.append((rested_from, time.monotonic() - UNDER_WAY_SECONDS))
            if self.now() > seconds:
                return played
            self.suffer(one)
            self.converge(one)
        return len(rounds)

    def suffer(self, one: Round) -> None:
        """Breaks and heals what a round has."""
        began = time.monotonic()
        for at, is_end, fault in timeline(one):
            self.pass_time(began + at)
            try:
                with shielded():
                    if is_end:
                        self.active.end(fault)
                    else:
                        self.note(one, fault)
                        self.active.begin(fault)
            except HEAL_ERRORS as error:
                self.findings.failed.append(f"round {one.number}, {fault.line()}: {error}")

    def note(self, one: Round, fault: Fault) -> None:
        """Adds a fault to the run's events."""
        self.events.append(
            {
                "at_s": round(self.now(), 3),
                "what": f"chaos {fault.kind}",
                "node": ", ".join(fault.targets),
                "detail": f"round {one.number}: {fault.line()}",
                "round": one.number,
            }
        )

    def converge(self, one: Round) -> None:
        """Waits until all pairs reach each other after a round, and books how long that took."""
        healed = time.monotonic()
        self.checker.look_from(healed)
        while not convergence.is_over(self.checker.streams):
            if time.monotonic() > healed + GIVE_UP_SECONDS:
                break
            self.pass_time(time.monotonic() + TICK_SECONDS / 5)
        heal = Heal(
            one.number,
            tuple(one.kinds),
            healed - self.began,
            convergence.pair_times(self.streams, healed),
        )
        self.heals.append(heal)
        for event in self.events:
            if event["round"] == one.number and heal.recovered_s is not None:
                event["recovered_s"] = convergence.rounded(heal.recovered_s)
        self.tell(one, heal)
        self.keep_evidence(heal)

    def tell(self, one: Round, heal: Heal) -> None:
        """A line for each round."""
        said = "; ".join(fault.line() for fault in one.faults)
        if heal.recovered_s is None:
            some = ", ".join(" and ".join(pair) for pair in heal.silent[:EVIDENCE_PAIRS])
            came = f"{len(heal.silent)} pairs NOT after {GIVE_UP_SECONDS:g} s: {some}"
        else:
            came = f"all reach all after {heal.recovered_s:.2f} s"
        print(f"{self.now():6.1f} s  round {one.number}: {said}: {came}", flush=True)

    def keep_evidence(self, heal: Heal) -> None:
        """Keeps what both ends of pairs that did not converge show."""
        for name in sorted({name for pair in heal.silent[:EVIDENCE_PAIRS] for name in pair}):
            space = self.lab.space(name)
            if space.role == "node":
                shown = json.dumps(members.show(space), indent=1) + "\n"
                runs.keep_raw(Path(self.lab.run), f"chaos-{heal.number}-{name}-show.json", shown)

    def pass_time(self, until: float) -> None:
        """Waits, and looks after programs meanwhile."""
        while True:
            self.tend()
            left = until - time.monotonic()
            if left <= 0:
                return
            time.sleep(min(left, TICK_SECONDS))

    def tend(self) -> None:
        """Looks after what may go wrong by itself."""
        self.checker.raise_failure()
        with shielded():
            for space in self.lab.spaces:
                if space.process is not None and not processes.is_alive(space.process):
                    if time.monotonic() >= self.resting.get(space.name, 0.0):
                        self.book_death(space)
            for machine in self.faults.machines.values():
                machine.tend()

    def book_death(self, space: Space) -> None:
        """A program ended that nobody ended: that is noted, and it is started again."""
        words = space.log.read_text(errors="replace").splitlines()[-LOG_TAIL_LINES:]
        broken = [fault.line() for fault in self.active.faults]
        death = {"node": space.name, "at_s": round(self.now(), 3), "log": words, "during": broken}
        self.findings.died.append(death)
        print(f"{self.now():6.1f} s  {space.name} DIED: {' | '.join(words[-3:])}", flush=True)
        self.resting[space.name] = time.monotonic() + RESTART_SECONDS
        try:
            self.faults.start_program(space)
        except HEAL_ERRORS as error:
            self.findings.failed.append(f"{space.name} is not started again: {error}")

    def settle_accounts(self) -> None:
        """In the end, while nothing is broken: what is sent has to arrive, and all memory to be
        somewhere.
        """
        self.latest_seconds = self.checker.latest_seconds
        self.checker.paused.set()
        time.sleep(STILL_SECONDS)
        before = drops.looks(self.lab)
        self.checker.paused.clear()
        self.pass_time(time.monotonic() + QUIET_SECONDS)
        self.checker.paused.set()
        time.sleep(STILL_SECONDS)
        looks = drops.looks(self.lab)
        after = looks[1]
        self.quiet = accounts.settle(before, looks)
        self.findings.silent = [node.name for node in self.lab.nodes if node.name not in after]
        self.findings.wrong_memory = [
            f"{name}: {shown['umem']}"
            for name, shown in after.items()
            if not umem_adds_up(shown["umem"])
        ]
        for space in self.lab.spaces:
            if space.process is not None:
                self.faults.keep_log(space)

    def silent_pairs(self) -> list[Pair]:
        """Pairs that did not converge, each once."""
        return sorted({pair for heal in self.heals for pair in heal.silent})
