"""ChaCha20-Poly1305 (RFC 8439) and XChaCha20-Poly1305 (draft-irtf-cfrg-xchacha-03).

Not constant time. All blocks of a message are made at once, as else a frame takes milliseconds:
each of the 16 words of the state is one long integer with a lane of 64 bits for each block. A sum
of two words of 32 bits, and a word shifted by up to 16, stay within their lane; MASK then cuts
each lane back to 32 bits.
"""

from __future__ import annotations

import hmac
import struct

KEY_OCTETS = 32
TAG_OCTETS = 16
BLOCK_OCTETS = 64
CONSTANTS = struct.unpack("<4I", b"expand 32-byte k")
POLY_PRIME = (1 << 130) - 5
POLY_CLAMP = 0x0FFFFFFC0FFFFFFC0FFFFFFC0FFFFFFF
# The columns, then the diagonals of the 4 x 4 state.
QUARTERS = (
    (0, 4, 8, 12),
    (1, 5, 9, 13),
    (2, 6, 10, 14),
    (3, 7, 11, 15),
    (0, 5, 10, 15),
    (1, 6, 11, 12),
    (2, 7, 8, 13),
    (3, 4, 9, 14),
)


class TagError(Exception):
    """The tag does not verify: nothing of the message may be looked at."""


def in_lanes(words: list[int]) -> int:
    """One word for each block, as one integer."""
    return int.from_bytes(struct.pack(f"<{len(words)}Q", *words), "little")


def rounds(state: list[int], blocks: int) -> list[int]:
    """The 20 rounds on `blocks` states at once, without the addition at the end."""
    x, mask = list(state), in_lanes([0xFFFFFFFF] * blocks)
    for _ in range(10):
        for a, b, c, d in QUARTERS:
            x[a] = x[a] + x[b] & mask
            x[d] ^= x[a]
            x[d] = (x[d] << 16 | x[d] >> 16) & mask
            x[c] = x[c] + x[d] & mask
            x[b] ^= x[c]
            x[b] = (x[b] << 12 | x[b] >> 20) & mask
            x[a] = x[a] + x[b] & mask
            x[d] ^= x[a]
            x[d] = (x[d] << 8 | x[d] >> 24) & mask
            x[c] = x[c] + x[d] & mask
            x[b] ^= x[c]
            x[b] = (x[b] << 7 | x[b] >> 25) & mask
    return x


def key_stream(key: bytes, counter: int, nonce: bytes, blocks: int) -> bytes:
    """`blocks` blocks of ChaCha20 from `counter` on (RFC 8439, section 2.3)."""
    words = (*CONSTANTS, *struct.unpack("<8I", key))
    state = [in_lanes([word] * blocks) for word in words]
    state.append(in_lanes([counter + block for block in range(blocks)]))
    state += [in_lanes([word] * blocks) for word in struct.unpack("<3I", nonce)]
    mask = in_lanes([0xFFFFFFFF] * blocks)
    stream = [0] * (16 * blocks)
    for word, (mixed, first) in enumerate(zip(rounds(state, blocks), state, strict=True)):
        octets = (mixed + first & mask).to_bytes(8 * blocks, "little")
        stream[word::16] = struct.unpack(f"<{2 * blocks}I", octets)[::2]
    return struct.pack(f"<{16 * blocks}I", *stream)


def xor(data: bytes, stream: bytes) -> bytes:
    """The data with as much of the stream as it is long."""
    length = len(data)
    mixed = int.from_bytes(data, "little") ^ int.from_bytes(stream[:length], "little")
    return mixed.to_bytes(length, "little")


def poly1305(key: bytes, message: bytes) -> bytes:
    """The authenticator of a message under a key for this message alone (section 2.5)."""
    r = int.from_bytes(key[:16], "little") & POLY_CLAMP
    s = int.from_bytes(key[16:32], "little")
    total = 0
    for start in range(0, len(message), 16):
        block = message[start : start + 16] + b"\x01"
        total = (total + int.from_bytes(block, "little")) * r % POLY_PRIME
    return (total + s & (1 << 128) - 1).to_bytes(TAG_OCTETS, "little")


def padded(data: bytes) -> bytes:
    """The data and zeros up to a multiple of 16 octets."""
    return data + bytes(-len(data) % 16)


def authenticate(one_time_key: bytes, associated: bytes, sealed: bytes) -> bytes:
    """The tag of section 2.8."""
    lengths = struct.pack("<QQ", len(associated), len(sealed))
    return poly1305(one_time_key, padded(associated) + padded(sealed) + lengths)


def streams(key: bytes, nonce: bytes, length: int) -> tuple[bytes, bytes]:
    """The key of Poly1305, which is half of block 0, and what seals `length` octets."""
    made = key_stream(key, 0, nonce, 1 + -(-length // BLOCK_OCTETS))
    return made[:32], made[BLOCK_OCTETS:]


def seal(key: bytes, nonce: bytes, associated: bytes, plain: bytes) -> bytes:
    """The sealed text and, behind it, the tag."""
    one_time_key, stream = streams(key, nonce, len(plain))
    sealed = xor(plain, stream)
    return sealed + authenticate(one_time_key, associated, sealed)


def unseal(key: bytes, nonce: bytes, associated: bytes, message: bytes) -> bytes:
    """What `seal` was given. Raises TagError where anything differs."""
    if len(message) < TAG_OCTETS:
        raise TagError("shorter than a tag")
    sealed, tag = message[:-TAG_OCTETS], message[-TAG_OCTETS:]
    one_time_key, stream = streams(key, nonce, len(sealed))
    if not hmac.compare_digest(tag, authenticate(one_time_key, associated, sealed)):
        raise TagError("the tag does not verify")
    return xor(sealed, stream)


def hchacha20(key: bytes, nonce: bytes) -> bytes:
    """The key that XChaCha20 goes on with (section 2.2 of the draft)."""
    state = [*CONSTANTS, *struct.unpack("<8I", key), *struct.unpack("<4I", nonce)]
    mixed = rounds(state, 1)
    return struct.pack("<8I", *mixed[:4], *mixed[12:])


def x_seal(key: bytes, nonce: bytes, associated: bytes, plain: bytes) -> bytes:
    """XChaCha20-Poly1305: as `seal`, with a nonce of 24 octets."""
    return seal(hchacha20(key, nonce[:16]), bytes(4) + nonce[16:], associated, plain)


def x_unseal(key: bytes, nonce: bytes, associated: bytes, message: bytes) -> bytes:
    """What `x_seal` was given. Raises TagError."""
    return unseal(hchacha20(key, nonce[:16]), bytes(4) + nonce[16:], associated, message)
