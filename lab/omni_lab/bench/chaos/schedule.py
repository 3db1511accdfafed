"""What is broken when, by a seed alone. Pure: nothing is broken in here.

Faults come in rounds. Those of a round overlap on purpose; all of them are healed before the next
round begins, so that there is a moment from which on all hosts have to reach each other again.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

# The shortest and the longest of each kind, in seconds. A move has no end: it is one.
LENGTHS = {
    "kill": (0.2, 4.0),
    "stop": (0.2, 4.0),
    "stall": (0.2, 3.0),
    "nucleus": (1.0, 10.0),
    "leader": (1.0, 6.0),
    "isolate": (1.0, 6.0),
    "partition": (1.0, 8.0),
    "flap": (0.05, 2.0),
    "mtu": (1.0, 8.0),
    "impair": (1.0, 6.0),
    "move": (0.0, 0.0),
    "clock": (1.0, 5.0),
}
# How often a kind is drawn, against the others.
WEIGHTS = {
    "kill": 3,
    "stop": 2,
    "stall": 3,
    "nucleus": 1,
    "leader": 1,
    "isolate": 2,
    "partition": 2,
    "flap": 3,
    "mtu": 2,
    "impair": 2,
    "move": 3,
    "clock": 1,
}
ABOUT = {
    "kill": "engines are killed (SIGKILL) and started again",
    "stop": "engines are asked to end (SIGTERM) and started again",
    "stall": "engines stand still (SIGSTOP)",
    "nucleus": "a Nucleus is killed and started again",
    "leader": "the leader of etcd is killed and started again",
    "isolate": "links of some hosts are down",
    "partition": "hosts of one half get nothing from those of the other",
    "flap": "a link is down for a moment",
    "mtu": "a link carries less for a while",
    "impair": "a link loses, doubles and reorders",
    "move": "a machine goes from one node to another",
    "clock": "the machine's wall clock jumps",
}
KINDS = tuple(LENGTHS)
# A partition that ends sessions, once in so many: peers are given up after some 15 s.
LONG_ONE_IN = 5
LONG_SECONDS = (20.0, 30.0)
# How many faults a round has, and how often, against each other.
FAULTS_A_ROUND = {1: 3, 2: 3, 3: 2, 4: 2}
# Faults of a round begin within this time of its first one.
OVERLAP_SECONDS = 3.0
# Between the last heal of a round and the next one's first fault: to converge, and to rest.
REST_SECONDS = 5.0
# A machine moves so often within some time, and no more: fabrics take five moves in 180 s for a
# loop, and late rounds are closer together than the schedule has them.
MOVES_MAX = 3
MOVES_SECONDS = 240.0
# Of the hosts: no more are hit by one fault of a kind that may hit several.
SHARE_MAX = 10
JUMP_MAX_SECONDS = 3600.0
DIGITS = 3


@dataclass(frozen=True)
class Ground:
    """What there is to break."""

    nodes: tuple[str, ...]
    nuclei: tuple[str, ...] = ("nucleus",)
    members: tuple[str, ...] = ()
    # Machines that move, and nodes behind which they may be.
    machines: tuple[str, ...] = ()
    homes: tuple[str, ...] = ()
    # Forwarders that impair links, by what they are called.
    links: tuple[str, ...] = ()
    # Whether links carry so much that less can be tried.
    is_wide: bool = True

    @property
    def hosts(self) -> tuple[str, ...]:
        """All with a link of their own."""
        return (*self.nodes, *self.nuclei, *self.members)


@dataclass(frozen=True)
class Fault:
    """One thing that goes wrong. Times are in seconds from the begin of its round."""

    kind: str
    at_s: float
    lasts_s: float
    targets: tuple[str, ...]
    # By how many seconds the clock jumps; shares of what an impaired link loses, doubles, reorders.
    amounts: tuple[float, ...] = ()

    @property
    def ends_s(self) -> float:
        """When it is healed."""
        return self.at_s + self.lasts_s

    def line(self) -> str:
        """The fault as it is printed."""
        some = ", ".join(self.targets[:6])
        if len(self.targets) > 6:
            some += f" and {len(self.targets) - 6} more"
        told = [f"for {self.lasts_s:g} s"] if self.lasts_s else []
        told += [", ".join(f"{each:g}" for each in self.amounts)] if self.amounts else []
        return f"{self.kind} {some} {' '.join(told)}".rstrip()


@dataclass(frozen=True)
class Round:
    """Faults, and when the first of them may begin: seconds from the begin of the run."""

    number: int
    begins_s: float
    faults: tuple[Fault, ...]

    @property
    def lasts_s(self) -> float:
        """Until all is healed."""
        return max((each.ends_s for each in self.faults), default=0.0)

    @property
    def kinds(self) -> list[str]:
        """What kinds of faults it has, each once."""
        return sorted({each.kind for each in self.faults})

    def kept(self) -> dict[str, Any]:
        """The round as JSON keeps it."""
        return asdict(self)


def possible(kinds: Sequence[str], ground: Ground) -> list[str]:
    """Those kinds that there is something to break for."""
    without = {
        "impair": not ground.links,
        "leader": not ground.members,
        "move": not ground.machines or not ground.homes,
        "mtu": not ground.is_wide,
    }
    return [kind for kind in kinds if not without.get(kind, False)]


def make(seed: int, seconds: float, kinds: Sequence[str], ground: Ground) -> list[Round]:
    """All rounds of a run. The same arguments give the same rounds."""
    chance = random.Random(seed)
    moved: dict[str, list[float]] = {name: [] for name in ground.machines}
    found: list[Round] = []
    begins = 0.0
    while True:
        broken = faults(chance, kinds, ground, rested(moved, begins))
        one = Round(len(found) + 1, round(begins, DIGITS), broken)
        begins += one.lasts_s + REST_SECONDS
        if begins > seconds:
            return found
        for fault in broken:
            if fault.kind == "move":
                moved[fault.targets[0]].append(one.begins_s)
        # Where all machines have to rest, a while may pass without any fault.
        if broken:
            found.append(one)


def rested(moved: Mapping[str, Sequence[float]], now: float) -> list[str]:
    """Machines that may move, of when they did."""
    return [
        name
        for name, moments in moved.items()
        if sum(now - moment < MOVES_SECONDS for moment in moments) < MOVES_MAX
    ]


def faults(
    chance: random.Random, kinds: Sequence[str], ground: Ground, movable: Sequence[str]
) -> tuple[Fault, ...]:
    """The faults of one round, in the order of their begins. No host and no link is hit by two that
    would heal each other.
    """
    count = chance.choices(list(FAULTS_A_ROUND), list(FAULTS_A_ROUND.values()))[0]
    taken: dict[str, set[str]] = {}
    found: list[Fault] = []
    for _ in range(count):
        kind = chance.choices(list(kinds), [WEIGHTS[each] for each in kinds])[0]
        used = taken.setdefault(domain(kind), set())
        targets = choose(chance, kind, ground, used, movable)
        if not targets:
            continue
        # Where a machine goes, others may go too.
        used.update(targets[:1] if kind == "move" else targets)
        at = round(chance.uniform(0, OVERLAP_SECONDS), DIGITS) if found else 0.0
        length = round(chance.uniform(*lengths(chance, kind)), DIGITS)
        found.append(Fault(kind, at, length, targets, amounts(chance, kind)))
    return tuple(sorted(found, key=lambda fault: (fault.at_s, fault.kind)))


def domain(kind: str) -> str:
    """Faults of one domain are healed by the same means."""
    if kind in ("kill", "stop", "stall"):
        return "engine"
    return "port" if kind in ("isolate", "flap") else kind


def lengths(chance: random.Random, kind: str) -> tuple[float, float]:
    """Between what its length is drawn."""
    if kind == "partition" and chance.randrange(LONG_ONE_IN) == 0:
        return LONG_SECONDS
    return LENGTHS[kind]


def choose(
    chance: random.Random,
    kind: str,
    ground: Ground,
    used: set[str],
    movable: Sequence[str],
) -> tuple[str, ...]:
    """Whom a fault hits; nobody when all are taken."""
    if kind == "partition":
        return () if used else half(chance, ground)
    if kind in ("clock", "leader") and used:
        return ()
    if kind == "clock":
        return ("machine",)
    if kind == "leader":
        # Who leads is seen when it is time.
        return ("leader",)
    candidates = {
        "nucleus": ground.nuclei,
        "isolate": ground.hosts,
        "flap": ground.hosts,
        "mtu": ground.hosts,
        "impair": ground.links,
        "move": movable,
    }.get(kind, ground.nodes)
    free = [name for name in candidates if name not in used]
    if kind == "move":
        return (chance.choice(free), chance.choice(ground.homes)) if free else ()
    most = max(len(candidates) // SHARE_MAX, 1) if kind in ("kill", "isolate", "stall") else 1
    return tuple(sorted(chance.sample(free, min(chance.randint(1, most), len(free)))))


def half(chance: random.Random, ground: Ground) -> tuple[str, ...]:
    """The smaller part of a partition: a quarter of all hosts up to half of them."""
    count = len(ground.hosts)
    size = chance.randint(max(count // 4, 1), max(count // 2, 1))
    return tuple(sorted(chance.sample(ground.hosts, size)))


def amounts(chance: random.Random, kind: str) -> tuple[float, ...]:
    """How bad it is, where there is more than one way."""
    if kind == "clock":
        jump = chance.uniform(1, JUMP_MAX_SECONDS)
        return (round(jump if chance.random() < 0.5 else -jump, DIGITS),)
    if kind == "impair":
        return tuple(round(chance.uniform(0.02, 0.3), DIGITS) for _ in range(3))
    return ()


def lines(rounds: Sequence[Round]) -> list[str]:
    """A schedule as it is printed."""
    found = []
    for one in rounds:
        found.append(f"round {one.number}, from {one.begins_s:g} s on, for {one.lasts_s:g} s")
        found += [f"  {fault.at_s:6.3f} s  {fault.line()}" for fault in one.faults]
    return found
