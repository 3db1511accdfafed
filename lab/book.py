#!/usr/bin/env python3
"""The documents as a book, by mdBook: gathers the pages, builds them, and looks at every link.

Pages go to target/book-pages, the book to target/book, where index.html is its first page. Ends
with exit status 1 where mdBook fails, where a link leads to nothing, be it a page, a heading, a
picture or a style, or where a chapter of docs/SUMMARY.md has no page.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path, PurePosixPath

from omni_lab import pages
from omni_lab.pages import PagesError

REPOSITORY = Path(__file__).resolve().parent.parent
PAGES = REPOSITORY / "target" / "book-pages"
BOOK = REPOSITORY / "target" / "book"
BUILD_SECONDS = 120


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--mdbook", default="mdbook", metavar="PROGRAM", help="mdBook's program")
    return parser.parse_args()


def main() -> int:
    """Exit status 0 when the book is whole."""
    options = parse_arguments()
    try:
        files = pages.gather(REPOSITORY)
        write(files)
        subprocess.run(
            [options.mdbook, "build", str(REPOSITORY)], check=True, timeout=BUILD_SECONDS
        )
    except (OSError, PagesError, subprocess.SubprocessError) as error:
        print(f"book: {error}", file=sys.stderr)
        return 1
    chapters = [BOOK / place.with_suffix(".html") for place in files if place.suffix == ".md"]
    missing = [path for path in chapters if path.stem != "SUMMARY" and not path.exists()]
    broken = [f"{path}: was not made" for path in missing] + pages.broken(BOOK)
    for line in broken:
        print(f"broken: {line}")
    print(f"book: {len(chapters) - 1} chapters, {len(broken)} broken links: {BOOK}/index.html")
    return 1 if broken else 0


def write(files: Mapping[PurePosixPath, bytes]) -> None:
    """Puts the pages into their folder, and nothing else."""
    for folder in (PAGES, BOOK):
        shutil.rmtree(folder, ignore_errors=True)
    for place, octets in files.items():
        path = PAGES / place
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(octets)


if __name__ == "__main__":
    sys.exit(main())
