"""Being told to stop: the first signal ends a lab, and nothing cuts its clean-up short."""

from __future__ import annotations

import contextlib
import signal
from collections.abc import Iterator
from types import FrameType

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Interrupted(Exception):
    """A signal asked for the end."""


def catch_signals() -> None:
    """From here on the first signal raises Interrupted."""
    for each in SIGNALS:
        signal.signal(each, stop_once)


def ignore_signals() -> None:
    """Lets nothing but SIGKILL end the clean-up."""
    for each in SIGNALS:
        signal.signal(each, signal.SIG_IGN)


def stop_once(number: int, _frame: FrameType | None) -> None:
    """The first signal ends the lab; more of them must not cut its clean-up short."""
    ignore_signals()
    raise Interrupted(signal.Signals(number).name)


@contextlib.contextmanager
def undoing() -> Iterator[contextlib.ExitStack]:
    """A stack of what is to be undone, which no signal cuts short. Signals are caught before and
    afterwards; one that comes while things are undone is not noticed.
    """
    with contextlib.ExitStack() as stack:
        catch_signals()
        try:
            yield stack
        finally:
            ignore_signals()
    catch_signals()
