"""What the programs are made of: packages of Cargo.lock, their licences, a bill of materials."""

from __future__ import annotations

import json
import re
import subprocess
import tomllib
import uuid
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

REPOSITORY = Path(__file__).resolve().parent.parent.parent
# The only place that packages come from.
REGISTRY = "registry+https://github.com/rust-lang/crates.io-index"
# What is installed, and for which system.
PROGRAMS = ("omni-engine", "omni-nucleus")
TARGET = "x86_64-unknown-linux-gnu"
# Packages that must not be there, or not older than this, each for an advisory.
BANNED = ("serde_yml",)
LEAST = {
    "bytes": (1, 11, 1),
    "crossbeam-channel": (0, 5, 15),
    "crossbeam-epoch": (0, 9, 20),
    "quinn-proto": (0, 11, 15),
    "snow": (0, 9, 5),
}


class SupplyError(Exception):
    """Something could not be asked or read."""


@dataclass(frozen=True)
class Package:
    """A package of a lock file. Those of the repository have no source."""

    name: str
    version: str
    source: str | None
    checksum: str | None


def read_lock(text: str) -> list[Package]:
    """The packages of a Cargo.lock."""
    packages = tomllib.loads(text).get("package", [])
    return [
        Package(one["name"], one["version"], one.get("source"), one.get("checksum"))
        for one in packages
    ]


def strange_sources(packages: Iterable[Package]) -> list[str]:
    """Packages that come from elsewhere than the registry, or without a checksum."""
    return [
        f"{one.name} {one.version}: {one.source or 'no source'}"
        for one in packages
        if one.source is not None
        and (one.source != REGISTRY or re.fullmatch("[0-9a-f]{64}", one.checksum or "") is None)
    ]


def refused(packages: Iterable[Package]) -> list[str]:
    """Packages that are banned, or older than what mended them."""
    return [
        f"{one.name} {one.version}"
        for one in packages
        if one.name in BANNED or numbers(one.version) < LEAST.get(one.name, (0, 0, 0))
    ]


def numbers(version: str) -> tuple[int, ...]:
    """A version as it is compared: what follows the three numbers is left out."""
    found = re.match(r"(\d+)\.(\d+)\.(\d+)", version)
    if found is None:
        raise SupplyError(f"{version!r} is no version")
    return tuple(int(part) for part in found.groups())


def allowed_licences(deny: str) -> frozenset[str]:
    """The licences that deny.toml allows."""
    return frozenset(tomllib.loads(deny)["licenses"]["allow"])


def is_allowed(expression: str, allowed: frozenset[str]) -> bool:
    """Whether an SPDX expression can be met by licences that are allowed.

    Older packages write a slash for OR.
    """
    words = re.findall(r"[()]|[^\s()/]+|/", expression)
    words = ["OR" if word == "/" else word for word in words]
    met, left = _alternatives(words, allowed)
    if left:
        raise SupplyError(f"{expression!r} is no licence expression")
    return met


def _alternatives(words: list[str], allowed: frozenset[str]) -> tuple[bool, list[str]]:
    met, words = _all_of(words, allowed)
    while words[:1] == ["OR"]:
        other, words = _all_of(words[1:], allowed)
        met = met or other
    return met, words


def _all_of(words: list[str], allowed: frozenset[str]) -> tuple[bool, list[str]]:
    met, words = _one(words, allowed)
    while words[:1] == ["AND"]:
        other, words = _one(words[1:], allowed)
        met = met and other
    return met, words


def _one(words: list[str], allowed: frozenset[str]) -> tuple[bool, list[str]]:
    if not words or words[0] in ("AND", "OR", "WITH", ")"):
        raise SupplyError("a licence expression breaks off")
    if words[0] == "(":
        met, words = _alternatives(words[1:], allowed)
        if words[:1] != [")"]:
            raise SupplyError("a licence expression has an open bracket")
        return met, words[1:]
    if words[1:2] == ["WITH"]:
        return " ".join(words[:3]) in allowed, words[3:]
    return words[0] in allowed, words[1:]


def metadata() -> dict[str, Any]:
    """What cargo knows of all packages that this system could need."""
    text = _cargo("metadata", "--format-version", "1", "--filter-platform", TARGET)
    found: dict[str, Any] = json.loads(text)
    return found


