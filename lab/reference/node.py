#!/usr/bin/env python3
"""A slow, readable node of an OmniNervous fabric, written from docs/protocol.md alone."""

from __future__ import annotations

import argparse
import base64
import contextlib
import json
import os
import selectors
import signal
import socket
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from types import FrameType
from typing import Any

if __package__ in (None, ""):
    # Started as a file: the package is the folder that this file is in.
    sys.path[0] = str(Path(__file__).resolve().parents[1])

from reference import config, messages
from reference.config import Config, ConfigError
from reference.cookies import Endpoint
from reference.links import OUTER_OCTETS, Links
from reference.peer import Peer
from reference.rendezvous import Nucleus, Rendezvous
from reference.roster import Roster
from reference.switch import Switch, made_mac
from reference.tap import Tap

WARNING = """\
NOT FOR SECRETS. This program exists to be read, and to try other implementations against. Its
cryptography is plain Python, which is NOT CONSTANT TIME: whoever can measure how long it takes
learns about its keys. It carries some hundred frames a second. Use keys that are worth nothing.
"""
EPILOG = """\
CONFIG is a JSON object; docs/reference-node.md has its keys. Needs root, for the TAP interface.
SIGTERM and SIGINT end it. It logs on stderr; `ready` is the line to wait for.
"""
TICK_SECONDS = 0.02
# How many frames or datagrams are taken in a row before the others have their turn.
BURST = 64
RECEIVE_BUFFER_OCTETS = 4 << 20
# Of <linux/in.h> and <linux/in6.h>: DF is set, and what ICMP says of the path is not believed.
IP_MTU_DISCOVER, IPV6_MTU_DISCOVER, PMTUDISC_PROBE = 10, 23, 3


def log(text: str) -> None:
    """One line on stderr."""
    print(text, file=sys.stderr, flush=True)


def udp_socket(family: socket.AddressFamily, port: int) -> socket.socket:
    """The fabric's socket of a family."""
    made = socket.socket(family, socket.SOCK_DGRAM)
    made.setblocking(False)
    made.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVE_BUFFER_OCTETS)
    if family == socket.AF_INET6:
        made.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        made.setsockopt(socket.IPPROTO_IPV6, IPV6_MTU_DISCOVER, PMTUDISC_PROBE)
    else:
        made.setsockopt(socket.IPPROTO_IP, IP_MTU_DISCOVER, PMTUDISC_PROBE)
    made.bind(("", port))
    return made


