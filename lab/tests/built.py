"""The programs that tests start, and whether they can be started here."""

import os
from pathlib import Path

# Where they are: what was built last for use, unless somebody says otherwise.
PROGRAMS = Path(
    os.environ.get("OMNI_PROGRAMS", Path(__file__).resolve().parents[2] / "target" / "release")
)
ALL = ("omni-engine", "omni", "omni-nucleus")


def obstacle(*names: str) -> str | None:
    """Why these programs, by default all, cannot be tried here."""
    if os.geteuid() != 0:
        return "needs root"
    missing = [name for name in names or ALL if not os.access(PROGRAMS / name, os.X_OK)]
    return f"{missing[0]} is not built" if missing else None
