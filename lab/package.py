#!/usr/bin/env python3
"""The Debian package on two clean systems, by docs/quick-start.md as it stands.

Makes a minimal Debian with mmdebstrap (once: it is kept in target/package), builds the package out
of the built programs, and boots two hosts of it with systemd in namespaces, behind a firewall that
lets nothing in. There it carries out every command of the quick start, and says how long it took to
the first ping. Then it restarts an engine and upgrades the package while the other host pings every
10 ms, removes the package, installs it again, purges it by the page's last section, and looks for
what is left behind.

With --recipes it carries out docs/recipes.md instead: for each recipe two new hosts, the quick
start, and then the recipe's commands, of which the last is a ping.

Needs root, mmdebstrap, dpkg-dev, and a mirror of Debian the first time. All it made is removed, but
for the archive of the system.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path

from omni_lab import booted, commands, netns, quick_start
from omni_lab.booted import Booted
from omni_lab.commands import CommandError
from omni_lab.interrupt import Interrupted, catch_signals, ignore_signals
from omni_lab.node import add_programs
from omni_lab.quick_start import Block, QuickStartError

REPOSITORY = Path(__file__).resolve().parent.parent
PAGE = REPOSITORY / "docs" / "quick-start.md"
ADDRESSES = {"alpha": "192.0.2.1/24", "beta": "192.0.2.2/24"}
HOSTS = tuple(ADDRESSES)
RECIPES = REPOSITORY / "docs" / "recipes.md"
# What shells and `man` read.
MANUAL = (
    "/usr/share/man/man1/omni-doctor.1.gz",
    "/usr/share/man/man8/omni-engine.8.gz",
    "/usr/share/man/man8/omni-nucleus.8.gz",
    "/usr/share/bash-completion/completions/omni",
    "/usr/share/zsh/vendor-completions/_omni-engine",
    "/usr/share/fish/vendor_completions.d/omni-nucleus.fish",
)
# What recipes are about, which the quick start's system has not.
RECIPE_PACKAGES = ("ifupdown", "netplan.io")
# Minimal systems, which take a minute to make.
KEPT = REPOSITORY / "target" / "package"
LAST_SECTION = "Take it off again"
# Answers come back in; nothing else does but what tells of the network itself.
FIREWALL = """nft -f - <<'END'
table inet filter {
    chain input {
        type filter hook input priority filter; policy drop;
        iifname { "lo", "omni0" } accept
        ct state established,related accept
        meta l4proto { icmp, icmpv6 } accept
    }
}
END"""
# Where even root may not lift limits, as in some containers, units cannot either.
DROP_IN = """mkdir -p /etc/systemd/system/omni-engine@.service.d
cat > /etc/systemd/system/omni-engine@.service.d/lab.conf <<'END'
[Service]
CapabilityBoundingSet=CAP_IPC_LOCK
AmbientCapabilities=CAP_IPC_LOCK
END
systemctl daemon-reload"""
# What an upgrade does at its end, where the operator does not want restarts.
FORBIDDEN = """printf '#!/bin/sh\\nexit 101\\n' > /usr/sbin/policy-rc.d
chmod +x /usr/sbin/policy-rc.d
/var/lib/dpkg/info/omninervous.postinst configure 0.1.0
rm /usr/sbin/policy-rc.d"""
# Pings of a measurement: every 10 ms, so that a gap is known within that.
PINGS = 800
INTERVAL_SECONDS = 0.01
# By when pings are answered before something is done.
LEAD_SECONDS = 1.0
# Without traffic for so long at most, when an engine restarts, by command or by an upgrade.
GAP_MAX_SECONDS = 1.0
FIRST_PING_MAX_SECONDS = 60.0


class Verdict:
    """What was found: figures, and what missed its target."""

    def __init__(self) -> None:
        self.missed: list[str] = []

    def check(self, good: bool, text: str) -> None:
        """Prints what was looked at, and keeps it if it is not as it should be."""
        print(f"  {'ok    ' if good else 'MISSED'}  {text}", flush=True)
        if not good:
            self.missed.append(text)


class Reader:
    """Who carries the page out, and knows what it printed."""

    def __init__(self, hosts: dict[str, Booted], quiet: bool = False) -> None:
        self.hosts = hosts
        self.quiet = quiet
        self.keys: dict[str, str] = {}

    def say(self, text: str) -> None:
        """Shows what is done, unless it is only the way to what is looked at."""
        if not self.quiet:
            print(text, flush=True)

    def carry_out(self, block: Block) -> None:
        """Does on hosts what a block says."""
        for name in block.hosts(HOSTS):
            host = self.hosts[name]
            if block.path is not None:
                text = quick_start.fill(block.text, self.keys)
                self.say(f"{name}: writes {block.path}")
                folder = Path(block.path).parent
                host.shell(f"mkdir -p {folder}\ncat > {block.path} <<'END'\n{text}END")
                continue
            text = quick_start.fill(block.text, self.keys)
            for line in text.splitlines():
                self.say(f"{name}# {line}")
            try:
                printed = host.shell(text).strip()
            except CommandError as error:
                journal = host.shell("journalctl -q --no-pager -n 20 -o cat")
                raise CommandError(f"{error}\n{journal}") from error
            # Its last line is the public key.
            if "omni init" in block.text:
                self.keys[name] = printed.splitlines()[-1]


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    option = parser.add_argument
    add_programs(parser)
    option("--suite", default="bookworm", help="Debian's release (bookworm)")
    option(
        "--recipes",
        nargs="?",
        const="",
        metavar="WORDS",
        help="carry out the recipes with these words in their headings, or all",
    )
    return parser.parse_args()


def main() -> int:
    """Exit status 0 when all went as it should."""
    options = parse_arguments()
    reason = booted.obstacle()
    if reason is not None:
        print(f"package: {reason}", file=sys.stderr)
        return 1
    catch_signals()
    verdict = Verdict()
    try:
        with ExitStack() as stack:
            try:
                if options.recipes is None:
                    carry_out_quick_start(stack, options, verdict)
                else:
                    carry_out_recipes(stack, options, verdict)
            finally:
                ignore_signals()
    except (CommandError, QuickStartError) as error:
        print(f"package: {error}", file=sys.stderr)
        return 1
    except Interrupted as error:
        print(f"package: ended by {error}", file=sys.stderr)
        return 1
    for text in verdict.missed:
        print(f"missed: {text}")
    print("All as it should be." if not verdict.missed else "Not all is as it should be.")
    return 1 if verdict.missed else 0


def carry_out_quick_start(
    stack: ExitStack, options: argparse.Namespace, verdict: Verdict
) -> None:
    """The package from its installation until nothing is left of it."""
    folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="omni-package-")))
    package, newer = (build(options.programs, folder / "built", name) for name in ("", "+next"))
    print(f"package: {package.name}, {package.stat().st_size / 1e6:.1f} MB", flush=True)
    system = make_system(folder, options.suite)
    reader = Reader(boot(stack, system, folder, package))
    hosts = reader.hosts
    before = {name: host.files() for name, host in hosts.items()}
    page = quick_start.blocks(PAGE.read_text())
    begun = time.monotonic()
    for block in page:
        if block.section == LAST_SECTION:
            break
        reader.carry_out(block)
        if "ping" in block.text:
            seconds = time.monotonic() - begun
            text = f"from the first command to the first ping and omni show: {seconds:.1f} s"
            verdict.check(seconds <= FIRST_PING_MAX_SECONDS, text)
    check_installed(hosts, verdict)
    measure(hosts, newer, verdict)
    take_off(reader, package, [each for each in page if each.section == LAST_SECTION], verdict)
    for name, host in hosts.items():
        left = sorted(host.files() - before[name])
        verdict.check(not left, f"{name}: left behind by purge: {', '.join(left) or 'nothing'}")
        users = host.shell("grep -l omni /etc/passwd /etc/group /etc/shadow || true").split()
        verdict.check(not users, f"{name}: users and groups of the package are gone: {not users}")


def carry_out_recipes(stack: ExitStack, options: argparse.Namespace, verdict: Verdict) -> None:
    """Each recipe, on two hosts of its own."""
    folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="omni-package-")))
    package = build(options.programs, folder / "built", "")
    system = make_system(folder, options.suite, RECIPE_PACKAGES)
    page = quick_start.blocks(RECIPES.read_text())
    start = [each for each in quick_start.blocks(PAGE.read_text()) if each.section != LAST_SECTION]
    chosen = dict.fromkeys(each.section for each in page if options.recipes in each.section)
    if not chosen:
        raise QuickStartError(f"no recipe has {options.recipes!r} in its heading")
    for number, section in enumerate(chosen):
        print(f"== {section}", flush=True)
        with ExitStack() as recipe:
            reader = Reader(boot(recipe, system, folder / str(number), package), quiet=True)
            try:
                for block in start:
                    reader.carry_out(block)
                reader.quiet = False
                for block in page:
                    if block.section == section:
                        reader.carry_out(block)
            except CommandError as error:
                print(error, flush=True)
                verdict.check(False, section)
            else:
                verdict.check(True, section)


def make_system(folder: Path, suite: str, more: tuple[str, ...] = ()) -> Path:
    """A minimal Debian in a folder, out of the archive that is kept."""
    archive = KEPT / f"{'-'.join((suite, *more))}.tar"
    booted.make_system(archive, suite, more)
    return booted.unpack(archive, folder / "system")


def boot(stack: ExitStack, system: Path, folder: Path, package: Path) -> dict[str, Booted]:
    """Two hosts on one wire, behind firewalls, each with the package's file in root's home."""
    on_wire = [netns.Host(name, address) for name, address in ADDRESSES.items()]
    underlay = netns.build(stack, "omni-package", on_wire)
    underlay.connect()
    limited = not may_lock_memory()
    if limited:
        print("limits cannot be lifted here: engines get CAP_IPC_LOCK beyond their unit")
    hosts = {}
    for name, namespace in underlay.hosts.items():
        host = hosts[name] = booted.boot(stack, system, folder / "hosts", name, namespace)
        host.shell(FIREWALL)
        if limited:
            host.shell(DROP_IN)
        copy(package, host)
    return hosts


def may_lock_memory() -> bool:
    """Whether this machine lets root lift the limit of locked memory, as units of systemd do."""
    lift = ["sh", "-c", "ulimit -l unlimited"]
    return subprocess.run(lift, stderr=subprocess.DEVNULL, check=False).returncode == 0


def build(programs: Path, output: Path, suffix: str) -> Path:
    """The package of the programs; with a suffix, one of a later version."""
    script = str(REPOSITORY / "scripts" / "deb.sh")
    command = [script, "--programs", str(programs.resolve()), "--output", str(output)]
    if suffix:
        text = (REPOSITORY / "Cargo.toml").read_text()
        version = text.split("[workspace.package]")[1].split('version = "')[1].split('"')[0]
        command += ["--version", version + suffix]
    return Path(commands.run(command, timeout=300).strip())


def copy(package: Path, host: Booted) -> None:
    """Copies a package to a host, where its quick start begins: root's home."""
    # Through the host's own view: the folder where it is joined is in no other's.
    with package.open("rb") as source:
        subprocess.run(
            host.inside("sh", "-c", f"rm -f /root/*.deb; cat > /root/{package.name}"),
            stdin=source,
            check=True,
            timeout=60,
        )


