"""The machine that figures were measured on, as far as it says."""

from __future__ import annotations

import datetime
import os
import platform
from pathlib import Path

from .compare_contestants import first_line

# Flags of x86 CPUs that decide which ciphers are fast.
CIPHER_FLAGS = ("aes", "vaes", "avx2", "avx512f", "avx512ifma")


def describe(repository: Path) -> dict[str, str]:
    """What is to be told with each figure."""
    cpu = parse_cpu(Path("/proc/cpuinfo").read_text())
    cores = len(os.sched_getaffinity(0))
    load = os.getloadavg()[0]
    return {
        "date": datetime.datetime.now(datetime.timezone.utc).strftime("%Y-%m-%d %H:%M UTC"),
        "CPU": f"{cpu['model']}, {cores} cores, {cpu['hypervisor']}",
        "CPU flags for ciphers": cpu["ciphers"],
        "memory": f"{memory_gib(Path('/proc/meminfo').read_text()):.0f} GiB",
        "kernel": platform.release(),
        "system": system_name(Path("/etc/os-release")),
        "load before the run": f"{load:.2f}",
        "revision": revision(repository),
        "iperf3": first_line(["iperf3", "--version"]),
    }


def parse_cpu(text: str) -> dict[str, str]:
    """Model and flags of the first core in /proc/cpuinfo."""
    fields: dict[str, str] = {}
    for line in text.splitlines():
        key, colon, value = line.partition(":")
        if colon:
            fields.setdefault(key.strip(), value.strip())
    flags = fields.get("flags", "").split()
    return {
        "model": fields.get("model name", platform.machine()),
        "hypervisor": "under a hypervisor" if "hypervisor" in flags else "no hypervisor",
        "ciphers": " ".join(flag for flag in CIPHER_FLAGS if flag in flags) or "none known",
    }


def memory_gib(text: str) -> float:
    """MemTotal of /proc/meminfo."""
    lines = (line.split() for line in text.splitlines() if line.startswith("MemTotal:"))
    return next((int(words[1]) / (1 << 20) for words in lines), 0.0)


def system_name(path: Path) -> str:
    """The distribution's name for itself."""
    try:
        lines = path.read_text().splitlines()
    except OSError:
        return "unknown"
    names = (line.partition("=")[2].strip('"') for line in lines if line.startswith("PRETTY_NAME="))
    return next(names, "unknown")


def revision(repository: Path) -> str:
    """The commit that is checked out, and whether something was changed since."""
    said = first_line(["git", "-C", str(repository), "describe", "--always", "--dirty"])
    return said if said and "fatal" not in said else "unknown"
