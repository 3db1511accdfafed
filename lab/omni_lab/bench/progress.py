"""How far a long command is: a bar on a terminal, plain lines elsewhere."""

from __future__ import annotations

import sys
import time

WIDTH = 30
PLAIN_SECONDS = 5.0


class Progress:
    """One step after the other, each with a number of parts that get done."""

    def __init__(self) -> None:
        self.began = time.monotonic()
        self.is_terminal = sys.stderr.isatty()
        self.title = ""
        self.told_at = 0.0

    @property
    def seconds(self) -> float:
        """Since the beginning."""
        return time.monotonic() - self.began

    def step(self, title: str) -> None:
        """Begins a step."""
        self.close()
        self.title, self.told_at = title, time.monotonic()
        if self.is_terminal:
            self.draw("")
        else:
            print(f"{self.seconds:6.1f} s  {title}", file=sys.stderr, flush=True)

    def done(self, count: int, total: int) -> None:
        """How much of the step is done."""
        if self.is_terminal:
            self.draw(f" {bar(count, total)} {count}/{total}")
        elif time.monotonic() - self.told_at >= PLAIN_SECONDS:
            self.told_at = time.monotonic()
            line = f"{self.seconds:6.1f} s  {self.title}: {count} of {total}"
            print(line, file=sys.stderr, flush=True)

    def draw(self, text: str) -> None:
        """Draws the line of a terminal anew."""
        print(
            f"\r\x1b[K{self.seconds:6.1f} s  {self.title}{text}",
            end="",
            file=sys.stderr,
            flush=True,
        )

    def close(self) -> None:
        """Leaves a terminal's line to others."""
        if self.is_terminal and self.title:
            print(file=sys.stderr, flush=True)
        self.title = ""


def bar(count: int, total: int) -> str:
    """As much of a bar as is done."""
    full = WIDTH * count // total if total else WIDTH
    return "[" + "#" * full + "." * (WIDTH - full) + "]"
