"""Whether what engines sent each other while nothing was broken has arrived. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from .. import drops
from ..drops import Looks, Shown


@dataclass(frozen=True)
class Account:
    """Frames of a time between two looks, at whose ends nothing was under way."""

    nodes: int
    sent: int
    # Never verified by the peer that they went to.
    lost: int
    # By all engines, for whatever reason.
    dropped: int

    @property
    def unexplained(self) -> int:
        """Frames that were lost, and that no engine counted as dropped."""
        return max(self.lost - self.dropped, 0)


def settle(before: Looks, after: Looks) -> Account:
    """Adds up what nodes counted between looks. Engines are asked one after the other: of what is
    sent meanwhile, only what the first look of the end saw has to have arrived by the second.
    """
    names = [
        name
        for name, shown in after[1].items()
        if name in after[0] and name in before[0] and not drops.is_younger(shown, before[0][name])
    ]
    sent = lost = 0
    for name in names:
        for other in names:
            went = count(after[0], name, other, "tx_frames") - count(
                before[0], name, other, "tx_frames"
            )
            came = count(after[1], other, name, "rx_frames") - count(
                before[0], other, name, "rx_frames"
            )
            sent += went
            lost += max(went - came, 0)
    dropped = sum(
        sum(drops.since(before[0][name], after[1][name])["drops"].values()) for name in names
    )
    return Account(len(names), sent, lost, dropped)


def count(shown: Mapping[str, Shown], name: str, peer: str, counter: str) -> int:
    """What a node counted of a peer; nothing of one that it does not know."""
    return int(drops.peer_of(shown[name], peer).get(counter, 0))
