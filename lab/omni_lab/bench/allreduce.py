"""`lab allreduce`: collective communication between nodes, one rank each, every sum checked."""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from .. import commands
from ..figures import Figure, kept, table
from ..interrupt import catch_signals
from ..report import heading
from . import drops, over, runs, state
from .arguments import add_name, seconds, sizes, whole
from .fleet import Fleet, Job
from .over import OMNI, Over
from .state import LabError, State

COLLECTIVES = ("all-reduce", "all-gather", "reduce-scatter", "all-to-all", "broadcast")
ALGORITHMS = ("ring", "tree", "halving-doubling", "pairwise")
ALL = "all"
RANKS = 8
SIZES = "8,64K,1M,16M"
PORT = 7200
# After its own limit a rank ends by itself.
MARGIN_SECONDS = 15.0
MERGE_SECONDS = 60.0


def ranks(text: str) -> int | None:
    """How many ranks; None for one on each node."""
    return None if text == ALL else whole(2, 1000)(text)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command line."""
    add_name(parser)
    add = parser.add_argument
    add(
        "--over", default=OMNI, metavar="CONTESTANT", help="omni, bare, or of `lab baseline` (omni)"
    )
    add("--ranks", type=ranks, default=RANKS, metavar="N|all", help=f"nodes with a rank ({RANKS})")
    add("--collective", choices=COLLECTIVES, default=COLLECTIVES[0], help=f"({COLLECTIVES[0]})")
    text = "how (ring; all-to-all pairwise)"
    add("--algorithm", choices=ALGORITHMS, help=text)
    text = f"octets of the vectors, with commas; K, M and G are powers of 1024 ({SIZES})"
    add("--sizes", type=sizes, default=SIZES, metavar="LIST", help=text)
    add("--iterations", type=whole(1, 100_000), default=20, help="timed, of each size (20)")
    add("--warmup", type=whole(0, 100_000), default=5, help="before those (5)")
    text = "simulated computation before each iteration, and its jitter (0)"
    add("--compute-us", default="0", metavar="US[:JITTER]", help=text)
    text = "the longest that a rank waits for others (30)"
    add("--timeout", type=seconds(1, 3600), default=30.0, metavar="S", help=text)
    text = "the longest that all of it may take (300)"
    add("--limit", type=seconds(1, 36_000), default=300.0, metavar="S", help=text)


def algorithm_of(options: argparse.Namespace) -> str:
    """How it is done, also where the command line does not say."""
    return options.algorithm or ("pairwise" if options.collective == "all-to-all" else "ring")


def command(
    lab: State, options: argparse.Namespace, place: Over, rank: int, folder: Path
) -> list[str]:
    """What runs a rank."""
    mine = place.addresses[place.names[rank]]
    return [
        f"{lab.programs}/omni-perf",
        *("allreduce", "rank", "--rank", str(rank), "--ranks", str(len(place.names))),
        *("--addresses", str(folder / "addresses"), "--listen", f"{mine}:{PORT}"),
        *("--collective", options.collective, "--algorithm", algorithm_of(options)),
        *("--sizes", options.sizes, "--iterations", str(options.iterations)),
        *("--warmup", str(options.warmup), "--compute-us", options.compute_us),
        *("--seed", str(lab.options["seed"]), "--timeout-s", str(options.timeout)),
        *("--limit-s", str(options.limit), "--contestant", place.contestant),
        *("--json", str(folder / f"rank{rank}.json")),
    ]


def run_ranks(
    lab: State, options: argparse.Namespace, place: Over, folder: Path
) -> tuple[list[Path], list[str]]:
    """Runs all ranks. Returns the files that they wrote, and what failed."""
    lines = [f"{address}:{PORT}\n" for address in place.addresses.values()]
    (folder / "addresses").write_text("".join(lines))
    with Fleet() as ships:
        jobs: list[Job] = []
        for rank, name in enumerate(place.names):
            words = command(lab, options, place, rank, folder)
            jobs.append(ships.start(f"rank {rank} ({name})", place.namespace(name), words))
        late = ships.wait(jobs, options.limit + MARGIN_SECONDS)
        failed = [f"{job.title}: no end after {options.limit:g} s" for job in late]
        for job in jobs:
            if job not in late and job.process.returncode:
                failed.append(f"{job.title}: {job.words()}")
    files = [folder / f"rank{rank}.json" for rank in range(len(place.names))]
    return files, failed


def merge(lab: State, files: Sequence[Path], folder: Path) -> dict[str, Any]:
    """What all ranks wrote as one; its table is printed."""
    merged = folder / "merged.json"
    words = [f"{lab.programs}/omni-perf", "allreduce", "merge", *map(str, files)]
    print(commands.run([*words, "--json", str(merged)], timeout=MERGE_SECONDS), end="")
    found: dict[str, Any] = json.loads(merged.read_text())
    return found


def figures(merged: dict[str, Any] | None, failed: Sequence[str], count: int) -> list[Figure]:
    """What is to be held to its target."""
    found = [
        Figure("ranks", count),
        Figure("ranks that failed", len(failed), at_most=0),
        Figure("wrong sums", None if merged is None else merged["wrong"], at_most=0),
    ]
    for size in [] if merged is None else merged["sizes"]:
        octets = size["octets"]
        found.append(Figure(f"{octets:,} octets, median", size["time_ns"]["median"] / 1e6, "ms"))
        found.append(Figure(f"{octets:,} octets, p99", size["time_ns"]["p99"] / 1e6, "ms"))
        found.append(Figure(f"{octets:,} octets, bus", size["busbw_Bps"] / 1e6, "MB/s"))
    return found


def run(options: argparse.Namespace) -> int:
    """Exit status 0 when all ranks came to the end with the right sums."""
    catch_signals()
    lab = state.load_complete(options.name)
    options.nodes = options.ranks
    place = over.find(lab, options)
    if options.ranks is not None and len(place.names) < options.ranks:
        raise LabError(f"--ranks: {place.contestant} joins {len(place.names)} nodes")
    algorithm = algorithm_of(options)
    heading(f"{options.collective} over {place.contestant}: {algorithm}, {len(place.names)} ranks")
    runs.add_event(lab, f"{options.collective} {algorithm}", detail=place.contestant)
    head = runs.result("allreduce", place.contestant)
    during = "allreduce" if options.collective == COLLECTIVES[0] else options.collective
    began = time.monotonic()
    with ExitStack() as stack:
        made = tempfile.TemporaryDirectory(prefix="ranks-", dir=lab.folder)
        folder = Path(stack.enter_context(made))
        stack.enter_context(drops.watched(lab, place, f"{during} {algorithm}"))
        files, failed = run_ranks(lab, options, place, folder)
        merged = None if failed else merge(lab, files, folder)
    for each in failed[:8]:
        print(f"failed: {each}")
    measured = figures(merged, failed, len(place.names))
    took = {"seconds": round(time.monotonic() - began, 3)}
    report = head | took | {"failed": failed, "figures": kept(measured)}
    contestant = runs.slug(place.contestant)
    name = f"{during}-{contestant}-{algorithm}"
    runs.write(Path(lab.run), name, report | {"algorithm": algorithm} | (merged or {}) | head)
    print("\n".join(table(measured)), flush=True)
    return 0 if all(each.met for each in measured) else 1
