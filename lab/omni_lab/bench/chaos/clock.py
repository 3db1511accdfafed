"""The machine's wall clock: made to jump, and set right again by the monotonic clock."""

from __future__ import annotations

import time
from collections.abc import Callable


def set_clock(moment: float) -> None:
    """Sets the wall clock, in seconds since 1970."""
    time.clock_settime(time.CLOCK_REALTIME, moment)


class WallClock:
    """What the wall clock would say if nobody had touched it."""

    def __init__(
        self,
        wall: Callable[[], float] = time.time,
        monotonic: Callable[[], float] = time.monotonic,
        setter: Callable[[float], None] = set_clock,
    ) -> None:
        self.monotonic, self.setter = monotonic, setter
        self.base = wall() - monotonic()
        self.is_wrong = False

    def right(self) -> float:
        """The right time."""
        return self.base + self.monotonic()

    def jump(self, seconds: float) -> None:
        """Sets it that much off the right time."""
        # Before it is, as an interruption may come at any point.
        self.is_wrong = True
        self.setter(self.right() + seconds)

    def restore(self) -> None:
        """Sets it right, if it is not."""
        if self.is_wrong:
            self.setter(self.right())
            self.is_wrong = False
