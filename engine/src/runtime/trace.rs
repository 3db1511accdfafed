//! `omni trace`: from the state that workers' tables follow, what becomes of a frame.
//!
//! Workers have copies of these tables, and learn by themselves: what one has just heard may be
//! here a moment later.

mod scene;
mod steps;

use std::collections::BTreeMap;
use std::net::IpAddr;

use omni_config::{SourcePorts, UnknownUnicast};
use omni_control::message::{PeerId, PortId, VlanBits};
use omni_control::{PeerState, PeerStatus};
use omni_wire::{Instant, MacAddr};

use super::{Node, ports, switching};
use crate::clock;
use crate::io::Port;
use crate::stats::WorkerReport;
use crate::trace::{Trace, TraceRequest};
use scene::{PeerScene, PortScene, QueueScene, Scene, Settings, Target};

/// What becomes of a frame to what was asked for.
///
/// # Errors
/// What is wrong with the question, in words for the operator.
pub(super) fn trace(
    node: &Node,
    reports: &[WorkerReport],
    request: &TraceRequest,
) -> Result<Trace, String> {
    let now = clock::instant();
    let settings = &node.config.switch;
    let scene = Scene {
        now,
        switch: &node.plane.switch,
        settings: Settings {
            ageing: settings.ageing,
            suppression: settings.suppression,
            drop_unknown: settings.unknown_unicast == UnknownUnicast::Drop,
            engine_mac: ports::engine_mac(&node.plane.ganglion.public_key()),
            max_frame: u16::try_from(node.ports.max_frame()).unwrap_or(u16::MAX),
        },
        ports: node
            .ports
            .access_ids()
            .zip(&node.config.access)
            .map(|(id, access)| PortScene {
                id,
                name: node.ports.access_name(id).to_owned(),
                vlans: switching::port_vlans(access),
                storm: access.bum_pps,
                queues: queues(reports, id),
            })
            .collect(),
        peers: peers(node, reports, now),
    };
    let from = match &request.from {
        Some(name) => Some(scene.port_named(name)?),
        None => scene.only_port(),
    };
    if let Some(vlan) = request.vlan.filter(|&vlan| vlan > 4094) {
        return Err(format!("no VLAN has the id {vlan}: 0 to 4094"));
    }
    Ok(scene.trace(
        &request.target,
        &target(node, &request.target)?,
        request.vlan,
        from,
    ))
}

/// What is meant: an address, or else a peer.
fn target(node: &Node, text: &str) -> Result<Target, String> {
    if let Ok(mac) = text.parse::<MacAddr>() {
        return Ok(Target::Mac(mac));
    }
    if let Ok(ip) = text.parse::<IpAddr>() {
        return Ok(Target::Ip(ip));
    }
    let peer = node.find_peer(text);
    let peer = peer.map_err(|why| format!("{text} is no MAC and no IP address, and {why}"))?;
    Ok(Target::Peer(peer.id))
}

fn queues(reports: &[WorkerReport], id: PortId) -> Vec<QueueScene> {
    let all = reports.iter().flat_map(|report| {
        let its = report
            .queues
            .iter()
            .filter(|queue| queue.counters.port == Port::Access(id));
        its.map(|queue| QueueScene {
            queue: queue.counters.queue,
            worker: report.worker,
            core: report.core,
        })
    });
    all.collect()
}

fn peers(node: &Node, reports: &[WorkerReport], now: Instant) -> BTreeMap<PeerId, PeerScene> {
    let peers = node.plane.ganglion.peers();
    peers
        .map(|peer| (peer.id, peer_scene(node, reports, now, &peer)))
        .collect()
}

fn peer_scene(node: &Node, reports: &[WorkerReport], now: Instant, peer: &PeerStatus) -> PeerScene {
    let way = node.paths.look(peer.id);
    let spreads = node.config.underlay.source_ports == SourcePorts::PerLane;
    let path = way.as_ref().and_then(|way| way.path);
    let lanes = reports.iter().filter_map(|report| {
        let path = path?;
        let lane = u16::try_from(report.worker).ok()?;
        let port = if spreads {
            path.spread_source_port(lane)
        } else {
            path.source_port
        };
        Some((lane, port))
    });
    let established = peer.state == PeerState::Established;
    PeerScene {
        name: node.peer_name(peer.id).to_owned(),
        public_key: peer.public_key,
        state: peer.state,
        session: peer
            .last_handshake
            .filter(|_| established)
            .map(|at| now.since(at)),
        unanswered: peer.unanswered_since.map(|at| now.since(at)),
        endpoint: peer.endpoint,
        way,
        lanes: lanes.collect(),
        vlans: node.allowed_vlans(peer),
        accepts: peer.accepts,
        probed: peer.frame_limit,
        limit: node.frame_limit(peer),
        throttled: node.filter.is_throttled(peer.id),
    }
}

impl Node {
    /// The VLANs that a peer may use: by the configuration, or else by its certificate.
    pub(super) fn allowed_vlans(&self, peer: &PeerStatus) -> VlanBits {
        let mut configured = self.config.peers.iter();
        let its = configured.find(|other| other.public_key == peer.public_key.0);
        let grants = self.plane.switch.grants(peer.id);
        match (its, grants.and_then(|grants| grants.vlans.as_ref())) {
            (Some(its), _) => switching::bits(&its.vlans),
            (None, Some(granted)) => super::rendezvous::bits(granted),
            (None, None) => VlanBits::ALL,
        }
    }
}
