"""A run as `lab` and `omni-perf` would write it, made up from a seed: plausible, and in no way
measured.
"""

from __future__ import annotations

import functools
import json
import math
import random
from pathlib import Path
from typing import Any

from omni_lab.bench import histograms

BEGAN = "2026-01-02T03:04:05.678+00:00"
NODES = [f"node{number}" for number in range(1, 9)]
OURS = "omni tap+udp"
# How much slower than the bare underlay each is.
CONTESTANTS = {OURS: 1.9, "vxlan": 1.4, "fastd": 3.1, "bare underlay": 1.0}
SIZES = (8, 65_536, 1_048_576)
ITERATIONS = 25
STEPS = 2 * (len(NODES) - 1)


def durations(dice: random.Random, median_ns: float, count: int) -> list[int]:
    """Durations with a tail: most are near the median, one in fifty was waited for."""
    return [
        round(median_ns * math.exp(dice.gauss(0, 0.25)) * (1 if dice.random() < 0.98 else 6))
        for _ in range(count)
    ]


def head(kind: str, contestant: str | None = None) -> dict[str, Any]:
    """What each file begins with."""
    named = {} if contestant is None else {"contestant": contestant}
    return {"kind": kind, "began": BEGAN, **named}


def figure(name: str, measured: float | None, at_most: float | None, met: bool) -> dict[str, Any]:
    """A figure as it is kept."""
    return {
        "name": name,
        "measured": measured,
        "unit": "s",
        "at_most": at_most,
        "at_least": None,
        "met": met,
    }


def disclosure() -> dict[str, Any]:
    """A machine that there is not."""
    ports = [
        {"port": "eth0", "queue": 0, "mode": "udp", "copy": "copy", "worker": 0, "core": 0},
        {"port": "omni0", "queue": 0, "mode": "tap", "copy": "copy", "worker": 0, "core": 0},
    ]
    return head("disclosure") | {
        "machine": {
            "CPU": "Example CPU, 2 cores, under a hypervisor",
            "memory": "24 GiB",
            "kernel": "6.1.0",
            "revision": "abcdef1",
            "mitigations": {"spectre_v1": "Mitigation: usercopy/swapgs barriers"},
        },
        "versions": {"omni-engine": "omni-engine 0.1.0"},
        "seed": 1,
        "topology": {
            "options": {"nodes": 8, "topology": "star", "mtu": 1500, "seed": 1, "loss": 0.0},
            "spaces": [["wire", "switch", None], *([name, "node", "10.0.0.1"] for name in NODES)],
            "notes": ["All hosts share the machine's cores."],
        },
        "nodes": [
            {"name": name, "ports": ports, "mtu": {"eth0": 1500, "omni0": 1426}} for name in NODES
        ],
        "contestants": {
            "vxlan": {"version": "kernel", "interface": "vxlan0", "mtu": 1450},
            "fastd": {"version": "fastd v22", "interface": "fastd0", "mtu": 1426},
        },
    }


