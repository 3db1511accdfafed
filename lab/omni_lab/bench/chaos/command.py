"""`lab chaos`: breaks a fabric by a seed, and checks all the while what arrives where.

Rounds of one to four faults overlap; all are healed before the next round begins. Pairs of hosts
exchange numbered datagrams that name their ends, and some exchange checked blocks by TCP. After
each heal all pairs have to reach each other within 10 s (p99 of heals); nothing may arrive at a
host that it was not meant for, or changed, or twice; and no program may end that nobody ended.

  lab up --nodes 10
  lab chaos --seed 7 --minutes 5 --dry-run     what would be broken when
  lab chaos --seed 7 --minutes 5               the same in earnest
  lab chaos --faults kill,partition            only these
"""

from __future__ import annotations

import argparse
import contextlib
import datetime
import shutil
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from ... import commands
from ...commands import CommandError
from ...figures import kept, table
from ...interrupt import catch_signals, ignore_signals
from ...report import heading
from .. import disclosure, plan, runs, state
from ..arguments import add_name, whole
from ..state import LabError, State
from . import machine, outcome, pairs, schedule
from .checker import Checker, Place
from .clock import WallClock
from .faults import Active, Faults, ground_of
from .machine import Machine
from .run import Run
from .schedule import Ground, Round
from .shield import shielded

MINUTES = 5
DEFAULT = tuple(kind for kind in schedule.KINDS if kind != "clock")
# Worse than any other way to the fabric's addresses: what is sent while an engine is away goes
# nowhere, instead of by the underlay, where hosts would answer for each other.
GUARD = f"unreachable {plan.OVERLAY_NET} metric 4096"


