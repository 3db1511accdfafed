"""Reference nodes against each other in virtual time: timers, and what the switch tells."""

import random
import unittest
from collections.abc import Callable

from reference import frames, messages, records
from reference.links import Links
from reference.messages import Offer
from reference.peer import Peer
from reference.records import Announced, Claimed, Released, Withdrawn
from reference.session import Dropped
from reference.switch import Switch
from reference.x25519 import public_key

KEYS = {name: bytes([number]) * 32 for number, name in enumerate("abc", 1)}
PUBLIC = {name: public_key(key) for name, key in KEYS.items()}
ENDPOINTS = {name: (f"192.0.2.{number}", 51820) for number, name in enumerate("abc", 1)}
START = 1000.0
STEP = 0.01
BROADCAST = b"\xff" * 6


class Net:
    """Nodes on a network that loses what it is told to lose, with a clock for all."""

    def __init__(self, names: str = "ab", start: float = START) -> None:
        self.now = start
        self.lost: Callable[[bytes], bool] = lambda _: False
        self.sent: list[tuple[float, str, bytes]] = []
        self.links: dict[str, Links] = {}
        self.switches: dict[str, Switch] = {}
        for name in names:
            self.start(name, names)

    def start(self, name: str, names: str) -> None:
        peers = [Peer(p, PUBLIC[p], None, ENDPOINTS[p]) for p in names if p != name]
        wall = lambda: int(self.now * 1e9)  # noqa: E731
        self.links[name] = Links("net", KEYS[name], peers, Offer(1, 1440), wall=wall)
        self.switches[name] = Switch(self.links[name], range(4095), self.now)

    def peer(self, of: str, name: str) -> Peer:
        return self.links[of].peers[PUBLIC[name]]

    def carry(self) -> None:
        """Delivers until nobody says anything more."""
        while any(links.outbox for links in self.links.values()):
            for name, links in self.links.items():
                outbox, links.outbox = links.outbox, []
                for message, to in outbox:
                    self.sent.append((self.now, name, message))
                    receiver = next(each for each, at in ENDPOINTS.items() if at == to)
                    if receiver in self.links and not self.lost(message):
                        self.links[receiver].datagram(message, ENDPOINTS[name], self.now)

    def run(self, seconds: float, step: float = STEP) -> None:
        end = self.now + seconds
        while self.now < end:
            self.carry()
            self.now = min(self.now + step, end)
            for name, links in self.links.items():
                links.tick(self.now)
                self.switches[name].tick(self.now)
        self.carry()

    def count(self, type_: int, name: str = "ab", since: float = 0.0) -> int:
        return sum(m[4] == type_ and n in name and at >= since for at, n, m in self.sent)

    def say(self, name: str, mac: bytes, to: bytes = BROADCAST) -> None:
        """A host's frame."""
        self.switches[name].from_host(to + mac + b"\x88\xb5" + bytes(46), self.now)

    def delivered(self, name: str) -> list[bytes]:
        taken, self.switches[name].delivered = self.switches[name].delivered, []
        return [each for each in taken if each[12:14] == b"\x88\xb5"]


def connected(names: str = "ab") -> Net:
    net = Net(names)
    for number, name in enumerate(names):
        for other in names[number + 1 :]:
            net.links[name].begin(net.peer(name, other), net.now)
            net.run(0.1)
    net.run(2.0)
    return net


def host(number: int) -> bytes:
    return bytes([2, 0, 0, 0, 0, number])


