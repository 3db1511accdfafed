"""A stranger who knows much is told nothing, by the engine and by the reference node alike.

Mallory speaks with the reference node's own code: it is a peer of both, and makes messages that are
wrong in one place each.
"""

import os
import socket
import struct
import time
import unittest
from collections.abc import Callable
from contextlib import ExitStack
from typing import Any

from omni_lab import netns
from omni_lab.node import PORT
from reference import cookies, messages
from reference.links import Links
from reference.messages import Offer
from reference.noise import Handshake, make_private_key
from reference.peer import Peer
from reference.x25519 import public_key

from .built import obstacle
from .reference_world import FABRIC, Reference, World

QUIET_SECONDS = 0.4
PATIENCE_SECONDS = 8.0
# The engine works on 512 at once, and 256 a second, before it is under load.
FLOOD, PAUSE_SECONDS, LOAD_SECONDS = 800, 0.05, 1.1
DAY_NANOSECONDS = 24 * 3600 * messages.NANOSECONDS
FRAME = bytes.fromhex("ffffffffffff 020000000777 88b5").ljust(60, b"m")


class Mallory:
    """A peer's code with a socket, whose every message is kept."""

    def __init__(self, opened: socket.socket, links: Links) -> None:
        self.opened, self.links = opened, links
        self.sent: list[bytes] = []
        links.upper = None
        opened.setblocking(False)

    def pump(self, seconds: float, until: Callable[[], bool] = lambda: False) -> None:
        """Sends, receives and keeps time for a while."""
        end = time.monotonic() + seconds
        while time.monotonic() < end and not until():
            now = time.monotonic()
            self.links.tick(now)
            outbox, self.links.outbox = self.links.outbox, []
            for message, endpoint in outbox:
                self.sent.append(message)
                self.opened.sendto(message, endpoint)
            try:
                message, source = self.opened.recvfrom(1 << 16)
                self.links.datagram(message, source, now)
            except BlockingIOError:
                time.sleep(0.002)


def initiation(
    target: bytes,
    private: bytes,
    *,
    fabric: str = FABRIC,
    ahead: int = 0,
    index: int = 7,
    lanes: int = 1,
    noise_for: bytes | None = None,
) -> bytes:
    """An initiation to the node with the public key `target`, before its macs."""
    noise = Handshake(
        initiator=True,
        prologue=messages.prologue(fabric),
        private=private,
        remote=noise_for or target,
    )
    payload = messages.timestamp_of(time.time_ns() + ahead) + Offer(lanes, 1440).encoded(16)
    body = messages.prefix(messages.INITIATION) + index.to_bytes(4, "big")
    return body + noise.write_first(payload)


