//! A node with 200 peers, and what is told of it.

use std::collections::BTreeSet;

use omni_control::service::metrics::{Form, Kind};

use super::*;
use crate::io::Port;
use crate::stats::{QueueReport, Turns};
use crate::switch::SwitchLimits;
use omni_control::message::PortId;

/// The operator's page.
const PAGE: &str = include_str!("../../../docs/metrics.md");

fn peer(number: usize, name: &str) -> (PeerView, usize) {
    let peer = PeerView {
        name: name.to_owned(),
        public_key: format!("{number:0>43}="),
        endpoint: None,
        state: "established".to_owned(),
        last_handshake_seconds: Some(3),
        frame_limit: Some(1400),
        throttled: false,
        rx_frames: 1,
        rx_bytes: 2,
        tx_frames: 3,
        tx_bytes: 4,
    };
    (peer, 5)
}

fn queue(port: Port) -> QueueReport {
    let counters = QueueCounters {
        port,
        queue: 0,
        zero_copy: false,
        stamped: true,
        rx_frames: 10,
        rx_bytes: 1000,
        tx_frames: 20,
        tx_bytes: 2000,
        tx_waiting: 1,
    };
    QueueReport {
        counters,
        wait: Latency::default(),
        through: Latency::default(),
    }
}

fn snapshot(peers: Vec<(PeerView, usize)>) -> Snapshot {
    let name = |port: &str| QueueName {
        port: port.to_owned(),
        mode: "native",
        stalls: 0,
    };
    let report = WorkerReport {
        worker: 0,
        core: Some(0),
        queues: [Port::Underlay, Port::Access(PortId(0))].map(queue).into(),
        work: Latency::default(),
        send: Latency::default(),
        turns: Turns::default(),
        drops: DropCounters::new(),
        counted: Default::default(),
        census: Census::default(),
        staged: 0,
    };
    let limits = SwitchLimits::default();
    Snapshot {
        node: NodeView {
            name: "alpha".to_owned(),
            fabric: "lab".to_owned(),
            public_key: "KEY".to_owned(),
            uptime_seconds: 7,
        },
        peers,
        nuclei: vec![NucleusView {
            endpoint: "192.0.2.1:51821".to_owned(),
            state: "connected".to_owned(),
            registered: true,
            complete: true,
            revision: 8,
            heard_seconds: Some(1),
            seen_at: None,
            refusal: None,
            not_believed: 0,
        }],
        switch: SwitchView::default(),
        tables: TableSizes {
            now: limits,
            most: limits,
            static_macs: 1,
            static_addresses: 2,
            groups: 0,
        },
        frozen: 0,
        handshakes: Handshakes::default(),
        drops: DropCounters::new(),
        recovery: RecoveryView::default(),
        log_left_out: 0,
        workers: vec![(Arc::new(report), vec![name("eth0"), name("omni0")])],
    }
}

#[test]
fn what_is_described_is_told_and_nothing_else_and_once() {
    let told = families(&snapshot(vec![peer(1, "beta")]));
    let names: Vec<_> = told.iter().map(|family| family.desc.name).collect();
    let described: Vec<_> = ALL.iter().map(|desc| desc.name).collect();
    assert_eq!(names, described);
    let distinct: BTreeSet<_> = names.iter().collect();
    assert_eq!(distinct.len(), names.len());
    for family in &told {
        assert!(!family.samples.is_empty(), "{}", family.desc.name);
    }
}

#[test]
fn names_are_as_their_kind_asks_for() {
    for Desc { name, kind, .. } in ALL {
        assert!(name.starts_with("omni_"), "{name}");
        assert_eq!(name.ends_with("_total"), *kind == Kind::Counter, "{name}");
        assert_eq!(name.ends_with("_info"), *kind == Kind::Info, "{name}");
        let is_time = name.ends_with("_seconds");
        assert!(is_time || *kind != Kind::Histogram, "{name}");
    }
}

/// `docs/metrics.md` has these figures.
#[test]
fn two_hundred_peers_are_so_many_series() {
    let series = |count: usize| {
        let peers = (0..count).map(|n| peer(n, &format!("peer-{n}"))).collect();
        let text = Form::OpenMetrics.write(&families(&snapshot(peers)));
        let lines = text.lines().filter(|line| !line.starts_with('#'));
        let distinct: BTreeSet<_> = lines.filter_map(|line| line.rsplit_once(' ')).collect();
        (distinct.len(), text.len())
    };
    let (with, octets) = series(200);
    let (without, _) = series(0);
    assert_eq!(with - without, 200 * 10);
    let words = format!("10 series a peer and {without} besides");
    assert!(PAGE.contains(&words), "the page should have: {words}");
    assert!(octets < 200_000, "{octets}");
}

#[test]
fn peers_of_one_name_are_told_apart() {
    let peers = vec![
        peer(1, "twin"),
        peer(2, "twin"),
        peer(3, ""),
        peer(4, "only"),
    ];
    let told = families(&snapshot(peers));
    let up = told
        .iter()
        .find(|family| family.desc.name == "omni_peer_up");
    let labels: BTreeSet<_> = up
        .expect("it is told")
        .samples
        .iter()
        .map(|s| &s.labels[0])
        .collect();
    assert_eq!(labels.len(), 4, "{labels:?}");
    assert!(labels.contains(&"only".to_owned()));
}

#[test]
fn every_metric_has_a_row_on_the_operators_page_and_every_row_is_one() {
    let rows: Vec<&str> = PAGE
        .lines()
        .filter(|line| line.starts_with("| `omni_") && !line.starts_with("| `omni_nucleus_"))
        .collect();
    let want: Vec<String> = ALL.iter().map(|desc| row(desc)).collect();
    assert_eq!(
        rows,
        want,
        "docs/metrics.md should have:\n{}",
        want.join("\n")
    );
}

/// A metric's row of the page.
fn row(desc: &Desc) -> String {
    let Desc {
        name,
        kind,
        labels,
        help,
    } = desc;
    let labels = labels.join(", ");
    format!("| `{name}` | {} | {labels} | {help} |", kind.as_str())
}
