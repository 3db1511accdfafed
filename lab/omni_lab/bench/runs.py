"""The folder of a run: what was measured, in files of JSON, and what happened when."""

from __future__ import annotations

import contextlib
import datetime
import fcntl
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from .state import State, now

REPOSITORY = Path(__file__).resolve().parents[3]
ROOT = REPOSITORY / "target" / "lab"
EVENTS = "events.json"


def make(wanted: Path | None) -> Path:
    """Makes the folder of a run: the one that is wanted, or a new one by the time, to which
    `target/lab/latest` then points.
    """
    if wanted is not None:
        wanted.mkdir(parents=True, exist_ok=True)
        return wanted.resolve()
    ROOT.mkdir(parents=True, exist_ok=True)
    stamp = datetime.datetime.now(datetime.timezone.utc).strftime("%Y-%m-%dT%H%M%SZ")
    folder = ROOT / stamp
    number = 1
    while True:
        try:
            folder.mkdir()
            break
        except FileExistsError:
            number += 1
            folder = ROOT / f"{stamp}-{number}"
    link = ROOT / "latest"
    with contextlib.suppress(FileNotFoundError):
        link.unlink()
    link.symlink_to(folder.name)
    return folder


def slug(text: str) -> str:
    """A contestant's name or another word as a part of a file's name."""
    return re.sub(r"[^a-z0-9+.]+", "-", text.lower()).strip("-")


def write(folder: Path, name: str, what: Mapping[str, Any]) -> Path:
    """Writes a result as NAME.json, whole or not at all. Returns where it is."""
    path = folder / f"{name}.json"
    new = path.with_suffix(".new")
    new.write_text(json.dumps(what, indent=1) + "\n")
    new.replace(path)
    return path


def keep_raw(folder: Path, name: str, text: str) -> None:
    """Keeps what another program said, as it said it."""
    (folder / "raw").mkdir(exist_ok=True)
    (folder / "raw" / name).write_text(text)


def add_event(
    state: State, what: str, node: str = "", detail: str = "", recovered_s: float | None = None
) -> None:
    """Notes in the run's timeline what happens now."""
    began = datetime.datetime.fromisoformat(state.began)
    at = (datetime.datetime.now(datetime.timezone.utc) - began).total_seconds()
    event = {"at_s": round(at, 3), "what": what, "node": node, "detail": detail}
    if recovered_s is not None:
        event["recovered_s"] = recovered_s
    path = Path(state.run) / EVENTS
    # Commands on one lab may run side by side.
    with path.open("a+") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        file.seek(0)
        text = file.read()
        fresh: dict[str, Any] = {"kind": "events", "began": state.began, "events": []}
        kept = json.loads(text) if text else fresh
        kept["events"].append(event)
        file.truncate(0)
        file.write(json.dumps(kept, indent=1) + "\n")


def result(kind: str, contestant: str | None = None) -> dict[str, Any]:
    """What each file begins with. Taken before the measurement."""
    head = {"kind": kind, "contestant": contestant, "began": now()}
    return {key: value for key, value in head.items() if value is not None}