class Timers(unittest.TestCase):
    def test_the_responder_waits_for_the_first_message(self) -> None:
        net = Net()
        net.lost = lambda message: message[4] >= messages.DATA
        net.links["a"].begin(net.peer("a", "b"), net.now)
        net.run(1.0)
        self.assertTrue(net.peer("a", "b").sessions)
        self.assertFalse(net.peer("b", "a").sessions)
        self.assertEqual(net.count(messages.DATA, "b") + net.count(messages.CONTROL, "b"), 0)

    def test_the_initiator_renews_at_120_s_when_it_sends_data(self) -> None:
        for sender, wanted in (("a", 1), ("b", 0)):
            net = connected()
            net.run(119.0 - (net.now - START), 0.5)
            net.say(sender, host(1))
            net.run(0.5)
            self.assertEqual(net.count(messages.INITIATION), 1)
            net.run(2.0)
            net.say(sender, host(1))
            net.run(0.5)
            self.assertEqual(net.count(messages.INITIATION) - 1, wanted)
            self.assertEqual(net.peer("a", "b").sessions_made, 1 + wanted)

    def test_an_initiator_that_receives_renews_at_165_s(self) -> None:
        net = connected()
        net.run(166.0 - (net.now - START), 0.5)
        net.say("b", host(1))
        net.run(0.5)
        self.assertEqual(net.count(messages.INITIATION, "a"), 2)

    def test_nothing_is_lost_when_a_session_is_over(self) -> None:
        net = connected()
        net.run(200.0, 0.5)
        self.assertEqual(net.peer("a", "b").sessions, [])
        for number in range(70):
            net.say("a", host(number))
        net.run(0.5)
        self.assertEqual(len(net.delivered("b")), 64)
        self.assertEqual(net.links["a"].drops["staged_overflow"], 6)

    def test_attempts_and_their_end(self) -> None:
        net = Net()
        net.lost = lambda _: True
        net.say("a", host(1))
        net.run(120.0, 0.05)
        times = [at for at, _, message in net.sent if message[4] == messages.INITIATION]
        gaps = [later - at for at, later in zip(times[:-1], times[1:], strict=True)]
        self.assertGreaterEqual(min(gaps), 5.0)
        self.assertLessEqual(max(gaps), 5.5)
        self.assertLessEqual(times[-1] - START, 90.0)
        self.assertEqual(net.links["a"].drops["staged_expired"], 1)
        ephemerals = {message[12:44] for _, _, message in net.sent}
        self.assertEqual(len(ephemerals), len(times))

    def test_data_is_answered_within_10_s_and_keepalives_are_not(self) -> None:
        net = connected()
        net.run(20.0, 0.1)
        since = net.now
        net.say("a", host(1))
        net.run(9.0, 0.1)
        self.assertEqual(net.count(messages.DATA, "b", since), 0)
        net.run(2.0, 0.1)
        self.assertEqual(net.count(messages.DATA, "b", since), 1)
        net.run(20.0, 0.1)
        self.assertEqual(net.count(messages.DATA, since=since), 2)

    def test_silence_for_15_s_ends_in_a_handshake(self) -> None:
        net = connected()
        # b has forgotten everything, and its clock has gone on.
        net.start("b", "ab")
        since = net.now
        net.say("a", host(1))
        net.run(14.0, 0.1)
        self.assertEqual(net.count(messages.INITIATION, since=since), 0)
        net.run(2.0, 0.1)
        self.assertEqual(net.count(messages.INITIATION, since=since), 1)
        net.say("a", host(1))
        net.run(0.1)
        self.assertEqual(len(net.delivered("b")), 1)

    def test_both_at_once(self) -> None:
        net = Net()
        for name, other in ("ab", "ba"):
            net.links[name].begin(net.peer(name, other), net.now)
        for number in range(150):
            net.say("a", host(1))
            net.say("b", host(2))
            net.run(1.0, 0.1)
            self.assertEqual(len(net.delivered("b")), 1, number)
            self.assertEqual(len(net.delivered("a")), 1, number)
        self.assertGreaterEqual(net.peer("a", "b").sessions_made, 3)

    def test_a_lost_response_is_asked_for_again(self) -> None:
        net = Net()
        net.lost = lambda message: message[4] == messages.RESPONSE and net.now < START + 3
        net.say("a", host(1))
        net.run(6.0, 0.05)
        self.assertEqual(len(net.delivered("b")), 1)

    def test_an_old_initiation_is_not_answered(self) -> None:
        net = connected()
        initiation = next(m for _, _, m in net.sent if m[4] == messages.INITIATION)
        net.run(5.0)
        answers = net.count(messages.RESPONSE)
        net.links["b"].datagram(initiation, ENDPOINTS["a"], net.now)
        net.carry()
        self.assertEqual(net.count(messages.RESPONSE), answers)
        self.assertEqual(net.links["b"].drops["handshake_replayed"], 1)


