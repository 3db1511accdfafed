"""What a node needs is not there: the first error line names cause and remedy, the exit status is
as documented, and nothing is left.
"""

from __future__ import annotations

import argparse
import shutil
import socket
import sys
import tempfile
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

from . import faults_cases, faults_nucleus, netns, rendezvous
from .faults_cases import SOCKETS, VETH, Case, Ground
from .figures import Figure
from .node import PORT, Drivers, Node, Programs
from .rendezvous import Authority, Meeting
from .report import heading

# What docs/operations.md asks for.
DOCUMENTED = ("net_raw", "net_admin", "bpf", "sys_nice", "ipc_lock")
AF_XDP = 44
SMALL_OCTETS = 65536
UNDERLAY = "interface: eth0"


def run(stack: ExitStack, programs: Programs, _options: argparse.Namespace) -> list[Figure]:
    """All cases."""
    heading("Engines where something is missing or wrong")
    ground = Ground(stack, programs)
    figures = faults_cases.judge(ground, CASES)
    return figures + faults_nucleus.judge(stack, programs, ground.namespace)


def with_capabilities(*names: str) -> tuple[str, ...]:
    """Runs a command as root with these capabilities and no others."""
    bounding = ",".join(["-all", *(f"+{name}" for name in names)])
    return ("setpriv", f"--bounding-set={bounding}", "--inh-caps=-all")


def without(name: str) -> tuple[str, ...]:
    """All that is documented but one."""
    return with_capabilities(*(each for each in DOCUMENTED if each != name))


def refusing(call: str, error: str, first: int | None = None) -> tuple[str, ...]:
    """Runs a command to which the kernel refuses a system call."""
    module = (sys.executable, "-m", "omni_lab.faults_refuse", "--call", call, "--errno", error)
    return (*module, *(("--first", str(first)) if first is not None else ()), "--")


def covering(folder: str, options: str = "mode=755") -> tuple[str, ...]:
    """Runs a command in a mount namespace where an empty file system covers a folder."""
    script = f'mount -t tmpfs -o {options} none {folder} && exec "$@"'
    return ("unshare", "--mount", "sh", "-c", script, "sh")


def made(*words: str) -> Callable[[ExitStack, Ground], None]:
    """Makes an interface for the case, whose name comes third."""

    def prepare(stack: ExitStack, ground: Ground) -> None:
        ground.ip(*words)
        stack.callback(ground.ip, "link", "delete", words[2])
        ground.ip("link", "set", words[2], "up")

    return prepare


