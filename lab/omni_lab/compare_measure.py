"""What is measured of a contestant at work: throughput, datagrams, round trips, processor time and
memory. Everything is bounded in time.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import subprocess
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from . import commands, traffic
from .commands import CommandError
from .compare_contestants import ContestError, Link
from .compare_pair import Pair
from .compare_stats import Trial

IPERF_PORT = 5201
DATAGRAM_PORT = 5300
TICKS_PER_SECOND = os.sysconf("SC_CLK_TCK")
# Of /proc/stat: user, nice, system, irq, softirq. Not idle, iowait, and what others stole.
BUSY_COLUMNS = (1, 2, 3, 6, 7)
# Beyond what a tool was told to take.
PATIENCE_SECONDS = 15.0
OCTETS_PER_GB = 1e9
PACKET_THREADS = ("ksoftirqd/", "napi/")
MIB = 1024


@dataclass(frozen=True)
class Throughput:
    """A run of iperf3, and the processor time that it took."""

    gigabits_per_second: float
    # All of the machine's, less what it took idle: right on a machine that does nothing else.
    cpu_seconds_per_gb: float
    # Of the contestant's processes, iperf3 at both ends and the kernel's threads for packets. What
    # interrupts take of others' time is missing, but so is what others do.
    traced_cpu_seconds_per_gb: float
    # The contestant's processes' alone.
    own_cpu_seconds_per_gb: float


@dataclass(frozen=True)
class RoundTrips:
    """Round trips in microseconds."""

    sent: int
    received: int
    percentiles: dict[str, float]


@dataclass(frozen=True)
class Lost:
    """Counts of what was lost on the way, outside of the contestant's own."""

    # Datagrams that found the receiver's socket full.
    socket: int
    # Packets that found a core's queue full, in all namespaces.
    backlog: int