class Node:
    """The sockets, the interface and the clock around Links and Switch."""

    def __init__(self, settings: Config) -> None:
        self.settings = settings
        peers = [Peer(p.name, p.public_key, p.psk, p.endpoint) for p in settings.peers]
        largest = settings.underlay_mtu - OUTER_OCTETS[4]
        self.links = Links(
            settings.fabric,
            settings.private_key,
            peers,
            messages.Offer(lanes=1, largest_frame=largest),
            renew_seconds=settings.renew_seconds,
            retry_seconds=settings.retry_seconds,
            under_load=settings.under_load,
        )
        self.links.underlay_mtu = settings.underlay_mtu
        self.switch = Switch(self.links, settings.vlans, now())
        self.rendezvous = self.make_rendezvous(settings)
        self.stopping = False
        self.selector = selectors.DefaultSelector()
        self.sockets: dict[int, socket.socket] = {}
        self.recall()

    def make_rendezvous(self, settings: Config) -> Rendezvous:
        """What this node has with its Nuclei, if it is told of any."""
        roster = Roster(settings.fabric, settings.authority, self.links, self.switch.forget)
        return Rendezvous(
            self.links,
            roster,
            [Nucleus(each.endpoint, each.public_key) for each in settings.nuclei],
            fabric=settings.fabric,
            name=settings.name,
            port=settings.port,
            endpoints=settings.endpoints,
            vlans=self.switch.vlans,
            certificate=settings.certificate,
            watch=self.watch,
            unwatch=self.unwatch,
            log=log,
        )

    def watch(self, nucleus: Nucleus) -> None:
        """A stream to a Nucleus is there to be read from."""
        assert nucleus.opened is not None

        def readable(_: object) -> None:
            self.rendezvous.readable(nucleus, now())

        self.selector.register(nucleus.opened, selectors.EVENT_READ, readable)

    def unwatch(self, nucleus: Nucleus) -> None:
        """It is not any more."""
        if nucleus.opened is not None:
            self.selector.unregister(nucleus.opened)

    def open(self, stack: contextlib.ExitStack) -> None:
        """Opens the sockets and makes the interface; `stack` removes them again."""
        stack.enter_context(self.selector)
        families = {4: socket.AF_INET, 6: socket.AF_INET6}
        for number, family in families.items():
            try:
                opened = udp_socket(family, self.settings.port)
            except OSError as error:
                # There are systems without IPv6.
                if number == 4:
                    raise
                log(f"without IPv6: {error}")
                continue
            self.sockets[number] = stack.enter_context(opened)
            self.selector.register(opened, selectors.EVENT_READ, self.receive)
        # Others remember it for a while, also over a restart.
        mac = made_mac(self.links.public, b"access")
        told = self.settings
        self.tap = Tap(told.interface, mac, told.mtu, told.addresses)
        stack.callback(self.tap.close)
        self.selector.register(self.tap, selectors.EVENT_READ, self.read_tap)
        if self.settings.control is not None:
            self.open_control(stack, self.settings.control)

    def open_control(self, stack: contextlib.ExitStack, path: Path) -> None:
        """A UNIX socket that answers a line of JSON by another one."""
        path.unlink(missing_ok=True)
        listening = stack.enter_context(socket.socket(socket.AF_UNIX))
        listening.bind(str(path))
        path.chmod(0o600)
        listening.listen()
        stack.callback(path.unlink, missing_ok=True)
        self.selector.register(listening, selectors.EVENT_READ, self.asked)

    def run(self) -> None:
        """Moves frames until it is told to stop."""
        for peer in self.links.peers.values():
            self.links.begin(peer, now())
        next_tick = now()
        while not self.stopping:
            self.flush()
            for key, _ in self.selector.select(max(0.0, next_tick - now())):
                key.data(key.fileobj)
                self.flush()
            if now() >= next_tick:
                self.links.tick(now())
                self.switch.tick(now())
                self.rendezvous.tick(now())
                next_tick = now() + TICK_SECONDS
        self.remember()

    def receive(self, opened: socket.socket) -> None:
        """Takes what came from the underlay."""
        for _ in range(BURST):
            try:
                message, source = opened.recvfrom(1 << 16)
            except BlockingIOError:
                return
            except OSError as error:
                log(f"underlay: {error}")
                return
            if is_reflection(message):
                self.rendezvous.reflection(message, now())
            else:
                self.links.datagram(message, (source[0], source[1]), now())

    def read_tap(self, tap: Tap) -> None:
        """Takes what hosts sent."""
        for _ in range(BURST):
            frame = tap.read()
            if frame is None:
                return
            self.switch.from_host(frame, now())

    def flush(self) -> None:
        """Sends what is to be sent."""
        outbox, self.links.outbox = self.links.outbox, []
        for message, endpoint in outbox:
            self.send(message, endpoint)
        delivered, self.switch.delivered = self.switch.delivered, []
        for frame in delivered:
            if not self.tap.write(frame):
                self.links.drops["port_tx_dropped"] += 1

    def send(self, message: bytes, endpoint: Endpoint) -> None:
        """Sends a datagram; what cannot be sent is lost, as on any network."""
        opened = self.sockets.get(6 if ":" in endpoint[0] else 4)
        try:
            if opened is not None:
                opened.sendto(message, endpoint)
        except OSError:
            self.links.drops["tx_failed"] += 1

    # What is remembered, so that a restart brings no old handshake back.

    def recall(self) -> None:
        """Reads the timestamps of the last run."""
        path = self.settings.state_file
        if path is None or not path.exists():
            return
        read = json.loads(path.read_text())
        self.links.last_timestamp = int(read["own"])
        for peer in self.links.peers.values():
            peer.timestamp = bytes.fromhex(read["peers"].get(peer.public_key.hex(), ""))

    def remember(self) -> None:
        """Writes them."""
        path = self.settings.state_file
        if path is not None:
            peers = {key.hex(): peer.timestamp.hex() for key, peer in self.links.peers.items()}
            written = path.with_suffix(".new")
            written.write_text(json.dumps({"own": self.links.last_timestamp, "peers": peers}))
            os.replace(written, path)

    # What an operator asks.

    def asked(self, listening: socket.socket) -> None:
        """Answers one question."""
        accepted, _ = listening.accept()
        with accepted:
            accepted.settimeout(1.0)
            with contextlib.suppress(OSError, ValueError, AttributeError):
                command = json.loads(accepted.makefile().readline()).get("command")
                accepted.sendall(json.dumps(self.answer(command)).encode() + b"\n")

    def answer(self, command: str) -> dict[str, Any]:
        """`show`, and `renew`, which begins a handshake with every peer."""
        if command == "renew":
            for peer in self.links.peers.values():
                self.links.begin(peer, now())
        elif command != "show":
            return {"error": "commands: show, renew"}
        return self.show()

    def show(self) -> dict[str, Any]:
        """The node's state, under the names that `omni show --json` has."""
        names = {peer.public_key: peer.name for peer in self.links.peers.values()}

        def owner(peer: Peer | None) -> str:
            return names[peer.public_key] if peer else "local"

        return {
            "node": {
                "name": self.settings.name,
                "fabric": self.settings.fabric,
                "public_key": base64.b64encode(self.links.public).decode(),
            },
            "peers": [self.show_peer(peer) for peer in self.links.peers.values()],
            "fdb": [
                {"vlan": vlan, "mac": mac.hex(":"), "owner": owner(each.peer)}
                for (vlan, mac), each in self.switch.owners.table.items()
            ],
            "neighbors": [
                {"vlan": vlan, "ip": ip, "mac": each.mac.hex(":"), "owner": owner(each.peer)}
                for (vlan, ip), each in self.switch.neighbors.table.items()
            ],
            "nuclei": [
                {"endpoint": shown(each.endpoint), "registered": each.registered}
                for each in self.rendezvous.nuclei
            ],
            "drops": dict(self.links.drops),
        }

    def show_peer(self, peer: Peer) -> dict[str, Any]:
        """One peer."""
        session = peer.current(now())
        state = "handshaking" if peer.pending else "idle"
        return {
            "name": peer.name,
            "endpoint": shown(peer.endpoint) if peer.endpoint else None,
            "state": "established" if session else state,
            "initiator": session.initiator if session else None,
            "sessions": peer.sessions_made,
            "last_handshake_seconds": session.age(now()) if session else None,
            "rx_frames": peer.received,
            "tx_frames": peer.sent,
        }