def check_installed(hosts: dict[str, Booted], verdict: Verdict) -> None:
    """What the package made, and how its programs run."""
    for name, host in hosts.items():
        modes = host.shell("stat -c '%a %U %G' /etc/omni").strip()
        verdict.check(modes == "750 root omni", f"{name}: /etc/omni is {modes}")
        missing = sorted(set(MANUAL) - host.files())
        verdict.check(not missing, f"{name}: missing of the manual: {', '.join(missing) or 'none'}")
        show = f"systemctl show -P MainPID omni-engine@{name}"
        ids = host.shell(f"grep ^Uid: /proc/$({show})/status").split()
        own = host.shell("id -u omni").strip()
        verdict.check(set(ids[1:]) == {own}, f"{name}: the engine runs as omni")
        enabled = host.shell("systemctl is-enabled omni-nucleus || true").strip()
        verdict.check(enabled == "disabled", f"{name}: the Nucleus is {enabled}")
        failed = host.shell("systemctl --failed --plain --no-legend").strip()
        verdict.check(not failed, f"{name}: units that failed: {failed or 'none'}")


def measure(hosts: dict[str, Booted], newer: Path, verdict: Verdict) -> None:
    """How long traffic stands still while beta's engine restarts."""
    beta = hosts["beta"]
    copy(newer, beta)
    install = f"apt-get install -y ./{newer.name}"
    started = "systemctl show -P ActiveEnterTimestampMonotonic omni-engine@beta"
    for what, command in (
        ("systemctl restart", "systemctl restart omni-engine@beta"),
        ("an upgrade", install),
    ):
        before = beta.shell(started)
        gap, lost = cut(hosts["alpha"], beta, command)
        text = f"{what}: traffic stood still for {gap * 1e3:.0f} ms, {lost} of {PINGS} pings lost"
        verdict.check(gap <= GAP_MAX_SECONDS, text)
        verdict.check(beta.shell(started) != before, f"{what}: the engine was started anew")
    before = beta.shell(started)
    beta.shell(FORBIDDEN)
    text = "policy-rc.d forbids restarts: an upgrade leaves the engine running"
    verdict.check(beta.shell(started) == before, text)
    installed = beta.shell("dpkg-query -W -f '${Version}' omninervous")
    verdict.check(installed.endswith("+next"), f"beta: version {installed} is installed")


