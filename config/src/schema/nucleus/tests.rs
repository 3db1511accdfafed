//! `NUCLEUS-KEYS.md` says what is read, and the example shows all of it.

use std::collections::BTreeSet;

use super::*;

/// Every key with the path of its mapping in front, its default, and what is allowed.
fn read() -> BTreeSet<(String, &'static str, &'static str)> {
    let path = |section: &Section, key: &Key| match section.path {
        "" => key.name.to_owned(),
        path => format!("{path}.{}", key.name),
    };
    let keys = ALL.iter().flat_map(|section| {
        let keys = section.keys.iter();
        keys.map(move |key| (path(section, key), key.default, key.allowed))
    });
    keys.collect()
}

#[test]
fn nucleus_keys_md_documents_exactly_the_keys_that_are_read() {
    let text = include_str!("../../../NUCLEUS-KEYS.md");
    let rows = text.lines().filter(|line| line.starts_with("| `"));
    let documented: BTreeSet<_> = rows
        .map(|row| {
            let cells: Vec<_> = row.split('|').map(str::trim).collect();
            assert_eq!(cells.len(), 7, "{row}");
            let filled = cells.iter().skip(1).take(5).all(|cell| !cell.is_empty());
            assert!(filled, "{row}");
            (cells[1].trim_matches('`').to_owned(), cells[2], cells[4])
        })
        .collect();
    assert_eq!(documented, read());
}

#[test]
fn the_example_shows_every_key() {
    let text = include_str!("../../../nucleus.yaml");
    for (path, ..) in read() {
        let name = format!("{}:", path.rsplit('.').next().unwrap_or(&path));
        let shows = |line: &str| line.trim_start_matches(['#', ' ']).starts_with(&name);
        assert!(text.lines().any(shows), "{path} is not in nucleus.yaml");
    }
}

#[test]
fn a_key_of_another_mapping_of_this_file_is_led_home() {
    let home = |name: &str, section: &Section| {
        let mut sections = crate::schema::of_file_with(section).iter();
        sections
            .find(|other| other.key(name).is_some())
            .map(|home| home.path)
    };
    assert_eq!(home("endpoints", &TOP), Some("store.etcd"));
    assert_eq!(home("interface", &TOP), None, "that one is fabric.yaml's");
    assert_eq!(home("interface", &crate::schema::TOP), Some("underlay"));
}