@unittest.skipIf(obstacle() is not None, obstacle() or "")
class Silence(unittest.TestCase):
    world: World
    targets = ("alpha", "gamma")

    @classmethod
    def setUpClass(cls) -> None:
        stack = ExitStack()
        cls.addClassCleanup(stack.close)
        names = ("alpha", "gamma", "mallory")
        world = cls.world = World(stack, f"omni-s{os.getpid()}"[:11], names)
        # What the driver would drop is to be looked at here, too.
        alpha = world.engine("alpha", {"gamma": {}, "mallory": {}})
        config = alpha.config.read_text()
        alpha.config.write_text(config.replace("underlay:\n", "underlay:\n  filter: off\n"))
        at_alpha = {"endpoint": world.endpoint("alpha")}
        gamma = world.reference("gamma", {"alpha": at_alpha, "mallory": {}})
        for each in (alpha, gamma):
            each.start()
            each.wait_ready()
        world.wait(lambda: gamma.established("alpha"), "alpha and gamma")

    def show(self, target: str) -> dict[str, Any]:
        node = self.world.nodes[target]
        return node.ask() if isinstance(node, Reference) else node.look()

    def drops(self, target: str, reason: str) -> int:
        return int(self.show(target)["drops"].get(reason, 0))

    def seen(self, target: str) -> dict[str, Any]:
        """What a target says of Mallory."""
        found: dict[str, Any] = next(
            each for each in self.show(target)["peers"] if each["name"] == "mallory"
        )
        return found

    def key(self, name: str) -> bytes:
        return public_key(self.world.private[name])

    def open(self, port: int = 0) -> socket.socket:
        with netns.inside(self.world.space("mallory")):
            opened = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.addCleanup(opened.close)
        opened.bind(("", port))
        return opened

    def address(self, target: str) -> tuple[str, int]:
        return self.world.identities[target].underlay, PORT

    def mallory(self, target: str, **more: Any) -> Mallory:
        """Somebody with Mallory's key, who begins with the target when told to."""
        peer = Peer(target, self.key(target), more.pop("psk", None), self.address(target))
        links = Links(
            FABRIC, self.world.private["mallory"], [peer], Offer(1, 1440), retry_seconds=0.3, **more
        )
        return Mallory(self.open(), links)

    def connected(self, target: str) -> tuple[Mallory, Peer]:
        """Mallory with a session."""
        made = self.mallory(target)
        peer = made.links.peers[self.key(target)]
        made.links.begin(peer, time.monotonic())
        made.pump(PATIENCE_SECONDS, lambda: bool(peer.sessions))
        self.assertTrue(peer.sessions, f"no session with {target}: {made.links.drops}")
        made.pump(0.1)
        return made, peer

    def wrong_messages(self, target: str) -> dict[str, bytes]:
        """Messages that are wrong in one place each."""
        key, own = self.key(target), self.world.private["mallory"]
        stranger = make_private_key()

        def sealed(body: bytes) -> bytes:
            return cookies.with_macs(body, key, None)

        right = sealed(initiation(key, own))
        low_order = bytearray(initiation(key, own))
        low_order[12:44] = bytes(32)
        return {
            "a stranger": sealed(initiation(key, stranger)),
            "for another node": cookies.with_macs(
                initiation(public_key(stranger), own), public_key(stranger), None
            ),
            "sealed for another node": sealed(initiation(key, own, noise_for=public_key(stranger))),
            "mac1": right[:140] + bytes([right[140] ^ 1]) + right[141:],
            "another fabric": sealed(initiation(key, own, fabric="other")),
            "version": sealed(right[:7] + b"\x02" + right[8:136]),
            "flags": sealed(right[:5] + b"\x01" + right[6:136]),
            "type": sealed(right[:4] + b"\x06" + right[5:136]),
            "longer": right + b"\0",
            "shorter": right[:-1],
            "from tomorrow": sealed(initiation(key, own, ahead=DAY_NANOSECONDS + 10**10)),
            "no lanes": sealed(initiation(key, own, lanes=0)),
            "too many lanes": sealed(initiation(key, own, lanes=257)),
            "index 0": sealed(initiation(key, own, index=0)),
            "a point of small order": sealed(bytes(low_order)),
            "one bit": sealed(right[:100] + bytes([right[100] ^ 1]) + right[101:136]),
            "a session that is none": struct.pack("!IBBHQ", 12345, 4, 0, 0, 0) + bytes(40),
            "data without session": struct.pack("!IBBHQ", 0, 4, 0, 0, 0) + bytes(40),
            "a cookie": messages.prefix(messages.COOKIE_REPLY) + b"\0\0\0\x07" + bytes(56),
            "a reflection probe": messages.prefix(16) + bytes(40),
            "nothing": b"",
            "little": b"\0\0\0",
        }

    def test_wrong_messages_are_not_answered(self) -> None:
        for target in self.targets:
            asking = self.open()
            asking.settimeout(QUIET_SECONDS)
            for name, message in self.wrong_messages(target).items():
                with self.subTest(name, target=target):
                    asking.sendto(message, self.address(target))
            with self.assertRaises(TimeoutError, msg=target):
                asking.recv(1 << 16)
            right = initiation(self.key(target), self.world.private["mallory"])
            right = cookies.with_macs(right, self.key(target), None)
            asking.sendto(right, self.address(target))
            self.assertEqual(len(asking.recv(1 << 16)), messages.RESPONSE_OCTETS)

    def test_what_was_said_before_is_not_believed(self) -> None:
        for target in self.targets:
            said, peer = self.connected(target)
            for _ in range(20):
                said.links.send_frame(peer, FRAME, time.monotonic())
            said.pump(0.2)
            before, endpoint = self.seen(target)["rx_frames"], self.seen(target)["endpoint"]
            replays = self.drops(target, "nonce_replayed"), self.drops(target, "handshake_replayed")
            elsewhere = self.open()
            elsewhere.settimeout(QUIET_SECONDS)
            for message in said.sent + said.sent[::-1]:
                elsewhere.sendto(message, self.address(target))
            with self.assertRaises(TimeoutError, msg=target):
                elsewhere.recv(1 << 16)
            after = self.seen(target)
            self.assertEqual((after["rx_frames"], after["endpoint"]), (before, endpoint))
            self.assertGreaterEqual(self.drops(target, "nonce_replayed") - replays[0], 40)
            # It may have asked twice, on a busy machine.
            initiations = sum(each[4] == messages.INITIATION for each in said.sent)
            told = self.drops(target, "handshake_replayed") - replays[1]
            self.assertEqual(told, 2 * initiations)
            said.links.send_frame(peer, FRAME, time.monotonic())
            said.pump(0.1)
            self.assertEqual(self.seen(target)["rx_frames"], before + 1)

    def test_changed_messages_are_not_believed(self) -> None:
        for target in self.targets:
            said, peer = self.connected(target)
            before, bad = self.seen(target)["rx_frames"], self.drops(target, "bad_tag")
            message = peer.sessions[0].seal(messages.DATA, FRAME)
            bits = [8 * octet + octet % 8 for octet in range(8, len(message))]
            # A nonce beyond the reject limit is dropped for that.
            bits = [bit for bit in bits if bit // 8 != 8 or bit % 8 != 7]
            for bit in bits:
                forged = bytearray(message)
                forged[bit // 8] ^= 1 << bit % 8
                said.opened.sendto(bytes(forged), self.address(target))
            said.pump(0.2)
            self.assertEqual(self.drops(target, "bad_tag") - bad, len(bits))
            self.assertEqual(self.seen(target)["rx_frames"], before)
            said.opened.sendto(message, self.address(target))
            said.pump(0.1)
            self.assertEqual(self.seen(target)["rx_frames"], before + 1)

    def test_another_preshared_key_makes_no_session(self) -> None:
        for target in self.targets:
            said = self.mallory(target, psk=bytes(range(32)))
            peer = said.links.peers[self.key(target)]
            said.links.begin(peer, time.monotonic())
            said.pump(1.0)
            self.assertFalse(peer.sessions)
            self.assertGreaterEqual(said.links.drops["handshake_invalid"], 2)

    def test_under_load_the_engine_wants_a_cookie(self) -> None:
        target, flooding = "alpha", self.open()
        key = self.key(target)
        for number in range(FLOOD):
            if number % 100 == 0:
                # As many as the receive buffer of the engine's socket holds for certain.
                time.sleep(PAUSE_SECONDS)
            junk = messages.prefix(messages.INITIATION) + os.urandom(128)
            flooding.sendto(cookies.with_macs(junk, key, None), self.address(target))
        said = self.mallory(target)
        peer = said.links.peers[key]
        said.links.begin(peer, time.monotonic())
        said.pump(PATIENCE_SECONDS, lambda: bool(peer.sessions))
        self.assertIsNotNone(peer.cookie)
        self.assertTrue(peer.sessions)
        # The first was answered by a cookie reply, the second one bore the cookie.
        initiations = [each for each in said.sent if each[4] == messages.INITIATION]
        self.assertEqual([each[152:] == bytes(16) for each in initiations], [True, False])
        self.assertGreaterEqual(self.drops(target, "handshake_no_cookie"), 1)
        # Load lasts a second longer than the flood; the other tests are not to see it.
        said.pump(LOAD_SECONDS)


if __name__ == "__main__":
    unittest.main()
