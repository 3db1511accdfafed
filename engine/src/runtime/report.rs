//! The node's state as `omni show` prints it, and its latencies as `omni report` does.

mod tables;

use std::collections::BTreeMap;

use omni_config::{Multicast, UnknownUnicast};
use omni_control::PeerState;
use omni_control::message::{Owner, PeerId};
use omni_wire::{DropCounters, Instant};

use super::{Node, switching};
use crate::clock;
use crate::datapath::Counted;
use crate::io::{Census, Port, QueueCounters};
use crate::show::{NodeView, PeerView, PortView, QueueView, Show, SwitchView, UmemView};
use crate::stages::{Histogram, NodeStages, QueueStages, Side, WorkerStages};
use crate::stats::WorkerReport;
use tables::{PeerAround, PortAround, Tables};

/// Puts together what the control thread knows and what the workers said.
pub(super) fn show(
    node: &Node,
    ports: Vec<PortView>,
    reports: &[WorkerReport],
    drops: &DropCounters,
) -> Show {
    let now = clock::instant();
    let names = Names::of(node);
    let tables = Tables {
        now,
        switch: &node.plane.switch,
        names: &names,
    };
    Show {
        node: NodeView {
            name: node.config.node.name.clone(),
            fabric: node.config.fabric.clone(),
            public_key: node.plane.ganglion.public_key().to_string(),
            uptime_seconds: now.since(node.started).as_secs(),
        },
        peers: peers(node, now),
        nuclei: node
            .rendezvous
            .as_ref()
            .map(|rendezvous| rendezvous.view(now))
            .unwrap_or_default(),
        fdb: tables.fdb(),
        neighbors: tables.neighbors(),
        vlans: tables.vlans(&ports_around(node), &peers_around(node)),
        groups: tables.groups(),
        alarms: tables.alarms(),
        switch: switch(node, reports, &tables),
        ports,
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
        recovery: node.recovery.counted,
    }
}

/// How long the workers' frames took.
pub(super) fn stages(node: &Node, reports: &[WorkerReport]) -> NodeStages {
    NodeStages {
        node: node.config.node.name.clone(),
        public_key: node.plane.ganglion.public_key().to_string(),
        uptime_seconds: clock::instant().since(node.started).as_secs(),
        workers: reports
            .iter()
            .map(|report| worker_stages(node, report))
            .collect(),
    }
}

fn worker_stages(node: &Node, report: &WorkerReport) -> WorkerStages {
    let queues = report.queues.iter().map(|queue| {
        let port = queue.counters.port;
        QueueStages {
            port: node.ports.name_of(port).to_owned(),
            side: match port {
                Port::Underlay => Side::Underlay,
                Port::Access(_) => Side::Access,
            },
            queue: queue.counters.queue,
            mode: node.ports.mode_of(port).to_owned(),
            wait: Histogram::from(&queue.wait),
            through: Histogram::from(&queue.through),
        }
    });
    WorkerStages {
        worker: report.worker,
        core: report.core,
        queues: queues.collect(),
        work: Histogram::from(&report.work),
        send: Histogram::from(&report.send),
    }
}

/// What owners are called: made once, as tables name each of them over and over.
#[derive(Debug, Default)]
struct Names {
    /// By the index of the port.
    ports: Vec<String>,
    /// Public keys.
    peers: BTreeMap<PeerId, String>,
}

impl Names {
    fn of(node: &Node) -> Self {
        let ports = node.ports.access_ids();
        let peers = node.plane.ganglion.peers();
        Self {
            ports: ports
                .map(|port| node.ports.access_name(port).to_owned())
                .collect(),
            peers: peers
                .map(|peer| (peer.id, peer.public_key.to_string()))
                .collect(),
        }
    }

    /// `local:` and the interface, or the public key; of one who has just gone, nothing.
    fn owner(&self, owner: Owner) -> String {
        match owner {
            Owner::Local(port) => {
                let name = self.ports.get(usize::from(port.0));
                format!("local:{}", name.map_or("?", String::as_str))
            }
            Owner::Peer(peer) => self.peers.get(&peer).cloned().unwrap_or_default(),
        }
    }
}

fn peers(node: &Node, now: Instant) -> Vec<PeerView> {
    node.plane
        .ganglion
        .peers()
        .map(|peer| PeerView {
            name: node.peer_names.get(&peer.id).cloned().unwrap_or_default(),
            public_key: peer.public_key.to_string(),
            endpoint: peer.endpoint.map(|endpoint| endpoint.to_string()),
            state: peer.state.as_str().to_owned(),
            last_handshake_seconds: peer.last_handshake.map(|at| now.since(at).as_secs()),
            frame_limit: peer.frame_limit,
            throttled: node.filter.is_throttled(peer.id),
            rx_frames: peer.traffic.rx_frames,
            rx_bytes: peer.traffic.rx_bytes,
            tx_frames: peer.traffic.tx_frames,
            tx_bytes: peer.traffic.tx_bytes,
        })
        .collect()
}

fn ports_around(node: &Node) -> Vec<PortAround> {
    let access = node.config.access.iter();
    let ports = node.ports.access_ids().zip(access);
    ports
        .map(|(port, access)| PortAround {
            interface: node.ports.access_name(port).to_owned(),
            vlans: switching::port_vlans(access),
        })
        .collect()
}

/// The peers with a session, and the VLANs that they may use and have.
fn peers_around(node: &Node) -> Vec<PeerAround> {
    let peers = node.plane.ganglion.peers();
    peers
        .filter(|peer| peer.state == PeerState::Established)
        .map(|peer| {
            let mut vlans = node.allowed_vlans(&peer);
            if let Some(carried) = node.plane.switch.carried(peer.id) {
                for (word, carried) in vlans.0.iter_mut().zip(carried.0) {
                    *word &= carried;
                }
            }
            PeerAround {
                public_key: peer.public_key.to_string(),
                vlans,
            }
        })
        .collect()
}

fn switch(node: &Node, reports: &[WorkerReport], tables: &Tables<'_>) -> SwitchView {
    let mut counted = Counted::default();
    for report in reports {
        counted.merge(&report.counted);
    }
    let settings = &node.config.switch;
    SwitchView {
        suppression: if settings.suppression { "on" } else { "off" }.to_owned(),
        unknown_unicast: match settings.unknown_unicast {
            UnknownUnicast::Flood => "flood",
            UnknownUnicast::Query => "query",
            UnknownUnicast::Drop => "drop",
        }
        .to_owned(),
        multicast: match settings.multicast {
            Multicast::Snoop => "snoop",
            Multicast::Flood => "flood",
        }
        .to_owned(),
        ..tables.switch(counted)
    }
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
            stalls: {
                let QueueCounters { port, queue, .. } = queue.counters;
                node.recovery.stalls_of(port, queue)
            },
            latency_ns: queue.through.percentiles(),
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