def cut(host: Booted, other: Booted, command: str) -> tuple[float, int]:
    """Pings while the other host runs a command. Returns the longest gap in seconds, and how many
    pings got lost.
    """
    ping = ["ping", "-D", "-i", str(INTERVAL_SECONDS), "-c", str(PINGS), "-W", "1", "10.7.0.2"]
    with subprocess.Popen(host.inside(*ping), stdout=subprocess.PIPE, text=True) as process:
        time.sleep(LEAD_SECONDS)
        other.shell(command)
        replies = process.communicate(timeout=PINGS * INTERVAL_SECONDS + 60)[0]
    answered = len(quick_start.REPLY_TIME.findall(replies))
    return quick_start.longest_gap(replies), PINGS - answered


def take_off(reader: Reader, package: Path, page: list[Block], verdict: Verdict) -> None:
    """Removes the package, which leaves what is the operator's; and purges it by the page."""
    beta = reader.hosts["beta"]
    beta.shell("apt-get remove -y omninervous")
    kept = beta.shell("ls /etc/omni").split()
    verdict.check(kept == ["beta.key", "beta.yaml"], f"beta: remove leaves {' '.join(kept)}")
    link = beta.shell("ip -o link show omni0 2>/dev/null || true")
    verdict.check(not link, "beta: remove stops the engine, and omni0 is gone")
    copy(package, beta)
    beta.shell("apt-get install -y --allow-downgrades ./*.deb")
    active = beta.shell("systemctl is-active omni-engine@beta || true").strip()
    verdict.check(active != "active", f"beta: a new installation starts nothing ({active})")
    for block in page:
        reader.carry_out(block)


if __name__ == "__main__":
    sys.exit(main())
