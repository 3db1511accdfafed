"""Figures that have a target, and the table of them. Pure: nothing is measured in here."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

DIGITS = 3


@dataclass(frozen=True)
class Figure:
    """Something measured, and what it may be. A figure without a target is only told."""

    name: str
    # None where it could not be measured, which misses any target.
    measured: float | None
    unit: str = ""
    at_most: float | None = None
    at_least: float | None = None

    @property
    def met(self) -> bool:
        """Whether the target is met."""
        if self.at_most is None and self.at_least is None:
            return True
        if self.measured is None:
            return False
        below = self.at_most is None or self.measured <= self.at_most
        return below and (self.at_least is None or self.measured >= self.at_least)

    @property
    def target(self) -> str:
        """The target as it is shown, empty when there is none."""
        if self.at_most is not None:
            return f"<= {quantity(self.at_most, self.unit)}"
        return f">= {quantity(self.at_least, self.unit)}" if self.at_least is not None else ""


def quantity(value: float | None, unit: str) -> str:
    """A number to three digits, with its unit."""
    if value is None:
        return "-"
    whole = value == int(value) or abs(value) >= 10**DIGITS
    number = f"{value:,.0f}" if whole else f"{value:.{DIGITS}g}"
    return f"{number} {unit}".rstrip()


def percentile(values: Sequence[float], percent: float, count: int | None = None) -> float | None:
    """The least value that so many percent of all are not above: the nearest rank.

    Of `count` there should have been; those that never came count as the slowest. None when the
    rank falls on one of them, or there are none at all.
    """
    total = len(values) if count is None else count
    rank = max(-(-total * percent // 100), 1)
    return sorted(values)[int(rank) - 1] if rank <= len(values) else None


def spread(
    name: str,
    values: Sequence[float],
    unit: str,
    *,
    count: int | None = None,
    p99_at_most: float | None = None,
    most_at_most: float | None = None,
) -> list[Figure]:
    """Median, 99th percentile and greatest, each None where too much of `count` never came."""
    return [
        Figure(f"{name}, p50", percentile(values, 50, count), unit),
        Figure(f"{name}, p99", percentile(values, 99, count), unit, at_most=p99_at_most),
        Figure(f"{name}, max", percentile(values, 100, count), unit, at_most=most_at_most),
    ]


def table(figures: Sequence[Figure]) -> list[str]:
    """Figure, target, measured, and whether that is met, in columns."""
    rows = [("figure", "target", "measured", "ok")]
    for each in figures:
        verdict = ("yes" if each.met else "NO") if each.target else ""
        rows.append((each.name, each.target, quantity(each.measured, each.unit), verdict))
    widths = [max(len(row[column]) for row in rows) for column in range(3)]
    return [
        f"{name:<{widths[0]}}  {target:>{widths[1]}}  {measured:>{widths[2]}}  {verdict}".rstrip()
        for name, target, measured, verdict in rows
    ]


def kept(figures: Sequence[Figure]) -> list[dict[str, Any]]:
    """The figures as JSON keeps them."""
    return [{**asdict(each), "met": each.met} for each in figures]
