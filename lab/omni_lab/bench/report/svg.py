"""Drawing in SVG: scales, axes, legends. Colours are classes, which the page's style sheet fills in
for light and dark. Pure.
"""

from __future__ import annotations

import html
import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

# Of a character in the font of the drawings, on average, in units of the drawing.
CHARACTER = 5.9
FONT = 11
WIDTH, HEIGHT = 480, 300
Tick = tuple[float, str]
# How values are told.
Words = Callable[[float], str]


class Scale(Protocol):
    """From values to 0 to 1."""

    def at(self, value: float) -> float: ...

    def ticks(self) -> Sequence[Tick]: ...


@dataclass(frozen=True)
class Linear:
    """From 0 or another beginning on."""

    low: float
    high: float
    words: Words

    def at(self, value: float) -> float:
        """Where a value is; beyond the ends, at them."""
        return min(max((value - self.low) / ((self.high - self.low) or 1), 0.0), 1.0)

    def ticks(self) -> list[Tick]:
        """Some round values."""
        step = round_step((self.high - self.low) / 5)
        first = math.ceil(self.low / step - 1e-9)
        last = math.floor(self.high / step + 1e-9)
        return [(n * step, self.words(n * step)) for n in range(first, last + 1)]


def round_step(least: float) -> float:
    """The least of 1, 2 or 5 times a power of ten that is not below."""
    if least <= 0:
        return 1.0
    power: float = 10.0 ** math.floor(math.log10(least))
    return next(power * n for n in (1, 2, 5, 10) if power * n >= least * (1 - 1e-9))


@dataclass(frozen=True)
class Log:
    """Powers of ten, or of two where that is what values are."""

    low: float
    high: float
    words: Words
    base: int = 10

    @staticmethod
    def around(values: Sequence[float], words: Words, base: int = 10) -> Log:
        """So that all positive values are within, with some room. At least a factor of three."""
        positive = [value for value in values if value > 0] or [1.0]
        low, high = min(positive) / 1.15, max(positive) * 1.15
        if high < 3 * low:
            middle = math.sqrt(low * high)
            low, high = middle / math.sqrt(3), middle * math.sqrt(3)
        return Log(low, high, words, base)

    def at(self, value: float) -> float:
        """Where a value is; beyond the ends, at them."""
        if value <= self.low:
            return 0.0
        return min(math.log(value / self.low) / math.log(self.high / self.low), 1.0)

    def ticks(self) -> list[Tick]:
        """Powers of the base; of ten also their double and five-fold, where few are within."""
        first = math.floor(math.log(self.low, self.base)) - 1
        last = math.ceil(math.log(self.high, self.base)) + 1
        powers = [float(self.base) ** n for n in range(first, last)]
        within = [each for each in powers if self.low <= each <= self.high]
        if self.base == 10 and len(within) < 4:
            factors = (1, 2, 5) if len(within) < 3 else (1, 3)
            powers = [each * factor for each in powers for factor in factors]
            within = [each for each in powers if self.low <= each <= self.high]
        every = max(math.ceil(len(within) / 8), 1)
        return [(each, self.words(each)) for each in within[::every]]


@dataclass(frozen=True)
class Nines:
    """Quantiles by how rare it is what lies beyond: as far from 90 % to 99 % as on to 99.9 %."""

    most: float

    @staticmethod
    def of(count: int) -> Nines:
        """As far as so many samples tell."""
        return Nines(max(math.log10(2 * max(count, 1)), 2.0))

    def at(self, value: float) -> float:
        """Where a quantile is."""
        return min(-math.log10(max(1 - value, 1e-12)) / self.most, 1.0)

    def ticks(self) -> list[Tick]:
        """Each nine, and the median."""
        found = [(0.5, "50 %"), (0.9, "90 %")]
        for nines in range(2, math.floor(self.most) + 1):
            found.append((1 - 10.0**-nines, f"99{'.' if nines > 2 else ''}{'9' * (nines - 2)} %"))
        return found


def escape(text: str) -> str:
    """Text within an element or an attribute."""
    return html.escape(text, quote=True)


@dataclass(frozen=True)
class Series:
    """Something drawn, its name in the legend and its class."""

    name: str
    style: str


