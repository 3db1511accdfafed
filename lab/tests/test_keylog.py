"""The key log of whole engines: what it opens, and that there is none unless it is asked for."""

import base64
import os
import struct
import time
import unittest
from contextlib import ExitStack
from pathlib import Path

from dissect import ACCESS, VARIABLE, LoggingNode, World
from omni_lab import commands
from omni_lab.node import Programs
from reference.chacha20poly1305 import unseal

LAB = Path(__file__).resolve().parents[1]
PROGRAMS = Path(os.environ.get("OMNI_PROGRAMS", LAB.parent / "target" / "release"))
NAMES = ("omni-engine", "omni")
REFUSED_SECONDS = 10.0
RELOAD_SECONDS = 5.0
UDP_PAYLOAD = 42
DATA = 4
WARNING = f"{VARIABLE} IS SET"


def obstacle() -> str | None:
    """Why it cannot be tried here."""
    if os.geteuid() != 0:
        return "needs root"
    missing = [name for name in NAMES if not os.access(PROGRAMS / name, os.X_OK)]
    return f"{missing[0]} is not built" if missing else None


TURNED = {"in": "out", "out": "in"}

Key = tuple[str, int, bytes, bytes]


def read(path: Path) -> list[Key]:
    """Direction, session id, key and peer of each line, which has to be as it is documented."""
    keys = []
    for line in path.read_text().splitlines():
        form, direction, session, key, peer = line.split(" ")
        assert form == "omni1" and len(session) == 8, line
        keys.append((direction, int(session, 16), bytes.fromhex(key), base64.b64decode(peer)))
    return keys


def is_ping(plain: bytes) -> bool:
    """Whether a frame of IPv4 holds ICMP."""
    return plain[12:14] == b"\x08\x00" and plain[23] == 1


@unittest.skipIf(obstacle() is not None, obstacle() or "")
class KeyLog(unittest.TestCase):
    stack: ExitStack
    world: World

    def setUp(self) -> None:
        self.stack = ExitStack()
        self.addCleanup(self.stack.close)
        programs = Programs(*(PROGRAMS / name for name in NAMES))
        self.world = World(self.stack, f"omni-keylog-{os.getpid()}", programs)

    def log(self, name: str) -> Path:
        return self.world.nodes[name].folder / "keys"

    def opened(self, keys: list[Key]) -> list[bytes]:
        """What is in the captured data messages of sessions that there are keys for."""
        by_session = {session: key for _, session, key, _ in keys}
        plain = []
        for _, frame in self.world.tap.frames:
            message = frame[UDP_PAYLOAD:]
            session, type_ = struct.unpack("!IB", message[:5])
            if type_ != DATA or session not in by_session:
                continue
            nonce, sealed = bytes(2) + message[6:16], message[32:] + message[16:32]
            plain.append(unseal(by_session[session], nonce, message[:16], sealed))
        return plain

    def test_what_one_end_writes_opens_both_directions_and_is_what_the_other_writes(self) -> None:
        for name, node in self.world.nodes.items():
            node.key_log = self.log(name)
        self.world.start()
        self.world.ping()
        alpha = self.world.nodes["alpha"]
        self.assertEqual(alpha.log.read_text().count(WARNING), 1)
        commands.run([str(PROGRAMS / "omni"), "reload", "--socket", str(alpha.socket)])
        deadline = time.monotonic() + RELOAD_SECONDS
        while alpha.log.read_text().count(WARNING) < 2:
            self.assertLess(time.monotonic(), deadline, "no warning at the reload")
            time.sleep(0.05)
        for node in self.world.nodes.values():
            self.assertEqual(node.stop(), 0)
        self.world.tap.end()
        keys = {name: read(self.log(name)) for name in self.world.nodes}
        for name in keys:
            self.assertEqual(self.log(name).stat().st_mode & 0o7777, 0o600)
        # Both may have begun, and one session may have been known at one end alone.
        ours = {key[:3] for key in keys["alpha"]}
        theirs = {(TURNED[key[0]], *key[1:3]) for key in keys["beta"]}
        self.assertGreaterEqual(len(ours & theirs), 2)
        sources = {plain[26:30] for plain in self.opened(keys["alpha"]) if is_ping(plain)}
        hosts = {bytes(map(int, at[0].split("/")[0].split("."))) for at in ACCESS.values()}
        self.assertEqual(sources, hosts)

    def test_nothing_is_written_where_nothing_is_asked_for(self) -> None:
        self.world.start()
        for node in self.world.nodes.values():
            self.assertEqual(node.stop(), 0)
            self.assertNotIn(VARIABLE, node.log.read_text())
            made = {path.name for path in node.folder.iterdir()}
            known = {node.config.name, node.log.name, f"{node.name}.key", f"{node.name}.state"}
            self.assertEqual(made - known, set())
            for path in node.folder.iterdir():
                self.assertNotIn("omni1 ", path.read_text(errors="replace"))

    def refusal(self, node: LoggingNode, path: Path) -> str:
        """What the engine says when it does not start."""
        node.key_log = path
        node.start()
        self.assertEqual(node.running().wait(REFUSED_SECONDS), 1)
        return node.log.read_text()

    def test_a_file_that_gives_anything_to_others_is_refused(self) -> None:
        node = self.world.nodes["alpha"]
        path = self.log("alpha")
        path.touch(0o600)
        path.chmod(0o640)
        text = self.refusal(node, path)
        self.assertIn(f"{VARIABLE}: {path} is open to group or others (mode 0640)", text)
        path.unlink()
        path.symlink_to(node.folder / "elsewhere")
        self.assertIn("cannot be written", self.refusal(node, path))
        self.assertFalse((node.folder / "elsewhere").exists())
        self.assertEqual(node.leftovers(), [])


if __name__ == "__main__":
    unittest.main()
