"""The dissector in tshark: a sample, captures of engines, messages of every kind, and noise."""

import json
import os
import random
import shutil
import subprocess
import tempfile
import time
import unittest
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from dissect import World, pcapng, record
from omni_lab.node import Programs
from reference.chacha20poly1305 import poly1305, seal

from .dissector_messages import (
    CONTROL,
    DATA,
    IPV4,
    IPV6,
    KEY,
    ODD_MESSAGES,
    ODD_RECORDS,
    PROBE,
    RECORDS,
    SESSION,
    answer,
    cookie,
    datagram,
    initiation,
    key_log,
    ping,
    response,
    sealed,
)
from .test_keylog import PROGRAMS, obstacle

LAB = Path(__file__).resolve().parents[1]
FOLDER = LAB.parent / "contrib" / "wireshark"
LUA, CIPHER = FOLDER / "omninervous.lua", FOLDER / "omninervous_cipher.lua"
SAMPLES = FOLDER / "samples"
TSHARK_SECONDS = 120
# Mutated messages; tshark makes some 1000 a second of them.
MUTATIONS = int(os.environ.get("DISSECTED", "3000"))
SEED = 20
MILLISECOND = 1_000_000
# What of the sample has to stay as it is. What is within is up to the version of tshark.
SAMPLE_FIELDS = (
    "frame.number omni.type omni.session_id omni.lane omni.nonce omni.sender omni.receiver"
    " omni.initiation_in omni.response_in omni.direction omni.keepalive omni.tag.verified"
    " omni.record.kind omni.record.vlan omni.record.mac omni.record.ipv4 omni.record.sequence"
    " omni.record.probe.size omni.answer_in omni.probe_in icmp.type icmp.seq arp.opcode"
).split()


def tshark(capture: Path, *options: str, keys: Path | None = None) -> str:
    """What tshark prints, without any plugin of the user's own."""
    command = ["tshark", "-n", "-r", str(capture), "-X", f"lua_script:{LUA}"]
    command += ["-o", f"omni.key_log:{keys or ''}", *options]
    with tempfile.TemporaryDirectory() as home:
        surroundings = dict(os.environ, HOME=home, XDG_CONFIG_HOME=home)
        done = subprocess.run(
            command,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=TSHARK_SECONDS,
            check=False,
            env=surroundings,
        )
    lines = [line for line in done.stderr.splitlines() if "This could be dangerous" not in line]
    if done.returncode != 0 or lines or "Lua Error" in done.stdout:
        wrong = [line for line in done.stdout.splitlines() if "Lua Error" in line][:3]
        raise AssertionError(f"tshark: status {done.returncode}, {lines}, {wrong}")
    return done.stdout


def bit(value: str) -> str:
    """A truth value as old versions of tshark print it; any other value as it is."""
    return {"True": "1", "False": "0"}.get(value, value)


@unittest.skipIf(shutil.which("tshark") is None, "tshark is not installed: make dissector-test")
class Dissected(unittest.TestCase):
    def setUp(self) -> None:
        made = tempfile.TemporaryDirectory()
        self.folder = Path(made.name)
        self.addCleanup(made.cleanup)
        self.keys = self.folder / "keys"
        self.keys.write_text(key_log())

    def capture(self, messages: list[bytes], snap: int = 1 << 16) -> Path:
        """Datagrams of a millisecond each."""
        return self.frames([datagram(message) for message in messages], snap)

    def frames(self, frames: list[bytes], snap: int = 1 << 16) -> Path:
        path = self.folder / "capture.pcapng"
        timed = [(at * MILLISECOND, frame) for at, frame in enumerate(frames, 1)]
        path.write_bytes(pcapng(timed, snap))
        return path

    def fields(self, capture: Path, names: list[str], *options: str) -> list[list[list[str]]]:
        """Of each frame, the values of each field, as often as it is there."""
        asked = [word for name in names for word in ("-e", name)]
        text = tshark(capture, "-T", "json", *asked, *options, keys=self.keys)
        packets: list[dict[str, Any]] = json.loads(text)
        layers = [packet["_source"].get("layers", {}) for packet in packets]
        return [[[bit(value) for value in each.get(name, [])] for name in names] for each in layers]

    def column(self, capture: Path, name: str, *options: str) -> list[list[str]]:
        """The values of one field."""
        return [values for (values,) in self.fields(capture, [name], *options)]


