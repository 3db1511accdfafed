"""What happened when, and how long it took until all was well again. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ... import figures
from . import charts, load, units
from .blocks import Cell, Plot, Section, Table, Text
from .charts import Moment
from .load import Result, Results

# Full reachability after a fault has healed, 99 of 100.
CONVERGED_SECONDS = 10.0


def events(results: Results) -> list[Mapping[str, Any]]:
    """All, in order."""
    found = [event for result in results.of("events") for event in result.data["events"]]
    return sorted(found, key=lambda event: float(event["at_s"]))


@dataclass
class Recoveries:
    """Seconds until all had recovered, None where that never was: of all, and by what had been
    broken.
    """

    every: list[float | None] = field(default_factory=list)
    by_what: dict[str, list[float | None]] = field(default_factory=dict)

    def add(self, kinds: Sequence[str], took: float | None) -> None:
        """One recovery, from one fault or several at once."""
        self.every.append(took)
        for kind in kinds:
            self.by_what.setdefault(kind, []).append(took)


def recoveries(results: Results) -> Recoveries:
    """As `lab chaos` has them; where it was not run, as events have them."""
    found = Recoveries()
    for result in results.of("chaos"):
        for heal in result.data.get("heals") or ():
            if heal["round"]:
                found.add(heal["kinds"], heal.get("recovered_s"))
    if not found.every:
        for event in events(results):
            if event.get("recovered_s") is not None:
                found.add([event["what"]], float(event["recovered_s"]))
    return found


def percentile(took: Sequence[float | None], percent: float) -> float | None:
    """Those that never recovered count as the slowest: None where it falls on one of them."""
    return figures.percentile([each for each in took if each is not None], percent, len(took))


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
        Plot(
            charts.timeline("Events of the run", moments),
            "What happened when. Bars last until all checked pairs had recovered.",
            wide=True,
        )
    )
    recovered = recoveries(results)
    if recovered.every:
        rows = [recovery_row(what, took) for what, took in sorted(recovered.by_what.items())]
        rows.append(recovery_row("all", recovered.every))
        caption = (
            "How long recovery took, by what had been broken; several things may have been at "
            "once. Of fewer than 100 times p99 is the longest."
        )
        made.add(Table(("after", ">times", ">never", ">p50", ">p99", ">max"), rows, caption))
    else:
        made.add(Text("No fault was injected: `lab chaos` does that."))
    made.add(*(Text(arrivals(result)) for result in results.of("chaos")))
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
    made.add(
        Table(
            (">at", "what", "node", "detail", ">recovered after"),
            rows,
            f"All {len(rows)} events",
            folded=True,
        )
    )
    return made


def words(event: Mapping[str, Any]) -> str:
    """An event in a line."""
    parts = [f"{units.seconds(event['at_s'])}: {event['what']}"]
    parts += [str(event[name]) for name in ("node", "detail") if event.get(name)]
    if event.get("recovered_s") is not None:
        parts.append(f"recovered after {units.seconds(event['recovered_s'])}")
    return ", ".join(parts)


def said(took: float | None) -> str:
    """A recovery that may never have been."""
    return "never" if took is None else units.seconds(took)


def recovery_row(what: str, took: Sequence[float | None]) -> Sequence[str | Cell]:
    """How long recovery took."""
    never = sum(1 for each in took if each is None)
    return (
        what,
        units.count(len(took)),
        Cell(units.count(never), "miss" if never else "none"),
        *(said(percentile(took, percent)) for percent in (50, 99, 100)),
    )


def arrivals(chaos: Result) -> str:
    """What became of the checker's datagrams meanwhile."""
    names = (name.removesuffix(load.OPTIONAL) for name in load.CHAOS_COUNTS)
    counts = [f"{units.count(chaos.data.get(name))} {name}" for name in names]
    return f"The checker's datagrams meanwhile: {', '.join(counts)}."
