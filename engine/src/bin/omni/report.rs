//! `omni report`: how long frames take, stage by stage, over the engines of a whole fabric.
//!
//! Histograms are merged, never percentiles.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use clap::Args;
use omni_engine::stages::{Histogram, NodeStages, Side};
use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::client::{self, ClientError};
use crate::render::latencies;
use crate::table::{Cell, Column, Pen, Table};
use crate::units::latency;

/// What the JSON calls itself.
const KIND: &str = "stages";
/// The widest table, in characters.
const WIDTH: usize = 120;

pub(crate) const EXAMPLES: &str = "\
A source is the control socket of an engine, or a file that `omni report --json` wrote. Without any,
every engine that has its socket in /run/omni is asked. What several engines counted is merged
count by count; percentiles are of the whole.

  wait     from the driver's time stamp to the worker's turn; taps and UDP sockets have no stamp
  work     the worker's turn until its burst is ready to be sent: look-ups and cryptography
  send     into the transmit rings, and the system calls that send
  through  all of it, from the stamp, or from when a tap or a UDP socket was read

What depends on many frames one after the other is as slow as the slowest of them. --steps N tells
what the slowest of N takes half of the time: a ring all-reduce of 100 ranks has 198 steps.

Examples:
  omni report
  omni report --steps 198 /run/omni/alpha.sock /run/omni/beta.sock
  omni report --json > before.json; sleep 60; omni report --since before.json
  ssh alpha omni report --json > alpha.json; omni report alpha.json beta.json";

/// What is merged, and how it is told.
#[derive(Debug, Args)]
pub(crate) struct Arguments {
    /// Control sockets, and files that `omni report --json` wrote
    #[arg(value_name = "SOURCE")]
    sources: Vec<PathBuf>,

    /// Only what was counted after this file was written by `omni report --json`
    #[arg(long, value_name = "FILE")]
    since: Option<PathBuf>,

    /// Tell what the slowest of so many frames takes, half of the time
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    steps: Option<u32>,

    /// Print JSON: all histograms, of each node and merged
    #[arg(long)]
    json: bool,
}

/// Why there is no report.
#[derive(Debug, Error)]
pub(crate) enum ReportError {
    /// An engine could not be asked.
    #[error(transparent)]
    Client(#[from] ClientError),
    /// A file could not be read.
    #[error("cannot read {0}: {1}")]
    Read(PathBuf, io::Error),
    /// A file holds something else.
    #[error("{0} is no report of omni: {1}")]
    NotAReport(PathBuf, String),
    /// A node was named twice: its frames would count twice.
    #[error("node {0} is in two of the sources")]
    Twice(String),
    /// Its engine was started again, or it is another node.
    #[error("node {0} counts less than in {1}: its engine was started again")]
    StartedAgain(String, PathBuf),
    /// It is not in the earlier report.
    #[error("node {0} is not in {1}")]
    NotBefore(String, PathBuf),
}

/// What `--json` prints and files hold.
#[derive(Debug, Serialize, Deserialize)]
struct Report {
    kind: String,
    nodes: Vec<NodeStages>,
    merged: Vec<Merged>,
}

/// A stage of all nodes.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(crate) struct Merged {
    pub(crate) stage: Stage,
    /// Where the frames came from; null: from both sides.
    pub(crate) side: Option<Side>,
    pub(crate) histogram: Histogram,
}

impl Merged {
    /// Where the frames came from, for people.
    pub(crate) const fn from(&self) -> &'static str {
        match self.side {
            Some(Side::Underlay) => "other nodes",
            Some(Side::Access) => "hosts",
            None => "both",
        }
    }
}

/// A part of a frame's way.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Stage {
    Wait,
    Work,
    Send,
    Through,
}

impl Stage {
    /// As it is written.
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Wait => "wait",
            Self::Work => "work",
            Self::Send => "send",
            Self::Through => "through",
        }
    }
}

