"""Actions that a signal must not cut in two: what they begin is healed only if it is known."""

from __future__ import annotations

import contextlib
import signal
from collections.abc import Iterator
from types import FrameType

from ...interrupt import SIGNALS, stop_once


@contextlib.contextmanager
def shielded() -> Iterator[None]:
    """A signal that comes meanwhile asks for the end when the action is over."""
    came: list[int] = []

    def note(number: int, _frame: FrameType | None) -> None:
        came.append(number)

    before = {each: signal.signal(each, note) for each in SIGNALS}
    try:
        yield
    finally:
        for each, handler in before.items():
            signal.signal(each, handler)
        if came and before[signal.Signals(came[0])] is not signal.SIG_IGN:
            stop_once(came[0], None)
