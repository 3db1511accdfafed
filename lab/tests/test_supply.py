"""Dependencies: where they come from, under which licences, and the bill of them."""

from __future__ import annotations

import json
import unittest
from typing import Any

from omni_lab import supply
from omni_lab.supply import Package, SupplyError

LOCKS = ("Cargo.lock",)


def locked(name: str = LOCKS[0]) -> list[Package]:
    return supply.read_lock((supply.REPOSITORY / name).read_text())


def package(**changed: str | None) -> Package:
    fields: dict[str, Any] = {
        "name": "one",
        "version": "1.2.3",
        "source": supply.REGISTRY,
        "checksum": "ab" * 32,
    }
    return Package(**(fields | changed))


class Locks(unittest.TestCase):
    def test_every_package_is_of_a_registry_with_its_checksum(self) -> None:
        for name in LOCKS:
            with self.subTest(name):
                self.assertGreater(len(locked(name)), 20)
                self.assertEqual(supply.strange_sources(locked(name)), [])

    def test_no_package_is_banned_or_too_old(self) -> None:
        for name in LOCKS:
            with self.subTest(name):
                self.assertEqual(supply.refused(locked(name)), [])

    def test_other_sources_are_seen(self) -> None:
        others = [
            package(),
            package(name="ours", source=None, checksum=None),
            package(name="git", source="git+https://example.org/x#1"),
            package(name="unsigned", checksum=None),
        ]
        seen = supply.strange_sources(others)
        self.assertEqual([line.split()[0] for line in seen], ["git", "unsigned"])

    def test_banned_and_old_ones_are_seen(self) -> None:
        others = [
            package(name="serde_yml", version="9.9.9"),
            package(name="snow", version="0.9.4"),
            package(name="snow", version="0.9.5"),
            package(name="bytes", version="1.11.0-rc.1"),
            package(name="crossbeam-epoch", version="0.10.0"),
        ]
        wanted = ["serde_yml 9.9.9", "snow 0.9.4", "bytes 1.11.0-rc.1"]
        self.assertEqual(supply.refused(others), wanted)

    def test_deny_toml_refuses_the_same(self) -> None:
        text = (supply.REPOSITORY / "deny.toml").read_text()
        for name in supply.BANNED:
            self.assertIn(f'crate = "{name}"', text)
        for name, version in supply.LEAST.items():
            self.assertIn(f'crate = "{name}@<{".".join(map(str, version))}"', text)


class Licences(unittest.TestCase):
    ALLOWED = frozenset({"MIT", "ISC", "Apache-2.0 WITH LLVM-exception"})

    def test_every_licence_is_allowed(self) -> None:
        allowed = supply.allowed_licences((supply.REPOSITORY / "deny.toml").read_text())
        found = supply.metadata()["packages"]
        self.assertGreater(len(found), 150)
        wrong = [
            f"{one['name']} {one['version']}: {one['license']}"
            for one in found
            if not supply.is_allowed(one["license"] or "none", allowed)
        ]
        self.assertEqual(wrong, [])

    def test_expressions(self) -> None:
        for good in (
            "MIT",
            "GPL-3.0 OR MIT",
            "MIT/GPL-3.0",
            "MIT AND ISC",
            "(GPL-3.0 OR MIT) AND ISC",
            "Apache-2.0 WITH LLVM-exception",
        ):
            with self.subTest(good):
                self.assertTrue(supply.is_allowed(good, self.ALLOWED))
        for bad in ("GPL-3.0", "MIT AND GPL-3.0", "(GPL-3.0 OR MIT) AND GPL-3.0", "Apache-2.0"):
            with self.subTest(bad):
                self.assertFalse(supply.is_allowed(bad, self.ALLOWED))

    def test_what_is_no_expression_is_an_error(self) -> None:
        for text in ("", "MIT ISC", "(MIT", "MIT OR", "OR MIT"):
            with self.subTest(text), self.assertRaises(SupplyError):
                supply.is_allowed(text, self.ALLOWED)


class Bill(unittest.TestCase):
    def make(self) -> dict[str, Any]:
        linked = supply.used("normal")
        building = supply.used("normal,build") - linked
        return supply.bill(supply.metadata(), locked(), linked, building)

    def test_the_bill_is_complete_and_always_the_same(self) -> None:
        bill = self.make()
        self.assertEqual(json.dumps(bill), json.dumps(self.make()))
        self.assertEqual((bill["bomFormat"], bill["specVersion"]), ("CycloneDX", "1.5"))
        self.assertRegex(bill["serialNumber"], "^urn:uuid:[0-9a-f-]{36}$")
        components = {one["bom-ref"]: one for one in bill["components"]}
        self.assertEqual(len(components), len(bill["components"]), "each once")
        allowed = supply.allowed_licences((supply.REPOSITORY / "deny.toml").read_text())
        for one in components.values():
            with self.subTest(one["bom-ref"]):
                self.assertIn(one["scope"], ("required", "excluded"))
                self.assertTrue(supply.is_allowed(one["licenses"][0]["expression"], allowed))
                self.assertTrue(one["name"].startswith("omni-") or "hashes" in one)
        required = {one["name"] for one in components.values() if one["scope"] == "required"}
        self.assertLessEqual({"omni-engine", "omni-nucleus", "ring", "snow", "aya"}, required)
        self.assertFalse({"loom", "shuttle", "proptest", "tempfile"} & required, "tests only")
        known = components.keys() | {bill["metadata"]["component"]["bom-ref"]}
        for one in bill["dependencies"]:
            self.assertIn(one["ref"], known)
            self.assertLessEqual(set(one["dependsOn"]), known)

    def test_a_package_that_cargo_does_not_know_is_an_error(self) -> None:
        with self.assertRaises(SupplyError):
            supply.bill({"packages": []}, [], {("omni-engine", "0.1.0")}, set())


if __name__ == "__main__":
    unittest.main()