/// Asks, reads and merges.
pub(crate) fn run(
    arguments: &Arguments,
    socket: Option<&PathBuf>,
    pen: Pen,
) -> Result<String, ReportError> {
    let mut nodes = Vec::new();
    for source in sources(arguments, socket)? {
        nodes.extend(read(&source)?);
    }
    nodes.sort_by(|one: &NodeStages, other| one.node.cmp(&other.node));
    if let Some(pair) = nodes
        .windows(2)
        .find(|pair| pair[0].public_key == pair[1].public_key)
    {
        return Err(ReportError::Twice(pair[0].node.clone()));
    }
    if let Some(file) = &arguments.since {
        let earlier = read_file(file)?;
        for node in &mut nodes {
            let before = earlier
                .iter()
                .find(|before| before.public_key == node.public_key)
                .ok_or_else(|| ReportError::NotBefore(node.node.clone(), file.clone()))?;
            *node = since(node, before)
                .ok_or_else(|| ReportError::StartedAgain(node.node.clone(), file.clone()))?;
        }
    }
    let merged = merge(&nodes);
    if arguments.json {
        let report = Report {
            kind: KIND.to_owned(),
            nodes,
            merged,
        };
        let text = serde_json::to_string(&report);
        return text
            .map(|text| text + "\n")
            .map_err(|error| ReportError::NotAReport(PathBuf::from("-"), error.to_string()));
    }
    Ok(table(nodes.len(), &merged, arguments.steps, pen))
}

fn sources(arguments: &Arguments, socket: Option<&PathBuf>) -> Result<Vec<PathBuf>, ReportError> {
    let named = arguments.sources.iter().chain(socket);
    let named: Vec<_> = named.cloned().collect();
    if named.is_empty() {
        return Ok(client::find_sockets(Path::new(client::FOLDER))?);
    }
    Ok(named)
}

/// The nodes of a source.
fn read(source: &Path) -> Result<Vec<NodeStages>, ReportError> {
    let is_file = fs::metadata(source).is_ok_and(|metadata| metadata.is_file());
    if is_file {
        return read_file(source);
    }
    Ok(vec![client::stages(source)?])
}

fn read_file(path: &Path) -> Result<Vec<NodeStages>, ReportError> {
    let text = fs::read(path).map_err(|error| ReportError::Read(path.to_owned(), error))?;
    let refuse = |why: String| ReportError::NotAReport(path.to_owned(), why);
    let report: Report =
        serde_json::from_slice(&text).map_err(|error| refuse(error.to_string()))?;
    if report.kind != KIND {
        return Err(refuse(format!("its kind is {}", report.kind)));
    }
    Ok(report.nodes)
}

/// What a node counted after an earlier report of it; `None` if its engine was started again.
pub(crate) fn since(node: &NodeStages, before: &NodeStages) -> Option<NodeStages> {
    if node.uptime_seconds < before.uptime_seconds || node.workers.len() != before.workers.len() {
        return None;
    }
    let mut left = node.clone();
    for (worker, before) in left.workers.iter_mut().zip(&before.workers) {
        if worker.queues.len() != before.queues.len() {
            return None;
        }
        worker.work = worker.work.since(&before.work)?;
        worker.send = worker.send.since(&before.send)?;
        for (queue, before) in worker.queues.iter_mut().zip(&before.queues) {
            queue.wait = queue.wait.since(&before.wait)?;
            queue.through = queue.through.since(&before.through)?;
        }
    }
    Some(left)
}

/// All nodes together.
pub(crate) fn merge(nodes: &[NodeStages]) -> Vec<Merged> {
    let mut sums: BTreeMap<(Stage, Option<Side>), Histogram> = BTreeMap::new();
    let mut add = |stage, side, histogram: &Histogram| {
        let sum = sums.entry((stage, side)).or_default();
        *sum = sum.plus(histogram);
    };
    for worker in nodes.iter().flat_map(|node| &node.workers) {
        for queue in &worker.queues {
            add(Stage::Wait, Some(queue.side), &queue.wait);
            add(Stage::Through, Some(queue.side), &queue.through);
        }
        add(Stage::Work, None, &worker.work);
        add(Stage::Send, None, &worker.send);
    }
    let merged = sums.into_iter().map(|((stage, side), histogram)| Merged {
        stage,
        side,
        histogram,
    });
    merged.collect()
}

