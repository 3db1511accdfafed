//! No file makes it panic, every error is one line that names the file, and no file costs much.

use std::path::Path;
use std::time::Duration;

use omni_config::{ConfigError, KeyFileText, load, load_octets};
use proptest::prelude::*;
use rustix::time::{ClockId, clock_gettime};

/// The longest that any file may take.
const LIMIT: Duration = Duration::from_millis(100);

/// The most memory that the process may ever have had, in KiB.
const MEMORY_KIB: u64 = 64 * 1024;

const SEEDS: [&str; 4] = [
    include_str!("../examples/minimal.yaml"),
    include_str!("../examples/two-hosts-alpha.yaml"),
    include_str!("../examples/two-hosts-beta.yaml"),
    include_str!("../examples/full.yaml"),
];

/// What edits put in: what YAML and the checks give a meaning to.
const PIECES: [&str; 46] = [
    ":",
    ": ",
    "- ",
    "\n",
    "\n  ",
    "\n\n",
    "\t",
    "#",
    "&a ",
    "*a",
    "!!str ",
    "!",
    "|",
    ">",
    "\"",
    "'",
    "[",
    "]",
    "{",
    "}",
    ",",
    "? ",
    "---\n",
    "...\n",
    "%YAML 1.2\n",
    "<<: ",
    "~",
    "null",
    "true",
    "-1",
    "0x",
    "1e9",
    "99999999999999999999",
    "\u{0}",
    "\u{feff}",
    "é",
    "\u{2028}",
    "\\x",
    "auto",
    "/",
    "all",
    "off",
    "-4094",
    "02:",
    "vlan: 7",
    "omni1",
];

fn read(text: &[u8]) -> Result<(), ConfigError> {
    let key = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=";
    let read_key = |_: &Path| -> KeyFileText { Ok(key.as_bytes().to_vec()) };
    load_octets(Path::new("fabric.yaml"), text, &read_key).map(|_| ())
}

/// Whether the error is what it must be: one line, the file's name first, a line of the file.
fn check(text: &[u8]) -> Result<(), String> {
    let Err(error) = read(text) else {
        return Ok(());
    };
    let shown = error.to_string();
    let lines = 1 + text.iter().filter(|&&c| c == b'\n' || c == b'\r').count();
    let named = error.line().is_some_and(|line| {
        (1..=lines).contains(&line) && shown.starts_with(&format!("fabric.yaml:{line}: "))
    });
    let has_key = error.key().is_some_and(|key| !key.is_empty());
    let is_line = !shown.chars().any(char::is_control) && shown.len() < 8000;
    if named && has_key && is_line {
        Ok(())
    } else {
        Err(shown)
    }
}

/// A small generator of numbers (xorshift64), so that a case is named by its seed alone.
struct Random(u64);

impl Random {
    fn below(&mut self, limit: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 % (limit.max(1) as u64)).unwrap_or(0)
    }
}

