"""What floods come to is judged as the figures say, and what the kernel says is read right."""

import json
import os
import struct
import unittest
from dataclasses import replace
from pathlib import Path

from omni_lab import attack_figures, attack_tap, attack_tools
from omni_lab.attack_figures import ATTACKS, CLOSED, DROPPED, REAL, Connected, Round
from omni_lab.commands import CommandError
from omni_lab.node import Identity, render_config

GOOD = Round(
    target=REAL,
    bits_per_second=1.9e9,
    packets_per_second=1e5,
    rss_before_bytes=20 << 20,
    rss_most_bytes=21 << 20,
    delivered=0,
    drops={"bad_tag": 5},
    cores={"softirq": 0.5, "omni-engine": 0.1},
    known=Connected((1.0, 2.0), 0),
)
CONTROL = replace(GOOD, target=CLOSED, bits_per_second=2e9, drops={})


def turn(flood: Round, control: Round = CONTROL) -> dict[str, Round]:
    """A round of one control."""
    return {REAL: flood, control.target: control}


class Figures(unittest.TestCase):
    def misses(self, flood: Round, kind: str = "bad-mac") -> str:
        return "; ".join(attack_figures.misses(ATTACKS[kind], [turn(flood)]))

    def test_a_node_that_holds_out_misses_nothing(self) -> None:
        self.assertEqual(self.misses(GOOD), "")

    def test_goodput_is_judged_by_the_kind_of_flood(self) -> None:
        slower = replace(GOOD, bits_per_second=1.85e9)
        self.assertIn("goodput 7.5 %", self.misses(slower))
        self.assertEqual(self.misses(slower, "forged-data"), "")
        slowest = replace(GOOD, bits_per_second=1.7e9)
        self.assertIn("goodput 15.0 %", self.misses(slowest, "forged-data"))

    def test_both_controls_count(self) -> None:
        dropped = replace(CONTROL, target=DROPPED, bits_per_second=3e9)
        rounds = [turn(GOOD) | turn(GOOD, dropped)]
        self.assertIn("(dropped)", "".join(attack_figures.misses(ATTACKS["junk"], rounds)))

    def test_memory_connections_and_deliveries_are_judged(self) -> None:
        self.assertIn("memory", self.misses(replace(GOOD, rss_most_bytes=37 << 20)))
        self.assertIn("known", self.misses(replace(GOOD, known=Connected((1.0, 5100.0)))))
        self.assertIn("unknown", self.misses(replace(GOOD, unknown=Connected((1.0,), 1))))
        self.assertIn("delivered", self.misses(replace(GOOD, delivered=1)))

    def test_the_middle_round_decides(self) -> None:
        slow = replace(GOOD, bits_per_second=1e9)
        attack = ATTACKS["junk"]
        self.assertFalse(attack_figures.misses(attack, [turn(GOOD), turn(slow), turn(GOOD)]))
        self.assertTrue(attack_figures.misses(attack, [turn(slow), turn(slow), turn(GOOD)]))

    def test_percentiles_count_failures_as_the_slowest(self) -> None:
        peers = Connected(tuple(map(float, range(1, 99))), 2)
        self.assertEqual(peers.percentile(50), 50.0)
        self.assertIsNone(peers.percentile(99))
        self.assertIsNone(Connected().percentile(99))
        joined = attack_figures.joined([Connected((1.0,), 1), Connected((2.0,))])
        self.assertEqual(joined, Connected((1.0, 2.0), 1))

    def test_connections_are_read_from_the_programs_json(self) -> None:
        report = json.loads('{"connected_ms": [1, 2.5], "failed": 3, "p50_ms": null}')
        self.assertEqual(Connected.parse(report), Connected((1.0, 2.5), 3))

    def test_every_target_begins_in_its_turn(self) -> None:
        targets = [REAL, CLOSED, DROPPED]
        turns = [attack_figures.order(targets, number) for number in range(6)]
        self.assertEqual({names[0] for names in turns}, set(targets))
        self.assertTrue(all(sorted(names) == sorted(targets) for names in turns))

    def test_the_table_has_a_row_for_each_kind(self) -> None:
        lines = attack_figures.table({"junk": [turn(GOOD)], "forged-data": [turn(GOOD)]})
        self.assertTrue(lines[1].startswith("junk"))
        self.assertIn("0.95 [0.95-0.95]", lines[1])
        self.assertIn("+1.0M", lines[1])
        self.assertIn("1 ms/2 ms", lines[1])
        self.assertTrue(any("bad_tag 5" in line for line in lines))
        self.assertTrue(any("omni-engine 0.10 (0.10)" in line for line in lines))
        self.assertTrue(all(len(line) <= 140 for line in lines))

    def test_without_a_control_goodput_is_not_called_met(self) -> None:
        text = "\n".join(attack_figures.table({"junk": [{REAL: GOOD}]}))
        self.assertNotIn("all figures met", text)
        self.assertIn("compared with nothing", text)


