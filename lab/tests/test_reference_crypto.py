"""The reference node's cryptography against the published vectors and the contract's."""

import json
import random
import unittest
from functools import partial
from pathlib import Path
from typing import Any

from reference import chacha20poly1305 as aead
from reference import cookies, messages
from reference.noise import Handshake, HandshakeError, nonce_of
from reference.session import Dropped, ReplayWindow, Session
from reference.x25519 import public_key, x25519

DATA = Path(__file__).resolve().parents[2] / "control" / "tests" / "data"
SUNSCREEN = (
    b"Ladies and Gentlemen of the class of '99: If I could offer you only one tip for the "
    b"future, sunscreen would be it."
)


def vectors(name: str) -> Any:
    return json.loads((DATA / name).read_text())


def octets(text: str) -> bytes:
    return bytes.fromhex(text)


class X25519(unittest.TestCase):
    """RFC 7748, sections 5.2 and 6.1."""

    def test_scalar_multiplication(self) -> None:
        for scalar, point, product in (
            (
                "a546e36bf0527c9d3b16154b82465edd62144c0ac1fc5a18506a2244ba449ac4",
                "e6db6867583030db3594c1a424b15f7c726624ec26b3353b10a903a6d0ab1c4c",
                "c3da55379de9c6908e94ea4df28d084f32eccf03491c71f754b4075577a28552",
            ),
            (
                "4b66e9d4d1b4673c5ad22691957d6af5c11b6421e0ea01d42ca4169e7918ba0d",
                "e5210f12786811d3f4b7959d0538ae2c31dbe7106fc03c3efc4cd549c715a493",
                "95cbde9476e8907d7aade45cb4b873f88b595a68799fa152e6f8f7647aac7957",
            ),
        ):
            self.assertEqual(x25519(octets(scalar), octets(point)).hex(), product)

    def test_diffie_hellman(self) -> None:
        bob = octets("5dab087e624a8a4b79e17f8b83800ee66f3bb1292618b6fd1c2f8b27ff88e0eb")
        self.assertEqual(
            public_key(bob).hex(),
            "de9edb7d7b7dc1b4d35b61c2ece435373f8343c85b78674dadfc7e146f882b4f",
        )
        alice = octets("8520f0098930a754748b7ddcb43ef75a0dbf3a0d26381af4eba4a98eaa9b4e6a")
        self.assertEqual(
            x25519(bob, alice).hex(),
            "4a5d9d5ba4ce2de1728e3bf480350f25e07e21c947d19e3376f09b3c1e161742",
        )

    def test_iteration(self) -> None:
        k = u = octets("09".ljust(64, "0"))
        # Once; a thousand times would be 2 s.
        self.assertEqual(
            x25519(k, u).hex(), "422c8e7a6227d7bca1350b3e2bb7279f7897b87bb6854b783c60e80311ae3079"
        )

    def test_points_of_small_order_are_noticed(self) -> None:
        for point in (bytes(32), (1).to_bytes(32, "little")):
            self.assertEqual(x25519(bytes(range(32)), point), bytes(32))
            with self.assertRaises(HandshakeError):
                Handshake(
                    initiator=True, prologue=b"", private=bytes(range(32)), remote=point
                ).write_first(b"")


