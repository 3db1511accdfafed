"""What the fabric is to reach beside others, and whether it does. Pure: it reads results.

A target whose contestants did not take part is left out, and the report says that it was not
checked. Ratios are medians of the rounds' ratios.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from .compare_contestants import Kind
from .compare_pair import Wire
from .compare_stats import Results
from .figures import Figure

VXLAN = "vxlan"
# The newest wireguard-go, which passes super-frames; and what a distribution may have.
NEWEST_WIREGUARD = "wireguard-go-newest"
WHOLE, CUT, CUT_GRO = (wire.value for wire in Wire)

# Of omni's drivers on a wire: TCP of one stream against plaintext VXLAN on a cut wire.
TCP_AGAINST_VXLAN = (
    ("omni tap+udp", WHOLE, 1.2),
    ("omni tap+udp", CUT_GRO, 0.85),
    ("omni tap+afxdp", CUT, 0.65),
    ("omni xdp+afxdp", CUT, 0.4),
)
TCP_AGAINST_LAYER2 = 7.0
TCP_AGAINST_WIREGUARD = 2.2
CPU_AGAINST_LAYER2 = 1 / 6
LOSSLESS_AGAINST_VXLAN = 1.1
LOSSLESS_AGAINST_LAYER2 = 2.5
IDLE_ABOVE_VXLAN_US = 5.0
IDLE_AGAINST_LAYER2 = 1.0
LOADED_AGAINST_LAYER2 = 0.25
ADAPTIVE_AGAINST_SPIN = 0.9
SPIN, ADAPTIVE = "/spin", "/adaptive"


@dataclass(frozen=True)
class Field:
    """Who took part, and what they came to."""

    results: Results
    kinds: Mapping[str, Kind]

    def of(self, *kinds: Kind) -> list[str]:
        """The contestants of some kinds."""
        return [name for name, kind in self.kinds.items() if kind in kinds]

    def best(self, kind: Kind, wire: str, metric: str, least: bool = False) -> str | None:
        """The best of a kind on a wire."""
        return self.results.best(self.of(kind), wire, metric, least)

    def ratio(
        self, one: str | None, other: str | None, wires: tuple[str, str], metric: str
    ) -> float | None:
        """One over the other, each on its wire; None where either was not measured."""
        if one is None or other is None:
            return None
        found = self.results.ratio((one, wires[0]), (other, wires[1]), metric)
        return found.median if found else None


def check(results: Results, kinds: Mapping[str, Kind]) -> tuple[list[Figure], list[str]]:
    """Targets with what was measured, and those that could not be checked."""
    field = Field(results, kinds)
    parts: Sequence[Callable[[Field], list[Figure]]] = (
        throughput,
        processor_time,
        datagrams,
        round_trips,
        polling,
        losses,
    )
    found = [figure for part in parts for figure in part(field)]
    measured = [figure for figure in found if figure.measured is not None]
    return measured, [figure.name for figure in found if figure.measured is None]


def throughput(field: Field) -> list[Figure]:
    """TCP of one stream."""
    found = []
    for drivers, wire, target in TCP_AGAINST_VXLAN:
        # However its workers wait: the best of these drivers counts.
        modes = [name for name in field.of(Kind.OMNI) if name.split("/")[0] == drivers]
        name = field.results.best(modes, wire, "tcp") or drivers
        value = field.ratio(name, VXLAN, (wire, CUT), "tcp")
        title = f"TCP, {name} on wire {wire} / {VXLAN} on wire {CUT}"
        found.append(Figure(title, value, at_least=target))
    ours = field.best(Kind.OMNI, WHOLE, "tcp")
    peer = field.best(Kind.LAYER2, WHOLE, "tcp")
    found.append(against("TCP", ours, peer, field, "tcp", at_least=TCP_AGAINST_LAYER2))
    parts = field.best(Kind.PARTS, WHOLE, "tcp")
    if parts:
        # Told without a target: it is not one program, and nobody's layer 2.
        found.append(against("TCP", ours, parts, field, "tcp"))
    newest = NEWEST_WIREGUARD if NEWEST_WIREGUARD in field.kinds else None
    found.append(against("TCP", ours, newest, field, "tcp", at_least=TCP_AGAINST_WIREGUARD))
    return found


def against(
    what: str,
    ours: str | None,
    theirs: str | None,
    field: Field,
    metric: str,
    *,
    wire: str = WHOLE,
    at_least: float | None = None,
    at_most: float | None = None,
) -> Figure:
    """A ratio of two contestants on one wire, as a figure with a target."""
    title = f"{what}, {ours or 'omni'} / {theirs or 'a peer that took no part'}, wire {wire}"
    value = field.ratio(ours, theirs, (wire, wire), metric)
    return Figure(title, value, at_least=at_least, at_most=at_most)


def processor_time(field: Field) -> list[Figure]:
    """Processor time per GB: all of the machine's, and what can be traced."""
    found = []
    for what, metric in (("machine", "cpu"), ("traced", "traced_cpu")):
        ours = field.best(Kind.OMNI, WHOLE, metric, least=True)
        peer = field.best(Kind.LAYER2, WHOLE, metric, least=True)
        title = f"CPU per GB ({what})"
        found.append(against(title, ours, peer, field, metric, at_most=CPU_AGAINST_LAYER2))
    return found


