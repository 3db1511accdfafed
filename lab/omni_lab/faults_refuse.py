"""Runs a command to which the kernel refuses a system call, as one that was built without it does.

python3 -m omni_lab.faults_refuse --call socket --first 44 --errno EAFNOSUPPORT -- COMMAND
"""

from __future__ import annotations

import argparse
import ctypes
import errno
import os
import platform
import struct

# Of prctl(2) and seccomp(2).
PR_SET_SECCOMP, SECCOMP_MODE_FILTER, PR_SET_NO_NEW_PRIVS = 22, 2, 38
RET_ERRNO, RET_ALLOW = 0x00050000, 0x7FFF0000
# Where struct seccomp_data has the call and its first argument's lower half (little endian).
CALL_AT, FIRST_AT = 0, 16
# Instructions of classic BPF: load a word, jump if equal, return.
LD_W, JEQ, RET = 0x20, 0x15, 0x06
NUMBERS = {
    "x86_64": {"bpf": 321, "socket": 41},
    "aarch64": {"bpf": 280, "socket": 198},
}


def program(call: int, first: int | None, error: int) -> bytes:
    """A filter that refuses one call, or only that with this first argument."""
    refuse = (RET, 0, 0, RET_ERRNO | error)
    allow = (RET, 0, 0, RET_ALLOW)
    instructions = [(LD_W, 0, 0, CALL_AT)]
    if first is None:
        instructions += [(JEQ, 0, 1, call), refuse, allow]
    else:
        instructions += [(JEQ, 0, 3, call), (LD_W, 0, 0, FIRST_AT), (JEQ, 0, 1, first)]
        instructions += [refuse, allow]
    return b"".join(struct.pack("=HBBI", *each) for each in instructions)


def install(code: bytes) -> None:
    """Puts the filter on this process, and on all that it becomes."""
    library = ctypes.CDLL(None, use_errno=True)
    memory = ctypes.create_string_buffer(code, len(code))
    described = struct.pack("@HP", len(code) // 8, ctypes.addressof(memory))
    filtered = ctypes.create_string_buffer(described, len(described))
    calls = [(PR_SET_NO_NEW_PRIVS, 1), (PR_SET_SECCOMP, SECCOMP_MODE_FILTER, filtered)]
    for arguments in calls:
        padded = [*arguments, 0, 0, 0][:5]
        if library.prctl(*padded):
            raise OSError(ctypes.get_errno(), "prctl")


def main() -> None:
    """Becomes the command."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--call", required=True, help="the system call")
    parser.add_argument("--first", type=int, help="only with this first argument")
    parser.add_argument("--errno", required=True, help="with which error")
    parser.add_argument("command", nargs="+")
    arguments = parser.parse_args()
    number = NUMBERS[platform.machine()][arguments.call]
    install(program(number, arguments.first, getattr(errno, arguments.errno)))
    os.execvp(arguments.command[0], arguments.command)


if __name__ == "__main__":
    main()
