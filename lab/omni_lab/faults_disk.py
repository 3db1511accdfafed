"""A disk that is full: a message that says so, nothing lost or half written, and all goes on that
needs no disk.
"""

from __future__ import annotations

import argparse
import errno
import subprocess
import tempfile
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path

from . import commands, control, faults_pair
from .fabric import Fabric
from .faults_kernel import wait
from .faults_pair import Pair
from .faults_talk import Talk
from .figures import Figure
from .interrupt import undoing
from .node import Programs
from .rendezvous import Nucleus
from .report import heading

MIB = 1 << 20
SMALL_MIB, STORE_MIB = 1, 8
FILLER = "filler"
CHUNK = 1 << 16
NODES = ("alpha", "beta", "gamma")
# A commit, or a handshake's note, is written within this; and nothing is for so long.
SOON_SECONDS, NEVER_SECONDS = 30.0, 3.0
# Records that fill the room which the store took when there was some.
REVOCATIONS_MAX, REASON_MAX = 5000, 200
NO_SPACE = "No space left"


class Disk:
    """A small file system in memory. The stack unmounts it."""

    def __init__(self, stack: ExitStack, folder: Path, mib: int) -> None:
        folder.mkdir(mode=0o700, exist_ok=True)
        self.folder = folder
        options = f"size={mib}m,mode=700"
        commands.run(["mount", "-t", "tmpfs", "-o", options, "omni-faults", str(folder)])
        stack.callback(commands.run, ["umount", "--lazy", str(folder)])

    def fill(self) -> None:
        """Takes all the room that there is."""
        with (self.folder / FILLER).open("ab", buffering=0) as filler:
            for size in (CHUNK, 1):
                try:
                    while True:
                        filler.write(bytes(size))
                except OSError as error:
                    if error.errno != errno.ENOSPC:
                        raise

    def make_room(self) -> None:
        """Gives it back."""
        (self.folder / FILLER).unlink()

    def names(self) -> list[str]:
        """What is on it."""
        return sorted(each.name for each in self.folder.iterdir() if each.name != FILLER)


def run(stack: ExitStack, programs: Programs, _options: argparse.Namespace) -> list[Figure]:
    """The tool, a node, a Nucleus."""
    figures = []
    for trial in (tool, node, rendezvous):
        with undoing() as inner:
            figures += trial(inner, programs)
    return figures


def refused(command: Sequence[str], words: Sequence[str], output: Path | None = None) -> int:
    """Runs a command that has to fail. Returns how much of it is not as it should be."""
    with (output or Path("/dev/null")).open("wb") as file:
        done = subprocess.run(
            command, stdin=subprocess.DEVNULL, stdout=file, stderr=subprocess.PIPE, check=False
        )
    said = done.stderr.decode(errors="replace").strip()
    print(f"    exit status {done.returncode}: {said}", flush=True)
    wrong = int(done.returncode != 1) + int(len(said.splitlines()) != 1)
    return wrong + sum(word not in said for word in words)


