"""The attacker's programs, run and understood; and what the kernel says of a process."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, cast

from .attack_tap import Recorded
from .commands import CommandError
from .netns import Namespace

TICKS_PER_SECOND = os.sysconf("SC_CLK_TCK")
# Of /proc/self/clear_refs: sets VmHWM back to what is resident now.
CLEAR_PEAK = "5"
# An attacker has a machine of its own in earnest: it waits neither for its victim's programs nor
# for workers with real-time priority, whose priority is 1.
ATTACKER_PRIORITY = 10


def favour(pid: int, niceness: int) -> None:
    """Gives all threads of a process a niceness. Where the kernel weighs sessions against each
    other first, the process's session has it (sched(7), "The autogroup feature").
    """
    try:
        Path(f"/proc/{pid}/autogroup").write_text(str(niceness))
    except FileNotFoundError:
        for task in Path(f"/proc/{pid}/task").iterdir():
            os.setpriority(os.PRIO_PROCESS, int(task.name), niceness)


class Tool:
    """A program that runs in the background and prints one line of JSON at its end."""

    def __init__(self, command: Sequence[str], ready: str | None = None) -> None:
        self.command = list(command)
        self.process = subprocess.Popen(
            self.command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            # Nothing that follows the first line may wait here while `finish` reads the pipe.
            bufsize=0,
            # Ctrl-C is for the lab, which then ends this process.
            start_new_session=True,
            cwd=Path(__file__).resolve().parent.parent,
        )
        self.stdin = cast(IO[bytes], self.process.stdin)
        self.stdout = cast(IO[bytes], self.process.stdout)
        if ready is not None and (said := self.stdout.readline().decode().strip()) != ready:
            self.kill()
            raise CommandError(f"{self.command}: said {said!r}, not {ready!r}")

    def finish(self, timeout: float) -> Any:
        """Waits for the end. Returns what was printed."""
        try:
            printed, _ = self.process.communicate(timeout=timeout)
        except subprocess.TimeoutExpired as error:
            self.kill()
            raise CommandError(f"{self.command}: no end after {timeout:g} s") from error
        if self.process.returncode:
            raise CommandError(f"{self.command}: exit status {self.process.returncode}")
        try:
            return json.loads(printed)
        except json.JSONDecodeError as error:
            raise CommandError(f"{self.command}: printed {printed!r}") from error

    def kill(self) -> None:
        """Ends the process, whatever state it is in."""
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        self.stdin.close()
        self.stdout.close()


@dataclass(frozen=True)
class Attacker:
    """Where the attacker is, and its program."""

    namespace: Namespace
    perf: Path

    def flood(self, seconds: float, *options: str) -> Tool:
        """Starts a flood."""
        return self.start("flood", "--seconds", str(round(seconds)), *options)

    def start(self, what: str, *options: str, ready: str | None = None) -> Tool:
        """Starts the program. Nothing that others run has its core before it."""
        tool = Tool(self.namespace.inside(str(self.perf), what, *options), ready)
        parameters = os.sched_param(ATTACKER_PRIORITY)
        os.sched_setscheduler(tool.process.pid, os.SCHED_FIFO, parameters)
        return tool


def tap(wire: Namespace, interface: str, port: int, count: int, out: Path) -> Tool:
    """Starts to record data messages; `recorded` says what came of it."""
    options = ["--port", str(port), "--count", str(count), "--seconds", "5", "--out", str(out)]
    module = [sys.executable, "-m", "omni_lab.attack_tap", *options, interface]
    return Tool(wire.inside(*module), ready="listening")


def recorded(tool: Tool) -> Recorded:
    """What a tap recorded."""
    found = Recorded(**tool.finish(15))
    if not found.count:
        raise CommandError("no data message on the wire: is there no session?")
    return found


def with_peers(config: str, peers: Sequence[tuple[str, str, str | None]]) -> str:
    """A fabric.yaml with more peers: name, public key, and endpoint if it is known."""
    lines = []
    for name, public_key, endpoint in peers:
        lines += [f"  - name: {name}", f'    public_key: "{public_key}"']
        if endpoint is not None:
            lines.append(f'    endpoint: "{endpoint}"')
    head, control, tail = config.partition("control:\n")
    return head + "".join(f"{line}\n" for line in lines) + control + tail


def status_bytes(status: str, name: str) -> int:
    """A size in /proc/PID/status, in octets."""
    for line in status.splitlines():
        key, _, value = line.partition(":")
        if key == name:
            return int(value.split()[0]) * 1024
    raise CommandError(f"no {name} in /proc/PID/status")


def thread_seconds(stat: str) -> tuple[str, float]:
    """A thread's name and processor time, of /proc/PID/task/TID/stat. A name may have blanks and
    brackets in it, so the fields are counted from its last bracket on.
    """
    name = stat[stat.index("(") + 1 : stat.rindex(")")]
    fields = stat[stat.rindex(")") + 2 :].split()
    return name, (int(fields[11]) + int(fields[12])) / TICKS_PER_SECOND


def machine_seconds(stat: str) -> dict[str, float]:
    """Time of all cores in soft interrupts, and idle, of /proc/stat."""
    fields = stat.splitlines()[0].split()
    return {"softirq": int(fields[7]) / TICKS_PER_SECOND, "idle": int(fields[4]) / TICKS_PER_SECOND}


@dataclass(frozen=True)
class Process:
    """What the kernel says of a process."""

    pid: int

    def forget_peak(self) -> None:
        """Lets the most memory be counted from here on."""
        Path(f"/proc/{self.pid}/clear_refs").write_text(CLEAR_PEAK)

    def rss_bytes(self) -> tuple[int, int]:
        """Resident memory: now, and its most."""
        status = Path(f"/proc/{self.pid}/status").read_text()
        return status_bytes(status, "VmRSS"), status_bytes(status, "VmHWM")

    def cpu_seconds(self) -> dict[str, float]:
        """Processor time by thread, and the machine's own."""
        found = machine_seconds(Path("/proc/stat").read_text())
        for task in Path(f"/proc/{self.pid}/task").iterdir():
            name, seconds = thread_seconds((task / "stat").read_text())
            found[name] = found.get(name, 0.0) + seconds
        return found