class Sample(Dissected):
    def listing(self, *options: str, keys: Path | None) -> list[str]:
        asked = [word for name in SAMPLE_FIELDS for word in ("-e", name)]
        separators = ("-E", "separator=|", "-E", "occurrence=a")
        sample = SAMPLES / "fabric.pcapng"
        text = tshark(sample, "-T", "fields", *separators, *asked, *options, keys=keys)
        return ["|".join(map(bit, line.split("|"))) for line in text.splitlines()]

    def test_is_dissected_as_it_was(self) -> None:
        wanted = (SAMPLES / "fabric.fields").read_text().splitlines()
        got = self.listing("-2", keys=SAMPLES / "fabric.keys")
        self.assertEqual([" ".join(SAMPLE_FIELDS), *got], wanted)

    def test_shows_what_was_pinged_with_the_keys_alone(self) -> None:
        pinged = ("-Y", "icmp.type == 8")
        self.assertEqual(len(self.listing(*pinged, keys=SAMPLES / "fabric.keys")), 3)
        self.assertEqual(self.listing(*pinged, keys=None), [])
        self.assertEqual(self.listing(*pinged, keys=self.keys), [])


class Messages(Dissected):
    def test_every_record_has_its_fields(self) -> None:
        messages = [sealed(CONTROL, octets, at) for at, (octets, _, _) in enumerate(RECORDS)]
        capture = self.capture(messages)
        names = sorted({name for _, _, fields in RECORDS for name in fields})
        names.append("_ws.col.Info")
        rows = self.fields(capture, names)
        self.assertEqual(len(rows), len(RECORDS))
        for at, (row, (_, glance, fields)) in enumerate(zip(rows, RECORDS, strict=True)):
            got = dict(zip(names, row, strict=True))
            self.assertEqual(got["_ws.col.Info"], [f"Control, lane 0, nonce {at}, {glance}"])
            self.assertEqual({name: got[name] for name in fields}, fields)
        probe, acknowledged = len(RECORDS) - 1, len(RECORDS)
        rows = self.fields(capture, ["omni.probe_in", "omni.answer_in", "omni.answer_time"], "-2")
        self.assertEqual(rows[-2], [[], [str(acknowledged)], []])
        self.assertEqual(rows[-1], [[str(probe)], [], ["0.001000000"]])

    def test_what_is_wrong_is_said(self) -> None:
        odd = [(sealed(CONTROL, octets), text) for octets, text in ODD_RECORDS]
        odd += ODD_MESSAGES
        for (message, text), said in zip(
            odd, self.column(self.capture([message for message, _ in odd]), "_ws.expert.message"),
            strict=True,
        ):
            self.assertTrue(any(line.startswith(text) for line in said), (message, text, said))

    def test_nothing_is_said_of_what_is_sound(self) -> None:
        messages = [initiation(7), response(8, 7), cookie(7), PROBE]
        messages += [answer(4, IPV4, bytes(16)), answer(6, IPV6, bytes(4)), sealed(DATA, ping())]
        messages += [sealed(DATA, b"", 1)]
        messages += [sealed(CONTROL, octets, at) for at, (octets, _, _) in enumerate(RECORDS, 2)]
        names = ["omni.expert.malformed", "omni.expert.odd", "omni.expert.tag"]
        names += ["omni.expert.no_key", "omni.expert.cut", "omni.expert.again"]
        for number, row in enumerate(self.fields(self.capture(messages), names), 1):
            self.assertEqual(row, [[]] * len(names), f"frame {number}")

    def test_what_belongs_together_is_linked(self) -> None:
        messages = [initiation(7), cookie(7), initiation(7), response(SESSION, 7)]
        messages += [sealed(DATA, b""), sealed(DATA, ping(), 2), sealed(DATA, ping(), 1)]
        messages += [sealed(DATA, ping(), 2), PROBE, answer(6, IPV6, bytes(4))]
        names = "initiation_in response_in answers same_as probe_in answer_in".split()
        names = [f"omni.{name}" for name in names]
        session = [["1"], ["4"], [], [], [], []]
        wanted = [
            [[], ["4"], [], [], [], []],
            [[], [], ["1"], [], [], []],
            [[], [], [], ["1"], [], []],
            [["1"], [], [], [], [], []],
            session,
            session,
            session,
            [["1"], ["4"], [], ["6"], [], []],
            [[], [], [], [], [], ["10"]],
            [[], [], [], [], ["9"], []],
        ]
        capture = self.capture(messages)
        self.assertEqual(self.fields(capture, names, "-2"), wanted)
        late = self.column(capture, "omni.expert.overtaken")
        self.assertEqual([bool(values) for values in late].index(True), 6)
        times = ["omni.response_time", "omni.session_age", "omni.direction", "omni.answer_time"]
        rows = self.fields(capture, times)
        self.assertEqual(rows[3], [["0.003000000"], [], [], []])
        self.assertEqual(rows[4], [[], ["0.001000000"], ["initiator to responder"], []])
        self.assertEqual(rows[9], [[], [], [], ["0.001000000"]])

    def test_messages_that_the_kernel_has_in_one_are_told_apart(self) -> None:
        ends = sealed(DATA, ping()[:20], 2**32 + 1)
        pieces = [sealed(DATA, ping(), 2**32 - 1), sealed(DATA, ping(), 2**32), ends]
        capture = self.capture([b"".join(pieces)])
        nonces = [[str(2**32 - 1), str(2**32), str(2**32 + 1)]]
        self.assertEqual(self.column(capture, "omni.nonce"), nonces)
        self.assertEqual(self.column(capture, "icmp.type"), [["8", "8"]])

    def test_a_capture_that_cuts_frames_off_shows_what_it_has(self) -> None:
        messages = [sealed(DATA, ping()), initiation(7), PROBE, sealed(CONTROL, RECORDS[4][0])]
        frames = [(0, datagram(message)) for message in messages]
        every = self.folder / "every.pcapng"
        every.write_bytes(b"".join(pcapng(frames, snap) for snap in range(42, 640)))
        self.assertIn("the capture has only a part", tshark(every, "-V", keys=self.keys))
        rows = self.fields(self.capture(messages, 80), ["omni.type", "omni.expert.cut"])
        self.assertEqual([row[0] for row in rows], [["4"], ["1"], ["16"], ["5"]])
        self.assertTrue(all(row[1] for row in rows))

    def test_wireguard_on_the_same_port_is_left_to_its_own_dissector(self) -> None:
        wireguard = b"\x04\x00\x00\x00" + b"\x04\x01\x02\x03" + bytes(8) + bytes(range(32))
        protocols = self.column(self.capture([wireguard, PROBE]), "frame.protocols")
        self.assertEqual([values[0].split(":")[-1] for values in protocols], ["wg", "omni"])

    def test_another_port_is_a_preference(self) -> None:
        capture = self.frames([datagram(PROBE, 4000), datagram(PROBE)])
        for port, wanted in (("4000", [["16"], []]), ("4000,51820", [["16"], ["16"]])):
            types = self.column(capture, "omni.type", "-o", f"omni.ports:{port}")
            self.assertEqual(types, wanted, port)


