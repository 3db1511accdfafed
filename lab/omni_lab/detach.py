#!/usr/bin/env python3
"""Takes an XDP program off its interface, whoever holds it there, as `bpftool link detach` does.

Usage: detach.py PROGRAM, where PROGRAM is the kernel's number of it. Needs root.
"""

from __future__ import annotations

import ctypes
import platform
import struct
import sys

# The system call's number, and those of the kernel's include/uapi/linux/bpf.h.
SYS_BPF = {"x86_64": 321, "aarch64": 280}
INFO_BY_FD, LINK_BY_ID, NEXT_ID, DETACH = 15, 30, 31, 34
ATTRIBUTE_OCTETS = 128
INFO_OCTETS = 64


def bpf(command: int, attributes: bytes) -> tuple[int, bytes]:
    """The system call: its result, and the attributes as the kernel left them."""
    libc = ctypes.CDLL(None, use_errno=True)
    octets = ctypes.create_string_buffer(
        (attributes + bytes(ATTRIBUTE_OCTETS))[:ATTRIBUTE_OCTETS], ATTRIBUTE_OCTETS
    )
    return libc.syscall(SYS_BPF[platform.machine()], command, octets, ATTRIBUTE_OCTETS), octets.raw


def detach(program: int) -> bool:
    """Detaches the link of a program, and says whether it had one. Who attaches it again at once
    makes another one.
    """
    link = 0
    while True:
        done, out = bpf(NEXT_ID, struct.pack("I", link))
        if done < 0:
            return False
        (link,) = struct.unpack_from("I", out, 4)
        descriptor, _ = bpf(LINK_BY_ID, struct.pack("I", link))
        # It may have gone meanwhile.
        if descriptor < 0:
            continue
        with open(descriptor, "rb", buffering=0):
            info = ctypes.create_string_buffer(INFO_OCTETS)
            where = struct.pack("IIQ", descriptor, INFO_OCTETS, ctypes.addressof(info))
            bpf(INFO_BY_FD, where)
            # The link's type, its number, and the program's.
            if struct.unpack_from("I", info.raw, 8) == (program,):
                return bpf(DETACH, struct.pack("I", descriptor))[0] == 0


if __name__ == "__main__":
    sys.exit(0 if detach(int(sys.argv[1])) else 1)