def kinds(text: str) -> list[str]:
    """Kinds of faults with commas."""
    found = text.split(",")
    for kind in found:
        if kind not in DEFAULT:
            raise argparse.ArgumentTypeError(f"{kind!r} is none of {', '.join(DEFAULT)}")
    return list(dict.fromkeys(found))


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command line."""
    add_name(parser)
    add = parser.add_argument
    add("--seed", type=whole(0, 2**32 - 1), default=1, help="of the schedule (1)")
    add("--minutes", type=whole(1, 24 * 60), default=MINUTES, help=f"({MINUTES})")
    about = "; ".join(f"{kind}: {schedule.ABOUT[kind]}" for kind in DEFAULT)
    text = f"kinds of faults with commas (all that the lab has something for). {about}"
    add("--faults", type=kinds, default=list(DEFAULT), metavar="LIST", help=text)
    text = "also let this machine's wall clock jump by up to an hour; it is set right in the end"
    add("--clock", action="store_true", help=text)
    add("--dry-run", action="store_true", help="print the schedule, and break nothing")
    text = "with --dry-run: of a lab with so many nodes, whether one is up or not"
    add("--nodes", type=whole(2, 1000), metavar="N", help=text)


def chosen(options: argparse.Namespace, ground: Ground) -> list[str]:
    """Kinds of faults that are wanted and possible. Raises LabError when there are none."""
    wanted = options.faults + (["clock"] if options.clock else [])
    found = schedule.possible(wanted, ground)
    if not found:
        raise LabError(f"this lab has nothing to break by {', '.join(wanted)}")
    return found


def imagined(count: int) -> Ground:
    """A lab as `lab up --nodes N` makes it."""
    nodes = [f"node{number + 1}" for number in range(count)]
    return Ground(tuple(nodes), machines=machine.NAMES, homes=tuple(pairs.homes(nodes)))


def run(options: argparse.Namespace) -> int:
    """Exit status 0 when all held."""
    if options.nodes is not None and not options.dry_run:
        raise LabError("--nodes: it is for --dry-run; a run takes the lab that is up")
    lab = None if options.nodes is not None else state.load_complete(options.name)
    if lab is not None:
        ground = ground_of(lab, machine.NAMES, pairs.homes([node.name for node in lab.nodes]))
    else:
        ground = imagined(options.nodes)
    some = chosen(options, ground)
    rounds = schedule.make(options.seed, options.minutes * 60, some, ground)
    if options.dry_run or lab is None:
        print("\n".join(schedule.lines(rounds)))
        return 0
    if len(lab.nodes) < 2:
        raise LabError("chaos needs two nodes")
    if shutil.which("nft") is None:
        raise LabError("nft is not installed: scripts/install-deps.sh installs it")
    catch_signals()
    count = sum(len(one.faults) for one in rounds)
    heading(
        f"Chaos, seed {options.seed}: {count} faults in {len(rounds)} rounds, "
        f"{len(lab.nodes)} nodes, {options.minutes} minutes"
    )
    return play(lab, options, some, rounds, ground)


def play(
    lab: State,
    options: argparse.Namespace,
    some: Sequence[str],
    rounds: Sequence[Round],
    ground: Ground,
) -> int:
    """All of a run, and what is kept of it."""
    head = runs.result("chaos", disclosure.contestant_of(lab))
    began = datetime.datetime.fromisoformat(lab.began)
    clock = WallClock()
    offset = (datetime.datetime.now(datetime.timezone.utc) - began).total_seconds()
    guests = machine.make_all(lab) if ground.homes else []
    names = [node.name for node in lab.nodes]
    both = pairs.choose(names, options.seed)
    carried = pairs.carried(both, options.seed)
    places = [Place(node.name, node.netns(), str(node.overlay)) for node in lab.nodes]
    for guest in guests:
        both += pairs.of_machine(names, guest.name, options.seed)
        places.append(Place(guest.name, guest.space.netns(), guest.address))
    checker = Checker(places, both, carried, options.seed)
    faults = Faults(lab, guests, clock)
    active = Active(faults)
    current = Run(lab, checker, faults, active)
    with prepared(lab, guests, ground, checker, active, clock):
        played = current.play(rounds, options.minutes * 60)
        current.settle_accounts()
        ended = time.monotonic()
        checker.finish()
    figures = outcome.figures(current, len(rounds), played, ended)
    told = {
        "seed": options.seed,
        "minutes": options.minutes,
        "faults": list(some),
        "schedule": [one.kept() for one in rounds],
        **outcome.report(current),
        "figures": kept(figures),
    }
    runs.write(Path(lab.run), "chaos", head | told)
    outcome.add_events(lab, offset, current.events)
    tell(current)
    print("\n".join(table(figures)), flush=True)
    return 0 if all(each.met for each in figures) else 1


@contextlib.contextmanager
def prepared(
    lab: State,
    guests: Sequence[Machine],
    ground: Ground,
    checker: Checker,
    active: Active,
    clock: WallClock,
) -> Iterator[None]:
    """Makes what a run needs, and takes it away again; heals whatever is broken in the end."""
    with contextlib.ExitStack() as stack:
        stack.callback(guard, lab, "delete")
        for guest in guests:
            stack.callback(guest.remove)
        stack.callback(checker.close)
        stack.callback(clock.restore)
        stack.callback(heal, active)
        # First of all in the end: a second signal must not keep anything from being healed.
        stack.callback(ignore_signals)
        with shielded():
            active.breaker.make_whole()
            guard(lab, "replace")
            for number, guest in enumerate(guests):
                guest.make()
                guest.move(ground.homes[number % len(ground.homes)])
            checker.start()
        yield


def heal(active: Active) -> None:
    """Heals whatever is broken in the end."""
    for each in active.heal():
        print(f"lab: NOT healed: {each}", file=sys.stderr, flush=True)


def guard(lab: State, what: str) -> None:
    """Lets nothing for the fabric go by another way, or ends that."""
    for node in lab.nodes:
        with contextlib.suppress(CommandError):
            commands.run(node.netns().ip("route", what, *GUARD.split()))


def tell(current: Run) -> None:
    """What must not be, in words."""
    found = current.findings
    deaths = [f"{each['node']} died at {each['at_s']} s" for each in found.died]
    wrong = [text for each in current.checker.transfers for text in each.wrong]
    for text in [
        *deaths,
        *current.faults.panics,
        *found.failed,
        *current.faults.stubborn,
        *found.wrong_memory,
        *wrong,
        *current.checker.ledger.evidence[:8],
    ]:
        print(f"WRONG: {text}", flush=True)
