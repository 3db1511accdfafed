"""The command line of the comparison."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from pathlib import Path

from . import compare_peers, compare_targets, compare_turn
from .compare_omni import Setup, parse_setup
from .compare_pair import Wire

REPOSITORY = Path(__file__).resolve().parents[2]
DEFAULT_OMNI = "xdp+afxdp"
QUICK = {"seconds": 1.0, "rounds": 1, "search_steps": 4, "search_seconds": 0.3}


def within(least: float, most: float, kind: type) -> Callable[[str], float]:
    """A number within bounds, as argparse takes a type."""

    def parse(text: str) -> float:
        value: float = kind(text)
        if not least <= value <= most:
            raise argparse.ArgumentTypeError(f"{text} is not within {least}..={most}")
        return value

    parse.__name__ = "number"
    return parse


def words(allowed: Sequence[str]) -> Callable[[str], list[str]]:
    """A list with commas of some of the words that are allowed."""

    def parse(text: str) -> list[str]:
        found = [word.strip() for word in text.split(",") if word.strip()]
        for word in found:
            if word not in allowed:
                raise argparse.ArgumentTypeError(f"{word!r} is none of {', '.join(allowed)}")
        return found

    parse.__name__ = "list"
    return parse


def setups(text: str) -> list[Setup]:
    """Omni's drivers, as the command line has them."""
    try:
        return [parse_setup(word) for word in text.split(",") if word.strip()]
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from error


def parse_arguments(description: str, given: Sequence[str] | None = None) -> argparse.Namespace:
    """The arguments that were given, or the process's own."""
    parser = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    wires = [wire.value for wire in Wire]
    peers = list(compare_peers.names())
    add(
        "--omni",
        type=setups,
        metavar="LIST",
        default=setups(DEFAULT_OMNI),
        help=f"omni's configurations, with commas (default: {DEFAULT_OMNI})",
    )
    add(
        "--peers",
        type=words([*peers, "all", "none"]),
        metavar="LIST",
        default=[],
        help="encrypted peers, with commas, or all (default: none)",
    )
    add(
        "--wires",
        type=words(wires),
        metavar="LIST",
        default=wires,
        help="wires, with commas (default: all)",
    )
    add(
        "--measures",
        type=words(compare_turn.MEASURES),
        metavar="LIST",
        default=list(compare_turn.MEASURES),
        help="measures, with commas (default: all)",
    )
    add(
        "--rounds",
        type=within(1, 1000, int),
        metavar="N",
        default=3,
        help="rounds of all (default: 3)",
    )
    add(
        "--seconds",
        type=within(1, 60, float),
        metavar="S",
        default=3.0,
        help="how long each measure takes (default: 3)",
    )
    add(
        "--search-seconds",
        type=within(0.1, 60, float),
        metavar="S",
        default=0.5,
        help="how long a rate must be without loss (default: 0.5)",
    )
    add(
        "--search-steps",
        type=within(1, 30, int),
        metavar="N",
        default=8,
        help="rates that are tried at most (default: 8)",
    )
    add(
        "--octets",
        type=within(24, 1400, int),
        metavar="N",
        default=64,
        help="octets in each datagram of `datagrams` (default: 64)",
    )
    add(
        "--quick",
        action="store_true",
        help="one short round of the bare veth, VXLAN and omni on a cut wire: about a minute",
    )
    add(
        "--check",
        action="store_true",
        help="exit status 1 when a target is missed that could be checked",
    )
    add("--json", type=Path, metavar="FILE", help="write all rounds, ratios and targets as JSON")
    add(
        "--install",
        action="store_true",
        help="first install the peers: Debian packages, and crates below target/peers",
    )
    add("--list", action="store_true", help="list the contestants, and end")
    add(
        "--newest-wireguard-go",
        type=Path,
        metavar="PROGRAM",
        help=f"a wireguard-go that is newer than the system's: {compare_targets.NEWEST_WIREGUARD}",
    )
    add(
        "--programs",
        type=Path,
        metavar="FOLDER",
        default=REPOSITORY / "target" / "release",
        help="where omni-engine, omni and omni-perf are (default: target/release)",
    )
    arguments = parser.parse_args(given)
    if arguments.quick:
        vars(arguments).update(QUICK, wires=[Wire.CUT.value])
    if "all" in arguments.peers:
        arguments.peers = peers
    return arguments
