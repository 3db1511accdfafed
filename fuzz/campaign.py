#!/usr/bin/env python3
"""Runs fuzz targets, one or several at a time, and says in a table what they did.

Ends with status 1 when a target crashed, ran out of memory or took too long for an input; the
input is kept. `make fuzz` builds the programs and calls this.

Time is what the processor spends on a target, so that a busy machine changes nothing but how long
all of it takes; with several processes of a target it is the clock's.
"""

from __future__ import annotations

import argparse
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TextIO

HERE = Path(__file__).resolve().parent

# The longest input of targets for which longer ones than the usual find more.
LENGTHS = {"config": 4096, "nucleus_config": 4096, "memory": 4096, "offload": 8192}
USUAL_LENGTH = 1600

# `#4096 NEW cov: 120 ft: 300 corp: 9/1Kb lim: 11 exec/s: 2048 rss: 40Mb`, and in fork mode
# `#4096: cov: 120 ft: 300 corp: 9 exec/s 2048 oom/timeout/crash: 0/0/0 time: 3s job: 2 dft_time: 0`
LINE = re.compile(r"^#(?P<runs>\d+):?\s+(?P<event>[A-Za-z]*)\s*cov: (?P<coverage>\d+)")
FINAL = re.compile(r"^stat::number_of_executed_units:\s*(\d+)")

# How often a program is looked at, and how long one may go on after it was told to end: it ends
# after an input.
LOOK = 0.5
PATIENCE = 120


@dataclass
class Outcome:
    """What a target did."""

    name: str
    executions: int = 0
    # Of the processor, with one process.
    seconds: float = 0.0
    # Edges that the corpus reached at the start, and that were reached at the end.
    coverage_before: int = 0
    coverage: int = 0
    # How many inputs there had been when an edge was new for the last time, and how many seconds.
    grew_at: int = 0
    grew_after: float = 0.0
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
            f"{max(0.0, self.seconds - self.grew_after):,.0f}",
            "ok" if self.status == 0 else f"FAILED ({self.status})",
        ]


HEAD = ["target", "executions", "/s", "edges before", "after", "last new at", "s since", "outcome"]


def read(outcome: Outcome, lines: Iterable[str], seconds: float = 0.0) -> None:
    """Takes in what a program of libFuzzer says after so many seconds."""
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
            outcome.grew_after = seconds
        elif coverage > outcome.coverage:
            outcome.grew_at = runs
            outcome.grew_after = seconds
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
    # The limit is for one that does not end, or whose campaign was ended.
    line = [
        "prlimit",
        f"--cpu={options.seconds + PATIENCE}",
        str(options.programs / name),
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
        line += [f"-fork={options.cores}", f"-max_total_time={options.seconds}"]
    return [*line, str(corpus), str(HERE / "seeds" / name)]


def processor_seconds(pid: int) -> float:
    """What a process that was not yet waited for has used of the processor."""
    stat = Path(f"/proc/{pid}/stat").read_text(encoding="ascii", errors="replace")
    # Fields are counted from behind the name, which may have spaces in it.
    fields = stat.rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def watch(
    process: subprocess.Popen[bytes],
    outcome: Outcome,
    log: TextIO,
    options: argparse.Namespace,
) -> None:
    """Follows a program to its end, and ends it when its time is over."""
    started = time.monotonic()
    ended = False
    rest = ""
    while True:
        # Looked at before it is waited for: afterwards nobody knows its time.
        running = not os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT)
        if options.cores > 1:
            outcome.seconds = time.monotonic() - started
        else:
            outcome.seconds = processor_seconds(process.pid)
        *lines, rest = (rest + log.read()).split("\n")
        read(outcome, lines, outcome.seconds)
        if not running:
            break
        if outcome.seconds > options.seconds and options.cores == 1 and not ended:
            # libFuzzer ends with its figures.
            process.send_signal(signal.SIGUSR1)
            ended = True
        time.sleep(LOOK)
    outcome.status = process.wait()


def run(name: str, options: argparse.Namespace) -> Outcome:
    """Runs a target to its end, with its output in a file beside its corpus."""
    outcome = Outcome(name)
    log = options.work / f"{name}.log"
    with (
        log.open("w", encoding="utf-8") as out,
        log.open(encoding="utf-8", errors="replace") as said,
    ):
        try:
            process = subprocess.Popen(command(name, options), stdout=out, stderr=out)
        except OSError as error:
            print(error, file=out)
            outcome.status = 127
        else:
            try:
                watch(process, outcome, said, options)
            finally:
                process.kill()
    if outcome.status:
        print(f"{name}: see {log}, the input is {options.work}/{name}-*", file=sys.stderr)
    print(table([outcome]).splitlines()[1], flush=True)
    return outcome


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, allow_abbrev=False)
    parser.add_argument("--programs", type=Path, required=True, help="folder of the programs")
    parser.add_argument("--work", type=Path, required=True, help="folder of corpus and failures")
    parser.add_argument("--seconds", type=int, default=60, help="of each target (60)")
    parser.add_argument("--together", type=int, default=1, help="targets at a time (1)")
    parser.add_argument("--runs", type=int, default=0, help="at most so many inputs (no limit)")
    parser.add_argument("--timeout", type=int, default=1, help="seconds of an input (1)")
    parser.add_argument("--memory", type=int, default=1024, help="MiB that it may take (1024)")
    parser.add_argument("--cores", type=int, default=1, help="processes of each target (1)")
    parser.add_argument("targets", nargs="+", help="their names")
    options = parser.parse_args()
    with ThreadPoolExecutor(max_workers=options.together) as pool:
        outcomes = list(pool.map(lambda name: run(name, options), options.targets))
    print(f"\n{table(outcomes)}")
    return int(any(outcome.status for outcome in outcomes))


if __name__ == "__main__":
    sys.exit(main())
