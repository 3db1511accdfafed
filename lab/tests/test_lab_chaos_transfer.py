"""A TCP transfer goes on when its connection breaks: on this host's loopback."""

import contextlib
import selectors
import socket
import time
import unittest
from collections.abc import Callable
from unittest import mock

from omni_lab import netns
from omni_lab.bench.chaos import transfer
from omni_lab.bench.chaos.content import Content
from omni_lab.bench.chaos.transfer import Transfer
from omni_lab.netns import Namespace

HERE = (Namespace("here"), Namespace("here"))
# Added to the port: where no other test is.
NUMBER = 31000
PATIENCE_SECONDS = 5.0


class Going(unittest.TestCase):
    def setUp(self) -> None:
        here = mock.patch.object(netns, "inside", lambda _: contextlib.nullcontext())
        here.start()
        self.addCleanup(here.stop)
        soon = mock.patch.object(transfer, "RETRY_SECONDS", 0.01)
        soon.start()
        self.addCleanup(soon.stop)
        self.selector = selectors.DefaultSelector()
        self.transfer = Transfer(self.selector, Content(1, NUMBER), HERE, "127.0.0.1")
        self.addCleanup(self.selector.close)
        self.addCleanup(self.transfer.close)

    def go_on_until(self, done: Callable[[], bool]) -> None:
        deadline = time.monotonic() + PATIENCE_SECONDS
        while not done():
            self.assertLess(time.monotonic(), deadline)
            self.transfer.tick(time.monotonic())
            for key, _ in self.selector.select(0.01):
                key.data(time.monotonic())

    def test_blocks_arrive(self) -> None:
        self.go_on_until(lambda: self.transfer.blocks >= 20)
        self.assertEqual((self.transfer.connections, self.transfer.broken), (1, 0))
        self.assertEqual(self.transfer.wrong, [])

    def test_a_broken_connection_is_made_anew(self) -> None:
        self.go_on_until(lambda: self.transfer.blocks >= 3)
        self.transfer.drop(self.transfer.server)
        self.transfer.server = None
        self.go_on_until(lambda: self.transfer.connections == 2 and self.transfer.blocks >= 10)
        self.assertEqual(self.transfer.broken, 1)
        self.assertEqual(self.transfer.wrong, [])

    def test_what_is_changed_on_the_way_is_noted(self) -> None:
        self.go_on_until(lambda: self.transfer.blocks >= 1)
        # More than a block, in place of the rest of this one.
        self.transfer.rest = b"\xff" * 20000
        self.go_on_until(lambda: bool(self.transfer.wrong))
        self.assertIn("instead of block", self.transfer.wrong[0])

    def test_a_host_that_is_not_there_is_tried_again(self) -> None:
        self.transfer.drop(self.transfer.listener)
        for _ in range(20):
            self.transfer.tick(time.monotonic())
            time.sleep(0.01)
        self.assertEqual((self.transfer.connections, self.transfer.blocks), (0, 0))
        self.transfer.listener = socket.create_server(("0.0.0.0", self.transfer.port))
        self.transfer.listener.setblocking(False)
        self.transfer.watch(self.transfer.listener, self.transfer.accept)
        self.go_on_until(lambda: self.transfer.blocks >= 1)


if __name__ == "__main__":
    unittest.main()
