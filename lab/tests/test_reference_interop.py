"""The engine and the reference node, which share no line of code, in one fabric.

alpha and beta are engines, gamma and delta reference nodes. gamma begins with alpha; beta begins
with gamma, which does not know where beta is. delta says to be under load, so beta gets in with a
cookie only.
"""

import hashlib
import os
import random
import socket
import struct
import threading
import time
import unittest
from collections.abc import Callable
from contextlib import ExitStack
from functools import partial

from omni_lab import commands, netns
from omni_lab.node import ACCESS, Node

from .built import obstacle
from .reference_world import Reference, World

VLAN = 20
FRAME_MTU = 1426
DATAGRAMS = 1000
DATA_PORT = 7000
PAUSE_SECONDS = 0.05
RENEW_SECONDS = 0.3
STEALING_SECONDS = 0.8
ETH_ALL, ETH_VLAN, ETH_EXPERIMENT = 0x0003, 0x8100, 0x88B5
PRIORITY = 5
# Of <linux/if_packet.h>: the kernel takes the tag off, and tells it beside the frame.
SOL_PACKET, PACKET_AUXDATA, TP_STATUS_VLAN_VALID = 263, 8, 1 << 4


def gratuitous(mac: bytes, ip: str) -> bytes:
    """What a host says that has just moved in."""
    address = socket.inet_aton(ip)
    body = bytes.fromhex("0001080006040001") + mac + address + bytes(6) + address
    return b"\xff" * 6 + mac + b"\x08\x06" + body


def receive_tagged(receiving: socket.socket) -> bytes:
    """The next frame, with its tag."""
    frame, beside, _, _ = receiving.recvmsg(1 << 16, 64)
    for _, _, octets in beside:
        status, _, _, _, _, tag, type_ = struct.unpack("=IIIHHHH", octets)
        if status & TP_STATUS_VLAN_VALID:
            return frame[:12] + struct.pack("!HH", type_, tag) + frame[12:]
    return frame


