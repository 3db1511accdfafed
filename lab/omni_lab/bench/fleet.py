"""Many programs at once in many namespaces: started, waited for, and ended for certain."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import IO

from ..commands import CommandError
from ..netns import Namespace

POLL_SECONDS = 0.02
END_SECONDS = 3.0
LISTEN_SECONDS = 20.0
# State of a listening socket in /proc/PID/net/tcp; of an open one in /proc/PID/net/udp.
LISTENING, OPEN = "0A", "07"


@dataclass
class Job:
    """One program, and where what it says goes."""

    title: str
    process: subprocess.Popen[bytes]
    out: IO[bytes]
    err: IO[bytes]

    def said(self) -> str:
        """All that it printed."""
        return read(self.out)

    def words(self) -> str:
        """Why it failed, as far as it said so."""
        text = read(self.err).strip() or self.said().strip()
        return " | ".join(text.splitlines()[-4:]) or "it said nothing"


def read(file: IO[bytes]) -> str:
    """A file from its beginning."""
    file.seek(0)
    return file.read().decode(errors="replace")


class Fleet:
    """Programs of one measurement. Leaving the context ends those that still run."""

    def __init__(self) -> None:
        self.jobs: list[Job] = []

    def __enter__(self) -> Fleet:
        return self

    def __exit__(
        self,
        _kind: type[BaseException] | None,
        _error: BaseException | None,
        _trace: TracebackType | None,
    ) -> None:
        self.end()

    def start(self, title: str, namespace: Namespace, command: Sequence[str]) -> Job:
        """Starts a program in a namespace. Raises CommandError when that is not possible."""
        # Files, as a pipe that nobody reads would stop a program that says much.
        out, err = tempfile.TemporaryFile(), tempfile.TemporaryFile()
        try:
            process = subprocess.Popen(
                namespace.inside(*command),
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=err,
                start_new_session=True,
            )
        except OSError as error:
            raise CommandError(f"{command[0]}: {error}") from error
        job = Job(title, process, out, err)
        self.jobs.append(job)
        return job

    def wait(self, jobs: Sequence[Job], seconds: float) -> list[Job]:
        """Waits until programs have ended. Returns those that have not."""
        deadline = time.monotonic() + seconds
        left = [each for each in jobs if each.process.poll() is None]
        while left and time.monotonic() < deadline:
            time.sleep(POLL_SECONDS)
            left = [each for each in left if each.process.poll() is None]
        return left

    def end(self, number: signal.Signals = signal.SIGTERM) -> None:
        """Ends all that still run: asked first."""
        for each in self.jobs:
            if each.process.poll() is None:
                each.process.send_signal(number)
        for each in self.wait(self.jobs, END_SECONDS):
            each.process.kill()
            each.process.wait()
        for each in self.jobs:
            each.out.close()
            each.err.close()
        self.jobs.clear()


def wait_for_ports(jobs: Sequence[tuple[Job, int]], protocol: str = "tcp") -> None:
    """Waits until each program has its port. Raises CommandError when one ends, or has it not."""
    deadline = time.monotonic() + LISTEN_SECONDS
    left = list(jobs)
    while left:
        left = [(job, port) for job, port in left if port not in open_ports(job, protocol)]
        for job, port in left:
            if job.process.poll() is not None:
                raise CommandError(f"{job.title}: it ended: {job.words()}")
            if time.monotonic() > deadline:
                raise CommandError(f"{job.title}: no port {port} after {LISTEN_SECONDS:g} s")
        time.sleep(POLL_SECONDS if left else 0)


def open_ports(job: Job, protocol: str) -> set[int]:
    """Ports that are open in the namespace of a program."""
    path = Path(f"/proc/{job.process.pid}/net/{protocol}")
    with contextlib.suppress(OSError):
        # Until it has entered its own, a program is in the namespace of the lab.
        own = os.stat("/proc/self/ns/net").st_ino
        if os.stat(f"/proc/{job.process.pid}/ns/net").st_ino != own:
            wanted = LISTENING if protocol == "tcp" else OPEN
            return parse_ports(path.read_text(), wanted)
    return set()


def parse_ports(text: str, state: str) -> set[int]:
    """Local ports of sockets in a state, from /proc/PID/net/tcp or udp."""
    found = set()
    for line in text.splitlines()[1:]:
        fields = line.split()
        if len(fields) > 3 and fields[3] == state:
            found.add(int(fields[1].rpartition(":")[2], 16))
    return found
