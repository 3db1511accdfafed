"""Programs of a lab: keys, certificates and configurations, and how engines, Nuclei and members of
etcd are started and stopped.
"""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from .. import cluster, commands, control, netns, rendezvous
from ..cluster import Member
from ..node import (
    READY,
    START_SECONDS,
    STOP_SECONDS,
    Drivers,
    Identity,
    NodeError,
    Programs,
    render_config,
    write_private,
)
from ..rendezvous import Authority, Meeting, render_nucleus
from . import plan as plans
from . import processes
from .state import LabError, Space, State

POLL_SECONDS = 0.05
# To make keys, which is waiting for short programs.
HANDS = 4
# All engines start at once, and share the cores.
START_SECONDS_A_NODE = 0.6
MEET_SECONDS = 60.0

# By role: the program, and its configuration in the folder of its host.
NODE_CONFIG = "fabric.yaml"
PROGRAMS = {"node": ("omni-engine", NODE_CONFIG), "nucleus": ("omni-nucleus", "nucleus.yaml")}

Told = Callable[[int, int], None]


def programs(state: State) -> Programs:
    """What the lab runs."""
    folder = Path(state.programs)
    return Programs(folder / "omni-engine", folder / "omni")


def each(some: Sequence[Space], do: Callable[[Space], None], told: Told) -> None:
    """Does something for many, a few at a time."""
    with ThreadPoolExecutor(HANDS) as pool:
        for done, _ in enumerate(pool.map(do, some), 1):
            told(done, len(some))


def make_keys(space: Space, mine: Programs) -> str:
    """Writes the private key of a node or a Nucleus. Returns the public key."""
    private = commands.run([str(mine.omni), "keygen"])
    write_private(Path(space.folder) / f"{space.name}.key", private)
    return commands.run([str(mine.omni), "pubkey"], stdin=private).strip()


def configure(state: State, told: Told) -> None:
    """Makes all keys, certificates and configurations."""
    mine = programs(state)
    folder = state.folder / "authority"
    folder.mkdir(mode=0o700)
    authority = Authority(folder, state.name, mine)
    places = []
    for nucleus in state.of("nucleus"):
        nucleus.socket = f"{nucleus.folder}/nucleus.sock"
        places.append((f"{nucleus.underlay}:{rendezvous.PORT}", make_keys(nucleus, mine)))
        key = Path(nucleus.folder) / f"{nucleus.name}.key"
        key.rename(key.with_name("nucleus.key"))
        text = render_nucleus(
            state.name, authority.public_key, Path(nucleus.socket), etcd_urls(state)
        )
        (Path(nucleus.folder) / "nucleus.yaml").write_text(text)
    meeting = Meeting(tuple(places), authority.public_key)
    options = state.options
    drivers = Drivers(options["access"], options["underlay"])
    workers = [f"workers: {{ poll: {options['poll']}, priority: normal }}"]

    def settle(node: Space) -> None:
        public = make_keys(node, mine)
        certificate = f"{node.name}.cert"
        commands.run(authority.enroll(node.name, public, Path(node.folder) / certificate))
        access = (f"{node.overlay}/{plans.OVERLAY_NET.prefixlen}",)
        me = Identity(node.name, str(node.underlay), access, public)
        more = [*workers, *meeting.lines(certificate)]
        text = render_config(state.name, me, [], Path(str(node.socket)), more, drivers)
        (Path(node.folder) / NODE_CONFIG).write_text(text)

    each(state.nodes, settle, told)


def etcd(space: Space) -> Member:
    """A member of etcd, by what a namespace is called."""
    return Member(space.name, space.netns(), str(space.underlay), Path(space.folder))


def etcd_urls(state: State) -> list[str]:
    """Where the store is; none where each Nucleus has its own."""
    return [etcd(space).url for space in state.of("etcd")]


def command(state: State, space: Space, config: str | None = None) -> list[str]:
    """What starts the program of a namespace, with another configuration than its own if wanted."""
    folder = Path(state.programs)
    if space.role == "etcd":
        all_of_it = ",".join(f"{one.name}={etcd(one).peer_url}" for one in state.of("etcd"))
        return etcd(space).command(all_of_it)
    if space.role not in PROGRAMS:
        raise LabError(f"{space.name} runs no program")
    program, usual = PROGRAMS[space.role]
    path = Path(space.folder) / (config or usual)
    return space.netns().inside(str(folder / program), "--config", str(path))


