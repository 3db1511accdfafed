"""The report's drawings, of what was measured. Pure: each returns SVG."""

from __future__ import annotations

import math
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from . import units
from .measures import Histogram, nearest_rank
from .svg import CHARACTER, WIDTH, Canvas, Linear, Log, Nines, Scale, Series, Words, shortened

# A row of bars, dots or events.
ROW = 18.0
# Points of a line nearer than this to each other say nothing more, in units of the drawing.
NEAR = 0.8
DOTS_MAX = 300
LABEL_MAX = 27
# Beyond so many columns a cell has no room for its number.
NUMBERED_MAX = 10


@dataclass(frozen=True)
class Curve:
    """A histogram to be drawn."""

    series: Series
    histogram: Histogram


@dataclass(frozen=True)
class Bar:
    """A row of a chart of bars, and how it is told."""

    label: str
    series: Series
    value: float
    said: str
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True)
class Strip:
    """Values side by side on a line."""

    label: str
    series: Series
    values: Sequence[float]


@dataclass(frozen=True)
class Moment:
    """An event on the timeline, and how long it took until all was well again."""

    lane: str
    at_s: float
    said: str
    lasted_s: float | None = None


def unique(series: Sequence[Series]) -> list[Series]:
    """Each once, in order."""
    return list(dict.fromkeys(series))


def cumulated(histogram: Histogram) -> list[tuple[float, float]]:
    """Each bucket's value, and which part of all it is not above. The last one is told as if half
    a sample were beyond: 1 has no place on an axis of nines.
    """
    total = histogram["count"]
    passed, found = 0, []
    for value, count in histogram["counts"]:
        passed += count
        found.append((float(value), min(passed / total, 1 - 0.5 / total)))
    return found


