"""What the lab's commands read and decide, without any host."""

import argparse
import contextlib
import io
import json
import os
import subprocess
import tempfile
import time
import unittest
from pathlib import Path
from typing import Any

from omni_lab.bench import (
    allreduce,
    arguments,
    check,
    command_line,
    disclosure,
    drops,
    execute,
    fleet,
    histograms,
    idle,
    iperf,
    processes,
    progress,
    runs,
    state,
    status,
)
from omni_lab.bench.processes import Process
from omni_lab.bench.state import Contestant, Helper, LabError, Space, State
from omni_lab.traffic import TrafficError


def a_lab() -> State:
    """A lab of two nodes that nobody made."""
    lab = State("lab", state.now(), "/programs", "/run-folder", {"seed": 1})
    for number in (1, 2):
        space = Space(f"node{number}", "node", f"omni-lab-node{number}", f"/f/node{number}")
        space.overlay, space.process = f"10.7.0.{number}", Process(number, 7)
        lab.spaces.append(space)
    lab.spaces.append(Space("wire", "switch", "omni-lab-wire", "/f/wire"))
    lab.helpers.append(Helper("impair im-node1", "omni-lab-wire", Process(9, 9)))
    helper = Helper("fastd node1", "omni-lab-node1", Process(10, 10))
    lab.contestants.append(Contestant("fastd", {"node1": "10.8.32.1"}, "tap", 1420, "", [helper]))
    return lab


def shown(peers: list[dict[str, Any]], **more: Any) -> dict[str, Any]:
    """What an engine shows, as far as the lab reads it."""
    latency = {"p50": 1000, "p99": 9000}
    queues = [
        {
            "port": "eth0",
            "queue": 0,
            "rx_frames": 5,
            "tx_frames": 6,
            "latency_ns": latency,
            "mode": "udp",
        },
        {
            "port": "eth0",
            "queue": 1,
            "rx_frames": 1,
            "tx_frames": 1,
            "latency_ns": latency,
            "mode": "udp",
        },
        {
            "port": "omni0",
            "queue": 0,
            "rx_frames": 2,
            "tx_frames": 2,
            "latency_ns": latency,
            "mode": "tap",
        },
    ]
    base = {"node": {"uptime_seconds": 10}, "queues": queues, "drops": {"reflected": 2}}
    return base | {"peers": peers} | more


def peer(name: str, sent: int, verified: int, state_: str = "established") -> dict[str, Any]:
    return {
        "name": name,
        "tx_frames": sent,
        "rx_frames": verified,
        "state": state_,
        "tx_bytes": 100 * sent,
        "rx_bytes": 100 * verified,
    }


class States(unittest.TestCase):
    def test_what_is_written_is_read_again(self) -> None:
        lab = a_lab()
        with tempfile.TemporaryDirectory() as folder:
            root, state.ROOT = state.ROOT, Path(folder)
            try:
                state.make(lab)
                self.assertEqual(state.load("lab"), lab)
                self.assertEqual(state.names(), ["lab"])
                with self.assertRaises(LabError):
                    state.make(lab)
                with self.assertRaises(LabError):
                    state.load_complete("lab")
                with self.assertRaises(LabError):
                    state.load("other")
            finally:
                state.ROOT = root

    def test_what_is_no_state_is_told(self) -> None:
        for text in (
            "",
            "{}",
            "[]",
            '{"kind": "lab-state", "version": 99}',
            '{"kind": "lab-state", "version": 1, "spaces": 1}',
        ):
            with self.assertRaises(LabError):
                state.parse(text)

    def test_a_place_that_is_not_there_is_told(self) -> None:
        self.assertEqual(a_lab().space("wire").role, "switch")
        with self.assertRaises(LabError):
            a_lab().space("node3")
        with self.assertRaises(LabError):
            a_lab().contestant("vxlan")

    def test_names_of_labs(self) -> None:
        self.assertEqual(arguments.lab_name("lab2"), "lab2")
        for text in ("", "a-b", "2lab", "Lab", "abcdefghijk", "../x"):
            with self.assertRaises(argparse.ArgumentTypeError):
                arguments.lab_name(text)


