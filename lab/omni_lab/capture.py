"""A capture on the wire that keeps nothing: every frame is classified and counted.

It runs as a process of its own in the wire's namespace. It reads requests as lines of JSON on
stdin (`phase`, `sample`, `needles`), answers each with a line on stdout, and at the end of stdin
prints its report. When its parent dies, stdin ends, and so does it.

At hundreds of thousands of messages a second a program in Python would be the bottleneck of what
it measures. So each socket has a filter in the kernel, which hands over every frame that is not
exactly a data message of the fabric, and of the data messages one in `sample`. No header goes
unchecked thereby, while only the sample is searched for plaintext. With `sample` 1 all are.
"""

from __future__ import annotations

import argparse
import ctypes
import errno
import json
import os
import selectors
import socket
import struct
import subprocess
import sys
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import IO, Any, NamedTuple, cast

from .classify import Kind, Needles, classify
from .netns import Namespace

# Of <linux/if_packet.h>, <asm/socket.h>, <linux/if_ether.h>; Python has no names for them.
SOL_PACKET = 263
PACKET_STATISTICS = 6
PACKET_IGNORE_OUTGOING = 23
SO_ATTACH_FILTER = 26
SO_RCVBUFFORCE = 33
ETH_P_ALL = 3

# Classic BPF (<linux/bpf_common.h>): the opcodes used, and the loads of extra data.
LD_W, LD_H, LD_B, LD_LEN = 0x20, 0x28, 0x30, 0x80
JEQ, JEQ_X, JGE, SUB, AND, TAX, RET = 0x15, 0x1D, 0x35, 0x14, 0x54, 0x07, 0x06
RANDOM = 0xFFFFF000 + 56

RECEIVE_BUFFER_BYTES = 16 << 20
FRAME_MAX = 1 << 16
BURST = 256
VIOLATIONS_KEPT = 8
# Once nothing came for this long, what a phase sent is counted.
QUIET_SECONDS = 0.2
REPLY_SECONDS = 10.0


class Instruction(NamedTuple):
    """An instruction of classic BPF."""

    code: int
    if_true: int
    if_false: int
    k: int


def data_filter(port: int, lanes: int, sample: int) -> list[Instruction]:
    """The program that passes all frames but well-formed data messages, and of those one in
    `sample`, which is a power of two.

    Offsets are from the Ethernet header; the outer headers are 14 + 20 + 8 octets.
    """
    if sample < 1 or sample & (sample - 1):
        raise ValueError(f"sample: {sample} is not a power of two")
    # Load, jump, value, whether the jump must be taken to stay a data message.
    checks = [
        (LD_H, 12, JEQ, 0x0800, True),
        (LD_B, 14, JEQ, 0x45, True),
        (LD_H, 20, JEQ, 0x4000, True),
        (LD_B, 23, JEQ, 17, True),
        (LD_H, 36, JEQ, port, True),
        (LD_W, 42, JEQ, 0, False),
        (LD_H, 46, JEQ, 0x0400, True),
        (LD_H, 48, JGE, lanes, False),
        # Keepalives are shorter than this; they are few, and counted apart.
        (LD_H, 38, JGE, 8 + 32 + 14, True),
    ]
    # Lengths must agree: UDP's with IP's, and with the frame's.
    lengths = [(LD_H, 16, 20), (LD_LEN, 0, 34)]
    pass_at = 2 * len(checks) + 5 * len(lengths) + 4
    program: list[Instruction] = []

    def jump(code: int, value: int, go_on: bool) -> None:
        away = pass_at - len(program) - 1
        taken, not_taken = (0, away) if go_on else (away, 0)
        program.append(Instruction(code, taken, not_taken, value))

    for load, offset, test, value, go_on in checks:
        program.append(Instruction(load, 0, 0, offset))
        jump(test, value, go_on)
    for load, offset, headers in lengths:
        program.append(Instruction(load, 0, 0, offset))
        program.append(Instruction(SUB, 0, 0, headers))
        program.append(Instruction(TAX, 0, 0, 0))
        program.append(Instruction(LD_H, 0, 0, 38))
        jump(JEQ_X, 0, True)
    program.append(Instruction(LD_W, 0, 0, RANDOM))
    program.append(Instruction(AND, 0, 0, sample - 1))
    program.append(Instruction(JEQ, 1, 0, 0))
    program.append(Instruction(RET, 0, 0, 0))
    program.append(Instruction(RET, 0, 0, FRAME_MAX))
    return program


