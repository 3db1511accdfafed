"""`omni top` on a terminal: drawn, an engine that ends and comes back, and the terminal given back.

The engine is a socket that answers as one does.
"""

from __future__ import annotations

import contextlib
import json
import os
import pty
import select
import signal
import socket
import struct
import subprocess
import tempfile
import termios
import threading
import time
import unittest
from collections.abc import Callable
from fcntl import ioctl
from pathlib import Path
from typing import Any

from .built import PROGRAMS

ROWS, COLUMNS = 24, 80
PATIENCE_SECONDS = 10.0
# Of xterm: the screen that was there before, and a cursor.
LEAVE_SCREEN = b"\x1b[?1049l"
SHOW_CURSOR = b"\x1b[?25h"
SWITCH_COUNTS = (
    "arp_answered arp_unknown nd_answered nd_unknown too_big_answered moves frozen claims_sent "
    "claims_refused evicted bindings_refused groups_refused records_limited records_malformed "
    "sends_left_out"
)


def state(uptime: int, frames: int) -> dict[str, Any]:
    """What an engine with one peer shows."""
    switch = {"suppression": "on", "unknown_unicast": "flood", "multicast": "snoop"}
    peer = {
        "name": "beta",
        "public_key": "hSDwCYkwp1R0i33ctD73Wg2/Og0mOBr066SpjqqbTmo=",
        "endpoint": "192.0.2.2:51820",
        "state": "established",
        "last_handshake_seconds": 3,
        "frame_limit": 1440,
        "rx_frames": frames,
        "rx_bytes": frames * 1000,
        "tx_frames": 0,
        "tx_bytes": 0,
    }
    node = {"name": "alpha", "fabric": "lab", "public_key": "key", "uptime_seconds": uptime}
    lists = ("fdb", "neighbors", "vlans", "groups", "alarms", "queues")
    return {
        "node": node,
        "peers": [peer],
        "switch": switch | {"wanting_all": []} | dict.fromkeys(SWITCH_COUNTS.split(), 0),
        "drops": {"bad_tag": 7},
        "umem": {f"frames_{name}": 0 for name in ("total", "free", "receiving", "sending", "held")},
        **{name: [] for name in lists},
    }


class Engine:
    """Answers on its socket until it is closed."""

    def __init__(self, path: Path, uptime: int) -> None:
        self.path, self.start = path, time.monotonic() - uptime
        self.listener = socket.socket(socket.AF_UNIX)
        self.listener.bind(str(path))
        self.listener.listen()
        self.thread = threading.Thread(target=self.serve)
        self.thread.start()

    def serve(self) -> None:
        """One request a connection."""
        with contextlib.suppress(OSError):
            while True:
                connection, _ = self.listener.accept()
                with connection, contextlib.suppress(OSError):
                    connection.sendall(self.answer(json.loads(connection.recv(4096))))

    def answer(self, request: dict[str, str]) -> bytes:
        """What it says to a request."""
        age = int(time.monotonic() - self.start)
        if request["command"] == "show":
            return json.dumps(state(age, age * 1000)).encode() + b"\n"
        return b'{"error":"not here"}\n'

    def close(self) -> None:
        """It is gone."""
        self.path.unlink()
        self.listener.shutdown(socket.SHUT_RDWR)
        self.listener.close()
        self.thread.join()


class Top:
    """`omni top` on a terminal of its own."""

    def __init__(self, path: Path) -> None:
        self.master, self.terminal = pty.openpty()
        ioctl(self.terminal, termios.TIOCSWINSZ, struct.pack("HHHH", ROWS, COLUMNS, 0, 0))
        self.before = termios.tcgetattr(self.terminal)
        self.output = b""
        command = [str(PROGRAMS / "omni"), "top", "--interval", "0.2", "--socket", str(path)]
        ends = {"stdin": self.terminal, "stdout": self.terminal, "stderr": self.terminal}
        environment = os.environ | {"TERM": "xterm-256color"}
        self.process = subprocess.Popen(command, **ends, env=environment, start_new_session=True)

    def until(self, reached: Callable[[], bool]) -> bool:
        """Reads what is drawn until something is so; whether it was in time."""
        deadline = time.monotonic() + PATIENCE_SECONDS
        while not reached():
            left = deadline - time.monotonic()
            if left <= 0:
                return False
            if select.select([self.master], [], [], min(left, 0.05))[0]:
                self.output += os.read(self.master, 1 << 16)
        return True

    def draws(self, text: str) -> bool:
        """Whether a text is drawn from here on."""
        self.output = b""
        return self.until(lambda: text.encode() in self.output)

    def press(self, keys: str) -> None:
        """Types."""
        os.write(self.master, keys.encode())

    def ends(self) -> int:
        """Its exit status, once it has ended."""
        self.output = b""
        self.until(lambda: self.process.poll() is not None)
        while select.select([self.master], [], [], 0.05)[0]:
            self.output += os.read(self.master, 1 << 16)
        return self.process.wait(0)

    def close(self) -> None:
        """Removes what is left."""
        self.process.kill()
        self.process.wait()
        os.close(self.master)
        os.close(self.terminal)


@unittest.skipUnless(os.access(PROGRAMS / "omni", os.X_OK), "omni is not built")
class OnATerminal(unittest.TestCase):
    def setUp(self) -> None:
        folder = self.enterContext(tempfile.TemporaryDirectory())
        self.path = Path(folder, "alpha.sock")

    def top(self, engine: Engine) -> Top:
        top = Top(engine.path)
        self.addCleanup(top.close)
        return top

    def assert_given_back(self, top: Top) -> None:
        self.assertIn(LEAVE_SCREEN, top.output)
        self.assertIn(SHOW_CURSOR, top.output)
        self.assertEqual(termios.tcgetattr(top.terminal), top.before)

    def test_an_engine_that_ends_is_waited_for_and_keys_work(self) -> None:
        engine = Engine(self.path, uptime=100)
        top = self.top(engine)
        self.assertTrue(top.draws("Mbit"), top.output)
        self.assertNotEqual(termios.tcgetattr(top.terminal), top.before)
        top.press("2\r")
        self.assertTrue(top.draws("192.0.2.2:51820"), top.output)
        engine.close()
        self.assertTrue(top.draws("ENGINE"), top.output)
        engine = Engine(self.path, uptime=0)
        try:
            self.assertTrue(top.draws("RESTARTED"), top.output)
            top.press("q")
            self.assertEqual(top.ends(), 0, top.output)
        finally:
            engine.close()
        self.assert_given_back(top)

    def test_a_signal_gives_the_terminal_back(self) -> None:
        engine = Engine(self.path, uptime=100)
        try:
            top = self.top(engine)
            self.assertTrue(top.draws("Mbit"), top.output)
            top.process.send_signal(signal.SIGTERM)
            self.assertEqual(top.ends(), 0, top.output)
        finally:
            engine.close()
        self.assert_given_back(top)


if __name__ == "__main__":
    unittest.main()