@unittest.skipIf(obstacle() is not None, obstacle() or "")
class Interop(unittest.TestCase):
    stack: ExitStack
    world: World
    alpha: Node
    beta: Node
    gamma: Reference
    psk: dict[str, str]

    @classmethod
    def setUpClass(cls) -> None:
        cls.stack = ExitStack()
        cls.addClassCleanup(cls.stack.close)
        world = cls.world = World(
            cls.stack, f"omni-r{os.getpid()}"[:11], ("alpha", "beta", "gamma", "delta")
        )
        cls.psk = {"preshared_key_file": world.psk("beta-gamma")}
        at = {name: {"endpoint": world.endpoint(name)} for name in world.identities}
        cls.alpha = world.engine("alpha", {"beta": at["beta"], "gamma": {}})
        cls.beta = world.engine(
            "beta", {"alpha": at["alpha"], "gamma": at["gamma"] | cls.psk, "delta": at["delta"]}
        )
        cls.gamma = world.reference("gamma", {"alpha": at["alpha"], "beta": cls.psk})
        delta = world.reference("delta", {"beta": {}}, under_load=True)
        # Who begins comes after whom it begins with: else the first message is lost, and 5 s are.
        for together in ((cls.alpha,), (cls.gamma, delta), (cls.beta,)):
            for each in together:
                each.start()
            for each in together:
                each.wait_ready()
        for name in ("alpha", "beta"):
            world.wait(partial(cls.gamma.established, name), name)

    def wait(self, wanted: Callable[[], bool], what: str, seconds: float = 10.0) -> None:
        self.world.wait(wanted, what, seconds)

    def access_mac(self, name: str) -> bytes:
        link = netns.link(self.world.space(name), ACCESS)
        assert link is not None
        return bytes.fromhex(link["address"].replace(":", ""))

    def test_either_side_begins(self) -> None:
        self.assertIs(self.gamma.peer("alpha")["initiator"], True)
        self.assertIs(self.gamma.peer("beta")["initiator"], False)

    def test_pings_and_the_largest_packets(self) -> None:
        for source, target in (("gamma", "alpha"), ("alpha", "gamma"), ("beta", "gamma")):
            self.world.ping(source, target, "-c", "5", "-i", "0.05")
            size = str(FRAME_MTU - 28)
            self.world.ping(source, target, "-c", "3", "-i", "0.05", "-M", "do", "-s", size)

    def test_hosts_are_told_of(self) -> None:
        self.world.ping("gamma", "alpha", "-c", "1")
        seen = {(each["ip"], each["owner"]) for each in self.gamma.ask()["neighbors"]}
        self.assertLessEqual({("10.7.0.3", "local"), ("10.7.0.1", "alpha")}, seen)
        key = self.world.identities["gamma"].public_key
        self.wait(
            lambda: any(
                (each["ip"], each["owner"], each["source"]) == ("10.7.0.3", key, "peer")
                for each in self.alpha.look()["neighbors"]
            ),
            "alpha knows gamma's host",
        )

    def test_tagged_frames(self) -> None:
        for source, target in (("alpha", "gamma"), ("gamma", "alpha")):
            sending, receiving = self.access_socket(source), self.access_socket(target)
            receiving.setsockopt(SOL_PACKET, PACKET_AUXDATA, 1)
            receiving.settimeout(5)
            macs = [bytes([2, 0, 0, 0, 0x20, ord(name[0])]) for name in (source, target)]
            # To everybody first, then to a host that has spoken.
            for mac, length in ((b"\xff" * 6, 60), (macs[1], 60), (macs[1], FRAME_MTU + 14)):
                tag = struct.pack("!HHH", ETH_VLAN, PRIORITY << 13 | VLAN, ETH_EXPERIMENT)
                frame = (mac + macs[0] + tag).ljust(length, b"t")
                sending.send(frame)
                while receive_tagged(receiving) != frame:
                    pass
            receiving.send(frame[6:12] + frame[:6] + frame[12:])
            self.wait_owner(source, macs[1], target)
            self.assertIsNone(self.owner(source, macs[1], 0))

    def wait_owner(self, name: str, mac: bytes, owner: str) -> None:
        """Waits until a node has learned whose an address is, in the tests' VLAN."""
        self.wait(lambda: self.owner(name, mac, VLAN) == owner, "learned in its VLAN")

    def test_datagrams_arrive_once_and_unchanged(self) -> None:
        for source, target in (("alpha", "gamma"), ("gamma", "beta")):
            self.world.ping(source, target, "-c", "1")
            sent, received = self.send_datagrams(source, target)
            self.assertEqual(len(received), DATAGRAMS, f"{source} to {target}")
            self.assertEqual(sorted(received), sorted(sent))

    def send_datagrams(self, source: str, target: str) -> tuple[list[bytes], list[bytes]]:
        """Digests of what was sent and of what arrived."""
        spaces = self.world.space(source), self.world.space(target)
        address = self.world.identities[target].access[0].split("/")[0]
        with netns.inside(spaces[0]):
            sending = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        with netns.inside(spaces[1]):
            receiving = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        sent: list[bytes] = []
        received: list[bytes] = []

        def take() -> None:
            try:
                while len(received) < DATAGRAMS:
                    received.append(hashlib.blake2s(receiving.recv(1 << 16)).digest())
            except TimeoutError:
                pass

        with sending, receiving:
            receiving.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4 << 20)
            receiving.bind((address, DATA_PORT))
            receiving.settimeout(2.0)
            taking = threading.Thread(target=take)
            taking.start()
            for number in range(DATAGRAMS):
                body = struct.pack("!I", number) + os.urandom(random.randrange(FRAME_MTU - 32))
                sending.sendto(body, (address, DATA_PORT))
                sent.append(hashlib.blake2s(body).digest())
                if number % 2:
                    time.sleep(0.001)
            taking.join()
        return sent, received

    def test_new_sessions_lose_nothing(self) -> None:
        before = self.gamma.peer("alpha")["sessions"]
        stop = threading.Event()

        def renew() -> None:
            # A session that was replaced three times is gone, with what is still on its way in it:
            # so not so often that a busy machine takes longer.
            while not stop.wait(RENEW_SECONDS):
                self.gamma.ask("renew")

        renewing = threading.Thread(target=renew)
        renewing.start()
        try:
            options = ("-c", "180", "-i", "0.01", "-W", "3", "-s", "400")
            for source, target in (("alpha", "gamma"), ("gamma", "alpha")):
                self.assertIn(" 0% packet loss", self.world.ping(source, target, *options))
        finally:
            stop.set()
            renewing.join()
        self.assertGreaterEqual(self.gamma.peer("alpha")["sessions"] - before, 5)

    def test_gamma_roams(self) -> None:
        ip = self.world.space("gamma").ip
        old, new = self.world.identities["gamma"].underlay, "192.0.2.103"
        self.world.ping("gamma", "alpha", "-c", "1")
        for there, gone in ((new, old), (old, new)):
            commands.run(ip("address", "delete", f"{gone}/24", "dev", netns.UNDERLAY))
            commands.run(ip("address", "add", f"{there}/24", "dev", netns.UNDERLAY))
            self.world.ping("gamma", "alpha", "-c", "3", "-i", "0.05")
            peers = {each["name"]: each["endpoint"] for each in self.alpha.look()["peers"]}
            self.assertEqual(peers["gamma"], f"{there}:51820")
            self.world.ping("alpha", "gamma", "-c", "3", "-i", "0.05")
            self.world.ping("gamma", "beta", "-c", "3", "-i", "0.05")

    def test_when_nodes_restart(self) -> None:
        # Who restarts and knows where the other is begins at once; else it takes 15 s until the
        # other notices.
        self.assertEqual(self.gamma.stop(), 0)
        self.gamma.start()
        self.gamma.wait_ready()
        self.answers("alpha", "gamma")
        self.assertEqual(self.beta.stop(), 0)
        self.beta.start()
        self.beta.wait_ready()
        self.answers("gamma", "beta")
        self.answers("beta", "gamma")

    def answers(self, source: str, target: str, seconds: float = 12.0) -> None:
        """Waits for an answer to a ping."""
        options = ("-c", "1", "-W", "1")
        self.wait(
            lambda: " 0% packet" in self.world.ping(source, target, *options, accept=(0, 1)),
            f"{target} answers {source}",
            seconds,
        )

    def test_under_load_a_cookie_lets_the_engine_in(self) -> None:
        delta = self.world.nodes["delta"]
        assert isinstance(delta, Reference)
        self.wait(lambda: delta.established("beta"), "beta comes back with the cookie")
        self.assertGreaterEqual(delta.ask()["drops"]["handshake_no_cookie"], 1)
        self.answers("beta", "delta")

    def access_socket(self, name: str) -> socket.socket:
        """Sends frames as a host of a node."""
        with netns.inside(self.world.space(name)):
            made = socket.socket(socket.AF_PACKET, socket.SOCK_RAW)
        self.addCleanup(made.close)
        made.bind((ACCESS, ETH_ALL))
        return made

    def owner(self, name: str, mac: bytes, vlan: int = 0) -> str | None:
        """Whose an address is, as a node sees it: a node's name."""
        node = self.world.nodes[name]
        shown = node.ask() if isinstance(node, Reference) else node.look()
        keys = {each.public_key: each.name for each in self.world.identities.values()}
        for each in shown["fdb"]:
            if each["mac"] == mac.hex(":") and each["vlan"] == vlan:
                owner = each["owner"]
                return name if owner.startswith("local") else keys.get(owner, owner)
        return None

    def test_an_address_moves_to_and_fro(self) -> None:
        mac, ip = bytes.fromhex("020000000999"), "10.7.0.99"
        sockets = {name: self.access_socket(name) for name in ("alpha", "gamma")}
        for home in ("gamma", "alpha", "gamma"):
            began = time.monotonic()
            while {self.owner(each, mac) for each in ("alpha", "beta", "gamma")} != {home}:
                self.assertLess(time.monotonic() - began, 5, f"to {home}")
                sockets[home].send(gratuitous(mac, ip))
                time.sleep(PAUSE_SECONDS)
            # Its new node knows the IP address, and can ask for it.
            sockets[home].send(gratuitous(mac, ip))
            key = {"local", self.world.identities[home].public_key, home}
            for each in ("alpha", "gamma"):
                self.wait_bound(each, ip, key)

    def wait_bound(self, name: str, ip: str, owners: set[str]) -> None:
        """Waits until a node sees an IP address with one of some owners."""
        self.wait(lambda: self.bound(name, ip) in owners, f"{ip} is bound at {name}")

    def bound(self, name: str, ip: str) -> str | None:
        """Who has an IP address, as a node sees it."""
        node = self.world.nodes[name]
        shown = node.ask() if isinstance(node, Reference) else node.look()
        found = [each["owner"].split(":")[0] for each in shown["neighbors"] if each["ip"] == ip]
        return found[0] if found else None

    def test_a_host_that_lives_keeps_its_address(self) -> None:
        for thief, victim in (("alpha", "gamma"), ("gamma", "alpha")):
            self.world.ping(victim, thief, "-c", "1")
            mac, stealing = self.access_mac(victim), self.access_socket(thief)
            began = time.monotonic()
            while time.monotonic() - began < STEALING_SECONDS:
                stealing.send(gratuitous(mac, f"10.7.0.{self.victim_host(victim)}"))
                time.sleep(PAUSE_SECONDS)
            for each in (thief, victim):
                self.assertEqual(self.owner(each, mac), victim)
            self.world.ping(victim, thief, "-c", "1")

    def victim_host(self, name: str) -> str:
        return self.world.identities[name].access[0].split("/")[0].rsplit(".", 1)[1]


if __name__ == "__main__":
    unittest.main()