def tool(stack: ExitStack, programs: Programs) -> list[Figure]:
    """Keys and certificates, where there is no room for them."""
    heading("omni on a full disk")
    made = stack.enter_context(tempfile.TemporaryDirectory(prefix="omni-disk-"))
    disk = Disk(stack, Path(made) / "full", SMALL_MIB)
    omni = str(programs.omni)
    key, certificate = disk.folder / "authority.key", disk.folder / "alpha.cert"
    public = commands.run([omni, "authority", "init", "--key", str(key)]).strip()
    private = commands.run([omni, "keygen"])
    node_key = commands.run([omni, "pubkey"], stdin=private).strip()
    options = ("--authority-key", str(key), "--fabric", "disk", "--name", "alpha")
    enroll = [omni, "authority", "enroll", *options, "--key", node_key, "-o"]
    commands.run([*enroll, str(certificate)])
    before = certificate.read_bytes()
    disk.fill()
    names = disk.names()
    figures = []
    output = disk.folder / "output"
    output.touch(mode=0o600)
    for command in ("keygen", "genpsk"):
        wrong = refused([omni, command], ("standard output", NO_SPACE), output)
        figures.append(Figure(f"{command}: wrong", wrong, at_most=0))
    output.unlink()
    other = disk.folder / "other.key"
    wrong = refused([omni, "authority", "init", "--key", str(other)], (str(other), NO_SPACE))
    figures.append(Figure("authority init: wrong", wrong, at_most=0))
    wrong = refused([*enroll, str(certificate)], (str(certificate), NO_SPACE))
    wrong += int(certificate.read_bytes() != before)
    figures.append(Figure("a certificate renewed: wrong, or the old one lost", wrong, at_most=0))
    fresh = disk.folder / "beta.cert"
    wrong = refused([*enroll, str(fresh)], (str(fresh), NO_SPACE))
    figures.append(Figure("a new certificate: wrong", wrong, at_most=0))
    left = sorted(set(disk.names()) - set(names))
    figures.append(Figure("files half written", len(left), at_most=0))
    disk.make_room()
    commands.run([*enroll, str(certificate)])
    show = [omni, "authority", "show", str(certificate), "--authority", public, "--fabric", "disk"]
    good = "alpha" in commands.run(show)
    figures.append(Figure("written once there is room", int(good), at_least=1))
    return figures


def node(stack: ExitStack, programs: Programs) -> list[Figure]:
    """What a node remembers, what it logs, and what it is asked."""
    heading("A node whose state file and log are on a full disk")
    pair = faults_pair.make(stack, "disk", programs)
    pair.configure(faults_pair.WAYS["afxdp/tap"])
    alpha = pair.alpha
    disk = Disk(stack, alpha.folder / "full", SMALL_MIB)
    text = alpha.config.read_text()
    alpha.config.write_text(text.replace("state_file: alpha", "state_file: full/alpha"))
    state = disk.folder / "alpha.state"
    disk.fill()
    pair.start()
    talk = pair.talk(stack)
    warned = wait(lambda: said(pair, "cannot write what the node remembers"), SOON_SECONDS)
    figures = [
        Figure("no room for the state file: a warning", int(warned), at_least=1),
        Figure("files half written", len(disk.names()), at_most=0),
    ]
    disk.make_room()
    written = wait_renewing(pair, talk, state.exists)
    figures.append(Figure("written once there is room", int(written), at_least=1))
    before = state.read_bytes()
    disk.fill()
    renewed = restart_beta(pair, talk)
    intact = state.read_bytes() == before and disk.names() == ["alpha.state"]
    figures += [
        Figure("full again: a new session with the peer", int(renewed), at_least=1),
        Figure("what was remembered is there whole", int(intact), at_least=1),
    ]
    for command in (["show", "--json"], ["report", "--json"]):
        output = disk.folder / "output"
        output.touch(mode=0o600)
        asked = [str(programs.omni), *command]
        asked += ["--socket", str(alpha.socket)] if command[0] == "show" else [str(alpha.socket)]
        wrong = refused(asked, ("standard output", NO_SPACE), output)
        output.unlink()
        figures.append(Figure(f"omni {command[0]} to a full disk: wrong", wrong, at_most=0))
    alpha.stop()
    talk.set_mark()
    # The log itself has no room now.
    alpha.log = disk.folder / "engine.log"
    alpha.start()
    back = talk.wait_both(SOON_SECONDS)
    figures.append(Figure("runs with a log on the full disk", int(back), at_least=1))
    disk.make_room()
    figures.append(Figure("wrong at the end", len(pair.stop()), at_most=0))
    return figures


def said(pair: Pair, words: str) -> bool:
    """Whether alpha's log has that."""
    return words in pair.alpha.log.read_text(errors="replace")


def restart_beta(pair: Pair, talk: Talk) -> bool:
    """Makes both agree anew. Returns whether they do."""
    pair.beta.stop()
    talk.set_mark()
    pair.beta.start()
    return talk.wait_both(SOON_SECONDS)


def wait_renewing(pair: Pair, talk: Talk, done: Callable[[], bool]) -> bool:
    """Waits for something that comes with a handshake, and has one made."""
    return restart_beta(pair, talk) and wait(done, SOON_SECONDS)


