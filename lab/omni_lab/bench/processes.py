"""Processes that outlive the command which started them, and how they are ended.

A process is known by its number and the moment it started: a number that the system gave to
another process since then is never signalled.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from .. import netns
from ..commands import CommandError

POLL_SECONDS = 0.02
KILL_SECONDS = 5.0


@dataclass(frozen=True)
class Process:
    """A process by its number and when it started, in clock ticks since the machine's start."""

    pid: int
    started: int


def parse_stat(text: str) -> tuple[str, int]:
    """State and start of a process from /proc/PID/stat. Its name may hold anything, even a bracket
    and spaces.
    """
    fields = text.rpartition(")")[2].split()
    return fields[0], int(fields[19])


def started(pid: int) -> int | None:
    """When a process started, None when there is none that still runs."""
    try:
        state, start = parse_stat(Path(f"/proc/{pid}/stat").read_text())
    except (OSError, IndexError, ValueError):
        return None
    return None if state in "ZX" else start


def is_alive(process: Process | None) -> bool:
    """Whether it is still that process, and runs."""
    return process is not None and started(process.pid) == process.started


def spawn(
    command: Sequence[str],
    log: Path,
    *,
    folder: Path | None = None,
    environment: Mapping[str, str] | None = None,
) -> Process:
    """Starts a program that goes on when the caller ends; what it says goes to the end of a file.

    Raises CommandError when it cannot be started.
    """
    try:
        with log.open("ab") as file:
            child = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=file,
                cwd=folder,
                env=None if environment is None else {**os.environ, **environment},
                start_new_session=True,
            )
    except OSError as error:
        raise CommandError(f"{command[0]}: {error}") from error
    start = started(child.pid)
    # The object may go: the process is known by its number from here on, and reaped by it.
    child.returncode = 0
    if start is None:
        raise CommandError(f"{' '.join(command)}: it ended at once; {last_words(log)}")
    return Process(child.pid, start)


def last_words(log: Path, lines: int = 6) -> str:
    """The last that a program said, in one line."""
    try:
        said = log.read_text(errors="replace").splitlines()[-lines:]
    except OSError:
        said = []
    return "its last words: " + (" | ".join(said) or "none")


def send(process: Process, number: signal.Signals) -> None:
    """Signals a process, if it is still the one."""
    if is_alive(process):
        with contextlib.suppress(ProcessLookupError):
            os.kill(process.pid, number)


def reap() -> None:
    """Takes note of children that ended, so that their numbers are free again."""
    with contextlib.suppress(ChildProcessError):
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass


def wait_gone(processes: Iterable[Process], seconds: float) -> list[Process]:
    """Waits until processes have ended. Returns those that have not."""
    deadline = time.monotonic() + seconds
    left = [each for each in processes if is_alive(each)]
    while left and time.monotonic() < deadline:
        time.sleep(POLL_SECONDS)
        left = [each for each in left if is_alive(each)]
    return left


def end(processes: Collection[Process], seconds: float) -> list[Process]:
    """Ends processes: all are asked, and what is there after some time is killed. Returns those
    that had to be killed.
    """
    for each in processes:
        send(each, signal.SIGTERM)
    # One that was stopped by a signal hears nothing else before this.
    for each in processes:
        send(each, signal.SIGCONT)
    stubborn = wait_gone(processes, seconds)
    for each in stubborn:
        send(each, signal.SIGKILL)
    wait_gone(stubborn, KILL_SECONDS)
    reap()
    return stubborn


def inside(namespaces: Collection[str]) -> list[Process]:
    """All processes that are in network namespaces, whoever started them."""
    wanted = set()
    for name in namespaces:
        with contextlib.suppress(OSError):
            wanted.add(os.stat(f"{netns.NAMESPACES}/{name}").st_ino)
    found = []
    for entry in os.scandir("/proc"):
        if not entry.name.isdigit() or not wanted:
            continue
        with contextlib.suppress(OSError):
            if os.stat(f"/proc/{entry.name}/ns/net").st_ino in wanted:
                start = started(int(entry.name))
                if start is not None and int(entry.name) != os.getpid():
                    found.append(Process(int(entry.name), start))
    return found
