"""Control sockets, asked without a process: for what is looked at many times a second. A line of
JSON goes there and a line comes back, as `omni` prints them with --json.
"""

from __future__ import annotations

import json
import socket
from pathlib import Path
from typing import Any

PATIENCE_SECONDS = 5.0
CHUNK_OCTETS = 1 << 16


def ask(path: Path, command: str) -> dict[str, Any] | None:
    """The answer, None when nobody is there or the answer breaks off."""
    answer = bytearray()
    try:
        with socket.socket(socket.AF_UNIX) as opened:
            opened.settimeout(PATIENCE_SECONDS)
            opened.connect(str(path))
            opened.sendall(json.dumps({"command": command}).encode() + b"\n")
            while not answer.endswith(b"\n"):
                chunk = opened.recv(CHUNK_OCTETS)
                if not chunk:
                    return None
                answer += chunk
    except OSError:
        return None
    said: dict[str, Any] = json.loads(answer)
    return said


def owners(shown: dict[str, Any]) -> dict[tuple[int, str], tuple[str, str]]:
    """Who has which address, of an engine's answer to `show`: (VLAN, IP) to (owner, MAC). A node
    names itself by its own public key in here, as others do.
    """
    own = shown["node"]["public_key"]
    found = {}
    for each in shown["neighbors"]:
        owner = own if each["owner"].startswith("local:") else each["owner"]
        found[each["vlan"], each["ip"]] = (owner, each["mac"])
    return found
