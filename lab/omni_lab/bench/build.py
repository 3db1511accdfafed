"""Makes an underlay out of its plan, and takes everything of a lab away again."""

from __future__ import annotations

import contextlib
import json
import shutil
import subprocess
from pathlib import Path

from .. import commands, netns
from ..commands import CommandError
from ..compare_wireguard import SOCKETS
from ..fabric import NEIGHBOUR_LIMITS, NEIGHBOURS
from . import plan as plans
from . import processes
from .plan import Impairment, Plan
from .processes import Process
from .state import ROOT, Helper, LabError, State, locked, names

# What the kernel's limits were before the first lab.
LIMITS = ROOT / "limits.json"
STOP_SECONDS = 5.0
# Members of etcd wait for each other when they are asked to end, which is for nothing here.
OTHERS_STOP_SECONDS = 1.0
# A lab has no end of its own, and a forwarder has to have one: the latest that it takes, a day.
FORWARD_SECONDS = 86_400


def underlay(state: State, plan: Plan, prefix: str, impairment: Impairment) -> None:
    """Makes all namespaces, links and routes. What is made is in the state already."""
    queues, mtu = state.options["queues"], state.options["mtu"]
    there = [each.namespace for each in state.spaces if exists(each.namespace)]
    if there:
        raise LabError(f"the namespace {there[0]} is there already, and no lab's: delete it")
    netns.batch([f"netns add {each.namespace}" for each in state.spaces], ["ip"])
    for space in plan.spaces:
        lines = plans.link_lines(plan, space, prefix, queues, mtu)
        if lines:
            netns.batch(lines, ["ip", "-n", f"{prefix}-{space}"])
    for space in plan.spaces:
        if space in plan.switches:
            prepare_switch(plan, space, f"{prefix}-{space}")
        netns.batch(plans.address_lines(plan, space), ["ip", "-n", f"{prefix}-{space}"])
    if plan.forwarders:
        forward(state, plan, prefix, impairment)
    elif impairment.rate_bps is not None:
        for port in plans.rate_ends(plan):
            line = plans.rate_line(port, impairment.rate_bps)
            netns.batch([line], ["tc", "-n", f"{prefix}-{port.space}"])


def exists(namespace: str) -> bool:
    """Whether there is a namespace of that name."""
    return Path(netns.NAMESPACES, namespace).exists()


def prepare_switch(plan: Plan, space: str, namespace: str) -> None:
    """Makes a namespace a bridge or a router, whose ports have a receive queue each (GRO).

    Else what arrives at them waits in their core's queue, which is one for all links and which they
    fill together, as switches do not.
    """
    lines = [
        f"echo {value} >/proc/sys/net/{key}" for key, value in plans.switch_settings(space).items()
    ]
    lines += [f"ethtool -K {port.interface} gro on" for port in plans.ports(plan, space)]
    command = netns.Namespace(namespace).inside("sh", "-e", "-c", "\n".join(lines))
    commands.run(command, timeout=netns.BATCH_SECONDS)


def forward(state: State, plan: Plan, prefix: str, impairment: Impairment) -> None:
    """Starts a forwarder in each impaired link, with dice of its own."""
    program = str(Path(state.programs) / "omni-perf")
    for at, each in enumerate(plan.forwarders):
        namespace = netns.Namespace(f"{prefix}-{each.space}")
        command = [program, "impair", "--a", each.one, "--b", each.other]
        command += ["--seed", str(state.options["seed"] + at), "--seconds", str(FORWARD_SECONDS)]
        log = state.folder / f"impair-{each.space}-{each.one}.log"
        process = processes.spawn(namespace.inside(*command, *impair_options(impairment)), log)
        state.helpers.append(Helper(f"impair {each.one}", namespace.name, process))
    state.save()


def impair_options(impairment: Impairment) -> list[str]:
    """How `omni-perf impair` is told the same."""
    options = ["--delay-us", f"{impairment.delay_ms * 1000:.0f}", "--loss", str(impairment.loss)]
    if impairment.rate_bps is not None:
        options += ["--rate-bps", str(impairment.rate_bps)]
    return options


def obstacles(programs: Path, impairment: Impairment) -> list[str]:
    """What keeps links from being impaired as wanted."""
    if impairment.needs_forwarder:
        perf = programs / "omni-perf"
        if not can_impair(perf):
            return [f"--delay and --loss need `{perf} impair`, which is not there: build omni-perf"]
    elif impairment.rate_bps is not None and not has_token_bucket():
        return ["--link-rate needs the token bucket of the kernel (module sch_tbf)"]
    return []


def can_impair(program: Path) -> bool:
    """Whether omni-perf has the forwarder."""
    with contextlib.suppress(OSError, subprocess.TimeoutExpired):
        command = [str(program), "impair", "--help"]
        return subprocess.run(command, capture_output=True, timeout=5, check=False).returncode == 0
    return False


def has_token_bucket() -> bool:
    """Whether the kernel can limit an interface's rate: tried in a namespace made for it."""
    probe = "tc qdisc replace dev lo root tbf rate 1mbit burst 32k latency 50ms"
    try:
        commands.run(["unshare", "-n", *probe.split()])
    except CommandError:
        return False
    return True


def make_room_for_neighbours(count: int) -> None:
    """Lets the kernel note that many neighbours in all namespaces together, until the last lab is
    gone. Hosts with kernels of their own have this room each.
    """
    with locked():
        before = {name: int((NEIGHBOURS / name).read_text()) for name in NEIGHBOUR_LIMITS}
        short = [name for name, limit in before.items() if limit < count]
        if short and not LIMITS.exists():
            LIMITS.write_text(json.dumps(before))
        for name in short:
            (NEIGHBOURS / name).write_text(str(count))


def give_back_limits() -> None:
    """Takes that back when there is no lab any more."""
    with locked():
        if names() or not LIMITS.exists():
            return
        for name, limit in json.loads(LIMITS.read_text()).items():
            (NEIGHBOURS / name).write_text(str(limit))
        LIMITS.unlink()


def programs_of(state: State) -> list[Process]:
    """All that a lab started, as far as its state knows."""
    found = [each.process for each in state.spaces if each.process is not None]
    found += [each.process for each in state.helpers]
    return found + [each.process for one in state.contestants for each in one.helpers]


def remove_sockets(state: State) -> None:
    """Removes sockets that tunnels of WireGuard leave where all namespaces see them."""
    for path in SOCKETS.glob(f"w{state.name}-*.sock"):
        path.unlink(missing_ok=True)


def take_down(state: State) -> list[str]:
    """Removes all of a lab, whatever is left of it. Returns what could not be removed.

    Everything in its namespaces ends, whoever started it.
    """
    namespaces = [each.namespace for each in state.spaces]
    # Engines first: they say goodbye to others, and leave nothing behind by themselves.
    processes.end([each.process for each in state.nodes if each.process], STOP_SECONDS)
    others = [*programs_of(state), *processes.inside(namespaces)]
    processes.end(others, OTHERS_STOP_SECONDS)
    there = [name for name in namespaces if exists(name)]
    if there:
        with contextlib.suppress(CommandError):
            netns.batch([f"netns delete {name}" for name in there], ["ip", "-force"])
    found = [f"namespace {name}" for name in namespaces if exists(name)]
    found += [f"process {each.pid}" for each in programs_of(state) if processes.is_alive(each)]
    remove_sockets(state)
    if not found:
        shutil.rmtree(state.folder)
        give_back_limits()
        with contextlib.suppress(OSError):
            ROOT.rmdir()
    return found
