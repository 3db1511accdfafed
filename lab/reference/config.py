"""The configuration: one JSON object, as Python's own library reads no YAML."""

from __future__ import annotations

import base64
import binascii
import ipaddress
import json
import stat
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .cookies import Endpoint
from .membership import dearmoured
from .messages import PORT
from .peer import RENEW_SECONDS, RETRY_SECONDS
from .records import VLAN_RESERVED
from .x25519 import KEY_OCTETS

ACCESS_MTU = 1426
UNDERLAY_MTU = 1500


class ConfigError(Exception):
    """The file is wrong. The text says where."""


@dataclass(frozen=True)
class PeerConfig:
    """Another node."""

    name: str
    public_key: bytes
    endpoint: Endpoint | None
    psk: bytes | None


@dataclass(frozen=True)
class NucleusConfig:
    """Where nodes meet."""

    endpoint: Endpoint
    public_key: bytes


@dataclass(frozen=True)
class Config:
    """Everything that a node is told."""

    fabric: str
    name: str
    private_key: bytes
    port: int
    interface: str
    mtu: int
    addresses: tuple[str, ...]
    vlans: tuple[int, ...]
    underlay_mtu: int
    peers: tuple[PeerConfig, ...]
    control: Path | None
    state_file: Path | None
    renew_seconds: float
    retry_seconds: float
    under_load: bool
    nuclei: tuple[NucleusConfig, ...]
    authority: bytes | None
    certificate: bytes | None
    endpoints: tuple[Endpoint, ...]


KEYS = {
    "fabric",
    "name",
    "private_key_file",
    "port",
    "interface",
    "mtu",
    "addresses",
    "vlans",
    "underlay_mtu",
    "peers",
    "control",
    "state_file",
    "renew_seconds",
    "retry_seconds",
    "under_load",
    "nucleus",
    "authority",
    "endpoints",
}
NUCLEUS_KEYS = {"endpoint", "public_key"}
AUTHORITY_KEYS = {"public_key", "certificate_file"}
PEER_KEYS = {"name", "public_key", "endpoint", "preshared_key_file"}


def load(path: Path) -> Config:
    """Reads a file. Raises ConfigError."""
    try:
        read = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise ConfigError(f"{path}: {error}") from error
    try:
        return parse(read, path.parent)
    except (KeyError, TypeError, ValueError) as error:
        missing = f"{error} is missing" if isinstance(error, KeyError) else str(error)
        raise ConfigError(f"{path}: {missing}") from error


def parse(read: Mapping[str, Any], folder: Path) -> Config:
    """What was read. Relative paths are relative to `folder`."""
    known(read, KEYS)

    def path_of(key: str) -> Path | None:
        return folder / read[key] if key in read else None

    vlans = tuple(read.get("vlans", range(VLAN_RESERVED)))
    if not all(0 <= vlan < VLAN_RESERVED for vlan in vlans):
        raise ValueError("vlans: numbers from 0 to 4094")
    authority = read.get("authority", {})
    known(authority, AUTHORITY_KEYS)
    return Config(
        fabric=str(read["fabric"]),
        name=str(read["name"]),
        private_key=key_file(folder / read["private_key_file"]),
        port=int(read.get("port", PORT)),
        interface=str(read["interface"]),
        mtu=int(read.get("mtu", ACCESS_MTU)),
        addresses=tuple(str(ipaddress.ip_interface(each)) for each in read.get("addresses", ())),
        vlans=vlans,
        underlay_mtu=int(read.get("underlay_mtu", UNDERLAY_MTU)),
        peers=tuple(peer_of(each, folder) for each in read.get("peers", ())),
        control=path_of("control"),
        state_file=path_of("state_file"),
        renew_seconds=float(read.get("renew_seconds", RENEW_SECONDS)),
        retry_seconds=float(read.get("retry_seconds", RETRY_SECONDS)),
        under_load=bool(read.get("under_load", False)),
        nuclei=tuple(map(nucleus_of, read.get("nucleus", ()))),
        authority=key_of(authority["public_key"]) if authority else None,
        certificate=certificate(folder / authority["certificate_file"]) if authority else None,
        endpoints=tuple(map(endpoint_of, read.get("endpoints", ()))),
    )


def known(read: Mapping[str, Any], keys: set[str]) -> None:
    """Refuses keys that mean nothing, as they were meant to mean something."""
    strange = sorted(set(read) - keys)
    if strange:
        raise ValueError(f"{strange[0]}: there is no such key")


def peer_of(read: Mapping[str, Any], folder: Path) -> PeerConfig:
    """An element of `peers`."""
    known(read, PEER_KEYS)
    psk = read.get("preshared_key_file")
    endpoint = read.get("endpoint")
    return PeerConfig(
        name=str(read["name"]),
        public_key=key_of(str(read["public_key"])),
        endpoint=endpoint_of(endpoint) if endpoint else None,
        psk=key_file(folder / psk) if psk else None,
    )


def nucleus_of(read: Mapping[str, Any]) -> NucleusConfig:
    """An element of `nucleus`."""
    known(read, NUCLEUS_KEYS)
    return NucleusConfig(endpoint_of(read["endpoint"]), key_of(read["public_key"]))


def certificate(path: Path) -> bytes:
    """This node's certificate."""
    try:
        return dearmoured(path.read_text())
    except OSError as error:
        raise ValueError(str(error)) from error


def key_of(text: str) -> bytes:
    """32 octets in base64."""
    try:
        key = base64.b64decode(text.strip(), validate=True)
    except binascii.Error as error:
        raise ValueError(f"not base64: {error}") from error
    if len(key) != KEY_OCTETS:
        raise ValueError("a key has 32 octets in base64")
    return key


def key_file(path: Path) -> bytes:
    """A key that nobody else can read."""
    try:
        if stat.S_IMODE(path.stat().st_mode) & 0o077:
            raise ValueError(f"{path}: readable by others; chmod 600 it")
        return key_of(path.read_text())
    except OSError as error:
        raise ValueError(str(error)) from error


def endpoint_of(text: str) -> Endpoint:
    """IPv4:port or [IPv6]:port."""
    host, _, port = text.rpartition(":")
    address = ipaddress.ip_address(host.strip("[]"))
    return str(address), int(port)