class Moves(unittest.TestCase):
    def owners(self, net: Net, number: int) -> dict[str, str]:
        """Whom each node takes for an address's owner."""
        found = {}
        for name, switch in net.switches.items():
            owner = switch.owners.owner((0, host(number)))
            if owner is not None:
                found[name] = owner.peer.name if owner.peer else name
        return found

    def test_a_silent_host_without_known_address_goes_after_5_s(self) -> None:
        net = connected("abc")
        net.say("a", host(1))
        net.run(0.5)
        self.assertEqual(self.owners(net, 1), {"a": "a", "b": "a", "c": "a"})
        for _ in range(30):
            net.say("b", host(1))
            net.run(0.2)
        self.assertEqual(self.owners(net, 1), {"a": "b", "b": "b", "c": "b"})
        self.assertEqual(net.delivered("c")[0][6:12], host(1))

    def test_a_host_that_speaks_stays(self) -> None:
        net = connected()
        net.say("a", host(1))
        net.run(0.1)
        for _ in range(40):
            net.say("a", host(1))
            net.say("b", host(1))
            net.run(0.2)
        self.assertEqual(self.owners(net, 1), {"a": "a", "b": "a"})
        # Nobody else's frame was delivered.
        self.assertEqual(net.delivered("a"), [])

    def test_an_address_that_moves_too_often_is_frozen(self) -> None:
        net = connected()
        owners = []
        for number in range(7):
            for _ in range(28):
                net.say("ab"[number % 2], host(1))
                net.run(0.2, 0.05)
            owners.append(self.owners(net, 1)["a"])
        self.assertEqual(owners, ["a", "b", "a", "b", "a", "b", "b"])

    def test_a_claim_of_what_nobody_has_is_granted_but_not_at_once(self) -> None:
        net = Net()
        net.links["a"].begin(net.peer("a", "b"), net.now)
        net.run(0.2)
        claim = Claimed(0, host(5), 7)
        asked = records.join(records.CLAIM, records.encode_claimed(claim))
        for seconds, wanted in ((2.0, 0), (0.1, 1)):
            net.sent.clear()
            net.links["a"].send_record(net.peer("a", "b"), asked, net.now)
            net.carry()
            self.assertEqual(net.count(messages.CONTROL, "b"), wanted)
            net.run(seconds)


