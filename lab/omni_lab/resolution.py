"""ARP as hosts speak it, how long answers took, and one table of what came out.
Pure: no process is started and no socket is opened in here.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

BROADCAST = b"\xff" * 6
ETHERTYPE_ARP = 0x0806
REQUEST, REPLY = 1, 2
# Ethernet header, and RFC 826 for Ethernet and IPv4.
ETHERNET = struct.Struct(">6s6sH")
MESSAGE = struct.Struct(">HHBBH6s4s6s4s")
# The shortest Ethernet frame, without its check sequence.
FRAME_MIN = 60
# Bounds of the histogram, in microseconds: each twice the one before.
BOUNDS_US = tuple(16 << shift for shift in range(16))


class Answer(NamedTuple):
    """Who answered whom."""

    address: bytes
    mac: bytes
    asker: bytes


def request(mac: bytes, address: bytes, target: bytes) -> bytes:
    """A frame that asks everybody for `target`. For the asker's own address it announces it."""
    message = MESSAGE.pack(1, 0x0800, 6, 4, REQUEST, mac, address, bytes(6), target)
    frame = ETHERNET.pack(BROADCAST, mac, ETHERTYPE_ARP) + message
    return frame.ljust(FRAME_MIN, b"\0")


def parse_answer(frame: bytes) -> Answer | None:
    """What a frame answers, None when it is no ARP reply."""
    if len(frame) < ETHERNET.size + MESSAGE.size:
        return None
    _, _, ethertype = ETHERNET.unpack_from(frame)
    hardware, protocol, *lengths, operation, mac, address, asker, _ = MESSAGE.unpack_from(
        frame, ETHERNET.size
    )
    expected = (ETHERTYPE_ARP, 1, 0x0800, [6, 4], REPLY)
    if (ethertype, hardware, protocol, lengths, operation) != expected:
        return None
    return Answer(address, mac, asker)


@dataclass(frozen=True)
class Round:
    """All hosts' questions, asked at once, and what came of them."""

    asked: int
    # Of first answers, in microseconds.
    latencies_us: tuple[float, ...]
    # Answers with another MAC address than the host's.
    wrong: int
    # Frames that the nodes sealed for each other meanwhile: all of them ARP.
    fabric_frames: int


@dataclass(frozen=True)
class Figures:
    """Rounds of one kind as one."""

    asked: int
    latencies_us: tuple[float, ...]
    wrong: int
    fabric_frames: int

    @classmethod
    def of(cls, rounds: Sequence[Round]) -> Figures:
        """Of at least one round."""
        latencies = sorted(latency for each in rounds for latency in each.latencies_us)
        return cls(
            sum(each.asked for each in rounds),
            tuple(latencies),
            sum(each.wrong for each in rounds),
            sum(each.fabric_frames for each in rounds),
        )

    def percentile(self, percent: float) -> float | None:
        """The time within which so many of all questions were answered, None when they were not.
        What was not answered at all counts as the slowest.
        """
        rank = max(-(-self.asked * percent // 100), 1)
        times = self.latencies_us
        return times[int(rank) - 1] if rank <= len(times) else None

    def histogram(self) -> list[int]:
        """How many answers took up to each of the bounds, and, last, more than all of them."""
        counts = [0] * (len(BOUNDS_US) + 1)
        for latency in self.latencies_us:
            at = next((at for at, most in enumerate(BOUNDS_US) if latency <= most), -1)
            counts[at] += 1
        return counts

    def report(self) -> dict[str, object]:
        """What is kept of it."""
        return {
            "asked": self.asked,
            "answered": len(self.latencies_us),
            "wrong": self.wrong,
            "fabric_frames": self.fabric_frames,
            "p50_us": self.percentile(50),
            "p99_us": self.percentile(99),
            "max_us": self.percentile(100),
            "histogram": {"up_to_us": list(BOUNDS_US), "counts": self.histogram()},
        }


HEADINGS = (
    ("questions", 30),
    ("asked", 8),
    ("answered", 10),
    ("p50", 10),
    ("p99", 10),
    ("max", 10),
    ("ARP on the fabric", 17),
)


def table(measured: dict[str, Figures]) -> list[str]:
    """A line for each kind, and the histograms of all below."""
    lines = ["".join(f"{name:<{width}}" for name, width in HEADINGS).rstrip()]
    for kind, figures in measured.items():
        times = (duration(figures.percentile(percent)) for percent in (50, 99, 100))
        cells = [kind, str(figures.asked), str(len(figures.latencies_us)), *times]
        cells.append(str(figures.fabric_frames))
        padded = (f"{cell:<{width}}" for cell, (_, width) in zip(cells, HEADINGS))
        lines.append("".join(padded).rstrip())
    lines += ["", *histograms(measured)]
    return lines


def histograms(measured: dict[str, Figures]) -> list[str]:
    """The share of answers that took so long, side by side; only rows in which there are any."""
    counts = {kind: figures.histogram() for kind, figures in measured.items()}
    lines = [f"{'up to':<10}" + "".join(f"{kind:>30}" for kind in counts)]
    for at in range(len(BOUNDS_US) + 1):
        row = [column[at] for column in counts.values()]
        if not any(row):
            continue
        bound = duration(BOUNDS_US[at]) if at < len(BOUNDS_US) else "more"
        shares = (
            f"{100 * count / sum(column):.1f} %" if count else ""
            for count, column in zip(row, counts.values())
        )
        lines.append(f"{bound:<10}" + "".join(f"{share:>30}" for share in shares))
    return lines


def duration(microseconds: float | None) -> str:
    """A time, or a dash for one that did not come."""
    if microseconds is None:
        return "-"
    if microseconds < 1000:
        return f"{microseconds:.0f} us"
    return f"{microseconds / 1000:.1f} ms"


def misses(warm: Figures, cold: Figures) -> list[str]:
    """What is not as it should be: `warm` with answers known and given near by, `cold` without."""
    found = []
    if warm.fabric_frames:
        found.append(f"{warm.fabric_frames} ARP frames crossed the fabric though all was known")
    for kind, figures in (("warm", warm), ("off", cold)):
        lost = figures.asked - len(figures.latencies_us)
        if lost:
            found.append(f"{kind}: {lost} of {figures.asked} questions were not answered")
        if figures.wrong:
            found.append(f"{kind}: {figures.wrong} answers were wrong")
    for percent in (50, 99):
        near, far = warm.percentile(percent), cold.percentile(percent)
        if near is not None and far is not None and near >= far:
            found.append(f"p{percent}: {duration(near)} warm is not less than {duration(far)}")
    return found


def with_switch(config: str, suppression: str) -> str:
    """A fabric.yaml without limits of broadcasts, and with suppression on or off: what is measured
    is what the switch does, not what keeps hosts from flooding it.
    """
    lines = []
    for line in config.splitlines():
        lines.append(line)
        if line.startswith(("  - interface:", "  - name:")):
            lines.append("    bum_pps: off")
    lines += ["switch:", f"  suppression: {suppression}"]
    return "\n".join(lines) + "\n"
