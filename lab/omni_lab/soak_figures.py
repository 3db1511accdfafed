"""What a soak's samples come to. Pure: nothing is measured in here."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from .figures import Figure, percentile

# How soon traffic has to flow again after each fault, in seconds, from when it is over: when the
# underlay carries what the kernel itself sends.
RESUMED_SECONDS = {"flap": 1.0, "stop": 1.0, "detach": 3.0, "remake": 5.0}
# A process may grow by so much an hour, and by so much once, as allocators round up.
GROWTH_MIB_PER_HOUR = 1.0
GROWTH_MIB = 2.0
# p99.9 of the last third against the first: so many times, and this much more, which is one delay
# of the scheduler.
SLOWER = 1.2
SLOWER_MS = 1.0
# Of pings that no fault was near, so many in a hundred may be lost.
LOST_PERCENT = 0.1
# A fault touches what was sent so long before it, and after traffic flowed again.
NEAR_SECONDS = 1.0


@dataclass(frozen=True)
class Sample:
    """A node at a moment, in seconds since the beginning."""

    at: float
    resident_mib: float
    descriptors: int


@dataclass(frozen=True)
class Fault:
    """What was done to a node, when, and when traffic flowed again; all in seconds."""

    kind: str
    node: str
    began: float
    over: float
    # None: it did not.
    resumed: float | None

    @property
    def took(self) -> float | None:
        """How long it was quiet after the fault was over."""
        return None if self.resumed is None else max(self.resumed - self.over, 0.0)


@dataclass
class Book:
    """All that is written down."""

    seconds: float
    samples: dict[str, list[Sample]] = field(default_factory=dict)
    faults: list[Fault] = field(default_factory=list)
    # Answered pings: when they were sent, and how long that took. Lost ones: when they were sent.
    answered: list[tuple[float, float]] = field(default_factory=list)
    lost: list[float] = field(default_factory=list)
    checks: int = 0
    # What was found wrong, in words.
    wrong: list[str] = field(default_factory=list)
    recovered: dict[str, int] = field(default_factory=dict)


def census_error(umem: Mapping[str, int], recovery: Mapping[str, int]) -> str | None:
    """What is wrong with the packet memory that an engine shows."""
    places = ("free", "receiving", "sending", "held")
    total = sum(umem[f"frames_{place}"] for place in places)
    if total != umem["frames_total"]:
        return f"{total} frames of {umem['frames_total']}: {dict(umem)}"
    if recovery["unsound"]:
        return f"frames did not add up {recovery['unsound']} times"
    return None


def parse_status(text: str) -> float:
    """Resident memory in MiB, of /proc/PID/status."""
    for line in text.splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) / 1024
    raise ValueError("no VmRSS")


def near(faults: Iterable[Fault]) -> list[tuple[float, float]]:
    """Spans of time that faults touch, in order, none overlapping."""
    spans: list[tuple[float, float]] = []
    for fault in sorted(faults, key=lambda each: each.began):
        end = fault.resumed if fault.resumed is not None else float("inf")
        begin, end = fault.began - NEAR_SECONDS, max(end, fault.over) + NEAR_SECONDS
        if spans and begin <= spans[-1][1]:
            spans[-1] = (spans[-1][0], max(end, spans[-1][1]))
        else:
            spans.append((begin, end))
    return spans


def is_quiet(at: float, spans: Sequence[tuple[float, float]]) -> bool:
    """Whether a moment is in none of the spans."""
    return not any(begin <= at <= end for begin, end in spans)


def median(values: Sequence[float]) -> float:
    """The middle value."""
    return sorted(values)[len(values) // 2]


def part(book: Book, samples: Sequence[Sample], first: int, last: int, of: int) -> list[Sample]:
    """The samples of some parts of the time, which has `of` parts."""
    begin, end = (book.seconds * first / of, book.seconds * last / of)
    return [each for each in samples if begin <= each.at <= end]


def growth_mib(book: Book, samples: Sequence[Sample]) -> float | None:
    """How much more memory a node has in the last quarter than in the second one: the first is for
    all to be in use that there is.
    """
    before, after = part(book, samples, 1, 2, 4), part(book, samples, 3, 4, 4)
    if not before or not after:
        return None
    middle = [median([each.resident_mib for each in some]) for some in (before, after)]
    return middle[1] - middle[0]


def more_descriptors(book: Book, samples: Sequence[Sample]) -> int | None:
    """How many more descriptors are open in the last quarter than in the second one, at the least
    in each: questions to the kernel open one for a moment.
    """
    before, after = part(book, samples, 1, 2, 4), part(book, samples, 3, 4, 4)
    if not before or not after:
        return None
    return min(each.descriptors for each in after) - min(each.descriptors for each in before)


def worst(values: Iterable[float | None]) -> float | None:
    """The greatest; None when one is, or there are none."""
    known = list(values)
    if not known or any(each is None for each in known):
        return None
    return max(each for each in known if each is not None)


def slowest(book: Book, kind: str) -> float | None:
    """How long it took at most until traffic flowed again after such a fault."""
    return worst(fault.took for fault in book.faults if fault.kind == kind)


def p999_ms(book: Book, first: int, last: int, of: int) -> float | None:
    """p99.9 of the round trips of some parts of the time that no fault was near, in ms."""
    spans = near(book.faults)
    begin, end = (book.seconds * first / of, book.seconds * last / of)
    some = [took for at, took in book.answered if begin <= at < end and is_quiet(at, spans)]
    found = percentile(some, 99.9)
    return None if found is None else found * 1000


def figures(book: Book) -> list[Figure]:
    """The verdict's lines."""
    hours = book.seconds / 3600
    growth = worst(growth_mib(book, samples) for samples in book.samples.values())
    opened = worst(more_descriptors(book, samples) for samples in book.samples.values())
    early, late = p999_ms(book, 0, 1, 3), p999_ms(book, 2, 3, 3)
    spans = near(book.faults)
    quiet = sum(is_quiet(at, spans) for at, _ in book.answered)
    lost = sum(is_quiet(at, spans) for at in book.lost)
    allowed = None if early is None else early * SLOWER + SLOWER_MS
    return [
        Figure("checks of each node", book.checks, at_least=book.seconds / 4),
        Figure("things found wrong", len(book.wrong), at_most=0),
        *(
            Figure(f"until traffic flows, {kind}, slowest", slowest(book, kind), "s", at_most=most)
            for kind, most in RESUMED_SECONDS.items()
            if any(fault.kind == kind for fault in book.faults)
        ),
        Figure("faults", len(book.faults)),
        Figure(
            "memory's growth, second quarter to last",
            growth,
            "MiB",
            at_most=GROWTH_MIB + GROWTH_MIB_PER_HOUR * hours,
        ),
        Figure("descriptors more, second quarter to last", opened, at_most=0),
        Figure("round trip p99.9, first third", early, "ms"),
        Figure("round trip p99.9, last third", late, "ms", at_most=allowed, at_least=0),
        Figure(
            "pings lost that no fault was near",
            100 * lost / (quiet + lost) if quiet + lost else None,
            "%",
            at_most=LOST_PERCENT,
        ),
        *(Figure(f"engines: {name}", count) for name, count in sorted(book.recovered.items())),
    ]


