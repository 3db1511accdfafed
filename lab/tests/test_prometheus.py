"""A real Prometheus that scrapes a real fabric: form, names, values, alerts and the dashboard.

Two of them, in truth: one as it comes, and one that asks for native histograms.
"""

import json
import math
import os
import re
import shutil
import subprocess
import tempfile
import time
import unittest
import urllib.parse
import urllib.request
from collections.abc import Callable
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any

from dissect import FABRIC, UNDERLAY, World
from omni_lab import commands, netns
from omni_lab.node import Programs
from omni_lab.rendezvous import PORT, Nucleus

from .built import PROGRAMS, obstacle

REPOSITORY = Path(__file__).resolve().parents[2]
ALERTS = REPOSITORY / "contrib" / "prometheus" / "alerts.yaml"
DASHBOARD = REPOSITORY / "contrib" / "grafana" / "omninervous.json"
PAGE = REPOSITORY / "docs" / "metrics.md"
ENGINE_PORT, NUCLEUS_PORT, PROMETHEUS_PORT, NATIVE_PORT = 9410, 9411, 9090, 9091
# Prometheus 2.40 and newer know it. Newer ones than 3.8 need a line of the configuration instead,
# which older ones refuse.
NATIVE = "--enable-feature=native-histograms"
# Native buckets end 2.2 % apart, and a time counts as up to 0.8 % longer than it was.
NATIVE_ERROR = 0.035
# Scrapes come each second, and workers show what they counted each second or two.
PATIENCE_SECONDS = 20.0
POLL_SECONDS = 0.25
OPEN_METRICS = "application/openmetrics-text; version=1.0.0"


def missing() -> str | None:
    """Why it cannot be tried here."""
    for name in ("prometheus", "promtool"):
        if shutil.which(name) is None:
            return f"{name} is not installed: `make metrics-test` installs it"
    return obstacle()


def documented(prefix: str) -> dict[str, str]:
    """The metrics of the operator's page that begin so, and their kinds."""
    rows = re.findall(r"^\| `(\w+)` \| (\w+) \|", PAGE.read_text(), re.MULTILINE)
    return {name: kind for name, kind in rows if name.startswith(prefix)}


def scraped(text: str) -> dict[str, str]:
    """The metrics of a scrape in the older form, and their kinds."""
    return dict(re.findall(r"^# TYPE (\w+) (\w+)$", text, re.MULTILINE))


def plain_kinds(names: dict[str, str]) -> dict[str, str]:
    """The same as the older form has them, which does not know `info`."""
    return {name: "gauge" if kind == "info" else kind for name, kind in names.items()}


def expressions() -> list[str]:
    """What the dashboard asks for, of all instances."""
    panels = json.loads(DASHBOARD.read_text())["panels"]
    asked = [target["expr"] for panel in panels for target in panel.get("targets", [])]
    chosen = [expr.replace("$instance", ".*").replace("$__rate_interval", "1m") for expr in asked]
    assert not any("$" in expr for expr in chosen), chosen
    return chosen