class ChaCha20Poly1305(unittest.TestCase):
    """RFC 8439, sections 2.3.2, 2.5.2 and 2.8.2; the draft of XChaCha20, A.3.1 and 2.2.1."""

    def test_block(self) -> None:
        block = aead.key_stream(bytes(range(32)), 1, octets("000000090000004a00000000"), 1)
        self.assertEqual(
            block.hex(),
            "10f1e7e4d13b5915500fdd1fa32071c4c7d1f4c733c068030422aa9ac3d46c4e"
            "d2826446079faa0914c2d705d98b02a2b5129cd1de164eb9cbd083e8a2503c4e",
        )

    def test_many_blocks_are_single_ones_in_a_row(self) -> None:
        key, nonce = bytes(range(32)), bytes(range(12))
        single = [aead.key_stream(key, counter, nonce, 1) for counter in range(40)]
        self.assertEqual(aead.key_stream(key, 0, nonce, 40), b"".join(single))

    def test_poly1305(self) -> None:
        key = octets("85d6be7857556d337f4452fe42d506a80103808afb0db2fd4abff6af4149f51b")
        tag = aead.poly1305(key, b"Cryptographic Forum Research Group")
        self.assertEqual(tag.hex(), "a8061dc1305136c6c22b8baf0c0127a9")

    def test_seal(self) -> None:
        key = bytes(range(0x80, 0xA0))
        nonce, associated = octets("070000004041424344454647"), octets("50515253c0c1c2c3c4c5c6c7")
        sealed = aead.seal(key, nonce, associated, SUNSCREEN)
        self.assertEqual(sealed[:16].hex(), "d31a8d34648e60db7b86afbc53ef7ec2")
        self.assertEqual(sealed[-16:].hex(), "1ae10b594f09e26a7e902ecbd0600691")
        self.assertEqual(aead.unseal(key, nonce, associated, sealed), SUNSCREEN)

    def test_every_flipped_bit_is_noticed(self) -> None:
        key, nonce = bytes(range(32)), bytes(12)
        sealed = aead.seal(key, nonce, b"head", b"text")
        for bit in range(8 * len(sealed)):
            forged = bytearray(sealed)
            forged[bit // 8] ^= 1 << bit % 8
            with self.assertRaises(aead.TagError):
                aead.unseal(key, nonce, b"head", bytes(forged))
        with self.assertRaises(aead.TagError):
            aead.unseal(key, nonce, b"Head", sealed)

    def test_extended_nonce(self) -> None:
        subkey = aead.hchacha20(bytes(range(32)), octets("000000090000004a0000000031415927"))
        self.assertEqual(
            subkey.hex(), "82413b4227b27bfed30e42508a877d73a0f9e4d58a74a853c12ec41326d3ecdc"
        )
        key, nonce = bytes(range(0x80, 0xA0)), bytes(range(0x40, 0x58))
        associated = octets("50515253c0c1c2c3c4c5c6c7")
        sealed = aead.x_seal(key, nonce, associated, SUNSCREEN)
        self.assertEqual(sealed[-16:].hex(), "c0875924c1c7987947deafd8780acf49")
        self.assertEqual(aead.x_unseal(key, nonce, associated, sealed), SUNSCREEN)


class Noise(unittest.TestCase):
    """The vectors of other implementations that the engine is tested with, too."""

    def handshakes(self, vector: dict[str, Any]) -> tuple[Handshake, Handshake]:
        """Both sides with the vector's keys."""
        with_psk = "psk2" in vector["protocol_name"]
        made = []
        for side, initiator in (("init", True), ("resp", False)):
            remote = octets(vector["init_remote_static"]) if initiator else None
            ephemeral = octets(vector[f"{side}_ephemeral"])
            psks = vector.get(f"{side}_psks") or [""]
            made.append(
                Handshake(
                    initiator=initiator,
                    prologue=octets(vector[f"{side}_prologue"]),
                    private=octets(vector[f"{side}_static"]),
                    remote=remote,
                    psk=octets(psks[0]) or None,
                    make_key=partial(bytes, ephemeral),
                    with_psk=with_psk,
                )
            )
        return made[0], made[1]

    def test_all(self) -> None:
        for vector in vectors("noise_vectors.json")["vectors"]:
            with self.subTest(vector["protocol_name"], origin=vector["origin"]):
                self.try_one(vector)

    def try_one(self, vector: dict[str, Any]) -> None:
        initiator, responder = self.handshakes(vector)
        said = [(octets(m["payload"]), octets(m["ciphertext"])) for m in vector["messages"]]
        self.assertEqual(initiator.write_first(said[0][0]), said[0][1])
        self.assertEqual(responder.read_first(said[0][1]), said[0][0])
        self.assertEqual(responder.write_second(said[1][0]), said[1][1])
        initiator, payload = initiator.read_second(said[1][1])
        self.assertEqual(payload, said[1][0])
        self.assertEqual(initiator.split(), responder.split())
        if "handshake_hash" in vector:
            self.assertEqual(initiator.h.hex(), vector["handshake_hash"])
        for number, (plain, sealed) in enumerate(said[2:]):
            key, counter = initiator.split()[number % 2], number // 2
            self.assertEqual(aead.seal(key, nonce_of(counter), b"", plain), sealed)


class Contract(unittest.TestCase):
    """The byte-exact vectors of the wire protocol."""

    def test_handshakes(self) -> None:
        for vector in vectors("vectors.json")["handshakes"]:
            with self.subTest(vector["fabric_utf8"]):
                self.try_handshake(vector)

    def try_handshake(self, vector: dict[str, Any]) -> None:
        initiation, response = octets(vector["initiation"]), octets(vector["response"])
        here = octets(vector["initiator_static_private"])
        there = octets(vector["responder_static_private"])
        for side, private in (("initiator", here), ("responder", there)):
            self.assertEqual(public_key(private).hex(), vector[f"{side}_static_public"])
        prologue = messages.prologue(vector["fabric_utf8"])
        initiator = Handshake(
            initiator=True,
            prologue=prologue,
            private=here,
            remote=public_key(there),
            psk=octets(vector["psk"]),
            make_key=lambda: octets(vector["initiator_ephemeral_private"]),
        )
        payload = octets(vector["initiation_payload"])
        body = messages.prefix(messages.INITIATION) + initiation[8:12]
        made = cookies.with_macs(body + initiator.write_first(payload), public_key(there), None)
        self.assertEqual(made.hex(), initiation.hex())
        self.assertTrue(cookies.good_mac1(initiation, public_key(there)))
        self.assertFalse(cookies.good_mac1(initiation, public_key(here)))
        responder = Handshake(
            initiator=False,
            prologue=prologue,
            private=there,
            psk=octets(vector["psk"]),
            make_key=lambda: octets(vector["responder_ephemeral_private"]),
        )
        self.assertEqual(responder.read_first(initiation[12:136]), payload)
        self.assertEqual(responder.remote, public_key(here))
        initiator, answer = initiator.read_second(response[16:84])
        body = messages.prefix(messages.RESPONSE) + response[8:16]
        made = cookies.with_macs(body + responder.write_second(answer), public_key(here), None)
        self.assertEqual(made.hex(), response.hex())
        self.assertEqual(initiator.split(), responder.split())
        keys = [vector["key_initiator_to_responder"], vector["key_responder_to_initiator"]]
        self.assertEqual([key.hex() for key in initiator.split()], keys)

    def test_data(self) -> None:
        for vector in vectors("vectors.json")["handshakes"]:
            keys = {
                "initiator": octets(vector["key_initiator_to_responder"]),
                "responder": octets(vector["key_responder_to_initiator"]),
            }
            for each in vector["data"]:
                self.try_data(keys[each["sender"]], each)

    def try_data(self, key: bytes, vector: dict[str, Any]) -> None:
        message, frame = octets(vector["message"]), octets(vector["frame"])
        lane, nonce = int(vector["lane_decimal"]), int(vector["nonce_decimal"])
        index = int.from_bytes(message[:4], "big")
        offer = messages.Offer(messages.LANES_MOST, 1440)
        session = Session(index, index, key, key, True, offer, 0.0, True)
        self.assertEqual(session.unseal(message, 1.0), (frame, lane == 0))
        if lane == 0:
            session.sent = nonce
            self.assertEqual(session.seal(messages.DATA, frame).hex(), message.hex())


class Window(unittest.TestCase):
    def test_is_what_a_plain_set_says(self) -> None:
        chance, window = random.Random(7), ReplayWindow()
        accepted: set[int] = set()
        newest = -1
        for _ in range(20_000):
            nonce = max(0, newest + chance.choice((1, 1, 2, 5, -3, -40, -8191, -8192, -8193, 9000)))
            wanted = nonce not in accepted and nonce > newest - 8192
            try:
                window.check(nonce)
                window.commit(nonce)
                taken = True
            except Dropped:
                taken = False
            self.assertEqual(taken, wanted, nonce)
            if wanted:
                accepted.add(nonce)
                newest = max(newest, nonce)


class Cookies(unittest.TestCase):
    def test_a_cookie_travels_sealed_to_its_source(self) -> None:
        responder = public_key(bytes(range(32)))
        jar = cookies.Jar(responder)
        body = messages.prefix(messages.INITIATION) + b"\x01\x02\x03\x04" + bytes(124)
        message = cookies.with_macs(body, responder, None)
        reply = jar.reply(message, ("192.0.2.1", 51820), 0.0)
        self.assertEqual(len(reply), messages.COOKIE_REPLY_OCTETS)
        self.assertEqual(reply[8:12], message[8:12])
        cookie = cookies.open_reply(reply, responder, message[136:152])
        second = cookies.with_macs(body, responder, cookie)
        self.assertTrue(jar.good_mac2(second, ("192.0.2.1", 51820), 1.0))
        for source in (("192.0.2.1", 51821), ("192.0.2.2", 51820), ("2001:db8::1", 51820)):
            self.assertFalse(jar.good_mac2(second, source, 1.0))
        self.assertFalse(jar.good_mac2(second, ("192.0.2.1", 51820), 121.0))
        with self.assertRaises(aead.TagError):
            cookies.open_reply(reply, responder, bytes(16))


if __name__ == "__main__":
    unittest.main()
