"""An XDP program of somebody else on an interface: it passes all packets, and goes with a process.

python3 -m omni_lab.mistakes_xdp INTERFACE    attaches it, prints `attached`, and waits
"""

from __future__ import annotations

import ctypes
import os
import platform
import signal
import socket
import struct
import sys

NUMBERS = {"x86_64": 321, "aarch64": 280}
# Of bpf(2): commands, the type of program, and where links attach.
PROG_LOAD, LINK_CREATE = 5, 28
TYPE_XDP, ATTACH_XDP = 6, 37
XDP_PASS = 2
# Generic mode, which every interface has.
FLAG_SKB = 2
ATTRIBUTES_OCTETS = 128
# Moves a number into register 0, and ends.
MOVE, EXIT = 0xB7, 0x95


def bpf(command: int, attributes: bytes) -> int:
    """The system call. Returns a descriptor."""
    library = ctypes.CDLL(None, use_errno=True)
    memory = ctypes.create_string_buffer(attributes.ljust(ATTRIBUTES_OCTETS, b"\0"))
    number = NUMBERS[platform.machine()]
    descriptor: int = library.syscall(number, command, memory, ATTRIBUTES_OCTETS)
    if descriptor < 0:
        error = ctypes.get_errno()
        raise OSError(error, os.strerror(error))
    return descriptor


def attach(interface: str) -> tuple[int, int]:
    """Loads and attaches it. Returns the descriptors that hold it there."""
    code = struct.pack("=BBhi", MOVE, 0, 0, XDP_PASS) + struct.pack("=BBhi", EXIT, 0, 0, 0)
    program = ctypes.create_string_buffer(code, len(code))
    licence = ctypes.create_string_buffer(b"GPL")
    loaded = struct.pack(
        "=IIQQ",
        TYPE_XDP,
        len(code) // 8,
        ctypes.addressof(program),
        ctypes.addressof(licence),
    )
    descriptor = bpf(PROG_LOAD, loaded)
    index = socket.if_nametoindex(interface)
    link = bpf(LINK_CREATE, struct.pack("=IIII", descriptor, index, ATTACH_XDP, FLAG_SKB))
    return descriptor, link


def main() -> None:
    """Until it is ended."""
    attach(sys.argv[1])
    print("attached", flush=True)
    signal.pause()


if __name__ == "__main__":
    main()
