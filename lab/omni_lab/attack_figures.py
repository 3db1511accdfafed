"""Figures of a node under attack: what is sent, what must hold, and one table of what came out.
Pure: no process is started and no file is read in here.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from statistics import median
from typing import Any

# A network for benchmarks (RFC 2544): nobody's, so a fit source of spoofed packets.
SPOOFED = "198.18.0.0/15"
HANDSHAKE_RATE = 100_000
DATA_RATE = 200_000
# The port of the discard service (RFC 863), which is closed: its flood is the control.
CLOSED_PORT = 9

GOODPUT_LOSS_HANDSHAKE = 0.05
GOODPUT_LOSS_DATA = 0.10
GOODPUT_LOSS_PEER = 0.05
RSS_GROWTH_MAX_BYTES = 16 << 20
CONNECT_P99_MAX_MS = 5000.0


@dataclass(frozen=True)
class Attack:
    """A kind of flood."""

    # As `omni-perf flood --kind` has it.
    message: str
    is_data: bool
    # Whether packets claim to come from anywhere, or all from the attacker's own endpoint.
    is_spoofed: bool = True
    # Whether they claim to come from the peer itself, as who sees the wire can do.
    poses_as_peer: bool = False
    # Whether they come from a peer that the node knows, sealed in a session of its own: then
    # `message` is one of `omni-perf hostile --kind`.
    is_peer: bool = False

    @property
    def loss_max(self) -> float:
        """The share of goodput that may be lost, against the control."""
        if self.is_peer:
            return GOODPUT_LOSS_PEER
        return GOODPUT_LOSS_DATA if self.is_data else GOODPUT_LOSS_HANDSHAKE


ATTACKS = {
    "junk": Attack("junk", is_data=False),
    "bad-mac": Attack("bad-mac", is_data=False),
    "valid-mac": Attack("valid-mac", is_data=False),
    "one-source": Attack("valid-mac", is_data=False, is_spoofed=False),
    "replayed-initiations": Attack("recorded", is_data=False),
    "forged-data": Attack("forged-data", is_data=True),
    "forged-as-peer": Attack("forged-data", is_data=True, poses_as_peer=True),
    "unknown-session": Attack("unknown-session", is_data=True),
    "replayed-data": Attack("recorded", is_data=True),
} | {
    f"peer-{kind}": Attack(kind, is_data=True, is_spoofed=False, is_peer=True)
    for kind in (
        "macs",
        "theft",
        "bindings",
        "broadcast",
        "vlans",
        "malformed",
        "claims",
        "records",
    )
}
# What the same packets are sent to: the fabric's port of the node; a closed port of the same host;
# another host, whose driver drops them.
REAL = "flood"
CLOSED = "closed"
DROPPED = "dropped"
CONTROLS = (CLOSED, DROPPED)


@dataclass(frozen=True)
class Connected:
    """How peers fared that connected meanwhile, as `omni-perf connect` says it."""

    connected_ms: tuple[float, ...] = ()
    failed: int = 0

    @classmethod
    def parse(cls, report: Mapping[str, Any]) -> Connected:
        """From its JSON."""
        return cls(tuple(map(float, report["connected_ms"])), int(report["failed"]))

    def percentile(self, percent: int) -> float | None:
        """The time that `percent` of all peers needed at most; None when they had no session by
        then. Peers that failed count as the slowest.
        """
        rank = max(-(-(len(self.connected_ms) + self.failed) * percent // 100), 1)
        times = sorted(self.connected_ms)
        return times[rank - 1] if rank <= len(times) else None


def joined(parts: Sequence[Connected]) -> Connected:
    """The peers of several rounds as one."""
    times = tuple(time for part in parts for time in part.connected_ms)
    return Connected(times, sum(part.failed for part in parts))


@dataclass(frozen=True)
class Round:
    """What one flood came to."""

    target: str
    # TCP through the fabric while it lasted.
    bits_per_second: float
    # What left the attacker.
    packets_per_second: float
    # Resident memory of the engine: before, and its most during the flood.
    rss_before_bytes: int
    rss_most_bytes: int
    # Frames that the node's peer verified beyond what the other side sent.
    delivered: int
    drops: dict[str, int] = field(default_factory=dict)
    # Processor time in seconds a second, by thread or as named.
    cores: dict[str, float] = field(default_factory=dict)
    # Of peers whose endpoint the node knows, and of those that it does not.
    known: Connected = Connected()
    unknown: Connected = Connected()

    @property
    def rss_growth_bytes(self) -> int:
        """How much more memory the engine had than before."""
        return max(self.rss_most_bytes - self.rss_before_bytes, 0)


@dataclass(frozen=True)
class Spread:
    """Median, least and greatest."""

    middle: float
    least: float
    most: float

    @classmethod
    def of(cls, values: Sequence[float]) -> Spread:
        """Of at least one value."""
        return cls(median(values), min(values), max(values))


def order(targets: Sequence[str], number: int) -> list[str]:
    """The targets of a round: each begins in its turn, and every other round runs backwards."""
    start = number // 2 % len(targets)
    turned = [*targets[start:], *targets[:start]]
    return turned[::-1] if number % 2 else turned


def ratios(rounds: Sequence[Mapping[str, Round]], control: str) -> Spread | None:
    """Goodput under attack against that under the control's flood, round by round."""
    values = [
        turn[REAL].bits_per_second / turn[control].bits_per_second
        for turn in rounds
        if control in turn and turn[control].bits_per_second > 0
    ]
    return Spread.of(values) if values else None