class Numbers(unittest.TestCase):
    def test_processes_are_told_apart_by_their_start(self) -> None:
        own = processes.started(os.getpid())
        assert own is not None
        self.assertTrue(processes.is_alive(Process(os.getpid(), own)))
        self.assertFalse(processes.is_alive(Process(os.getpid(), own + 1)))
        self.assertFalse(processes.is_alive(None))

    def test_a_process_with_a_strange_name(self) -> None:
        fields = " ".join(str(number) for number in range(4, 30))
        self.assertEqual(processes.parse_stat(f"12 (a) (b c) S {fields}"), ("S", 22))

    def test_a_number_of_another_process_is_not_signalled(self) -> None:
        with subprocess.Popen(["sleep", "30"]) as child:
            started = processes.started(child.pid)
            assert started is not None
            self.assertEqual(processes.end([Process(child.pid, started - 1)], 0.2), [])
            self.assertIsNone(child.poll())
            child.terminate()

    def test_a_program_goes_on_until_it_is_ended(self) -> None:
        with tempfile.TemporaryDirectory() as folder:
            log = Path(folder) / "log"
            spawned = processes.spawn(["sh", "-c", "echo said; exec sleep 30"], log)
            self.assertTrue(processes.is_alive(spawned))
            while not log.read_text():
                time.sleep(0.01)
            self.assertEqual(processes.end([spawned], 5.0), [])
            self.assertFalse(processes.is_alive(spawned))
            self.assertEqual(processes.last_words(log), "its last words: said")

    def test_rates_and_sizes(self) -> None:
        self.assertEqual(arguments.rate("100M"), 10**8)
        self.assertEqual(arguments.rate("1.5G"), 1_500_000_000)
        self.assertEqual(arguments.sizes("8,64K"), "8,64K")
        for text in ("", "x", "1", "-5M", "1T"):
            with self.assertRaises(argparse.ArgumentTypeError):
                arguments.rate(text)
        for text in ("", "8,", "0", "1X"):
            with self.assertRaises(argparse.ArgumentTypeError):
                arguments.sizes(text)
        self.assertEqual(arguments.numbers(1, 9)("1,9"), [1, 9])
        for text in ("1", "-0.1"):
            with self.assertRaises(argparse.ArgumentTypeError):
                arguments.fraction(text)
        self.assertEqual(arguments.fraction("0"), 0.0)

    def test_time_on_cores(self) -> None:
        self.assertEqual(idle.parse_schedstat("5123456 99 3\n"), 5123456)

    def test_ports_of_a_namespace(self) -> None:
        text = (
            "  sl  local_address rem_address   st\n"
            "   0: 0100070A:1451 00000000:0000 0A\n   1: 0100070A:1452 0200070A:0050 01\n"
        )
        self.assertEqual(fleet.parse_ports(text, fleet.LISTENING), {5201})

    def test_a_bar(self) -> None:
        self.assertEqual(progress.bar(0, 0).count("#"), progress.WIDTH)
        self.assertEqual(progress.bar(5, 10).count("#"), progress.WIDTH // 2)


class Histograms(unittest.TestCase):
    def test_buckets_are_those_of_hdrhistogram(self) -> None:
        # From HdrHistogram with three digits: exact up to 2047, then by 2, 4, ...
        for value, highest in (
            (0, 0),
            (2047, 2047),
            (2048, 2049),
            (2049, 2049),
            (4096, 4099),
            (1_000_000, 1_000_447),
        ):
            self.assertEqual(histograms.highest_equivalent(value), highest, value)

    def test_a_bucket_is_its_own(self) -> None:
        for value in range(1, 10**7, 997):
            highest = histograms.highest_equivalent(value)
            self.assertEqual(histograms.highest_equivalent(highest), highest)
            self.assertLess(histograms.highest_equivalent(highest), value * 1.001 + 1)

    def test_merged_counts_are_those_of_all_values(self) -> None:
        one, other = [5, 5, 9000], [7, 100_000]
        merged = histograms.merge([histograms.of(one), histograms.of(other), histograms.of([])])
        self.assertEqual(merged, histograms.of(one + other))

    def test_percentiles(self) -> None:
        of_all = histograms.of(range(1, 1001))
        self.assertEqual(histograms.percentile(of_all, 50), 500)
        self.assertEqual(histograms.percentile(of_all, 99.9), 999)
        self.assertEqual(histograms.percentile(histograms.of([1_000_000]), 50), 1_000_000)
        self.assertIsNone(histograms.percentile(histograms.of([]), 50))


class Checks(unittest.TestCase):
    NAMES = [f"node{number}" for number in range(20)]

    def test_all_pairs(self) -> None:
        self.assertEqual(len(check.choose(self.NAMES, check.ALL, 1)), 190)
        self.assertEqual(len(check.choose(self.NAMES[:3], check.SOME, 1)), 3)
        self.assertEqual(check.choose(["node1"], check.ALL, 1), [])

    def test_each_has_its_neighbour_and_some_by_lot(self) -> None:
        chosen = check.choose(self.NAMES, check.SOME, 1)
        self.assertEqual(len(chosen), len({frozenset(pair) for pair in chosen}))
        for at, name in enumerate(self.NAMES):
            mine = {frozenset(pair) for pair in chosen if name in pair}
            self.assertGreaterEqual(len(mine), check.PARTNERS)
            self.assertIn(frozenset((name, self.NAMES[(at + 1) % 20])), mine)
        self.assertEqual(chosen, check.choose(self.NAMES, check.SOME, 1))
        self.assertNotEqual(chosen, check.choose(self.NAMES, check.SOME, 2))


class Exec(unittest.TestCase):
    def test_place_and_command(self) -> None:
        self.assertEqual(execute.split(["node1", "--", "ls", "-l"], False), ("node1", ["ls", "-l"]))
        self.assertEqual(execute.split(["node1", "ls"], False), ("node1", ["ls"]))
        self.assertEqual(execute.split(["--", "ls"], True), (None, ["ls"]))

    def test_what_is_missing_is_told(self) -> None:
        for words, on_all in ((["--", "ls"], False), (["node1"], False), ([], False), ([], True)):
            with self.assertRaises(LabError):
                execute.split(words, on_all)


class Status(unittest.TestCase):
    def test_rates_are_between_two_looks(self) -> None:
        before = (10.0, shown([peer("node2", 1, 1)]))
        after = (12.0, shown([peer("node2", 5, 3)]))
        row = status.row("node1", "10.7.0.1", before, after)
        self.assertEqual((row.tx_octets_per_s, row.rx_octets_per_s), (200.0, 100.0))
        self.assertEqual((row.established, row.peers, row.drops), (1, 1, 2))
        self.assertEqual((row.p50_ns, row.p99_ns, row.queue), (1000, 9000, "eth0 0"))

    def test_an_engine_that_started_anew_has_no_rate(self) -> None:
        row = status.row("node1", "", (1.0, shown([peer("b", 9, 9)])), (2.0, shown([])))
        self.assertIsNone(row.rx_octets_per_s)
        self.assertIsNone(status.row("node1", "", (1.0, None), (2.0, shown([]))).rx_octets_per_s)

    def test_an_engine_that_is_silent_is_told(self) -> None:
        row = status.row("node1", "10.7.0.1", (1.0, shown([])), (2.0, None))
        self.assertIn("no answer", status.lines([row])[1])
        self.assertIn("1 without an answer", status.lines([row])[-1])

    def test_a_table_fits_its_terminal(self) -> None:
        rows = [status.Row(f"node{number}", "10.7.0.1") for number in range(100)]
        lines = status.lines(rows, 24)
        self.assertEqual(len(lines), 23)
        self.assertIn("79 nodes more", lines[-1])
        self.assertEqual(len(status.lines(rows)), 102)

    def test_octets(self) -> None:
        told = [status.octets(each) for each in (None, 0, 999, 1500, 2.5e6, 3e9)]
        self.assertEqual(told, ["-", "0 B", "999 B", "2 kB", "2 MB", "3.00 GB"])


class Drops(unittest.TestCase):
    def test_sent_minus_received_is_lost(self) -> None:
        before = {"a": shown([peer("b", 10, 5)]), "b": shown([peer("a", 5, 10)])}
        after = {"a": shown([peer("b", 30, 9)]), "b": shown([peer("a", 9, 27)])}
        report = drops.reconcile((before, before), (after, after))
        self.assertEqual((report["frames_sent"], report["frames_verified"]), (24, 21))
        self.assertEqual((report["frames_lost"], report["frames_never_sent"]), (3, 0))
        self.assertEqual(report["pairs_with_losses"], {"a b": 3})

    def test_what_is_sent_between_two_looks_is_neither_lost_nor_made_up(self) -> None:
        first = {"a": shown([peer("b", 10, 0)]), "b": shown([peer("a", 0, 12)])}
        last = {"a": shown([peer("b", 15, 0)]), "b": shown([peer("a", 0, 15)])}
        report = drops.reconcile(drops.NOTHING, (first, last))
        self.assertEqual((report["frames_lost"], report["frames_never_sent"]), (0, 0))

    def test_nor_is_what_is_sent_while_all_are_asked_at_the_beginning(self) -> None:
        # Frames went each way between a's first answer and b's, and between the second ones.
        first = {"a": shown([peer("b", 10, 10)]), "b": shown([peer("a", 13, 13)])}
        again = {"a": shown([peer("b", 14, 14)]), "b": shown([peer("a", 16, 16)])}
        end = {"a": shown([peer("b", 20, 20)]), "b": shown([peer("a", 20, 20)])}
        report = drops.reconcile((first, again), (end, end))
        self.assertEqual((report["frames_lost"], report["frames_never_sent"]), (0, 0))
        # One less arrived than was sent for certain.
        late = {"a": end["a"], "b": shown([peer("a", 20, 18)])}
        report = drops.reconcile((first, again), (late, late))
        self.assertEqual(report["pairs_with_losses"], {"a b": 1})

    def test_what_nobody_sent_is_told(self) -> None:
        look = {"a": shown([peer("b", 10, 0)]), "b": shown([peer("a", 0, 12)])}
        report = drops.reconcile(drops.NOTHING, (look, look))
        self.assertEqual(report["pairs_with_frames_never_sent"], {"a b": 2})

    def test_a_node_that_started_later_is_left_out(self) -> None:
        late = shown([peer("a", 1, 1)], node={"uptime_seconds": 1})
        early = shown([peer("b", 99, 99)], node={"uptime_seconds": 500})
        look = {"a": early, "b": late}
        self.assertEqual(drops.reconcile(drops.NOTHING, (look, look))["pairs"], 0)

    def test_queues_of_a_port_are_one(self) -> None:
        self.assertEqual(drops.ports(shown([]))["eth0"], {"rx_frames": 6, "tx_frames": 7})

    def test_only_what_is_new_counts(self) -> None:
        later = shown([], drops={"reflected": 5, "bad_tag": 1})
        self.assertEqual(drops.since(shown([]), later)["drops"], {"reflected": 3, "bad_tag": 1})
        self.assertEqual(
            drops.since(shown([]), later)["ports"]["omni0"], {"rx_frames": 0, "tx_frames": 0}
        )

    def test_an_engine_that_started_anew_counts_from_zero(self) -> None:
        later = shown([], node={"uptime_seconds": 1})
        self.assertEqual(drops.since(shown([]), later)["drops"], {"reflected": 2})


class Iperf(unittest.TestCase):
    NAMES = ["a", "b", "c", "d"]

    def test_pairs_and_incast(self) -> None:
        self.assertEqual(iperf.rounds("pairs", self.NAMES), [[("a", "b"), ("c", "d")]])
        self.assertEqual(iperf.rounds("pairs", ["a", "b", "c"]), [[("a", "b")]])
        self.assertEqual(iperf.rounds("incast", self.NAMES), [[("b", "a"), ("c", "a"), ("d", "a")]])

    def test_a_matrix_has_each_pair_once_and_loads_all_alike(self) -> None:
        rounds = iperf.rounds("matrix", self.NAMES)
        pairs = [pair for each in rounds for pair in each]
        self.assertEqual(len(set(pairs)), 12)
        self.assertEqual(len(pairs), 12)
        for each in rounds:
            self.assertEqual(sorted(sender for sender, _ in each), self.NAMES)
            self.assertEqual(sorted(receiver for _, receiver in each), self.NAMES)

    def test_streams_as_iperf3_tells_them(self) -> None:
        tcp = {"end": {"sum_received": {"bits_per_second": 5e6}, "sum_sent": {"retransmits": 3}}}
        found = iperf.parse(json.dumps(tcp), ("a", "b"), 0, is_udp=False)
        self.assertEqual((found.bps, found.retransmits, found.lost_packets), (5e6, 3, None))
        self.assertEqual(found.kept()["from"], "a")
        udp = {"end": {"sum_received": {"bits_per_second": 1e6, "lost_packets": 2, "packets": 9}}}
        found = iperf.parse(json.dumps(udp), ("a", "b"), 0, is_udp=True)
        self.assertEqual((found.lost_packets, found.sent_packets), (2, 9))
        for text in ("", "{}", '{"error": "no route"}', '{"end": {"sum_sent": {}}}'):
            with self.assertRaises(TrafficError):
                iperf.parse(text, ("a", "b"), 0, is_udp=False)

    def test_what_is_slow_or_lost_is_missed(self) -> None:
        options = argparse.Namespace(udp=True, at_least=2_000_000, lost_at_most=0.1)
        stream = iperf.Stream("a", "b", 0, 1e6, None, 2, 10)
        missed = [each.name for each in iperf.figures(options, [stream], ["x"], 1) if not each.met]
        self.assertEqual(missed, ["streams that failed", "slowest stream", "lost"])


class Allreduce(unittest.TestCase):
    def test_a_rank_that_failed_or_a_wrong_sum_is_missed(self) -> None:
        size = {"octets": 8, "time_ns": {"median": 10**6, "p99": 10**6}, "busbw_Bps": 1e6}
        good = {"wrong": 0, "sizes": [size]}
        self.assertTrue(all(each.met for each in allreduce.figures(good, [], 4)))
        self.assertFalse(all(e.met for e in allreduce.figures(good | {"wrong": 1}, [], 4)))
        self.assertFalse(all(each.met for each in allreduce.figures(None, ["rank 1"], 4)))

    def test_ranks(self) -> None:
        self.assertIsNone(allreduce.ranks("all"))
        self.assertEqual(allreduce.ranks("16"), 16)
        with self.assertRaises(argparse.ArgumentTypeError):
            allreduce.ranks("1")


class Runs(unittest.TestCase):
    def test_events_are_added_to_those_there_are(self) -> None:
        with tempfile.TemporaryDirectory() as folder:
            lab = a_lab()
            lab.run = folder
            runs.add_event(lab, "up")
            runs.add_event(lab, "killed", "node1", recovered_s=1.5)
            kept = json.loads((Path(folder) / runs.EVENTS).read_text())
            self.assertEqual([each["what"] for each in kept["events"]], ["up", "killed"])
            self.assertEqual(kept["events"][1]["recovered_s"], 1.5)
            self.assertGreaterEqual(kept["events"][1]["at_s"], 0)

    def test_a_result_is_whole_and_has_its_name(self) -> None:
        with tempfile.TemporaryDirectory() as folder:
            path = runs.write(Path(folder), "iperf-x", runs.result("iperf", "x"))
            self.assertEqual(json.loads(path.read_text())["kind"], "iperf")
            self.assertEqual([each.name for each in Path(folder).iterdir()], ["iperf-x.json"])

    def test_names_of_contestants_are_parts_of_files(self) -> None:
        self.assertEqual(runs.slug("omni tap+udp"), "omni-tap+udp")
        self.assertEqual(runs.slug("bare underlay"), "bare-underlay")
        self.assertEqual(runs.slug("../x y/"), "..-x-y")

    def test_drivers_are_told_in_the_words_of_the_configuration(self) -> None:
        self.assertEqual(disclosure.drivers(shown([])["queues"]), "tap+udp")
        queues = [{"port": "omni0", "mode": "native"}, {"port": "eth0", "mode": "generic"}]
        self.assertEqual(disclosure.drivers(queues), "xdp+afxdp")


class CommandLine(unittest.TestCase):
    def test_each_subcommand_has_a_module_with_arguments_and_a_run(self) -> None:
        for name in command_line.SUBCOMMANDS:
            module = command_line.load(name)
            self.assertTrue(callable(module.run), name)
            self.assertTrue((module.__doc__ or "").startswith(f"`lab {name}`"), name)
            silent = contextlib.redirect_stderr(io.StringIO())
            with silent, self.assertRaises(SystemExit) as ended:
                command_line.make_parser(name).parse_args([name, "--no-such-option"])
            self.assertEqual(ended.exception.code, 2, name)

    def test_defaults(self) -> None:
        options = command_line.make_parser("up").parse_args(["up", "--nodes", "3"])
        self.assertEqual((options.nodes, options.name, options.topology), (3, "lab", "star"))
        options = command_line.make_parser("exec").parse_args(["exec", "node1", "--", "ls", "-l"])
        self.assertEqual(options.words, ["node1", "--", "ls", "-l"])


if __name__ == "__main__":
    unittest.main()
