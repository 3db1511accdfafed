"""What the trials of faults read, count and judge, without any of our programs."""

import errno
import random
import struct
import subprocess
import sys
import unittest
from pathlib import Path

from omni_lab import (
    faults_cases,
    faults_kernel,
    faults_missing,
    faults_refuse,
    faults_vdso,
    faults_wire,
)
from omni_lab.commands import CommandError
from omni_lab.faults_cases import Case, Outcome
from omni_lab.faults_kernel import BpfObject
from omni_lab.faults_talk import Direction
from omni_lab.faults_wire import Lives, Sessions

LAB = Path(__file__).resolve().parents[1]
PORT = 51820


def frame(message: bytes, port: int = PORT, checksum: int = 0x1234) -> bytes:
    """A message as it is on the wire."""
    udp = struct.pack(">HHHH", PORT, port, 8 + len(message), checksum)
    length = 20 + len(udp) + len(message)
    ip = struct.pack(">BBHHHBBH4s4s", 0x45, 0, length, 0, 0x4000, 64, 17, 0, b"\1" * 4, b"\2" * 4)
    return b"\2" * 12 + b"\x08\x00" + ip + udp + message


class Kernel(unittest.TestCase):
    def test_bpf_objects_are_read_from_descriptors(self) -> None:
        text = "pos:\t0\nflags:\t02\nlink_type:\txdp\nlink_id:\t7\nprog_tag:\tab\nprog_id:\t9\n"
        self.assertEqual(
            faults_kernel.parse_held(text), {BpfObject("link", 7), BpfObject("prog", 9)}
        )
        self.assertEqual(faults_kernel.parse_held("pos:\t0\nmnt_id:\t15\n"), set())

    def test_sockets_are_counted_by_protocol(self) -> None:
        text = (
            "protocol  size sockets  memory press maxhdr  slab module\n"
            "XDP        960      2      -1   NI       0   no   kernel\n"
            "UDP       1216      0       4   NI       0   yes  kernel\n"
        )
        self.assertEqual(faults_kernel.parse_protocols(text), {"XDP": 2})

    def test_traces_are_programs_taps_and_sockets(self) -> None:
        links = [
            {"ifname": "eth0", "xdp": {"mode": 1}},
            {"ifname": "omni0", "linkinfo": {"info_kind": "tun"}},
            {"ifname": "omni1", "linkinfo": {"info_kind": "veth"}},
        ]
        found = faults_kernel.traces(links, {"XDP": 1, "NETLINK": 3, "UDP": 0})
        self.assertEqual(found, ["XDP program on eth0", "tap omni0", "1 sockets of XDP"])
        self.assertEqual(faults_kernel.traces(links[2:], {}), [])

    def test_what_changed_is_told_and_nothing_else(self) -> None:
        before = {"sockets": {"XDP": 1}, "routes": ["a", "b"], "same": 1}
        after = {"sockets": {}, "routes": ["b", "c"], "same": 1, "new": 2}
        told = faults_kernel.differences(before, after)
        self.assertEqual(
            told,
            [
                "new: None became 2",
                "routes: gone ['a'], come ['c']",
                "sockets: {'XDP': 1} became {}",
            ],
        )
        self.assertEqual(faults_kernel.differences(before, before), [])

    def test_counters_of_interfaces_are_no_change_and_promiscuity_is(self) -> None:
        link = {"ifname": "eth0", "mtu": 1500, "promiscuity": 0, "flags": ["UP", "BROADCAST"]}
        one = faults_kernel.steady([{**link, "stats64": 1}])
        self.assertEqual(one, faults_kernel.steady([{**link, "stats64": 2}]))
        self.assertNotEqual(one, faults_kernel.steady([{**link, "promiscuity": 1}]))

    def test_routes_keep_their_addresses(self) -> None:
        links = [{"ifname": "lo", "addr_info": [{"local": "::1", "prefixlen": 128}]}]
        self.assertEqual(faults_kernel.address_lines(links), ["lo ::1/128"])


class Talking(unittest.TestCase):
    def test_what_comes_twice_is_a_duplicate(self) -> None:
        way = Direction()
        first, second = way.send(1.0), way.send(2.0)
        for number in (first, second, first):
            way.receive(number, 3.0)
        self.assertEqual((len(way.received), way.duplicates, way.foreign), (2, 1, 0))
        way.receive(99, 3.0)
        self.assertEqual(way.foreign, 1, "it was never sent")

    def test_what_the_host_did_not_send_is_not_lost(self) -> None:
        way = Direction()
        way.refuse(way.send(1.0))
        way.send(2.0)
        self.assertEqual((way.refused, way.lost_since(0.0, 9.0)), (1, 1))
        self.assertEqual(way.lost_since(3.0, 9.0), 0)

    def test_after_a_mark_only_what_was_sent_after_it_counts(self) -> None:
        way = Direction()
        old = way.send(1.0)
        way.set_mark(2.0)
        way.receive(old, 2.5)
        self.assertIsNone(way.first_arrival)
        way.receive(way.send(3.0), 3.5)
        way.receive(way.send(4.0), 4.5)
        self.assertEqual(way.first_arrival, 3.5)


