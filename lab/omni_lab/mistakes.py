"""Mistakes that people make with a fabric, and whether they are told the cause.

    alpha                 wire                  beta
    eth0 ------- to-alpha [ br0 ] to-beta ------ eth0

Of each mistake the engine's first error line, or a line of `omni doctor` that is not fine, has to
name the cause.
"""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from . import commands, faults_cases, faults_pair, faults_vdso, netns
from .faults_missing import without
from .faults_pair import Pair
from .figures import Figure
from .node import PORT, Drivers, Node, Programs
from .rendezvous import Authority, Meeting

FAIL_SECONDS = 15.0
# Until a handshake was refused, or a neighbour's address was seen: a few tries of each.
TOLD_SECONDS = 20.0
LOOK_SECONDS = 0.3
DAY_SECONDS = 86_400
SOCKETS = Drivers(access="tap", underlay="udp")
AFXDP = Drivers(access="tap", underlay="afxdp")
LAB = Path(__file__).resolve().parent.parent
Prepare = Callable[[ExitStack, Pair], None]


@dataclass(frozen=True)
class Mistake:
    """What is done wrong, and who has to name the cause by which words, all in one line."""

    name: str
    words: tuple[str, ...]
    # Who tells: `error`, the first line of alpha's engine; `doctor`, without a running engine;
    # `alpha` or `beta`, the doctor there while both engines run.
    by: str
    # Texts of alpha's fabric.yaml, and of beta's, and what stands there instead.
    edit: tuple[tuple[str, str], ...] = ()
    edit_beta: tuple[tuple[str, str], ...] = ()
    prepare: Prepare | None = None
    # What alpha's programs are run by.
    under: tuple[str, ...] = ()
    drivers: Drivers = SOCKETS
    # Alpha's wall clock is that far off.
    clock_seconds: int = 0
    # What hosts do while it is waited for the cause: commands in alpha's, and in beta's namespace.
    do: tuple[tuple[str, str], ...] = field(default=(("alpha", "ping -c 1 -W 1 10.7.0.2"),))


def run(stack: ExitStack, programs: Programs, names: Sequence[str]) -> list[Figure]:
    """Makes those mistakes whose names hold one of these texts; without any, all."""
    chosen = [
        each for each in MISTAKES if not names or any(name in each.name for name in names)
    ]
    pair = faults_pair.make(stack, "mistakes", programs)
    figures = []
    for mistake in chosen:
        began = time.monotonic()
        line = told(pair, mistake)
        took = time.monotonic() - began
        print(f"{mistake.name}: {'named' if line else 'NOT NAMED'} ({took:.1f} s)", flush=True)
        print(f"    {line}" if line else f"    wanted: {list(mistake.words)}", flush=True)
        figures.append(Figure(mistake.name, int(line is not None), at_least=1))
    return figures


def told(pair: Pair, mistake: Mistake) -> str | None:
    """Makes a mistake. Returns the line that names its cause, None if none does."""
    pair.configure(mistake.drivers)
    for node, edit in ((pair.alpha, mistake.edit), (pair.beta, mistake.edit_beta)):
        (node.folder / f"{node.name}.state").unlink(missing_ok=True)
        node.config.write_text(faults_cases.edited(node.config.read_text(), edit))
    with ExitStack() as stack:
        if mistake.prepare is not None:
            mistake.prepare(stack, pair)
        if mistake.by == "error":
            lines = [first_error(pair.alpha, mistake.under)]
        elif mistake.by == "doctor":
            lines = doctor(pair.alpha, mistake.under, mistake.clock_seconds)
        else:
            return told_by_doctor(stack, pair, mistake)
    line = named(lines, mistake.words)
    if line is None:
        print("\n".join(f"    found: {each}" for each in lines), flush=True)
    return line


def named(lines: Sequence[str], words: Sequence[str]) -> str | None:
    """The line that has all the words."""
    return next((line for line in lines if all(word in line for word in words)), None)


def first_error(node: Node, under: Sequence[str]) -> str:
    """Starts an engine that has to end by itself. Returns its first line that tells of an error."""
    command = node.namespace.inside(*under, *faults_cases.engine_command(node))
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=FAIL_SECONDS, check=False
        )
    except subprocess.TimeoutExpired:
        return f"the engine went on for {FAIL_SECONDS:g} s"
    outcome = faults_cases.Outcome(done.returncode, done.stdout + done.stderr)
    return faults_cases.without_time(outcome.first_error)


def doctor(node: Node, under: Sequence[str] = (), clock_seconds: int = 0) -> list[str]:
    """What `omni doctor` finds wrong at a node: each thing in one line."""
    tool = [str(node.programs.omni), "doctor", "--config", str(node.config), "--json"]
    if clock_seconds:
        report = node.folder / "doctor.json"
        with report.open("wb") as output:
            process = faults_vdso.start(tool, node.namespace, output, clock_seconds)
            process.wait(FAIL_SECONDS)
        text = report.read_text()
    else:
        command = node.namespace.inside(*under, *tool)
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=FAIL_SECONDS, check=False
        )
        text = done.stdout
    try:
        found: list[dict[str, Any]] = json.loads(text)["findings"]
    except ValueError:
        return [f"the doctor fails: {text}"]
    bad = [each for each in found if each["level"] in ("warning", "broken")]
    return [
        f"{each['check']}: {each['what']}; why: {each['why']}; fix: {each['fix']}" for each in bad
    ]


