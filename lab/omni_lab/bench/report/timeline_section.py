"""What happened when, and how long it took until all was well again. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from . import charts, units
from .blocks import Plot, Section, Table, Text
from .charts import Moment
from .load import Results
from .measures import nearest_rank

# Full reachability after a fault has healed, 99 of 100.
CONVERGED_SECONDS = 10.0


def events(results: Results) -> list[Mapping[str, Any]]:
    """All, in order."""
    found = [event for result in results.of("events") for event in result.data["events"]]
    return sorted(found, key=lambda event: float(event["at_s"]))


def recoveries(found: Sequence[Mapping[str, Any]]) -> dict[str, list[float]]:
    """Seconds until all had recovered, by what had happened."""
    by_what: dict[str, list[float]] = {}
    for event in found:
        if event.get("recovered_s") is not None:
            by_what.setdefault(event["what"], []).append(float(event["recovered_s"]))
    return by_what


def section(results: Results) -> Section:
    """All of it."""
    made = Section("timeline", "Timeline and recovery", "`lab chaos`")
    found = events(results)
    if not found:
        return made
    moments = [
        Moment(event["what"], float(event["at_s"]), words(event), event.get("recovered_s"))
        for event in found
    ]
    made.add(
        Plot(charts.timeline("Events of the run", moments),
             "What happened when. Bars last until all checked pairs had recovered.", wide=True)
    )
    by_what = recoveries(found)
    if by_what:
        every = [value for values in by_what.values() for value in values]
        rows = [recovery_row(what, values) for what, values in sorted(by_what.items())]
        rows.append(recovery_row("all", every))
        made.add(Table(("after", ">times", ">p50", ">p99", ">max"), rows,
                       "How long recovery took. Of few times p99 is the longest."))
    else:
        made.add(Text("No fault was injected: `lab chaos` does that."))
    rows = [
        (
            units.seconds(event["at_s"]),
            event["what"],
            event.get("node") or "",
            event.get("detail") or "",
            units.seconds(event["recovered_s"]) if event.get("recovered_s") is not None else "",
        )
        for event in found
    ]
    made.add(Table((">at", "what", "node", "detail", ">recovered after"), rows,
                   f"All {len(rows)} events", folded=True))
    return made


def words(event: Mapping[str, Any]) -> str:
    """An event in a line."""
    parts = [f"{units.seconds(event['at_s'])}: {event['what']}"]
    parts += [str(event[name]) for name in ("node", "detail") if event.get(name)]
    if event.get("recovered_s") is not None:
        parts.append(f"recovered after {units.seconds(event['recovered_s'])}")
    return ", ".join(parts)


def recovery_row(what: str, values: Sequence[float]) -> Sequence[str]:
    """How long recovery took."""
    spread = (units.seconds(nearest_rank(values, percent)) for percent in (50, 99, 100))
    return (what, units.count(len(values)), *spread)
