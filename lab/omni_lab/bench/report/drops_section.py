"""What was dropped and why, and whether what was sent has arrived. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from . import measures, units
from .blocks import Cell, Section, Table, Text
from .load import Result, Results
from .measures import Reconciled
from .traffic_section import natural

# More columns than that are told below the table.
REASONS_MAX = 8
# More rows than that are folded away.
ROWS_MAX = 40
CUMULATIVE = "since the start"


ABOUT = (
    "Engines count a frame as sent to a peer when it is sealed, and as received when its tag was "
    "verified. What is missing in between, pair by pair, has to be counted under a reason. Some "
    "reasons are of ports on either side of a node: these explain a loss as far as they go. Frames "
    "that were verified and never sent there must not be. As traffic goes on while engines are "
    "asked, more can be verified than was sent when the first was asked."
)


def during(result: Result) -> str:
    """What went on meanwhile."""
    return str(result.data.get("during") or CUMULATIVE)


def counted_once(results: Results) -> list[Result]:
    """Looks that have no frame in common: those of each measurement; where there are none, that of
    all since the start.
    """
    every = results.of("drops")
    single = [each for each in every if during(each) != CUMULATIVE]
    return single or every


def total(looks: Sequence[Result]) -> Reconciled:
    """Several looks as one."""
    each = [measures.reconcile(look.data) for look in looks]
    return Reconciled(
        sum(one.sent for one in each),
        sum(one.verified for one in each),
        sum(one.lost for one in each),
        sum(one.never_sent for one in each),
        sum(one.on_the_way for one in each),
        sum(one.either_side for one in each),
    )


def unexplained(looks: Sequence[Result]) -> int:
    """Frames that nothing explains, in all looks; what one has too many drops of does not explain
    what another lacks.
    """
    return sum(measures.reconcile(look.data).unexplained for look in looks)


def section(results: Results) -> Section:
    """All of it."""
    made = Section("drops", "Drops, and what adds up", "`lab drops`")
    looks = sorted(results.of("drops"), key=lambda each: (each.contestant, during(each)))
    if not looks:
        return made
    rows = []
    for look in looks:
        found = measures.reconcile(look.data)
        rows.append(
            (
                Cell(look.contestant, contestant=look.contestant),
                during(look),
                units.count(found.sent),
                units.count(found.verified),
                units.count(found.lost),
                Cell(units.count(found.never_sent), "miss" if found.never_sent else "none"),
                units.count(found.on_the_way),
                units.count(found.either_side),
                Cell(units.count(found.unexplained), "miss" if found.unexplained else "pass"),
            )
        )
    columns = (
        *("contestant", "during", ">sent", ">verified", ">lost", ">never sent"),
        *(">counted on the way", ">on either side", ">unexplained"),
    )
    made.add(Text(ABOUT), Table(columns, rows))
    made.add(reasons(looks), ports(looks))
    return made


def reasons(looks: Sequence[Result]) -> Table | Text:
    """Drops by measurement, node and reason, the most frequent reasons first."""
    places = [(look, node) for look in looks for node in nodes(look)]
    sums = measures.summed(node["drops"] for _, node in places)
    order = sorted((reason for reason in sums if sums[reason]), key=lambda each: -sums[each])
    if not order:
        return Text("No engine dropped anything.")
    shown, more = order[:REASONS_MAX], order[REASONS_MAX:]
    rows = [
        (
            Cell(look.contestant, contestant=look.contestant),
            during(look),
            node["name"],
            *(units.count(node["drops"].get(reason, 0)) for reason in shown),
        )
        for look, node in places
        if any(node["drops"].values())
    ]
    caption = "Drops by reason, of nodes that dropped something."
    if more:
        rest = ", ".join(f"{reason} {units.count(sums[reason])}" for reason in more)
        caption += f" Also, all together: {rest}."
    columns = ("contestant", "during", "node", *(f">{reason}" for reason in shown))
    return Table(columns, rows, caption, folded=len(rows) > ROWS_MAX)


def nodes(look: Result) -> list[Mapping[str, Any]]:
    """All nodes, in order."""
    return sorted(look.data["nodes"], key=lambda node: natural(node["name"]))


def ports(looks: Sequence[Result]) -> Table:
    """Frames in and out of every port."""
    rows = [
        (
            Cell(look.contestant, contestant=look.contestant),
            during(look),
            node["name"],
            name,
            *(units.count(port.get(each)) for each in ("rx_frames", "tx_frames")),
        )
        for look in looks
        for node in nodes(look)
        for name, port in sorted(node["ports"].items())
    ]
    caption = f"Frames in and out of every port: {len(rows)} rows"
    columns = ("contestant", "during", "node", "port", ">in", ">out")
    return Table(columns, rows, caption, folded=True)