def used(kind: str) -> set[tuple[str, str]]:
    """Name and version of the packages that the programs need, `normal` ones or for their build."""
    chosen = [word for name in PROGRAMS for word in ("-p", name)]
    options = ["-e", kind, "--target", TARGET, "--prefix", "none", "--format", "{p}"]
    found = set()
    for line in _cargo("tree", *chosen, *options).splitlines():
        if line.strip():
            name, version = line.split()[:2]
            found.add((name, version.removeprefix("v")))
    return found


def _cargo(command: str, *arguments: str) -> str:
    try:
        done = subprocess.run(
            ["cargo", command, "--locked", *arguments],
            cwd=REPOSITORY,
            capture_output=True,
            text=True,
            check=False,
            timeout=300,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise SupplyError(f"cargo {command}: {error}") from error
    if done.returncode != 0:
        raise SupplyError(f"cargo {command}: {done.stderr.strip()}")
    return done.stdout


def bill(
    found: Mapping[str, Any],
    locked: Iterable[Package],
    linked: set[tuple[str, str]],
    building: set[tuple[str, str]],
) -> dict[str, Any]:
    """A bill of materials, CycloneDX 1.5. The same packages give the same octets."""
    checksums = {(one.name, one.version): one.checksum for one in locked}
    packages = {one["id"]: one for one in found["packages"]}
    names = {(one["name"], one["version"]): one["id"] for one in found["packages"]}
    missing = (linked | building) - names.keys()
    if missing:
        raise SupplyError(f"cargo does not know {sorted(missing)}")
    chosen = {names[one]: _reference(packages[names[one]]) for one in linked | building}
    components = [
        _component(packages[key], checksums, (_named(packages[key])) in linked) for key in chosen
    ]
    version = packages[names[_program(linked)]]["version"]
    root = f"omni-nervous@{version}"
    graph = [
        {
            "ref": chosen[node["id"]],
            "dependsOn": sorted({chosen[key] for key in _needs(node) if key in chosen}),
        }
        for node in found["resolve"]["nodes"]
        if node["id"] in chosen
    ]
    tops = sorted(chosen[names[one]] for one in linked if one[0] in PROGRAMS)
    graph.append({"ref": root, "dependsOn": tops})
    document: dict[str, Any] = {
        "bomFormat": "CycloneDX",
        "specVersion": "1.5",
        "version": 1,
        "metadata": {
            "component": {
                "type": "application",
                "bom-ref": root,
                "name": "omni-nervous",
                "version": version,
                "licenses": [{"expression": "Apache-2.0"}],
            }
        },
        "components": sorted(components, key=lambda one: str(one["bom-ref"])),
        "dependencies": sorted(graph, key=lambda one: str(one["ref"])),
    }
    content = json.dumps(document, sort_keys=True)
    return {"serialNumber": f"urn:uuid:{uuid.uuid5(uuid.NAMESPACE_OID, content)}", **document}


def _program(linked: set[tuple[str, str]]) -> tuple[str, str]:
    for one in linked:
        if one[0] == PROGRAMS[0]:
            return one
    raise SupplyError(f"{PROGRAMS[0]} is not among the packages")


def _named(package: Mapping[str, Any]) -> tuple[str, str]:
    return package["name"], package["version"]


def _reference(package: Mapping[str, Any]) -> str:
    # A plus sign has a meaning of its own in such an address.
    return f"pkg:cargo/{package['name']}@{package['version'].replace('+', '%2B')}"


def _component(
    package: Mapping[str, Any], checksums: Mapping[tuple[str, str], str | None], is_linked: bool
) -> dict[str, Any]:
    reference = _reference(package)
    component: dict[str, Any] = {
        "type": "library",
        "bom-ref": reference,
        "name": package["name"],
        "version": package["version"],
        "scope": "required" if is_linked else "excluded",
        "licenses": [{"expression": (package["license"] or "").replace("/", " OR ")}],
        "purl": reference,
    }
    checksum = checksums.get(_named(package))
    if checksum is not None:
        component["hashes"] = [{"alg": "SHA-256", "content": checksum}]
    return component


def _needs(node: Mapping[str, Any]) -> Iterable[str]:
    """What a package needs itself, but for its tests."""
    for one in node["deps"]:
        if any(kind["kind"] != "dev" for kind in one["dep_kinds"]):
            yield one["pkg"]