class KeyLogs(Dissected):
    def verified(self, keys: Path) -> list[list[str]]:
        self.keys = keys
        return self.column(self.capture([sealed(DATA, ping())]), "omni.tag.verified")

    def test_lines_that_are_none_are_left_out(self) -> None:
        good = key_log()
        for before in ("", "omni1\n", "\x00\xff\n\n", "x" * 5000 + "\n", good.replace("0a0b", "0")):
            self.keys.write_text(before + key_log(bytes(32)) + good + good[:40])
            self.assertEqual(self.verified(self.keys), [["1"]], before[:9])
        self.keys.write_text(good.rstrip("\n"))
        self.assertEqual(self.verified(self.keys), [[]], "a line without its end")

    def test_one_that_cannot_be_read_is_no_key_log(self) -> None:
        for path in (self.folder / "none", self.folder, Path("/dev/null")):
            self.assertEqual(self.verified(path), [[]])
        self.keys = self.folder / "none"
        said = self.column(self.capture([sealed(DATA, ping())]), "_ws.expert.message")
        self.assertEqual(said, [["the key log cannot be read"]])


    def test_keys_that_come_later_are_read(self) -> None:
        """As in a live capture: frames come by a pipe, keys meanwhile, and once in a new file."""
        command = ["tshark", "-n", "-l", "-r", "-", "-X", f"lua_script:{LUA}"]
        command += ["-o", f"omni.key_log:{self.keys}", "-T", "fields", "-e", "omni.tag.verified"]
        frames = [datagram(sealed(DATA, b"", nonce, session=nonce + 1)) for nonce in range(3)]
        self.keys.write_text(key_log(session=99) * 3)
        with subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
        ) as running:
            assert running.stdin is not None and running.stdout is not None
            said = []
            whole = pcapng([(0, frame) for frame in frames])
            head = len(pcapng([]))
            size = (len(whole) - head) // len(frames)
            running.stdin.write(whole[:head])
            for at in range(len(frames)):
                # It looks once a second.
                time.sleep(1.1)
                if at == 1:
                    with self.keys.open("a") as keys:
                        keys.write(key_log(session=at + 1))
                elif at == 2:
                    self.keys.write_text(key_log(session=at + 1))
                running.stdin.write(whole[head + at * size :][:size])
                running.stdin.flush()
                said.append(bit(running.stdout.readline().decode().strip()))
            running.stdin.close()
            self.assertEqual(running.wait(TSHARK_SECONDS), 0)
        self.assertEqual(said, ["", "1", "1"])


