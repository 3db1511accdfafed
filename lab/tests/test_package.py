"""What is run of docs/quick-start.md, and what is read from ping."""

import unittest
from pathlib import Path

from omni_lab import quick_start
from omni_lab.quick_start import Block, QuickStartError

DOCUMENT = Path(__file__).resolve().parents[2] / "docs" / "quick-start.md"
PAGE = """# Page

```
for the reader
```

## One

```sh both
## no heading
true
```

## Two

```yaml alpha:/etc/a.yaml
key: "PUBLIC KEY OF BETA"
```
"""


class Page(unittest.TestCase):
    def test_blocks_have_their_section_host_and_path(self) -> None:
        self.assertEqual(
            quick_start.blocks(PAGE),
            [
                Block("One", "both", "## no heading\ntrue\n"),
                Block("Two", "alpha", 'key: "PUBLIC KEY OF BETA"\n', "/etc/a.yaml"),
            ],
        )

    def test_a_block_for_both_is_for_each(self) -> None:
        one, two = quick_start.blocks(PAGE)
        self.assertEqual(one.hosts(("alpha", "beta")), ("alpha", "beta"))
        self.assertEqual(two.hosts(("alpha", "beta")), ("alpha",))

    def test_an_open_block_is_an_error(self) -> None:
        with self.assertRaises(QuickStartError):
            quick_start.blocks(PAGE + "```sh alpha\n")

    def test_keys_take_their_places_and_a_missing_one_is_an_error(self) -> None:
        text = quick_start.blocks(PAGE)[1].text
        self.assertEqual(quick_start.fill(text, {"beta": "abc="}), 'key: "abc="\n')
        with self.assertRaises(QuickStartError):
            quick_start.fill(text, {"alpha": "abc="})

    def test_the_document_has_every_command_in_a_block_that_is_run(self) -> None:
        page = DOCUMENT.read_text()
        found = quick_start.blocks(page)
        fences = sum(line.startswith("```") for line in page.splitlines()) // 2
        self.assertEqual(len(found), fences, "blocks that nobody runs")
        self.assertEqual({each.host for each in found}, {"alpha", "beta", "both"})
        run = "".join(each.text for each in found)
        commands = ("apt-get install", "omni init", "--check", "enable --now", "ping", "purge")
        for command in commands:
            self.assertIn(command, run)


class Gap(unittest.TestCase):
    def test_the_longest_time_between_replies_counts(self) -> None:
        reply = "64 bytes from 10.7.0.2: icmp_seq=1 ttl=64 time=0.1 ms"
        text = f"PING\n[1.00] {reply}\n[1.01] {reply}\n[1.41] {reply}\n[1.42] {reply}\n"
        self.assertAlmostEqual(quick_start.longest_gap(text), 0.4)

    def test_without_replies_there_is_no_gap_but_an_error(self) -> None:
        with self.assertRaises(QuickStartError):
            quick_start.longest_gap("PING\n")


if __name__ == "__main__":
    unittest.main()
