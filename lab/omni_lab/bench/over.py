"""What is measured over: our own fabric, the bare underlay, or what `lab baseline` set up."""

from __future__ import annotations

import argparse
from dataclasses import dataclass

from ..netns import Namespace
from . import disclosure
from .arguments import whole
from .state import LabError, Space, State

OMNI, BARE = "omni", "bare"
BARE_NAME = "bare underlay"


@dataclass(frozen=True)
class Over:
    """A contestant, and where it reaches each of its hosts."""

    # As results have it.
    contestant: str
    hosts: dict[str, Space]
    addresses: dict[str, str]
    is_omni: bool = False

    @property
    def names(self) -> list[str]:
        """Its hosts, in order."""
        return list(self.addresses)

    def namespace(self, name: str) -> Namespace:
        """Of one of its hosts."""
        return self.hosts[name].netns()


def add_argument(parser: argparse.ArgumentParser, most: int | None = None) -> None:
    """Over what, and on how many hosts."""
    text = "omni, bare, or a contestant of `lab baseline` (omni)"
    parser.add_argument("--over", default=OMNI, metavar="CONTESTANT", help=text)
    text = "only the first so many nodes " + (f"({most})" if most else "(all)")
    parser.add_argument("--nodes", type=whole(2, 1000), default=most, metavar="N", help=text)


def find(lab: State, options: argparse.Namespace) -> Over:
    """What the command line names. Raises LabError when it is not there."""
    hosts = {node.name: node for node in lab.nodes}
    if options.over == OMNI:
        name, addresses = (
            disclosure.contestant_of(lab),
            {n: str(h.overlay) for n, h in hosts.items()},
        )
    elif options.over == BARE:
        name, addresses = BARE_NAME, {n: str(h.underlay) for n, h in hosts.items()}
    else:
        found = lab.contestant(options.over)
        name, addresses = found.name, dict(found.addresses)
    chosen = list(addresses)[: options.nodes]
    if len(chosen) < 2:
        raise LabError(f"{name} joins {len(chosen)} host: a measurement needs two")
    return Over(
        name,
        {each: hosts[each] for each in chosen},
        {each: addresses[each] for each in chosen},
        options.over == OMNI,
    )
