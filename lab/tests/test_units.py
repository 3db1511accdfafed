"""The units keep the programs in, and the programs live with that."""

import contextlib
import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
import unittest
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

from omni_lab import commands, netns, units

PROGRAMS = Path(
    os.environ.get("OMNI_PROGRAMS", Path(__file__).resolve().parents[2] / "target" / "release")
)
ENGINE, NUCLEUS = "omni-engine@.service", "omni-nucleus.service"
EXPOSURE_MAX = 2.5
USER = "nobody"
TRACE_SECONDS = 60
READY_SECONDS = 30.0


def obstacle(*needed: str, root: bool = True) -> str | None:
    """Why it cannot be tried here."""
    if root and os.geteuid() != 0:
        return "needs root"
    missing = [name for name in needed if shutil.which(name) is None]
    missing += [name for name in PROGRAM_NAMES if root and not (PROGRAMS / name).exists()]
    return f"needs {missing[0]}" if missing else None


PROGRAM_NAMES = ("omni-engine", "omni", "omni-nucleus")


class Units(unittest.TestCase):
    @unittest.skipIf(obstacle("systemd-analyze", root=False), "needs systemd-analyze")
    def test_exposure_is_small(self) -> None:
        for unit in (ENGINE, NUCLEUS):
            self.assertLessEqual(units.exposure(unit), EXPOSURE_MAX, unit)

    @unittest.skipIf(obstacle("systemd-analyze", root=False), "needs systemd-analyze")
    def test_filters_leave_out_what_would_be_of_use_to_an_intruder(self) -> None:
        known = units.groups()
        for unit in (ENGINE, NUCLEUS):
            allowed = units.allowed_calls(unit, known)
            for call in ("ptrace", "mount", "setresuid", "init_module", "reboot", "swapon"):
                self.assertNotIn(call, allowed, unit)
            self.assertEqual("bpf" in allowed, unit == ENGINE)

    def test_units_run_the_programs_as_a_user_with_no_more_than_documented(self) -> None:
        self.assertEqual(
            set(units.words(ENGINE, "CapabilityBoundingSet")),
            {"CAP_NET_ADMIN", "CAP_NET_RAW", "CAP_BPF"},
        )
        self.assertEqual(units.words(NUCLEUS, "CapabilityBoundingSet"), [])
        for unit in (ENGINE, NUCLEUS):
            same = "CapabilityBoundingSet", "AmbientCapabilities"
            self.assertEqual(*(units.words(unit, setting) for setting in same))
            self.assertEqual(units.words(unit, "User"), ["omni"])
            self.assertEqual(units.words(unit, "LimitCORE"), ["0"])


class Traces(unittest.TestCase):
    TRACE = (
        'execve("/bin/setpriv", ["setpriv", "/opt/omni-engine"], 0x7f /* 9 vars */) = 0\n'
        "setresuid(1, 1, 1) = 0\n"
        '17 execve("/opt/omni-engine", ["omni-engine"], 0x7f /* 9 vars */) = 0\n'
        "17 socket(AF_XDP, SOCK_RAW, 0) = 3\n"
        "18 poll([{fd=3}], 1, 1000 <unfinished ...>\n"
        "18 <... poll resumed>) = 1\n"
        "17 mmap(NULL, 4096, PROT_READ|PROT_WRITE, MAP_PRIVATE, 3, 0) = 0x7f\n"
        "17 mprotect(0x7f, 4096, PROT_READ|PROT_EXEC) = 0\n"
    )

    def test_a_trace_begins_with_the_program(self) -> None:
        calls = units.calls_in(self.TRACE, "omni-engine")
        self.assertEqual([name for name, _ in calls], ["socket", "poll", "mmap", "mprotect"])
        self.assertEqual(units.families(calls), {"AF_XDP"})
        self.assertEqual(len(units.writable_programs(calls)), 1)

    def test_groups_are_taken_apart(self) -> None:
        known = {"@default": {"exit"}, "@a": {"read", "@b"}, "@b": {"write", "bpf"}}
        self.assertEqual(units.expand("@a", known), {"read", "write", "bpf"})


