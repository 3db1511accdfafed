"""The book has every document, and links lead to headings that are there."""

from __future__ import annotations

import re
import tempfile
import unittest
from pathlib import Path, PurePosixPath

from omni_lab import pages
from omni_lab.pages import PagesError

ROOT = Path(__file__).resolve().parents[2]
LINK = re.compile(r"\]\(([^)\s]+)\)")
HEADING = re.compile(r"^#{1,6} (.+)$", re.MULTILINE)
FENCED = re.compile(r"^```.*?^```$", re.MULTILINE | re.DOTALL)


def anchor(heading: str) -> str:
    """What a heading is called in links, as GitHub and mdBook do it."""
    text = re.sub(r"[^\w\- ]", "", heading.replace("`", "").lower())
    return text.replace(" ", "-")


def prose(document: Path) -> str:
    """A document without its blocks of code."""
    return FENCED.sub("", document.read_text())


def documents() -> list[Path]:
    folders = (ROOT, ROOT / "docs", ROOT / "config", ROOT / "lab")
    return [path for folder in folders for path in sorted(folder.glob("*.md"))]


class Documents(unittest.TestCase):
    def test_the_book_has_every_document_once(self) -> None:
        listed = LINK.findall((ROOT / "docs/SUMMARY.md").read_text())
        there = {path.name for path in (ROOT / "docs").glob("*.md")} - {"SUMMARY.md"}
        there |= {f"../{path.name}" for path in ROOT.glob("*.md")}
        there |= {f"../config/{path.name}" for path in (ROOT / "config").glob("*.md")}
        self.assertEqual(sorted(listed), sorted(there))

    def test_links_lead_to_files_and_headings(self) -> None:
        broken = []
        for document in documents():
            for link in LINK.findall(prose(document)):
                if "://" in link:
                    continue
                name, _, place = link.partition("#")
                target = document.parent / name if name else document
                if not target.exists():
                    broken.append(f"{document.name}: {link}")
                elif place and target.suffix == ".md":
                    if place not in {anchor(each) for each in HEADING.findall(prose(target))}:
                        broken.append(f"{document.name}: {link}")
        self.assertEqual(broken, [])

    def test_quick_start_and_recipes_keep_their_promise_of_being_carried_out(self) -> None:
        page = (ROOT / "docs/recipes.md").read_text()
        for section in page.split("\n## ")[1:]:
            name, _, text = section.partition("\n")
            tried = "*Tried" in text
            self.assertEqual(tried, "```sh alpha" in text, name)
            self.assertTrue(tried or re.search(r"\*[Nn]ot tried", text), name)


def write(folder: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return folder


class Pages(unittest.TestCase):
    """What lab/book.py does before mdBook, and after."""

    def setUp(self) -> None:
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = Path(folder.name)

    def test_the_documents_make_a_book(self) -> None:
        files = pages.gather(ROOT)
        self.assertIn(PurePosixPath("index.md"), files)
        self.assertIn(PurePosixPath("docs/quick-start.md"), files)
        self.assertIn(PurePosixPath("config/nucleus.yaml"), files, "it is linked to")

    def test_links_to_the_readme_lead_to_the_first_page(self) -> None:
        root = write(
            self.folder,
            {
                "README.md": "[start](docs/start.md) [terms](LICENSE) [all](docs/SUMMARY.md)",
                "LICENSE": "terms",
                "docs/SUMMARY.md": "[One](../README.md)\n- [Two](start.md)",
                "docs/start.md": "[back](../README.md#a) [net](https://example.org/README.md)",
            },
        )
        expected = {
            "SUMMARY.md": "[One](index.md)\n- [Two](docs/start.md)",
            "index.md": "[start](docs/start.md) [terms](LICENSE) [all](index.md)",
            "LICENSE": "terms",
            "docs/start.md": "[back](../index.md#a) [net](https://example.org/README.md)",
        }
        found = {str(path): octets.decode() for path, octets in pages.gather(root).items()}
        self.assertEqual(found, expected)

    def test_pictures_are_taken_along_as_they_are(self) -> None:
        files = {"README.md": "![a screen](a.png)", "docs/SUMMARY.md": "[One](../README.md)"}
        root = write(self.folder, files)
        (root / "a.png").write_bytes(b"\x89PNG")
        self.assertEqual(pages.gather(root)[PurePosixPath("a.png")], b"\x89PNG")

    def test_a_link_out_of_the_book_is_an_error(self) -> None:
        for link in ("docs", "other.md", "missing.yaml", "../outside.yaml"):
            files = {"README.md": f"[x]({link})", "docs/SUMMARY.md": "[One](../README.md)"}
            root = write(self.folder, files | {"other.md": "not in the book"})
            with self.subTest(link), self.assertRaises(PagesError):
                pages.gather(root)

    def test_broken_links_of_a_built_book_are_found(self) -> None:
        write(
            self.folder,
            {
                "index.html": '<h1 id="a"></h1><a href="b/two.html#b">1</a><a href="#a">2</a>'
                '<a href="b/two.html#c">3</a><a href="b">4</a><img src="none.png">'
                '<a href="https://example.org/none">5</a>',
                "b/two.html": '<a name="b"></a><a href="../index.html?x=1#a%20b">6</a>',
                "print.html": '<a href="none.html">7</a>',
            },
        )
        self.assertEqual(
            pages.broken(self.folder),
            [
                "b/two.html: ../index.html?x=1#a%20b",
                "index.html: b/two.html#c",
                "index.html: b",
                "index.html: none.png",
            ],
        )


if __name__ == "__main__":
    unittest.main()
