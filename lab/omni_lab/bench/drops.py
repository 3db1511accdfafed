"""`lab drops`: what engines dropped and why, and whether what they sent has arrived."""

from __future__ import annotations

import argparse
import contextlib
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from ..figures import Figure, kept, table
from ..interrupt import catch_signals
from ..report import unexpected_drops
from . import disclosure, members, runs, state
from .arguments import add_name
from .over import Over
from .state import State

# Frames under way when the first engine is asked have arrived when the last one is.
SETTLE_SECONDS = 0.3

# Engines of a lab start within this of each other.
START_SPREAD_SECONDS = 60
COUNTED = ("sent", "verified", "sent_until_end", "verified_at_first")

Shown = Mapping[str, Any]
# All nodes by name, one after the other, and then all again.
Looks = tuple[Mapping[str, Shown], Mapping[str, Shown]]
NOTHING: Looks = ({}, {})


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command line."""
    add_name(parser)


def look(lab: State) -> dict[str, Shown]:
    """What each engine shows; those that do not answer are left out."""
    shown = {node.name: members.show(node) for node in lab.nodes}
    return {name: each for name, each in shown.items() if each is not None}


def ports(shown: Shown) -> dict[str, dict[str, int]]:
    """Frames in and out of every port, all queues together."""
    found: dict[str, dict[str, int]] = {}
    for queue in shown["queues"]:
        port = found.setdefault(queue["port"], {"rx_frames": 0, "tx_frames": 0})
        for counter in port:
            port[counter] += queue[counter]
    return found


def since(before: Shown | None, after: Shown) -> dict[str, Any]:
    """What was counted between two looks; all of it where the engine was not there before, or has
    started anew.
    """
    if is_younger(after, before):
        before = None
    drops: Counter[str] = Counter(after["drops"])
    now = ports(after)
    if before is not None:
        drops.subtract(before["drops"])
        earlier = ports(before)
        for name, counters in now.items():
            for counter in counters:
                counters[counter] -= earlier.get(name, {}).get(counter, 0)
    return {
        "drops": {reason: count for reason, count in sorted(drops.items()) if count},
        "ports": now,
    }


def between(before: Looks, after: Looks) -> dict[str, dict[str, int]]:
    """Of each pair of nodes: frames that one sent and the other verified meanwhile.

    Engines are asked one after the other, and hosts speak meanwhile. So all are asked twice, at the
    beginning and at the end. `sent` is what was sent for certain: from when the node was asked for
    the second time until it was asked for the third, and `verified` all that may have arrived of
    that: from the first time until the fourth. `sent_until_end` and `verified_at_first` are the
    other way round: of those, none can be verified that was not sent.
    """
    found: dict[str, dict[str, int]] = {}
    again = restarted(after[0]) | {
        name for name, shown in after[0].items() if is_younger(shown, before[0].get(name))
    }
    names = [name for name in after[0] if name in after[1] and name not in again]
    for name in names:
        bases = [look.get(name) for look in before]
        first, last = after[0][name], after[1][name]
        for peer in last["peers"]:
            other = peer["name"]
            if other not in names:
                continue
            early, (oldest, old) = peer_of(first, other), (peer_of(base, other) for base in bases)
            there = found.setdefault(f"{name} {other}", dict.fromkeys(COUNTED, 0))
            back = found.setdefault(f"{other} {name}", dict.fromkeys(COUNTED, 0))
            there["sent"] = early.get("tx_frames", 0) - old.get("tx_frames", 0)
            there["sent_until_end"] = peer["tx_frames"] - oldest.get("tx_frames", 0)
            back["verified"] = peer["rx_frames"] - oldest.get("rx_frames", 0)
            back["verified_at_first"] = early.get("rx_frames", 0) - old.get("rx_frames", 0)
    return found


def restarted(shown: Mapping[str, Shown]) -> set[str]:
    """Nodes that started long after others: those have counted with an engine that is gone."""
    uptimes = {name: each["node"]["uptime_seconds"] for name, each in shown.items()}
    oldest = max(uptimes.values(), default=0)
    return {name for name, uptime in uptimes.items() if uptime < oldest - START_SPREAD_SECONDS}


def is_younger(after: Shown, before: Shown | None) -> bool:
    """Whether an engine started anew between two looks."""
    if before is None:
        return False
    return bool(after["node"]["uptime_seconds"] < before["node"]["uptime_seconds"])


def peer_of(shown: Shown | None, name: str) -> Mapping[str, Any]:
    """What a node shows of one of its peers."""
    peers = [] if shown is None else shown["peers"]
    return next((peer for peer in peers if peer["name"] == name), {})


def reconcile(before: Looks, after: Looks) -> dict[str, Any]:
    """What nodes dropped, what went in and out of their ports, and what was lost on the way."""
    pairs = between(before, after)
    sent, verified = (sum(pair[key] for pair in pairs.values()) for key in ("sent", "verified"))
    lost = {name: max(each["sent"] - each["verified"], 0) for name, each in pairs.items()}
    never_sent = {
        name: max(each["verified_at_first"] - each["sent_until_end"], 0)
        for name, each in pairs.items()
    }
    return {
        "nodes": [
            {"name": name, **since(before[0].get(name), shown)} for name, shown in after[1].items()
        ],
        "pairs": len(pairs),
        "frames_sent": sent,
        "frames_verified": verified,
        "frames_lost": sum(lost.values()),
        "frames_never_sent": sum(never_sent.values()),
        "pairs_with_losses": {name: count for name, count in sorted(lost.items()) if count},
        "pairs_with_frames_never_sent": {
            name: count for name, count in sorted(never_sent.items()) if count
        },
    }


def figures(lab: State, report: Mapping[str, Any]) -> list[Figure]:
    """What is to be held to its target."""
    drops: Counter[str] = Counter()
    for node in report["nodes"]:
        drops.update(node["drops"])
    bad = unexpected_drops(dict(drops))
    for reason, count in sorted(drops.items(), key=lambda item: -item[1]):
        print(f"  {reason}: {count:,}{'' if reason in bad else ' (normal)'}")
    sent, lost = report["frames_sent"], report["frames_lost"]
    return [
        Figure("engines that answer", len(report["nodes"]), at_least=len(lab.nodes)),
        Figure("frames sent to peers", sent),
        Figure("of them not verified by the peer", lost),
        Figure("verified that nobody sent", report["frames_never_sent"], at_most=0),
        Figure("lost on the way", 100 * lost / sent if sent else 0.0, "%"),
        Figure("dropped by engines", sum(drops.values())),
    ]


@contextlib.contextmanager
def watched(lab: State, over: Over, during: str) -> Iterator[None]:
    """Notes what is dropped while something goes on over our fabric; over others, nothing."""
    if not over.is_omni:
        yield
        return
    head = runs.result("drops", over.contestant)
    before = looks(lab)
    yield
    report = reconcile(before, looks(lab))
    name = f"drops-{runs.slug(over.contestant)}-{runs.slug(during)}"
    runs.write(Path(lab.run), name, head | {"during": during, **report})


def run(options: argparse.Namespace) -> int:
    """Exit status 0 when all engines answer, and what they counted can be."""
    catch_signals()
    lab = state.load_complete(options.name)
    contestant = disclosure.contestant_of(lab)
    head = runs.result("drops", contestant)
    report = reconcile(NOTHING, looks(lab))
    measured = figures(lab, report)
    told = {"during": "since the start", **report, "figures": kept(measured)}
    runs.write(Path(lab.run), f"drops-{runs.slug(contestant)}", head | told)
    print("\n".join(table(measured)), flush=True)
    return 0 if all(each.met for each in measured) else 1


def looks(lab: State) -> Looks:
    """Two looks, one after the other, while as little as can be is under way between nodes."""
    time.sleep(SETTLE_SECONDS)
    return (look(lab), look(lab))