/// What half of all tries of the slowest of `steps` frames do not exceed: where all of them stay
/// below a value with probability one half, each does with its `steps`th root.
fn slowest_of(histogram: &Histogram, steps: u32) -> u64 {
    histogram.at(0.5f64.powf(1.0 / f64::from(steps)))
}

fn table(nodes: usize, merged: &[Merged], steps: Option<u32>, pen: Pen) -> String {
    const COLUMNS: [Column; 10] = [
        Column::left("stage").key(),
        Column::left("frames from").key(),
        Column::right("frames"),
        Column::right("p50"),
        Column::right("p90"),
        Column::right("p99"),
        Column::right("p99.9"),
        Column::right("p99.99"),
        Column::right("max"),
        Column::right("slowest"),
    ];
    let columns = if steps.is_some() {
        &COLUMNS[..]
    } else {
        &COLUMNS[..COLUMNS.len() - 1]
    };
    let mut table = Table::new(columns);
    for part in merged {
        let histogram = &part.histogram;
        let mut row = vec![Cell::from(part.stage.as_str()), Cell::from(part.from())];
        row.extend(latencies(&histogram.percentiles()));
        row.extend(steps.map(|steps| match histogram.count {
            0 => Cell::absent(),
            _ => Cell::from(latency(slowest_of(histogram, steps))),
        }));
        table.row(row);
    }
    let noun = if nodes == 1 { "node" } else { "nodes" };
    let mut text = format!("{nodes} {noun}\n\n{}", table.render(pen, 0, WIDTH));
    if let Some(steps) = steps {
        let end = if steps == 1 {
            "frame takes"
        } else {
            "frames takes"
        };
        text.push_str(&format!(
            "\nslowest: what the slowest of {steps} {end}, half of the time\n"
        ));
    }
    text
}

#[cfg(test)]
mod tests {
    use omni_engine::stages::{QueueStages, WorkerStages};
    use omni_engine::stats::Latency;
    use omni_wire::Instant;

    use super::*;

    fn times(values: &[u64]) -> Histogram {
        let mut latency = Latency::default();
        for &value in values {
            latency.record(Instant(0), Instant(value));
        }
        Histogram::from(&latency)
    }

    fn node(name: &str, waits: &[u64]) -> NodeStages {
        let queue = |side, wait: Histogram| QueueStages {
            port: "eth0".to_owned(),
            side,
            queue: 0,
            mode: "native".to_owned(),
            through: wait.plus(&times(&[500])),
            wait,
        };
        NodeStages {
            node: name.to_owned(),
            public_key: format!("key of {name}"),
            uptime_seconds: 9,
            workers: vec![WorkerStages {
                worker: 0,
                core: None,
                queues: vec![
                    queue(Side::Underlay, times(waits)),
                    queue(Side::Access, times(&[])),
                ],
                work: times(waits),
                send: times(&[3]),
            }],
        }
    }

    fn write(folder: &Path, name: &str, nodes: Vec<NodeStages>) -> PathBuf {
        let path = folder.join(name);
        let report = Report {
            kind: KIND.to_owned(),
            merged: merge(&nodes),
            nodes,
        };
        let text = serde_json::to_string(&report).expect("it is written");
        fs::write(&path, text).expect("a file");
        path
    }

    fn report(sources: &[&PathBuf], since: Option<&PathBuf>) -> Result<Report, ReportError> {
        let arguments = Arguments {
            sources: sources.iter().map(|&path| path.clone()).collect(),
            since: since.cloned(),
            steps: None,
            json: true,
        };
        let text = run(&arguments, None, Pen { colors: false })?;
        Ok(serde_json::from_str(&text).expect("it is read"))
    }

    fn of(report: &Report, stage: Stage, side: Option<Side>) -> &Histogram {
        let mut merged = report.merged.iter();
        let found = merged.find(|merged| merged.stage == stage && merged.side == side);
        &found.expect("the stage").histogram
    }

