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

Shown = Mapping[str, Any]


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
    uptime = after["node"]["uptime_seconds"]
    if before is not None and before["node"]["uptime_seconds"] > uptime:
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


def between(before: Mapping[str, Shown], after: Mapping[str, Shown]) -> dict[str, dict[str, int]]:
    """Of each pair of nodes: frames that one sent and the other verified meanwhile."""
    found: dict[str, dict[str, int]] = {}
    for name, shown in after.items():
        for peer in shown["peers"]:
            old = peer_of(before.get(name), peer["name"])
            if peer["name"] not in after:
                continue
            sent, verified = (peer[key] - old.get(key, 0) for key in ("tx_frames", "rx_frames"))
            there = found.setdefault(f"{name} {peer['name']}", {"sent": 0, "verified": 0})
            back = found.setdefault(f"{peer['name']} {name}", {"sent": 0, "verified": 0})
            there["sent"] += sent
            back["verified"] += verified
    return found


def peer_of(shown: Shown | None, name: str) -> Mapping[str, Any]:
    """What a node shows of one of its peers."""
    peers = [] if shown is None else shown["peers"]
    return next((peer for peer in peers if peer["name"] == name), {})


def reconcile(before: Mapping[str, Shown], after: Mapping[str, Shown]) -> dict[str, Any]:
    """What nodes dropped, what went in and out of their ports, and what was lost on the way."""
    pairs = between(before, after)
    sent, verified = (sum(pair[key] for pair in pairs.values()) for key in ("sent", "verified"))
    lost = {name: each["sent"] - each["verified"] for name, each in pairs.items()}
    return {
        "nodes": [
            {"name": name, **since(before.get(name), shown)} for name, shown in after.items()
        ],
        "frames_sent": sent,
        "frames_verified": verified,
        "frames_lost": sent - verified,
        "pairs_with_losses": {name: count for name, count in sorted(lost.items()) if count},
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
    before = look(lab)
    yield
    time.sleep(SETTLE_SECONDS)
    report = reconcile(before, look(lab))
    name = f"drops-{runs.slug(over.contestant)}-{runs.slug(during)}"
    runs.write(Path(lab.run), name, head | {"during": during, **report})


def run(options: argparse.Namespace) -> int:
    """Exit status 0 when all engines answer."""
    catch_signals()
    lab = state.load_complete(options.name)
    contestant = disclosure.contestant_of(lab)
    head = runs.result("drops", contestant)
    report = reconcile({}, settled(lab))
    measured = figures(lab, report)
    told = {"during": "since the start", **report, "figures": kept(measured)}
    runs.write(Path(lab.run), f"drops-{runs.slug(contestant)}", head | told)
    print("\n".join(table(measured)), flush=True)
    return 0 if all(each.met for each in measured) else 1


def settled(lab: State) -> dict[str, Shown]:
    """A look at engines while nothing is under way between them, as far as that can be had."""
    time.sleep(SETTLE_SECONDS)
    return look(lab)
