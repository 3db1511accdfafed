"""Noise_IK and Noise_IKpsk2 with 25519, ChaChaPoly and BLAKE2s (Noise, revision 34)."""

from __future__ import annotations

import copy
import hashlib
import hmac
import os
import struct
from collections.abc import Callable

from . import chacha20poly1305 as aead
from .x25519 import KEY_OCTETS, public_key, x25519

SEALED_KEY_OCTETS = KEY_OCTETS + aead.TAG_OCTETS


class HandshakeError(Exception):
    """A message of the other side is none that this handshake can go on with."""


def make_private_key() -> bytes:
    """A new private key."""
    return os.urandom(KEY_OCTETS)


def hkdf(key: bytes, material: bytes, count: int) -> list[bytes]:
    """HKDF of section 4.3: `count` results of 32 octets."""
    temporary = hmac.digest(key, material, "blake2s")
    made: list[bytes] = []
    for number in range(1, count + 1):
        last = made[-1] if made else b""
        made.append(hmac.digest(temporary, last + bytes([number]), "blake2s"))
    return made


def nonce_of(counter: int) -> bytes:
    """Noise's nonce for ChaChaPoly: little-endian, other than that of data messages."""
    return bytes(4) + struct.pack("<Q", counter)


class Handshake:
    """One side of a handshake. Without a PSK it is IK, with one IKpsk2."""

    def __init__(
        self,
        *,
        initiator: bool,
        prologue: bytes,
        private: bytes,
        remote: bytes | None = None,
        psk: bytes | None = None,
        make_key: Callable[[], bytes] = make_private_key,
        with_psk: bool = True,
    ) -> None:
        """`remote` is the responder's public key, which its initiator knows. A responder may learn
        who the initiator is, and set `psk`, before it writes message 2.
        """
        modifier = "psk2" if with_psk else ""
        name = f"Noise_IK{modifier}_25519_ChaChaPoly_BLAKE2s".encode()
        # Both names are longer than a hash; a shorter one would be padded with zeros.
        self.h = hashlib.blake2s(name).digest()
        self.chain, self.key, self.counter = self.h, b"", 0
        self.initiator, self.private, self.remote = initiator, private, remote
        self.psk, self.with_psk = psk, with_psk
        self.ephemeral, self.remote_ephemeral = make_key(), b""
        self.mix_hash(prologue)
        responder = remote if initiator else public_key(private)
        if responder is None:
            raise HandshakeError("an initiator knows the responder's key")
        self.mix_hash(responder)

    def mix_hash(self, data: bytes) -> None:
        """MixHash."""
        self.h = hashlib.blake2s(self.h + data).digest()

    def mix_key(self, material: bytes) -> None:
        """MixKey."""
        self.chain, self.key = hkdf(self.chain, material, 2)
        self.counter = 0

    def mix_psk(self) -> None:
        """MixKeyAndHash of the PSK: all zeros where there is none."""
        self.chain, hashed, self.key = hkdf(self.chain, self.psk or bytes(KEY_OCTETS), 3)
        self.mix_hash(hashed)
        self.counter = 0

    def mix_dh(self, private: bytes, remote: bytes) -> None:
        """MixKey of a Diffie-Hellman result, which must not be all zeros."""
        shared = x25519(private, remote)
        if shared == bytes(KEY_OCTETS):
            raise HandshakeError("the Diffie-Hellman result is zero")
        self.mix_key(shared)

    def mix_ephemeral(self, public: bytes) -> None:
        """The token e: where there is a PSK, ephemeral keys are mixed into the key as well."""
        self.mix_hash(public)
        if self.with_psk:
            self.mix_key(public)

    def seal(self, plain: bytes) -> bytes:
        """EncryptAndHash."""
        sealed = aead.seal(self.key, nonce_of(self.counter), self.h, plain)
        self.counter += 1
        self.mix_hash(sealed)
        return sealed

    def unseal(self, sealed: bytes) -> bytes:
        """DecryptAndHash."""
        try:
            plain = aead.unseal(self.key, nonce_of(self.counter), self.h, sealed)
        except aead.TagError as error:
            raise HandshakeError("the handshake message does not verify") from error
        self.counter += 1
        self.mix_hash(sealed)
        return plain

    def write_first(self, payload: bytes) -> bytes:
        """Message 1: e, es, s, ss, payload."""
        assert self.initiator and self.remote is not None
        ephemeral = public_key(self.ephemeral)
        self.mix_ephemeral(ephemeral)
        self.mix_dh(self.ephemeral, self.remote)
        static = self.seal(public_key(self.private))
        self.mix_dh(self.private, self.remote)
        return ephemeral + static + self.seal(payload)

    def read_first(self, message: bytes) -> bytes:
        """Message 1. Returns its payload; `remote` is who sent it."""
        assert not self.initiator
        self.remote_ephemeral = message[:KEY_OCTETS]
        self.mix_ephemeral(self.remote_ephemeral)
        self.mix_dh(self.private, self.remote_ephemeral)
        self.remote = self.unseal(message[KEY_OCTETS : KEY_OCTETS + SEALED_KEY_OCTETS])
        self.mix_dh(self.private, self.remote)
        return self.unseal(message[KEY_OCTETS + SEALED_KEY_OCTETS :])

    def write_second(self, payload: bytes) -> bytes:
        """Message 2: e, ee, se, psk, payload."""
        assert not self.initiator and self.remote is not None
        ephemeral = public_key(self.ephemeral)
        self.mix_ephemeral(ephemeral)
        self.mix_dh(self.ephemeral, self.remote_ephemeral)
        self.mix_dh(self.ephemeral, self.remote)
        if self.with_psk:
            self.mix_psk()
        return ephemeral + self.seal(payload)

    def read_second(self, message: bytes) -> tuple[Handshake, bytes]:
        """The handshake after message 2, and its payload. This one stays as it was, as another
        message may still be the true one.
        """
        assert self.initiator
        after = copy.copy(self)
        after.remote_ephemeral = message[:KEY_OCTETS]
        after.mix_ephemeral(after.remote_ephemeral)
        after.mix_dh(after.ephemeral, after.remote_ephemeral)
        after.mix_dh(after.private, after.remote_ephemeral)
        if after.with_psk:
            after.mix_psk()
        return after, after.unseal(message[KEY_OCTETS:])

    def split(self) -> tuple[bytes, bytes]:
        """The transport keys: initiator to responder, and the other way."""
        first, second = hkdf(self.chain, b"", 2)
        return first, second
