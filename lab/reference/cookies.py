"""mac1, mac2 and cookies: what is checked before any public-key operation."""

from __future__ import annotations

import hashlib
import hmac
import os
import socket

from . import chacha20poly1305 as aead
from . import messages

MAC_OCTETS = 16
NONCE_OCTETS = 24
COOKIE_SECONDS = 120.0
SECRET_SECONDS = 120.0

# An IPv4 or IPv6 address as text, and a UDP port.
Endpoint = tuple[str, int]


def mac(key: bytes, data: bytes) -> bytes:
    """Keyed BLAKE2s with 16 octets of output."""
    return hashlib.blake2s(data, key=key, digest_size=MAC_OCTETS).digest()


def mac1_key(public_key: bytes) -> bytes:
    """The key of mac1 for messages to a node."""
    return hashlib.blake2s(b"omni-mac1---" + public_key).digest()


def cookie_key(public_key: bytes) -> bytes:
    """The key that a node's cookie replies are sealed under."""
    return hashlib.blake2s(b"omni-cookie-" + public_key).digest()


def with_macs(message: bytes, receiver: bytes, cookie: bytes | None) -> bytes:
    """A handshake message with mac1 and mac2."""
    message += mac(mac1_key(receiver), message)
    return message + (mac(cookie, message) if cookie else bytes(MAC_OCTETS))


def good_mac1(message: bytes, own_public_key: bytes) -> bool:
    """Whether a message is meant for the node with this key."""
    body, mac1 = message[: -2 * MAC_OCTETS], message[-2 * MAC_OCTETS : -MAC_OCTETS]
    return hmac.compare_digest(mac1, mac(mac1_key(own_public_key), body))


def source_octets(source: Endpoint) -> bytes:
    """What a cookie is made of: the address and the port."""
    host, port = source
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    return socket.inet_pton(family, host) + port.to_bytes(2, "big")


class Jar:
    """The cookies that a node gives out."""

    def __init__(self, own_public_key: bytes) -> None:
        self.key = cookie_key(own_public_key)
        self.secret, self.made_at = b"", float("-inf")

    def cookie(self, source: Endpoint, now: float) -> bytes:
        """The cookie of a source, until the secret changes."""
        if now - self.made_at >= SECRET_SECONDS:
            self.secret, self.made_at = os.urandom(32), now
        return mac(self.secret, source_octets(source))

    def good_mac2(self, message: bytes, source: Endpoint, now: float) -> bool:
        """Whether the sender has the cookie, and so gets what is sent to its address."""
        body, mac2 = message[:-MAC_OCTETS], message[-MAC_OCTETS:]
        return hmac.compare_digest(mac2, mac(self.cookie(source, now), body))

    def reply(self, message: bytes, source: Endpoint, now: float) -> bytes:
        """The cookie reply to a message with a good mac1."""
        nonce = os.urandom(NONCE_OCTETS)
        mac1 = message[-2 * MAC_OCTETS : -MAC_OCTETS]
        sealed = aead.x_seal(self.key, nonce, mac1, self.cookie(source, now))
        # Initiations and responses both have their sender's index at 8.
        return messages.prefix(messages.COOKIE_REPLY) + message[8:12] + nonce + sealed


def open_reply(reply: bytes, sender: bytes, mac1: bytes) -> bytes:
    """The cookie in a reply of `sender` to our message with `mac1`. Raises aead.TagError."""
    nonce, sealed = reply[12 : 12 + NONCE_OCTETS], reply[12 + NONCE_OCTETS :]
    return aead.x_unseal(cookie_key(sender), nonce, mac1, sealed)
