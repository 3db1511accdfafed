//! What Prometheus is told is what `omni show` says, and asking costs nobody anything.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::{Duration, Instant};

use crate::support::lab::{Lab, Plan, Side};
use crate::support::node::NodeSpec;
use crate::support::tools::ping_all;
use crate::support::{seconds, wait_until};

/// The operator's page.
const PAGE: &str = include_str!("../../../docs/metrics.md");
/// Connections at once, and how long one may take, as that page says.
const CONNECTIONS: usize = 16;
const PATIENCE: Duration = seconds(5);
/// For longer than answers are kept.
const FRESH: Duration = Duration::from_millis(600);
/// How long nothing has to happen.
const WHILE: Duration = Duration::from_millis(500);
const REQUEST: &[u8] = b"GET /metrics HTTP/1.1\r\n\r\n";

/// The node's configuration with metrics at this place.
pub(crate) fn with_metrics(spec: &NodeSpec, place: &str) -> String {
    let socket = format!("control: {{ socket: {}.sock", spec.name);
    let yaml = spec.yaml();
    assert!(yaml.contains(&socket), "{yaml}");
    yaml.replace(&socket, &format!("{socket}, metrics: {place}"))
}

/// Asks at a UNIX socket.
pub(crate) fn scrape(path: &Path, accept: &str) -> String {
    let mut stream = UnixStream::connect(path).expect("metrics are served");
    ask(&mut stream, accept)
}

fn ask(stream: &mut (impl Read + Write), accept: &str) -> String {
    let request = format!("GET /metrics HTTP/1.1\r\nHost: a\r\nAccept: {accept}\r\n\r\n");
    stream.write_all(request.as_bytes()).expect("it is read");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("an answer");
    let (head, body) = answer.split_once("\r\n\r\n").expect("a head");
    assert!(head.starts_with("HTTP/1.1 200 OK\r\n"), "{head}");
    body.to_owned()
}

/// The values of all series, by name and labels as they are written.
fn series(text: &str) -> BTreeMap<&str, f64> {
    let lines = text.lines().filter(|line| !line.starts_with('#'));
    let series = lines.map(|line| {
        let (name, value) = line.rsplit_once(' ').expect("a value");
        (name, value.parse().expect("a number"))
    });
    series.collect()
}

/// The sum of all series of a family with all of these labels.
fn sum(text: &str, name: &str, labels: &[&str]) -> f64 {
    let found = series(text).into_iter().filter(|(series, _)| {
        let of_family = series
            .strip_prefix(name)
            .is_some_and(|rest| rest.is_empty() || rest.starts_with('{'));
        of_family && labels.iter().all(|label| series.contains(label))
    });
    found.map(|(_, value)| value).sum()
}

