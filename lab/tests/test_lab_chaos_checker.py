"""What becomes of datagrams and blocks, also of those that somebody forges."""

import struct
import unittest
import zlib
from typing import Any

from omni_lab.bench.chaos import accounts, convergence, datagrams
from omni_lab.bench.chaos.content import BLOCK_OCTETS, HEAD, Content, Reader
from omni_lab.bench.chaos.convergence import Heal
from omni_lab.bench.chaos.datagrams import (
    LARGE_OCTETS,
    PATIENCE_SECONDS,
    SMALL_OCTETS,
    Datagram,
    Interval,
    Ledger,
    Stream,
    Verdict,
)

RUN = 0x0123456789ABCDEF
ADDRESSES = ["10.7.0.1", "10.7.0.2", "10.7.0.3"]


def ledger() -> Ledger:
    """Three hosts, all talk to all."""
    ends = [(one, other) for one in range(3) for other in range(3) if one != other]
    return Ledger(RUN, ADDRESSES, {each: Stream(*each) for each in ends})


def sent(book: Ledger, source: int, destination: int, now: float = 1.0) -> bytes:
    """The next datagram of a stream."""
    sequence = book.streams[source, destination].send(now)
    return datagrams.build(Datagram(RUN, source, destination, sequence))


class Judging(unittest.TestCase):
    def setUp(self) -> None:
        self.book = ledger()

    def take(self, host: int, sender: int, packet: bytes, now: float = 1.1) -> Verdict:
        return self.book.take(host, ADDRESSES[sender], packet, now)

    def test_what_arrives_as_it_was_sent_is_good(self) -> None:
        for number in range(20):
            packet = sent(self.book, 0, 1)
            self.assertEqual(len(packet), LARGE_OCTETS if number % 8 == 7 else SMALL_OCTETS)
            self.assertIs(self.take(1, 0, packet), Verdict.GOOD)
        self.assertEqual(self.book.streams[0, 1].arrived, 20)
        self.assertEqual(self.book.evidence, [])

    def test_another_hosts_datagram_is_misdelivered(self) -> None:
        self.assertIs(self.take(2, 0, sent(self.book, 0, 1)), Verdict.MISDELIVERED)
        self.assertEqual(self.book.counts[Verdict.MISDELIVERED], 1)
        self.assertIn("misdelivered at 10.7.0.3 from 10.7.0.1", self.book.evidence[0])
        # It still has to come where it was meant to.
        self.assertEqual(self.book.streams[0, 1].arrived, 0)

    def test_so_is_one_from_another_address_than_its_sources(self) -> None:
        self.assertIs(self.take(1, 2, sent(self.book, 0, 1)), Verdict.MISDELIVERED)

    def test_each_octet_that_is_changed_is_seen(self) -> None:
        packet = sent(self.book, 0, 1)
        for at in range(len(packet)):
            changed = packet[:at] + bytes([packet[at] ^ 1]) + packet[at + 1 :]
            self.assertIs(self.take(1, 0, changed), Verdict.CORRUPTED, at)
        for at in (4, SMALL_OCTETS // 2, SMALL_OCTETS - 1):
            self.assertIs(self.take(1, 0, packet[:at] + b""), Verdict.CORRUPTED, at)
        self.assertIs(self.take(1, 0, packet + b"\0"), Verdict.CORRUPTED)

    def test_a_forgery_with_a_right_checksum_is_seen(self) -> None:
        packet = sent(self.book, 0, 1)
        body = packet[:30] + b"\xff" + packet[31:-4]
        forged = body + struct.pack(">I", zlib.crc32(body))
        self.assertIs(self.take(1, 0, forged), Verdict.CORRUPTED)

    def test_what_was_never_sent_is_seen(self) -> None:
        for said in (Datagram(RUN, 0, 1, 0), Datagram(RUN, 1, 1, 0), Datagram(RUN, 7, 1, 0)):
            self.assertIs(self.take(1, 0, datagrams.build(said)), Verdict.CORRUPTED, said)

    def test_twice_is_once_too_often(self) -> None:
        packet = sent(self.book, 0, 1)
        self.assertIs(self.take(1, 0, packet), Verdict.GOOD)
        self.assertIs(self.take(1, 0, packet), Verdict.DUPLICATE)

    def test_another_runs_and_strangers_do_not_count(self) -> None:
        sent(self.book, 0, 1)
        for packet in (datagrams.build(Datagram(RUN + 1, 0, 1, 0)), b"", b"hello", bytes(64)):
            self.assertIs(self.take(1, 0, packet), Verdict.FOREIGN, packet)
        self.assertEqual(self.book.evidence, [])

    def test_evidence_is_bounded(self) -> None:
        packet = sent(self.book, 0, 1)
        for _ in range(200):
            self.take(2, 0, packet)
        self.assertEqual(len(self.book.evidence), datagrams.EVIDENCE_MAX)
        self.assertEqual(self.book.counts[Verdict.MISDELIVERED], 200)


class Losses(unittest.TestCase):
    def test_intervals_are_of_what_was_lost_in_a_row(self) -> None:
        stream = Stream(0, 1)
        lost = {3, 4, 5, 9}
        for number in range(12):
            sequence = stream.send(float(number))
            if number not in lost:
                stream.receive(sequence, number + 0.01)
        stream.give_up(100.0)
        self.assertEqual(stream.intervals, [Interval(3.0, 5.0, 3), Interval(9.0, 9.0, 1)])
        self.assertEqual((stream.sent, stream.arrived, stream.lost), (12, 8, 4))

    def test_what_is_still_waited_for_is_not_lost(self) -> None:
        stream = Stream(0, 1)
        for number in range(10):
            stream.send(float(number))
        stream.give_up(3.0 + PATIENCE_SECONDS)
        self.assertEqual(stream.intervals, [Interval(0.0, 2.0, 3)])
        stream.give_up(4.0 + PATIENCE_SECONDS)
        self.assertEqual(stream.intervals, [Interval(0.0, 3.0, 4)])

    def test_late_is_told_from_twice(self) -> None:
        stream = Stream(0, 1)
        sequence = stream.send(0.0)
        stream.give_up(1.0 + PATIENCE_SECONDS)
        self.assertIs(stream.receive(sequence, 20.0), Verdict.LATE)
        self.assertIs(stream.receive(sequence, 21.0), Verdict.DUPLICATE)
        self.assertEqual((stream.arrived, stream.lost), (0, 1))

    def test_what_was_lost_at_rest(self) -> None:
        intervals = [
            Interval(1.0, 9.0, 5),
            Interval(4.0, 4.5, 2),
            Interval(4.9, 5.1, 9),
            Interval(8.0, 8.0, 1),
        ]
        self.assertEqual(convergence.lost_within(intervals, [(3.0, 5.0), (7.9, 8.1)]), 3)


class Converging(unittest.TestCase):
    def test_only_what_was_sent_after_the_heal_counts(self) -> None:
        stream = Stream(0, 1)
        before = stream.send(9.9)
        stream.look_from(10.0)
        after = stream.send(10.1)
        stream.receive(before, 10.2)
        self.assertIsNone(stream.reached)
        stream.receive(after, 10.4)
        stream.receive(stream.send(10.5), 10.6)
        self.assertEqual(stream.reached, 10.4)

    def test_a_pair_needs_both_ways(self) -> None:
        there, back, silent = Stream(0, 1), Stream(1, 0), Stream(1, 0)
        for stream in (there, back, silent):
            stream.look_from(10.0)
        there.receive(there.send(10.0), 10.5)
        back.receive(back.send(11.0), 12.0)
        streams = {("a", "b"): (there, back), ("a", "c"): (there, silent)}
        self.assertEqual(convergence.pair_times(streams, 10.0), {("a", "b"): 2.0, ("a", "c"): None})
        self.assertTrue(convergence.is_over([there, back]))
        self.assertFalse(convergence.is_over([there, silent]))

    def test_one_silent_pair_keeps_a_heal_from_being_over(self) -> None:
        heal = Heal(3, ("kill",), 7.0, {("a", "b"): 0.5, ("a", "c"): None, ("b", "c"): 2.0})
        self.assertIsNone(heal.recovered_s)
        self.assertEqual(heal.silent, [("a", "c")])
        kept = heal.kept()
        self.assertEqual(kept["pairs_s"], {"p50": 2.0, "p99": None, "max": None})
        self.assertEqual(kept["silent"], [["a", "c"]])
        whole = Heal(4, ("kill", "flap"), 9.0, {("a", "b"): 0.5, ("b", "c"): 2.0})
        self.assertEqual(whole.recovered_s, 2.0)
        self.assertEqual(convergence.by_kind([heal, whole]), {"kill": [None, 2.0], "flap": [2.0]})


def shown(uptime: int, peers: dict[str, tuple[int, int]], drops: int = 0) -> dict[str, Any]:
    """What an engine shows; of peers, what it sent and what it verified."""
    return {
        "node": {"uptime_seconds": uptime},
        "peers": [
            {"name": name, "tx_frames": sent, "rx_frames": verified}
            for name, (sent, verified) in peers.items()
        ],
        "drops": {"rx_ring_full": drops},
        "queues": [],
    }


class Accounts(unittest.TestCase):
    def settle(self, verified: int, drops: int = 0, uptime: int = 15) -> accounts.Account:
        """What b verified of 100 frames that a sent; it verified 40 before."""
        before = {"a": shown(10, {"b": (50, 7)}), "b": shown(10, {"a": (7, 40)}, 3)}
        after = {
            "a": shown(15, {"b": (150, 7)}),
            "b": shown(uptime, {"a": (7, 40 + verified)}, 3 + drops),
        }
        return accounts.settle((before, before), (after, after))

    def test_what_arrived_is_not_lost(self) -> None:
        account = self.settle(100)
        self.assertEqual((account.nodes, account.sent, account.lost), (2, 100, 0))

    def test_what_is_counted_as_dropped_is_explained(self) -> None:
        self.assertEqual(self.settle(95, drops=5).unexplained, 0)
        self.assertEqual(self.settle(95, drops=2).unexplained, 3)
        self.assertEqual(self.settle(95).unexplained, 5)

    def test_an_engine_that_started_meanwhile_is_left_out(self) -> None:
        account = self.settle(-40, uptime=2)
        self.assertEqual((account.nodes, account.sent, account.lost), (1, 0, 0))

    def test_what_is_sent_while_engines_are_asked_may_be_under_way(self) -> None:
        before = {"a": shown(10, {"b": (0, 0)}), "b": shown(10, {"a": (0, 0)})}
        first = {"a": shown(15, {"b": (9, 0)}), "b": shown(15, {"a": (0, 8)})}
        last = {"a": shown(15, {"b": (12, 0)}), "b": shown(15, {"a": (0, 9)})}
        account = accounts.settle((before, before), (first, last))
        self.assertEqual((account.sent, account.lost), (9, 0))


class Transfers(unittest.TestCase):
    def setUp(self) -> None:
        self.content = Content(5, 2)
        self.reader = Reader(self.content)

    def test_blocks_in_pieces_are_right(self) -> None:
        text = b"".join(self.content.block(4, number) for number in range(30))
        for at in range(0, len(text), 4321):
            self.reader.feed(text[at : at + 4321])
        self.assertEqual((self.reader.blocks, self.reader.wrong), (30, ""))

    def test_what_is_changed_missing_doubled_or_of_another_is_wrong(self) -> None:
        first, second, third = (self.content.block(1, number) for number in range(3))
        other = Content(5, 3).block(1, 1)
        newer = self.content.block(2, 1)
        flipped = second[:-1] + bytes([second[-1] ^ 1])
        shifted = second[HEAD.size :] + second[: HEAD.size]
        for wrong in (third, first, other, newer, flipped, shifted):
            reader = Reader(self.content)
            self.assertEqual(reader.feed(first + wrong + third), 1)
            self.assertIn("instead of block 1", reader.wrong)
            self.assertEqual(reader.feed(second), 0)

    def test_a_rest_is_waited_for(self) -> None:
        block = self.content.block(1, 0)
        self.assertEqual(self.reader.feed(block[:-1]), 0)
        self.assertEqual(self.reader.feed(block[-1:]), 1)
        self.assertEqual(len(block), BLOCK_OCTETS)


if __name__ == "__main__":
    unittest.main()