/// One of the examples with a few edits at random places.
fn mutated(seed: u64) -> Vec<u8> {
    let mut random = Random(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
    // The first numbers of neighbouring seeds are alike.
    (0..8).for_each(|_| _ = random.below(1));
    let mut text = SEEDS[random.below(SEEDS.len())].as_bytes().to_vec();
    for _ in 0..=random.below(4) {
        let at = random.below(text.len() + 1);
        let end = (at + random.below(12)).min(text.len());
        match random.below(6) {
            0 if at < text.len() => text[at] = random.below(256) as u8,
            1 if at < text.len() => text[at] ^= 1 << random.below(8),
            2 => drop(text.drain(at..end)),
            3 => {
                let copy = text[at..end].to_vec();
                let to = random.below(text.len() + 1);
                text.splice(to..to, copy);
            }
            4 => text.truncate(at),
            _ => drop(text.splice(at..at, PIECES[random.below(PIECES.len())].bytes())),
        }
    }
    text
}

#[test]
fn mutated_examples_never_panic_and_every_error_names_file_line_and_key() {
    // OMNI_CONFIG_CASES makes it a long run.
    let cases = std::env::var("OMNI_CONFIG_CASES")
        .ok()
        .and_then(|n| n.parse().ok());
    let mut refused = 0;
    for seed in 0..cases.unwrap_or(20_000) {
        let text = mutated(seed);
        if let Err(error) = check(&text) {
            panic!("seed {seed}: {error}\n{}", String::from_utf8_lossy(&text));
        }
        refused += u64::from(read(&text).is_err());
    }
    assert!(
        refused > 5_000,
        "the edits hardly break anything: {refused}"
    );
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 2_000,
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn pieces_of_yaml_in_any_order_never_panic(
        picks in proptest::collection::vec(0..PIECES.len() + 1, 0..60)
    ) {
        let text: String = picks.iter().map(|&n| PIECES.get(n).copied().unwrap_or("key")).collect();
        prop_assert_eq!(check(text.as_bytes()), Ok(()));
    }

    #[test]
    fn any_octets_never_panic(octets in proptest::collection::vec(any::<u8>(), 0..300)) {
        prop_assert_eq!(check(&octets), Ok(()));
    }
}

/// As many peers as fit, each with another key and all VLANs as two ranges.
fn peers_of_all_vlans() -> String {
    let peer = |n: u32| {
        let key = format!("{n:042}0=");
        format!("  - {{name: p{n}, public_key: \"{key}\", vlans: [0-2000, 2001-4094]}}\n")
    };
    format!("peers:\n{}", (1..5000).map(peer).collect::<String>())
}

/// A peer with all VLANs one by one, and the last of them again.
fn peer_of_vlans_one_by_one() -> String {
    let vlans: String = (0..4095).map(|vlan| format!("{vlan},")).collect();
    let key = format!("{:042}0=", 1);
    format!("peers: [{{name: p, public_key: \"{key}\", vlans: [{vlans}4094]}}]\n")
}

/// Static entries of a port, the last one of a peer that there is not.
fn static_entries(count: u32) -> String {
    let entry = |n: u32| {
        let mac = format!("02:00:00:00:{:02x}:{:02x}", n >> 8, n & 0xff);
        let owner = if n + 1 == count {
            "peer: p"
        } else {
            "interface: omni0"
        };
        format!("    - {{mac: \"{mac}\", {owner}, addresses: [\"fd00::{n:x}\"]}}\n")
    };
    let entries: String = (0..count).map(entry).collect();
    format!("switch:\n  static:\n{entries}")
}

/// Files that are small to write and large to read.
fn bombs() -> Vec<(&'static str, String)> {
    let mib = 1 << 20;
    let fill = |piece: &str| piece.repeat(mib / piece.len());
    let levels = (1..30).map(|n| format!("a{n}: &a{n} [{}]\n", format!("*a{}, ", n - 1).repeat(9)));
    let good = SEEDS[0];
    let peers = format!("{good}peers:\n");
    let host = "mac: \"02:00:00:00:00:01\", interface: omni0";
    // Refused after all else was checked.
    let late = "control: {metrics: 0}\n";
    let peer = |n: usize| format!("  - {{name: p{n}, public_key: \"{}\"}}\n", "A".repeat(44));
    vec![
        (
            "aliases of aliases",
            format!("a0: &a0 [x]\n{}", levels.collect::<String>()),
        ),
        ("brackets", fill("[")),
        ("braces", fill("{")),
        ("braces with keys", fill("{a: ")),
        ("dashes", fill("- ")),
        ("questions", fill("? ")),
        ("colons", fill(": ")),
        (
            "nested by indentation",
            (0..1400).map(|n| " ".repeat(n) + "a:\n").collect(),
        ),
        ("a list of nothing", format!("fabric: [{}]", fill("~,"))),
        ("a list of lists", format!("fabric: [{}]", fill("[],"))),
        (
            "many keys",
            (0..70_000).map(|n| format!("k{n}: v\n")).collect(),
        ),
        ("many documents", fill("---\n")),
        (
            "many anchors",
            (0..70_000).map(|n| format!("- &a{n} b\n")).collect(),
        ),
        ("many tags", fill("!a ")),
        ("directives", fill("%TAG !a! b\n")),
        ("one long word", fill("a")),
        ("one long key", fill("a") + ": b"),
        ("one long quote", format!("fabric: \"{}\"", fill("a"))),
        ("one long escape", format!("fabric: \"{}\"", fill("\\n"))),
        ("one long block", format!("fabric: |\n{}", fill("  a\n"))),
        ("one long fold", format!("fabric: >\n{}", fill("  a\n"))),
        (
            "one long text over lines",
            format!("fabric: a\n{}", fill("  a\n")),
        ),
        ("an open quote", format!("fabric: \"{}", fill("a\n"))),
        (
            "an open quote of breaks",
            format!("fabric: \"{}", fill("\n")),
        ),
        ("blank lines", fill("\n")),
        ("spaces", fill(" ")),
        ("tabs", fill("\t")),
        ("comments", fill("#\n")),
        ("words", fill("a ")),
        ("quotes", fill("\"\"\n")),
        ("plain lines", fill("a\n")),
        ("zero octets", fill("\0")),
        (
            "peers without a key",
            format!("{peers}{}", (0..9000).map(peer).collect::<String>()),
        ),
        (
            "peers that are nothing",
            format!("{peers}{}", fill("  -\n")),
        ),
        (
            "peers of all VLANs",
            format!("{good}{}{late}", peers_of_all_vlans()),
        ),
        (
            "VLANs one by one",
            format!("{good}{}{late}", peer_of_vlans_one_by_one()),
        ),
        ("static entries", format!("{good}{}", static_entries(4097))),
        (
            "static entries of nobody",
            format!("{good}{}", static_entries(4096)),
        ),
        (
            "addresses of a static entry",
            format!(
                "{good}switch:\n  static: [{{{host}, addresses: [{}\"fd00::1\"]}}]\n",
                (0..39_000)
                    .map(|n| format!("\"fd00::{n:x}\","))
                    .collect::<String>()
            ),
        ),
        (
            "MAC addresses of a port",
            format!("{good}    macs: [{}]", fill("02:00:00:00:00:01,")),
        ),
        ("a path", good.replace("minimal.key", &"a/".repeat(500_000))),
        ("an interface", good.replace("eth0", &"a".repeat(1_000_000))),
    ]
}

/// The time that this thread has worked, not counting what other programs took meanwhile.
fn cpu_time() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    Duration::try_from(time).unwrap_or_default()
}

