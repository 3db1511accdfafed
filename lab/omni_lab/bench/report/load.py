"""Reads a run's folder: each file of JSON, checked before anything is made of it.

What cannot be read, or is not as its kind has to be, is told and left out; the rest is kept.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from .. import runs

# The largest file that is read: a run of 100 nodes has a few MB.
FILE_OCTETS_MAX = 256 << 20


class Histogram:
    """The shape of a histogram, whose counts have to add up."""


Number = (int, float)
OPTIONAL = "?"

FLOW = {
    "from": str,
    "to": str,
    "rate_per_s": Number,
    "sent": int,
    "received": int,
    "late_sends": int,
    "histogram": Histogram,
}
FIGURE = {
    "name": str,
    "measured?": Number,
    "unit": str,
    "at_most?": Number,
    "at_least?": Number,
    "met": bool,
}
SIZE = {
    "octets": int,
    "time_ns": {"min": Number, "median": Number, "p99": Number, "max": Number},
    "algbw_Bps": Number,
    "busbw_Bps": Number,
    "jct_ns": Number,
    "compute_ns": Number,
    "iterations": [{"slowest_rank": int, "ns": int, "per_rank_ns": [int]}],
    "steps?": Histogram,
}
STREAM = {
    "from": str,
    "to": str,
    "bps": Number,
    "retransmits?": int,
    "lost_packets?": int,
    "sent_packets?": int,
}
EVENT = {"at_s": Number, "what": str, "node?": str, "detail?": str, "recovered_s?": Number}
# The first heal, of round 0, is from before any fault.
HEAL = {"round": int, "kinds": [str], "at_s": Number, "recovered_s?": Number}
CHAOS_COUNTS = ("sent?", "lost?", "misdelivered?", "corrupted?", "duplicates?")
# What each kind has to have; a question mark: where it has it at all, and is not null.
SHAPES: dict[str, Any] = {
    "disclosure": {"machine": dict, "versions?": dict, "nodes?": [dict], "topology?": dict},
    "iperf": {"shape": str, "protocol": str, "streams": [STREAM]},
    "latency": {"flows": [FLOW], "floor?": [FLOW]},
    "arp": {
        "suppression": str,
        "hosts": int,
        "asked": int,
        "answered": int,
        "wrong": int,
        "fabric_frames": int,
        "histogram": Histogram,
    },
    "allreduce": {
        "algorithm": str,
        "ranks": int,
        "collective": str,
        "iterations": int,
        "sizes": [SIZE],
        "wrong": int,
    },
    "stages": {"merged": [{"stage": str, "side?": str, "histogram": Histogram}]},
    "drops": {
        "during?": str,
        "nodes": [{"name": str, "drops": dict, "ports": dict}],
        "frames_sent": int,
        "frames_verified": int,
        "frames_lost": int,
        "frames_never_sent?": int,
    },
    "events": {"events": [EVENT]},
    "chaos": {"heals?": [HEAL], **{name: int for name in CHAOS_COUNTS}},
}
# Kinds of which the figures are all that is told.
FIGURES_ONLY = frozenset({"up", "check", "idle", "arp-figures", "chaos"})
# What all kinds can have.
COMMON = {"contestant?": str, "began?": str, "figures?": [FIGURE], "failed?": list}
# What is left of a measurement that came to nothing: why, and its figures.
FAILED = "failed"


@dataclass(frozen=True)
class Result:
    """A file of the run."""

    name: str
    kind: str
    data: Mapping[str, Any]
    # Empty where it does not apply.
    contestant: str = ""

    @property
    def failures(self) -> Sequence[str]:
        """What failed of the measurement, in words."""
        return [each for each in self.data.get("failed") or () if isinstance(each, str)]

    @property
    def figures(self) -> Sequence[Mapping[str, Any]]:
        """What was held to a target, and what was only told."""
        found: Sequence[Mapping[str, Any]] = self.data.get("figures") or ()
        return found


@dataclass
class Results:
    """All of a run that could be read."""

    folder: Path
    results: list[Result] = field(default_factory=list)
    # Files that could not be read, and why.
    problems: list[str] = field(default_factory=list)
    # Files of kinds that are not shown.
    others: list[str] = field(default_factory=list)

    def of(self, kind: str) -> list[Result]:
        """The files of a kind, by their names."""
        return [each for each in self.results if each.kind == kind]

    @property
    def contestants(self) -> list[str]:
        """All that were measured, our own fabric first."""
        found = {each.contestant for each in self.results if each.contestant}
        return sorted(found, key=lambda name: (not is_ours(name), name))


def is_ours(contestant: str) -> bool:
    """Whether it is our own fabric, by whichever drivers."""
    return contestant.split(" ")[0] == "omni"


def read(folder: Path) -> Results:
    """Reads all files of JSON in a folder. Raises OSError when it cannot be listed."""
    found = Results(folder)
    for path in sorted(each for each in folder.iterdir() if each.suffix == ".json"):
        try:
            result = parse(path.stem, text_of(path))
        except (OSError, ValueError, RecursionError) as error:
            found.problems.append(f"could not be read: {path.name}: {error}")
            continue
        if result is None:
            found.others.append(path.name)
        else:
            found.results.append(result)
    found.results = [named(each, found.contestants) for each in found.results]
    return found


def text_of(path: Path) -> str:
    """A file's text. Raises OSError, or ValueError when it is none or too much."""
    octets = path.stat().st_size
    if octets > FILE_OCTETS_MAX:
        raise ValueError(f"{octets:,} octets are too many")
    return path.read_text(encoding="utf-8")