class Meter:
    """Measures one contestant on one pair of hosts."""

    def __init__(self, pair: Pair, link: Link, perf: Path, idle_cpu: float) -> None:
        self.pair, self.link, self.perf = pair, link, perf
        # Cores that the machine was busy with before the contestant came.
        self.idle_cpu = idle_cpu
        self.token = 0

    @contextlib.contextmanager
    def iperf_server(self) -> Iterator[None]:
        """An iperf3 server on the right host, for one client: after it, one may be busy ending."""
        right = self.pair.right.namespace
        command = right.inside("iperf3", "-s", "-1", "-B", self.link.right, "--forceflush")
        silent = subprocess.DEVNULL
        process = subprocess.Popen(
            command, stdin=silent, stdout=silent, stderr=silent, start_new_session=True
        )
        try:
            traffic.wait_for_server(right, process)
            yield
        finally:
            end(process)

    def iperf_command(self, seconds: float, options: Sequence[str]) -> list[str]:
        whole = str(max(round(seconds), 1))
        client = ("iperf3", "-c", self.link.right, "-t", whole, *options, "--json")
        return self.pair.left.namespace.inside(*client)

    def tcp(self, seconds: float, *options: str) -> Throughput:
        """TCP from left to right, or as the options say."""
        with self.iperf_server():
            start, busy = time.monotonic(), machine_busy()
            own, kernel = self.own_cpu(), packet_threads_cpu()
            text = commands.run(
                self.iperf_command(seconds, options),
                timeout=seconds + PATIENCE_SECONDS,
                accept=(0, 1),
            )
            wall, busy = time.monotonic() - start, machine_busy() - busy
            own, kernel = self.own_cpu() - own, packet_threads_cpu() - kernel
        rate = traffic.parse_tcp(text).bits_per_second
        gigabytes = received_octets(text) / OCTETS_PER_GB
        if gigabytes <= 0:
            raise ContestError("TCP: nothing arrived")
        spent = max(busy - self.idle_cpu * wall, 0.0)
        traced = own + kernel + iperf_cpu(text)
        return Throughput(rate / 1e9, spent / gigabytes, traced / gigabytes, own / gigabytes)

    def trips(self, seconds: float, rate: int = 1000) -> RoundTrips:
        """Round trips of small datagrams, at a steady rate."""
        with self.listening("echo", seconds):
            text = commands.run(
                self.sender("ping", seconds, "--rate", str(rate)),
                timeout=seconds + PATIENCE_SECONDS,
            )
        return parse_trips(text)

    def trips_under_load(self, seconds: float) -> RoundTrips:
        """The same while TCP takes all that it gets."""
        with self.iperf_server(), self.iperf_client(seconds + 3) as client:
            # TCP begins before and ends after the round trips.
            time.sleep(1.0)
            trips = self.trips(seconds)
            if client.poll() is not None:
                raise ContestError("TCP ended before the round trips under it")
            try:
                client.wait(PATIENCE_SECONDS)
            except subprocess.TimeoutExpired as error:
                raise ContestError("TCP did not end") from error
            return trips

    @contextlib.contextmanager
    def iperf_client(self, seconds: float) -> Iterator[subprocess.Popen[bytes]]:
        """An iperf3 client in the background."""
        silent = subprocess.DEVNULL
        process = subprocess.Popen(
            self.iperf_command(seconds, ()),
            stdin=silent,
            stdout=silent,
            stderr=silent,
            start_new_session=True,
        )
        try:
            yield process
        finally:
            end(process)

    def datagrams(self, seconds: float, rate: int, octets: int) -> Trial:
        """Datagrams at a steady rate, 0 for as many as leave: how many arrived."""
        self.token += 1
        token = ("--token", str(self.token))
        with self.listening("receive", seconds, *token) as receiver:
            sent = json.loads(
                commands.run(
                    self.sender(
                        "send", seconds, *token, "--rate", str(rate), "--octets", str(octets)
                    ),
                    timeout=seconds + PATIENCE_SECONDS,
                )
            )
            received = finish(receiver)
        return Trial(sent["sent"], received["received"], sent["seconds"])

    def sender(self, what: str, seconds: float, *options: str) -> list[str]:
        """A command of the left host that sends to the right one."""
        to = ("--to", f"{self.link.right}:{DATAGRAM_PORT}", "--seconds", f"{seconds:g}")
        command = (str(self.perf), "datagrams", what, *to, *options)
        return self.pair.left.namespace.inside(*command)

    @contextlib.contextmanager
    def listening(
        self, what: str, seconds: float, *options: str
    ) -> Iterator[subprocess.Popen[bytes]]:
        """A receiver or an echo on the right host, from when it is ready."""
        at_most = f"{seconds + PATIENCE_SECONDS:g}"
        bind = ("--bind", f"{self.link.right}:{DATAGRAM_PORT}", "--seconds", at_most)
        command = (str(self.perf), "datagrams", what, *bind, *options)
        process = subprocess.Popen(
            self.pair.right.namespace.inside(*command),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        try:
            if read_line(process, PATIENCE_SECONDS) != b"ready\n":
                raise ContestError(f"omni-perf datagrams {what} does not start")
            yield process
        finally:
            end(process)

    def own_cpu(self) -> float:
        """Processor seconds of the contestant's processes."""
        return sum(process_cpu(each.pid) for each in self.link.processes)

    def memory_mib(self) -> float:
        """What the contestant's processes hold of memory, both hosts together."""
        return sum(resident_kib(each.pid) for each in self.link.processes) / MIB

    def lost(self) -> Lost:
        """What was lost so far outside of the contestant."""
        backlog = parse_backlog_drops(Path("/proc/net/softnet_stat").read_text())
        return Lost(traffic.socket_overflows(self.pair.right.namespace), backlog)


def idle_cpu(seconds: float) -> float:
    """How many cores the machine is busy with, while nothing is measured."""
    start, busy = time.monotonic(), machine_busy()
    time.sleep(seconds)
    return (machine_busy() - busy) / (time.monotonic() - start)


def machine_busy() -> float:
    """Processor seconds of everything, on all cores."""
    return parse_busy(Path("/proc/stat").read_text()) / TICKS_PER_SECOND


def parse_busy(text: str) -> int:
    """Ticks that the machine was busy, of /proc/stat."""
    columns = text.splitlines()[0].split()
    return sum(int(columns[column]) for column in BUSY_COLUMNS)


def process_cpu(pid: int) -> float:
    """Processor seconds of a process and its threads; 0 when it is gone."""
    try:
        return parse_process_ticks(Path(f"/proc/{pid}/stat").read_text()) / TICKS_PER_SECOND
    except OSError:
        return 0.0


def packet_threads_cpu() -> float:
    """Processor seconds of the kernel's threads that work on packets when interrupts are many."""
    names = ((path.parent.name, path) for path in Path("/proc").glob("[0-9]*/comm"))
    found = (int(pid) for pid, path in names if read(path).startswith(PACKET_THREADS))
    return sum(process_cpu(pid) for pid in found)


def read(path: Path) -> str:
    """A file of /proc, empty when its process is gone."""
    try:
        return path.read_text()
    except OSError:
        return ""


def iperf_cpu(text: str) -> float:
    """Processor seconds of iperf3 at both ends, by its client's report."""
    end = traffic.iperf_end(text)
    try:
        used = end["cpu_utilization_percent"]
        percent = float(used["host_total"]) + float(used["remote_total"])
        return percent / 100 * float(end["sum_sent"]["seconds"])
    except (KeyError, TypeError) as error:
        raise traffic.TrafficError(f"iperf3 left out {error}") from error


def parse_process_ticks(text: str) -> int:
    """utime and stime of /proc/PID/stat. The name before them may hold anything, brackets too."""
    columns = text.rpartition(")")[2].split()
    return int(columns[11]) + int(columns[12])


def resident_kib(pid: int) -> int:
    """Resident memory of a process; 0 when it is gone."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) for line in lines if line.startswith("VmRSS:")), 0)


def parse_backlog_drops(text: str) -> int:
    """The second column of /proc/net/softnet_stat, over all cores."""
    return sum(int(line.split()[1], 16) for line in text.splitlines() if line.strip())


def received_octets(text: str) -> float:
    """What an iperf3 client says that arrived."""
    try:
        return float(traffic.iperf_end(text)["sum_received"]["bytes"])
    except (KeyError, TypeError) as error:
        raise traffic.TrafficError(f"iperf3 left out {error}") from error


def parse_trips(text: str) -> RoundTrips:
    """Reads what `omni-perf datagrams ping` says."""
    said: dict[str, Any] = json.loads(text)
    if not said["received"]:
        raise ContestError("no round trip was completed")
    names = {"p50": "p50_ns", "p90": "p90_ns", "p99": "p99_ns", "p99.9": "p99_9_ns"}
    times = {name: said[key] / 1e3 for name, key in names.items()}
    return RoundTrips(said["sent"], said["received"], times)


def read_line(process: subprocess.Popen[bytes], seconds: float) -> bytes:
    """A line of a program's output, empty when none comes in time."""
    if process.stdout is None or not select.select([process.stdout], [], [], seconds)[0]:
        return b""
    return process.stdout.readline()


def finish(process: subprocess.Popen[bytes]) -> dict[str, Any]:
    """Tells a receiver to end, and reads what it says."""
    try:
        output, _ = process.communicate(timeout=PATIENCE_SECONDS)
        said: dict[str, Any] = json.loads(output)
        return said
    except (subprocess.TimeoutExpired, json.JSONDecodeError) as error:
        raise CommandError(f"the receiver of datagrams said nothing: {error}") from error


def end(process: subprocess.Popen[bytes]) -> None:
    """Ends a tool for certain."""
    if process.poll() is None:
        process.terminate()
    try:
        process.wait(5)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    for pipe in (process.stdin, process.stdout):
        if pipe is not None:
            pipe.close()
