"""How long hosts take to reach each other again after a heal, and what was lost when. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ...figures import percentile
from .datagrams import Interval, Stream
from .pairs import Pair

PERCENTS = (50, 99, 100)


@dataclass(frozen=True)
class Heal:
    """The end of a round, and what came of it."""

    number: int
    kinds: tuple[str, ...]
    # Since the begin of the run.
    at_s: float
    # Seconds until each pair had heard of each other both ways; None for those that never did.
    pairs: Mapping[Pair, float | None] = field(default_factory=dict)

    @property
    def silent(self) -> list[Pair]:
        """Pairs that never did."""
        return [pair for pair, took in self.pairs.items() if took is None]

    @property
    def recovered_s(self) -> float | None:
        """Until all did; None when one never did."""
        known = [took for took in self.pairs.values() if took is not None]
        return max(known, default=0.0) if len(known) == len(self.pairs) else None

    def kept(self) -> dict[str, Any]:
        """The heal as JSON keeps it."""
        known = [took for took in self.pairs.values() if took is not None]
        return {
            "round": self.number,
            "kinds": list(self.kinds),
            "at_s": round(self.at_s, 3),
            "recovered_s": rounded(self.recovered_s),
            "pairs_s": spread(known, len(self.pairs)),
            "silent": [list(pair) for pair in self.silent],
        }


def rounded(value: float | None) -> float | None:
    """To milliseconds."""
    return None if value is None else round(value, 3)


def spread(values: Sequence[float], count: int) -> dict[str, float | None]:
    """Percentiles of `count` values, of which some may never have come."""
    names = ("p50", "p99", "max")
    return {
        name: rounded(percentile(values, percent, count)) for name, percent in zip(names, PERCENTS)
    }


def pair_times(
    streams: Mapping[Pair, tuple[Stream, Stream]], healed: float
) -> dict[Pair, float | None]:
    """For each pair, how long after a moment both its streams had arrived."""
    found: dict[Pair, float | None] = {}
    for pair, both in streams.items():
        moments = [stream.reached for stream in both if stream.reached is not None]
        found[pair] = max(moments) - healed if len(moments) == len(both) else None
    return found


def is_over(streams: Sequence[Stream]) -> bool:
    """Whether all have arrived since the mark."""
    return all(stream.reached is not None for stream in streams)


def lost_within(intervals: Sequence[Interval], windows: Sequence[tuple[float, float]]) -> int:
    """Of lost datagrams, those of intervals that began and ended within a window of time."""
    return sum(
        each.lost
        for each in intervals
        if any(begin <= each.first and each.last <= end for begin, end in windows)
    )


def by_kind(heals: Sequence[Heal]) -> dict[str, list[float | None]]:
    """Recoveries by kinds of faults; a round of several kinds counts for each of them."""
    found: dict[str, list[float | None]] = {}
    for heal in heals:
        for kind in heal.kinds:
            found.setdefault(kind, []).append(heal.recovered_s)
    return found
