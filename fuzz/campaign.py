#!/usr/bin/env python3
"""Runs fuzz targets one after the other, and says in a table what they did.

Ends with status 1 when a target crashed, ran out of memory or took too long for an input; the
input is kept. `make fuzz` builds the programs and calls this.
"""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).resolve().parent

# The longest input of targets for which longer ones than the usual find more.
LENGTHS = {"config": 4096, "nucleus_config": 4096, "memory": 4096, "offload": 8192}
USUAL_LENGTH = 1600

# `#4096 NEW cov: 120 ft: 300 corp: 9/1Kb lim: 11 exec/s: 2048 rss: 40Mb`, and in fork mode
# `#4096: cov: 120 ft: 300 corp: 9 exec/s 2048 oom/timeout/crash: 0/0/0 time: 3s job: 2 dft_time: 0`
LINE = re.compile(r"^#(?P<runs>\d+):?\s+(?P<event>[A-Za-z]*)\s*cov: (?P<coverage>\d+)")
FINAL = re.compile(r"^stat::number_of_executed_units:\s*(\d+)")


@dataclass
class Outcome:
    """What a target did."""

    name: str
    executions: int = 0
    seconds: float = 0.0
    # Edges that the corpus reached at the start, and that were reached at the end.
    coverage_before: int = 0
    coverage: int = 0
    # How many inputs there had been when an edge was new for the last time.
    grew_at: int = 0
    status: int = 0

    def row(self) -> list[str]:
        rate = self.executions / self.seconds if self.seconds else 0.0
        return [
            self.name,
            f"{self.executions:,}",
            f"{rate:,.0f}",
            f"{self.coverage_before:,}",
            f"{self.coverage:,}",
            f"{self.grew_at:,}",
            "ok" if self.status == 0 else f"FAILED ({self.status})",
        ]


HEAD = ["target", "executions", "/s", "edges before", "after", "last new at", "outcome"]


def read(outcome: Outcome, lines: Iterable[str]) -> None:
    """Takes in what a program of libFuzzer says."""
    for line in lines:
        if final := FINAL.match(line):
            outcome.executions = max(outcome.executions, int(final[1]))
        found = LINE.match(line)
        if found is None:
            continue
        runs, coverage = int(found["runs"]), int(found["coverage"])
        outcome.executions = max(outcome.executions, runs)
        if found["event"] == "INITED" or not outcome.coverage:
            outcome.coverage_before = coverage
        elif coverage > outcome.coverage:
            outcome.grew_at = runs
        outcome.coverage = max(outcome.coverage, coverage)


def table(outcomes: list[Outcome]) -> str:
    """All outcomes, in columns: names to the left, numbers to the right."""
    rows = [HEAD, *(outcome.row() for outcome in outcomes)]
    widths = [max(len(row[at]) for row in rows) for at in range(len(HEAD))]
    outer = {0, len(HEAD) - 1}
    lines = []
    for row in rows:
        cells = [
            cell.ljust(width) if at in outer else cell.rjust(width)
            for at, (cell, width) in enumerate(zip(row, widths, strict=True))
        ]
        lines.append("  ".join(cells).rstrip())
    return "\n".join(lines)


def command(name: str, options: argparse.Namespace) -> list[str]:
    """The command that runs a target."""
    corpus = options.work / "corpus" / name
    corpus.mkdir(parents=True, exist_ok=True)
    line = [
        str(options.programs / name),
        f"-max_total_time={options.seconds}",
        f"-timeout={options.timeout}",
        f"-rss_limit_mb={options.memory}",
        f"-max_len={LENGTHS.get(name, USUAL_LENGTH)}",
        f"-artifact_prefix={options.work}/{name}-",
        "-print_final_stats=1",
    ]
    if options.runs:
        line.append(f"-runs={options.runs}")
    dictionary = HERE / "dictionaries" / f"{name}.dict"
    if dictionary.exists():
        line.append(f"-dict={dictionary}")
    if options.cores > 1:
        line.append(f"-fork={options.cores}")
    return [*line, str(corpus), str(HERE / "seeds" / name)]


def run(name: str, options: argparse.Namespace) -> Outcome:
    """Runs a target to its end, with its output in a file beside its corpus."""
    outcome = Outcome(name)
    started = time.monotonic()
    log = options.work / f"{name}.log"
    with log.open("w", encoding="utf-8", errors="replace") as out:
        # A hang of the program itself is ended as well.
        patience = options.seconds + 120
        try:
            done = subprocess.run(
                command(name, options), stdout=out, stderr=out, check=False, timeout=patience
            )
            outcome.status = done.returncode
        except subprocess.TimeoutExpired:
            outcome.status = 124
        except OSError as error:
            print(error, file=out)
            outcome.status = 127
    outcome.seconds = time.monotonic() - started
    with log.open(encoding="utf-8", errors="replace") as lines:
        read(outcome, lines)
    if outcome.status:
        print(f"{name}: see {log}, the input is {options.work}/{name}-*", file=sys.stderr)
    return outcome


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, allow_abbrev=False)
    parser.add_argument("--programs", type=Path, required=True, help="folder of the programs")
    parser.add_argument("--work", type=Path, required=True, help="folder of corpus and failures")
    parser.add_argument("--seconds", type=int, default=60, help="of each target (60)")
    parser.add_argument("--runs", type=int, default=0, help="at most so many inputs (no limit)")
    parser.add_argument("--timeout", type=int, default=1, help="seconds of an input (1)")
    parser.add_argument("--memory", type=int, default=1024, help="MiB that it may take (1024)")
    parser.add_argument("--cores", type=int, default=1, help="processes of each target (1)")
    parser.add_argument("targets", nargs="+", help="their names")
    options = parser.parse_args()
    outcomes = []
    for name in options.targets:
        outcomes.append(run(name, options))
        print(table(outcomes[-1:]).splitlines()[1], flush=True)
    print(f"\n{table(outcomes)}")
    return int(any(outcome.status for outcome in outcomes))


if __name__ == "__main__":
    sys.exit(main())
