"""`lab up`: namespaces, links, keys, Nuclei, engines, until all nodes know each other."""

from __future__ import annotations

import argparse
import contextlib
import os
import shutil
import sys
from pathlib import Path

from ..commands import CommandError
from ..figures import Figure, kept, table
from ..interrupt import Interrupted, catch_signals, ignore_signals
from ..meet_crowd import MIB, memory
from ..node import NodeError
from . import build, check, disclosure, members, plan, processes, runs, state
from .arguments import POLLS, fraction, lab_name, milliseconds, rate, whole
from .plan import Impairment
from .progress import Progress
from .state import LabError, Space, State

NODES_MAX = 200
# What 100 nodes may take on two cores; less nodes take less.
UP_SECONDS = 60.0
MEMORY_MIB = 6000.0
NEIGHBOUR_MARGIN = 4096


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command line."""
    add = parser.add_argument
    add("--nodes", type=whole(1, NODES_MAX), required=True, help="hosts with an engine")
    add("--name", type=lab_name, default="lab", help="the lab's name (lab)")
    add("--topology", choices=plan.TOPOLOGIES, default="star", help="(star)")
    add("--sites", type=whole(2, 50), default=plan.SITES, help="of `wan` (4)")
    add("--mtu", type=whole(1280, 9000), default=1500, help="of the underlay, in octets (1500)")
    add("--queues", type=whole(1, 16), default=1, help="of each host's interface (1)")
    text = "bits per second of each impaired link, each way: 100M, 1G; default unlimited"
    add("--link-rate", type=rate, metavar="BPS", help=text)
    text = "what each impaired link adds, each way, in milliseconds (0; wan 10)"
    add("--delay", type=milliseconds, metavar="MS", help=text)
    text = "share of frames that each impaired link loses, each way: 0.01 is 1 %% (0)"
    add("--loss", type=fraction, default=0.0, metavar="P", help=text)
    add("--access", choices=("tap", "xdp"), default="tap", help="driver of omni0 (tap)")
    text = "driver of the way to others (auto)"
    add("--underlay", choices=("afxdp", "udp", "auto"), default="auto", help=text)
    text = "what workers do while nothing arrives (sleep: all share few cores)"
    add("--poll", choices=POLLS, default="sleep", help=text)
    add("--etcd", action="store_true", help="two Nuclei on three members of etcd, not one on redb")
    add("--run", type=Path, metavar="FOLDER", help="of the results (target/lab/TIME)")
    add("--wait", action="store_true", help="at the end, ping all pairs as `lab check` does")
    text = "where the programs are (target/release)"
    default = runs.REPOSITORY / "target" / "release"
    add("--programs", type=Path, default=default, metavar="FOLDER", help=text)
    add("--seed", type=whole(0, 2**32 - 1), default=1, help="of what is left to chance (1)")


def obstacles(options: argparse.Namespace, impairment: Impairment) -> list[str]:
    """What keeps a lab from being made at all."""
    found = []
    if os.geteuid() != 0:
        found.append("it makes network namespaces and loads XDP programs: run it as root")
    for name in ("omni-engine", "omni", "omni-nucleus"):
        if not os.access(options.programs / name, os.X_OK):
            found.append(f"{options.programs / name} is not built: `make build` builds it")
    tools = ["ip", "ethtool", *(["etcd"] if options.etcd else [])]
    found += [
        f"{tool} is not installed: scripts/install-deps.sh installs it"
        for tool in tools
        if shutil.which(tool) is None
    ]
    return found or build.obstacles(options.programs, impairment)


def impairment_of(options: argparse.Namespace) -> Impairment:
    """What links do, as the command line has it."""
    delay = options.delay
    if delay is None:
        delay = 10.0 if options.topology == "wan" else 0.0
    return Impairment(options.link_rate, delay, options.loss)


def describe(options: argparse.Namespace, impairment: Impairment) -> State:
    """The state of a lab before anything of it is made. Its underlay's plan is in `layout`."""
    given = {
        key: value
        for key, value in vars(options).items()
        if isinstance(value, (bool, int, float, str, type(None)))
        and key not in ("command", "name", "run", "wait")
    }
    given["delay"] = impairment.delay_ms
    run = runs.make(options.run)
    return State(options.name, state.now(), str(options.programs.resolve()), str(run), given)


def infrastructure(with_etcd: bool) -> dict[str, str]:
    """Hosts beside the nodes, and what they are."""
    if not with_etcd:
        return {"nucleus": "nucleus"}
    names = {f"nucleus{number}": "nucleus" for number in (1, 2)}
    return names | {f"etcd{number}": "etcd" for number in (1, 2, 3)}


