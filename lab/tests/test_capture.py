"""The filter in the kernel hides data messages only, and the counts still come out right."""

import struct
import unittest

from omni_lab import capture
from omni_lab.capture import Tally, data_filter
from omni_lab.classify import Kind, Needles, classify

from . import frames

LANES = 2


def passes(program: list[capture.Instruction], frame: bytes, random: int) -> bool:
    """Runs classic BPF as the kernel does: a load beyond the end refuses the frame."""
    a = x = at = 0
    sizes = {capture.LD_W: "!I", capture.LD_H: "!H", capture.LD_B: "!B"}
    while True:
        code, if_true, if_false, k = program[at]
        at += 1
        if code == capture.RET:
            return k > 0
        if code in sizes:
            if k == capture.RANDOM:
                a = random
                continue
            try:
                (a,) = struct.unpack_from(sizes[code], frame, k)
            except struct.error:
                return False
        elif code == capture.LD_LEN:
            a = len(frame)
        elif code == capture.SUB:
            a = (a - k) & 0xFFFFFFFF
        elif code == capture.AND:
            a &= k
        elif code == capture.TAX:
            x = a
        else:
            test = {
                capture.JEQ: a == k,
                capture.JEQ_X: a == x,
                capture.JGE: a >= k,
            }[code]
            at += if_true if test else if_false


class Filter(unittest.TestCase):
    def setUp(self) -> None:
        self.program = data_filter(frames.PORT, LANES, 64)

    def passes(self, frame: bytes, random: int = 1) -> bool:
        return passes(self.program, frame, random)

    def test_one_data_message_in_so_many_is_handed_over(self) -> None:
        handed_over = [self.passes(frames.data(), random) for random in range(256)]
        self.assertEqual(sum(handed_over), 4)
        every = data_filter(frames.PORT, LANES, 1)
        self.assertTrue(all(passes(every, frames.data(), random) for random in range(8)))

    def test_a_sample_that_is_no_power_of_two_is_refused(self) -> None:
        for sample in (0, 3, 100):
            self.assertRaises(ValueError, data_filter, frames.PORT, LANES, sample)

    def test_nothing_but_data_is_hidden(self) -> None:
        good = bytearray(frames.data(30))
        for at in range(12, 50):
            for bit in range(8):
                bad = bytearray(good)
                bad[at] ^= 1 << bit
                verdict = classify(bytes(bad), frames.PORT, LANES)
                if verdict.kind is not Kind.DATA:
                    self.assertTrue(self.passes(bytes(bad)), (at, bit, verdict))

    def test_all_that_is_not_data_is_handed_over(self) -> None:
        for frame in [
            frames.data(0),
            frames.data(13),
            frames.data(60, lane=LANES),
            frames.udp(frames.message(0, 1, 1, 168)),
            frames.udp(frames.message(9, 5, 0, 80)),
            frames.data() + b"behind",
            frames.data()[:-1],
            frames.ethernet(0x0806, bytes(46)),
            frames.ethernet(0x86DD, bytes(60)),
            frames.ipv4(1, bytes(64)),
        ]:
            self.assertTrue(self.passes(frame), frame.hex())


class Count(unittest.TestCase):
    def test_data_that_the_filter_hid_is_counted_by_the_interfaces(self) -> None:
        tally = Tally(frames=1000)
        for frame in (
            frames.data(),
            frames.data(0),
            frames.udp(frames.message(0, 1, 1, 168)),
            frames.ethernet(0x0806, bytes(46)),
        ):
            tally.add(frame, frames.PORT, LANES, Needles())
        self.assertEqual(tally.count(Kind.DATA), 997)
        self.assertEqual(tally.count(Kind.INITIATION), 1)
        self.assertEqual(tally.violations, [])

    def test_violations_are_kept_up_to_a_bound_and_leaks_counted_all(self) -> None:
        tally = Tally()
        for _ in range(100):
            tally.add(frames.udp(b"secret"), frames.PORT, LANES, Needles((b"secret",)))
        self.assertEqual((tally.leaks, tally.count(Kind.FOREIGN)), (100, 100))
        self.assertEqual(len(tally.violations), capture.VIOLATIONS_KEPT)


if __name__ == "__main__":
    unittest.main()
