//! What a large fabric takes: of the Nucleus, of each node, and of the disk.
//!
//! Without sockets: the core of the server with a store in a file, and the agent of a node. Each
//! measurement is a process of its own, and memory is the difference of its resident set, as the
//! kernel counts it. That includes what the allocator keeps for later.

pub(super) mod child;
pub(super) mod memory;
mod stand;

use std::path::Path;
use std::process::{Command, Stdio};

use serde::Serialize;
use serde::de::DeserializeOwned;

use self::child::{Fill, What};
use super::judged;
use crate::Failure;

/// The members of the row that is computed.
const COMPUTED: f64 = 1e6;
/// One mebibyte, in octets.
const MIB: f64 = (1 << 20) as f64;

#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// Numbers of members, separated by commas, in rising order.
    #[arg(long, value_delimiter = ',', default_value = "1000,3000,10000",
        value_parser = clap::value_parser!(u32).range(10..=60_000))]
    members: Vec<u32>,
    /// Addresses of each member.
    #[arg(long, default_value_t = 4, value_parser = clap::value_parser!(u32).range(1..=100))]
    bindings: u32,
    /// Where to put files, for a while: on a disk of the kind that is of interest.
    #[arg(long, value_name = "DIR")]
    folder: Option<std::path::PathBuf>,
    /// The target: seconds in which a Nucleus reads its store, at each size.
    #[arg(long, default_value_t = 10.0)]
    load_within: f64,
    /// The target: seconds in which a node takes in all others, at each size.
    #[arg(long, default_value_t = 60.0)]
    taken_within: f64,
    /// Prints JSON.
    #[arg(long)]
    json: bool,
}

/// What came of it.
#[derive(Debug, Serialize)]
struct Report {
    bindings: u32,
    rows: Vec<Row>,
    missed: Vec<String>,
}

/// One number of members. Sizes are in octets.
#[derive(Debug, Serialize)]
struct Row {
    members: u32,
    fill: Fill,
    nucleus: child::Nucleus,
    node: child::Node,
    /// The same without addresses: what members alone take.
    alone: Alone,
}

/// Memory with members, and no addresses. In octets.
#[derive(Debug, Serialize)]
struct Alone {
    nucleus: u64,
    node: u64,
}

/// Measures all sizes and prints a table.
///
/// # Errors
/// When a target is missed, or nothing can be measured.
pub(super) fn run(arguments: &Arguments) -> Result<(), Failure> {
    let mut rows = Vec::new();
    for &members in &arguments.members {
        let (_, nucleus, node) = measure(arguments, members, 0)?;
        let alone = Alone {
            nucleus: nucleus.resident,
            node: node.resident,
        };
        let (fill, nucleus, node) = measure(arguments, members, arguments.bindings)?;
        rows.push(Row {
            members,
            fill,
            nucleus,
            node,
            alone,
        });
    }
    let report = Report {
        bindings: arguments.bindings,
        missed: missed(arguments, &rows),
        rows,
    };
    if arguments.json {
        println!("{}", serde_json::to_string(&report)?);
    } else {
        print(&report);
    }
    judged(&report.missed)
}

fn missed(arguments: &Arguments, rows: &[Row]) -> Vec<String> {
    let mut missed = Vec::new();
    for row in rows {
        let load = row.nucleus.load_ms / 1e3;
        let taken = row.node.taken_ms / 1e3;
        let members = row.members;
        if load > arguments.load_within {
            missed.push(format!("{members} members: read in {load:.1} s"));
        }
        if taken > arguments.taken_within {
            missed.push(format!("{members} members: taken in in {taken:.1} s"));
        }
    }
    missed
}

fn measure(
    arguments: &Arguments,
    members: u32,
    bindings: u32,
) -> Result<(Fill, child::Nucleus, child::Node), Failure> {
    let mut builder = tempfile::Builder::new();
    builder.prefix("omni-perf-");
    let folder = match &arguments.folder {
        Some(folder) => builder.tempdir_in(folder)?,
        None => builder.tempdir()?,
    };
    let ask = |what| (what, members, bindings);
    let fill = in_child(ask(What::Fill), folder.path())?;
    let nucleus = in_child(ask(What::Nucleus), folder.path())?;
    let node = in_child(ask(What::Agent), folder.path())?;
    Ok((fill, nucleus, node))
}

fn in_child<T: DeserializeOwned>(
    (what, members, bindings): (What, u32, u32),
    folder: &Path,
) -> Result<T, Failure> {
    let done = Command::new(std::env::current_exe()?)
        .args(["members", "measure", what.as_str()])
        .args(["--members", &members.to_string()])
        .args(["--bindings", &bindings.to_string()])
        .arg("--folder")
        .arg(folder)
        .stdin(Stdio::null())
        .stderr(Stdio::inherit())
        .output()?;
    if !done.status.success() {
        let what = what.as_str();
        return Err(format!("measuring {what} with {members} members: {}", done.status).into());
    }
    Ok(serde_json::from_slice(&done.stdout)?)
}

/// What a table has a line for.
type Line = (&'static str, fn(&Row) -> f64, &'static str, f64);