class Bindings(unittest.TestCase):
    def arp(self, net: Net, name: str, mac: bytes, ip: str) -> None:
        """A host says to have an address."""
        told = frames.question(mac, BROADCAST, 0, "10.0.0.99")
        packed = records.packed_ip(ip)[1]
        net.switches[name].from_host(told[:28] + packed + told[32:], net.now)

    def holders(self, net: Net, ip: str) -> dict[str, str]:
        """Whom each node takes for who has an address."""
        found = {}
        for name, switch in net.switches.items():
            bound = switch.neighbors.live((0, ip), net.now)
            if bound is not None:
                found[name] = bound.peer.name if bound.peer else name
        return found

    def test_the_first_live_host_holds_an_address(self) -> None:
        net = connected("abc")
        self.arp(net, "a", host(1), "10.0.0.1")
        net.run(0.1)
        self.assertEqual(self.holders(net, "10.0.0.1"), {"a": "a", "b": "a", "c": "a"})
        # While a's host answers, b's gets nothing.
        for _ in range(20):
            self.arp(net, "b", host(2), "10.0.0.1")
            self.arp(net, "a", host(1), "10.0.0.1")
            net.run(0.2)
        self.assertEqual(self.holders(net, "10.0.0.1"), {"a": "a", "b": "a", "c": "a"})
        self.assertGreaterEqual(net.links["b"].drops["binding_not_owned"], 20)
        # When it is silent it loses the address.
        for _ in range(20):
            self.arp(net, "b", host(2), "10.0.0.1")
            net.run(0.2)
        self.assertEqual(self.holders(net, "10.0.0.1"), {"a": "b", "b": "b", "c": "b"})

    def test_what_was_overtaken_is_not_believed(self) -> None:
        net = connected()
        peer, table = net.peer("b", "a"), net.switches["b"].neighbors
        table.on_withdrawn(peer, Withdrawn(0, "10.0.0.1", 6))
        table.on_announced(peer, Announced(0, "10.0.0.1", 5, 300, host(1)), net.now)
        self.assertIsNone(table.live((0, "10.0.0.1"), net.now))
        table.on_announced(peer, Announced(0, "10.0.0.1", 7, 300, host(1)), net.now)
        self.assertIsNotNone(table.live((0, "10.0.0.1"), net.now))
        for ip in ("224.0.0.1", "0.0.0.0", "127.0.0.1", "::ffff:10.0.0.1", "ff02::1", "::"):
            table.on_announced(peer, Announced(0, ip, 8, 300, host(1)), net.now)
            self.assertIsNone(table.live((0, ip), net.now), ip)


class Records(unittest.TestCase):
    def test_they_are_read_as_they_were_written(self) -> None:
        mac, key = host(1), PUBLIC["a"]
        announced = [Announced(7, "10.0.0.1", 5, 300, mac), Announced(0, "fe80::1", 6, 9, mac)]
        body = b"".join(map(records.encode_announced, announced))
        self.assertEqual(list(records.parse_announced(body)), announced)
        self.assertEqual(list(records.parse_announced(body + b"\0\0\x05")), announced)
        self.assertEqual(list(records.parse_announced(body[:-1])), announced[:1])
        # An unknown family ends the list.
        self.assertEqual(list(records.parse_announced(b"\0\0\x05" + body)), [])
        gone = Withdrawn(7, "10.0.0.1", 5)
        body = records.encode_withdrawn(gone) + b"x"
        self.assertEqual(list(records.parse_withdrawn(body)), [gone])
        claim = Claimed(7, mac, 5)
        self.assertEqual(list(records.parse_claimed(records.encode_claimed(claim) + b"x")), [claim])
        release = Released(7, mac, 5, key)
        body = records.encode_released(release) + b"x"
        self.assertEqual(list(records.parse_released(body)), [release])

    def test_sets_of_vlans(self) -> None:
        kind, body = records.split(records.encode_vlans((0, 9, 4094))) or (0, b"")
        self.assertEqual((kind, len(body), body[0], body[1]), (records.VLANS, 512, 1, 2))
        self.assertEqual(records.parse_vlans(body), {0, 9, 4094})
        self.assertIsNone(records.parse_vlans(body[:-1]))

    def test_what_is_cut_off_is_none(self) -> None:
        record = records.everything_wanted()
        self.assertEqual(records.split(record + b"padding"), (records.GROUPS, b"\x07"))
        for length in range(len(record)):
            self.assertIsNone(records.split(record[:length]))

    def test_sequences_go_round(self) -> None:
        self.assertTrue(records.newer(1, 0) and records.newer(0, 2**32 - 1))
        self.assertTrue(records.newer(2**31 - 1, 0))
        self.assertFalse(records.newer(0, 0) or records.newer(2**31, 0) or records.newer(0, 1))

    def test_a_probe_is_answered_with_its_length(self) -> None:
        probe = records.join(records.PROBE, b"12345678" + bytes(100))
        answer = records.probe_ack(probe, probe[4:])
        self.assertEqual(answer, bytes([17, 0, 0, 10]) + b"12345678" + bytes([0, 112]))


