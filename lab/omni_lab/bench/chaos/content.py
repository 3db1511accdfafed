"""What a TCP transfer carries, and whether it arrives as it was sent. Pure: no socket in here.

    magic 4 | transfer 4 | connection 4 | number 8 | content 16384

Each connection counts its blocks from 0 on. What a block holds follows from its number, so that one
that is changed, missing, doubled or of another transfer is seen.
"""

from __future__ import annotations

import random
import struct
from dataclasses import dataclass, field

MAGIC = b"oTcp"
HEAD = struct.Struct(">4sIIQ")
CONTENT_OCTETS = 16384
BLOCK_OCTETS = HEAD.size + CONTENT_OCTETS
SOURCE_OCTETS = 1 << 17
# Odd, so that neighbours differ everywhere.
STEP = 4099


class Content:
    """All blocks of a transfer."""

    def __init__(self, seed: int, transfer: int) -> None:
        self.transfer = transfer
        self.source = random.Random(f"{seed} {transfer}").randbytes(SOURCE_OCTETS)

    def block(self, connection: int, number: int) -> bytes:
        """A block as it is sent."""
        begin = number * STEP % (SOURCE_OCTETS - CONTENT_OCTETS)
        head = HEAD.pack(MAGIC, self.transfer, connection, number)
        return head + self.source[begin : begin + CONTENT_OCTETS]


@dataclass
class Reader:
    """Takes what one connection carries, and compares it with what was sent."""

    content: Content
    buffer: bytearray = field(default_factory=bytearray)
    # Blocks that were right.
    blocks: int = 0
    # Of the first block; the others have to be of the same.
    connection: int | None = None
    # What was wrong first. From there on nothing is read.
    wrong: str = ""

    def feed(self, octets: bytes) -> int:
        """Takes some octets. Returns how many blocks they completed."""
        self.buffer += octets
        before = self.blocks
        while not self.wrong and len(self.buffer) >= BLOCK_OCTETS:
            self.check(bytes(self.buffer[:BLOCK_OCTETS]))
            del self.buffer[:BLOCK_OCTETS]
        return self.blocks - before

    def check(self, block: bytes) -> None:
        """Compares a block."""
        magic, transfer, connection, number = HEAD.unpack_from(block)
        if self.connection is None and magic == MAGIC:
            self.connection = connection
        if block == self.content.block(self.connection or 0, self.blocks):
            self.blocks += 1
            return
        self.wrong = (
            f"transfer {self.content.transfer}: instead of block {self.blocks} of connection "
            f"{self.connection} came {magic.hex()} {transfer} {connection} {number}"
        )