def told_by_doctor(stack: ExitStack, pair: Pair, mistake: Mistake) -> str | None:
    """Starts both engines, and asks one host's doctor until it names the cause."""
    for node in (pair.beta, pair.alpha):
        stack.callback(node.kill)
        if node is pair.alpha and mistake.clock_seconds:
            with node.log.open("wb") as log:
                command = faults_cases.engine_command(node)
                offset = mistake.clock_seconds
                node.process = faults_vdso.start(command, node.namespace, log, offset)
        else:
            node.start()
    for node in (pair.beta, pair.alpha):
        node.wait_ready()
    asked = pair.alpha if mistake.by == "alpha" else pair.beta
    deadline = time.monotonic() + TOLD_SECONDS
    while True:
        for host, command in mistake.do:
            inside = pair.nodes[host].namespace.inside(*command.split())
            subprocess.run(inside, capture_output=True, timeout=FAIL_SECONDS, check=False)
        lines = doctor(asked)
        line = named(lines, mistake.words)
        if line is not None or time.monotonic() > deadline:
            if line is None:
                print("\n".join(f"    found: {each}" for each in lines), flush=True)
            return line
        time.sleep(LOOK_SECONDS)


def ip_back(*words: str, back: Sequence[str]) -> Prepare:
    """Runs `ip` at alpha, and takes it back in the end."""

    def prepare(stack: ExitStack, pair: Pair) -> None:
        space = pair.alpha.namespace
        commands.run(space.ip(*words))
        stack.callback(commands.run, space.ip(*back))

    return prepare


def own_key_at_both(_stack: ExitStack, pair: Pair) -> None:
    """Beta's key is a copy of alpha's, and alpha's file has what beta printed."""
    text = pair.alpha.config.read_text()
    keys = pair.identities
    pair.alpha.config.write_text(
        text.replace(keys["beta"].public_key, keys["alpha"].public_key)
    )


def other_key(_stack: ExitStack, pair: Pair) -> None:
    """Alpha's file has another key for beta."""
    private = commands.run([str(pair.alpha.programs.omni), "keygen"])
    public = commands.run([str(pair.alpha.programs.omni), "pubkey"], stdin=private).strip()
    text = pair.alpha.config.read_text()
    pair.alpha.config.write_text(text.replace(pair.identities["beta"].public_key, public))


