"""What the reader sees: headings on the way, and one screen at the end."""

from __future__ import annotations

import sys
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from .capture import Tally
from .classify import Kind
from .traffic import Ping, Tcp, Udp

WIDTH = 100
SCREEN_LINES = 24
LABEL = 18
# A screen has no room for more; `omni show` has them all.
QUEUES_SHOWN = 4

# Reasons that say "too fast for this machine", not that something is wrong.
CAPACITY = frozenset(
    {
        "tx_ring_full",
        "no_free_frame",
        "rx_ring_full",
        "fill_ring_empty",
        "port_tx_dropped",
        "staged_overflow",
    }
)


# A node that is started before the others says something before it knows anybody.
ALONE = frozenset({"no_destination"})


@dataclass(frozen=True)
class NodeFigures:
    """What is told of a node at the end."""

    name: str
    drops: dict[str, int]
    # Before and after the load, as `omni show --json` has them.
    idle_queues: list[dict[str, Any]]
    queues: list[dict[str, Any]]
    umem: dict[str, int]


@dataclass(frozen=True)
class Figures:
    """All that was measured."""

    ping: Ping
    ping_full: Ping
    mtu: int
    ping_ipv6: Ping | None
    ping_vlan: Ping | None
    tcp_there: Tcp
    tcp_back: Tcp
    udp: Udp
    udp_rate: str
    wire: Tally
    nodes: tuple[NodeFigures, ...]
    cores: int
    problems: tuple[str, ...]


def heading(text: str) -> None:
    """Announces a step."""
    bold, plain = ("\x1b[1m", "\x1b[0m") if sys.stdout.isatty() else ("", "")
    print(f"\n{bold}== {text}{plain}", flush=True)


def duration(nanoseconds: float) -> str:
    """A duration with a unit that fits, to three digits."""
    if nanoseconds < 1_000:
        return f"{nanoseconds:.0f} ns"
    if nanoseconds < 1_000_000:
        return f"{digits(nanoseconds / 1e3)} us"
    return f"{digits(nanoseconds / 1e6)} ms"


def digits(value: float) -> str:
    """Three significant digits of a value from 1 up."""
    return f"{value:.{2 if value < 9.995 else 1 if value < 99.95 else 0}f}"


def drops_text(drops: dict[str, int]) -> str:
    """Drops by reason, most first."""
    ordered = sorted(drops.items(), key=lambda item: (-item[1], item[0]))
    return ", ".join(f"{reason} {count:,}" for reason, count in ordered) or "none"


def unexpected_drops(drops: dict[str, int]) -> dict[str, int]:
    """The drops that a healthy fabric has no reason for."""
    return {reason: count for reason, count in drops.items() if reason not in CAPACITY | ALONE}


def umem_adds_up(umem: dict[str, int]) -> bool:
    """Whether every frame of the packet memory is somewhere, and only once."""
    places = ("frames_free", "frames_receiving", "frames_sending", "frames_held")
    return umem["frames_total"] > 0 and sum(umem[p] for p in places) == umem["frames_total"]


def rtt_text(ping: Ping) -> str:
    """Counts and times of a ping."""
    text = f"{ping.received} of {ping.sent} answered"
    if ping.rtt is None:
        return text
    low, mean, high = (duration(ms * 1e6) for ms in ping.rtt)
    return f"{text}, round trip at least {low}, mean {mean}, at most {high}"


def udp_text(udp: Udp) -> str:
    """What was lost of UDP, and where."""
    text = f"{udp.lost:,} of {udp.packets:,} datagrams lost ({udp.lost_percent:.2f} %)"
    if udp.overflowed:
        text += f", {udp.overflowed:,} of them in iperf3's full socket"
    return text


def wire_text(wire: Tally) -> str:
    """What the capture came to."""
    kinds = {
        "data": (Kind.DATA,),
        "handshake": (Kind.INITIATION, Kind.RESPONSE, Kind.COOKIE),
        "control": (Kind.CONTROL, Kind.KEEPALIVE),
        "Nucleus": (Kind.RENDEZVOUS,),
    }
    counted = [(name, sum(map(wire.count, those))) for name, those in kinds.items()]
    total = sum(count for _, count in counted)
    listed = ", ".join(f"{count:,} {name}" for name, count in counted if count)
    return f"{total:,} messages: {listed}"


