"""`lab idle`: what all engines take of the processor while nobody uses the fabric.

Hosts that were just started use it all the same: their kernels look for routers, which all others
hear of, after 4, 8, 16 s and so on, up to an hour. `--rest` lets the most of that pass, and tells
what it took.
"""

from __future__ import annotations

import argparse
import contextlib
import time
from pathlib import Path

from ..figures import Figure, kept, percentile, table
from ..interrupt import catch_signals
from . import runs, state
from .arguments import add_name, seconds
from .state import LabError, Space, State

# Of one core, for up to 100 engines together.
TARGET_PERCENT = 10.0


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command line."""
    add_name(parser)
    text = "how long it is watched (20)"
    parser.add_argument("--seconds", type=seconds(1, 3600), default=20.0, help=text)
    text = "how long hosts first come to rest, which is watched as well (0)"
    parser.add_argument("--rest", type=seconds(0, 7200), default=0.0, metavar="SECONDS", help=text)


def parse_schedstat(text: str) -> int:
    """Nanoseconds on a core from /proc/PID/task/TID/schedstat."""
    return int(text.split()[0])


def cpu_ns(pid: int) -> int:
    """Time on cores of a process's threads that live now. Exact: ticks would miss what runs for
    less than one of them.
    """
    total = 0
    for thread in Path(f"/proc/{pid}/task").iterdir():
        with contextlib.suppress(OSError):
            total += parse_schedstat((thread / "schedstat").read_text())
    return total


def measure(lab: State, wait_seconds: float) -> dict[str, float]:
    """Percent of a core that each program of the lab takes, by the name of its host."""
    running = [each for each in lab.spaces if each.process is not None]

    def look() -> dict[str, tuple[float, int]]:
        return {each.name: (time.monotonic(), cpu_ns(pid_of(each))) for each in running}

    before = look()
    time.sleep(wait_seconds)
    after = look()
    return {
        name: 100 * (after[name][1] - used) / 1e9 / (after[name][0] - at)
        for name, (at, used) in before.items()
    }


def pid_of(space: Space) -> int:
    """The number of its process."""
    if space.process is None:
        raise LabError(f"{space.name} does not run")
    return space.process.pid


def run(options: argparse.Namespace) -> int:
    """Exit status 0 when all engines together stay below the target."""
    catch_signals()
    lab = state.load_complete(options.name)
    head = runs.result("idle")
    unit = "% of a core"
    figures = [Figure("engines", len(lab.nodes))]
    try:
        if options.rest:
            before = measure(lab, options.rest)
            engines = sum(before[node.name] for node in lab.nodes)
            figures.append(Figure(f"all engines, the {options.rest:g} s before", engines, unit))
        percents = measure(lab, options.seconds)
    except OSError as error:
        raise LabError(f"a program ended meanwhile: {error}") from error
    engines = [percents[node.name] for node in lab.nodes]
    others = sum(percents.values()) - sum(engines)
    figures += [
        Figure("all engines", sum(engines), unit, at_most=TARGET_PERCENT),
        Figure("an engine, p50", percentile(engines, 50), unit),
        Figure("an engine, max", max(engines), unit),
        Figure("Nuclei and etcd", others, unit),
    ]
    spans = {"rest": options.rest, "seconds": options.seconds}
    report = head | spans | {"figures": kept(figures), "percent": percents}
    runs.write(Path(lab.run), "idle", report)
    print("\n".join(table(figures)), flush=True)
    return 0 if all(each.met for each in figures) else 1
