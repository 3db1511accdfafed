"""Encrypted tunnels of others, as their own documents set them up, between two hosts.

Each is a class: what it needs, what it writes, and the command that runs on each host.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path

from . import commands
from .compare_contestants import (
    CRATES,
    Contestant,
    Kind,
    Link,
    Package,
    check_running,
    configure,
    find_program,
    first_line,
    start,
    wait_for_interface,
)
from .compare_pair import End, Pair
from .compare_wireguard import VxlanOverWireguard, Wireguard
from .node import write_private

PORT = 10000
INSTALL_SECONDS = 1800.0
SECRET = "a secret of the comparison's"


class Tunnel(Contestant):
    """A program on each host, which makes a tap interface and speaks UDP."""

    kind = Kind.LAYER2
    device = "tap0"
    mtu = 1400

    @property
    def program(self) -> str:
        """The program that runs on both hosts: the first of those that are needed."""
        return next(iter(self.programs))

    def prepare(self, pair: Pair) -> None:
        """Writes keys and files into the hosts' folders."""

    def command(self, here: End, there: End) -> list[str]:
        """What runs on a host, in the foreground and in its folder."""
        raise NotImplementedError

    def environment(self, here: End, there: End) -> Mapping[str, str]:
        """Variables for it."""
        return {}

    def version(self) -> str:
        return first_line([find_program(self.program), "--version"])

    def up(self, stack: ExitStack, pair: Pair) -> Link:
        self.prepare(pair)
        processes = []
        for end in pair.ends:
            there = pair.other(end)
            command = self.command(end, there)
            command[0] = find_program(command[0])
            process = start(stack, end, command, self.environment(end, there))
            wait_for_interface(end, self.device, process)
            configure(end, self.device, self.mtu)
            processes.append(process)
        for end, process in zip(pair.ends, processes):
            check_running(end, process)
        return Link(pair.left.overlay, pair.right.overlay, processes)


class Fastd(Tunnel):
    """fastd with the method that it is most often used with."""

    name, about = "fastd", "tap, salsa2012+umac, MTU 1420"
    programs = {"fastd": Package("fastd")}
    mtu = 1420

    def prepare(self, pair: Pair) -> None:
        keys = {}
        for end in pair.ends:
            said = commands.run(["fastd", "--generate-key"])
            keys[end.name] = dict(line.split(": ") for line in said.splitlines() if ": " in line)
        for end in pair.ends:
            there = pair.other(end)
            text = (
                f'interface "{self.device}";\nmode tap;\nmethod "salsa2012+umac";\n'
                f"mtu {self.mtu};\nbind {end.underlay}:{PORT};\n"
                f'secret "{keys[end.name]["Secret"]}";\n'
                f'peer "{there.name}" {{ key "{keys[there.name]["Public"]}"; '
                f"remote ipv4 {there.underlay} port {PORT}; }}\n"
            )
            write_private(end.folder / "fastd.conf", text)

    def command(self, here: End, there: End) -> list[str]:
        return ["fastd", "--config", "fastd.conf"]


class Vpncloud(Tunnel):
    """vpncloud as a switch; it takes the cipher that is fastest here."""

    name, about = "vpncloud", "tap, switch, its own choice of cipher, MTU 1400"
    programs = {"vpncloud": Package("vpncloud", crate=True)}

    def command(self, here: End, there: End) -> list[str]:
        return [
            *("vpncloud", "--no-port-forwarding", "--type", "tap", "--mode", "switch"),
            *("--device", self.device, "--listen", f"{here.underlay}:{PORT}"),
            *("--peer", f"{there.underlay}:{PORT}", "--password", SECRET),
        ]


class Openvpn(Tunnel):
    """OpenVPN from host to host, over UDP."""

    name, about = "openvpn", "tap, TLS, AES-256-GCM, --fast-io, MTU 1420"
    programs = {"openvpn": Package("openvpn"), "openssl": Package("openssl")}
    mtu = 1420
    settle_seconds = 1.0

    def prepare(self, pair: Pair) -> None:
        self.fingerprints = {}
        for end in pair.ends:
            key, certificate = str(end.folder / "key.pem"), str(end.folder / "certificate.pem")
            new = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes")
            subject = ("-days", "30", "-subj", f"/CN={end.name}")
            files = ("-keyout", key, "-out", certificate)
            commands.run(["openssl", "req", "-x509", *new, *subject, *files])
            said = commands.run(
                ["openssl", "x509", "-fingerprint", "-sha256", "-noout", "-in", certificate]
            )
            self.fingerprints[end.name] = said.strip().partition("=")[2]

    def command(self, here: End, there: End) -> list[str]:
        side = "--tls-server" if here.name < there.name else "--tls-client"
        return [
            *("openvpn", "--dev", self.device, "--dev-type", "tap", "--proto", "udp"),
            *("--local", here.underlay, "--remote", there.underlay, "--port", str(PORT)),
            *(side, "--dh", "none", "--key", "key.pem", "--cert", "certificate.pem"),
            *("--peer-fingerprint", self.fingerprints[there.name]),
            *("--data-ciphers", "AES-256-GCM", "--tun-mtu", str(self.mtu), "--mssfix", "0"),
            *("--fast-io", "--verb", "1"),
        ]