def start(state: State, space: Space, config: str | None = None) -> None:
    """Starts the program of a namespace, by its own configuration or another file of its folder.
    The caller saves the state.
    """
    if processes.is_alive(space.process):
        raise LabError(f"{space.name} runs already")
    # It says `ready` once more.
    space.log.write_bytes(b"")
    space.process = processes.spawn(command(state, space, config), space.log)


def stop(space: Space, number: signal.Signals = signal.SIGTERM) -> None:
    """Ends the program of a namespace by a signal, and waits for that. The caller saves the state.

    Raises NodeError when it does not end.
    """
    if space.process is None or not processes.is_alive(space.process):
        raise LabError(f"{space.name} does not run")
    processes.send(space.process, number)
    if processes.wait_gone([space.process], STOP_SECONDS):
        raise NodeError(f"{space.name}: still running {STOP_SECONDS:g} s after {number.name}")
    processes.reap()
    space.process = None


def restart_nodes(state: State, config: str | None, told: Told) -> None:
    """Ends all engines and starts them anew, by their own configuration or another file of their
    folders; waits until all know each other.
    """
    stubborn = processes.end([node.process for node in state.nodes if node.process], STOP_SECONDS)
    if stubborn:
        raise NodeError(f"{len(stubborn)} engines did not end within {STOP_SECONDS:g} s")
    try:
        for node in state.nodes:
            start(state, node, config)
    finally:
        state.save()
    wait_ready(state.nodes, told)
    wait_met(state, told)


def wait_ready(some: Sequence[Space], told: Told) -> None:
    """Waits until programs of ours have said that they are ready. Raises NodeError when one is
    not.
    """
    deadline = time.monotonic() + START_SECONDS + START_SECONDS_A_NODE * len(some)
    waiting = list(some)
    while waiting:
        waiting = [one for one in waiting if not is_ready(one)]
        told(len(some) - len(waiting), len(some))
        check_running(waiting)
        if waiting and time.monotonic() > deadline:
            raise NodeError(
                f"{waiting[0].name} is not ready; {processes.last_words(waiting[0].log)}"
            )
        time.sleep(POLL_SECONDS if waiting else 0)


def is_ready(space: Space) -> bool:
    """Whether its program said so."""
    return bool(READY.search(space.log.read_text(errors="replace")))


def check_running(some: Sequence[Space]) -> None:
    """Raises NodeError when a program ended by itself."""
    for one in some:
        if not processes.is_alive(one.process):
            raise NodeError(f"{one.name}: its program ended; {processes.last_words(one.log)}")


def wait_for_quorum(state: State) -> None:
    """Waits until all members of etcd follow one leader. Raises NodeError when they do not."""
    spaces = state.of("etcd")
    if not spaces:
        return
    began = time.monotonic()
    with netns.inside(state.of("nucleus")[0].netns()):
        while True:
            statuses = {one.name: cluster.ask(str(one.underlay)) for one in spaces}
            if cluster.leader_of(statuses, began, len(spaces)) is not None:
                return
            check_running(spaces)
            if time.monotonic() - began > START_SECONDS:
                raise NodeError(f"etcd has no leader of all after {START_SECONDS:g} s")
            time.sleep(POLL_SECONDS)


def show(node: Space) -> dict[str, Any] | None:
    """What an engine shows, None when it does not answer."""
    return control.ask(Path(str(node.socket)), "show")


def wait_met(state: State, told: Told) -> None:
    """Waits until each engine knows all others. Raises NodeError with one that does not."""
    nodes = state.nodes
    deadline = time.monotonic() + MEET_SECONDS
    waiting = list(nodes)
    while waiting:
        still = []
        for one in waiting:
            shown = show(one)
            if shown is None or len(shown["peers"]) < len(nodes) - 1:
                still.append(one)
        waiting = still
        told(len(nodes) - len(waiting), len(nodes))
        check_running(waiting)
        if waiting and time.monotonic() > deadline:
            shown = show(waiting[0])
            known = "nothing" if shown is None else f"{len(shown['peers'])} others"
            raise NodeError(f"{waiting[0].name} knows {known} after {MEET_SECONDS:g} s")
        time.sleep(0.2 if waiting else 0)
