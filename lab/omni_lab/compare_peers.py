"""Encrypted tunnels of others."""
from __future__ import annotations
from collections.abc import Sequence, Iterable
from pathlib import Path
from .compare_contestants import Contestant


def names() -> list[str]:
    return []

def make(wanted: Sequence[str], newest: Path | None) -> list[Contestant]:
    return []

def install(contestants: Iterable[Contestant]) -> None:
    return None
