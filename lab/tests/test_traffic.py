"""What ping and iperf3 print is understood, and what they fail to print is not made up."""

import json
import unittest

from omni_lab.traffic import (
    MARKER,
    TrafficError,
    full_size_options,
    parse_overflows,
    parse_ping,
    parse_tcp,
    parse_udp,
)

PING = """PATTERN: 0x6f6d
PING 10.7.0.2 (10.7.0.2) 56(84) bytes of data.
64 bytes from 10.7.0.2: icmp_seq=1 ttl=64 time=0.279 ms

--- 10.7.0.2 ping statistics ---
5 packets transmitted, 4 received, 20% packet loss, time 2065ms
rtt min/avg/max/mdev = 0.279/0.406/0.551/0.103 ms
"""


class Ping(unittest.TestCase):
    def test_counts_and_times(self) -> None:
        ping = parse_ping(PING)
        self.assertEqual((ping.sent, ping.received, ping.complete), (5, 4, False))
        self.assertEqual(ping.rtt, (0.279, 0.406, 0.551))
        self.assertEqual(len(ping.closing), 2)

    def test_without_an_answer_there_are_no_times(self) -> None:
        ping = parse_ping("3 packets transmitted, 0 received, +3 errors, 100% packet loss")
        self.assertEqual((ping.received, ping.rtt, ping.complete), (0, None, False))

    def test_none_sent_is_not_complete(self) -> None:
        self.assertFalse(parse_ping("0 packets transmitted, 0 received").complete)

    def test_anything_else_is_an_error(self) -> None:
        self.assertRaises(TrafficError, parse_ping, "ping: connect: Network is unreachable")

    def test_full_size_leaves_room_for_ip_and_icmp_headers(self) -> None:
        self.assertIn("1398", full_size_options(1426))

    def test_the_marker_is_what_ping_can_carry(self) -> None:
        self.assertLessEqual(len(MARKER), 16)


class Iperf(unittest.TestCase):
    def test_tcp_is_what_the_receiver_saw(self) -> None:
        sent = {"bits_per_second": 2e9, "retransmits": 7}
        text = json.dumps({"end": {"sum_sent": sent, "sum_received": {"bits_per_second": 1e9}}})
        tcp = parse_tcp(text)
        self.assertEqual((tcp.bits_per_second, tcp.retransmits), (1e9, 7))

    def test_udp_of_newer_and_older_versions(self) -> None:
        seen = {"bits_per_second": 270e6, "lost_packets": 10, "packets": 100}
        udp = parse_udp(json.dumps({"end": {"sum": {}, "sum_received": seen}}))
        self.assertEqual((udp.lost, udp.packets, udp.lost_percent), (10, 100, 10.0))
        self.assertEqual(udp.bits_per_second, 270e6)
        older = parse_udp(json.dumps({"end": {"sum": seen | {"bits_per_second": 300e6}}}))
        self.assertAlmostEqual(older.bits_per_second, 270e6)

    def test_nothing_sent_counts_as_all_lost(self) -> None:
        seen = {"bits_per_second": 0, "lost_packets": 0, "packets": 0}
        self.assertEqual(parse_udp(json.dumps({"end": {"sum": seen}})).lost_percent, 100.0)

    def test_failures_are_told_in_iperfs_own_words(self) -> None:
        with self.assertRaisesRegex(TrafficError, "unable to connect"):
            parse_tcp(json.dumps({"error": "unable to connect", "end": {}}))
        for bad in ("", "{}", "[]", '{"end": {}}', '{"end": {"sum_sent": {}}}', '{"end": 3}'):
            self.assertRaises(TrafficError, parse_tcp, bad)
            self.assertRaises(TrafficError, parse_udp, bad)

    def test_overflows_are_found_by_name(self) -> None:
        text = (
            "Ip: Forwarding\nIp: 1\nUdp: InDatagrams RcvbufErrors\nUdp: 5 3397\n"
            "UdpLite: InDatagrams RcvbufErrors\nUdpLite: 0 9\n"
        )
        self.assertEqual(parse_overflows(text), 3397)


if __name__ == "__main__":
    unittest.main()
