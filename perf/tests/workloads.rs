//! `omni-perf allreduce` and `latency` as programs: what the lab starts, and how they end.

use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

const PROGRAM: &str = env!("CARGO_BIN_EXE_omni-perf");
const RANKS: usize = 8;

/// An address of this process alone, so that nobody else listens at its ports.
fn own_address() -> String {
    let [_, b, c, d] = std::process::id().to_be_bytes();
    format!("127.{}.{c}.{d}", 64 | b & 63)
}

/// Where ranks listen, from a port on.
fn addresses(port: usize) -> Vec<String> {
    let ip = own_address();
    (port..port + RANKS)
        .map(|port| format!("{ip}:{port}"))
        .collect()
}

fn start_rank(rank: usize, addresses: &[String], folder: &Path, more: &[&str]) -> Child {
    let mut command = Command::new(PROGRAM);
    command.args(["allreduce", "rank", "--rank", &rank.to_string()]);
    command.args([
        "--ranks",
        &RANKS.to_string(),
        "--addresses",
        &addresses.join(","),
    ]);
    command
        .args(["--listen", &addresses[rank], "--timeout-s", "10"])
        .args(more);
    command
        .arg("--json")
        .arg(folder.join(format!("{rank}.json")));
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    command.spawn().expect("it was built")
}

fn output(command: &mut Command) -> Output {
    command.output().expect("it was built")
}

fn text(octets: &[u8]) -> String {
    String::from_utf8_lossy(octets).into_owned()
}

#[test]
fn processes_reduce_and_their_files_are_merged() {
    let (addresses, folder) = (addresses(20_000), tempfile::tempdir().expect("a folder"));
    let more = [
        "--sizes",
        "8,100K",
        "--iterations",
        "4",
        "--warmup",
        "1",
        "--contestant",
        "loop",
    ];
    // In any order.
    let ranks = (0..RANKS).rev();
    let ranks: Vec<Child> = ranks
        .map(|rank| start_rank(rank, &addresses, folder.path(), &more))
        .collect();
    for rank in ranks {
        let output = rank.wait_with_output().expect("it ends");
        assert!(output.status.success(), "{}", text(&output.stderr));
    }
    let file = |rank: usize| folder.path().join(format!("{rank}.json"));
    let merged = folder.path().join("merged.json");
    let mut merge = Command::new(PROGRAM);
    merge
        .args(["allreduce", "merge"])
        .args((0..RANKS).map(file));
    let done = output(merge.arg("--json").arg(&merged));
    assert!(done.status.success(), "{}", text(&done.stderr));
    assert!(text(&done.stdout).contains("# wrong elements: 0"));
    let json = std::fs::read_to_string(merged).expect("written");
    let json: Value = serde_json::from_str(&json).expect("JSON");
    assert_eq!(
        (&json["kind"], &json["ranks"]),
        (&"allreduce".into(), &RANKS.into())
    );
    let slowest = json["slowest_counts"].as_array().expect("counts");
    let all: u64 = slowest.iter().filter_map(Value::as_u64).sum();
    assert_eq!((slowest.len(), all), (RANKS, 8));
    // One rank's file is not a run.
    let mut merge = Command::new(PROGRAM);
    let done = output(merge.args(["allreduce", "merge"]).arg(file(0)));
    assert!(!done.status.success());
    assert!(text(&done.stderr).contains("missing or there twice"));
}

#[test]
fn when_a_process_is_killed_all_others_fail_and_its_neighbours_name_it() {
    let (addresses, folder) = (addresses(20_100), tempfile::tempdir().expect("a folder"));
    let more = ["--sizes", "64K", "--iterations", "100000"];
    let start = |rank| start_rank(rank, &addresses, folder.path(), &more);
    let mut ranks: Vec<Child> = (0..RANKS).map(start).collect();
    thread::sleep(Duration::from_millis(500));
    let killed = Instant::now();
    ranks[3].kill().expect("it runs");
    let outputs = ranks
        .into_iter()
        .map(|rank| rank.wait_with_output().expect("it ends"));
    let outputs: Vec<Output> = outputs.collect();
    assert!(outputs.iter().all(|output| !output.status.success()));
    assert!(killed.elapsed() < Duration::from_secs(9));
    let said: Vec<String> = outputs.iter().map(|output| text(&output.stderr)).collect();
    assert!(said.iter().any(|said| said.contains("rank 3")), "{said:?}");
    assert!(!folder.path().join("0.json").exists());
}

#[test]
fn round_trips_to_an_echo_that_ends_by_sigterm() {
    let address = format!("{}:20200", own_address());
    let mut echo = Command::new(PROGRAM);
    echo.args(["latency", "echo", "--listen", &address])
        .stdout(Stdio::piped());
    let mut echo = echo.spawn().expect("it was built");
    let mut output_of_echo = BufReader::new(echo.stdout.take().expect("it is piped"));
    let mut said = String::new();
    output_of_echo.read_line(&mut said).expect("text");
    assert_eq!(said, "ready\n");
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("latency.json");
    let mut send = Command::new(PROGRAM);
    send.args([
        "latency",
        "send",
        "--to",
        &address,
        "--rate",
        "2000",
        "--seconds",
        "0.5",
    ]);
    let done = output(send.arg("--json").arg(&path));
    kill_process(Pid::from_child(&echo), Signal::TERM).expect("it runs");
    said.clear();
    output_of_echo.read_line(&mut said).expect("text");
    assert!(done.status.success(), "{}", text(&done.stderr));
    assert!(echo.wait().expect("it ends").success());
    let json = std::fs::read_to_string(path).expect("written");
    let json: Value = serde_json::from_str(&json).expect("JSON");
    let flow = &json["flows"][0];
    assert_eq!(
        (&flow["sent"], &flow["to"]),
        (&1000.into(), &address.into())
    );
    let answered = flow["received"].as_u64().expect("a count");
    assert_eq!(said, format!("{{\"echoed\":{answered}}}\n"));
    let times = flow["histogram"]["counts"].as_array().expect("counts");
    let count: u64 = times.iter().filter_map(|pair| pair[1].as_u64()).sum();
    assert_eq!(
        (answered, flow["lost"].as_u64()),
        (count, Some(1000 - count))
    );
}

#[test]
fn help_is_there_for_each_and_nonsense_is_refused() {
    let all = [
        "allreduce rank",
        "allreduce merge",
        "allreduce run",
        "latency echo",
        "latency send",
        "impair",
    ];
    for words in all {
        let mut command = Command::new(PROGRAM);
        let done = output(command.args(words.split(' ')).arg("--help"));
        assert!(done.status.success(), "{words}");
        let mut command = Command::new(PROGRAM);
        let done = output(command.args(words.split(' ')).arg("--nonsense"));
        assert_eq!(done.status.code(), Some(2), "{words}");
    }
    let mut command = Command::new(PROGRAM);
    let words = [
        "allreduce",
        "run",
        "--collective",
        "all-gather",
        "--algorithm",
        "tree",
    ];
    let done = output(command.args(words));
    assert!(!done.status.success());
    assert_eq!(
        text(&done.stderr),
        "omni-perf: there is no all-gather by the algorithm tree\n"
    );
}