/// Each with its unit, and how much of it is one in the table.
const LINES: [Line; 10] = [
    (
        "Nucleus, memory",
        |row| row.nucleus.resident as f64,
        "MiB",
        MIB,
    ),
    (
        "Nucleus, most while it reads",
        |row| row.nucleus.peak as f64,
        "MiB",
        MIB,
    ),
    (
        "with all connected, more",
        |row| row.nucleus.connected as f64,
        "MiB",
        MIB,
    ),
    (
        "Nucleus, to read its store",
        |row| row.nucleus.load_ms,
        "s",
        1e3,
    ),
    ("store's file", |row| row.fill.file as f64, "MiB", MIB),
    (
        "list, told to one node",
        |row| row.nucleus.list as f64,
        "MiB",
        MIB,
    ),
    (
        "list, told to all",
        |row| row.nucleus.list as f64 * f64::from(row.members),
        "GiB",
        1024.0 * MIB,
    ),
    ("node, memory", |row| row.node.resident as f64, "MiB", MIB),
    ("node, cache", |row| row.node.cache as f64, "MiB", MIB),
    ("node, to verify all", |row| row.node.taken_ms, "s", 1e3),
];

fn print(report: &Report) {
    let Report { bindings, rows, .. } = report;
    println!("members with {bindings} addresses each; memory is resident\n");
    let heads = rows.iter().map(|row| format!(" {} |", row.members));
    println!(
        "| what |{} for a member | 1,000,000 (computed) |",
        heads.collect::<String>()
    );
    println!("|---|{}---|---|", "---|".repeat(rows.len()));
    for (name, value, unit, one) in LINES {
        let cells = rows.iter().map(|row| format!(" {:.2} |", value(row) / one));
        let cells: String = cells.collect();
        let each = slope(rows, value);
        let all = match name {
            "list, told to all" => slope(rows, |row| row.nucleus.list as f64) * COMPUTED * COMPUTED,
            _ => each * COMPUTED,
        };
        let each = match (name, unit) {
            ("list, told to all", _) => "one list".to_owned(),
            (_, "s") => format!("{each:.3} ms"),
            _ => format!("{each:.0} octets"),
        };
        println!("| {name}, {unit} |{cells} {each} | {:.0} |", all / one);
    }
    let cells = rows.iter().map(|row| {
        let Fill {
            registration_ms,
            stored_ms,
            ..
        } = row.fill;
        format!(" {registration_ms:.2} ({stored_ms:.2}) |")
    });
    println!(
        "| one registration (of that in the store), ms |{} - | - |",
        cells.collect::<String>()
    );
    let divided = |of: fn(&Row) -> (u64, u64)| {
        let cells = rows.iter().map(move |row| {
            let (with, without) = of(row);
            let addresses = f64::from(row.members) * f64::from(*bindings);
            let member = without as f64 / f64::from(row.members);
            let address = with.saturating_sub(without) as f64 / addresses;
            format!(" {member:.0} + {address:.0} |")
        });
        cells.collect::<String>()
    };
    println!(
        "| Nucleus, octets for a member + for an address |{} - | - |",
        divided(|row| (row.nucleus.resident, row.alone.nucleus))
    );
    println!(
        "| node, octets for a member + for an address |{} - | - |",
        divided(|row| (row.node.resident, row.alone.node))
    );
}

/// Growth for a member: between the least and the greatest number, or from nothing with one.
fn slope(rows: &[Row], value: impl Fn(&Row) -> f64) -> f64 {
    let (Some(first), Some(last)) = (rows.first(), rows.last()) else {
        return 0.0;
    };
    if first.members == last.members {
        return value(last) / f64::from(last.members);
    }
    (value(last) - value(first)) / (f64::from(last.members) - f64::from(first.members))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(members: u32, resident: u64) -> Row {
        Row {
            members,
            fill: Fill {
                file: 0,
                registration_ms: 0.0,
                stored_ms: 0.0,
            },
            nucleus: child::Nucleus {
                load_ms: 2000.0,
                resident,
                peak: 0,
                connected: 0,
                list: 0,
            },
            node: child::Node {
                taken_ms: 9000.0,
                resident: 0,
                cache: 0,
            },
            alone: Alone {
                nucleus: 0,
                node: 0,
            },
        }
    }

    #[test]
    fn growth_is_without_what_is_there_from_the_start() {
        let resident = |row: &Row| row.nucleus.resident as f64;
        assert_eq!(slope(&[row(10, 1100), row(20, 1200)], resident), 10.0);
        assert_eq!(slope(&[row(10, 1100)], resident), 110.0);
        assert_eq!(slope(&[], resident), 0.0);
    }

    #[test]
    fn each_size_is_held_against_the_targets() {
        let arguments = |load_within, taken_within| Arguments {
            members: Vec::new(),
            bindings: 4,
            folder: None,
            load_within,
            taken_within,
            json: false,
        };
        let rows = [row(10, 0), row(20, 0)];
        assert!(missed(&arguments(2.0, 9.0), &rows).is_empty());
        assert_eq!(missed(&arguments(1.9, 9.0), &rows).len(), 2);
        assert_eq!(missed(&arguments(2.0, 8.9), &rows).len(), 2);
    }
}