def allreduce(dice: random.Random, contestant: str, algorithm: str) -> dict[str, Any]:
    """All sizes of one algorithm."""
    sizes = []
    for octets in SIZES:
        median = CONTESTANTS[contestant] * (400_000 + 6 * octets)
        iterations: list[dict[str, Any]] = []
        for _ in range(ITERATIONS):
            ranks = durations(dice, median, len(NODES))
            # One host is a bit slower than the others.
            ranks[3] = round(ranks[3] * 1.2)
            slowest = max(range(len(ranks)), key=lambda rank: ranks[rank])
            iterations.append({"slowest_rank": slowest, "ns": ranks[slowest], "per_rank_ns": ranks})
        times = sorted(each["ns"] for each in iterations)
        total = sum(times)
        rate = octets * ITERATIONS / total * 1e9
        steps = durations(dice, median / STEPS, ITERATIONS * STEPS * len(NODES))
        sizes.append(
            {
                "octets": octets,
                "time_ns": {
                    "min": times[0],
                    "mean": total // ITERATIONS,
                    "median": times[ITERATIONS // 2 - 1],
                    "p99": times[-1],
                    "max": times[-1],
                },
                "algbw_Bps": rate,
                "busbw_Bps": rate * STEPS / len(NODES),
                "jct_ns": total + ITERATIONS * 100_000,
                "compute_ns": ITERATIONS * 100_000,
                "iterations": iterations,
                "steps": histograms.of(steps),
            }
        )
    return head("allreduce", contestant) | {
        "collective": "all-reduce",
        "algorithm": algorithm,
        "ranks": len(NODES),
        "iterations": ITERATIONS,
        "warmup": 5,
        "seed": 1,
        "wrong": 0,
        "sizes": sizes,
        "figures": [figure("wrong sums", 0, 0, True)],
    }


def flow(dice: random.Random, contestant: str, ends: tuple[str, str], rate: int) -> dict[str, Any]:
    """A flow of round trips."""
    sent = 10 * rate
    received = sent - (1 if ends[0] == NODES[2] else 0)
    times = durations(dice, 80_000 * CONTESTANTS.get(contestant, 0.3), received)
    return {
        "from": ends[0],
        "to": ends[1],
        "rate_per_s": rate,
        "sent": sent,
        "received": received,
        "lost": sent - received,
        "late_sends": round(sent * 0.02),
        "histogram": histograms.of(times),
    }


def latency(dice: random.Random, contestant: str, rate: int) -> dict[str, Any]:
    """A rate, from the first four nodes to their neighbours."""
    ends = list(zip(NODES[:4], NODES[1:5]))
    return head("latency", contestant) | {
        "seconds": 10.0,
        "octets": 64,
        "flows": [flow(dice, contestant, each, rate) for each in ends],
        "floor": [flow(dice, "loopback", ("127.0.0.1", "127.0.0.1"), rate)],
    }


def stages(dice: random.Random) -> dict[str, Any]:
    """What `omni report --json` prints, which names no contestant."""
    medians = {
        ("work", None): 8_000,
        ("send", None): 14_000,
        ("through", "underlay"): 26_000,
        ("through", "access"): 31_000,
    }
    merged = [
        {"stage": stage, "side": side, "histogram": histograms.of(durations(dice, median, 20_000))}
        for (stage, side), median in medians.items()
    ]
    empty = {"stage": "wait", "side": "access", "histogram": histograms.of([])}
    return {"kind": "stages", "nodes": [], "merged": [*merged, empty]}


def iperf(dice: random.Random, contestant: str, shape: str) -> dict[str, Any]:
    """All streams of a shape."""
    pairs = {
        "pairs": [(0, one, other) for one, other in zip(NODES[::2], NODES[1::2])],
        "incast": [(0, name, NODES[0]) for name in NODES[1:]],
        "matrix": [
            (step - 1, NODES[at], NODES[(at + step) % len(NODES)])
            for step in range(1, len(NODES))
            for at in range(len(NODES))
        ],
    }[shape]
    streams = [
        {
            "from": sender,
            "to": receiver,
            "round": number,
            "bps": 9e8 / CONTESTANTS[contestant] * math.exp(dice.gauss(0, 0.2)),
            "retransmits": dice.randrange(40),
            "lost_packets": None,
            "sent_packets": None,
        }
        for number, sender, receiver in pairs
    ]
    return head("iperf", contestant) | {
        "shape": shape,
        "protocol": "tcp",
        "seconds": 5,
        "streams": streams,
        "failed": [],
    }


def drops(during: str, lost: int, full: int) -> dict[str, Any]:
    """A look at all engines, of which some could not send."""
    nodes = [
        {
            "name": name,
            "drops": {"tx_ring_full": full} if name == NODES[2] else {},
            "ports": {
                "eth0": {"rx_frames": 1000, "tx_frames": 1010},
                "omni0": {"rx_frames": 1005, "tx_frames": 995},
            },
        }
        for name in NODES
    ]
    return head("drops", OURS) | {
        "during": during,
        "nodes": nodes,
        "frames_sent": 8000,
        "frames_verified": 8000 - lost,
        "frames_lost": lost,
    }


def arp(dice: random.Random, suppression: str) -> dict[str, Any]:
    """A storm."""
    asked = 3 * len(NODES) * (len(NODES) - 1)
    median = 9_000 if suppression == "on" else 400_000
    return head("arp", OURS) | {
        "suppression": suppression,
        "hosts": len(NODES),
        "rounds": 3,
        "asked": asked,
        "answered": asked,
        "wrong": 0,
        "fabric_frames": 0 if suppression == "on" else asked * 3,
        "histogram": histograms.of(durations(dice, median, asked)),
    }


def events(dice: random.Random) -> dict[str, Any]:
    """Faults, and how long recovery took."""
    faults = ("kill an engine", "partition", "link flap", "restart the Nucleus")
    found = [{"at_s": 0.2, "what": "up", "node": "", "detail": "8 nodes, star"}]
    for number in range(20):
        found.append(
            {
                "at_s": 20.0 + 12 * number,
                "what": faults[number % len(faults)],
                "node": dice.choice(NODES),
                "detail": "",
                "recovered_s": 0.4 * math.exp(dice.gauss(0, 0.7)),
            }
        )
    return head("events") | {"events": found}


@functools.cache
def texts(seed: int = 1) -> dict[str, str]:
    """The files of a run as they are written."""
    return {name: json.dumps(data) for name, data in files(seed).items()}


def chaos(dice: random.Random) -> dict[str, Any]:
    """How long recovery took after each round of faults; round 0 was before any."""
    faults = ("kill", "partition", "flap", "nucleus")
    heals = [
        {
            "round": number,
            "kinds": dice.sample(faults, 2) if number else [],
            "at_s": 25.0 * number,
            "recovered_s": round(0.4 * math.exp(dice.gauss(0, 0.7)), 3),
        }
        for number in range(13)
    ]
    counts = {"sent": 48_000, "lost": 312, "misdelivered": 0, "corrupted": 0, "duplicates": 0}
    held = [figure("all reach all after a heal, p99", 1.4, 10.0, True)]
    return head("chaos", OURS) | {"heals": heals, **counts, "figures": held}


def files(seed: int = 1) -> dict[str, dict[str, Any]]:
    """All files of a run, by their names without the ending."""
    dice = random.Random(seed)
    made = {
        "disclosure": disclosure(),
        "events": events(dice),
        "chaos": chaos(dice),
        "up": head("up") | {"figures": [figure("until all knew all", 0.3, 60.0, True)]},
        "stages-omni-tap+udp": stages(dice),
        "drops-omni-tap+udp-iperf-matrix": drops("iperf matrix", 3, 5),
        "drops-omni-tap+udp": drops("since the start", 3, 5),
    }
    for name in CONTESTANTS:
        slug = name.replace(" ", "-")
        for algorithm in ("ring", "tree"):
            made[f"allreduce-{slug}-{algorithm}"] = allreduce(dice, name, algorithm)
        for rate in (100, 1000):
            made[f"latency-{slug}-{rate}"] = latency(dice, name, rate)
        for shape in ("pairs", "matrix", "incast"):
            made[f"iperf-{slug}-{shape}"] = iperf(dice, name, shape)
    for suppression in ("on", "off"):
        made[f"arp-omni-tap+udp-{suppression}"] = arp(dice, suppression)
    return made


def write(folder: Path, seed: int = 1) -> None:
    """Writes them all into a folder."""
    for name, text in texts(seed).items():
        (folder / f"{name}.json").write_text(text)
