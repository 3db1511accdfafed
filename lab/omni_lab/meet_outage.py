"""The Nucleus is killed, stays away and comes back: who talked goes on, who came waits for it."""

from __future__ import annotations

import argparse
import json
import subprocess
import time
from collections.abc import Sequence
from contextlib import ExitStack
from typing import Any

from . import traffic
from .fabric import PING_SECONDS, Fabric
from .figures import Figure, percentile
from .node import NodeError, Programs
from .pinger import Pinger, Stream
from .report import heading
from .traffic import TrafficError

ESTABLISHED = ("alpha", "beta", "gamma")
NEWCOMERS = ("delta", "epsilon")
RATE = "100M"
LEAD_SECONDS = 10.0
# A session that is in use is renewed after this time (ARCHITECTURE.md, "Sessions and keys").
REKEY_SECONDS = 120.0
COMEBACK_SECONDS = 5.0
GIVE_UP_SECONDS = 60.0
# Traffic goes on for so long after the Nucleus is back.
TAIL_SECONDS = 10.0
# Between two looks at sessions, whose ages are in whole seconds.
LOOK_SECONDS = 2.0
AGE_ERROR_SECONDS = 3.0
# What iperf3 calls an interval may be the rest of one.
INTERVAL_MIN_SECONDS = 0.5


def lead_seconds(outage: float, age: float) -> float:
    """How long to wait before an outage, so that sessions of that age are renewed during it, and as
    a rule in its middle.
    """
    return max(LEAD_SECONDS, REKEY_SECONDS - outage / 2 - age)


def handshakes(samples: Sequence[tuple[float, float]], since: float, until: float) -> int:
    """How many handshakes a session had in a time, of moments and its age at each."""
    count, latest = 0, None
    for at, age in samples:
        made = at - age
        if latest is not None and made > latest + AGE_ERROR_SECONDS:
            count += since <= made <= until
        if latest is None or made > latest + AGE_ERROR_SECONDS:
            latest = made
    return count


def interval_rates(text: str) -> list[float]:
    """Bits per second in each second, of the JSON of an iperf3 client."""
    traffic.iperf_end(text)
    try:
        intervals = [each["sum"] for each in json.loads(text)["intervals"]]
        return [
            float(each["bits_per_second"])
            for each in intervals
            if each["seconds"] >= INTERVAL_MIN_SECONDS
        ]
    except (KeyError, TypeError) as error:
        raise TrafficError(f"iperf3 left out {error}") from error


class Iperf:
    """One stream of TCP at a limited rate, in the background."""

    def __init__(self, stack: ExitStack, outage: Fabric, server: str, client: str) -> None:
        self.stack, self.outage = stack, outage
        address = outage.access[server]
        self.serve = outage.nodes[server].namespace.inside("iperf3", "-s", "-1", "-B", address)
        self.ask = outage.nodes[client].namespace.inside("iperf3", "-c", address, "-b", RATE)
        self.server = server
        self.seconds = 0
        self.client: subprocess.Popen[str]

    def start(self, seconds: float) -> None:
        """Begins; it ends by itself."""
        self.seconds = round(seconds)
        server = self.begin(self.serve, subprocess.DEVNULL)
        traffic.wait_for_server(self.outage.nodes[self.server].namespace, server)
        options = ["-t", str(self.seconds), "-i", "1", "--json"]
        self.client = self.begin([*self.ask, *options], subprocess.PIPE)

    def begin(self, command: Sequence[str], output: int) -> subprocess.Popen[Any]:
        """Starts a program that the stack ends."""
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.DEVNULL,
            text=True,
            start_new_session=True,
        )
        self.stack.callback(process.wait)
        self.stack.callback(process.kill)
        return process

    def finish(self) -> list[float]:
        """Waits for its end. Returns its rates."""
        try:
            printed, _ = self.client.communicate(timeout=self.seconds + GIVE_UP_SECONDS)
        except subprocess.TimeoutExpired as error:
            raise TrafficError("iperf3 does not end") from error
        rates = interval_rates(printed)
        if not rates:
            raise TrafficError("iperf3 ended before its first second")
        return rates


