"""Numbers as a reader wants them: three significant digits, and a unit that fits. Pure."""

from __future__ import annotations

import datetime
import math

# Shown where there is nothing to be told.
ABSENT = "–"

NS_UNITS = ((1, "ns"), (1e3, "µs"), (1e6, "ms"), (1e9, "s"))
BIT_UNITS = ((1, "b/s"), (1e3, "kb/s"), (1e6, "Mb/s"), (1e9, "Gb/s"), (1e12, "Tb/s"))
OCTET_UNITS = ((1, "B/s"), (1e3, "kB/s"), (1e6, "MB/s"), (1e9, "GB/s"), (1e12, "TB/s"))
SIZE_UNITS = ((1, "B"), (1 << 10, "KiB"), (1 << 20, "MiB"), (1 << 30, "GiB"))


def digits(value: float) -> str:
    """Three significant digits; whole numbers from a thousand on, in groups."""
    size = abs(value)
    if size == 0:
        return "0"
    # What rounds up to the next power of ten has a digit more before its point.
    power = math.floor(math.log10(float(f"{size:.2e}")))
    return f"{value:.2e}" if power < -4 else f"{value:,.{max(2 - power, 0)}f}"


def scaled(value: float, units: tuple[tuple[float, str], ...]) -> str:
    """In the largest unit that leaves at least 1 before the point."""
    chosen = units[0]
    for unit in units:
        # What would be shown as 1,000 of a unit is 1.00 of the next.
        if abs(float(f"{value / unit[0]:.2e}")) >= 1:
            chosen = unit
    return f"{digits(value / chosen[0])} {chosen[1]}"


def duration(ns: float | None) -> str:
    """Nanoseconds."""
    return ABSENT if ns is None else scaled(ns, NS_UNITS)


def seconds(value: float | None) -> str:
    """Seconds."""
    return ABSENT if value is None else duration(value * 1e9)


def bit_rate(bps: float | None) -> str:
    """Bits a second."""
    return ABSENT if bps is None else scaled(bps, BIT_UNITS)


def octet_rate(octets: float | None) -> str:
    """Octets a second, in powers of 1000 as bandwidths have them."""
    return ABSENT if octets is None else scaled(octets, OCTET_UNITS)


def size(octets: int) -> str:
    """Octets of a vector, in powers of 1024 as they are asked for."""
    for scale, name in reversed(SIZE_UNITS):
        if octets >= scale and octets % scale == 0:
            return f"{octets // scale:,} {name}"
    return f"{octets:,} B"


def count(value: float | None) -> str:
    """A whole number, in groups."""
    return ABSENT if value is None else f"{value:,.0f}"


def ratio(value: float | None) -> str:
    """How many times."""
    return ABSENT if value is None else f"{digits(value)} ×"


def share(part: float, whole: float) -> str:
    """A part of a whole, in percent, or parts per million where there is little of it."""
    if not whole:
        return ABSENT
    percent = 100 * part / whole
    if 0 < abs(percent) < 0.01:
        return f"{digits(percent * 1e4)} ppm"
    return f"{digits(percent)} %"


def time(text: str) -> str:
    """A time of RFC 3339, to the minute; as it is where it is none."""
    try:
        at = datetime.datetime.fromisoformat(text)
    except ValueError:
        return text
    return at.astimezone(datetime.timezone.utc).strftime("%Y-%m-%d %H:%M UTC")


def percentile(percent: float) -> str:
    """p99.9, say."""
    return f"p{percent:g}"