class Anything(unittest.TestCase):
    """Whatever comes is dropped or taken; nothing else happens."""

    def changed(self, chance: random.Random, octets: bytes) -> bytes:
        """The octets with some of them cut off, changed or more."""
        made = bytearray(octets[: chance.randrange(len(octets) + 1)] or octets)
        for _ in range(chance.randrange(4)):
            made[chance.randrange(len(made))] = chance.randrange(256)
        return bytes(made) + chance.randbytes(chance.choice((0, 0, 0, 40)))

    def test_from_the_underlay(self) -> None:
        chance, net = random.Random(1), connected()
        net.say("a", host(1))
        net.run(0.1)
        known = [message for _, _, message in net.sent]
        for _ in range(1000):
            message = self.changed(chance, chance.choice(known))
            net.links["b"].datagram(message, ENDPOINTS["a"], net.now)
        self.assertEqual(len(net.delivered("b")), 1)

    def test_from_a_peer_and_from_hosts(self) -> None:
        chance, net = random.Random(2), connected()
        peer, switch = net.peer("b", "a"), net.switches["b"]
        mac = host(1)
        known = [
            frames.question(mac, BROADCAST, 20, "10.0.0.1"),
            frames.question(mac, BROADCAST, 0, "fe80::1"),
            records.encode_vlans((0, 20)),
            records.everything_wanted(),
            records.join(
                records.ANNOUNCE, records.encode_announced(Announced(0, "fe80::1", 1, 9, mac))
            ),
            records.join(records.WITHDRAW, records.encode_withdrawn(Withdrawn(0, "10.0.0.1", 1))),
            records.join(records.CLAIM, records.encode_claimed(Claimed(0, mac, 1))),
            records.join(records.RELEASE, records.encode_released(Released(0, mac, 1, b"k" * 32))),
            records.join(records.PROBE, b"12345678"),
        ]
        taken = 0
        for _ in range(4000):
            octets = self.changed(chance, chance.choice(known))
            switch.from_host(octets, net.now)
            for take in (switch.on_frame, switch.on_record):
                try:
                    take(peer, octets, net.now)
                    taken += 1
                except Dropped:
                    pass
        self.assertGreater(taken, 300)
        net.run(1.0)


class Frames(unittest.TestCase):
    def test_tags(self) -> None:
        head = BROADCAST + host(1)
        for tags, vlan in (("", 0), ("81000000", 0), ("8100a014", 20), ("88a80014 8100001e", 20)):
            octets = head + bytes.fromhex(tags + "88b5")
            frame = frames.parse(octets)
            self.assertEqual((frame.vlan, frame.ethertype), (vlan, 0x88B5))
        for tags in ("81000fff", "81000001 81000000", "81000000 81000001", "81000001" * 3):
            with self.assertRaisesRegex(Dropped, "vlan_invalid"):
                frames.parse(head + bytes.fromhex(tags + "88b5"))

    def test_what_is_refused(self) -> None:
        good = host(2) + host(1) + b"\x88\xb5"
        for octets, reason in (
            (good[:13], "inner_too_short"),
            (good[:6] + b"\x01" + good[7:], "source_mac_invalid"),
            (good[:6] + bytes(6) + good[12:], "source_mac_invalid"),
            (bytes.fromhex("0180c200000e") + good[6:], "reserved_destination"),
            (good[:12] + b"\x81\x00\x00", "inner_too_short"),
        ):
            with self.assertRaisesRegex(Dropped, reason):
                frames.parse(octets)

    def test_questions_name_nobody(self) -> None:
        asked = frames.parse(frames.question(host(9), host(1), 20, "10.0.0.1"))
        self.assertEqual((asked.vlan, asked.source, frames.binding(asked)), (20, host(9), None))
        asked = frames.parse(frames.question(host(9), host(1), 0, "fe80::1"))
        self.assertEqual(frames.binding(asked), "fe80::ff:fe00:9")


if __name__ == "__main__":
    unittest.main()
