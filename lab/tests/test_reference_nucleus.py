"""An engine and a reference node that know none of each other meet at a Nucleus."""

import os
import unittest
from contextlib import ExitStack

from omni_lab import commands
from omni_lab.node import Programs
from omni_lab.rendezvous import PORT, Authority, Meeting, Nucleus, render_nucleus
from reference import ed25519, membership
from reference.membership import CONFIGURED, Grants, NotBelieved
from reference.protobuf import DecodeError, Message, field
from reference.rendezvous import ranges, reflected, reflection_probe
from reference.x25519 import public_key

from .built import PROGRAMS, obstacle
from .reference_world import FABRIC, World

# RFC 8032, section 7.1, tests 1 to 3.
SIGNATURES = (
    (
        "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a",
        "",
        "e5564300c360ac729086e2cc806e828a84877f1eb8e5d974d873e06522490155"
        "5fb8821590a33bacc61e39701cf9b46bd25bf5f0595bbe24655141438e7a100b",
    ),
    (
        "3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c",
        "72",
        "92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da"
        "085ac1e43e15996e458f3613d0f11d8c387b2eaeb4302aeeb00d291612bb0c00",
    ),
    (
        "fc51cd8e6218a1a38da47ed00230f0580816ed13ba3303ac5deb911548908025",
        "af82",
        "6291d657deec24024827e69c3abe01a30ce548a284743a445e3680d7db5ac3ac"
        "18ff9b538d16f290ae67f760984dc6594a7c15e9716ed28dc027beceea1ec40a",
    ),
)


class Signatures(unittest.TestCase):
    def test_of_the_rfc(self) -> None:
        for key, text, signature in SIGNATURES:
            given = bytes.fromhex(key), bytes.fromhex(text), bytes.fromhex(signature)
            self.assertTrue(ed25519.verify(*given))
            self.assertFalse(ed25519.verify(given[0], given[1] + b"x", given[2]))
            # The same scalar with the order added is not the one form that it has.
            s = int.from_bytes(given[2][32:], "little") + ed25519.ORDER
            other = given[2][:32] + s.to_bytes(32, "little")
            self.assertFalse(ed25519.verify(given[0], given[1], other))

    def test_of_nodes(self) -> None:
        for number in range(1, 5):
            private = bytes([number]) * 32
            signature = ed25519.x_sign(private, b"text")
            self.assertTrue(ed25519.x_verify(public_key(private), b"text", signature))
            self.assertFalse(ed25519.x_verify(public_key(private), b"Text", signature))
            self.assertFalse(ed25519.x_verify(public_key(b"9" * 32), b"text", signature))

    def test_keys_of_small_order_prove_nothing(self) -> None:
        for key in (ed25519.encode(ed25519.NEUTRAL), bytes(32)):
            self.assertFalse(ed25519.verify(key, b"", key + bytes(32)))