def real(rounds: Sequence[Mapping[str, Round]]) -> list[Round]:
    """The floods at the node itself."""
    return [turn[REAL] for turn in rounds]


def misses(attack: Attack, rounds: Sequence[Mapping[str, Round]]) -> list[str]:
    """The figures that are not met."""
    found = []
    for control in CONTROLS:
        ratio = ratios(rounds, control)
        if ratio is not None and ratio.middle < 1 - attack.loss_max:
            loss = f"{100 * (1 - ratio.middle):.1f} %"
            found.append(f"goodput {loss} under the control ({control})")
    growth = max(turn.rss_growth_bytes for turn in real(rounds))
    if growth > RSS_GROWTH_MAX_BYTES:
        found.append(f"memory grew by {growth / 2**20:.1f} MiB")
    for name, peers in connections(rounds).items():
        slowest = peers.percentile(99)
        if (peers.connected_ms or peers.failed) and (
            slowest is None or slowest > CONNECT_P99_MAX_MS
        ):
            found.append(f"{name} connect in {milliseconds(slowest)} (p99)")
    if any(turn.delivered > 0 for turn in real(rounds)):
        found.append("forged frames were delivered")
    return found


def connections(rounds: Sequence[Mapping[str, Round]]) -> dict[str, Connected]:
    """Peers of all rounds, by what the node knew of them."""
    return {
        "known peers": joined([turn.known for turn in real(rounds)]),
        "unknown peers": joined([turn.unknown for turn in real(rounds)]),
    }


def milliseconds(time: float | None) -> str:
    """A time, or a dash for one that did not come."""
    if time is None:
        return "-"
    return f"{time / 1000:.2f} s" if time >= 1000 else f"{time:.0f} ms"


HEADINGS = (
    ("kind", 21),
    ("kpps", 6),
    ("closed", 7),
    ("dropped", 8),
    ("flood", 7),
    ("/closed", 17),
    ("/dropped", 17),
    ("RSS", 7),
    ("known p50/p99", 18),
    ("unknown p50/p99", 18),
)


def table(measured: Mapping[str, Sequence[Mapping[str, Round]]]) -> list[str]:
    """All kinds, one line each; what was missed and dropped below."""
    lines = ["".join(f"{name:<{width}}" for name, width in HEADINGS).rstrip()]
    lines += [line(kind, rounds) for kind, rounds in measured.items()]
    for kind, rounds in measured.items():
        compared = any(control in turn for turn in rounds for control in CONTROLS)
        met = "all figures met" if compared else "met, but goodput was compared with nothing"
        missed = "; ".join(misses(ATTACKS[kind], rounds)) or met
        lines += ["", f"{kind}: {missed}", f"  dropped  {drops_text(rounds)}"]
        lines.append(f"  cores    {cores_text(rounds)}")
    return lines


def line(kind: str, rounds: Sequence[Mapping[str, Round]]) -> str:
    """A kind's row. Goodput in Gb/s, medians; ratios with least and greatest."""
    rate = median(turn.packets_per_second for turn in real(rounds)) / 1000
    cells = [kind, f"{rate:.0f}"]
    for target in (*CONTROLS, REAL):
        values = [turn[target].bits_per_second for turn in rounds if target in turn]
        cells.append(f"{median(values) / 1e9:.2f}" if values else "-")
    for control in CONTROLS:
        ratio = ratios(rounds, control)
        text = "-"
        if ratio is not None:
            text = f"{ratio.middle:.2f} [{ratio.least:.2f}-{ratio.most:.2f}]"
        cells.append(text)
    growth = max(turn.rss_growth_bytes for turn in real(rounds)) / 2**20
    cells.append(f"+{growth:.1f}M")
    for peers in connections(rounds).values():
        times = "/".join(milliseconds(peers.percentile(percent)) for percent in (50, 99))
        cells.append(times if peers.connected_ms or peers.failed else "-")
    padded = (f"{cell:<{width}}" for cell, (_, width) in zip(cells, HEADINGS))
    return "".join(padded).rstrip()


def drops_text(rounds: Sequence[Mapping[str, Round]]) -> str:
    """Drops of all floods at the node, by reason, most first."""
    total: dict[str, int] = {}
    for turn in real(rounds):
        for reason, count in turn.drops.items():
            total[reason] = total.get(reason, 0) + count
    ordered = sorted(total.items(), key=lambda item: (-item[1], item[0]))
    return ", ".join(f"{reason} {count:,}" for reason, count in ordered) or "none"


def cores_text(rounds: Sequence[Mapping[str, Round]]) -> str:
    """Who had how much of a core, under attack and, in brackets, under the first control."""
    control = next((c for c in CONTROLS if c in rounds[0]), REAL)
    parts = []
    for name in rounds[0][REAL].cores:
        there, here = (
            median(turn[target].cores.get(name, 0.0) for turn in rounds)
            for target in (control, REAL)
        )
        parts.append(f"{name} {here:.2f} ({there:.2f})")
    return ", ".join(parts)
