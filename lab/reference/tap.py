"""A TAP interface: the kernel's other side is what applications use."""

from __future__ import annotations

import fcntl
import os
import struct
import subprocess
from collections.abc import Sequence

DEVICE = "/dev/net/tun"
# Of <linux/if_tun.h>.
TUNSETIFF = 0x400454CA
IFF_TAP, IFF_NO_PI = 0x0002, 0x1000
FRAME_MOST = 65535


class Tap:
    """An interface of this process: it goes when the process does."""

    def __init__(self, name: str, mac: bytes, mtu: int, addresses: Sequence[str]) -> None:
        self.descriptor = os.open(DEVICE, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
        request = struct.pack("16sH22x", name.encode(), IFF_TAP | IFF_NO_PI)
        fcntl.ioctl(self.descriptor, TUNSETIFF, request)
        run("link", "set", name, "address", mac.hex(":"), "mtu", str(mtu))
        for address in addresses:
            run("address", "add", address, "dev", name)
        run("link", "set", name, "up")

    def fileno(self) -> int:
        return self.descriptor

    def read(self) -> bytes | None:
        """A frame that hosts sent, None when there is none now."""
        try:
            return os.read(self.descriptor, FRAME_MOST)
        except BlockingIOError:
            return None

    def write(self, frame: bytes) -> bool:
        """Hands a frame to the hosts. False when the interface does not take it."""
        try:
            os.write(self.descriptor, frame)
        except OSError:
            return False
        return True

    def close(self) -> None:
        os.close(self.descriptor)


def run(*arguments: str) -> None:
    """Runs `ip`."""
    subprocess.run(["ip", *arguments], check=True, timeout=10)
