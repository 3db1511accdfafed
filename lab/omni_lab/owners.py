"""Who had which address, as Nuclei told it; and what must be true of that. Pure."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple


class Place(NamedTuple):
    """What has one owner at most."""

    vlan: int
    # An IP address; a MAC address where a host is known by nothing else.
    address: str


@dataclass(frozen=True)
class Holding:
    """An owner of an address, from a revision of the store on."""

    revision: int
    owner: str
    mac: str
    sequence: int
    withdrawn: bool


# What one Nucleus told, in the order in which it did.
History = Sequence[tuple[Place, Holding]]


def parse(line: str) -> dict[str, Any] | None:
    """A line of `omni nucleus watch --json`. None for one that broke off."""
    try:
        change = json.loads(line)
    except json.JSONDecodeError:
        return None
    return change if isinstance(change, dict) and "kind" in change else None


def holding(change: Mapping[str, Any]) -> tuple[Place, Holding] | None:
    """What a change says of an address, None when it is about something else."""
    if change["kind"] != "binding":
        return None
    place = Place(change["vlan"], change["ip"] or change["mac"])
    names = ("revision", "owner", "mac", "sequence", "withdrawn")
    return place, Holding(**{name: change[name] for name in names})


def violations(histories: Mapping[str, History]) -> list[str]:
    """What is wrong with what several Nuclei of one store told.

    - Each tells of an address in the order of the store's revisions.
    - At one revision an address has one owner, whoever is asked.
    - Another owner, or another word of the same one, has a greater sequence.
    """
    found = []
    merged: dict[Place, dict[int, Holding]] = {}
    for teller, history in histories.items():
        newest: dict[Place, int] = {}
        for place, held in history:
            if held.revision < newest.get(place, 0):
                found.append(f"{teller} went back in revisions: {place} {held}")
            newest[place] = held.revision
            other = merged.setdefault(place, {}).setdefault(held.revision, held)
            if other != held:
                found.append(f"two owners at one revision: {place} {other} and {held}")
    for place, revisions in merged.items():
        chain = [revisions[revision] for revision in sorted(revisions)]
        for before, after in zip(chain, chain[1:]):
            if after.sequence <= before.sequence:
                found.append(f"not a greater sequence: {place} {before}, then {after}")
    return found


def changes_of_owner(history: History) -> int:
    """How often an address went from one owner to another, as one Nucleus told it."""
    owners: dict[Place, str] = {}
    count = 0
    for place, held in history:
        if held.withdrawn:
            continue
        before = owners.get(place, held.owner)
        count += before != held.owner
        owners[place] = held.owner
    return count