#[test]
fn metrics_are_documented_and_say_what_show_says() {
    let lab = Lab::new(Plan::default());
    let spec = lab.spec(Side::A);
    let a = spec.start_with(&with_metrics(&spec, "./a.metrics"));
    let b = lab.spec(Side::B).start();
    ping_all(&lab.a, Side::B.inner_v4().into(), "");
    a.established();
    let socket = lab.folder().join("a.metrics");
    let mut idle = UnixStream::connect(&socket).expect("metrics are served");
    idle.set_read_timeout(Some(2 * PATIENCE)).expect("set");
    let since = Instant::now();
    // Workers show what they counted every second or two.
    let mut text = String::new();
    wait_until("workers have shown the ping", seconds(5), || {
        text = scrape(&socket, "application/openmetrics-text; version=1.0.0");
        sum(&text, "omni_stage_work_seconds_count", &[]) >= 1.0
    });
    assert!(text.ends_with("# EOF\n"), "{text}");

    let told: BTreeSet<&str> = text
        .lines()
        .filter_map(|line| line.strip_prefix("# TYPE ")?.split(' ').next())
        .collect();
    let rows = PAGE.lines().filter_map(|line| line.strip_prefix("| `"));
    let documented: BTreeSet<&str> = rows
        .filter_map(|row| row.split_once('`').map(|(name, _)| name))
        // This node has no Nucleus, and is none.
        .filter(|name| !name.starts_with("omni_rendezvous_") && !name.starts_with("omni_nucleus_"))
        .map(|name| name.strip_suffix("_total").unwrap_or(name))
        .map(|name| name.strip_suffix("_info").unwrap_or(name))
        .collect();
    // Known once the way was probed.
    let late = BTreeSet::from(["omni_peer_frame_limit_bytes"]);
    let missing: BTreeSet<_> = documented.difference(&told).copied().collect();
    assert!(missing.is_subset(&late), "{missing:?} are not told");
    let secret: Vec<_> = told.difference(&documented).collect();
    assert!(secret.is_empty(), "{secret:?} are not documented");

    // What goes to and fro meanwhile is in one of the two.
    let before = a.show();
    std::thread::sleep(FRESH);
    let text = scrape(&socket, "text/plain");
    let after = a.show();
    let peer = |show: &omni_engine::show::Show| (show.peers[0].tx_frames, show.peers[0].rx_frames);
    let (least, most) = (peer(&before), peer(&after));
    for (direction, least, most) in [("tx", least.0, most.0), ("rx", least.1, most.1)] {
        let label = format!("direction=\"{direction}\"");
        let told = sum(&text, "omni_peer_frames_total", &["peer=\"b\"", &label]);
        assert!(
            (least as f64..=most as f64).contains(&told),
            "{direction}: {told}"
        );
        assert!(told >= 1.0, "a ping was answered");
    }
    assert_eq!(sum(&text, "omni_peer_up", &["peer=\"b\""]), 1.0);
    assert_eq!(sum(&text, "omni_peers", &[]), 1.0);
    assert_eq!(
        sum(&text, "omni_umem_frames", &[]),
        sum(&text, "omni_umem_size_frames", &[])
    );
    assert_eq!(sum(&text, "omni_fdb_entries", &[]), after.fdb.len() as f64);
    assert!(sum(&text, "omni_handshakes_total", &[]) >= 1.0);
    let octets = sum(&text, "omni_port_bytes_total", &["port=\"omni0\"", "rx"]);
    let frames = sum(&text, "omni_port_frames_total", &["port=\"omni0\"", "rx"]);
    assert!(
        octets >= frames * 42.0 && octets <= frames * 1600.0,
        "{octets} in {frames}"
    );

    assert_eq!(idle.read(&mut [0]).expect("it is ended"), 0);
    let took = since.elapsed();
    assert!(
        took > PATIENCE - seconds(1) && took < PATIENCE + seconds(2),
        "{took:?}"
    );
    assert!(a.terminate().success() && b.terminate().success());
    assert!(!socket.exists(), "the socket is still there");
}

#[test]
fn who_is_slow_or_asks_for_nothing_keeps_nobody_from_anything() {
    let lab = Lab::new(Plan::default());
    let spec = lab.spec(Side::A);
    let a = spec.start_with(&with_metrics(&spec, "9410"));
    let at = SocketAddr::from(([127, 0, 0, 1], 9410));
    lab.a.ip("link set lo up");
    lab.a.enter(|| {
        // As many as are let in, none of which asks for anything.
        let idle: Vec<TcpStream> = (0..CONNECTIONS)
            .map(|_| TcpStream::connect(at).expect("it listens"))
            .collect();
        // They are let in one after the other.
        std::thread::sleep(WHILE);
        let mut one_more = TcpStream::connect(at).expect("the kernel lets it wait");
        one_more.set_read_timeout(Some(WHILE)).expect("set");
        one_more.write_all(REQUEST).expect("it is sent");
        assert!(one_more.read(&mut [0]).is_err(), "there are 17 at once");
        assert_eq!(a.show().node.name, "a", "the control socket has its own");
        drop(idle);
        one_more.set_read_timeout(Some(PATIENCE)).expect("set");
        let mut answer = String::new();
        one_more.read_to_string(&mut answer).expect("an answer");
        assert!(answer.contains("\nomni_uptime_seconds "), "{answer}");
    });
    assert!(a.terminate().success());
}
