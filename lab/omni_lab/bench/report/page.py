"""The report as one page of HTML that needs nothing beside itself. Pure, but for its style sheet,
which is read from beside this file.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from .blocks import (
    Beside,
    Block,
    Cell,
    Plot,
    Row,
    Section,
    Subheading,
    Table,
    Text,
    Tile,
    Tiles,
    Verdict,
)
from .colours import Colours
from .svg import escape as escape_markup

HERE = Path(__file__).parent
NUMBER, WIDE, IMPORTANT = (f' class="{name}"' for name in ("number", "wide", "important"))
# Between a number and its unit no line ends.
BOUND = re.compile(r"(?<=\d) (?=(?:[%×]|[nµm]?s|[kMGT]?[bB]/s|[KMG]?i?B)(?![A-Za-z]))")
CODE = re.compile(r"`([^`]+)`")
WORDS: dict[Verdict, str] = {"pass": "✓ pass", "miss": "✗ miss", "none": ""}


def escape(text: str) -> str:
    """Text within an element or an attribute."""
    return escape_markup(BOUND.sub("\u00a0", text))


def prose(text: str) -> str:
    """The same of a paragraph, in which commands stand in backticks."""
    return CODE.sub(r"<code>\1</code>", escape(text))


@dataclass(frozen=True)
class Head:
    """What stands above all sections."""

    title: str
    about: str
    verdict: str
    held: bool
    problems: Sequence[str]
    made: str


def page(head: Head, sections: Sequence[Section], colours: Colours) -> str:
    """The whole page."""
    shown = [each for each in sections if each.blocks]
    links = "".join(
        f'<a href="#{escape(s.anchor)}">{escape(s.title)}</a>' for s in shown if s.title
    )
    body = "".join(section(each, colours) for each in sections)
    tone = "pass" if head.held else "miss"
    problems = "".join(f'<p class="important miss">{escape(each)}</p>' for each in head.problems)
    return (
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{escape(head.title)}</title>"
        f"<style>{(HERE / 'page.css').read_text()}</style></head>\n<body>"
        f"<header><h1>{escape(head.title)}</h1><p>{escape(head.about)}</p>"
        f'<p class="verdict {tone}">{escape(head.verdict)}</p>{problems}'
        f"<nav>{links}</nav></header>\n<main>{body}</main>\n"
        f"<footer>{escape(head.made)}</footer>"
        f"<script>{(HERE / 'page.js').read_text()}</script></body></html>\n"
    )


def section(one: Section, colours: Colours) -> str:
    """A section, or the line in its place."""
    if not one.blocks:
        return f'<p class="left-out">{prose(left_out(one))}</p>\n'
    parts = [f'<section id="{escape(one.anchor)}">']
    if one.title:
        parts.append(f"<h2>{escape(one.title)}</h2>")
    plots: list[Plot] = []
    for each in one.blocks:
        # Drawings that follow each other stand side by side.
        if isinstance(each, Plot):
            plots.append(each)
            continue
        parts.append(side_by_side(plots))
        plots = []
        parts.append(block(each, colours))
    parts.append(side_by_side(plots))
    return "".join(parts) + "</section>\n"


def left_out(one: Section) -> str:
    """Why a section is not there, and what would make it."""
    return f"{one.title}: nothing was measured. {one.command} does it."


def side_by_side(plots: Sequence[Plot]) -> str:
    """Drawings."""
    if not plots:
        return ""
    figures = [
        f"<figure{WIDE if each.wide else ''}>{each.svg}"
        f"<figcaption>{escape(each.caption)}</figcaption></figure>"
        for each in plots
    ]
    return f'<div class="plots">{"".join(figures)}</div>'


def block(one: Block, colours: Colours) -> str:
    """Anything but a drawing."""
    if isinstance(one, Text):
        return f"<p{IMPORTANT if one.important else ''}>{prose(one.text)}</p>"
    if isinstance(one, Subheading):
        return f"<h3>{escape(one.text)}</h3>"
    if isinstance(one, Tiles):
        return f'<div class="tiles">{"".join(map(tile, one.tiles))}</div>'
    if isinstance(one, Plot):
        return side_by_side([one])
    if isinstance(one, Beside):
        shown = "".join(table(each, colours) for each in one.tables)
        return f'<div class="beside">{shown}</div>'
    shown = table(one, colours)
    if one.folded:
        return f"<details><summary>{escape(one.caption)}</summary>{shown}</details>"
    return shown


def tile(one: Tile) -> str:
    """A number of the headline."""
    lines = "".join(f'<div class="line">{escape(line)}</div>' for line in one.lines)
    target = ""
    if one.target:
        words = f"{WORDS[one.verdict]} ({one.target})"
        target = f'<div class="target {one.verdict}">{escape(words)}</div>'
    return (
        f'<div class="tile is-{one.verdict}"><h3>{escape(one.title)}</h3>'
        f'<div class="value">{escape(one.value)}</div>{lines}{target}</div>'
    )


def table(one: Table, colours: Colours) -> str:
    """A table, which scrolls by itself where it is too wide."""
    numbers = [each.startswith(">") for each in one.columns]
    heads = "".join(
        f"<th{NUMBER if number else ''}>{escape(name.removeprefix('>'))}</th>"
        for name, number in zip(one.columns, numbers)
    )
    rows = "".join(row(each, numbers, colours) for each in one.rows)
    is_captioned = one.caption and not one.folded
    caption = f'<p class="caption">{escape(one.caption)}</p>' if is_captioned else ""
    return (
        f'<div>{caption}<div class="scroll"><table><thead><tr>{heads}</tr></thead>'
        f"<tbody>{rows}</tbody></table></div></div>"
    )


def row(cells: Row, numbers: Sequence[bool], colours: Colours) -> str:
    """A row of a table."""
    parts = []
    for each, number in zip(cells, numbers):
        cell = each if isinstance(each, Cell) else Cell(each)
        said = escape(cell.text)
        if cell.verdict != "none":
            said = f'<span class="{cell.verdict}">{said}</span>'
        if cell.contestant:
            swatch = f'<span class="swatch {colours.of(cell.contestant)}"></span>'
            said = f'<span class="name">{swatch}{said}</span>'
        parts.append(f"<td{NUMBER if number else ''}>{said}</td>")
    return f"<tr>{''.join(parts)}</tr>"