def search_text(wire: Tally) -> str:
    """How far the capture looked, and what it found."""
    headers = f"{wire.missed:,} frames missed" if wire.missed else "every header checked"
    return f"{headers}, {wire.searched:,} read whole; plaintext in {wire.leaks:,}"


def summary(figures: Figures) -> list[str]:
    """The last screen: at most 24 lines of 100 columns."""
    lines = opening(figures)
    lines += rows(figures)
    lines += closing(figures)
    return lines[:SCREEN_LINES]


def opening(figures: Figures) -> list[str]:
    *first, last = (node.name for node in figures.nodes)
    names = f"{', '.join(first)} and {last}"
    text = f"The hosts {names} exchanged Ethernet frames by omni0 as if on one switch. "
    if figures.problems:
        text += "Not all was as it should be: the end says what, and the lines before give details."
    else:
        text += (
            "They knew none of each other: a Nucleus told them, which they trust with nothing. "
            "Between them was only encrypted UDP: omni-engine on each took it off the wire by "
            "XDP, and opened or sealed every frame (ChaCha20-Poly1305, keys by Noise IK)."
        )
    title = "== What you just saw "
    return [title + "=" * (WIDTH - len(title)), *textwrap.wrap(text, WIDTH)]


def rows(figures: Figures) -> list[str]:
    wire = figures.wire
    more = [
        f"{label} {ping.received} of {ping.sent}"
        for label, ping in (("IPv6", figures.ping_ipv6), ("VLAN-tagged", figures.ping_vlan))
        if ping is not None
    ]
    full = f"{figures.mtu} octets, not fragmented: {figures.ping_full.received} of "
    full += f"{figures.ping_full.sent}" + "".join(f"; {text}" for text in more)
    there, back = (t.bits_per_second / 1e9 for t in (figures.tcp_there, figures.tcp_back))
    a, b = figures.nodes[0].name, figures.nodes[1].name
    held = " + ".join(f"{node.umem['frames_total']:,}" for node in figures.nodes)
    table = [
        ("ping", rtt_text(figures.ping)),
        ("largest packet", full),
        ("TCP, one stream", f"{a} to {b} {there:.2f} Gb/s, {b} to {a} {back:.2f} Gb/s"),
        (f"UDP at {figures.udp_rate}", udp_text(figures.udp)),
        ("on the wire", wire_text(wire)),
        ("", search_text(wire)),
    ]
    table += latency_rows(figures.nodes)
    table.append(("dropped", "; ".join(f"{n.name}: {drops_text(n.drops)}" for n in figures.nodes)))
    table.append(("packet memory", f"{held} frames, all accounted for"))
    if not all(umem_adds_up(node.umem) for node in figures.nodes):
        table[-1] = ("packet memory", f"{held} frames, NOT all accounted for")
    return [row(label, text) for label, text in table]


def row(label: str, text: str) -> str:
    """A labelled line, cut to the screen."""
    line = f"  {label:<{LABEL}}{text}"
    return line if len(line) <= WIDTH else line[: WIDTH - 2] + ".."


def latency_rows(nodes: Sequence[NodeFigures]) -> list[tuple[str, str]]:
    """One row for each queue: from the driver of one port to the ring of the other."""
    found = []
    for node in nodes:
        for idle, queue in zip(node.idle_queues, node.queues):
            before, after = idle["latency_ns"], queue["latency_ns"]
            where = f"{node.name} {queue['port']} queue {queue['queue']}"
            times = f"idle p50 {duration(before['p50']):>7}; under load p50 "
            times += f"{duration(after['p50']):>7}, p99 {duration(after['p99']):>7}"
            found.append(f"{where:<24}{times}")
    labels = ["latency by queue"] + [""] * len(found)
    return list(zip(labels, found[:QUEUES_SHOWN]))


def closing(figures: Figures) -> list[str]:
    caveat = (
        f"Engines, iperf3 and the capture shared {figures.cores} cores and veth pairs, where "
        "each frame is copied; a network card spares that."
    )
    lines = textwrap.wrap(caveat, WIDTH)
    if figures.problems:
        count = len(figures.problems)
        lines.append(f"FAILED: {count} thing{'s' * (count != 1)} went wrong:")
        lines += [row("", problem) for problem in figures.problems[:3]]
        return lines
    lines.append("All programs were stopped: exit status 0, and nothing is left behind.")
    lines.append("Next: README.md, quick start: the same between two hosts of yours.")
    lines.append(
        "      config/KEYS.md: every key of fabric.yaml. omni --help: the operator's tool."
    )
    return lines