def thinned(points: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """Without those that lie upon the one before."""
    kept: list[tuple[float, float]] = []
    for at, (x, y) in enumerate(points):
        is_last = at == len(points) - 1
        if not kept or is_last or abs(x - kept[-1][0]) + abs(y - kept[-1][1]) >= NEAR:
            kept.append((x, y))
    return kept


def percentiles(title: str, curves: Sequence[Curve]) -> str:
    """Durations by percentile, as far into the tail as there are samples."""
    curves = [each for each in curves if each.histogram["count"]]
    canvas = Canvas(title)
    canvas.legend(unique([each.series for each in curves]))
    across = Nines.of(max((each.histogram["count"] for each in curves), default=1))
    values = [value for each in curves for value, _ in each.histogram["counts"]]
    up = Log.around(values, units.duration)
    canvas.axes(across, up, "percentile", "duration")
    for each in curves:
        points = [
            (canvas.x(across.at(q)), canvas.y(up.at(v))) for v, q in cumulated(each.histogram)
        ]
        canvas.path(thinned(points), each.series.style, each.series.name)
    return canvas.drawn()


def distribution(title: str, curves: Sequence[Curve]) -> str:
    """Which part of all is not above a duration."""
    curves = [each for each in curves if each.histogram["count"]]
    canvas = Canvas(title)
    canvas.legend(unique([each.series for each in curves]))
    values = [value for each in curves for value, _ in each.histogram["counts"]]
    across = Log.around(values, units.duration)
    up = Linear(0, 1, lambda value: f"{100 * value:.0f} %")
    canvas.axes(across, up, "duration", "of all")
    for each in curves:
        points = [
            (canvas.x(across.at(v)), canvas.y(up.at(q))) for v, q in cumulated(each.histogram)
        ]
        points.insert(0, (points[0][0], canvas.y(0)))
        canvas.path(thinned(points), each.series.style, each.series.name)
    return canvas.drawn()


def lines(
    title: str,
    curves: Mapping[Series, Sequence[tuple[float, float]]],
    across: Scale,
    up: Scale,
    names: tuple[str, str],
    say: Words,
) -> str:
    """Values by something, with a dot at each."""
    canvas = Canvas(title)
    canvas.legend(list(curves))
    canvas.axes(across, up, *names)
    for series, points in curves.items():
        places = [(canvas.x(across.at(x)), canvas.y(up.at(y))) for x, y in points]
        canvas.path(places, series.style, series.name)
        for (x, y), (_, value) in zip(places, points):
            canvas.dot(x, y, series.style, 2.8, f"{series.name}: {say(value)}")
    return canvas.drawn()


def bars(
    title: str, rows: Sequence[Bar], name: str, words: Words, mark: float | None = None
) -> str:
    """Lying bars, one below the other, with their intervals; `mark` is a value to compare with."""
    series = unique([each.series for each in rows])
    # The rows of one label stand together, which is said once.
    gaps = sum(1 for one, other in zip(rows, rows[1:]) if one.label != other.label)
    left = 10 + CHARACTER * max((min(len(each.label), LABEL_MAX) for each in rows), default=1)
    height = 36 + 16 * (1 + len(series) // 4) + ROW * len(rows) + 8 * gaps + 36
    canvas = Canvas(title, WIDTH, height, left, right=64)
    canvas.legend(series, filled=True)
    most = max((max(each.value, each.high or 0) for each in rows), default=1) or 1
    scale = Linear(0, max(most, mark or 0), words)
    canvas.axis_across(scale, name)
    if mark is not None:
        x = canvas.x(scale.at(mark))
        canvas.line(x, canvas.y(0), x, canvas.top - 4, "mark")
    y, before = canvas.top, ""
    for each in rows:
        if each.label != before:
            y += 8 if before else 0
            canvas.text(left - 6, y + 12, shortened(each.label, LABEL_MAX), "tick", "end")
        before = each.label
        end = canvas.x(scale.at(each.value))
        canvas.bar(
            canvas.x(0),
            y + 2,
            end - canvas.x(0),
            ROW - 5,
            f"fill {each.series.style}",
            f"{each.label}, {each.series.name}: {each.said}",
        )
        if each.low is not None and each.high is not None:
            low, high = canvas.x(scale.at(each.low)), canvas.x(scale.at(each.high))
            canvas.line(low, y + 8.5, high, y + 8.5, "interval")
            end = max(end, high)
        canvas.text(end + 5, y + 12, each.said, "value")
        y += ROW
    return canvas.drawn()


def strips(title: str, rows: Sequence[Strip], words: Words, name: str, extreme: float) -> str:
    """Each value as a dot, with the median as a solid mark and another percentile as a dashed
    one.
    """
    height = 30 + 2 * ROW * len(rows) + 36
    left = 10 + CHARACTER * max((min(len(each.label), LABEL_MAX) for each in rows), default=1)
    canvas = Canvas(title, WIDTH, height, left, right=20)
    canvas.top = 8
    scale = Log.around([value for each in rows for value in each.values], words)
    canvas.axis_across(scale, name)
    # Only how dots are spread across their line is left to chance.
    dice = random.Random(1)
    for number, each in enumerate(rows):
        middle = canvas.top + 14 + 2 * ROW * number + ROW / 2
        canvas.text(left - 6, middle + 4, shortened(each.label, LABEL_MAX), "tick", "end")
        for value in sampled(each.values, dice):
            y = middle + dice.uniform(-10, 10)
            canvas.dot(canvas.x(scale.at(value)), y, each.series.style, 1.8, words(value))
        for percent, half in ((50, 14), (extreme, 9)):
            at = nearest_rank(each.values, percent)
            if at is not None:
                x = canvas.x(scale.at(at))
                canvas.line(
                    x, middle - half, x, middle + half, "median" if percent == 50 else "extreme"
                )
    return canvas.drawn()


def sampled(values: Sequence[float], dice: random.Random) -> list[float]:
    """Not too many of them; the ten at both ends are always there."""
    ordered = sorted(values)
    if len(ordered) <= DOTS_MAX:
        return ordered
    ends = ordered[:10] + ordered[-10:]
    return dice.sample(ordered[10:-10], DOTS_MAX - len(ends)) + ends


def heatmap(
    title: str,
    rows: Sequence[str],
    columns: Sequence[str],
    cells: Mapping[tuple[str, str], float],
    words: Words,
    names: tuple[str, str],
    most: float,
) -> str:
    """A value for each row and column, the darker the more; where there is none, nothing."""
    left = 10 + CHARACTER * max((min(len(row), LABEL_MAX) for row in rows), default=1)
    side = (WIDTH - left - 10) / max(len(columns), 1)
    # Few rows are tall enough for their names, however many columns there are.
    tall = min(max(side, ROW if len(rows) <= NUMBERED_MAX else 0.0), 34.0)
    gap = 1.0 if side > 8 else 0.0
    # As many names as there is room for.
    widest = CHARACTER * (max((len(column) for column in columns), default=1) + 1)
    every = max(math.ceil(widest / side), 1)
    canvas = Canvas(title, WIDTH, 44 + tall * len(rows), left, 10, 4)
    canvas.text(4, 12, f"{names[0]} ↓   {names[1]} →", "axis")
    for at, column in enumerate(columns):
        if at % every == 0:
            canvas.text(left + side * (at + 0.5), 34, column, "tick", "middle")
    for down, row in enumerate(rows):
        y = 40 + tall * down
        if tall > 9 or down % 4 == 0:
            label = shortened(row, LABEL_MAX)
            canvas.text(left - 6, y + tall / 2 + 4, label, "tick", "end")
        for at, column in enumerate(columns):
            value = cells.get((row, column))
            if value is None:
                continue
            shade = min(value / most, 1.0) if most else 0.0
            canvas.bar(
                left + side * at + gap / 2,
                y + gap / 2,
                side - gap,
                tall - gap,
                "heat",
                f"{row}, {column}: {words(value)}",
                0.04 + 0.96 * shade,
            )
            if len(columns) <= NUMBERED_MAX:
                style = "oncell strong" if shade > 0.62 else "oncell"
                canvas.text(
                    left + side * (at + 0.5),
                    y + tall / 2 + 4,
                    words(value).split(" ")[0],
                    style,
                    "middle",
                )
    return canvas.drawn()


def timeline(title: str, moments: Sequence[Moment]) -> str:
    """What happened when, a line for each sort; bars last until all had recovered."""
    lanes = list(dict.fromkeys(each.lane for each in moments))
    left = 10 + CHARACTER * max((min(len(lane), LABEL_MAX) for lane in lanes), default=1)
    width = 2 * WIDTH
    canvas = Canvas(title, width, 20 + 22 * len(lanes) + 36, left, 24)
    canvas.top = 8
    last = max((each.at_s + (each.lasted_s or 0) for each in moments), default=1)
    scale = Linear(0, last or 1, units.seconds)
    canvas.axis_across(scale, "since the start")
    for number, lane in enumerate(lanes):
        y = canvas.top + 8 + 22 * number
        canvas.text(left - 6, y + 10, shortened(lane, LABEL_MAX), "tick", "end")
        canvas.line(canvas.x(0), y + 6, canvas.x(1), y + 6, "grid")
        for each in moments:
            if each.lane != lane:
                continue
            x = canvas.x(scale.at(each.at_s))
            if each.lasted_s is not None:
                end = canvas.x(scale.at(each.at_s + each.lasted_s))
                canvas.bar(x, y, end - x, 12, "fill fault", each.said)
            canvas.dot(x, y + 6, "event", 3.4, each.said)
    return canvas.drawn()