def datagrams(field: Field) -> list[Figure]:
    """Small datagrams without loss, on a wire where every packet crosses by itself."""
    ours = field.best(Kind.OMNI, CUT, "lossless")
    peer = field.best(Kind.LAYER2, CUT, "lossless")
    what, metric = "64 octets without loss", "lossless"
    vxlan = VXLAN if VXLAN in field.kinds else None
    plain = against(what, ours, vxlan, field, metric, wire=CUT, at_least=LOSSLESS_AGAINST_VXLAN)
    sealed = against(what, ours, peer, field, metric, wire=CUT, at_least=LOSSLESS_AGAINST_LAYER2)
    return [plain, sealed]


def round_trips(field: Field) -> list[Figure]:
    """Idle in each mode, and the tail under load."""
    found = []
    ours = field.of(Kind.OMNI)
    # Whoever waits by spinning for a short while: without a word on it, that is the default.
    short = [name for name in ours if "/" not in name or ADAPTIVE in name]
    median = field.results.median
    best = field.results.best(short, CUT, "idle_p50", least=True)
    plain = median(VXLAN, CUT, "idle_p50")
    value = median(best, CUT, "idle_p50") if best else None
    excess = value - plain if value is not None and plain is not None else None
    title = f"idle round trip p50, {best or 'omni'} - {VXLAN}, wire {CUT}"
    found.append(Figure(title, excess, "us", at_most=IDLE_ABOVE_VXLAN_US))
    peer = field.best(Kind.LAYER2, CUT, "idle_p50", least=True)
    metric, what = "idle_p50", "idle round trip p50"
    for name in ours:
        found.append(
            against(what, name, peer, field, metric, wire=CUT, at_most=IDLE_AGAINST_LAYER2)
        )
    peer = field.best(Kind.LAYER2, CUT, "loaded_p99", least=True)
    best = field.best(Kind.OMNI, CUT, "loaded_p99", least=True)
    metric, what = "loaded_p99", "round trip p99 under TCP"
    found.append(against(what, best, peer, field, metric, wire=CUT, at_most=LOADED_AGAINST_LAYER2))
    return found


def polling(field: Field) -> list[Figure]:
    """Adaptive polling beside spinning, for all drivers that were measured in both."""
    found = []
    for spinning in field.of(Kind.OMNI):
        # Adaptive is the default: a name may say so, or leave it out.
        for name in (spinning.replace(SPIN, ""), spinning.replace(SPIN, ADAPTIVE)):
            if SPIN in spinning and name in field.kinds:
                for wire in (WHOLE, CUT, CUT_GRO):
                    value = field.ratio(name, spinning, (wire, wire), "tcp")
                    title = f"TCP, {name} / spinning, wire {wire}"
                    found.append(Figure(title, value, at_least=ADAPTIVE_AGAINST_SPIN))
    return found


def losses(field: Field) -> list[Figure]:
    """Nothing is lost that is not counted. Of rounds the worst counts."""
    found = []
    for name in field.of(Kind.OMNI):
        for wire in (WHOLE, CUT, CUT_GRO):
            spread = field.results.spread(name, wire, "lost_unexplained")
            value = spread.greatest if spread else None
            title = f"datagrams lost and not counted, {name}, wire {wire}"
            found.append(Figure(title, value, at_most=0))
    return found
