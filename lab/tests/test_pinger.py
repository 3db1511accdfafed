"""What a ping is on the wire, and which of them count as lost."""

import struct
import unittest

from omni_lab import pinger
from omni_lab.pinger import PATIENCE_SECONDS, Stream

IPV4 = bytes.fromhex("4500005400000000400100000a0700020a070001")


def reply(identifier: int, sequence: int) -> bytes:
    """An echo reply with its IPv4 header."""
    return IPV4 + struct.pack(">BBHHH", 0, 0, 0, identifier, sequence) + bytes(48)


class Messages(unittest.TestCase):
    def test_checksum_of_the_rfc(self) -> None:
        # RFC 1071, section 3: these octets sum up to ddf2.
        self.assertEqual(pinger.checksum(bytes.fromhex("0001f203f4f5f6f7")), 0xFFFF & ~0xDDF2)

    def test_a_request_checks(self) -> None:
        request = pinger.echo_request(0x1234, 0xFFFF)
        self.assertEqual(pinger.checksum(request), 0)
        self.assertEqual(request[:2], b"\x08\x00")
        self.assertEqual(request[4:8], bytes.fromhex("1234ffff"))

    def test_a_reply_is_read(self) -> None:
        self.assertEqual(pinger.parse_reply(reply(7, 65535)), (7, 65535))

    def test_all_else_is_none(self) -> None:
        request = IPV4 + pinger.echo_request(7, 1)
        for packet in (b"", IPV4, reply(7, 1)[:27], request, b"\x41" + reply(7, 1)[1:]):
            self.assertIsNone(pinger.parse_reply(packet), packet.hex())


class Counting(unittest.TestCase):
    def test_an_answer_in_time_is_no_loss(self) -> None:
        stream = Stream("alpha", "10.7.0.2", 0.05)
        sequence = stream.send(10.0)
        self.assertTrue(stream.receive(sequence, 10.0 + PATIENCE_SECONDS))
        stream.give_up(100.0)
        self.assertEqual((stream.sent, stream.answered, stream.lost), (1, 1, 0))
        self.assertEqual(stream.first_answer, 10.0 + PATIENCE_SECONDS)

    def test_a_late_answer_is_a_loss(self) -> None:
        stream = Stream("alpha", "10.7.0.2", 0.05)
        sequence = stream.send(10.0)
        self.assertFalse(stream.receive(sequence, 10.1 + PATIENCE_SECONDS))
        stream.give_up(100.0)
        self.assertEqual((stream.answered, stream.lost, stream.lost_at), (0, 1, [10.0]))
        self.assertIsNone(stream.first_answer)

    def test_an_answer_counts_once(self) -> None:
        stream = Stream("alpha", "10.7.0.2", 0.05)
        sequence = stream.send(10.0)
        self.assertTrue(stream.receive(sequence, 10.1))
        self.assertFalse(stream.receive(sequence, 10.2))
        self.assertEqual(stream.answered, 1)

    def test_numbers_that_begin_again_lose_nothing(self) -> None:
        stream = Stream("alpha", "10.7.0.2", 0.05)
        for number in range(0x10000 + 3):
            now = number * 0.05
            self.assertTrue(stream.receive(stream.send(now), now + 0.01))
        stream.give_up(1e9)
        self.assertEqual((stream.answered, stream.lost), (0x10003, 0))

    def test_only_who_pings_until_an_answer_is_ever_done(self) -> None:
        for once in (True, False):
            stream = Stream("alpha", "10.7.0.2", 0.05, once)
            self.assertFalse(stream.done)
            stream.receive(stream.send(1.0), 1.1)
            self.assertEqual(stream.done, once)


if __name__ == "__main__":
    unittest.main()
