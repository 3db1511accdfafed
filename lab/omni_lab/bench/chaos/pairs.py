"""Which hosts exchange datagrams. Pure."""

from __future__ import annotations

import itertools
import random
from collections import Counter
from collections.abc import Sequence

# Up to so many hosts, all talk to all.
ALL_MAX = 12
# Beyond, each talks to so many at least.
PARTNERS_MIN = 4
TRANSFERS_MAX = 6

Pair = tuple[str, str]


def choose(names: Sequence[str], seed: int) -> list[Pair]:
    """Pairs of hosts, each once: all, or two rings by lot, which leave nobody apart, and more where
    both rings have the same pair.
    """
    if len(names) <= ALL_MAX:
        return list(itertools.combinations(names, 2))
    chance = random.Random(seed)
    found: set[Pair] = set()
    for _ in range(PARTNERS_MIN // 2):
        ring = chance.sample(list(names), len(names))
        for one, other in zip(ring, [*ring[1:], ring[0]]):
            found.add(in_order(names, one, other))
    for name in names:
        found |= more(chance, names, name, found)
    return sorted(found, key=lambda pair: (names.index(pair[0]), names.index(pair[1])))


def in_order(names: Sequence[str], one: str, other: str) -> Pair:
    """A pair as it is named."""
    return (one, other) if names.index(one) < names.index(other) else (other, one)


def more(chance: random.Random, names: Sequence[str], name: str, found: set[Pair]) -> set[Pair]:
    """What is missing until a host has enough partners."""
    partners = {one if other == name else other for one, other in found if name in (one, other)}
    missing = PARTNERS_MIN - len(partners)
    if missing <= 0:
        return set()
    free = [other for other in names if other != name and other not in partners]
    return {in_order(names, name, other) for other in chance.sample(free, missing)}


def degrees(pairs: Sequence[Pair]) -> Counter[str]:
    """How many partners each host has."""
    return Counter(name for pair in pairs for name in pair)


def homes(nodes: Sequence[str]) -> list[str]:
    """The nodes behind which machines that move may be: every second one. The others are whom they
    talk to, as a host never reaches a machine on its own port.
    """
    return list(nodes[::2]) if len(nodes) > 2 else []


def of_machine(nodes: Sequence[str], machine: str, seed: int) -> list[Pair]:
    """With whom a machine that moves talks."""
    partners = list(nodes[1::2])
    chance = random.Random(f"{seed} {machine}")
    some = chance.sample(partners, min(PARTNERS_MIN, len(partners)))
    return [(name, machine) for name in sorted(some, key=nodes.index)]


def carried(pairs: Sequence[Pair], seed: int) -> list[Pair]:
    """Between whom TCP transfers go."""
    return random.Random(seed).sample(list(pairs), min(TRANSFERS_MAX, len(pairs)))
