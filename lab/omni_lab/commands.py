"""Commands of the system: run with a time limit, echoed so that the reader can repeat them."""

from __future__ import annotations

import shlex
import subprocess
from collections.abc import Sequence
from typing import Protocol

# What is shown of a failed command's own words.
TAIL_LINES = 8


class CommandError(Exception):
    """A command is missing, failed or took too long. The text says which and why."""


class Runner(Protocol):
    """What changes the system by a command; tests put a recorder in its place."""

    def __call__(self, command: Sequence[str], *, timeout: float = 10.0) -> str: ...


def echo(command: Sequence[str], background: bool = False) -> None:
    """Prints a command as it would be typed."""
    print(f"$ {shlex.join(command)}{' &' if background else ''}", flush=True)


def run(
    command: Sequence[str],
    *,
    timeout: float = 10.0,
    stdin: str | None = None,
    accept: Sequence[int] = (0,),
) -> str:
    """Runs a command, whose exit status must be one of `accept`. Returns its output."""
    try:
        done = subprocess.run(
            command,
            input=stdin,
            stdin=subprocess.DEVNULL if stdin is None else None,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=timeout,
            check=False,
        )
    except FileNotFoundError as error:
        raise CommandError(
            f"{command[0]} is not installed: scripts/install-deps.sh installs what the lab needs"
        ) from error
    except subprocess.TimeoutExpired as error:
        raise CommandError(f"{shlex.join(command)}: no end after {timeout:g} s") from error
    if done.returncode not in accept:
        # Some commands explain themselves on stdout: iperf3 with --json does.
        words = "\n".join((done.stderr.strip() or done.stdout.strip()).splitlines()[-TAIL_LINES:])
        raise CommandError(f"{shlex.join(command)}: exit status {done.returncode}: {words}")
    return done.stdout


def show(command: Sequence[str], *, timeout: float = 10.0) -> None:
    """Runs a command that prints to the reader's own terminal, and may colour it."""
    echo(command)
    try:
        status = subprocess.run(
            command, stdin=subprocess.DEVNULL, timeout=timeout, check=False
        ).returncode
    except subprocess.TimeoutExpired as error:
        raise CommandError(f"{shlex.join(command)}: no end after {timeout:g} s") from error
    if status:
        raise CommandError(f"{shlex.join(command)}: exit status {status}")
