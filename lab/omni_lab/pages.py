"""The documents as pages of a book: what is copied where, and whether what was built is whole.

mdBook takes the pages of one folder, and a page README.md would be called index.html while links
still lead to README.html. So the documents are copied with their folders, the README under the name
of its page, and with them the other files that they link to.
"""

from __future__ import annotations

import re
from html.parser import HTMLParser
from pathlib import Path, PurePosixPath
from urllib.parse import unquote, urlsplit

SUMMARY = PurePosixPath("docs/SUMMARY.md")
README = "README.md"
# What the README is called in the book: its first page.
FIRST = "index.md"
FENCED = re.compile(r"^```.*?^```$", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"(\]\()([^)\s]+)(\))")
# The whole book on one page, where all anchors of all pages are, and what is for no reader.
SKIPPED = ("print.html", "404.html", "toc.html")


class PagesError(Exception):
    """The documents do not make a book."""


def links(text: str) -> list[str]:
    """What the links of a document lead to within the repository, without anchors."""
    found = (match[2].partition("#")[0] for match in LINK.finditer(FENCED.sub("", text)))
    return [each for each in found if each and "://" not in each and "mailto:" not in each]


def target(document: PurePosixPath, link: str) -> PurePosixPath:
    """The file that a link of a document leads to, from the repository's root."""
    parts: list[str] = []
    for part in (*document.parent.parts, *PurePosixPath(link).parts):
        if part != "..":
            parts.append(part)
        elif parts:
            parts.pop()
        else:
            raise PagesError(f"{document}: {link} leads out of the repository")
    return PurePosixPath(*parts)


def summary(text: str) -> str:
    """docs/SUMMARY.md as the pages' own, which is one folder higher."""

    def moved(match: re.Match[str]) -> str:
        path = target(SUMMARY, match[2])
        return f"{match[1]}{FIRST if str(path) == README else path}{match[3]}"

    return LINK.sub(moved, text)


def page(text: str) -> str:
    """A document with its links to the README, and to the list of all, led to the first page."""

    def led(match: re.Match[str]) -> str:
        path, mark, anchor = match[2].partition("#")
        name = PurePosixPath(path).name
        if "://" not in path and name == README:
            path = path.removesuffix(README) + FIRST
        elif "://" not in path and name == SUMMARY.name:
            path = path.removesuffix(str(SUMMARY)) + FIRST
        return f"{match[1]}{path}{mark}{anchor}{match[3]}"

    return LINK.sub(led, text)


def gather(root: Path) -> dict[PurePosixPath, bytes]:
    """All files of the book, by their place in it: pages, and what they link to."""
    listed = [target(SUMMARY, each) for each in links((root / SUMMARY).read_text())]
    files = {PurePosixPath("SUMMARY.md"): summary((root / SUMMARY).read_text()).encode()}
    for document in listed:
        text = (root / document).read_text()
        place = PurePosixPath(FIRST) if str(document) == README else document
        files[place] = page(text).encode()
        for link in links(text):
            other = target(document, link)
            if other in listed or other == SUMMARY:
                continue
            if not (root / other).is_file() or other.suffix == ".md":
                raise PagesError(f"{document}: {link} leads to what is not in the book")
            files[other] = (root / other).read_bytes()
    return files


class Page(HTMLParser):
    """What a page has: places that can be linked to, and links."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.places: set[str] = set()
        self.links: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Called for each tag that opens."""
        for name, value in attrs:
            if value is None:
                continue
            if name == "id" or (name == "name" and tag == "a"):
                self.places.add(value)
            elif name in ("href", "src"):
                self.links.append(value)


def broken(folder: Path) -> list[str]:
    """Links of a built book that lead nowhere: to no file, or to no place in a page."""
    read = {path: Page(path.read_text()) for path in sorted(folder.rglob("*.html"))}
    return [
        f"{path.relative_to(folder)}: {link}"
        for path, page in read.items()
        if path.name not in SKIPPED
        for link in dict.fromkeys(page.links)
        if leads_nowhere(path, link, read)
    ]


def leads_nowhere(path: Path, link: str, pages: dict[Path, Page]) -> bool:
    """Whether a link of a page leads to nothing of the book."""
    parts = urlsplit(link)
    if parts.scheme or parts.netloc:
        return False
    there = path if not parts.path else (path.parent / unquote(parts.path)).resolve()
    if not there.is_file():
        return True
    place = unquote(parts.fragment)
    return bool(place) and there in pages and place not in pages[there].places
