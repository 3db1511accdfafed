"""What the capture takes for a message of the fabric, and what it must not."""

import struct
import unittest

from omni_lab.classify import Kind, Needles, classify

from . import frames


def kind(frame: bytes, lanes: int = 2) -> Kind:
    return classify(frame, frames.PORT, lanes).kind


class Messages(unittest.TestCase):
    def test_every_message_of_the_protocol_is_known_by_its_exact_length(self) -> None:
        for type_, length, expected in [
            (1, 168, Kind.INITIATION),
            (2, 116, Kind.RESPONSE),
            (3, 68, Kind.COOKIE),
        ]:
            self.assertIs(kind(frames.udp(frames.message(0, type_, 1, length))), expected)
            for wrong in (length - 1, length + 1):
                self.assertIs(
                    kind(frames.udp(frames.message(0, type_, 1, wrong))), Kind.FOREIGN, wrong
                )

    def test_data_holds_a_whole_ethernet_header_or_nothing(self) -> None:
        self.assertIs(kind(frames.data(0)), Kind.KEEPALIVE)
        for octets in (1, 13):
            self.assertIs(kind(frames.data(octets)), Kind.FOREIGN)
        for octets in (14, 1440):
            self.assertIs(kind(frames.data(octets)), Kind.DATA)

    def test_control_holds_a_record(self) -> None:
        self.assertIs(kind(frames.udp(frames.message(7, 5, 0, 36))), Kind.CONTROL)
        self.assertIs(kind(frames.udp(frames.message(7, 5, 0, 32))), Kind.FOREIGN)

    def test_prefixes_that_no_node_sends_are_foreign(self) -> None:
        for bad in [
            frames.message(0, 4, 0, 100),  # data without a session
            frames.message(5, 1, 1, 168),  # handshake in a session
            frames.message(0, 1, 2, 168),  # another version
            frames.message(5, 4, 2, 100),  # a lane not announced
            frames.message(5, 4, 0, 100, flags=1),
            frames.message(5, 6, 0, 100),
            frames.message(0, 16, 1, 24),
            frames.message(5, 4, 0, 31),
            b"",
            b"1234567",
        ]:
            self.assertIs(kind(frames.udp(bad)), Kind.FOREIGN, bad[:8].hex())

    def test_a_nucleus_is_spoken_to_by_tcp_and_asked_where_one_is_seen(self) -> None:
        probe, answer = (frames.message(0, type_, 1, 48) for type_ in (16, 17))
        asked = frames.udp(probe, source=frames.PORT, destination=51821)
        told = frames.udp(answer, source=51821, destination=frames.PORT)
        self.assertIs(kind(asked), Kind.RENDEZVOUS)
        self.assertIs(kind(told), Kind.RENDEZVOUS)
        for bad in [
            frames.udp(answer, source=frames.PORT, destination=51821),
            frames.udp(probe, source=51821, destination=frames.PORT),
            frames.udp(frames.message(0, 16, 1, 47), source=frames.PORT, destination=51821),
            frames.udp(frames.message(7, 16, 1, 48), source=frames.PORT, destination=51821),
            frames.udp(frames.message(0, 1, 1, 168), source=frames.PORT, destination=51821),
        ]:
            self.assertIs(kind(bad), Kind.FOREIGN)
        segment = bytearray(frames.udp(bytes(40), source=40000, destination=51821))
        segment[23] = 6
        self.assertIs(kind(bytes(segment)), Kind.RENDEZVOUS)
        segment[36:38] = (443).to_bytes(2, "big")
        self.assertIs(kind(bytes(segment)), Kind.FOREIGN)

    def test_outer_headers_must_be_exact(self) -> None:
        good = frames.data()
        message = good[42:]
        self.assertIs(kind(frames.udp(message, destination=51821)), Kind.FOREIGN)
        self.assertIs(kind(frames.udp(message, fragment=0)), Kind.FOREIGN)  # no DF
        self.assertIs(kind(frames.udp(message, fragment=0x2000)), Kind.FOREIGN)
        self.assertIs(kind(frames.udp(message, fragment=0x4001)), Kind.FOREIGN)
        self.assertIs(kind(good + b"behind"), Kind.FOREIGN)
        self.assertIs(kind(frames.ipv4(6, b"\x14\x51" * 20)), Kind.FOREIGN)  # TCP
        self.assertIs(kind(frames.ethernet(0x88B5, b"x" * 50)), Kind.FOREIGN)
        for length in range(len(good)):
            self.assertIs(kind(good[:length]), Kind.FOREIGN, length)

    def test_why_is_told(self) -> None:
        verdict = classify(frames.udp(frames.message(5, 4, 9, 100)), frames.PORT, 2)
        self.assertEqual(verdict.why, "lane 9, announced are 2")


class Housekeeping(unittest.TestCase):
    def test_arp_and_neighbour_discovery_are_allowed_but_no_other_ipv6(self) -> None:
        self.assertIs(kind(frames.ethernet(0x0806, bytes(28))), Kind.NEIGHBOUR)
        header = struct.pack("!IHBB", 0x60000000, 24, 58, 255) + bytes(32)
        self.assertIs(kind(frames.ethernet(0x86DD, header + b"\x87" + bytes(23))), Kind.NEIGHBOUR)
        # Listener reports come behind a hop-by-hop header.
        hop = struct.pack("!IHBB", 0x60000000, 36, 0, 1) + bytes(32) + bytes([58]) + bytes(7)
        self.assertIs(kind(frames.ethernet(0x86DD, hop + b"\x8f" + bytes(27))), Kind.NEIGHBOUR)
        for bad in (header + b"\x80" + bytes(23), header[:40], header[:6] + b"\x11" + header[7:]):
            self.assertIs(kind(frames.ethernet(0x86DD, bad + bytes(4))), Kind.FOREIGN)

    def test_icmp_is_allowed_only_about_a_message(self) -> None:
        quoted = frames.data()[14:50]
        self.assertIs(kind(frames.ipv4(1, b"\x03\x03" + bytes(6) + quoted)), Kind.UNREACHABLE)
        self.assertIs(kind(frames.ipv4(1, b"\x08\x00" + bytes(6) + quoted)), Kind.FOREIGN)
        other = frames.udp(b"", destination=53)[14:]
        self.assertIs(kind(frames.ipv4(1, b"\x03\x03" + bytes(6) + other)), Kind.FOREIGN)
        self.assertIs(kind(frames.ipv4(1, b"\x03\x03")), Kind.FOREIGN)


class Plaintext(unittest.TestCase):
    def test_long_needles_are_found_everywhere_and_short_ones_outside_of_messages(self) -> None:
        needles = Needles((b"eight octets",), (b"four",))
        self.assertEqual(needles.found_in(b".eight octets.", Kind.DATA), b"eight octets")
        self.assertIsNone(needles.found_in(b"four", Kind.DATA))
        for clear in (Kind.NEIGHBOUR, Kind.UNREACHABLE, Kind.FOREIGN):
            self.assertEqual(needles.found_in(b".four.", clear), b"four")
        self.assertIsNone(needles.found_in(b"eight octet", Kind.NEIGHBOUR))


if __name__ == "__main__":
    unittest.main()
