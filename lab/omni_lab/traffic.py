"""Traffic with the tools that everybody has: ping and iperf3, run and understood."""

from __future__ import annotations

import json
import re
import subprocess
import time
from dataclasses import dataclass, replace
from typing import Any

from . import commands
from .commands import CommandError
from .netns import Namespace

# What pings carry: 16 octets at most. Nobody but the two nodes may ever see it.
MARKER = b"omni plain text!"
# What `iperf3 --repeating-payload` sends, over and over.
IPERF_PATTERN = b"0123456789"

IPV4_HEADER = 20
ICMP_HEADER = 8


class TrafficError(Exception):
    """A tool's output is not understood, or says that it failed."""


@dataclass(frozen=True)
class Ping:
    """What a run of ping came to."""

    sent: int
    received: int
    # Least, mean and greatest round trip in milliseconds; None without an answer.
    rtt: tuple[float, float, float] | None
    closing: tuple[str, ...]

    @property
    def complete(self) -> bool:
        """Whether all were answered."""
        return 0 < self.sent == self.received


@dataclass(frozen=True)
class Tcp:
    """What a run of iperf3 over TCP came to, as the receiver saw it."""

    bits_per_second: float
    retransmits: int


@dataclass(frozen=True)
class Udp:
    """What a run of iperf3 over UDP came to, as the receiver saw it."""

    bits_per_second: float
    packets: int
    lost: int
    # Those that arrived at the server, but found its socket's buffer full.
    overflowed: int = 0

    @property
    def lost_percent(self) -> float:
        """Lost among sent."""
        return 100 * self.lost / self.packets if self.packets else 100.0


COUNTS = re.compile(r"(\d+) packets transmitted, (\d+) (?:packets )?received")
TIMES = re.compile(r"= ([\d.]+)/([\d.]+)/([\d.]+)(?:/[\d.]+)? ms")


def parse_ping(text: str) -> Ping:
    """Reads the closing lines of ping."""
    counts, times = COUNTS.search(text), TIMES.search(text)
    if counts is None:
        raise TrafficError(f"ping said no counts: {text.strip()[-200:]!r}")
    rtt = (float(times[1]), float(times[2]), float(times[3])) if times else None
    lines = [line for line in text.splitlines() if line.strip()]
    closing = [line for line in lines if COUNTS.search(line) or TIMES.search(line)]
    return Ping(int(counts[1]), int(counts[2]), rtt, tuple(closing))


def ping(
    source: Namespace, address: str, count: int, *options: str, patience_seconds: int = 2
) -> Ping:
    """Pings `address`, with the marker in every packet. That answers fail to come is a result,
    not an error.
    """
    base = ["ping", "-n", "-c", str(count), "-W", str(patience_seconds), "-p", MARKER.hex()]
    command = source.inside(*base, *options, address)
    commands.echo(command)
    result = parse_ping(commands.run(command, timeout=30, accept=(0, 1)))
    for line in result.closing:
        print(line, flush=True)
    return result


def full_size_options(mtu: int) -> tuple[str, ...]:
    """Options for packets that fill an IPv4 MTU and may not be fragmented."""
    return ("-M", "do", "-s", str(mtu - IPV4_HEADER - ICMP_HEADER), "-i", "0.2")


def parse_tcp(text: str) -> Tcp:
    """Reads the JSON of an iperf3 client over TCP."""
    end = iperf_end(text)
    try:
        received, sent = end["sum_received"], end["sum_sent"]
        return Tcp(float(received["bits_per_second"]), int(sent.get("retransmits", 0)))
    except (KeyError, TypeError) as error:
        raise TrafficError(f"iperf3 left out {error}") from error


def parse_udp(text: str) -> Udp:
    """Reads the JSON of an iperf3 client over UDP."""
    end = iperf_end(text)
    try:
        # Newer versions have the receiver's view apart; before, `sum` was it.
        seen = end.get("sum_received") or end["sum"]
        lost, packets = int(seen["lost_packets"]), int(seen["packets"])
        rate = float(seen["bits_per_second"])
        if "sum_received" not in end:
            rate *= (packets - lost) / packets if packets else 0
        return Udp(rate, packets, lost)
    except (KeyError, TypeError) as error:
        raise TrafficError(f"iperf3 left out {error}") from error


def iperf_end(text: str) -> dict[str, Any]:
    """The summary in iperf3's JSON, or its own words on what failed."""
    try:
        report = json.loads(text)
    except json.JSONDecodeError as error:
        raise TrafficError(f"iperf3 printed no JSON: {error}") from error
    if not isinstance(report, dict) or report.get("error"):
        reason = report.get("error") if isinstance(report, dict) else report
        raise TrafficError(f"iperf3: {reason}")
    end = report.get("end")
    if not isinstance(end, dict) or not end:
        raise TrafficError("iperf3 printed no summary")
    return end


def tcp(server: Namespace, client: Namespace, address: str, seconds: int, *options: str) -> Tcp:
    """One TCP stream from the client to the server; with -R the other way."""
    result = parse_tcp(iperf(server, client, address, seconds, *options))
    rate, retransmits = result.bits_per_second / 1e9, result.retransmits
    print(f"received at {rate:.2f} Gb/s, {retransmits} segments sent again", flush=True)
    return result


def udp(server: Namespace, client: Namespace, address: str, seconds: int, rate: str) -> Udp:
    """UDP at a fixed rate from the client to the server."""
    before = socket_overflows(server)
    result = parse_udp(iperf(server, client, address, seconds, "-u", "-b", rate))
    result = replace(result, overflowed=socket_overflows(server) - before)
    print(
        f"received at {result.bits_per_second / 1e6:.0f} Mb/s, "
        f"{result.lost} of {result.packets} lost ({result.lost_percent:.2f} %), "
        f"{result.overflowed} of them by the server's full socket",
        flush=True,
    )
    return result


def socket_overflows(namespace: Namespace) -> int:
    """UDP datagrams that found a full socket buffer in the namespace."""
    return parse_overflows(commands.run(namespace.inside("cat", "/proc/net/snmp")))


def parse_overflows(text: str) -> int:
    """Reads RcvbufErrors from /proc/net/snmp: a line of names, then one of values."""
    names, values = (line.split() for line in text.splitlines() if line.startswith("Udp:"))
    return int(values[names.index("RcvbufErrors")])


def iperf(server: Namespace, client: Namespace, address: str, seconds: int, *options: str) -> str:
    """Runs a server for one test, and the client. Returns the client's JSON."""
    serve = server.inside("iperf3", "-s", "-1", "-B", address, "--forceflush")
    ask = client.inside("iperf3", "-c", address, "-t", str(seconds), "--repeating-payload")
    ask += [*options, "--json"]
    commands.echo(serve, background=True)
    process = subprocess.Popen(
        serve, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        wait_for_server(server, process)
        commands.echo(ask)
        # iperf3 explains itself in its JSON, and then has exit status 1.
        return commands.run(ask, timeout=seconds + 15, accept=(0, 1))
    finally:
        if process.poll() is None:
            process.terminate()
        try:
            process.wait(5)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def wait_for_server(server: Namespace, process: subprocess.Popen[bytes]) -> None:
    """Waits until the server listens on its port."""
    listening = server.inside("ss", "-Htln", "sport", "=", ":5201")
    deadline = time.monotonic() + 5
    while not commands.run(listening).strip():
        if process.poll() is not None or time.monotonic() > deadline:
            raise CommandError("the iperf3 server does not start")
        time.sleep(0.02)
