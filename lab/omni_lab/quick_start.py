"""docs/quick-start.md as a script: which host runs what, and which files are written where.

A fence's first word is its language, the second says where it belongs:

    ```sh alpha                          commands of one host
    ```sh both                           commands of each
    ```yaml alpha:/etc/omni/alpha.yaml   a file to be written

Blocks without a second word are for the reader alone.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

FENCE = "```"
BOTH = "both"
PLACEHOLDER = re.compile(r"PUBLIC KEY OF ([A-Z]+)")
REPLY_TIME = re.compile(r"^\[(\d+\.\d+)\] \d+ bytes from ", re.MULTILINE)


class QuickStartError(Exception):
    """The page cannot be run as it stands."""


@dataclass(frozen=True)
class Block:
    """One fenced block that a host is to carry out."""

    section: str
    host: str
    text: str
    # Where the text is to be written; None for commands.
    path: str | None = None

    def hosts(self, every: tuple[str, ...]) -> tuple[str, ...]:
        """Who it is for."""
        return every if self.host == BOTH else (self.host,)


def blocks(page: str) -> list[Block]:
    """All blocks that are for hosts, in the order of the page."""
    found: list[Block] = []
    section, opened = "", None
    lines: list[str] = []
    for line in page.splitlines():
        if opened is None and line.startswith("## "):
            section = line[3:]
        elif opened is None and line.startswith(FENCE):
            opened, lines = line[len(FENCE) :].split(), []
        elif opened is not None and line == FENCE:
            if len(opened) > 1:
                host, _, path = opened[1].partition(":")
                found.append(Block(section, host, "\n".join(lines) + "\n", path or None))
            opened = None
        else:
            lines.append(line)
    if opened is not None:
        raise QuickStartError(f"a block of {section!r} is not closed")
    return found


def fill(text: str, keys: Mapping[str, str]) -> str:
    """A file with the keys of hosts in their places, as the reader puts them there."""

    def key(match: re.Match[str]) -> str:
        host = match[1].lower()
        if host not in keys:
            raise QuickStartError(f"{match[0]}: no command has printed that yet")
        return keys[host]

    return PLACEHOLDER.sub(key, text)


def longest_gap(replies: str) -> float:
    """The longest time between two replies in what `ping -D` printed, in seconds."""
    times = [float(each) for each in REPLY_TIME.findall(replies)]
    if len(times) < 2:
        raise QuickStartError(f"{len(times)} replies: there is nothing to measure between")
    return max(after - before for before, after in zip(times, times[1:]))
