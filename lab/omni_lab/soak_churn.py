"""What a soak does to its nodes, and what it looks at."""

from __future__ import annotations

import contextlib
import itertools
import os
import random
import signal
import socket
import tempfile
import time
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

from . import commands, detach, netns, soak_figures
from .netns import Host
from .node import Drivers, Identity, Node, NodeError, Programs, render_config
from .pinger import Pinger, Stream
from .soak_figures import RESUMED_SECONDS, Book, Fault, Sample

PREFIX_LENGTH = 24
PING_SECONDS = 0.02
MEET_SECONDS = 30.0
# From the end of one fault to the next, at least: some of the time has to be quiet.
REST_SECONDS = 4.0
# Traffic that does not flow so long after a fault is waited for no longer.
GIVE_UP_SECONDS = 20.0
LOOK_SECONDS = 0.02
# Datagrams sent at once to an engine that stands still, until all its rings are full.
BURST, PAUSE_SECONDS = 20, 0.001
DATAGRAM = bytes(1300)
DISCARD_PORT = 9


class Soak:
    """A small fabric, all its nodes each other's peers; the stack removes it."""

    def __init__(
        self, stack: ExitStack, programs: Programs, count: int, seconds: float, seed: int
    ) -> None:
        self.book = Book(seconds)
        self.random = random.Random(seed)
        names = [f"n{number + 1}" for number in range(count)]
        self.hosts = {
            name: Host(name, f"192.0.2.{number + 1}/{PREFIX_LENGTH}")
            for number, name in enumerate(names)
        }
        self.access = {name: f"10.7.0.{number + 1}" for number, name in enumerate(names)}
        self.underlay = netns.build(stack, f"omni-soak-{os.getpid()}", list(self.hosts.values()))
        self.underlay.connect()
        self.nodes = self.start(stack, programs)
        self.pinger = Pinger(self.underlay.hosts, seed)
        stack.callback(self.pinger.close)
        pairs = list(itertools.permutations(names, 2))
        routes = [(one, self.access[other]) for one, other in pairs]
        self.streams = self.pinger.add(routes, PING_SECONDS, once=False)
        # The same by the kernel alone, which needs its time after a fault as well.
        outer = {name: host.address.partition("/")[0] for name, host in self.hosts.items()}
        routes = [(one, outer[other]) for one, other in pairs]
        self.ground = self.pinger.add(routes, PING_SECONDS, once=False)
        for stream in [*self.streams, *self.ground]:
            stream.answers = []
        if not self.pinger.wait(lambda: all(each.answered for each in self.streams), MEET_SECONDS):
            raise NodeError(f"not every node reaches every other within {MEET_SECONDS:g} s")
        self.began = time.monotonic()
        self.unwritten = 0.0

    def start(self, stack: ExitStack, programs: Programs) -> dict[str, Node]:
        """Starts all engines: AF_XDP on both sides, as that is what is tried here."""
        nodes, identities = {}, {}
        for name, host in self.hosts.items():
            folder = stack.enter_context(tempfile.TemporaryDirectory(prefix=f"omni-soak-{name}-"))
            nodes[name] = node = Node(
                name, self.underlay.hosts[name], Path(folder), programs
            )
            stack.callback(node.kill)
            outer = host.address.partition("/")[0]
            inner = (f"{self.access[name]}/{PREFIX_LENGTH}",)
            identities[name] = Identity(name, outer, inner, node.make_keys())
        drivers = Drivers(access="xdp", underlay="afxdp")
        for name, node in nodes.items():
            peers = [each for each in identities.values() if each.name != name]
            text = render_config("soak", identities[name], peers, node.socket, drivers=drivers)
            node.config.write_text(text)
            node.start()
        for node in nodes.values():
            node.wait_ready()
        return nodes

    def now(self) -> float:
        """Seconds since the beginning."""
        return time.monotonic() - self.began

    def run(self) -> None:
        """Does harm until the time is over, and looks every second."""
        minute, due = 1, REST_SECONDS
        next_look = 0.0
        kinds: list[str] = []
        while (now := self.now()) < self.book.seconds:
            if now >= next_look:
                self.look()
                next_look = now + 1.0
            # Its own end is quiet, so that the last fault can be over.
            if now >= due and now < self.book.seconds - GIVE_UP_SECONDS:
                if not kinds:
                    kinds = self.random.sample(sorted(RESUMED_SECONDS), len(RESUMED_SECONDS))
                self.harm(kinds.pop())
                due = self.now() + REST_SECONDS * (0.75 + self.random.random() / 2)
            if now >= minute * 60:
                self.write_pings()
                print(soak_figures.minute_line(self.book, now), flush=True)
                minute += 1
            time.sleep(LOOK_SECONDS)
        self.pinger.finish()
        self.write_pings()
        shown = [node.look() for node in self.nodes.values()]
        self.book.recovered = soak_figures.recovered(shown)

    def look(self) -> None:
        """Looks at every node."""
        self.pinger.raise_failure()
        for name, node in self.nodes.items():
            status = node.running().poll()
            if status is not None:
                raise NodeError(f"{name}: {node.condition()}")
            shown = node.look()
            error = soak_figures.census_error(shown["umem"], shown["recovery"])
            if error is not None:
                self.book.wrong.append(f"{self.now():.1f} s, {name}: {error}")
            self.book.samples.setdefault(name, []).append(self.sample(node))
        self.book.checks += 1

    def sample(self, node: Node) -> Sample:
        """What the kernel knows of a node's process."""
        process = Path("/proc", str(node.running().pid))
        resident = soak_figures.parse_status((process / "status").read_text())
        return Sample(self.now(), resident, len(list((process / "fd").iterdir())))

    def harm(self, kind: str) -> None:
        """Does one thing to one node, and waits until traffic flows again."""
        name = self.random.choice(sorted(self.nodes))
        began = self.now()
        acts = {
            "flap": self.flap,
            "stop": self.stop,
            "detach": self.detach,
            "remake": self.remake,
        }
        acts[kind](name)
        moment = time.monotonic()
        carried = self.wait_carried(self.ground, name, moment)
        resumed = self.wait_carried(self.streams, name, moment)
        # Over is a fault when the underlay carries what the kernel itself sends.
        over = moment - self.began if carried is None else carried
        self.book.faults.append(Fault(kind, name, began, over, resumed))
        if resumed is None:
            raise NodeError(f"{name}: no traffic {GIVE_UP_SECONDS:g} s after: {kind}")

    def wait_carried(self, streams: Sequence[Stream], name: str, moment: float) -> float | None:
        """When every other node had heard this one once more after a moment, and it them."""
        own = (self.access[name], self.hosts[name].address.partition("/")[0])
        mine = [each for each in streams if each.source == name or each.address in own]
        deadline = time.monotonic() + GIVE_UP_SECONDS
        next_look = self.now() + 1.0
        while time.monotonic() < deadline:
            found = [first_sent_after(stream, moment) for stream in mine]
            if all(each is not None for each in found):
                return max(each for each in found if each is not None) - self.began
            # Also while nothing flows, all frames have to be somewhere.
            if self.now() >= next_look:
                self.look()
                next_look = self.now() + 1.0
            time.sleep(LOOK_SECONDS / 2)
        return None

    def flap(self, name: str) -> None:
        """The link goes down and up, some times."""
        namespace = self.underlay.hosts[name]
        for _ in range(self.random.randint(1, 3)):
            commands.run(namespace.ip("link", "set", netns.UNDERLAY, "down"))
            time.sleep(self.random.random() / 2)
            commands.run(namespace.ip("link", "set", netns.UNDERLAY, "up"))

    def stop(self, name: str) -> None:
        """The engine stands still while its rings run full and its fill rings dry."""
        process = self.nodes[name].running()
        other = self.random.choice(sorted(set(self.nodes) - {name}))
        with netns.inside(self.underlay.hosts[other]):
            sending = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        process.send_signal(signal.SIGSTOP)
        try:
            deadline = time.monotonic() + self.random.uniform(1.0, 4.0)
            while time.monotonic() < deadline:
                for _ in range(BURST):
                    # Nobody there takes them, and is sent them for that.
                    with contextlib.suppress(OSError):
                        sending.sendto(DATAGRAM, (self.access[name], DISCARD_PORT))
                time.sleep(PAUSE_SECONDS)
        finally:
            process.send_signal(signal.SIGCONT)
            sending.close()

    def detach(self, name: str) -> None:
        """Somebody takes the XDP program off the underlay."""
        shown = netns.link(self.underlay.hosts[name], netns.UNDERLAY)
        program = shown["xdp"]["prog"]["id"] if shown and "xdp" in shown else 0
        if not detach.detach(program):
            raise NodeError(f"{name}: no XDP program to take off: {shown}")

    def remake(self, name: str) -> None:
        """The underlay is deleted, and after a while made again."""
        namespace, host = self.underlay.hosts[name], self.hosts[name]
        commands.run(namespace.ip("link", "delete", netns.UNDERLAY))
        time.sleep(self.random.random())
        netns.plug_in(self.underlay.wire, namespace, host, commands.run)
        commands.run(namespace.ip("link", "set", netns.UNDERLAY, "up"))

    def write_pings(self) -> None:
        """Books what the pinger has found since the last time."""
        book = self.book
        for stream in self.streams:
            answers, stream.answers = stream.answers or [], []
            book.answered += [(at - self.began, took) for at, took in answers if at > self.began]
            lost, stream.lost_at = stream.lost_at, []
            book.lost += [at - self.began for at in lost if at > self.began]
        for stream in self.ground:
            stream.answers, stream.lost_at = [], []


def first_sent_after(stream: Stream, moment: float) -> float | None:
    """When the first ping was answered that was sent after a moment."""
    answers: Sequence[tuple[float, float]] = list(stream.answers or [])
    arrivals = [at + took for at, took in answers if at >= moment]
    return min(arrivals, default=None)