def layout(lab: State, options: argparse.Namespace, impairment: Impairment) -> plan.Plan:
    """Puts all namespaces into the state, and returns how they are joined."""
    nodes = [f"node{number + 1}" for number in range(options.nodes)]
    roles = dict.fromkeys(nodes, "node") | infrastructure(options.etcd)
    planned = plan.make(options.topology, list(roles), options.sites)
    if impairment.needs_forwarder:
        planned = plan.with_forwarders(planned)
    for name in planned.spaces:
        role = roles.get(name, "switch")
        folder = str(lab.folder / name)
        space = Space(name, role, f"omni-{lab.name}-{name}", folder, planned.hosts.get(name))
        if role == "node":
            space.overlay = plan.overlay_address(nodes.index(name) + 1)
            space.socket = f"{folder}/omni.sock"
        lab.spaces.append(space)
    return planned


def run(options: argparse.Namespace) -> int:
    """Makes a lab. Exit status 0 when it is up and as it should be."""
    impairment = impairment_of(options)
    if found := obstacles(options, impairment):
        print("\n".join(f"lab: {text}" for text in found), file=sys.stderr)
        return 1
    lab = describe(options, impairment)
    planned = layout(lab, options, impairment)
    catch_signals()
    progress = Progress()
    try:
        state.make(lab)
        bring_up(lab, planned, impairment, progress)
        progress.close()
        figures = weigh(lab, progress.seconds)
        if options.wait:
            figures += check.reach(lab, check.ALL, check.PATIENCE_SECONDS)
    except BaseException as error:
        ignore_signals()
        progress.close()
        give_up(lab, error)
        if isinstance(error, Interrupted):
            return 130
        if isinstance(error, (CommandError, NodeError, LabError, OSError)):
            return 1
        raise
    ignore_signals()
    head = runs.result("up") | {"seconds": progress.seconds, "figures": kept(figures)}
    runs.write(Path(lab.run), "up", head)
    print("\n".join(table(figures)))
    print(f"the lab {lab.name} is up: {len(lab.nodes)} nodes; results go to {lab.run}", flush=True)
    return 0 if all(each.met for each in figures) else 1


def bring_up(lab: State, planned: plan.Plan, impairment: Impairment, progress: Progress) -> None:
    """All steps, in order. What is started is in the state before the next step begins."""
    count = len(lab.nodes)
    for space in lab.spaces:
        Path(space.folder).mkdir(mode=0o700)
    # All note all others, on the underlay and on the fabric. Twice that, as Linux keeps some
    # longer than it must.
    build.make_room_for_neighbours(4 * count**2 + NEIGHBOUR_MARGIN)
    progress.step(f"{len(lab.spaces)} namespaces and their links")
    build.underlay(lab, planned, f"omni-{lab.name}", impairment)
    progress.step("keys and certificates")
    members.configure(lab, progress.done)
    progress.step("the Nucleus" if len(lab.of("nucleus")) == 1 else "etcd and the Nuclei")
    launch(lab, lab.of("etcd"))
    members.wait_for_quorum(lab)
    launch(lab, lab.of("nucleus"))
    members.wait_ready(lab.of("nucleus"), progress.done)
    progress.step("engines")
    launch(lab, lab.nodes)
    members.wait_ready(lab.nodes, progress.done)
    progress.step("all know all others")
    members.wait_met(lab, progress.done)
    lab.complete = True
    lab.save()
    runs.add_event(lab, "up", detail=f"{count} nodes, {lab.options['topology']}")
    disclosure.write(lab)


def launch(lab: State, some: list[Space]) -> None:
    """Starts programs, and keeps which they are."""
    try:
        for space in some:
            members.start(lab, space)
    finally:
        lab.save()


def weigh(lab: State, seconds: float) -> list[Figure]:
    """What it took to come up, and what it takes now."""
    engines = [memory(each.process.pid) for each in lab.nodes if each.process]
    others = [each.process for each in lab.spaces if each.process and each.role != "node"]
    rest = sum(memory(each.pid).proportional for each in [*others, *helpers(lab)]) / MIB
    mine = sum(each.proportional for each in engines) / MIB
    return [
        Figure("until all knew all", seconds, "s", at_most=UP_SECONDS),
        Figure("memory of all engines (PSS)", mine, "MiB"),
        Figure("memory of all programs (PSS)", mine + rest, "MiB", at_most=MEMORY_MIB),
    ]


def helpers(lab: State) -> list[processes.Process]:
    """Forwarders."""
    return [each.process for each in lab.helpers]


def give_up(lab: State, error: BaseException) -> None:
    """Removes all that was made, and says so. A lab of the same name that was there stays."""
    interrupted = isinstance(error, Interrupted)
    print(f"lab: {'interrupted by ' if interrupted else ''}{error}", file=sys.stderr, flush=True)
    with contextlib.suppress(LabError):
        if state.load(lab.name).began != lab.began:
            return
        say_left(build.take_down(lab))


def say_left(left: list[str]) -> None:
    """What a clean-up could not remove."""
    for each in left:
        print(f"lab: left behind: {each}", file=sys.stderr, flush=True)
    if not left:
        print("lab: all that was made is removed", file=sys.stderr, flush=True)