/// Checks one file against [`LIMIT`]: the best of a few runs, as the first ones warm up.
fn check_time(what: &str, run: impl Fn() -> String) {
    let mut best = Duration::MAX;
    for _ in 0..5 {
        let start = cpu_time();
        let shown = run();
        best = best.min(cpu_time() - start);
        assert!(shown.starts_with("fabric.yaml:"), "{what}: {shown}");
        if best < LIMIT {
            return;
        }
    }
    panic!("{what} took {best:?}");
}

#[test]
fn no_file_takes_long_or_much_memory() {
    for (what, text) in bombs() {
        let text = &text.as_bytes()[..text.len().min(1 << 20)];
        assert_eq!(check(text), Ok(()), "{what}");
        check_time(what, || {
            read(text).map_or_else(|e| e.to_string(), |()| "ok".to_owned())
        });
    }

    let folder = tempfile::tempdir().expect("a temporary folder");
    let big = folder.path().join("fabric.yaml");
    std::fs::write(&big, "a: [b]\n".repeat(10_000_000 / 7)).expect("10 MB are written");
    check_time("10 MB", || {
        let error = load(&big).expect_err("it is too big").to_string();
        error.replace(&format!("{}/", folder.path().display()), "")
    });

    let status = std::fs::read_to_string("/proc/self/status").expect("Linux");
    let peak = status
        .lines()
        .find_map(|line| line.strip_prefix("VmHWM:")?.split_whitespace().next());
    let peak: u64 = peak.and_then(|n| n.parse().ok()).expect("a number of KiB");
    assert!(peak < MEMORY_KIB, "{peak} KiB");
}