@unittest.skipIf(missing() is not None, missing() or "")
class Prometheus(unittest.TestCase):
    """One fabric for all that is asked of it: two nodes and their Nucleus, beside beta."""

    stack: ExitStack
    world: World
    nucleus: Nucleus

    @classmethod
    def setUpClass(cls) -> None:
        cls.stack = ExitStack()
        cls.addClassCleanup(cls.stack.close)
        programs = Programs(PROGRAMS / "omni-engine", PROGRAMS / "omni")
        cls.world = World(cls.stack, f"omni-prom-{os.getpid()}", programs)
        for namespace in cls.world.underlay.hosts.values():
            commands.run(namespace.ip("link", "set", "lo", "up"))
        cls.start_nucleus(programs)
        cls.world.start()
        cls.world.ping()
        cls.start_prometheus(PROMETHEUS_PORT)
        cls.start_prometheus(NATIVE_PORT, NATIVE)
        # Their first scrapes, of all three.
        for port in (PROMETHEUS_PORT, NATIVE_PORT):
            cls.wait("three targets", partial(cls.scrapes_all, port))

    @classmethod
    def start_nucleus(cls, programs: Programs) -> None:
        folder = Path(cls.stack.enter_context(tempfile.TemporaryDirectory(prefix="omni-prom-")))
        cls.nucleus = Nucleus(cls.world.underlay.hosts["beta"], folder, programs)
        cls.stack.callback(cls.nucleus.kill)
        key, address = cls.nucleus.make_keys(), UNDERLAY["beta"]
        members = []
        for name, node in cls.world.nodes.items():
            private = (node.folder / f"{name}.key").read_text()
            members.append(commands.run([str(programs.omni), "pubkey"], stdin=private).strip())
            more = [
                f'  metrics: "{UNDERLAY[name]}:{ENGINE_PORT}"',
                f'nucleus: [{{ endpoint: "{address}:{PORT}", public_key: "{key}" }}]',
            ]
            node.config.write_text(node.config.read_text() + "\n".join(more) + "\n")
        listed = ", ".join(f'"{member}"' for member in members)
        cls.nucleus.config.write_text(
            f"fabric: {FABRIC}\nprivate_key_file: nucleus.key\nstore: {{ redb: nucleus.redb }}\n"
            f'members: [{listed}]\ncontrol: {{ socket: "{cls.nucleus.socket}" }}\n'
            f'metrics: "{address}:{NUCLEUS_PORT}"\n'
        )
        cls.nucleus.start()

    @classmethod
    def start_prometheus(cls, port: int, *options: str) -> None:
        folder = Path(cls.stack.enter_context(tempfile.TemporaryDirectory(prefix="omni-prom-")))
        engines = [f"{address}:{ENGINE_PORT}" for address in UNDERLAY.values()]
        config = {
            "global": {"scrape_interval": "1s", "evaluation_interval": "1s"},
            "rule_files": [str(ALERTS)],
            "scrape_configs": [
                {"job_name": "omni-engine", "static_configs": [{"targets": engines}]},
                {
                    "job_name": "omni-nucleus",
                    "static_configs": [{"targets": [f"{UNDERLAY['beta']}:{NUCLEUS_PORT}"]}],
                },
            ],
        }
        (folder / "prometheus.yml").write_text(json.dumps(config))
        command = [
            "prometheus",
            f"--config.file={folder / 'prometheus.yml'}",
            f"--storage.tsdb.path={folder / 'data'}",
            f"--web.listen-address=127.0.0.1:{port}",
            *options,
        ]
        with (folder / "log").open("wb") as log:
            process = subprocess.Popen(
                cls.world.underlay.hosts["alpha"].inside(*command), stdout=log, stderr=log
            )
        cls.stack.callback(process.wait)
        cls.stack.callback(process.terminate)
        cls.wait("Prometheus", lambda: cls.is_ready(port))

    @classmethod
    def is_ready(cls, port: int) -> bool:
        """Whether Prometheus answers."""
        try:
            cls.get(f"http://127.0.0.1:{port}/-/ready")
        except OSError:
            return False
        return True

    @classmethod
    def scrapes_all(cls, port: int) -> bool:
        """Whether Prometheus scraped both engines and the Nucleus."""
        return len(cls.query("up == 1", port)) == 3

    @classmethod
    def wait(cls, what: str, reached: Callable[[], bool]) -> None:
        """Until it is so."""
        deadline = time.monotonic() + PATIENCE_SECONDS
        while not reached():
            if time.monotonic() > deadline:
                raise AssertionError(f"not within {PATIENCE_SECONDS:g} s: {what}")
            time.sleep(POLL_SECONDS)

    @classmethod
    def get(cls, url: str, accept: str = "*/*") -> str:
        """What is answered to alpha."""
        request = urllib.request.Request(url, headers={"Accept": accept})
        with (
            netns.inside(cls.world.underlay.hosts["alpha"]),
            urllib.request.urlopen(request, timeout=10) as answer,
        ):
            text: str = answer.read().decode()
        return text

    @classmethod
    def ask(cls, path: str, port: int = PROMETHEUS_PORT) -> Any:
        """The data that Prometheus answers with."""
        answer = json.loads(cls.get(f"http://127.0.0.1:{port}/api/v1/{path}"))
        assert answer["status"] == "success", answer
        return answer["data"]

    @classmethod
    def query(cls, expression: str, port: int = PROMETHEUS_PORT) -> list[Any]:
        """The samples that an expression gives now."""
        asked = "query?query=" + urllib.parse.quote(expression)
        found: list[Any] = cls.ask(asked, port)["result"]
        return found

    def value(self, expression: str, port: int = PROMETHEUS_PORT) -> float:
        """The one value that an expression gives."""
        found = self.query(expression, port)
        self.assertEqual(len(found), 1, expression)
        return float(found[0]["value"][1])

    def pages(self, accept: str = "*/*") -> dict[str, str]:
        """What an engine and the Nucleus serve."""
        engine = f"http://{UNDERLAY['alpha']}:{ENGINE_PORT}/metrics"
        nucleus = f"http://{UNDERLAY['beta']}:{NUCLEUS_PORT}/metrics"
        return {"engine": self.get(engine, accept), "nucleus": self.get(nucleus, accept)}

    def test_every_metric_is_on_the_page_and_every_one_of_the_page_is_served(self) -> None:
        nucleus = documented("omni_nucleus_")
        engine = {name: kind for name, kind in documented("omni_").items() if name not in nucleus}

        def is_all_known() -> bool:
            # The way to the peer is probed for a few seconds.
            return scraped(self.pages()["engine"]) == plain_kinds(engine)

        self.wait("all of the page", is_all_known)
        self.assertEqual(scraped(self.pages()["nucleus"]), plain_kinds(nucleus))

    def test_promtool_finds_nothing_wrong(self) -> None:
        for name, page in self.pages().items():
            done = subprocess.run(
                ["promtool", "check", "metrics"],
                input=page,
                capture_output=True,
                text=True,
                check=False,
            )
            said = done.stdout + done.stderr
            self.assertEqual((done.returncode, said), (0, ""), name)
        commands.run(["promtool", "check", "rules", str(ALERTS)])

    def test_both_forms_have_the_same_series(self) -> None:
        series = {}
        for accept in ("text/plain", OPEN_METRICS):
            lines = self.pages(accept)["engine"].splitlines()
            names = (line.rsplit(" ", 1)[0] for line in lines if not line.startswith("#"))
            series[accept] = set(names)
        self.assertEqual(series["text/plain"], series[OPEN_METRICS])
        kinds = {(one["metric"], one["type"]) for one in self.ask("targets/metadata")}
        self.assertIn(("omni_peer_frames", "counter"), kinds, "it was scraped as OpenMetrics")

    def test_native_histograms_have_rates_and_quantiles(self) -> None:
        expression = "histogram_quantile(0.99, rate(omni_stage_work_seconds[1m]))"

        def is_answered() -> bool:
            self.world.ping()
            found = [float(one["value"][1]) for one in self.query(expression, NATIVE_PORT)]
            # There is no quantile of nothing.
            return len(found) >= 2 and all(0 < value < 1 for value in found)

        self.wait(expression, is_answered)

    def test_native_quantiles_are_those_that_omni_shows(self) -> None:
        self.world.ping()

        def is_same(queue: dict[str, Any]) -> bool:
            labels = (
                f'instance="{UNDERLAY["alpha"]}:{ENGINE_PORT}",'
                f'port="{queue["port"]}",queue="{queue["queue"]}"'
            )
            stored, shown = f"omni_stage_through_seconds{{{labels}}}", queue["latency_ns"]
            percentiles = {"p50": 0.5, "p90": 0.9, "p99": 0.99}
            counts = f"histogram_count({stored})"
            before = self.value(counts, NATIVE_PORT)
            told: dict[str, float] = {}
            for name, quantile in percentiles.items():
                asked = f"histogram_quantile({quantile}, {stored})"
                told[name] = self.value(asked, NATIVE_PORT) * 1e9
            if not before == self.value(counts, NATIVE_PORT) == shown["count"]:
                return False
            for name, value in told.items():
                near = math.isclose(value, shown[name], rel_tol=NATIVE_ERROR)
                self.assertTrue(near, (queue["port"], name, value, shown))
            return True

        def are_same() -> bool:
            queues = self.world.nodes["alpha"].show()["queues"]
            used = [queue for queue in queues if queue["latency_ns"]["count"]]
            return len(used) >= 2 and all(is_same(queue) for queue in used)

        # Until a scrape came between two frames.
        self.wait("as many frames", are_same)

    def test_all_but_histograms_is_the_same_in_protobuf(self) -> None:
        counted = 'count by (__name__) ({__name__=~"omni_.+"})'
        histograms = {name for name, kind in documented("omni_").items() if kind == "histogram"}
        parts = {f"{name}_{part}" for name in histograms for part in ("bucket", "count", "sum")}

        def series(port: int) -> dict[str, str]:
            found = self.query(counted, port)
            return {one["metric"]["__name__"]: one["value"][1] for one in found}

        def without(names: set[str], found: dict[str, str]) -> dict[str, str]:
            return {name: count for name, count in found.items() if name not in names}

        def are_same() -> bool:
            classic, native = series(PROMETHEUS_PORT), series(NATIVE_PORT)
            # Classic buckets are left out where there are native ones, unless they are asked for.
            stored = not parts & set(native) and bool(histograms & set(native))
            return stored and without(parts, classic) == without(histograms, native)

        self.wait("the same series", are_same)

    def test_answers_agree_with_what_omni_shows(self) -> None:
        alpha = self.world.nodes["alpha"]
        of_alpha = f'instance="{UNDERLAY["alpha"]}:{ENGINE_PORT}"'
        before = alpha.show()
        self.world.ping()
        # So that a scrape has seen the ping.
        time.sleep(2.5)
        told = {
            way: self.value(f'omni_peer_frames_total{{{of_alpha},direction="{way}"}}')
            for way in ("rx", "tx")
        }
        after = alpha.show()
        for way, frames in told.items():
            least, most = (show["peers"][0][f"{way}_frames"] for show in (before, after))
            self.assertTrue(least + 3 <= frames <= most, (way, least, frames, most))
        drops = self.value(f"sum(omni_drops_total{{{of_alpha}}})")
        self.assertGreaterEqual(drops, sum(before["drops"].values()))
        self.assertLessEqual(drops, sum(alpha.show()["drops"].values()))
        umem = self.value(f"sum(omni_umem_size_frames{{{of_alpha}}})")
        self.assertEqual(umem, after["umem"]["frames_total"])
        self.assertEqual(self.value(f"omni_peer_up{{{of_alpha}}}"), 1)
        self.assertEqual(self.value(f"omni_rendezvous_connected{{{of_alpha}}}"), 1)

        def is_same_table() -> bool:
            entries = self.value(f"sum(omni_fdb_entries{{{of_alpha}}})")
            return int(entries) == len(alpha.show()["fdb"])

        self.wait("as many addresses", is_same_table)
        status = json.loads(commands.run(self.nucleus.ask_command("status", "--json")))
        self.assertEqual(self.value("omni_nucleus_members"), status["members"])
        self.assertEqual(self.value("omni_nucleus_connections"), 2)

    def test_what_dashboard_and_alerts_ask_for_can_be_asked(self) -> None:
        asked = expressions()
        self.assertGreater(len(asked), 40)
        answered = [expression for expression in asked if self.query(expression)]
        # Nothing was dropped for some reasons, and nothing timed on some ports.
        self.assertGreater(len(answered), len(asked) * 3 // 4, set(asked) - set(answered))
        rules = [rule for group in self.ask("rules")["groups"] for rule in group["rules"]]
        self.assertGreaterEqual(len(rules), 15)
        # With what they say of a fabric that is well.
        firing = [rule["name"] for rule in rules if rule["state"] == "firing"]
        self.assertEqual(firing, [])
        self.wait(
            "all rules were tried",
            lambda: all(
                rule["health"] == "ok"
                for group in self.ask("rules")["groups"]
                for rule in group["rules"]
            ),
        )


if __name__ == "__main__":
    unittest.main()
