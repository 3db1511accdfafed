"""What the report calculates: percentiles of merged counts, ratios, what adds up. Pure."""

from __future__ import annotations

import math
import random
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from .. import histograms

Histogram = Mapping[str, Any]

PERCENTILES = (50.0, 90.0, 99.0, 99.9, 99.99)
RESAMPLES = 400
# What lies outside of an interval, on both sides together.
OUTSIDE = 0.05

# Where a frame can have been dropped between the count of what was sent to a peer, which is at its
# sealing, and the count of what was verified of a peer, which is at its opening.
# What arrived twice, such as `nonce_replayed`, explains no loss.
ON_THE_WAY = frozenset(
    {
        "outer_malformed",
        "header_too_short",
        "header_bad_type",
        "header_bad_flags",
        "unknown_session",
        "session_expired",
        "lane_unknown",
        "elsewhere",
        "peer_throttled",
        "nonce_limit",
        "nonce_too_old",
        "bad_tag",
        "message_unsteered",
        "no_headroom",
    }
)
# These are counted for ports on either side of a node: on the underlay's they lie between the two
# counts, on the access port's they do not.
EITHER_SIDE = frozenset(
    {
        "tx_ring_full",
        "no_free_frame",
        "too_many_buffers",
        "rx_ring_full",
        "fill_ring_empty",
        "rx_kernel",
        "tx_invalid",
        "no_socket",
        "xdp_no_headroom",
        "port_tx_dropped",
        "reopened",
    }
)


def quantile(histogram: Histogram, at: float) -> int | None:
    """The least bucket that this part of all (0 to 1) is not above; None when it is empty."""
    return histograms.percentile(histogram, 100 * at)


def is_known(count: int, percent: float) -> bool:
    """Whether so many samples can tell a percentile: at least one lies beyond it."""
    return count * (100 - percent) / 100 >= 1 - 1e-9


def told(histogram: Histogram, percent: float) -> int | None:
    """A percentile; None where there are too few samples to tell it."""
    if not is_known(histogram["count"], percent):
        return None
    return histograms.percentile(histogram, percent)


def nearest_rank(values: Sequence[float], percent: float) -> float | None:
    """The least value that so many percent of all are not above; None when there is none."""
    if not values:
        return None
    rank = max(math.ceil(len(values) * percent / 100 - 1e-9), 1)
    return sorted(values)[rank - 1]


def steps_quantile(steps: int, part: float) -> float:
    """The quantile that the slowest of so many draws does not exceed in this part of all tries:
    where all stay below a value with that probability, each does with its root.
    """
    return math.pow(part, 1 / steps)


def steps_of(algorithm: str, ranks: int) -> int | None:
    """Dependent steps of an all-reduce, each of which waits for a message of the one before. None
    for what has no such chain that would be the same on all ranks.
    """
    if ranks < 2:
        return None
    depth = math.ceil(math.log2(ranks))
    if algorithm == "ring":
        return 2 * (ranks - 1)
    if algorithm == "tree":
        # Up to the root, and down again.
        return 2 * math.floor(math.log2(ranks))
    if algorithm == "halving-doubling":
        # Those beyond a power of two hand over first, and are told at the end.
        return 2 * math.floor(math.log2(ranks)) + (0 if 1 << depth == ranks else 2)
    return None


def jain(rates: Sequence[float]) -> float | None:
    """Jain's index of fairness: 1 where all have the same, 1/N where one has all."""
    squares = sum(rate * rate for rate in rates)
    return sum(rates) ** 2 / (len(rates) * squares) if squares else None


@dataclass(frozen=True)
class Ratio:
    """How many times something is of something else, and an interval of it where there is one."""

    value: float
    low: float | None = None
    high: float | None = None


def ratio(
    ours: Sequence[float],
    theirs: Sequence[float],
    fixed: tuple[float, float] = (0, 0),
    interval: bool = True,
) -> Ratio | None:
    """How many times the sum of ours is the sum of theirs, with `fixed` in either sum beside them.

    The interval is that of 95 % of resamples of both (percentile bootstrap, of a fixed seed). It
    takes them for independent. None where theirs are nothing.
    """
    mine, others = sum(ours) + fixed[0], sum(theirs) + fixed[1]
    if not others:
        return None
    if not interval or min(len(ours), len(theirs)) < 2:
        return Ratio(mine / others)
    dice = random.Random(1)
    found = sorted(
        (sum(dice.choices(ours, k=len(ours))) + fixed[0])
        / max(sum(dice.choices(theirs, k=len(theirs))) + fixed[1], 1e-9)
        for _ in range(RESAMPLES)
    )
    cut = round(RESAMPLES * OUTSIDE / 2)
    return Ratio(mine / others, found[cut], found[-1 - cut])


@dataclass(frozen=True)
class Reconciled:
    """Whether what was sent has arrived or was counted as dropped."""

    sent: int
    verified: int
    # Sent and not verified, and verified though nobody sent it.
    lost: int
    never_sent: int
    # Dropped between the two counts for certain, and on a side that cannot be told.
    on_the_way: int
    either_side: int

    @property
    def unexplained(self) -> int:
        """Lost and counted nowhere, and what nobody sent. What may have been dropped on either side
        explains a loss as far as it goes.
        """
        return max(self.lost - self.on_the_way - self.either_side, 0) + self.never_sent


def reconcile(data: Mapping[str, Any]) -> Reconciled:
    """Of what a look at all engines found."""
    drops = summed(node["drops"] for node in data["nodes"])
    return Reconciled(
        data["frames_sent"],
        data["frames_verified"],
        data["frames_lost"],
        data.get("frames_never_sent") or 0,
        sum(drops.get(reason, 0) for reason in ON_THE_WAY),
        sum(drops.get(reason, 0) for reason in EITHER_SIDE),
    )


def summed(parts: Iterable[Mapping[str, int]]) -> dict[str, int]:
    """Counts by reason of several, together."""
    total: dict[str, int] = {}
    for part in parts:
        for reason, number in part.items():
            total[reason] = total.get(reason, 0) + number
    return total


def slowest_counts(iterations: Sequence[Mapping[str, Any]], ranks: int) -> list[int]:
    """In how many iterations each rank was the slowest."""
    counts = [0] * ranks
    for iteration in iterations:
        if 0 <= iteration["slowest_rank"] < ranks:
            counts[iteration["slowest_rank"]] += 1
    return counts
