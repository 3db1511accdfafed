//! The node's state as `omni show` prints it.

use omni_control::PeerState;
use omni_wire::{DropCounters, Instant};

use super::Node;
use crate::clock;
use crate::io::Census;
use crate::show::{FdbView, NeighborView, NodeView, PeerView, QueueView, Show, UmemView};
use crate::stats::WorkerReport;
use crate::switch::{Kind, Source};

/// Puts together what the control thread knows and what the workers said.
pub(super) fn show(node: &Node, reports: &[WorkerReport], drops: &DropCounters) -> Show {
    let now = clock::instant();
    Show {
        node: NodeView {
            name: node.config.node.name.clone(),
            fabric: node.config.fabric.clone(),
            public_key: node.ganglion.public_key().to_string(),
            uptime_seconds: now.since(node.started).as_secs(),
        },
        peers: peers(node, now),
        fdb: fdb(node, now),
        neighbors: neighbors(node),
        queues: reports
            .iter()
            .flat_map(|report| queues(node, report))
            .collect(),
        drops: drops
            .iter()
            .filter(|&(_, count)| count > 0)
            .map(|(reason, count)| (reason.as_str().to_owned(), count))
            .collect(),
        umem: umem(reports),
    }
}

fn peers(node: &Node, now: Instant) -> Vec<PeerView> {
    node.ganglion
        .peers()
        .map(|peer| PeerView {
            name: node.peer_names.get(&peer.id).cloned().unwrap_or_default(),
            public_key: peer.public_key.to_string(),
            endpoint: peer.endpoint.map(|endpoint| endpoint.to_string()),
            state: match peer.state {
                PeerState::Idle => "idle",
                PeerState::Handshaking => "handshaking",
                PeerState::Established => "established",
            }
            .to_owned(),
            last_handshake_seconds: peer.last_handshake.map(|at| now.since(at).as_secs()),
            rx_frames: peer.traffic.rx_frames,
            rx_bytes: peer.traffic.rx_bytes,
            tx_frames: peer.traffic.tx_frames,
            tx_bytes: peer.traffic.tx_bytes,
        })
        .collect()
}

fn fdb(node: &Node, now: Instant) -> Vec<FdbView> {
    node.switch
        .iter()
        .map(|(key, entry)| FdbView {
            vlan: key.vlan,
            mac: key.mac.to_string(),
            owner: node.name_of(entry.owner),
            kind: match entry.kind {
                Kind::Learned => "learned",
                Kind::Static => "static",
            }
            .to_owned(),
            age_seconds: now.since(entry.seen).as_secs(),
        })
        .collect()
}

fn neighbors(node: &Node) -> Vec<NeighborView> {
    node.switch
        .neighbors()
        .map(|neighbor| NeighborView {
            vlan: neighbor.bound.vlan,
            ip: neighbor.bound.ip.to_string(),
            mac: neighbor.bound.mac.to_string(),
            owner: node.name_of(neighbor.bound.owner),
            source: match neighbor.source {
                Source::Snooped => "snooped",
                Source::Announced => "peer",
                Source::Static => "static",
            }
            .to_owned(),
        })
        .collect()
}

fn queues(node: &Node, report: &WorkerReport) -> Vec<QueueView> {
    report
        .queues
        .iter()
        .map(|queue| QueueView {
            worker: report.worker,
            core: report.core,
            port: node.ports.name_of(queue.counters.port).to_owned(),
            queue: queue.counters.queue,
            mode: node.ports.mode_of(queue.counters.port).to_owned(),
            copy: if queue.counters.zero_copy {
                "zero_copy"
            } else {
                "copy"
            }
            .to_owned(),
            rx_frames: queue.counters.rx_frames,
            tx_frames: queue.counters.tx_frames,
            latency_ns: queue.latency.percentiles(),
        })
        .collect()
}

fn umem(reports: &[WorkerReport]) -> UmemView {
    let census = reports
        .iter()
        .fold(Census::default(), |sum, report| sum.plus(report.census));
    UmemView {
        frames_total: census.total,
        frames_free: census.free,
        frames_receiving: census.receiving,
        frames_sending: census.sending,
        frames_held: census.held,
    }
}