def minute_line(book: Book, now: float) -> str:
    """What is told each minute."""
    recent = [each for each in book.faults if each.over > now - 60]
    took = [each.took for each in recent]
    slow = "-" if not took or None in took else f"{max(each or 0.0 for each in took):.2f} s"
    last = [samples[-1] for samples in book.samples.values() if samples]
    resident = "-".join(f"{each(one.resident_mib for one in last):.1f}" for each in (min, max))
    descriptors = "-".join(str(each(one.descriptors for one in last)) for each in (min, max))
    spans = near(book.faults)
    times = [took for at, took in book.answered if at > now - 60 and is_quiet(at, spans)]
    found = percentile(times, 99.9)
    round_trip = "-" if found is None else f"{found * 1000:.2f} ms"
    return (
        f"{now / 60:5.1f} min  {len(recent):3} faults, flows again after {slow} at most  "
        f"p99.9 {round_trip}  memory {resident} MiB  descriptors {descriptors}  "
        f"wrong {len(book.wrong)}"
    )


def recovered(shown: Iterable[Mapping[str, Any]]) -> dict[str, int]:
    """What all engines say that they noticed and did."""
    sums: dict[str, int] = {}
    for each in shown:
        for name, count in each["recovery"].items():
            sums[name] = sums.get(name, 0) + count
    return sums
