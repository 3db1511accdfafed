"""Command lines of the forwarders that impair links: made worse, and as they were. Pure."""

from __future__ import annotations

from collections.abc import Sequence

# What a burst changes. `lab up` sets the first of them only.
OPTIONS = ("--loss", "--duplicate", "--reorder")


def without(words: Sequence[str]) -> list[str]:
    """A command line without what a burst changes."""
    found: list[str] = []
    skip = False
    for word in words:
        if not skip and word not in OPTIONS:
            found.append(word)
        # Each has a value behind it.
        skip = not skip and word in OPTIONS
    return found


def worse(words: Sequence[str], shares: Sequence[float]) -> list[str]:
    """One that loses, doubles and lets overtake these shares of frames."""
    more = [word for option, share in zip(OPTIONS, shares) for word in (option, f"{share:g}")]
    return [*without(words), *more]


def usual(words: Sequence[str], loss: float) -> list[str]:
    """One as `lab up` made it, of a lab whose links lose that share."""
    return [*without(words), OPTIONS[0], f"{loss:g}"]
