"""The report as Markdown: the same words and tables, without the drawings. Pure."""

from __future__ import annotations

import re
from collections.abc import Sequence

from .blocks import Beside, Block, Cell, Plot, Section, Subheading, Table, Text, Tiles
from .page import CODE, WORDS, Head, left_out

SPACE = re.compile(r"\s+")
SPECIAL = re.compile(r"([\\`*_\[\]<>|#])")


def escape(text: str) -> str:
    """Words that mean nothing but themselves."""
    return SPECIAL.sub(r"\\\1", SPACE.sub(" ", text))


def prose(text: str) -> str:
    """The same of a paragraph, in which commands stand in backticks."""
    parts = CODE.split(text)
    return "".join(f"`{part}`" if at % 2 else escape(part) for at, part in enumerate(parts))


def document(head: Head, sections: Sequence[Section]) -> str:
    """The whole."""
    parts = [f"# {escape(head.title)}", escape(head.about), f"**{escape(head.verdict)}**"]
    parts += [f"- {escape(each)}" for each in head.problems]
    for one in sections:
        if not one.blocks:
            parts.append(prose(left_out(one)))
            continue
        if one.title:
            parts.append(f"## {escape(one.title)}")
        parts += [said for said in map(block, one.blocks) if said]
    parts.append(escape(head.made))
    return "\n\n".join(parts) + "\n"


def block(one: Block) -> str:
    """A part of a section; drawings are left out, as tables beside them tell the same."""
    if isinstance(one, Text):
        return prose(one.text)
    if isinstance(one, Subheading):
        return f"### {escape(one.text)}"
    if isinstance(one, Plot):
        return ""
    if isinstance(one, Tiles):
        return table(
            Table(
                ("what", ">measured", "more", "target", ""),
                [
                    (t.title, t.value, "; ".join(t.lines), t.target, WORDS[t.verdict])
                    for t in one.tiles
                ],
            )
        )
    if isinstance(one, Beside):
        return "\n\n".join(map(table, one.tables))
    return table(one)


def table(one: Table) -> str:
    """A table, its caption above."""
    heads = [escape(each.removeprefix(">")) for each in one.columns]
    marks = ["---:" if each.startswith(">") else "---" for each in one.columns]
    lines = [heads, marks]
    for row in one.rows:
        lines.append([escape(each.text if isinstance(each, Cell) else each) for each in row])
    said = "\n".join(f"| {' | '.join(line)} |" for line in lines)
    return f"{escape(one.caption)}\n\n{said}" if one.caption else said