    #[test]
    fn counts_of_all_nodes_are_added() {
        let folder = tempfile::tempdir().expect("a folder");
        let one = write(folder.path(), "1", vec![node("alpha", &[10, 20])]);
        let two = write(folder.path(), "2", vec![node("beta", &[20, 9_000])]);
        let both = report(&[&two, &one], None).expect("two files");
        let names: Vec<_> = both.nodes.iter().map(|node| node.node.as_str()).collect();
        assert_eq!(names, ["alpha", "beta"]);
        let wait = of(&both, Stage::Wait, Some(Side::Underlay));
        assert_eq!(*wait, times(&[10, 20, 20, 9_000]));
        assert_eq!(of(&both, Stage::Send, None).count, 2);
        assert_eq!(of(&both, Stage::Wait, Some(Side::Access)).count, 0);
        // Merged files can be merged again.
        let file = write(folder.path(), "3", both.nodes);
        let three = write(folder.path(), "4", vec![node("gamma", &[1])]);
        let all = report(&[&file, &three], None).expect("two files");
        assert_eq!(of(&all, Stage::Work, None).count, 5);
    }

    #[test]
    fn an_interval_is_what_was_counted_in_it() {
        let folder = tempfile::tempdir().expect("a folder");
        let before = write(folder.path(), "1", vec![node("alpha", &[10])]);
        let after = write(folder.path(), "2", vec![node("alpha", &[10, 10, 70])]);
        let between = report(&[&after], Some(&before)).expect("an interval");
        assert_eq!(*of(&between, Stage::Work, None), times(&[10, 70]));
        assert_eq!(of(&between, Stage::Send, None).count, 0);
        let again = report(&[&before], Some(&after)).expect_err("it went back");
        assert!(matches!(again, ReportError::StartedAgain(..)), "{again}");
        let other = write(folder.path(), "3", vec![node("beta", &[10])]);
        let unknown = report(&[&other], Some(&before)).expect_err("another node");
        assert!(matches!(unknown, ReportError::NotBefore(..)), "{unknown}");
    }

    #[test]
    fn what_cannot_be_merged_is_refused() {
        let folder = tempfile::tempdir().expect("a folder");
        let one = write(folder.path(), "1", vec![node("alpha", &[10])]);
        let twice = report(&[&one, &one], None).expect_err("twice the same");
        assert!(matches!(twice, ReportError::Twice(_)), "{twice}");
        for text in ["", "{}", r#"{"kind":"latency","nodes":[],"merged":[]}"#] {
            let path = folder.path().join("bad");
            fs::write(&path, text).expect("a file");
            let bad = report(&[&path], None).expect_err("no report");
            assert!(matches!(bad, ReportError::NotAReport(..)), "{text}: {bad}");
        }
        let nobody = report(&[&folder.path().join("none")], None).expect_err("nobody");
        assert!(matches!(nobody, ReportError::Client(_)), "{nobody}");
    }

    #[test]
    fn the_slowest_of_many_is_a_high_percentile() {
        let values: Vec<u64> = (1..=100).collect();
        let histogram = times(&values);
        assert_eq!(slowest_of(&histogram, 1), 50);
        // 0.5 to the power of 1/10 is 0.933.
        assert_eq!(slowest_of(&histogram, 10), 94);
        assert_eq!(slowest_of(&histogram, 1_000_000), 100);
    }

    #[test]
    fn the_table_names_stages_and_steps() {
        let merged = merge(&[node("alpha", &[10, 1_200])]);
        let text = table(1, &merged, Some(198), Pen { colors: false });
        let lines: Vec<_> = text.lines().collect();
        assert_eq!(lines[0], "1 node");
        assert!(lines[2].ends_with("max  slowest"), "{text}");
        assert!(
            lines[3].starts_with("wait     other nodes       2"),
            "{text}"
        );
        assert!(text.contains("slowest of 198 frames takes"), "{text}");
    }
}