class RecordsOfMembers(unittest.TestCase):
    def test_a_registration_is_read_as_it_was_written(self) -> None:
        private = bytes(range(32))
        endpoints = [(("192.0.2.1", 51820), CONFIGURED), (("2001:db8::1", 7), 9)]
        octets = membership.write_registration(
            "net",
            private,
            public_key(private),
            sequence=5,
            endpoints=endpoints,
            lanes=1,
            largest_frame=1440,
            vlans=[(0, 7)],
            certificate=b"c",
            expires=99,
            name="alpha",
        )
        read = membership.read_registration(octets, "net")
        # The endpoint of a kind that is not known is left out.
        self.assertEqual(read.endpoints, (("192.0.2.1", 51820),))
        self.assertEqual((read.sequence, read.certificate, read.name), (5, b"c", "alpha"))
        with self.assertRaises(NotBelieved):
            membership.read_registration(octets, "another")

    def test_octets_that_are_no_message(self) -> None:
        whole = field(1, 300) + field(2, b"text") + field(3, 0, always=True)
        self.assertEqual((Message(whole).number(1), Message(whole).octets(2)), (300, b"text"))
        for octets in (whole[:1], whole[:2], whole[:6], b"\x0f", b"\x08" + b"\xff" * 10 + b"\x01"):
            with self.assertRaises(DecodeError):
                Message(octets)

    def test_grants(self) -> None:
        grants = Grants(vlans=((0, 0), (5, 9)), macs=frozenset([b"\2" * 6]))
        self.assertTrue(grants.mac(7, b"\2" * 6) and grants.ip("192.0.2.1"))
        self.assertFalse(grants.mac(4, b"\2" * 6) or grants.mac(7, b"\4" * 6))
        self.assertEqual(ranges(frozenset([0, 1, 2, 9])), [(0, 2), (9, 9)])
        self.assertIsNone(ranges(frozenset(range(4095))))

    def test_reflection(self) -> None:
        token = bytes(range(16))
        probe = reflection_probe(token)
        self.assertEqual((len(probe), probe[:8]), (48, bytes.fromhex("0000000010000001")))
        answer = bytes(8) + token + b"\4\0\xca\x6c" + bytes([192, 0, 2, 7]).ljust(20, b"\0")
        self.assertEqual(reflected(answer, token), ("192.0.2.7", 51820))
        self.assertIsNone(reflected(answer, bytes(16)))


@unittest.skipIf(obstacle() is not None, obstacle() or "")
class Meet(unittest.TestCase):
    def test_at_a_nucleus(self) -> None:
        stack = ExitStack()
        self.addCleanup(stack.close)
        world = World(stack, f"omni-n{os.getpid()}"[:11], ("alpha", "gamma", "nucleus"))
        programs = Programs(PROGRAMS / "omni-engine", PROGRAMS / "omni")
        folder = world.folder / "nucleus"
        folder.mkdir()
        nucleus = Nucleus(world.space("nucleus"), folder, programs)
        authority = Authority(folder, FABRIC, programs)
        where = f"{world.identities['nucleus'].underlay}:{PORT}"
        meeting = Meeting(((where, nucleus.make_keys()),), authority.public_key)
        config = render_nucleus(FABRIC, authority.public_key, nucleus.socket)
        nucleus.config.write_text(config)
        for name in ("alpha", "gamma"):
            key = world.identities[name].public_key
            commands.run(authority.enroll(name, key, world.folder / f"{name}.cert"))
        nucleus.start()
        stack.callback(nucleus.running().wait)
        stack.callback(nucleus.running().kill)
        alpha = world.engine("alpha", {}, more=meeting.lines("alpha.cert"))
        gamma = world.reference(
            "gamma",
            {},
            nucleus=[{"endpoint": at, "public_key": key} for at, key in meeting.nuclei],
            authority={"public_key": meeting.authority, "certificate_file": "gamma.cert"},
        )
        for each in (alpha, gamma):
            each.start()
        for each in (alpha, gamma):
            each.wait_ready()
        world.wait(lambda: any(p["state"] == "established" for p in gamma.ask()["peers"]), "met")
        self.assertTrue(gamma.established("alpha"))
        self.assertIs(gamma.ask()["nuclei"][0]["registered"], True)
        world.ping("gamma", "alpha", "-c", "3", "-i", "0.05")
        world.ping("alpha", "gamma", "-c", "3", "-i", "0.05")
        self.assertEqual(alpha.look()["nuclei"][0]["not_believed"], 0)
        members = commands.run(nucleus.ask_command("members", "--json"))
        self.assertIn(world.identities["gamma"].public_key, members)
        # The authority takes alpha's certificate back, and gamma will not have it any more.
        revoked = folder / "alpha.revoked"
        commands.run(
            [str(programs.omni), "authority", "revoke", "--authority-key", str(authority.key)]
            + ["--fabric", FABRIC, "--key", world.identities["alpha"].public_key]
            + ["--reason", "a test", "-o", str(revoked)]
        )
        commands.run(nucleus.ask_command("revoke", str(revoked)))
        world.wait(lambda: gamma.ask()["peers"] == [], "alpha is no member any more")


if __name__ == "__main__":
    unittest.main()