def parse(name: str, text: str) -> Result | None:
    """A file's content; None when it is of a kind that is not shown. Raises ValueError when it is
    not as its kind has to be.
    """
    data = json.loads(text, parse_constant=refuse)
    if not isinstance(data, dict) or not isinstance(data.get("kind"), str):
        raise ValueError("it has no kind")
    kind = data["kind"]
    if kind not in SHAPES and kind not in FIGURES_ONLY:
        return None
    if kind == "allreduce" and "sizes" not in data and data.get("failed"):
        kind = FAILED
    shape = {**COMMON, **SHAPES.get(kind, {})}
    wrong = fault(data, shape)
    if wrong is not None:
        raise ValueError(wrong)
    return Result(name, kind, data, data.get("contestant") or "")


def refuse(word: str) -> float:
    """JSON has no infinities."""
    raise ValueError(f"{word} is no number")


def fault(value: Any, shape: Any, path: str = "") -> str | None:
    """The first place where a value is not of a shape, in words; None when it is all through.

    A shape is a type or types, a list of one shape for lists, or a dict of the members' shapes.
    """
    if shape is Histogram:
        return histogram_fault(value, path)
    if isinstance(shape, dict):
        if not isinstance(value, dict):
            return f"{path or 'it'} is no object"
        for key, each in shape.items():
            name = key.removesuffix(OPTIONAL)
            if key.endswith(OPTIONAL) and value.get(name) is None:
                continue
            place = f"{path}.{name}" if path else name
            wrong = fault(value[name], each, place) if name in value else f"{place} is missing"
            if wrong is not None:
                return wrong
        return None
    if isinstance(shape, list):
        if not isinstance(value, list):
            return f"{path} is no list"
        faults = (fault(each, shape[0], f"{path}[{at}]") for at, each in enumerate(value))
        return next((wrong for wrong in faults if wrong is not None), None)
    # In Python, true is a number.
    if not isinstance(value, shape) or (isinstance(value, bool) and shape is not bool):
        return f"{path} is {json.dumps(value)[:40]}, which is of the wrong type"
    return None


def histogram_fault(value: Any, path: str) -> str | None:
    """The same of a histogram."""
    wrong = fault(
        value, {"unit": str, "count": int, "min": int, "max": int, "counts": [list]}, path
    )
    if wrong is not None:
        return wrong
    if value["unit"] != "ns":
        return f"{path} is in {value['unit']!r}, not in ns"
    total, before = 0, -1
    for pair in value["counts"]:
        if len(pair) != 2 or not all(type(each) is int for each in pair) or pair[1] < 0:
            return f"{path}.counts has {json.dumps(pair)[:40]}, which is no value and its count"
        if pair[0] <= before:
            return f"{path}.counts does not ascend at {pair[0]}"
        before = pair[0]
        total += pair[1]
    if total != value["count"]:
        return f"{path}.counts are {total} together, not {value['count']}"
    return None


def named(result: Result, contestants: Sequence[str]) -> Result:
    """With the contestant from its file's name where the file itself does not say, as what `omni
    report` prints.
    """
    if result.contestant or result.kind != "stages":
        return result
    slug = result.name.removeprefix(f"{result.kind}-")
    name = next((each for each in contestants if runs.slug(each) == slug), slug)
    return Result(result.name, result.kind, result.data, name)
