"""The book has every document, and links lead to headings that are there."""

import re
import unittest
from pathlib import Path

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
            self.assertTrue(tried or "*Not tried" in text, name)


if __name__ == "__main__":
    unittest.main()
