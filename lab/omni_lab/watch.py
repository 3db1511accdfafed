"""`omni nucleus watch`, written down from its beginning, with the time of each line."""

from __future__ import annotations

import subprocess
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import IO, Any, cast

from . import owners
from .owners import History


class Watch:
    """What a Nucleus tells for as long as it lives. `close` ends it."""

    def __init__(self, command: Sequence[str], copy: Path) -> None:
        """`copy` is where the lines are kept."""
        self.changes: list[tuple[float, dict[str, Any]]] = []
        # A lock for the list, and word of each new entry.
        self.news = threading.Condition()
        self.copy = copy.open("a")
        self.process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            start_new_session=True,
        )
        self.lines = cast(IO[str], self.process.stdout)
        self.thread = threading.Thread(target=self.read, name="watch", daemon=True)
        self.thread.start()

    def read(self) -> None:
        """The thread: ends with the program."""
        for line in self.lines:
            now = time.monotonic()
            self.copy.write(line)
            change = owners.parse(line)
            if change is not None:
                with self.news:
                    self.changes.append((now, change))
                    self.news.notify_all()

    def wait_for(
        self, wanted: Callable[[dict[str, Any]], bool], since: int, seconds: float
    ) -> float | None:
        """When the first change from the `since`-th on was told that is wanted; None when it is
        not for so long.
        """
        deadline = time.monotonic() + seconds
        at = since
        with self.news:
            while True:
                for told, change in self.changes[at:]:
                    if wanted(change):
                        return told
                at = len(self.changes)
                left = deadline - time.monotonic()
                if left <= 0:
                    return None
                self.news.wait(left)

    def __len__(self) -> int:
        with self.news:
            return len(self.changes)

    def history(self) -> History:
        """What it told of addresses."""
        with self.news:
            found = [owners.holding(change) for _, change in self.changes]
        return [each for each in found if each is not None]

    @property
    def is_alive(self) -> bool:
        """Whether it still listens."""
        return self.process.poll() is None

    def close(self) -> None:
        """Ends it."""
        if self.process.poll() is None:
            self.process.terminate()
        self.process.wait()
        self.thread.join()
        self.lines.close()
        self.copy.close()
