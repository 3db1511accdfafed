"""Every figure that had a target, missed ones first, and the figures of what has no section of its
own. Pure.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ...figures import Figure, quantity
from .blocks import Cell, Section, Table, Text
from .load import FAILED, FIGURES_ONLY, Results

Check = tuple[str, Mapping[str, Any]]


def figure(kept: Mapping[str, Any]) -> Figure:
    """A figure as it was when it was kept."""
    names = ("name", "measured", "unit", "at_most", "at_least")
    return Figure(*(kept.get(name) for name in names))  # type: ignore[arg-type]


def checks(results: Results) -> list[Check]:
    """All figures with a target, and the file each is of; those that missed it first."""
    found = [
        (result.name, kept)
        for result in results.results
        for kept in result.figures
        if figure(kept).target
    ]
    return sorted(found, key=lambda check: figure(check[1]).met)


def section(results: Results) -> Section:
    """All of it."""
    made = Section("checks", "Every check", "Any measurement")
    found = checks(results)
    if found:
        missed, met = (
            [row(*each) for each in found if figure(each[1]).met is is_met]
            for is_met in (False, True)
        )
        made.add(Text(f"{len(met)} of {len(found)} figures met their targets."))
        columns = ("file", "figure", ">target", ">measured", "")
        if missed:
            made.add(Table(columns, missed))
        if met:
            made.add(Table(columns, met, f"Met: {len(met)}", folded=True))
    failures = [(each.name, reason) for each in results.results for reason in each.failures]
    if failures:
        made.add(Table(("file", "what failed"), failures))
    told = [
        (result.name, kept["name"], quantity(kept.get("measured"), kept["unit"]))
        for result in results.results
        if result.kind in FIGURES_ONLY or result.kind == FAILED
        for kept in result.figures
        if not figure(kept).target
    ]
    if told:
        made.add(
            Table(
                ("file", "figure", ">measured"),
                told,
                f"Figures without a target, {len(told)}",
                folded=True,
            )
        )
    return made


def row(name: str, kept: Mapping[str, Any]) -> Sequence[str | Cell]:
    """A check."""
    found = figure(kept)
    verdict = Cell("✓ pass", "pass") if found.met else Cell("✗ miss", "miss")
    return (name, found.name, found.target, quantity(found.measured, found.unit), verdict)