def port_taken(stack: ExitStack, ground: Ground) -> None:
    """Somebody else has the fabric's port."""
    with netns.inside(ground.namespace):
        taken = stack.enter_context(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
        taken.bind(("0.0.0.0", PORT))


def another_engine(name: str) -> Callable[[ExitStack, Ground], None]:
    """An engine with the same key runs on the same host: `name` is what its socket is called."""

    def prepare(stack: ExitStack, ground: Ground) -> None:
        folder = ground.folder / "other"
        folder.mkdir()
        stack.callback(shutil.rmtree, folder)
        other = Node("alpha", ground.namespace, folder, ground.programs)
        text = ground.node.config.read_text()
        key = ground.folder / "alpha.key"
        socket_path = ground.folder / name
        edit = [
            ("private_key_file: alpha.key", f"private_key_file: {key}"),
            ("interface: omni0", "interface: omni1"),
            (f'socket: "{ground.node.socket}"', f'socket: "{socket_path}"'),
            ('addresses: ["10.7.0.1/24"]', "addresses: []"),
        ]
        other.config.write_text(faults_cases.edited(text, edit))
        other.start()
        stack.callback(other.kill)
        other.wait_ready()

    return prepare


def mode_of_key(mode: int) -> Callable[[ExitStack, Ground], None]:
    """The key file has another mode."""

    def prepare(stack: ExitStack, ground: Ground) -> None:
        key = ground.folder / "alpha.key"
        stack.callback(key.chmod, 0o600)
        key.chmod(mode)

    return prepare


def delete(interface: str) -> Callable[[Ground], None]:
    """Deletes an interface of the running engine."""
    return lambda ground: ground.ip("link", "delete", interface)


def own_key(_stack: ExitStack, ground: Ground) -> None:
    """The peer has the node's own key."""
    text = ground.node.config.read_text()
    ground.node.config.write_text(text.replace(ground.peer.public_key, ground.key))


def member_without_certificate(_stack: ExitStack, ground: Ground) -> None:
    """The node is to be certified, and is not."""
    with tempfile.TemporaryDirectory(prefix="omni-missing-") as folder:
        authority = Authority(Path(folder), "faults", ground.programs)
    nucleus = (f"{ground.peer.underlay}:{rendezvous.PORT}", ground.peer.public_key)
    lines = "\n".join(Meeting((nucleus,), authority.public_key).lines("none.cert"))
    text = ground.node.config.read_text()
    ground.node.config.write_text(text.replace("control:", f"{lines}\ncontrol:"))


CASES = (
    # Capabilities, all that are documented and then one less.
    Case("all documented capabilities", ("ready",), None, by=with_capabilities(*DOCUMENTED)),
    Case("without CAP_NET_RAW", ("CAP_NET_RAW",), by=without("net_raw")),
    Case("without CAP_NET_ADMIN", ("CAP_NET_ADMIN",), by=without("net_admin")),
    Case("without CAP_BPF", ("CAP_BPF",), by=without("bpf")),
    Case("without CAP_SYS_NICE", ("CAP_SYS_NICE",), None, by=without("sys_nice")),
    Case(
        "realtime without CAP_SYS_NICE",
        ("workers.priority", "CAP_SYS_NICE"),
        by=without("sys_nice"),
        edit=(("access:", "workers:\n  priority: realtime\naccess:"),),
    ),
    Case(
        "without CAP_IPC_LOCK and memlock",
        ("packet memory", "CAP_IPC_LOCK", "ulimit -l"),
        by=(*without("ipc_lock"), "prlimit", f"--memlock={SMALL_OCTETS}"),
    ),
    Case(
        "udp and tap: CAP_NET_ADMIN alone",
        ("ready",),
        None,
        drivers=SOCKETS,
        by=with_capabilities("net_admin"),
    ),
    Case(
        "udp and tap without CAP_NET_ADMIN",
        ("CAP_NET_ADMIN",),
        drivers=SOCKETS,
        by=with_capabilities(),
    ),
    # Parts of the kernel.
    Case("no /dev/net/tun", ("tap omni0", "/dev/net/tun"), by=covering("/dev/net")),
    Case(
        "no bpf(2) in the kernel",
        ("bpf(2)", "CONFIG_BPF_SYSCALL", "UDP sockets"),
        by=refusing("bpf", "ENOSYS"),
    ),
    Case("bpf(2) forbidden", ("permission denied", "CAP_BPF"), by=refusing("bpf", "EPERM")),
    Case("an old kernel", ("kernel", "Linux 5.9"), by=("setarch", "--uname-2.6")),
    Case(
        "no AF_XDP",
        ("AF_XDP", "underlay.driver: udp"),
        by=refusing("socket", "EAFNOSUPPORT", AF_XDP),
    ),
    Case(
        "no AF_XDP, driver auto",
        ("receive=Udp", "AF_XDP"),
        None,
        drivers=Drivers(access="tap", underlay="auto"),
        by=refusing("socket", "EAFNOSUPPORT", AF_XDP),
    ),
    # Drivers.
    Case(
        "native XDP on a bridge",
        ("du0", "native", "xdp: generic"),
        edit=((UNDERLAY, "interface: du0\n  xdp: native"),),
        prepare=made("link", "add", "du0", "type", "bridge"),
    ),
    Case(
        "a bridge, any XDP",
        ("du0", "generic"),
        None,
        edit=((UNDERLAY, "interface: du0"),),
        prepare=made("link", "add", "du0", "type", "bridge"),
    ),
    Case(
        "the loopback, native XDP",
        ("lo", "native"),
        edit=((UNDERLAY, "interface: lo\n  xdp: native"),),
    ),
    Case(
        "zero copy on a veth",
        ("eth0", "zero_copy: off"),
        edit=((UNDERLAY, "interface: eth0\n  zero_copy: on"),),
    ),
    Case(
        "zero copy and a veth pair that is made",
        ("zero_copy: on", "driver: tap"),
        drivers=VETH,
        edit=((UNDERLAY, "interface: eth0\n  zero_copy: on"),),
    ),
    # Interfaces, ports, files.
    Case(
        "no such underlay", ("underlay.interface", "eth77"), edit=((UNDERLAY, "interface: eth77"),)
    ),
    Case(
        "no such queue",
        ("underlay.queues", "eth0", "queue 7", "0..=0"),
        edit=((UNDERLAY, "interface: eth0\n  queues: [7]"),),
    ),
    Case(
        "an access MTU that does not fit",
        ("access[0].mtu", "1500", "1426"),
        edit=(("  - interface: omni0", "  - interface: omni0\n    mtu: 1500"),),
    ),
    Case(
        "an interface that is no tap",
        ("tap du0", "ip tuntap add"),
        edit=(("- interface: omni0", "- interface: du0"),),
        prepare=made("link", "add", "du0", "type", "bridge"),
    ),
    Case("port in use", ("underlay.port", str(PORT), "choose another port"), prepare=port_taken),
    Case(
        "another engine, same socket",
        ("control.socket", "another engine"),
        prepare=another_engine("omni.sock"),
    ),
    Case(
        "another engine with the same key",
        ("underlay.port", str(PORT), "in use"),
        drivers=SOCKETS,
        prepare=another_engine("other.sock"),
    ),
    Case(
        "the control socket's folder is read-only",
        ("control.socket", "/run/omni/alpha.sock", "Read-only"),
        by=("sh", "-c", 'mkdir -p /run/omni && exec "$@"', "sh", *covering("/run/omni", "ro")),
        edit=(("  socket: ", "  # socket: "),),
    ),
    Case("the access port is deleted", ("omni0", "deleted"), meanwhile=delete("omni0")),
    Case(
        "the access veth pair is deleted",
        ("omni0", "deleted"),
        drivers=VETH,
        meanwhile=delete("omni0"),
    ),
    # The configuration.
    Case("a peer with the own key", ("peers", "own public key"), prepare=own_key),
    Case(
        "a key that is unknown",
        ("fabric.yaml:2", "nodes"),
        status=2,
        edit=(("node:", "nodes:"),),
    ),
    Case(
        "a value out of range",
        ("fabric.yaml:", "underlay.port", "99999", "1..=65535"),
        status=2,
        edit=((UNDERLAY, "interface: eth0\n  port: 99999"),),
    ),
    Case(
        "no key file",
        ("node.private_key_file", "other.key"),
        status=2,
        edit=(("private_key_file: alpha.key", "private_key_file: other.key"),),
    ),
    Case(
        "a key file that others may read",
        ("node.private_key_file", "0644", "chmod 600"),
        status=2,
        prepare=mode_of_key(0o644),
    ),
    Case(
        "no certificate",
        ("authority.certificate_file", "none.cert"),
        prepare=member_without_certificate,
    ),
)
