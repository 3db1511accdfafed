"""Words and numbers of the lab's command lines, as argparse takes types."""

from __future__ import annotations

import argparse
import re
from collections.abc import Callable

from . import state

POLLS = ("spin", "adaptive", "sleep")
QUANTITY = re.compile(r"(\d+(?:\.\d+)?)([kKMG]?)")
FACTORS = {"": 1, "k": 10**3, "K": 10**3, "M": 10**6, "G": 10**9}
SIZE_FACTORS = {"": 1, "k": 2**10, "K": 2**10, "M": 2**20, "G": 2**30}
RATE_MIN, RATE_MAX = 10**5, 10**12
DELAY_MAX_MS = 10_000.0


def whole(least: int, most: int) -> Callable[[str], int]:
    """A whole number within bounds."""

    def parse(text: str) -> int:
        number = int(text)
        if not least <= number <= most:
            raise argparse.ArgumentTypeError(f"{text} is not within {least}..={most}")
        return number

    parse.__name__ = "whole number"
    return parse


def seconds(least: float, most: float) -> Callable[[str], float]:
    """A time within bounds."""

    def parse(text: str) -> float:
        number = float(text)
        if not least <= number <= most:
            raise argparse.ArgumentTypeError(f"{text} is not within {least:g}..={most:g}")
        return number

    parse.__name__ = "number of seconds"
    return parse


milliseconds = seconds(0, DELAY_MAX_MS)


def fraction(text: str) -> float:
    """A probability; all and more are no link."""
    number = float(text)
    if not 0 <= number < 1:
        raise argparse.ArgumentTypeError(f"{text} is not within 0..1")
    return number


def rate(text: str) -> int:
    """Bits per second, with k, M or G for powers of 1000."""
    found = QUANTITY.fullmatch(text)
    if found is None:
        raise argparse.ArgumentTypeError(f"{text!r} is no rate such as 100M")
    number = int(float(found[1]) * FACTORS[found[2]])
    if not RATE_MIN <= number <= RATE_MAX:
        raise argparse.ArgumentTypeError(f"{text} is not within 100k..=1000G")
    return number


def numbers(least: int, most: int) -> Callable[[str], list[int]]:
    """Whole numbers with commas, each within bounds."""
    one = whole(least, most)

    def parse(text: str) -> list[int]:
        return [one(word) for word in text.split(",")]

    parse.__name__ = "list of whole numbers"
    return parse


def sizes(text: str) -> str:
    """Octets with commas, with K, M or G for powers of 1024; as it was given."""
    for word in text.split(","):
        found = QUANTITY.fullmatch(word)
        if found is None or not float(found[1]) * SIZE_FACTORS[found[2]]:
            raise argparse.ArgumentTypeError(f"{word!r} is no size such as 64K")
    return text


def lab_name(text: str) -> str:
    """The name of a lab."""
    if state.NAME.fullmatch(text) is None:
        reason = f"{text!r} is not 1 to 10 lower-case letters and digits, a letter first"
        raise argparse.ArgumentTypeError(reason)
    return text


def add_name(parser: argparse.ArgumentParser) -> None:
    """Which lab a command is about."""
    parser.add_argument("--name", type=lab_name, default="lab", help="the lab's name (lab)")
