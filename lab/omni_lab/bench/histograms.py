"""Histograms as results have them: those of HdrHistogram with three significant digits. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

# 2 * 10^3, to the next power of two: values below it have buckets of their own.
PRECISION_BITS = 11


def highest_equivalent(value: int) -> int:
    """The greatest value that is in the same bucket."""
    shift = max(value.bit_length() - PRECISION_BITS, 0)
    return (((value >> shift) + 1) << shift) - 1


def of(values_ns: Iterable[int]) -> dict[str, Any]:
    """The histogram of some durations."""
    values = list(values_ns)
    counts = Counter(highest_equivalent(value) for value in values)
    return {
        "unit": "ns",
        "count": len(values),
        "min": min(values, default=0),
        "max": max(values, default=0),
        "counts": [[value, counts[value]] for value in sorted(counts)],
    }


def merge(some: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    """Several as one. Those without a value count for nothing."""
    full = [each for each in some if each["count"]]
    counts: Counter[int] = Counter()
    for each in full:
        counts.update({value: count for value, count in each["counts"]})
    return {
        "unit": "ns",
        "count": sum(each["count"] for each in full),
        "min": min((each["min"] for each in full), default=0),
        "max": max((each["max"] for each in full), default=0),
        "counts": [[value, counts[value]] for value in sorted(counts)],
    }


def percentile(histogram: Mapping[str, Any], percent: float) -> int | None:
    """The least bucket that so many percent of all are not above; None when it is empty."""
    rank = max(-(-histogram["count"] * percent // 100), 1)
    passed = 0
    for value, count in histogram["counts"]:
        passed += count
        if passed >= rank:
            return min(int(value), int(histogram["max"]))
    return None