class Outage:
    """The nodes, their traffic, and what is seen of their sessions."""

    def __init__(self, stack: ExitStack, programs: Programs) -> None:
        self.fabric = Fabric(stack, "outage", programs, nodes=[*ESTABLISHED, *NEWCOMERS])
        self.fabric.configure()
        self.nucleus = self.fabric.nuclei["nucleus"]
        self.nucleus.start()
        self.fabric.start(ESTABLISHED)
        self.pinger = Pinger(self.fabric.namespaces())
        stack.callback(self.pinger.close)
        self.fabric.meet(self.pinger, ESTABLISHED)
        self.met = time.monotonic()
        self.iperf = Iperf(stack, self.fabric, "beta", "alpha")
        # Moments and the ages of sessions, by node and peer.
        self.ages: dict[tuple[str, str], list[tuple[float, float]]] = {}

    def look(self) -> None:
        """Notes how old all sessions are."""
        for name in ESTABLISHED:
            shown, now = self.fabric.nodes[name].look(), time.monotonic()
            for peer in shown["peers"]:
                age = peer["last_handshake_seconds"]
                if peer["name"] in ESTABLISHED and age is not None:
                    self.ages.setdefault((name, peer["name"]), []).append((now, age))

    def pass_time(self, until: float) -> None:
        """Lets traffic flow, and looks after sessions."""
        while (now := time.monotonic()) < until:
            self.fabric.check_running()
            self.look()
            time.sleep(min(LOOK_SECONDS, until - now))

    def renewed(self, since: float, until: float) -> list[int]:
        """How often each session was renewed in a time, as each of its ends saw it."""
        return [handshakes(samples, since, until) for samples in self.ages.values()]

    def come_back(self, newcomers: Sequence[Stream]) -> tuple[float, dict[str, float]]:
        """Starts the Nucleus again, and waits until newcomers have reached all. Returns when it was
        started, and after how many seconds each node was connected to it.
        """
        back = time.monotonic()
        connected: dict[str, float] = {}

        def is_over() -> bool:
            for name, node in self.fabric.nodes.items():
                if name not in connected and node.look()["nuclei"][0]["state"] == "connected":
                    connected[name] = time.monotonic() - back
            return all(each.done for each in newcomers)

        self.nucleus.start()
        print("the Nucleus is back on its store", flush=True)
        self.pinger.wait(is_over, GIVE_UP_SECONDS)
        for name, took in connected.items():
            print(f"{took:5.2f} s: {name} is connected to it", flush=True)
        for each in newcomers:
            said = "never" if each.first_answer is None else f"{each.first_answer - back:5.2f} s"
            print(f"{said}: {each.source} reaches {each.address}", flush=True)
        return back, connected

    def begin_newcomers(self) -> list[Stream]:
        """Starts those who know nobody, and lets each ping all others."""
        self.fabric.start(NEWCOMERS)
        known = [*ESTABLISHED, *NEWCOMERS]
        pairs = [
            (one, self.fabric.access[other]) for one in NEWCOMERS for other in known if other != one
        ]
        return self.pinger.add(pairs, PING_SECONDS, once=True)


def run(stack: ExitStack, programs: Programs, options: argparse.Namespace) -> list[Figure]:
    """All of it."""
    length = options.minutes * 60
    heading("Three nodes meet at a Nucleus; two more are to come")
    outage = Outage(stack, programs)
    lead = lead_seconds(length, time.monotonic() - outage.met)
    heading(f"TCP at {RATE}b/s and 20 pings a second between all; killed after {lead:.0f} s")
    steady = outage.pinger.add(outage.fabric.pairs(ESTABLISHED), PING_SECONDS, once=False)
    began = time.monotonic()
    outage.iperf.start(lead + length + TAIL_SECONDS)
    outage.pass_time(began + lead)
    outage.nucleus.kill()
    gone = time.monotonic()
    print(f"the Nucleus is killed, for {length:.0f} s", flush=True)
    outage.pass_time(gone + length / 2)
    newcomers = outage.begin_newcomers()
    print(f"{' and '.join(NEWCOMERS)} are started, and know nobody", flush=True)
    outage.pass_time(gone + length)
    early = sum(each.done for each in newcomers)
    renewed = outage.renewed(gone, time.monotonic())
    back, connected = outage.come_back(newcomers)
    answers = [each.first_answer - back for each in newcomers if each.first_answer is not None]
    outage.pass_time(time.monotonic() + TAIL_SECONDS / 2)
    rates = outage.iperf.finish()
    outage.pinger.finish()
    tell_losses(steady, gone)
    if not renewed:
        raise NodeError("no session was seen")
    return [
        Figure("the Nucleus was away", back - gone, "s"),
        *pings(steady),
        Figure("TCP, seconds with 0 bit/s", sum(rate == 0 for rate in rates), at_most=0),
        Figure("TCP, seconds", len(rates), at_least=round(length)),
        Figure("TCP, slowest second", min(rates) / 1e6, "Mb/s"),
        Figure("TCP, mean", sum(rates) / len(rates) / 1e6, "Mb/s"),
        Figure("renewals of a session meanwhile, least", min(renewed), at_least=1),
        Figure("newcomers' pairs that talked too early", early, at_most=0),
        Figure("newcomers' pairs that never talked", len(newcomers) - len(answers), at_most=0),
        Figure(
            "newcomers reach all, from its start on",
            percentile(answers, 100, len(newcomers)),
            "s",
            at_most=COMEBACK_SECONDS,
        ),
        Figure(
            "nodes connected to it, last",
            percentile(list(connected.values()), 100, len(outage.fabric.nodes)),
            "s",
        ),
    ]


def pings(steady: Sequence[Stream]) -> list[Figure]:
    """What became of pings that never stop."""
    return [
        Figure("pings of established pairs", sum(each.sent for each in steady)),
        Figure("pings lost", sum(each.lost for each in steady), at_most=0),
        Figure("slowest answer", max(each.slowest_seconds for each in steady) * 1000, "ms"),
    ]


def tell_losses(steady: Sequence[Stream], since: float) -> None:
    """Says when pings were lost."""
    for each in steady:
        if each.lost_at:
            times = ", ".join(f"{at - since:.2f}" for at in each.lost_at[:8])
            print(f"{each.source} to {each.address}: {each.lost} lost, at {times} s", flush=True)
