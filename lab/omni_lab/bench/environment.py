"""The virtual environment of subcommands that need more than Python itself.

It is made at the first need, from requirements.txt, which names every package by its hash.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import subprocess
import sys
import venv
from collections.abc import Sequence
from pathlib import Path

from .. import commands
from ..commands import CommandError

LAB = Path(__file__).resolve().parents[2]
REQUIREMENTS = LAB / "requirements.txt"
FOLDER = LAB.parent / "target" / "lab-venv"
PYTHON = FOLDER / "bin" / "python"
# In the environment: what it was made from. Written last.
STAMP = FOLDER / "made-from"
INSTALL_SECONDS = 600.0


def wanted() -> str:
    """What the environment has to be made from, and for which Python."""
    digest = hashlib.sha256(REQUIREMENTS.read_bytes()).hexdigest()
    return f"{digest} {sys.version_info.major}.{sys.version_info.minor}\n"


def is_inside() -> bool:
    """Whether this is the environment's Python."""
    return Path(sys.prefix).resolve() == FOLDER.resolve()


def is_made() -> bool:
    """Whether the environment is there, whole, and of these requirements."""
    return PYTHON.exists() and STAMP.exists() and STAMP.read_text() == wanted()


def make() -> None:
    """Makes the environment, if nobody did meanwhile. Raises CommandError when that fails."""
    FOLDER.parent.mkdir(parents=True, exist_ok=True)
    with (FOLDER.parent / "lab-venv.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if is_made():
            return
        print(f"lab: making {FOLDER} from {REQUIREMENTS.name}, once", file=sys.stderr, flush=True)
        shutil.rmtree(FOLDER, ignore_errors=True)
        try:
            venv.create(FOLDER, with_pip=True)
        except (OSError, ImportError, subprocess.CalledProcessError) as error:
            reason = (
                f"{FOLDER}: {error}: is python3-venv installed? scripts/install-deps.sh does it"
            )
            raise CommandError(reason) from error
        install = [str(PYTHON), "-m", "pip", "install", "--quiet", "--require-hashes"]
        install += ["--only-binary=:all:", "--disable-pip-version-check", "-r", str(REQUIREMENTS)]
        commands.run(install, timeout=INSTALL_SECONDS)
        STAMP.write_text(wanted())


def enter(program: str, words: Sequence[str]) -> None:
    """Goes on in the environment with the same command line; returns when it is there already."""
    if is_inside():
        return
    if not is_made():
        make()
    os.execv(PYTHON, [str(PYTHON), program, *words])