def shown(endpoint: Endpoint) -> str:
    """IPv4:port or [IPv6]:port."""
    host, port = endpoint
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def is_reflection(message: bytes) -> bool:
    """Whether it is what a Nucleus says, rather than a peer."""
    head = messages.prefix(messages.REFLECTION_ANSWER)
    return len(message) == messages.REFLECTION_OCTETS and message.startswith(head)


def now() -> float:
    """Seconds of a clock that goes on while the machine is suspended."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


def arguments() -> argparse.ArgumentParser:
    """What the command line may say."""
    parser = argparse.ArgumentParser(
        prog="node.py",
        description=f"{__doc__}\n\n{WARNING}",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--config", type=Path, required=True, help="the JSON file")
    return parser


def main(words: Sequence[str] | None = None) -> int:
    """Runs a node. Exit status 0: stopped; 1: could not start; 2: the configuration is wrong."""
    given = arguments().parse_args(words)
    try:
        settings = config.load(given.config)
    except ConfigError as error:
        log(str(error))
        return 2
    node = Node(settings)

    def stop(_number: int, _frame: FrameType | None) -> None:
        node.stopping = True

    signal.signal(signal.SIGTERM, stop)
    signal.signal(signal.SIGINT, stop)
    try:
        with contextlib.ExitStack() as stack:
            node.open(stack)
            log(WARNING.strip())
            log(f"{settings.name} of {settings.fabric}: ready")
            node.run()
    except OSError as error:
        log(str(error))
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
