"""The units in `packaging/systemd`, without systemd: what they allow, and a sandbox like it.

systemd need not run; `systemd-analyze` knows the groups of system calls. The sandbox is alike in
its user, capabilities, files and `/proc`. Filters are compared with what a program did, by a trace.
"""

from __future__ import annotations

import re
import shlex
import subprocess
from collections.abc import Sequence
from pathlib import Path

UNITS = Path(__file__).resolve().parents[2] / "packaging" / "systemd"
ANALYZE_SECONDS = 20.0
# Not what comes after an unfinished call: 4242 <... clone3 resumed>
CALL = re.compile(r"^(?:\d+ +)?([a-z_0-9]+)\((.*)$")
# "/usr/bin/program", ["program"], ...) = 0
EXECUTED = re.compile(r'^"[^"]+", .*= 0$')


def settings(unit: str) -> dict[str, list[str]]:
    """The settings of a unit, each with its values in order."""
    found: dict[str, list[str]] = {}
    for line in (UNITS / unit).read_text().splitlines():
        name, equals, value = line.partition("=")
        if equals and not line.startswith("#"):
            found.setdefault(name, []).append(value)
    return found


def words(unit: str, setting: str) -> list[str]:
    """The words of a setting; none where it is not there."""
    return " ".join(settings(unit).get(setting, [])).split()


def analyze(*arguments: str) -> str:
    """What `systemd-analyze` prints."""
    done = subprocess.run(
        ["systemd-analyze", "--no-pager", *arguments],
        capture_output=True, text=True, timeout=ANALYZE_SECONDS, check=True,
    )  # fmt: skip
    return done.stdout


def exposure(unit: str) -> float:
    """How exposed a service is, from 0 to 10, by what its unit says."""
    told = analyze("security", "--offline=true", str(UNITS / unit))
    found = re.search(r"Overall exposure level for \S+: ([0-9.]+)", told)
    if found is None:
        raise ValueError(f"systemd-analyze says nothing of {unit}: {told}")
    return float(found.group(1))


def groups() -> dict[str, set[str]]:
    """All groups of system calls with what is in them, be it groups."""
    found: dict[str, set[str]] = {}
    group = ""
    for line in analyze("syscall-filter").splitlines():
        word = line.strip()
        if line.startswith("@"):
            group = word
            found[group] = set()
        elif word and not word.startswith("#") and group:
            found[group].add(word)
    return found


def expand(word: str, known: dict[str, set[str]]) -> set[str]:
    """The system calls that a word stands for."""
    if not word.startswith("@"):
        return {word}
    return set().union(*(expand(each, known) for each in known[word]))


def allowed_calls(unit: str, known: dict[str, set[str]]) -> set[str]:
    """The system calls that the filter of a unit lets through."""
    allowed = expand("@default", known)
    for line in settings(unit)["SystemCallFilter"]:
        denied = line.startswith("~")
        for word in line.removeprefix("~").split():
            if denied:
                allowed -= expand(word, known)
            else:
                allowed |= expand(word, known)
    return allowed


def calls_in(trace: str, program: str) -> list[tuple[str, str]]:
    """The system calls of a trace from where `program` was executed, with their arguments."""
    found: list[tuple[str, str]] = []
    begun = False
    for line in trace.splitlines():
        call = CALL.match(line)
        if call is None:
            continue
        name, arguments = call.groups()
        if begun:
            found.append((name, arguments))
        elif name == "execve" and EXECUTED.match(arguments):
            begun = arguments.split('"')[1].endswith(f"/{program}")
    return found


def families(calls: Sequence[tuple[str, str]]) -> set[str]:
    """The address families of the sockets that were made."""
    made = (arguments.split(",")[0] for name, arguments in calls if name == "socket")
    return set(made)


def writable_programs(calls: Sequence[tuple[str, str]]) -> list[str]:
    """What `MemoryDenyWriteExecute=` would refuse: memory that is written and executed."""
    of_memory = {"mmap", "mprotect", "pkey_mprotect"}
    return [
        f"{name}({arguments}"
        for name, arguments in calls
        if name in of_memory
        and "PROT_EXEC" in arguments
        and ("PROT_WRITE" in arguments or name != "mmap")
    ]


def sandboxed(
    unit: str, user: str, writable: Sequence[Path], command: Sequence[str], also: str = ""
) -> list[str]:
    """The command that runs `command` much like the unit would: as `user`, with the unit's
    capabilities and those of `also`, with its `/proc`, and with all files read-only but the folders
    `writable`."""
    capabilities = [it.lower().removeprefix("cap_") for it in words(unit, "CapabilityBoundingSet")]
    held = ",".join(["-all", *(f"+{name}" for name in [*capabilities, *also.split()])])
    hidden = "2" if words(unit, "ProtectProc") == ["invisible"] else "0"
    mounts = [f"mount --bind {folder} {folder}" for folder in map(str, writable)]
    mounts += [
        "mount -o remount,ro,bind /",
        "mount -o remount,ro,bind /sys",
        f"mount -t proc -o subset=pid,hidepid={hidden} proc /proc",
    ]
    run = [
        "setpriv", f"--reuid={user}", f"--regid={group_of(user)}", "--clear-groups",
        "--no-new-privs", f"--bounding-set={held}", f"--inh-caps={held}", f"--ambient-caps={held}",
    ]  # fmt: skip
    script = " && ".join([*mounts, "umask 077", f"exec {shlex.join([*run, *command])}"])
    return ["unshare", "--mount", "sh", "-c", script]


def group_of(user: str) -> int:
    """A user's own group."""
    for line in Path("/etc/passwd").read_text().splitlines():
        name, _, _, group, *_ = line.split(":")
        if name == user:
            return int(group)
    raise ValueError(f"there is no user {user}")