@unittest.skipIf(
    obstacle("systemd-analyze", "strace", "setpriv", "unshare", "ip") is not None,
    obstacle("systemd-analyze", "strace", "setpriv", "unshare", "ip") or "",
)
class Sandbox(unittest.TestCase):
    """Programs in a sandbox like the unit's, traced: they make no call that it would refuse."""

    def setUp(self) -> None:
        self.stack = ExitStack()
        self.addCleanup(self.stack.close)
        self.folder = Path(self.stack.enter_context(tempfile.TemporaryDirectory()))
        self.trace = self.folder / "trace"
        self.user = pwd.getpwnam(USER)

    def make_key(self, name: str) -> str:
        """Makes a key file for the user; gives the public key."""
        private = commands.run([str(PROGRAMS / "omni"), "keygen"])
        file = self.folder / name
        file.touch(mode=0o600)
        file.write_text(private)
        return commands.run([str(PROGRAMS / "omni"), "pubkey"], stdin=private).strip()

    def start(
        self, unit: str, command: Sequence[str], inside: netns.Namespace, also: str = ""
    ) -> subprocess.Popen[bytes]:
        """Starts a program in the unit's sandbox under a trace, and waits until it is ready."""
        for path in [self.folder, *self.folder.iterdir()]:
            os.chown(path, self.user.pw_uid, self.user.pw_gid)
        log = self.folder / "log"
        sandboxed = units.sandboxed(unit, USER, [self.folder], command, also)
        traced = ["timeout", "-k", "5", str(TRACE_SECONDS), "strace", "-f", "-qq", "-o"]
        with log.open("wb") as out:
            process = subprocess.Popen(
                inside.inside(*traced, str(self.trace), *sandboxed),
                stdout=out,
                stderr=out,
                start_new_session=True,
            )
        self.stack.callback(self.end, process)
        until = time.monotonic() + READY_SECONDS
        while " ready " not in log.read_text():
            told = f"{log.read_text()}"
            self.assertIsNone(process.poll(), told)
            self.assertLess(time.monotonic(), until, told)
            time.sleep(0.05)
        return process

    def end(self, process: subprocess.Popen[bytes]) -> None:
        """Ends it with all that it started."""
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()

    def stop(self, process: subprocess.Popen[bytes], program: str) -> None:
        """Asks the program to stop, which has to end well."""
        for entry in Path("/proc").glob("[0-9]*"):
            # Others come and go meanwhile.
            with contextlib.suppress(OSError):
                name, number = (entry / "comm").read_text().strip(), int(entry.name)
                if name == program and os.getsid(number) == process.pid:
                    os.kill(number, signal.SIGTERM)
        self.assertEqual(process.wait(READY_SECONDS), 0, (self.folder / "log").read_text())

    def assert_kept(self, unit: str, program: str) -> None:
        """Asserts that the program did nothing that the unit's filters refuse."""
        calls = units.calls_in(self.trace.read_text(), program)
        self.assertGreater(len(calls), 100)
        refused = {name for name, _ in calls} - units.allowed_calls(unit, units.groups())
        self.assertEqual(refused, set())
        allowed = set(units.words(unit, "RestrictAddressFamilies"))
        self.assertLessEqual(units.families(calls), allowed)
        self.assertEqual(units.writable_programs(calls), [])

    def test_an_engine_lives_in_its_units_sandbox(self) -> None:
        hosts = [netns.Host("alpha", "192.0.2.1/24"), netns.Host("beta", "192.0.2.2/24")]
        for driver, access in (("afxdp", "xdp"), ("udp", "tap")):
            with self.subTest(driver), ExitStack() as stack:
                underlay = netns.build(stack, f"omni-u{os.getpid()}", hosts)
                underlay.connect()
                public = self.make_key("alpha.key")
                peer = self.make_key("beta.key")
                (self.folder / "alpha.yaml").write_text(
                    "fabric: units\n"
                    "node: { name: alpha, private_key_file: alpha.key, state_file: a.state }\n"
                    f"underlay: {{ interface: eth0, driver: {driver} }}\n"
                    f"access: [{{ interface: omni0, driver: {access}, "
                    'addresses: ["10.7.0.1/24"] }]\n'
                    f'peers: [{{ name: beta, public_key: "{peer}", '
                    'endpoint: "192.0.2.2:51820" }]\n'
                    "control: { socket: alpha.sock }\n"
                )
                self.assertNotEqual(public, peer)
                alpha = underlay.hosts["alpha"]
                config = str(self.folder / "alpha.yaml")
                # In place of LimitMEMLOCK=, which not every root may raise.
                process = self.start(
                    ENGINE, [str(PROGRAMS / "omni-engine"), "--config", config], alpha, "ipc_lock"
                )
                socket = ["--socket", str(self.folder / "alpha.sock")]
                for words in (["show"], ["report"], ["reload"]):
                    commands.run([str(PROGRAMS / "omni"), *words, *socket])
                ping = ["ping", "-c", "1", "-W", "0.2", "10.7.0.2"]
                subprocess.run(alpha.inside(*ping), capture_output=True, check=False)
                self.stop(process, "omni-engine")
                self.assert_kept(ENGINE, "omni-engine")

    def test_a_nucleus_lives_in_its_units_sandbox(self) -> None:
        with ExitStack() as stack:
            alone = netns.make_namespace(stack, f"omni-u{os.getpid()}", commands.run)
            self.make_key("nucleus.key")
            member = self.make_key("member.key")
            (self.folder / "nucleus.yaml").write_text(
                "fabric: units\nprivate_key_file: nucleus.key\n"
                f'listen: "127.0.0.1:51821"\nmembers: ["{member}"]\n'
                "store: { redb: nucleus.redb }\ncontrol: { socket: nucleus.sock }\n"
            )
            config = str(self.folder / "nucleus.yaml")
            process = self.start(
                NUCLEUS, [str(PROGRAMS / "omni-nucleus"), "--config", config], alone
            )
            socket = ["--socket", str(self.folder / "nucleus.sock")]
            commands.run([str(PROGRAMS / "omni"), "nucleus", "status", *socket])
            self.stop(process, "omni-nucleus")
            self.assert_kept(NUCLEUS, "omni-nucleus")


if __name__ == "__main__":
    unittest.main()