def attach(tap: socket.socket, program: list[Instruction]) -> None:
    """Puts a filter on a socket, in one step where another was before."""
    code = b"".join(struct.pack("=HBBI", *instruction) for instruction in program)
    memory = ctypes.create_string_buffer(code, len(code))
    described = struct.pack("@HP", len(program), ctypes.addressof(memory))
    tap.setsockopt(socket.SOL_SOCKET, SO_ATTACH_FILTER, described)


@dataclass
class Tally:
    """What was seen in one phase."""

    # Frames that entered the wire, by the interfaces' counters: the filter hides some of them.
    frames: int = 0
    # Of those that the filter handed over.
    seen: dict[str, int] = field(default_factory=dict)
    searched: int = 0
    leaks: int = 0
    missed: int = 0
    violations: list[str] = field(default_factory=list)

    def add(self, frame: bytes, port: int, lanes: int, needles: Needles) -> None:
        """Classifies a frame and looks for plaintext in it."""
        verdict = classify(frame, port, lanes)
        self.seen[verdict.kind.name] = self.seen.get(verdict.kind.name, 0) + 1
        self.searched += 1
        if verdict.kind is Kind.FOREIGN:
            self.violate(verdict.why, frame)
        needle = needles.found_in(frame, verdict.kind)
        if needle is not None:
            self.leaks += 1
            self.violate(f"plaintext {needle.hex()}", frame)

    def violate(self, why: str, frame: bytes) -> None:
        """Remembers the first few, to be shown."""
        if len(self.violations) < VIOLATIONS_KEPT:
            self.violations.append(f"{why}: {frame[:64].hex()}")

    def count(self, kind: Kind) -> int:
        """How many of a kind there were, those that the filter did not hand over included."""
        if kind is Kind.DATA:
            others = sum(self.seen.values()) - self.seen.get(Kind.DATA.name, 0)
            return max(self.frames - others, self.seen.get(Kind.DATA.name, 0))
        return self.seen.get(kind.name, 0)


class Capture:
    """The sockets, and the tallies of all phases."""

    def __init__(self, interfaces: list[str], port: int, lanes: int) -> None:
        self.port, self.lanes = port, lanes
        self.needles = Needles()
        self.interfaces = interfaces
        self.tallies = {"": Tally()}
        self.tally = self.tallies[""]
        self.buffer = bytearray(FRAME_MAX)
        self.taps = [self.open(name) for name in interfaces]
        self.counted = self.frames()

    def open(self, interface: str) -> socket.socket:
        """A socket for what enters the wire at a port; what leaves there entered at another."""
        tap = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
        tap.setsockopt(SOL_PACKET, PACKET_IGNORE_OUTGOING, 1)
        tap.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, RECEIVE_BUFFER_BYTES)
        attach(tap, data_filter(self.port, self.lanes, 1))
        tap.bind((interface, ETH_P_ALL))
        tap.setblocking(False)
        return tap

    def frames(self) -> int:
        """Frames that entered the wire since it was made."""
        path = "/sys/class/net/{}/statistics/rx_packets"
        return sum(int(Path(path.format(name)).read_text()) for name in self.interfaces)

    def drain(self, tap: socket.socket) -> bool:
        """Takes up to a burst from a socket. Says whether there may be more."""
        for _ in range(BURST):
            try:
                length = tap.recv_into(self.buffer)
            except BlockingIOError:
                return False
            except OSError as error:
                # Reported once when an interface goes down, as when its host goes first.
                if error.errno == errno.ENETDOWN:
                    return True
                raise
            self.tally.add(bytes(self.buffer[:length]), self.port, self.lanes, self.needles)
        return True

    def settle(self) -> None:
        """Takes what is on its way, and closes the accounts of the phase."""
        with selectors.DefaultSelector() as selector:
            for tap in self.taps:
                selector.register(tap, selectors.EVENT_READ, tap)
            # Bounded: a wire that never falls silent must not keep the phase open.
            for _ in range(10_000):
                ready = selector.select(QUIET_SECONDS)
                if not ready:
                    break
                for key, _ in ready:
                    self.drain(key.data)
        frames = self.frames()
        self.tally.frames += frames - self.counted
        self.counted = frames
        for tap in self.taps:
            _, missed = struct.unpack("=II", tap.getsockopt(SOL_PACKET, PACKET_STATISTICS, 8))
            self.tally.missed += missed

    def obey(self, request: dict[str, Any]) -> None:
        """Carries out a request."""
        if "phase" in request:
            self.settle()
            self.tally = self.tallies.setdefault(request["phase"], Tally())
        if "needles" in request:
            long, short = request["needles"]
            self.needles = Needles(
                self.needles.long + tuple(map(bytes.fromhex, long)),
                self.needles.short + tuple(map(bytes.fromhex, short)),
            )
        if "sample" in request:
            for tap in self.taps:
                attach(tap, data_filter(self.port, self.lanes, request["sample"]))

    def run(self) -> None:
        """Serves until stdin ends, then prints the report."""
        print("listening", flush=True)
        pending = b""
        with selectors.DefaultSelector() as selector:
            selector.register(sys.stdin, selectors.EVENT_READ)
            for tap in self.taps:
                selector.register(tap, selectors.EVENT_READ, tap)
            while True:
                for key, _ in selector.select():
                    if key.data is not None:
                        self.drain(key.data)
                        continue
                    received = os.read(sys.stdin.fileno(), 1 << 16)
                    if not received:
                        self.settle()
                        print(json.dumps({k: asdict(t) for k, t in self.tallies.items()}))
                        return
                    *lines, pending = (pending + received).split(b"\n")
                    for line in lines:
                        self.obey(json.loads(line))
                        print("done", flush=True)


