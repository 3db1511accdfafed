"""One colour for each contestant throughout, by the class of the style sheet. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from .load import is_ours
from .svg import Series

# Classes that are always somebody's; the others are given away in order.
BARE = "bare underlay"
FIXED = {BARE: "c-bare", "vxlan": "c2", "fastd": "c3", "vpncloud": "c4", "wireguard": "c5"}
OURS = ("c0", "c1")
SPARE = ("c6", "c7", "c8", "c9")


class Colours:
    """Which class each contestant has."""

    def __init__(self, contestants: Sequence[str]) -> None:
        self.styles: dict[str, str] = {}
        ours, spare = list(OURS), list(SPARE)
        for name in contestants:
            pool = ours if is_ours(name) else spare
            if name in FIXED:
                self.styles[name] = FIXED[name]
            else:
                # More than there are colours share the last one; names tell them apart.
                self.styles[name] = pool.pop(0) if len(pool) > 1 else pool[0]

    def of(self, contestant: str) -> str:
        """Its class."""
        return self.styles.get(contestant, SPARE[-1])

    def series(self, contestant: str) -> Series:
        """The same with its name."""
        return Series(contestant, self.of(contestant))
