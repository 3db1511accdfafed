"""A TCP transfer that goes on through faults: a connection that breaks is made anew."""

from __future__ import annotations

import contextlib
import selectors
import socket
import time
from typing import Any

from ... import netns
from ...netns import Namespace
from .content import Content, Reader

PORT = 7078
# A block so often: 1.3 Mb/s.
INTERVAL_SECONDS = 0.1
# Unanswered for so long, TCP gives a connection up.
GIVE_UP_MS = 8000
CONNECT_SECONDS = 3.0
RETRY_SECONDS = 0.5
CHUNK = 1 << 16


class Transfer:
    """Blocks from one host to another. All is done by the checker's thread."""

    def __init__(
        self,
        selector: selectors.BaseSelector,
        content: Content,
        ends: tuple[Namespace, Namespace],
        address: str,
    ) -> None:
        self.selector, self.content, self.address = selector, content, address
        self.namespace = ends[0]
        self.port = PORT + content.transfer
        self.client: socket.socket | None = None
        self.server: socket.socket | None = None
        self.reader = Reader(content)
        self.rest = b""
        self.number = 0
        self.connections = self.broken = self.blocks = 0
        self.wrong: list[str] = []
        self.is_connected = False
        self.tried_at = 0.0
        self.progress_at = time.monotonic()
        self.longest_pause = 0.0
        with netns.inside(ends[1]):
            self.listener = socket.create_server(("0.0.0.0", self.port))
        self.listener.setblocking(False)
        self.watch(self.listener, self.accept)

    def watch(self, opened: socket.socket, then: Any) -> None:
        """Has something done when there is something to read."""
        self.selector.register(opened, selectors.EVENT_READ, then)

    def drop(self, opened: socket.socket | None) -> None:
        """Closes a socket."""
        if opened is not None:
            with contextlib.suppress(KeyError):
                self.selector.unregister(opened)
            opened.close()

    def tick(self, now: float) -> None:
        """Sends what is due, or tries to connect."""
        if self.client is None:
            if now - self.tried_at >= RETRY_SECONDS:
                self.connect(now)
            return
        if not self.is_connected and not self.check_connected(now):
            return
        if not self.rest:
            self.rest = self.content.block(self.connections, self.number)
            self.number += 1
        try:
            self.rest = self.rest[self.client.send(self.rest) :]
        except BlockingIOError:
            pass
        except OSError:
            self.break_off()

    def connect(self, now: float) -> None:
        """Begins a connection."""
        self.tried_at = now
        with netns.inside(self.namespace):
            self.client = socket.socket()
        self.client.setblocking(False)
        self.client.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, GIVE_UP_MS)
        try:
            self.client.connect((self.address, self.port))
        except BlockingIOError:
            pass
        except OSError:
            # There is no way to it now.
            self.drop(self.client)
            self.client = None

    def check_connected(self, now: float) -> bool:
        """Whether the connection is made. One that is not for long is tried anew."""
        if self.client is None:
            return False
        try:
            self.client.getpeername()
        except OSError:
            failed = self.client.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
            if failed or now - self.tried_at > CONNECT_SECONDS:
                self.drop(self.client)
                self.client = None
            return False
        self.is_connected = True
        self.connections += 1
        self.number, self.rest = 0, b""
        return True

    def break_off(self) -> None:
        """The connection is broken: another one is made."""
        self.broken += 1
        self.drop(self.client)
        self.client, self.is_connected = None, False

    def accept(self, _now: float) -> None:
        """Takes a connection, in place of the one before."""
        try:
            opened, _ = self.listener.accept()
        except OSError:
            return
        self.drop(self.server)
        self.server = opened
        self.server.setblocking(False)
        self.reader = Reader(self.content)
        self.watch(self.server, self.take)

    def take(self, now: float) -> None:
        """Reads what arrived, and compares it."""
        if self.server is None:
            return
        try:
            octets = self.server.recv(CHUNK)
        except BlockingIOError:
            return
        except OSError:
            octets = b""
        done = self.reader.feed(octets)
        if done:
            self.blocks += done
            self.longest_pause = max(self.longest_pause, now - self.progress_at)
            self.progress_at = now
        if self.reader.wrong:
            self.wrong.append(self.reader.wrong)
        if not octets or self.reader.wrong:
            self.drop(self.server)
            self.server = None

    def close(self) -> None:
        """Closes all."""
        for opened in (self.client, self.server, self.listener):
            self.drop(opened)
        self.client = self.server = None
