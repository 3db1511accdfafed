"""Records data messages of the fabric on the wire, as someone on the way between two nodes can.

Runs as a process of its own in the wire's namespace and ends by itself: when it has enough, or
when its time is over.
"""

from __future__ import annotations

import argparse
import json
import socket
import sys
import time
from dataclasses import dataclass
from pathlib import Path

from .capture import ETH_P_ALL, FRAME_MAX, PACKET_IGNORE_OUTGOING, SO_RCVBUFFORCE, SOL_PACKET
from .classify import ETHERNET_LEN, IPV4_LEN, UDP_LEN, Kind, classify

RECEIVE_BUFFER_BYTES = 16 << 20
MESSAGE = ETHERNET_LEN + IPV4_LEN + UDP_LEN
LANES_MAX = 256


@dataclass(frozen=True)
class Recorded:
    """What was recorded: how many messages, and session and lane of the last."""

    count: int
    session_id: int
    lane: int


def message_of(frame: bytes, port: int) -> bytes | None:
    """The data message with content that a frame carries, None when it is anything else."""
    if classify(frame, port, LANES_MAX).kind is not Kind.DATA:
        return None
    length = int.from_bytes(frame[MESSAGE - 4 : MESSAGE - 2], "big") - UDP_LEN
    return frame[MESSAGE : MESSAGE + length]


def session_of(message: bytes) -> tuple[int, int]:
    """The receiver's index of the session, and the lane, of a data message."""
    return int.from_bytes(message[:4], "big"), int.from_bytes(message[6:8], "big")


def record(interface: str, port: int, count: int, seconds: float) -> list[bytes]:
    """Messages that enter the wire at a port of the bridge."""
    messages: list[bytes] = []
    deadline = time.monotonic() + seconds
    with socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0) as tap:
        tap.setsockopt(SOL_PACKET, PACKET_IGNORE_OUTGOING, 1)
        tap.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, RECEIVE_BUFFER_BYTES)
        tap.bind((interface, ETH_P_ALL))
        print("listening", flush=True)
        while len(messages) < count and (left := deadline - time.monotonic()) > 0:
            tap.settimeout(left)
            try:
                message = message_of(tap.recv(FRAME_MAX), port)
            except TimeoutError:
                break
            if message is not None:
                messages.append(message)
    return messages


def main() -> int:
    """`python3 -m omni_lab.attack_tap --port 51820 --count 1 --seconds 5 --out FILE INTERFACE`"""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--port", type=int, required=True, help="the fabric's UDP port")
    parser.add_argument("--count", type=int, required=True, help="how many messages")
    parser.add_argument("--seconds", type=float, required=True, help="at most so long")
    parser.add_argument("--out", type=Path, required=True, help="where to write them, in hex")
    parser.add_argument("interface", help="where messages enter the wire")
    arguments = parser.parse_args()
    messages = record(arguments.interface, arguments.port, arguments.count, arguments.seconds)
    arguments.out.write_text("".join(f"{message.hex()}\n" for message in messages))
    session_id, lane = session_of(messages[-1]) if messages else (0, 0)
    print(json.dumps({"count": len(messages), "session_id": session_id, "lane": lane}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
