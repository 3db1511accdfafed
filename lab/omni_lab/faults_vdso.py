"""The wall clock of one process, set apart from the machine's.

Programs read clocks by code that the kernel maps into each of them, the vDSO: C libraries and
programs without one alike. Here that code is written over in the memory of a single process, with a
few instructions that ask the kernel and then add an offset, of CLOCK_REALTIME only. All other
processes, and the other clocks of this one, stay as they are. A time namespace cannot do that, as
it has no wall clock of its own; to set the machine's would hit everything on it.
"""

from __future__ import annotations

import ctypes
import os
import platform
import signal
import struct
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import IO

from . import netns
from .commands import CommandError
from .netns import Namespace

# Of ptrace(2) and the auxiliary vector.
PTRACE_TRACEME, PTRACE_DETACH, AT_SYSINFO_EHDR = 0, 17, 33
SYMBOL = b"__vdso_clock_gettime"
# The vDSO is a page or a few.
IMAGE_OCTETS = 8192
# Of ELF64: section headers, and the type of the table of dynamic symbols.
SHT_DYNSYM = 11
SECTION = struct.Struct("<IIQQQQIIQQ")
DYNAMIC_SYMBOL = struct.Struct("<IBBHQQ")
# x86-64: clock_gettime(edi, rsi) by the kernel, then rcx, which holds the offset, added to the
# seconds when edi is CLOCK_REALTIME (0).
BEFORE = bytes.fromhex("b8e40000000f0585ff750d48b9")
AFTER = bytes.fromhex("48010ec3")


def code(offset_seconds: int) -> bytes:
    """The instructions for an offset."""
    return BEFORE + struct.pack("<q", offset_seconds) + AFTER


def find_symbol(image: bytes, name: bytes) -> tuple[int, int]:
    """Where a function begins in an ELF image, and how long it is."""
    (sections_at,) = struct.unpack_from("<Q", image, 40)
    _, count, _ = struct.unpack_from("<HHH", image, 58)
    sections = [
        SECTION.unpack_from(image, sections_at + number * SECTION.size) for number in range(count)
    ]
    for section in sections:
        _, kind, _, _, at, size, link, *_ = section
        if kind != SHT_DYNSYM:
            continue
        names_at = sections[link][4]
        for place in range(at, at + size, DYNAMIC_SYMBOL.size):
            name_at, _, _, _, value, length = DYNAMIC_SYMBOL.unpack_from(image, place)
            start = names_at + name_at
            if image[start : start + len(name) + 1] == name + b"\0":
                return value, length
    raise CommandError(f"the vDSO has no {name.decode()}")


def base_of(auxiliary: bytes) -> int:
    """Where the vDSO begins, by a process's auxiliary vector."""
    for key, value in struct.iter_unpack("<QQ", auxiliary):
        if key == AT_SYSINFO_EHDR:
            return int(value)
    raise CommandError("the process has no vDSO")


class WallClock:
    """A process's own."""

    def __init__(self, pid: int) -> None:
        if platform.machine() != "x86_64":
            raise CommandError("a process's wall clock can be set apart on x86_64 only")
        self.memory = Path(f"/proc/{pid}/mem")
        base = base_of(Path(f"/proc/{pid}/auxv").read_bytes())
        with self.memory.open("rb", buffering=0) as memory:
            image = os.pread(memory.fileno(), IMAGE_OCTETS, base)
        value, length = find_symbol(image, SYMBOL)
        if length < len(code(0)):
            raise CommandError(f"the vDSO's code has {length} octets, too few to write over")
        self.at = base + value

    def set(self, offset_seconds: int) -> None:
        """The clock jumps; the process should not run meanwhile."""
        with self.memory.open("r+b", buffering=0) as memory:
            os.pwrite(memory.fileno(), code(offset_seconds), self.at)


def start(
    command: Sequence[str], namespace: Namespace, log: IO[bytes], offset_seconds: int
) -> subprocess.Popen[bytes]:
    """Starts a program in a namespace, whose wall clock is off from its first instruction on."""
    library = ctypes.CDLL(None, use_errno=True)

    def stop_at_exec() -> None:
        library.ptrace(PTRACE_TRACEME, 0, None, None)

    with netns.inside(namespace):
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
            preexec_fn=stop_at_exec,
        )
    try:
        _, status = os.waitpid(process.pid, os.WUNTRACED)
        if not os.WIFSTOPPED(status):
            raise CommandError(f"{command[0]}: did not stop at its start")
        WallClock(process.pid).set(offset_seconds)
    except BaseException:
        process.kill()
        raise
    library.ptrace(PTRACE_DETACH, process.pid, None, None)
    return process


def jump(process: subprocess.Popen[bytes], offset_seconds: int) -> None:
    """The wall clock of a program jumps that `start` started, so that its code is in place already
    and only the offset changes. The program stands still meanwhile, for some microseconds.
    """
    clock = WallClock(process.pid)
    process.send_signal(signal.SIGSTOP)
    try:
        while state_of(process.pid) not in "Tt":
            pass
        clock.set(offset_seconds)
    finally:
        process.send_signal(signal.SIGCONT)


def state_of(pid: int) -> str:
    """A letter, as `ps` shows it."""
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
