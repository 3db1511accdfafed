"""The last screen fits, says what was measured, and does not hide what went wrong."""

import unittest
from dataclasses import replace
from pathlib import Path
from typing import Any

from omni_lab import report
from omni_lab.capture import Tally
from omni_lab.node import Identity, render_config
from omni_lab.rendezvous import Meeting
from omni_lab.report import Figures, NodeFigures
from omni_lab.traffic import Ping, Tcp, Udp


def queue(port: str, p50: int, p99: int) -> dict[str, Any]:
    return {"port": port, "queue": 0, "latency_ns": {"count": 1_000_000, "p50": p50, "p99": p99}}


def node(name: str) -> NodeFigures:
    idle = [queue("eth0", 7_580, 9_000), queue("omni0", 109_000, 200_000)]
    busy = [queue("eth0", 1_360_000, 13_800_000), queue("omni0", 888_831, 6_455_295)]
    umem = {
        "frames_total": 6656,
        "frames_free": 6000,
        "frames_receiving": 600,
        "frames_sending": 50,
        "frames_held": 6,
    }
    return NodeFigures(name, {}, idle, busy, umem)


PING = Ping(5, 5, (0.279, 0.406, 12.5), ())
FIGURES = Figures(
    ping=PING,
    ping_full=PING,
    mtu=1426,
    ping_ipv6=PING,
    ping_vlan=PING,
    tcp_there=Tcp(1.52e9, 0),
    tcp_back=Tcp(1.13e9, 3),
    udp=Udp(3e8, 81_868, 3_397, 3_397),
    udp_rate="300 Mb/s",
    wire=Tally(1_528_435, {"DATA": 20_000, "INITIATION": 2, "RESPONSE": 2, "KEEPALIVE": 4}, 20_008),
    nodes=(node("alpha"), node("beta")),
    cores=2,
    problems=(),
)


class Screen(unittest.TestCase):
    def screen(self, figures: Figures) -> str:
        lines = report.summary(figures)
        self.assertLessEqual(len(lines), report.SCREEN_LINES)
        for line in lines:
            self.assertLessEqual(len(line), report.WIDTH, line)
        return "\n".join(lines)

    def test_all_that_was_measured_is_on_it_whole(self) -> None:
        screen = self.screen(FIGURES)
        for said in (
            "5 of 5 answered, round trip at least 279 us, mean 406 us, at most 12.5 ms",
            "1426 octets, not fragmented: 5 of 5; IPv6 5 of 5; VLAN-tagged 5 of 5",
            "alpha to beta 1.52 Gb/s, beta to alpha 1.13 Gb/s",
            "3,397 of 81,868 datagrams lost (4.15 %), 3,397 of them in iperf3's full socket",
            "1,528,427 data, 4 handshake, 4 control",
            "20,008 read whole; plaintext in 0",
            "beta omni0 queue 0",
            "under load p50 1.36 ms, p99 13.8 ms",
            "alpha: none; beta: none",
            "6,656 + 6,656 frames, all accounted for",
            "nothing is left behind",
            "README.md",
        ):
            self.assertIn(said, screen)
        self.assertNotIn("..", screen.replace("...", ""))

    def test_it_says_that_something_failed_and_not_that_all_is_well(self) -> None:
        screen = self.screen(replace(FIGURES, problems=("x" * 200,) * 9))
        self.assertIn("FAILED: 9 things went wrong", screen)
        self.assertNotIn("nothing is left behind", screen)
        self.assertNotIn("only encrypted", screen)

    def test_it_does_not_claim_to_have_checked_what_was_missed(self) -> None:
        missed = replace(FIGURES, wire=replace(FIGURES.wire, missed=12))
        self.assertIn("12 frames missed", self.screen(missed))
        self.assertNotIn("every header", self.screen(missed))

    def test_it_fits_with_many_queues_and_drops(self) -> None:
        many = node("alpha")
        drops = {f"reason_{n}": n for n in range(40)}
        many = replace(many, idle_queues=many.queues * 20, queues=many.queues * 20, drops=drops)
        self.screen(replace(FIGURES, nodes=(many, many), problems=("a", "b", "c", "d")))

    def test_frames_that_are_missing_are_not_called_accounted_for(self) -> None:
        lost = replace(node("beta"), umem=node("beta").umem | {"frames_free": 5999})
        self.assertIn("NOT all accounted", self.screen(replace(FIGURES, nodes=(lost, lost))))


class Small(unittest.TestCase):
    def test_durations_have_three_digits(self) -> None:
        for nanoseconds, text in [
            (0, "0 ns"),
            (812, "812 ns"),
            (1_000, "1.00 us"),
            (12_345, "12.3 us"),
            (99_960, "100 us"),
            (888_831, "889 us"),
            (1_359_871, "1.36 ms"),
        ]:
            self.assertEqual(report.duration(nanoseconds), text)

    def test_a_full_ring_is_no_defect_but_a_bad_tag_is(self) -> None:
        drops = {"tx_ring_full": 5, "bad_tag": 1}
        self.assertEqual(report.unexpected_drops(drops), {"bad_tag": 1})
        self.assertEqual(report.drops_text(drops), "tx_ring_full 5, bad_tag 1")

    def test_memory_that_is_not_there_does_not_add_up(self) -> None:
        self.assertTrue(report.umem_adds_up(node("alpha").umem))
        self.assertFalse(report.umem_adds_up(dict.fromkeys(node("alpha").umem, 0)))


class Configuration(unittest.TestCase):
    def test_only_what_must_be_said(self) -> None:
        me = Identity("alpha", "192.0.2.1", ("10.7.0.1/24", "fd00:7::1/64"), "A=")
        peer = Identity("beta", "192.0.2.2", ("10.7.0.2/24",), "B=")
        expected = """fabric: lab
node:
  name: alpha
  private_key_file: alpha.key
  state_file: alpha.state
underlay:
  interface: eth0
access:
  - interface: omni0
    addresses: ["10.7.0.1/24", "fd00:7::1/64"]
peers:
  - name: beta
    public_key: "B="
    endpoint: "192.0.2.2:51820"
control:
  socket: "/tmp/x/omni.sock"
"""
        self.assertEqual(render_config("lab", me, [peer], Path("/tmp/x/omni.sock")), expected)

    def test_a_node_that_is_to_find_the_others_names_none(self) -> None:
        me = Identity("alpha", "192.0.2.1", ("10.7.0.1/24",), "A=")
        meeting = Meeting((("192.0.2.4:51821", "N="),), "S=").lines("alpha.cert")
        text = render_config("lab", me, [], Path("omni.sock"), meeting)
        self.assertNotIn("peers", text)
        expected = """nucleus:
  - endpoint: "192.0.2.4:51821"
    public_key: "N="
authority:
  public_key: "S="
  certificate_file: alpha.cert
control:
"""
        self.assertIn(expected, text)


if __name__ == "__main__":
    unittest.main()
