//! docs/security.md answers every threat and every test with a figure, and what it names is there.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

/// Tests with figures, by what they are about.
const TESTS: [(&str, usize); 9] = [
    ("C", 10),
    ("F", 4),
    ("D", 2),
    ("L", 5),
    ("K", 7),
    ("U", 3),
    ("S", 1),
    ("H", 3),
    ("T", 25),
];
/// What a file of the repository ends with, where one is named.
const ENDINGS: [&str; 9] = [
    ".rs", ".py", ".c", ".h", ".sh", ".toml", ".lock", ".txt", ".proto",
];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn document() -> String {
    fs::read_to_string(root().join("docs/security.md")).expect("a document")
}

/// Rows of tables that begin with an id, as `T4`, and their cells after it.
fn rows(text: &str) -> Vec<(&str, Vec<&str>)> {
    let rows = text.lines().filter_map(|line| line.strip_prefix("| "));
    let rows = rows.filter_map(|row| {
        let mut cells = row.trim_end_matches([' ', '|']).split(" | ");
        let id = cells.next()?;
        let (letter, number) = id.split_at_checked(1)?;
        let is_id = letter.chars().all(|c| c.is_ascii_uppercase()) && number.parse::<u8>().is_ok();
        is_id.then(|| (id, cells.collect()))
    });
    rows.collect()
}

/// What stands in single backticks.
fn named(text: &str) -> impl Iterator<Item = &str> {
    text.lines()
        .flat_map(|line| line.split('`').skip(1).step_by(2))
}

#[test]
fn every_threat_and_every_test_has_one_row_without_an_empty_cell() {
    let text = document();
    let mut seen: BTreeMap<&str, usize> = BTreeMap::new();
    for (id, cells) in rows(&text) {
        *seen.entry(id).or_default() += 1;
        assert_eq!(cells.len(), 4, "{id}: {cells:?}");
        assert!(cells.iter().all(|cell| !cell.trim().is_empty()), "{id}");
    }
    let wanted: Vec<String> = TESTS
        .iter()
        .flat_map(|(letter, count)| (1..=*count).map(move |n| format!("{letter}{n}")))
        .collect();
    let wanted: BTreeMap<&str, usize> = wanted.iter().map(|id| (id.as_str(), 1)).collect();
    assert_eq!(seen, wanted, "rows (left) and what there has to be (right)");
}

#[test]
fn every_test_that_is_named_is_there() {
    let text = document();
    let mut found = 0;
    for name in named(&text) {
        let Some((file, test)) = name.split_once("::") else {
            continue;
        };
        let source = fs::read_to_string(root().join(file));
        let source = source.unwrap_or_else(|error| panic!("{name}: {error}"));
        let function = if file.ends_with(".py") { "def" } else { "fn" };
        let definition = format!("{function} {test}(");
        assert!(source.contains(&definition), "{file} has no {test}");
        found += 1;
    }
    assert!(found > 100, "only {found} tests named");
}

#[test]
fn every_threat_has_a_test() {
    for (id, cells) in rows(&document()) {
        let names_tests = || named(cells[2]).any(|name| name.contains("::"));
        assert!(!id.starts_with('T') || names_tests(), "{id} has no test");
    }
}

#[test]
fn every_file_that_is_named_is_there() {
    let text = document();
    let mut found = 0;
    for name in named(&text) {
        let file = name.split("::").next().unwrap_or_default();
        let is_file = file.contains('/') && ENDINGS.iter().any(|ending| file.ends_with(ending));
        if is_file && !file.starts_with('/') {
            assert!(root().join(file).is_file(), "{file}");
            found += 1;
        }
    }
    assert!(found > 100, "only {found} files named");
}
