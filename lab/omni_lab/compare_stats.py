"""Rounds to figures: medians and spreads, ratios, and the search for the highest rate without loss.
Pure: nothing is measured in here.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

# Of a search: no rate below is tried, in datagrams a second, and it ends when the bounds are that
# close.
RATE_MIN = 1000
CLOSE = 1.04
# A rate that lost something is tried once more: a pause of the whole machine is not the
# contestant's loss. Twice is.
TRIES = 2


@dataclass(frozen=True)
class Trial:
    """Datagrams that were sent within a time, and those of them that arrived."""

    sent: int
    received: int
    seconds: float

    @property
    def lost(self) -> int:
        """How many did not arrive."""
        return self.sent - self.received

    @property
    def sent_rate(self) -> float:
        """Datagrams a second that left."""
        return self.sent / self.seconds if self.seconds else 0.0

    @property
    def received_rate(self) -> float:
        """Datagrams that arrived, over the time in which they were sent."""
        return self.received / self.seconds if self.seconds else 0.0


def highest_lossless(attempt: Callable[[int], Trial], flood: Trial, steps: int) -> float:
    """The highest rate, as it left, at which nothing was lost; 0 when there was none.

    `flood` is what happened when as many were sent as would leave: at first what then arrived is
    tried, and never more than left then. Each step halves what is still possible, as a ratio.
    """
    if flood.sent and not flood.lost:
        return flood.sent_rate
    low, high, best = float(RATE_MIN), max(flood.sent_rate, 2.0 * RATE_MIN), 0.0
    rate = min(max(flood.received_rate, low), high)
    for _ in range(steps):
        passed = next(
            (trial for trial in (attempt(int(rate)) for _ in range(TRIES)) if not trial.lost), None
        )
        if passed is not None:
            best = max(best, passed.sent_rate)
            low = max(low, rate)
            # The sender left what it was asked for behind: there is no more to find.
            if passed.sent_rate < rate / CLOSE:
                break
        else:
            high = rate
        if high / low < CLOSE:
            break
        rate = (low * high) ** 0.5
    return best


@dataclass(frozen=True)
class Spread:
    """Median, least and greatest of some rounds."""

    median: float
    least: float
    greatest: float
    rounds: int


def spread(values: Sequence[float]) -> Spread | None:
    """Of no rounds at all there is none."""
    if not values:
        return None
    return Spread(statistics.median(values), min(values), max(values), len(values))


@dataclass
class Results:
    """What each contestant came to on each wire: a value for each round, by the metric's name.

    A round that a contestant did not finish has no value, so rounds are named, not counted.
    """

    rounds: dict[tuple[str, str, str], dict[int, float]] = field(default_factory=dict)

    def add(self, contestant: str, wire: str, number: int, values: Mapping[str, float]) -> None:
        """Notes a round."""
        for metric, value in values.items():
            self.rounds.setdefault((contestant, wire, metric), {})[number] = value

    def spread(self, contestant: str, wire: str, metric: str) -> Spread | None:
        """Over all rounds."""
        return spread(list(self.rounds.get((contestant, wire, metric), {}).values()))

    def median(self, contestant: str, wire: str, metric: str) -> float | None:
        """Over all rounds, None when there were none."""
        found = self.spread(contestant, wire, metric)
        return found.median if found else None

    def ratio(self, one: tuple[str, str], other: tuple[str, str], metric: str) -> Spread | None:
        """One contestant's values over another's, each (contestant, wire), round by round: what
        disturbed one of them in a round is likely to have disturbed the other.
        """
        ours, theirs = (self.rounds.get((*each, metric), {}) for each in (one, other))
        common = sorted(ours.keys() & theirs.keys())
        return spread([ours[each] / theirs[each] for each in common if theirs[each]])

    def best(
        self, contestants: Sequence[str], wire: str, metric: str, least: bool = False
    ) -> str | None:
        """Who has the greatest median, or the least."""
        medians = {name: self.median(name, wire, metric) for name in contestants}
        found = {name: value for name, value in medians.items() if value is not None}
        if not found:
            return None
        choose = min if least else max
        return choose(found, key=lambda name: found[name])