class Tinc(Tunnel):
    """tinc as a switch. It begins over TCP, until it knows what UDP carries."""

    name, about = "tinc", "tap, switch, AES-256-CBC with SHA-256, MTU 1400"
    programs = {"tincd": Package("tinc")}
    settle_seconds = 6.0

    def prepare(self, pair: Pair) -> None:
        for end in pair.ends:
            (end.folder / "hosts").mkdir()
            lines = [
                *(f"Name = {end.name}", "Mode = switch", "DeviceType = tap"),
                *(f"Interface = {self.device}", f"BindToAddress = {end.underlay} {PORT}"),
                f"ConnectTo = {pair.other(end).name}",
            ]
            (end.folder / "tinc.conf").write_text("\n".join(lines) + "\n")
            own = end.folder / "hosts" / end.name
            own.write_text(f"Address = {end.underlay} {PORT}\nPort = {PORT}\n")
            commands.run(["tincd", "--config", str(end.folder), "--generate-keys=2048"])
        for end in pair.ends:
            there = pair.other(end)
            text = (there.folder / "hosts" / there.name).read_text()
            (end.folder / "hosts" / there.name).write_text(text)

    def command(self, here: End, there: End) -> list[str]:
        files = ("--config", str(here.folder), "--pidfile", str(here.folder / "pid"))
        return ["tincd", *files, "--no-detach"]


class N2n(Tunnel):
    """n2n: edges that a supernode on the left host brings together."""

    name, about = "n2n", "tap, Twofish, supernode on the left host, MTU 1400"
    programs = {"edge": Package("n2n"), "supernode": Package("n2n")}
    settle_seconds = 5.0

    def version(self) -> str:
        return first_line([find_program("edge"), "-h"])

    def up(self, stack: ExitStack, pair: Pair) -> Link:
        process = start(stack, pair.left, [find_program("supernode"), "-l", str(PORT)])
        link = super().up(stack, pair)
        link.processes.append(process)
        return link

    def command(self, here: End, there: End) -> list[str]:
        supernode = min(here, there, key=lambda end: end.name).underlay
        return [
            *("edge", "-d", self.device, "-a", here.overlay, "-c", "comparison"),
            *("-l", f"{supernode}:{PORT}", "-M", str(self.mtu), "-r"),
        ]

    def environment(self, here: End, there: End) -> Mapping[str, str]:
        return {"N2N_KEY": SECRET}


WIREGUARD_GO = "wireguard-go"
NEWEST = "wireguard-go-newest"
OVER_WIREGUARD = "vxlan-wireguard-go"
DEBIAN_WIREGUARD = {WIREGUARD_GO: Package("wireguard-go"), "wg": Package("wireguard-tools")}
GOTATUN = {"gotatun": Package("gotatun-cli", crate=True), "wg": Package("wireguard-tools")}

MAKERS: Mapping[str, Callable[[], Contestant]] = {
    "fastd": Fastd,
    "vpncloud": Vpncloud,
    "openvpn": Openvpn,
    "tinc": Tinc,
    "n2n": N2n,
    OVER_WIREGUARD: lambda: VxlanOverWireguard(OVER_WIREGUARD, DEBIAN_WIREGUARD),
    WIREGUARD_GO: lambda: Wireguard(WIREGUARD_GO, DEBIAN_WIREGUARD),
    "gotatun": lambda: Wireguard("gotatun", GOTATUN, ("--disable-drop-privileges",)),
}


def names() -> list[str]:
    """All that can be asked for."""
    return list(MAKERS)


def make(wanted: Iterable[str], newest: Path | None) -> list[Contestant]:
    """Those that are wanted, and the newer wireguard-go where a program is given."""
    found = [MAKERS[name]() for name in wanted]
    if newest is not None:
        programs = {str(newest): Package("wireguard-go"), "wg": Package("wireguard-tools")}
        found.append(Wireguard(NEWEST, programs))
        found.append(VxlanOverWireguard(f"vxlan-{NEWEST}", programs))
    return found


def install(contestants: Iterable[Contestant]) -> None:
    """Installs what is missing of them. What cannot be installed is said, and left out later."""
    packages = {
        package
        for each in contestants
        for program, package in each.programs.items()
        if find_program(program) == program and not os.path.isabs(program)
    }
    debian = sorted(each.name for each in packages if not each.crate)
    if debian:
        environment = {"DEBIAN_FRONTEND": "noninteractive"}
        options = ("-qq", "-o", "DPkg::Lock::Timeout=120", "--no-install-recommends", "-y")
        # One by one: a package that is not there must not keep the others out.
        for name in debian:
            try_command(["apt-get", *options, "install", name], environment)
    for each in sorted(package.name for package in packages if package.crate):
        try_command(["cargo", "install", "--root", str(CRATES), each], {})


def try_command(command: Sequence[str], environment: Mapping[str, str]) -> None:
    """Runs a command that may fail, and says so."""
    commands.echo(command)
    words = [f"{name}={value}" for name, value in environment.items()]
    try:
        commands.run(["env", *words, *command], timeout=INSTALL_SECONDS)
    except commands.CommandError as error:
        print(f"not installed: {error}", flush=True)