class Canvas:
    """A drawing. The plot lies between its margins; x and y in it go from 0 to 1, y upwards."""

    def __init__(
        self,
        title: str,
        width: float = WIDTH,
        height: float = HEIGHT,
        left: float = 56,
        right: float = 16,
        bottom: float = 36,
    ) -> None:
        self.title = title
        self.width, self.height = width, height
        self.left, self.right, self.bottom = left, right, bottom
        self.top = 18.0
        self.parts: list[str] = []

    def x(self, part: float) -> float:
        """A place between the left and the right margin."""
        return self.left + part * (self.width - self.left - self.right)

    def y(self, part: float) -> float:
        """A place between the bottom and the top."""
        return self.height - self.bottom - part * (self.height - self.top - self.bottom)

    def text(self, x: float, y: float, said: str, style: str = "", anchor: str = "start") -> None:
        """Words at a place."""
        classes = f' class="{escape(style)}"' if style else ""
        self.parts.append(
            f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}"{classes}>{escape(said)}</text>'
        )

    def line(self, x1: float, y1: float, x2: float, y2: float, style: str) -> None:
        """A straight line."""
        self.parts.append(
            f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" class="{style}"/>'
        )

    def path(self, points: Sequence[tuple[float, float]], style: str, title: str = "") -> None:
        """A line through points."""
        if points:
            way = "L".join(f"{x:.1f} {y:.1f}" for x, y in points)
            self.parts.append(f'<path d="M{way}" class="line {style}">{titled(title)}</path>')

    def bar(
        self,
        x: float,
        y: float,
        width: float,
        height: float,
        style: str,
        title: str,
        opacity: float | None = None,
    ) -> None:
        """A rectangle."""
        shade = "" if opacity is None else f' fill-opacity="{opacity:.3f}"'
        self.parts.append(
            f'<rect x="{x:.1f}" y="{y:.1f}" width="{max(width, 0.8):.1f}" height="{height:.1f}" '
            f'class="{style}"{shade}>{titled(title)}</rect>'
        )

    def dot(self, x: float, y: float, style: str, radius: float = 2.2, title: str = "") -> None:
        """A point."""
        self.parts.append(
            f'<circle cx="{x:.1f}" cy="{y:.1f}" r="{radius:g}" class="dot {style}">'
            f"{titled(title)}</circle>"
        )

    def legend(self, series: Sequence[Series], filled: bool = False) -> None:
        """Names and their colours, above the plot, in as many lines as they need."""
        x, y = 4.0, 12.0
        for each in series:
            needed = 26 + CHARACTER * len(each.name)
            if x > 4 and x + needed > self.width:
                x, y = 4.0, y + 16
            if filled:
                self.bar(x + 3, y - 8.5, 10, 10, f"fill {each.style}", "")
            else:
                self.line(x, y - 3.5, x + 16, y - 3.5, f"line {each.style}")
            self.text(x + 20, y, each.name, f"key {each.style}")
            x += needed + 12
        self.top = y + 30

    def axes(self, across: Scale, up: Scale, across_name: str, up_name: str) -> None:
        """Both axes with what they are, and lines to read by."""
        self.axis_up(up, up_name)
        self.axis_across(across, across_name)

    def axis_up(self, scale: Scale, name: str) -> None:
        """What is read from the left."""
        self.text(4, self.top - 10, name, "axis")
        for value, words in scale.ticks():
            y = self.y(scale.at(value))
            self.line(self.x(0), y, self.x(1), y, "grid")
            self.text(self.left - 5, y + 3.5, rounded(words, value), "tick", "end")

    def axis_across(self, scale: Scale, name: str) -> None:
        """What is read from below. Words that would touch are left out."""
        free = -math.inf
        for value, exact in scale.ticks():
            words = rounded(exact, value)
            x = self.x(scale.at(value))
            self.line(x, self.y(0), x, self.y(1), "grid")
            half = CHARACTER * len(words) / 2
            if x - half >= free:
                self.text(min(x, self.width - half), self.y(0) + 14, words, "tick", "middle")
                free = x + half + 4
        self.line(self.x(0), self.y(0), self.x(1), self.y(0), "base")
        self.text(self.x(1), self.height - 6, name, "axis", "end")

    def drawn(self) -> str:
        """The whole."""
        body = "".join(self.parts)
        return (
            f'<svg viewBox="0 0 {self.width:g} {self.height:g}" role="img" '
            f'aria-label="{escape(self.title)}">{body}</svg>'
        )


def titled(text: str) -> str:
    """What is shown of an element when the pointer rests on it."""
    return f"<title>{escape(text)}</title>" if text else ""


def rounded(words: str, value: float) -> str:
    """A round number without the digits that say nothing, 2 ms for 2.00 ms; nothing has no unit."""
    if value == 0:
        return "0"
    return re.sub(r"(\.\d*?)0+(?!\d)", lambda found: found[1].rstrip("."), words)


def shortened(text: str, most: int) -> str:
    """At most so many characters."""
    return text if len(text) <= most else f"{text[: most - 1]}…"
