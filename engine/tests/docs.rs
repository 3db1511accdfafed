//! The documents say what the code says: drop reasons, links, configurations.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use omni_wire::DropReason;

/// The repository's root.
fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// Every document, in the folders that have some.
fn documents() -> Vec<PathBuf> {
    let folders = ["", "docs", "config", "lab"].map(|folder| root().join(folder));
    let entries = folders
        .iter()
        .filter_map(|folder| fs::read_dir(folder).ok())
        .flatten();
    let paths = entries.map(|entry| entry.expect("a readable folder").path());
    paths
        .filter(|path| path.extension().is_some_and(|ending| ending == "md"))
        .collect()
}

#[test]
fn every_drop_reason_has_one_row_in_drops_md_and_every_row_is_a_reason() {
    let text = read(&root().join("docs/drops.md"));
    let mut rows: BTreeMap<&str, usize> = BTreeMap::new();
    for row in text.lines().filter_map(|line| line.strip_prefix("| `")) {
        let (label, rest) = row.split_once('`').expect("a closed label");
        *rows.entry(label).or_default() += 1;
        let cells: Vec<&str> = rest
            .trim_matches([' ', '|'])
            .split('|')
            .map(str::trim)
            .collect();
        assert_eq!(cells.len(), 3, "{label}: meaning, cause and what to do");
        assert!(
            cells.iter().all(|cell| !cell.is_empty()),
            "{label}: an empty cell"
        );
    }
    let reasons = DropReason::ALL
        .iter()
        .map(|reason| (reason.as_str(), 1))
        .collect();
    assert_eq!(rows, reasons, "rows (left) and reasons (right)");
}

#[test]
fn every_relative_link_leads_to_a_file() {
    let documents = documents();
    assert!(documents.len() >= 8, "only {documents:?} found");
    for document in documents {
        let folder = document.parent().expect("a file is in a folder");
        for link in links(&read(&document)) {
            let file = link.split('#').next().unwrap_or_default();
            let is_elsewhere = link.contains("://") || file.is_empty();
            let there = folder.join(file);
            assert!(
                is_elsewhere || there.exists(),
                "{}: {link}",
                document.display()
            );
        }
    }
}

/// What the links of a document lead to: `[text](this)`.
fn links(text: &str) -> Vec<String> {
    let after = text.split("](").skip(1);
    after
        .filter_map(|rest| rest.split_once(')'))
        .map(|(link, _)| link.to_owned())
        .collect()
}

#[test]
fn the_configurations_in_the_readme_are_good() {
    let text = read(&root().join("README.md"));
    let blocks: Vec<&str> = text.split("```yaml\n").skip(1).collect();
    assert!(
        blocks.len() >= 2,
        "the quick start has a file for a node and one for its Nucleus"
    );
    for block in blocks {
        let (yaml, _) = block.split_once("```").expect("a closed block");
        let folder = tempfile::tempdir().expect("a folder");
        for key_file in yaml
            .lines()
            .filter_map(|line| line.split_once("_key_file: "))
        {
            let path = folder
                .path()
                .join(key_file.1.split(' ').next().unwrap_or_default());
            fs::write(&path, "GHa+3Y3uRG0yM4yhLGk6RZOnIoeC4n5hCxFw4mYTSFI=\n").expect("written");
            fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).expect("a mode");
        }
        let file = folder.path().join("fabric.yaml");
        fs::write(&file, yaml).expect("written");
        let is_node = yaml.contains("\nnode:");
        let checked = if is_node {
            omni_config::load(&file).map(|_| ())
        } else {
            let is_authority = |key: &[u8; 32]| {
                let read = omni_membership::AuthorityPublicKey::from_octets(key);
                read.map(|_| ()).map_err(|error| error.to_string())
            };
            omni_config::load_nucleus(&file, &is_authority).map(|_| ())
        };
        if let Err(error) = checked {
            panic!("{error}\n{yaml}");
        }
    }
}

#[test]
fn dashboard_and_alerts_name_metrics_that_there_are() {
    let page = read(&root().join("docs/metrics.md"));
    let rows = page.lines().filter_map(|line| line.strip_prefix("| `"));
    let known: BTreeMap<&str, &str> = rows
        .filter_map(|row| row.split_once("` | "))
        .filter_map(|(name, rest)| Some((name, rest.split(" |").next()?)))
        .collect();
    for file in [
        "contrib/grafana/omninervous.json",
        "contrib/prometheus/alerts.yaml",
    ] {
        let text = read(&root().join(file));
        let is_part = |c: char| c.is_ascii_alphanumeric() || c == '_';
        let words = text.split(|c: char| !is_part(c));
        let named: Vec<&str> = words.filter(|word| word.starts_with("omni_")).collect();
        assert!(named.len() >= 15, "{file}: only {named:?}");
        for name in named {
            let of_histogram = ["_bucket", "_sum", "_count"]
                .iter()
                .filter_map(|ending| name.strip_suffix(ending))
                .any(|base| known.get(base) == Some(&"histogram"));
            let is_known = known.get(name).is_some_and(|kind| *kind != "histogram");
            assert!(is_known || of_histogram, "{file}: {name}");
        }
    }
}