class CaptureError(Exception):
    """The capture does not run or does not answer."""


class Wiretap:
    """A capture as its parent sees it."""

    def __init__(self, wire: Namespace, interfaces: list[str], port: int, lanes: int) -> None:
        module = ["-m", "omni_lab.capture", "--port", str(port), "--lanes", str(lanes)]
        self.command = wire.inside(sys.executable, *module, *interfaces)
        self.process = subprocess.Popen(
            self.command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            # Ctrl-C is for the lab, which then ends this process by closing its stdin.
            start_new_session=True,
            cwd=Path(__file__).resolve().parent.parent,
        )
        # Both are there, as both were asked for.
        self.requests = cast(IO[bytes], self.process.stdin)
        self.replies = cast(IO[bytes], self.process.stdout)
        self.pending = b""

    def wait_listening(self) -> None:
        """Waits until all that comes is seen."""
        self.expect("listening")

    def request(self, **request: object) -> None:
        """Asks for something and waits until it is done."""
        try:
            self.requests.write(json.dumps(request).encode() + b"\n")
            self.requests.flush()
        except OSError as error:
            raise CaptureError(f"the capture ended early: {error}") from error
        self.expect("done")

    def finish(self) -> dict[str, Tally]:
        """Ends the capture. Returns its tallies by phase."""
        self.requests.close()
        report = json.loads(self.read_line())
        self.process.wait(REPLY_SECONDS)
        return {phase: Tally(**tally) for phase, tally in report.items()}

    def close(self) -> None:
        """Ends the process, whatever state it is in."""
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        for pipe in (self.requests, self.replies):
            # A request may never have been read; nothing is lost with the process gone.
            with suppress(BrokenPipeError):
                pipe.close()

    def expect(self, wanted: str) -> None:
        """Takes the next line, which must be `wanted`."""
        line = self.read_line()
        if line != wanted:
            raise CaptureError(f"the capture said {line!r}, not {wanted!r}")

    def read_line(self) -> str:
        """The next line, within a time limit."""
        with selectors.DefaultSelector() as selector:
            selector.register(self.replies, selectors.EVENT_READ)
            while b"\n" not in self.pending:
                if not selector.select(REPLY_SECONDS):
                    raise CaptureError("the capture does not answer")
                received = os.read(self.replies.fileno(), 1 << 16)
                if not received:
                    raise CaptureError("the capture ended early")
                self.pending += received
        line, self.pending = self.pending.split(b"\n", 1)
        return line.decode()


def main() -> None:
    """`python3 -m omni_lab.capture --port 51820 --lanes 1 INTERFACE...`"""
    parser = argparse.ArgumentParser(description="Classifies what is on the wire.")
    parser.add_argument("--port", type=int, required=True, help="the fabric's UDP port")
    parser.add_argument("--lanes", type=int, required=True, help="lanes that a node announces")
    parser.add_argument("interfaces", nargs="+", help="where frames enter the wire")
    arguments = parser.parse_args()
    Capture(arguments.interfaces, arguments.port, arguments.lanes).run()


if __name__ == "__main__":
    main()
