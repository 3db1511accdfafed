"""What a page consists of, before it is HTML or Markdown. Text is plain: it is escaped later."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

Verdict = Literal["pass", "miss", "none"]


@dataclass(frozen=True)
class Cell:
    """A cell of a table that is more than its text."""

    text: str
    verdict: Verdict = "none"
    # Shown with its colour.
    contestant: str = ""


Row = Sequence[str | Cell]


@dataclass(frozen=True)
class Table:
    """A table. Columns of numbers, which are named with a `>` before, are set to the right."""

    columns: Sequence[str]
    rows: Sequence[Row]
    caption: str = ""
    # Folded away until it is wanted.
    folded: bool = False


@dataclass(frozen=True)
class Text:
    """A paragraph."""

    text: str
    # What the reader is not to miss.
    important: bool = False


@dataclass(frozen=True)
class Subheading:
    """A heading within a section."""

    text: str


@dataclass(frozen=True)
class Plot:
    """A drawing in SVG, already escaped, and what it shows in words."""

    svg: str
    caption: str
    wide: bool = False


@dataclass(frozen=True)
class Tile:
    """One of the numbers of the headline."""

    title: str
    value: str
    lines: Sequence[str] = ()
    target: str = ""
    verdict: Verdict = "none"


@dataclass(frozen=True)
class Tiles:
    """The numbers of the headline."""

    tiles: Sequence[Tile]


@dataclass(frozen=True)
class Beside:
    """Small tables that stand side by side where there is room; captions are their headings."""

    tables: Sequence[Table]


Block = Table | Beside | Text | Subheading | Plot | Tiles


@dataclass
class Section:
    """A part of the page. One without blocks is left out, and `command` told in its place."""

    anchor: str
    title: str
    command: str = ""
    blocks: list[Block] = field(default_factory=list)

    def add(self, *blocks: Block) -> None:
        """Puts more at its end."""
        self.blocks.extend(blocks)
