//! What is shown of one row: all that is known of it. Pure.

use omni_engine::show::{PeerView, PortView, QueueView, Show};

use super::grid::{queue_name, stages_of, state_of};
use super::model::{Model, Page};
use crate::render::{self, meaning};
use crate::table::Tone;
use crate::units::{ago, count, latency, octets, rate};

/// Addresses of a peer that are listed.
const ADDRESSES_MAX: usize = 6;

/// A line: what, and its value.
pub(super) type Fact = (&'static str, String, Tone);

/// Everything about the row that is looked into; `None` when there is no such row any more.
pub(super) fn facts(model: &Model) -> Option<Vec<Fact>> {
    let name = model.opened.as_deref()?;
    let show = &model.shown.as_ref()?.show;
    match model.page {
        Page::Overview => None,
        Page::Peers => {
            let mut peers = show.peers.iter();
            let peer = peers.find(|peer| peer.public_key == name)?;
            Some(of_peer(peer, show))
        }
        Page::Queues => {
            let mut queues = show.queues.iter();
            let queue = queues.find(|it| queue_name(&it.port, it.queue) == name)?;
            Some(of_queue(queue, model))
        }
        Page::Ports => {
            let port = show.ports.iter().find(|port| port.name == name)?;
            Some(of_port(port))
        }
        Page::Drops => {
            let &times = show.drops.get(name)?;
            let rates = model.rates.as_ref();
            let now = rates.and_then(|rates| rates.drops.get(name));
            let now = now.map_or_else(|| "-".to_owned(), |&now| rate(now));
            Some(vec![
                ("reason", name.to_owned(), Tone::Strong),
                ("meaning", meaning(name).to_owned(), Tone::Plain),
                ("since the start", count(times), Tone::Plain),
                ("per second", now, Tone::Plain),
                (
                    "what to do",
                    "the row of it in docs/drops.md".to_owned(),
                    Tone::Dim,
                ),
            ])
        }
    }
}

fn of_peer(peer: &PeerView, show: &Show) -> Vec<Fact> {
    let (state, tone) = state_of(peer);
    let or_none = |value: Option<String>| value.unwrap_or_else(|| "none".to_owned());
    let fdb = show.fdb.iter().filter(|it| it.owner == peer.public_key);
    let macs: Vec<_> = fdb.map(|entry| entry.mac.as_str()).collect();
    let bound = show.neighbors.iter();
    let bound = bound.filter(|it| it.owner == peer.public_key);
    let addresses: Vec<_> = bound.map(|binding| binding.ip.as_str()).collect();
    let vlans = show.vlans.iter();
    let vlans = vlans.filter(|vlan| vlan.peers.contains(&peer.public_key));
    let vlans: Vec<_> = vlans.map(|vlan| vlan.vlan.to_string()).collect();
    let vlans: Vec<_> = vlans.iter().map(String::as_str).collect();
    vec![
        ("peer", peer.name.clone(), Tone::Strong),
        ("key", peer.public_key.clone(), Tone::Plain),
        ("endpoint", or_none(peer.endpoint.clone()), Tone::Plain),
        ("state", state.to_owned(), tone),
        (
            "last handshake",
            or_none(peer.last_handshake_seconds.map(ago)),
            Tone::Plain,
        ),
        (
            "longest frame",
            peer.frame_limit
                .map_or_else(|| "not known".to_owned(), |limit| format!("{limit} B")),
            Tone::Plain,
        ),
        (
            "received",
            total(peer.rx_bytes, peer.rx_frames),
            Tone::Plain,
        ),
        ("sent", total(peer.tx_bytes, peer.tx_frames), Tone::Plain),
        ("MAC addresses", listed(&macs), Tone::Plain),
        ("IP addresses", listed(&addresses), Tone::Plain),
        ("VLANs", listed(&vlans), Tone::Plain),
    ]
}

fn of_queue(queue: &QueueView, model: &Model) -> Vec<Fact> {
    let core = queue
        .core
        .map_or_else(String::new, |core| format!(", core {core}"));
    let stalls = if queue.stalls > 0 {
        Tone::Alarm
    } else {
        Tone::Plain
    };
    let mut facts = vec![
        ("queue", queue_name(&queue.port, queue.queue), Tone::Strong),
        ("worker", format!("{}{core}", queue.worker), Tone::Plain),
        (
            "mode",
            format!("{}, {}", queue.mode, queue.copy.replace('_', "-")),
            Tone::Plain,
        ),
        (
            "received",
            format!("{} frames", count(queue.rx_frames)),
            Tone::Plain,
        ),
        (
            "sent",
            format!("{} frames", count(queue.tx_frames)),
            Tone::Plain,
        ),
        ("stood still", format!("{} times", queue.stalls), stalls),
    ];
    let Some(stages) = &model.stages else {
        return facts;
    };
    if let Some(of_queue) = stages_of(queue, stages) {
        facts.push(("wait", times(&of_queue.wait.percentiles()), Tone::Plain));
        facts.push((
            "through",
            times(&of_queue.through.percentiles()),
            Tone::Plain,
        ));
    }
    let mut workers = stages.workers.iter();
    if let Some(worker) = workers.find(|worker| worker.worker == queue.worker) {
        facts.push((
            "worker's work",
            times(&worker.work.percentiles()),
            Tone::Plain,
        ));
        facts.push((
            "worker's send",
            times(&worker.send.percentiles()),
            Tone::Plain,
        ));
    }
    facts
}

fn of_port(port: &PortView) -> Vec<Fact> {
    let none = || "none".to_owned();
    let mode = port.vlan_mode.as_deref().unwrap_or_default();
    let vlans = port.vlans.as_ref();
    vec![
        ("port", port.name.clone(), Tone::Strong),
        ("side", port.side.clone(), Tone::Plain),
        ("state", port.state.clone(), render::port_tone(&port.state)),
        ("driver", render::driver(port), Tone::Plain),
        ("mode", port.mode.clone(), Tone::Plain),
        (
            "made",
            if port.made {
                "by the engine"
            } else {
                "by others"
            }
            .to_owned(),
            Tone::Plain,
        ),
        ("MTU", port.mtu.to_string(), Tone::Plain),
        (
            "VLANs",
            vlans.map_or_else(none, |vlans| format!("{vlans} ({mode})")),
            Tone::Plain,
        ),
        (
            "received",
            total(port.rx_bytes, port.rx_frames),
            Tone::Plain,
        ),
        ("sent", total(port.tx_bytes, port.tx_frames), Tone::Plain),
        (
            "dropped",
            format!(
                "{} received, {} to send",
                count(port.rx_dropped),
                count(port.tx_dropped)
            ),
            Tone::Plain,
        ),
    ]
}

fn total(bytes: u64, frames: u64) -> String {
    format!("{} in {} frames", octets(bytes), count(frames))
}

fn times(seen: &omni_engine::stats::Percentiles) -> String {
    match seen.count {
        0 => "nothing measured".to_owned(),
        _ => format!(
            "p50 {}  p99 {}  p99.9 {}  max {}",
            latency(seen.p50),
            latency(seen.p99),
            latency(seen.p999),
            latency(seen.max)
        ),
    }
}

fn listed(items: &[&str]) -> String {
    let shown = items[..items.len().min(ADDRESSES_MAX)].join(", ");
    match items.len().checked_sub(ADDRESSES_MAX) {
        Some(more @ 1..) => format!("{shown} and {more} more"),
        _ if items.is_empty() => "none".to_owned(),
        _ => shown,
    }
}