class Noise(Dissected):
    def mutate(self, dice: random.Random, octets: bytes) -> bytes:
        """Octets changed, left out, added or cut off."""
        changed = bytearray(octets)
        for _ in range(dice.choice((1, 1, 2, 4))):
            at = dice.randrange(len(changed) + 1)
            how = dice.randrange(5)
            if how == 0:
                del changed[at:]
            elif how == 1:
                changed[at:at] = dice.randbytes(dice.randrange(1, 9))
            elif how == 2:
                del changed[at : at + dice.randrange(1, 9)]
            elif at < len(changed):
                changed[at] = dice.choice((0, 1, 4, 6, 0xFF, dice.randrange(256)))
        return bytes(changed)

    def messages(self) -> list[bytes]:
        dice = random.Random(SEED)
        records = [octets for octets, _, _ in RECORDS] + [octets for octets, _ in ODD_RECORDS]
        sound = [initiation(7), response(SESSION, 7), cookie(7), PROBE, answer(4, IPV4, bytes(16))]
        sound += [answer(6, IPV6, bytes(4)), sealed(DATA, ping()) + sealed(DATA, ping(), 1)]
        sound += [message for message, _ in ODD_MESSAGES]
        made = []
        for nonce in range(MUTATIONS):
            how = dice.randrange(4)
            if how == 0:
                made.append(self.mutate(dice, dice.choice(sound)))
            elif how == 1:
                made.append(sealed(DATA, self.mutate(dice, ping()), nonce))
            elif how == 2:
                made.append(sealed(CONTROL, self.mutate(dice, dice.choice(records)), nonce))
            else:
                made.append(dice.randbytes(4) + bytes([dice.choice((1, 2, 3, 4, 5, 16, 17))]))
                made[-1] += dice.randbytes(dice.randrange(180))
        return made

    def test_no_octets_make_an_error_in_lua(self) -> None:
        messages = self.messages()
        for options in (("-V",), ("-2", "-V")):
            text = tshark(self.capture(messages), *options, keys=self.keys)
            self.assertEqual(text.count("\nUser Datagram Protocol"), len(messages))
            self.assertGreater(text.count("[Tag verified: True]"), len(messages) // 4)

    def test_nor_do_those_of_a_mutated_capture(self) -> None:
        dice = random.Random(SEED)
        sample = (SAMPLES / "fabric.pcapng").read_bytes()
        frames, at = [], 0
        while at < len(sample):
            length = int.from_bytes(sample[at + 4 : at + 8], "little")
            if sample[at] == 6:
                size = int.from_bytes(sample[at + 20 : at + 24], "little")
                frames.append(sample[at + 28 : at + 28 + size])
            at += length
        self.assertEqual(len(frames), 46)
        head = len(datagram(b""))
        changed = [frame[:head] + self.mutate(dice, frame[head:]) for frame in frames * 20]
        tshark(self.frames(changed), "-V", keys=SAMPLES / "fabric.keys")


@unittest.skipIf(obstacle() is not None, obstacle() or "")
class Live(Dissected):
    def test_engines_key_log_opens_a_capture_of_them(self) -> None:
        capture, keys = self.folder / "live.pcapng", self.folder / "live.keys"
        programs = Programs(PROGRAMS / "omni-engine", PROGRAMS / "omni")
        with ExitStack() as stack:
            record(World(stack, f"omni-dissected-{os.getpid()}", programs), capture, keys)
        self.keys = keys
        names = ["omni.type", "omni.tag.verified", "omni.response_in", "icmp.type"]
        names += ["omni.record.kind", "omni.expert.malformed", "omni.expert.odd"]
        rows = self.fields(capture, names)
        sealed_rows = [row for row in rows if row[0] in (["4"], ["5"])]
        self.assertTrue(all(row[1] == ["1"] and row[2] for row in sealed_rows))
        self.assertEqual(sum(row[3] == ["8"] for row in rows), 3)
        self.assertEqual(sum(row[3] == ["0"] for row in rows), 3)
        kinds = {kind for row in rows for kind in row[4]}
        self.assertLessEqual({"1", "5", "6", "16", "17"}, kinds)
        self.assertTrue(all(row[5:] == [[], []] for row in rows))


def versions_of_lua(test: unittest.TestCase) -> list[str]:
    """Those that are installed."""
    found = [name for name in ("lua5.1", "lua5.2", "lua5.3", "lua5.4") if shutil.which(name)]
    if not found:
        test.skipTest("no Lua is installed: make dissector-test")
    return found


class Cipher(unittest.TestCase):
    """The cipher in Lua by itself, in whatever versions of Lua there are."""

    def cases(self) -> list[tuple[bytes, bytes, bytes, bytes]]:
        dice = random.Random(SEED)
        full = [b"\xff" * length for length in (32, 12, 16, 99)]
        cases = [(KEY, bytes(12), b"", b""), (full[0], full[1], full[2], full[3])]
        for length in (*range(1, 140), 1500):
            associated = dice.randbytes(dice.choice((0, 16, 33)))
            text = dice.randbytes(length) if length % 7 else b"\xff" * length
            cases.append((dice.randbytes(32), dice.randbytes(12), associated, text))
        return cases

    def test_it_is_that_of_the_reference_node(self) -> None:
        cases = self.cases()
        closed = [seal(*case) for case in cases]
        lines = [
            " ".join(part.hex() for part in (*case[:3], octets[:-16], octets[-16:]))
            for case, octets in zip(cases, closed, strict=True)
        ]
        wanted = [case[3].hex() for case in cases]
        for lua in versions_of_lua(self):
            got = self.run_lua(lua, lines)
            self.assertEqual(got, wanted, lua)
            # Any bit of the tag changed: nothing is opened.
            forged = [f"{line[:-1]}{int(line[-1], 16) ^ 1:x}" for line in lines]
            self.assertEqual(self.run_lua(lua, forged), ["none"] * len(lines), lua)

    def test_sums_around_the_prime_are_reduced(self) -> None:
        full, one, two = b"\xff" * 16, b"\x01" + bytes(15), b"\x02" + bytes(15)
        below, near = b"\xfb" + b"\xfe" * 15, b"\xf0" + b"\xff" * 15
        # RFC 8439 A.3, vectors 7 to 9 and 5: r, s, the message, the tag.
        vectors = [
            (one, bytes(16), full + near + b"\x11" + bytes(15), b"\x05" + bytes(15)),
            (one, bytes(16), full + below + b"\x01" * 16, bytes(16)),
            (two, bytes(16), b"\xfd" + b"\xff" * 15, b"\xfa" + b"\xff" * 15),
            (two, bytes(16), full, b"\x03" + bytes(15)),
            (two, full, two, b"\x03" + bytes(15)),
        ]
        # With r of 1 the sum is that of the blocks: from just below the prime to just above it.
        for low in range(0xF0, 0x100):
            message = bytes([low]) + b"\xff" * 15 + full + full
            vectors.append((one, bytes(16), message, poly1305(one + bytes(16), message)))
        lines = [" ".join(part.hex() for part in vector[:3]) for vector in vectors]
        for lua in versions_of_lua(self):
            self.assertEqual(self.run_lua(lua, lines), [tag.hex() for *_, tag in vectors], lua)

    def run_lua(self, lua: str, lines: list[str]) -> list[str]:
        done = subprocess.run(
            [lua, "-", str(CIPHER), *lines],
            input=DRIVER,
            capture_output=True,
            text=True,
            timeout=TSHARK_SECONDS,
            check=False,
        )
        self.assertEqual((done.returncode, done.stderr), (0, ""), lua)
        return done.stdout.splitlines()


# Opens what each argument holds in hex: key, nonce, associated data, sealed text, tag. Of three,
# which are r, s and a message, it gives the tag.
DRIVER = """
local cipher = dofile(arg[1])
local function raw(hex)
    return (hex:gsub("%x%x", function(octet) return string.char(tonumber(octet, 16)) end))
end
for i = 2, #arg do
    local parts = {}
    for part in (arg[i] .. " "):gmatch("(%x*) ") do parts[#parts + 1] = raw(part) end
    local plain
    if #parts == 3 then
        plain = cipher.poly1305(parts[1] .. parts[2], parts[3])
    else
        plain = cipher.open((unpack or table.unpack)(parts))
    end
    print(plain and plain:gsub(".", function(c) return ("%02x"):format(c:byte()) end) or "none")
end
"""


if __name__ == "__main__":
    unittest.main()
