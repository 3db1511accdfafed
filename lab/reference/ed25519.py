"""Ed25519 (RFC 8032) to verify what an authority signs, and XEdDSA (Signal, revision 1) to sign and
verify with X25519 keys. Not constant time.
"""

from __future__ import annotations

import hashlib
import os

from .x25519 import PRIME, clamp

ORDER = 2**252 + 27742317777372353535851937790883648493
D = -121665 * pow(121666, PRIME - 2, PRIME) % PRIME
ROOT = pow(2, (PRIME - 1) // 4, PRIME)
SIGNATURE_OCTETS = 64
# XEdDSA's hash number 1: 2^256 - 1 - 1 in front keeps its input apart from all others.
HASH_ONE = b"\xfe" + b"\xff" * 31

# X, Y, Z, T with x = X / Z, y = Y / Z and x y = T / Z (RFC 8032, section 5.1.4).
Point = tuple[int, int, int, int]
NEUTRAL: Point = (0, 1, 1, 0)


def add(p: Point, q: Point) -> Point:
    """The sum of two points."""
    a = (p[1] - p[0]) * (q[1] - q[0]) % PRIME
    b = (p[1] + p[0]) * (q[1] + q[0]) % PRIME
    c = 2 * p[3] * q[3] * D % PRIME
    d = 2 * p[2] * q[2] % PRIME
    e, f, g, h = b - a, d - c, d + c, b + a
    return e * f % PRIME, g * h % PRIME, f * g % PRIME, e * h % PRIME


def multiply(scalar: int, point: Point) -> Point:
    """The point so many times."""
    total = NEUTRAL
    while scalar:
        if scalar & 1:
            total = add(total, point)
        point = add(point, point)
        scalar >>= 1
    return total


def encode(point: Point) -> bytes:
    """A point's 32 octets."""
    inverse = pow(point[2], PRIME - 2, PRIME)
    x, y = point[0] * inverse % PRIME, point[1] * inverse % PRIME
    return (y | (x & 1) << 255).to_bytes(32, "little")


def decode(octets: bytes) -> Point | None:
    """The point of 32 octets, None if there is none or they are not in their only form."""
    y = int.from_bytes(octets, "little")
    sign, y = y >> 255, y & ((1 << 255) - 1)
    if y >= PRIME:
        return None
    square = (y * y - 1) * pow(D * y * y + 1, PRIME - 2, PRIME) % PRIME
    x = pow(square, (PRIME + 3) // 8, PRIME)
    if (x * x - square) % PRIME:
        x = x * ROOT % PRIME
    if (x * x - square) % PRIME or (not x and sign):
        return None
    if x & 1 != sign:
        x = PRIME - x
    return x, y, 1, x * y % PRIME


def base_point() -> Point:
    """The point of which all public keys are multiples: y is 4/5."""
    y = 4 * pow(5, PRIME - 2, PRIME) % PRIME
    point = decode(y.to_bytes(32, "little"))
    assert point is not None
    return point


BASE = base_point()


def small_order(point: Point) -> bool:
    """Whether eight times the point is nothing: such a key proves nothing."""
    return encode(multiply(8, point)) == encode(NEUTRAL)


def hashed(*parts: bytes) -> int:
    """SHA-512 as a scalar."""
    return int.from_bytes(hashlib.sha512(b"".join(parts)).digest(), "little") % ORDER


def verify(public: bytes, message: bytes, signature: bytes) -> bool:
    """Whether an Ed25519 signature is good: strictly, so that each message has one."""
    if len(signature) != SIGNATURE_OCTETS:
        return False
    key, nonce = decode(public), decode(signature[:32])
    s = int.from_bytes(signature[32:], "little")
    if key is None or nonce is None or s >= ORDER or small_order(key) or small_order(nonce):
        return False
    challenge = hashed(signature[:32], public, message)
    # s B - h A is R.
    minus = (PRIME - key[0], key[1], key[2], PRIME - key[3])
    return encode(add(multiply(s, BASE), multiply(challenge, minus))) == signature[:32]


def edwards(public: bytes) -> bytes:
    """The Ed25519 key of an X25519 one: the same point with sign 0 (XEdDSA, section 2.3)."""
    u = int.from_bytes(public, "little") % PRIME
    y = (u - 1) * pow(u + 1, PRIME - 2, PRIME) % PRIME
    return y.to_bytes(32, "little")


def x_verify(public: bytes, message: bytes, signature: bytes) -> bool:
    """Whether an XEdDSA signature of the owner of an X25519 key is good."""
    if int.from_bytes(public, "little") >= PRIME:
        return False
    return verify(edwards(public), message, signature)


def x_sign(private: bytes, message: bytes) -> bytes:
    """An XEdDSA signature with an X25519 private key."""
    scalar = clamp(private)
    public = encode(multiply(scalar, BASE))
    if public[31] >> 7:
        scalar = -scalar
    scalar %= ORDER
    public = public[:31] + bytes([public[31] & 0x7F])
    octets = scalar.to_bytes(32, "little")
    secret = hashed(HASH_ONE, octets, message, os.urandom(64))
    nonce = encode(multiply(secret, BASE))
    s = (secret + hashed(nonce, public, message) * scalar) % ORDER
    return nonce + s.to_bytes(32, "little")