def port_taken(stack: ExitStack, pair: Pair) -> None:
    """Somebody else has the fabric's port."""
    with netns.inside(pair.alpha.namespace):
        taken = stack.enter_context(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
        taken.bind(("0.0.0.0", PORT))


def readable_key(stack: ExitStack, pair: Pair) -> None:
    """Everybody may read alpha's key."""
    key = pair.alpha.folder / "alpha.key"
    stack.callback(key.chmod, 0o600)
    key.chmod(0o644)


def small_path(stack: ExitStack, pair: Pair) -> None:
    """The network between carries less than both ends think, and says nothing."""
    for port in ("to-alpha", "to-beta"):
        commands.run(pair.wire.ip("link", "set", port, "mtu", "1300"))
        stack.callback(commands.run, pair.wire.ip("link", "set", port, "mtu", "1500"))


def firewall(stack: ExitStack, pair: Pair) -> None:
    """Alpha lets in what was asked for, and pings."""
    commands.run(pair.alpha.namespace.inside("nft", "-f", "-"), stdin=FIREWALL)
    stack.callback(commands.run, pair.alpha.namespace.inside("nft", "flush", "ruleset"))


def preshared_keys(stack: ExitStack, pair: Pair) -> None:
    """Each has a preshared key of its own."""
    for node, other in ((pair.alpha, "beta"), (pair.beta, "alpha")):
        path = node.folder / "peer.psk"
        path.touch(0o600)
        stack.callback(path.unlink)
        path.write_text(commands.run([str(node.programs.omni), "genpsk"]))
        text = node.config.read_text()
        old = f"  - name: {other}\n"
        node.config.write_text(text.replace(old, f"{old}    preshared_key_file: peer.psk\n"))


def expiring_certificate(stack: ExitStack, pair: Pair) -> None:
    """Alpha is certified, for an hour from now."""
    alpha = pair.alpha
    folder = alpha.folder / "authority"
    folder.mkdir(mode=0o700)
    authority = Authority(folder, "faults", alpha.programs)
    certificate = alpha.folder / "alpha.cert"
    stack.callback((folder / "authority.key").unlink)
    stack.callback(certificate.unlink)
    key = pair.identities["alpha"].public_key
    commands.run([*authority.enroll("alpha", key, certificate), "--expires", "1d"])
    lines = Meeting((), authority.public_key).lines("alpha.cert")[1:]
    alpha.config.write_text(alpha.config.read_text() + "\n".join(lines) + "\n")


def other_program(stack: ExitStack, pair: Pair) -> None:
    """Somebody else's XDP program is on alpha's underlay."""
    program = [sys.executable, "-m", "omni_lab.mistakes_xdp", netns.UNDERLAY]
    process = subprocess.Popen(
        pair.alpha.namespace.inside(*program), stdout=subprocess.PIPE, cwd=LAB
    )

    def end() -> None:
        process.kill()
        process.wait()

    stack.callback(end)
    if process.stdout is None or process.stdout.readline() != b"attached\n":
        raise commands.CommandError("the XDP program is not attached")


FIREWALL = """table inet filter {
    chain input {
        type filter hook input priority filter; policy drop;
        ct state established,related accept
        meta l4proto icmp accept
    }
}
"""
NUCLEUS = (
    "control:",
    'nucleus:\n  - endpoint: "192.0.2.2:51821"\n    public_key: '
    '"hSDwCYkwp1R0i33ctD73Wg2/Og0mOBr066SpjqqbTmo="\ncontrol:',
)
ACCESS = "  - interface: omni0"
SAME_ADDRESS = ('"10.7.0.2/24"', '"10.7.0.1/24"')
ASK_AROUND = (
    ("alpha", "ping -c 1 -W 1 10.7.0.9"),
    ("beta", "ping -c 1 -W 1 10.7.0.9"),
)

MISTAKES = (
    # The configuration and its files.
    Mistake(
        "an unknown key",
        ("interfase", "interface"),
        "error",
        edit=(("interface: eth0", "interfase: eth0"),),
    ),
    Mistake("a key file that others may read", ("chmod 600",), "error", prepare=readable_key),
    Mistake("one node's key at both", ("own public key",), "error", prepare=own_key_at_both),
    Mistake(
        "no such underlay",
        ("no interface eth77",),
        "doctor",
        edit=(("interface: eth0", "interface: eth77"),),
    ),
    # The host.
    Mistake("the port is taken", ("51820", "taken by"), "doctor", prepare=port_taken),
    Mistake(
        "the port is taken, and the engine is started",
        ("51820", "in use", "choose another port"),
        "error",
        prepare=port_taken,
    ),
    Mistake(
        "a missing capability",
        ("CAP_NET_RAW",),
        "doctor",
        under=without("net_raw"),
        drivers=AFXDP,
    ),
    Mistake(
        "ulimit -n", ("Too many open files", "ulimit -n"), "error", under=("prlimit", "--nofile=12")
    ),
    Mistake(
        "ulimit -l",
        ("ulimit -l",),
        "error",
        under=(*without("ipc_lock"), "prlimit", "--memlock=65536"),
        drivers=AFXDP,
    ),
    Mistake(
        "the underlay is down",
        ("eth0 is down", "ip link set eth0 up"),
        "doctor",
        prepare=ip_back("link", "set", "eth0", "down", back=("link", "set", "eth0", "up")),
    ),
    Mistake(
        "an XDP program of somebody else",
        ("another XDP program", "eth0"),
        "error",
        prepare=other_program,
        drivers=AFXDP,
    ),
    # The network.
    Mistake("the firewall", ("51820", "dropped", "nft add rule"), "doctor", prepare=firewall),
    Mistake("a small MTU on the path", ("peer beta", "MTU"), "doctor", prepare=small_path),
    Mistake("no Nucleus there", ("Nucleus", "unreachable"), "doctor", edit=(NUCLEUS,)),
    # The other side.
    Mistake("a wrong key for the peer", ("wrong public key",), "beta", prepare=other_key),
    Mistake(
        "another preshared key",
        ("handshake_invalid", "another preshared key"),
        "alpha",
        prepare=preshared_keys,
    ),
    Mistake(
        "another fabric name", ("another fabric name",), "beta", edit=(("faults", "defaults"),)
    ),
    Mistake("a clock two days ahead", ("clock",), "beta", clock_seconds=2 * DAY_SECONDS),
    Mistake(
        "a VLAN that the peer may not use",
        ("VLAN",),
        "beta",
        edit_beta=(("  - name: alpha\n", "  - name: alpha\n    vlans: [7]\n"),),
    ),
    Mistake(
        "two hosts with one address",
        ("two hosts have one IP address",),
        "beta",
        edit_beta=(SAME_ADDRESS,),
        do=ASK_AROUND,
    ),
    Mistake(
        "an address that is not allowed",
        ("access[].macs",),
        "alpha",
        edit=((ACCESS, f"{ACCESS}\n    macs: [02:00:00:00:00:99]"),),
    ),
    Mistake(
        "a clock a month ahead, and a certificate",
        ("has expired", "clock"),
        "doctor",
        prepare=expiring_certificate,
        clock_seconds=30 * DAY_SECONDS,
    ),
)