class OnTheWire(unittest.TestCase):
    def test_only_whole_messages_to_the_port_are_kept(self) -> None:
        good = frame(bytes(32))
        self.assertTrue(faults_wire.is_message(good, PORT))
        self.assertFalse(faults_wire.is_message(frame(bytes(32), port=53), PORT))
        self.assertFalse(faults_wire.is_message(good[:40], PORT))
        self.assertFalse(faults_wire.is_message(good + bytes(1500), PORT))

    def test_the_checksum_is_taken_out_and_nothing_else(self) -> None:
        self.assertEqual(faults_wire.without_checksum(frame(b"abc")), frame(b"abc", checksum=0))

    def test_of_a_life_the_first_and_the_last_are_kept(self) -> None:
        lives = Lives()
        count = faults_wire.FIRST + 3 * faults_wire.LAST
        every = [number.to_bytes(2, "big") for number in range(count)]
        for each in every:
            lives.add(each)
        self.assertEqual(lives.choose(5, random.Random(1)), [], "none is over")
        lives.end()
        kept = every[: faults_wire.FIRST] + every[-faults_wire.LAST :]
        self.assertEqual(lives.choose(0, random.Random(1)), kept)
        lives.add(b"new")
        lives.end()
        chosen = lives.choose(50, random.Random(1))
        self.assertEqual((chosen[0], len(chosen)), (b"new", 51))
        self.assertTrue(set(chosen) & set(kept), "earlier lives count too")

    def test_sessions_are_told_by_the_receivers_index(self) -> None:
        sessions = Sessions(PORT)
        for index in (7, 7, 8):
            data = struct.pack(">IHHQ", index, 0x0400, 0, 1) + bytes(64)
            sessions.add(frame(data))
        sessions.add(frame(b"\0" * 116))
        self.assertEqual(sessions.seen, {7, 8})


class WallClocks(unittest.TestCase):
    @unittest.skipUnless(Path("/proc/self/auxv").exists(), "no /proc")
    def test_the_function_is_found_and_has_room(self) -> None:
        base = faults_vdso.base_of(Path("/proc/self/auxv").read_bytes())
        with open("/proc/self/mem", "rb", buffering=0) as memory:
            memory.seek(base)
            image = memory.read(faults_vdso.IMAGE_OCTETS)
        at, length = faults_vdso.find_symbol(image, faults_vdso.SYMBOL)
        self.assertTrue(0 < at < len(image))
        self.assertGreaterEqual(length, len(faults_vdso.code(0)))
        with self.assertRaises(CommandError):
            faults_vdso.find_symbol(image, b"__vdso_nothing")

    def test_the_jump_goes_over_the_addition_to_the_return(self) -> None:
        code = faults_vdso.code(-5)
        jump = code.index(b"\x75")
        self.assertEqual(code[jump + 2 + code[jump + 1] :], b"\xc3")
        self.assertIn(struct.pack("<q", -5), code)


class Refusing(unittest.TestCase):
    def refused(self, *options: str) -> str:
        """What a program says that wants a UDP socket and one of AF_XDP."""
        wants = "import socket\nfor family in (2, 44):\n    try: socket.socket(family, 3 if family"
        wants += " == 44 else 2); print(family, 0)\n    except OSError as e: print(family, e.errno)"
        command = [sys.executable, "-m", "omni_lab.faults_refuse", *options, "--"]
        return subprocess.run(
            [*command, sys.executable, "-c", wants],
            cwd=LAB,
            capture_output=True,
            text=True,
            check=True,
        ).stdout

    def test_only_the_call_with_that_argument_is_refused(self) -> None:
        said = self.refused("--call", "socket", "--first", "44", "--errno", "EAFNOSUPPORT")
        self.assertEqual(said.splitlines(), ["2 0", f"44 {errno.EAFNOSUPPORT}"])
        said = self.refused("--call", "socket", "--errno", "EPERM")
        self.assertEqual(said.splitlines(), [f"2 {errno.EPERM}", f"44 {errno.EPERM}"])

    def test_a_filter_ends_by_an_answer(self) -> None:
        for first in (None, 44):
            code = faults_refuse.program(41, first, errno.EPERM)
            last = struct.unpack("=HBBI", code[-8:])
            self.assertEqual(last, (faults_refuse.RET, 0, 0, faults_refuse.RET_ALLOW))


class Cases(unittest.TestCase):
    CASE = Case("port", ("underlay.port", "in use"))
    LOG = "T INFO begins\nT ERROR underlay.port: in use"

    def test_what_says_it_all_has_no_problem(self) -> None:
        self.assertEqual(faults_cases.problems(self.CASE, Outcome(1, self.LOG)), [])

    def test_status_words_leftovers_and_what_follows_are_judged(self) -> None:
        cases = {
            "exit status 2": Outcome(2, self.LOG),
            "no line has all": Outcome(1, "T ERROR underlay.port: refused"),
            "left: omni0": Outcome(1, self.LOG, ("omni0",)),
            "not the last line": Outcome(1, self.LOG + "\nT INFO ends"),
        }
        for words, outcome in cases.items():
            found = faults_cases.problems(self.CASE, outcome)
            self.assertEqual(len(found), 1, found)
            self.assertIn(words, found[0])

    def test_one_that_starts_may_say_it_anywhere(self) -> None:
        case = Case("generic", ("generic",), None)
        log = "T INFO a\nT WARN generic mode\nT INFO ready"
        self.assertEqual(faults_cases.problems(case, Outcome(None, log)), [])
        self.assertEqual(len(faults_cases.problems(case, Outcome(None, "T INFO ready"))), 1)

    def test_what_is_to_be_edited_has_to_be_there(self) -> None:
        self.assertEqual(faults_cases.edited("a: 1\nb: 1", [("a: 1", "a: 2")]), "a: 2\nb: 1")
        with self.assertRaises(ValueError):
            faults_cases.edited("a: 1", [("c", "d")])

    def test_every_case_has_a_name_of_its_own_and_words(self) -> None:
        names = [case.name for case in faults_missing.CASES]
        self.assertEqual(len(names), len(set(names)))
        self.assertTrue(all(case.words for case in faults_missing.CASES))


if __name__ == "__main__":
    unittest.main()