class Configuration(unittest.TestCase):
    def test_more_peers_stand_under_peers(self) -> None:
        me = Identity("a", "192.0.2.1", ("10.7.0.1/24",), "KEYA")
        peer = Identity("b", "192.0.2.2", ("10.7.0.2/24",), "KEYB")
        text = render_config("f", me, [peer], Path("/run/s"))
        more = [("c", "KEYC", "192.0.2.3:7"), ("d", "KEYD", None)]
        lines = attack_tools.with_peers(text, more).splitlines()
        at = lines.index("  - name: c")
        self.assertLess(lines.index("peers:"), at)
        self.assertEqual(lines[at + 2], '    endpoint: "192.0.2.3:7"')
        self.assertEqual(lines[at + 3 :][:3], ["  - name: d", '    public_key: "KEYD"', "control:"])


class Kernel(unittest.TestCase):
    def test_memory_is_found_by_name(self) -> None:
        status = "Name:\tomni\nVmHWM:\t   2048 kB\nVmRSS:\t    1024 kB\n"
        self.assertEqual(attack_tools.status_bytes(status, "VmRSS"), 1 << 20)
        self.assertRaises(CommandError, attack_tools.status_bytes, status, "VmPin")

    def test_a_threads_name_may_have_blanks_and_brackets(self) -> None:
        ticks = attack_tools.TICKS_PER_SECOND
        fields = ["S", *["0"] * 10, str(ticks), str(2 * ticks), *["0"] * 30]
        stat = f"12 (a (b) c) {' '.join(fields)}\n"
        self.assertEqual(attack_tools.thread_seconds(stat), ("a (b) c", 3.0))

    def test_the_machines_time_is_of_all_cores(self) -> None:
        ticks = attack_tools.TICKS_PER_SECOND
        stat = f"cpu  1 2 3 {4 * ticks} 5 6 {7 * ticks} 8 0 0\ncpu0 0 0 0 0 0 0 0 0 0 0\n"
        self.assertEqual(attack_tools.machine_seconds(stat), {"softirq": 7.0, "idle": 4.0})

    def test_the_peak_is_of_the_process_itself(self) -> None:
        now, most = attack_tools.Process(os.getpid()).rss_bytes()
        self.assertTrue(0 < now <= most)


class Programs(unittest.TestCase):
    def test_what_a_program_prints_at_its_end_is_its_report(self) -> None:
        tool = attack_tools.Tool(["sh", "-c", "echo ready; echo '{\"sent\": 3}'"], ready="ready")
        self.assertEqual(tool.finish(5), {"sent": 3})

    def test_a_program_that_fails_or_does_not_end_is_an_error(self) -> None:
        failing = attack_tools.Tool(["sh", "-c", "exit 3"])
        self.assertRaisesRegex(CommandError, "exit status 3", failing.finish, 5)
        endless = attack_tools.Tool(["sleep", "60"])
        self.assertRaisesRegex(CommandError, "no end", endless.finish, 0.1)
        self.assertIsNotNone(endless.process.poll())

    def test_a_program_that_prints_no_json_is_an_error(self) -> None:
        wordy = attack_tools.Tool(["echo", "no"])
        self.assertRaisesRegex(CommandError, "printed", wordy.finish, 5)

    def test_a_program_that_is_not_ready_is_an_error(self) -> None:
        with self.assertRaisesRegex(CommandError, "not 'ready'"):
            attack_tools.Tool(["echo", "no"], ready="ready")


def frame(message: bytes, port: int = 51820) -> bytes:
    """UDP over IPv4 over Ethernet, without fragments."""
    udp = struct.pack("!HHHH", port, port, 8 + len(message), 0) + message
    ip = struct.pack("!BBHHHBBH", 0x45, 0, 20 + len(udp), 0, 0x4000, 64, 17, 0) + bytes(8)
    return bytes(12) + b"\x08\x00" + ip + udp


class Tap(unittest.TestCase):
    DATA = bytes.fromhex("01020304" "0400" "0005") + bytes(8 + 16 + 60)

    def test_data_messages_are_recorded_without_their_headers(self) -> None:
        padded = frame(self.DATA)
        self.assertEqual(attack_tap.message_of(padded, 51820), self.DATA)
        self.assertEqual(attack_tap.session_of(self.DATA), (0x01020304, 5))

    def test_nothing_else_is(self) -> None:
        initiation = bytes.fromhex("00000000" "0100" "0001") + bytes(160)
        keepalive = self.DATA[:32]
        for other in (frame(initiation), frame(keepalive), frame(self.DATA, 9), b""):
            self.assertIsNone(attack_tap.message_of(other, 51820))


if __name__ == "__main__":
    unittest.main()