def rendezvous(stack: ExitStack, programs: Programs) -> list[Figure]:
    """A Nucleus's store and its backup."""
    heading("A Nucleus whose store is on a full disk")
    fabric = Fabric(stack, "disk", programs, nodes=NODES)
    nucleus = fabric.nuclei["nucleus"]
    disk = Disk(stack, nucleus.folder, STORE_MIB)
    fabric.configure()
    nucleus.start()
    fabric.start(NODES[:2])
    registered = wait(lambda: len(members(nucleus)) == 2, SOON_SECONDS)
    figures = [Figure("two nodes are registered", int(registered), at_least=1)]
    names = disk.names()
    disk.fill()
    copy = disk.folder / "copy.redb"
    wrong = refused(nucleus.ask_command("backup", str(copy)), (NO_SPACE,))
    left = sorted(set(disk.names()) - set(names))
    figures += [
        Figure("a backup without room: wrong", wrong, at_most=0),
        Figure("a backup without room: files left", len(left), at_most=0),
    ]
    # A third node comes, and has to be registered.
    fabric.start([NODES[2]])
    while_full = wait(lambda: len(members(nucleus)) == 3, NEVER_SECONDS)
    log = nucleus.log.read_text(errors="replace")
    told = any(NO_SPACE in line for line in log.splitlines())
    figures += [
        Figure("registered while it is full", int(while_full)),
        Figure("registered, or the log says why not", int(while_full or told), at_least=1),
        Figure("the Nucleus runs on", int(nucleus.running().poll() is None), at_least=1),
        Figure("the two are still there", len(members(nucleus)), at_least=2),
    ]
    figures += full_store(fabric, nucleus)
    disk.make_room()
    later = wait(lambda: len(members(nucleus)) == 3, SOON_SECONDS)
    figures.append(Figure("the third is registered once there is room", int(later), at_least=1))
    before, taken_back = members(nucleus), revocations(nucleus)
    nucleus.kill()
    nucleus.start()
    lost = len(before - members(nucleus)) + taken_back - revocations(nucleus)
    figures.append(Figure("lost by kill -9 after that", lost, at_most=0))
    commands.run(nucleus.ask_command("backup", str(copy)))
    figures.append(Figure("a backup once there is room", int(copy.exists()), at_least=1))
    return figures


def full_store(fabric: Fabric, nucleus: Nucleus) -> list[Figure]:
    """Takes back the certificates of nodes that never were, until the store has no room for more.

    What was acknowledged has to be there afterwards.
    """
    done, said = 0, ""
    authority = fabric.authority
    options = ["--authority-key", str(authority.key), "--fabric", authority.fabric]
    for _ in range(REVOCATIONS_MAX):
        private = commands.run([authority.omni, "keygen"])
        key = commands.run([authority.omni, "pubkey"], stdin=private).strip()
        record = fabric.folder / "node.revoked"
        make = [authority.omni, "authority", "revoke", *options, "--key", key]
        commands.run([*make, "--reason", "x" * REASON_MAX, "-o", str(record)])
        asked = subprocess.run(
            nucleus.ask_command("revoke", str(record)), capture_output=True, text=True, check=False
        )
        record.unlink()
        if asked.returncode:
            said = asked.stderr.strip()
            break
        done += 1
    print(f"    after {done} revocations: {said}", flush=True)
    return [
        Figure("revocations until the store was full", done),
        Figure("the next is refused, and why is said", int(NO_SPACE in said), at_least=1),
        Figure("acknowledged, and not there", done - revocations(nucleus), at_most=0),
        Figure("the Nucleus still runs", int(nucleus.running().poll() is None), at_least=1),
    ]


def revocations(nucleus: Nucleus) -> int:
    """How many a Nucleus has."""
    answer = control.ask(nucleus.socket, "status")
    return int(answer["revocations"]) if answer is not None else 0


def members(nucleus: Nucleus) -> set[str]:
    """The names of those that are registered."""
    answer = control.ask(nucleus.socket, "members")
    return {each["name"] for each in answer["members"]} if answer is not None else set()
