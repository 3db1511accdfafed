"""Two owners, and owners that come back with old words, are found."""

import json
import unittest

from omni_lab import control, owners
from omni_lab.owners import Holding, Place

IP = Place(0, "10.7.1.1")


def held(revision: int, owner: str, sequence: int, withdrawn: bool = False) -> Holding:
    """An owner's claim."""
    return Holding(revision, owner, f"02:00:00:00:00:{owner}", sequence, withdrawn)


class Histories(unittest.TestCase):
    GOOD = [
        (IP, held(5, "aa", 100)),
        (IP, held(7, "aa", 200, withdrawn=True)),
        (IP, held(8, "bb", 300)),
        (Place(1, "10.7.1.1"), held(9, "aa", 50)),
        (IP, held(12, "aa", 400)),
    ]

    def test_good_ones_agree(self) -> None:
        # Another Nucleus was told less often, as it was slower.
        less = [self.GOOD[0], self.GOOD[2], self.GOOD[4]]
        self.assertEqual(owners.violations({"one": self.GOOD, "two": less}), [])
        self.assertEqual(owners.changes_of_owner(self.GOOD), 2)

    def test_what_is_told_again_is_no_change(self) -> None:
        again = [self.GOOD[0], self.GOOD[0]]
        self.assertEqual(owners.violations({"one": again}), [])
        self.assertEqual(owners.changes_of_owner(again), 0)

    def test_two_owners_at_one_revision(self) -> None:
        other = [(IP, held(8, "cc", 300))]
        found = owners.violations({"one": self.GOOD, "two": other})
        self.assertEqual(len(found), 1)
        self.assertIn("two owners at one revision", found[0])

    def test_an_owner_with_an_older_word(self) -> None:
        for sequence in (399, 400):
            found = owners.violations({"one": [*self.GOOD, (IP, held(13, "bb", sequence))]})
            self.assertEqual(len(found), 1)
            self.assertIn("not a greater sequence", found[0])

    def test_an_older_word_that_only_the_other_told(self) -> None:
        other = [(IP, held(10, "cc", 250))]
        found = owners.violations({"one": self.GOOD, "two": other})
        self.assertEqual(len(found), 1)
        self.assertIn("not a greater sequence", found[0])

    def test_a_teller_that_goes_back(self) -> None:
        found = owners.violations({"one": [self.GOOD[4], self.GOOD[2]]})
        self.assertEqual(len(found), 1)
        self.assertIn("one went back", found[0])


class Lines(unittest.TestCase):
    BINDING = {
        "kind": "binding",
        "vlan": 7,
        "ip": "10.7.1.1",
        "mac": "02:00:00:00:00:01",
        "owner": "A=",
        "name": "alpha",
        "withdrawn": False,
        "sequence": 3,
        "expires": 9,
        "revision": 5,
    }

    def test_a_binding(self) -> None:
        change = owners.parse(json.dumps(self.BINDING))
        assert change is not None
        expected = (
            Place(7, "10.7.1.1"),
            Holding(5, "A=", "02:00:00:00:00:01", 3, False),
        )
        self.assertEqual(owners.holding(change), expected)

    def test_a_host_without_an_ip_address_has_its_mac_address(self) -> None:
        found = owners.holding({**self.BINDING, "ip": None})
        assert found is not None
        self.assertEqual(found[0], Place(7, "02:00:00:00:00:01"))

    def test_all_else(self) -> None:
        self.assertIsNone(owners.holding({"kind": "member", "name": "alpha"}))
        for line in ('{"kind":"bind', "", "7", "{}"):
            self.assertIsNone(owners.parse(line))

    def test_a_node_knows_itself_by_its_key(self) -> None:
        shown = {
            "node": {"public_key": "A="},
            "neighbors": [
                {"vlan": 0, "ip": "10.7.0.1", "mac": "m1", "owner": "local:omni0"},
                {"vlan": 0, "ip": "10.7.0.2", "mac": "m2", "owner": "B="},
            ],
        }
        expected = {(0, "10.7.0.1"): ("A=", "m1"), (0, "10.7.0.2"): ("B=", "m2")}
        self.assertEqual(control.owners(shown), expected)


if __name__ == "__main__":
    unittest.main()
