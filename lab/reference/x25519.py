"""X25519 (RFC 7748, section 5). Not constant time."""

from __future__ import annotations

KEY_OCTETS = 32
PRIME = 2**255 - 19
A24 = 121665
BASE_POINT = (9).to_bytes(KEY_OCTETS, "little")


def x25519(scalar: bytes, point: bytes) -> bytes:
    """The Diffie-Hellman result of a private key and a public one; all zeros for bad ones."""
    k = clamp(scalar)
    # The highest bit of a coordinate is ignored (RFC 7748, section 5).
    x1 = (int.from_bytes(point, "little") & ((1 << 255) - 1)) % PRIME
    x2, z2, x3, z3 = 1, 0, x1, 1
    swapped = 0
    for position in range(254, -1, -1):
        bit = k >> position & 1
        if bit != swapped:
            x2, x3, z2, z3 = x3, x2, z3, z2
            swapped = bit
        a, b = (x2 + z2) % PRIME, (x2 - z2) % PRIME
        c, d = (x3 + z3) % PRIME, (x3 - z3) % PRIME
        aa, bb = a * a % PRIME, b * b % PRIME
        da, cb = d * a % PRIME, c * b % PRIME
        difference = (aa - bb) % PRIME
        x3, z3 = (da + cb) ** 2 % PRIME, x1 * (da - cb) ** 2 % PRIME
        x2, z2 = aa * bb % PRIME, difference * (aa + A24 * difference) % PRIME
    if swapped:
        x2, z2 = x3, z3
    return (x2 * pow(z2, PRIME - 2, PRIME) % PRIME).to_bytes(KEY_OCTETS, "little")


def public_key(private: bytes) -> bytes:
    """The public key of a private one."""
    return x25519(private, BASE_POINT)


def clamp(scalar: bytes) -> int:
    """The number that a private key stands for."""
    if len(scalar) != KEY_OCTETS:
        raise ValueError("a private key has 32 octets")
    return int.from_bytes(scalar, "little") & ((1 << 255) - 8) | 1 << 254
