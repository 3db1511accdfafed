#!/usr/bin/env python3
"""What the fabric carries from one host to the other, beside what else there is for that.

Two hosts in network namespaces, joined by a veth pair. On it, in turn: nothing (the bare veth), the
kernel's VXLAN in plaintext, omni with any of its drivers, and encrypted tunnels of others. Rounds
are interleaved: round 1 of all, then round 2 of all, so that what disturbs one disturbs all.

  wires     whole   the veth passes super-frames of 64 KB, as between containers of one machine
            cut     every packet crosses by itself, at most 1500 octets
            cutgro  as cut, and the receiver joins packets again (GRO): nearest to a network card
  measures  tcp        iperf3: one stream, four, reverse; processor time per GB of the first
            trips      round trips of 64 octets while idle, 1000 a second: percentiles
            loaded     the same beside TCP of one stream
            datagrams  64 octets: what arrives at overload, and the highest rate without loss
  omni      ACCESS+UNDERLAY[/POLL][/PRIORITY]: access port tap, xdp or auto; underlay udp, afxdp or
            auto, or RECEIVING-SENDING; poll spin, adaptive or sleep; priority normal or realtime
  peers     see --list; those that are not installed are left out, and the report says so

Prints tables of medians with the least and greatest round, and the targets that could be checked.
Exit status 0; 1 when a contestant of ours, VXLAN or the bare veth failed, or with --check when a
target is missed; 130 when interrupted. Needs root, the built programs (omni-engine, omni and
omni-perf) and what scripts/install-deps.sh installs. Removes all it made, also when interrupted.

A round of one contestant on one wire takes about 25 s with the defaults, and a slow peer more. Use
an otherwise idle machine: everything shares its cores.
"""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(REPOSITORY / "lab"))

from omni_lab import compare_peers, compare_run, machine
from omni_lab.compare_arguments import parse_arguments
from omni_lab.interrupt import Interrupted, catch_signals, ignore_signals
from omni_lab.node import Programs

# What every comparison needs beside our own programs.
TOOLS = ("ip", "ethtool", "iperf3", "ping", "ss")


def obstacles(programs: Programs) -> list[str]:
    """What keeps the comparison from running at all."""
    found = []
    if os.geteuid() != 0:
        found.append("this makes network namespaces and loads XDP programs: run it as root")
    for program in (programs.engine, programs.omni, programs.engine.with_name("omni-perf")):
        if not os.access(program, os.X_OK):
            package = "omni-perf" if program.name == "omni-perf" else "omni-engine"
            found.append(f"{program} is not built: cargo build --release -p {package}")
    for tool in TOOLS:
        if shutil.which(tool) is None:
            found.append(f"{tool} is not installed: scripts/install-deps.sh does that")
    return found


def main() -> int:
    """Runs the comparison."""
    arguments = parse_arguments(__doc__)
    folder = arguments.programs.resolve()
    programs = Programs(folder / "omni-engine", folder / "omni")
    contestants = compare_run.chosen(arguments, programs)
    if arguments.list:
        for each in [*contestants, *compare_peers.make(compare_peers.names(), None)]:
            print(f"{each.name:<22}{each.kind.value:<20}  {each.missing() or each.about}")
        return 0
    if found := obstacles(programs):
        print("\n".join(f"fabric: {text}" for text in found), file=sys.stderr)
        return 1
    plan = (
        f"{arguments.rounds} interleaved rounds, {arguments.seconds:g} s a measure, "
        f"{arguments.octets} octets a datagram, underlay MTU 1500"
    )
    comparison = compare_run.Comparison(contestants, arguments)
    catch_signals()
    try:
        if arguments.install:
            compare_peers.install(comparison.contestants)
        told = machine.describe(REPOSITORY)
        comparison.run()
    except Interrupted as signal_name:
        print(f"\ninterrupted by {signal_name}: all that was made is removed", flush=True)
        return 130
    ignore_signals()
    lines, met = compare_run.report(comparison, told, plan)
    print("\n".join(lines), flush=True)
    if arguments.json:
        compare_run.write_json(comparison, told, plan, arguments.json)
    return 1 if comparison.own_failed() or (arguments.check and not met) else 0


if __name__ == "__main__":
    sys.exit(main())
