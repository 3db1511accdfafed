//! What Prometheus is told of an engine. Pure: what is known in, metrics out.
//!
//! No label is anything that a stranger chooses: peers, ports and Nuclei are those of the
//! configuration or of certificates, and all else is from lists of the engine's own.

mod descs;

use std::collections::BTreeMap;
use std::sync::Arc;

use omni_control::Handshakes;
use omni_control::service::metrics::{Desc, Family, Spread};
use omni_wire::DropCounters;

use descs as d;
pub use descs::ALL;

use crate::io::{Census, QueueCounters};
use crate::show::{NodeView, NucleusView, PeerView, RecoveryView, SwitchView};
use crate::stats::{Latency, WorkerReport};
use crate::switch::TableSizes;

/// All that there is to tell at one moment.
#[derive(Debug)]
pub struct Snapshot {
    /// Who it is.
    pub node: NodeView,
    /// Its peers, and how many MAC addresses are behind each.
    pub peers: Vec<(PeerView, usize)>,
    /// Each Nucleus.
    pub nuclei: Vec<NucleusView>,
    /// What the switch did.
    pub switch: SwitchView,
    /// How full its tables are.
    pub tables: TableSizes,
    /// Addresses that are frozen.
    pub frozen: usize,
    /// What became of handshakes.
    pub handshakes: Handshakes,
    /// Everything dropped.
    pub drops: DropCounters,
    /// What did not go on.
    pub recovery: RecoveryView,
    /// Lines that the log left out.
    pub log_left_out: u64,
    /// What workers counted, each with its queues as they are called.
    pub workers: Vec<(Arc<WorkerReport>, Vec<QueueName>)>,
}

/// How a queue is told of.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct QueueName {
    /// The interface.
    pub port: String,
    /// As in [`QueueView::mode`](crate::show::QueueView::mode).
    pub mode: &'static str,
    /// Times that it stood still.
    pub stalls: u64,
}

/// Everything, in the order of [`ALL`]; a family without samples where there is nothing to tell.
#[must_use]
pub fn families(snapshot: &Snapshot) -> Vec<Family> {
    let mut out = node(snapshot);
    out.extend(ports(&snapshot.workers));
    out.extend(peers(&snapshot.peers));
    out.extend(handshakes(&snapshot.handshakes));
    out.push(drops(&snapshot.drops));
    out.extend(tables(snapshot));
    out.extend(switch(&snapshot.switch));
    out.extend(workers(&snapshot.workers));
    out.extend(recovery(&snapshot.recovery));
    out.extend(stages(&snapshot.workers));
    out.extend(nuclei(&snapshot.nuclei));
    out
}

/// A family without labels for each of these.
fn plain<const N: usize>(values: [(&'static Desc, u64); N]) -> impl Iterator<Item = Family> {
    let values = values.into_iter();
    values.map(|(desc, value)| Family::one(desc, value))
}

fn node(snapshot: &Snapshot) -> Vec<Family> {
    let NodeView {
        name,
        fabric,
        public_key,
        uptime_seconds,
    } = &snapshot.node;
    let (mut build, mut node) = (Family::new(&d::BUILD), Family::new(&d::NODE));
    build.add([env!("CARGO_PKG_VERSION")], true);
    node.add([name, fabric, public_key], true);
    let mut out = vec![build, node];
    out.extend(plain([
        (&d::UPTIME, *uptime_seconds),
        (&d::LOG_LEFT_OUT, snapshot.log_left_out),
    ]));
    out
}

fn ports(workers: &[(Arc<WorkerReport>, Vec<QueueName>)]) -> [Family; 5] {
    let mut frames = Family::new(&d::PORT_FRAMES);
    let mut octets = Family::new(&d::PORT_BYTES);
    let mut waiting = Family::new(&d::PORT_WAITING);
    let mut stalls = Family::new(&d::PORT_STALLS);
    let mut info = Family::new(&d::PORT_INFO);
    for (report, names) in workers {
        let worker = report.worker.to_string();
        for (
            QueueName {
                port,
                mode,
                stalls: times,
            },
            queue,
        ) in names.iter().zip(&report.queues)
        {
            let QueueCounters {
                queue,
                zero_copy,
                rx_frames,
                rx_bytes,
                tx_frames,
                tx_bytes,
                tx_waiting,
                ..
            } = queue.counters;
            let queue = queue.to_string();
            frames.add([port, &queue, "rx"], rx_frames);
            frames.add([port, &queue, "tx"], tx_frames);
            octets.add([port, &queue, "rx"], rx_bytes);
            octets.add([port, &queue, "tx"], tx_bytes);
            waiting.add([port, &queue], tx_waiting);
            stalls.add([port, &queue], *times);
            let copy = if zero_copy { "zero_copy" } else { "copy" };
            info.add([port, &queue, &worker, mode, copy], true);
        }
    }
    [frames, octets, waiting, stalls, info]
}

fn peers(peers: &[(PeerView, usize)]) -> Vec<Family> {
    let mut info = Family::new(&d::PEER_INFO);
    let mut up = Family::new(&d::PEER_UP);
    let mut age = Family::new(&d::PEER_AGE);
    let mut frames = Family::new(&d::PEER_FRAMES);
    let mut octets = Family::new(&d::PEER_BYTES);
    let mut limit = Family::new(&d::PEER_LIMIT);
    let mut throttled = Family::new(&d::PEER_THROTTLED);
    let mut macs = Family::new(&d::PEER_MACS);
    let mut states = BTreeMap::from(["established", "handshaking", "idle"].map(|it| (it, 0u64)));
    let mut names: BTreeMap<&str, usize> = BTreeMap::new();
    for (peer, _) in peers {
        *names.entry(&peer.name).or_default() += 1;
    }
    for (peer, behind) in peers {
        // Members of one name would be one series.
        let label = match names.get(&*peer.name) {
            Some(1) if !peer.name.is_empty() => peer.name.clone(),
            _ => format!("{}/{}", peer.name, peer.public_key),
        };
        info.add([&label, &peer.public_key], true);
        up.add([&label], peer.state == "established");
        if let Some(seconds) = peer.last_handshake_seconds {
            age.add([&label], seconds);
        }
        frames.add([&label, "rx"], peer.rx_frames);
        frames.add([&label, "tx"], peer.tx_frames);
        octets.add([&label, "rx"], peer.rx_bytes);
        octets.add([&label, "tx"], peer.tx_bytes);
        if let Some(most) = peer.frame_limit {
            limit.add([&label], u64::from(most));
        }
        throttled.add([&label], peer.throttled);
        macs.add([&label], *behind);
        if let Some(count) = states.get_mut(&*peer.state) {
            *count += 1;
        }
    }
    let mut by_state = Family::new(&d::PEERS);
    for (state, count) in states {
        by_state.add([state], count);
    }
    vec![
        info, up, age, frames, octets, limit, throttled, macs, by_state,
    ]
}

fn handshakes(counted: &Handshakes) -> [Family; 4] {
    let mut sessions = Family::new(&d::SESSIONS);
    sessions.add(["initiator"], counted.initiated);
    sessions.add(["responder"], counted.answered);
    [
        Family::one(&d::INITIATIONS, counted.initiations),
        sessions,
        Family::one(&d::REKEYS, counted.rekeys),
        Family::one(&d::ABANDONED, counted.abandoned),
    ]
}

/// Reasons that did not occur as well: what is not there has no rate.
fn drops(drops: &DropCounters) -> Family {
    let mut family = Family::new(&d::DROPS);
    for (reason, count) in drops.iter() {
        family.add([reason.as_str()], count);
    }
    family
}

fn tables(snapshot: &Snapshot) -> Vec<Family> {
    let TableSizes {
        now,
        most,
        static_macs,
        static_addresses,
        groups,
    } = snapshot.tables;
    let sides = |desc, local: usize, peers: usize| {
        let mut family = Family::new(desc);
        family.add(["local"], local);
        family.add(["peers"], peers);
        family
    };
    let mut macs = sides(&d::FDB, now.local_macs, now.peer_macs);
    macs.add(["static"], static_macs);
    let mut addresses = sides(&d::NEIGHBORS, now.local_addresses, now.peer_addresses);
    addresses.add(["static"], static_addresses);
    vec![
        macs,
        sides(&d::FDB_LIMIT, most.local_macs, most.peer_macs),
        addresses,
        sides(
            &d::NEIGHBORS_LIMIT,
            most.local_addresses,
            most.peer_addresses,
        ),
        Family::one(&d::GROUPS, groups),
        Family::one(&d::FROZEN, snapshot.frozen),
    ]
}

fn switch(counted: &SwitchView) -> Vec<Family> {
    let protocols = |desc, arp: u64, nd: u64| {
        let mut family = Family::new(desc);
        family.add(["arp"], arp);
        family.add(["nd"], nd);
        family
    };
    let mut out: Vec<Family> = plain([
        (&d::FROZEN_TOTAL, counted.frozen),
        (&d::MOVES, counted.moves),
        (&d::CLAIMS_SENT, counted.claims_sent),
        (&d::CLAIMS_REFUSED, counted.claims_refused),
        (&d::EVICTED, counted.evicted),
        (&d::BINDINGS_REFUSED, counted.bindings_refused),
        (&d::GROUPS_REFUSED, counted.groups_refused),
        (&d::RECORDS_LIMITED, counted.records_limited),
        (&d::RECORDS_MALFORMED, counted.records_malformed),
        (&d::SENDS_LEFT_OUT, counted.sends_left_out),
    ])
    .collect();
    out.extend([
        protocols(&d::ANSWERED, counted.arp_answered, counted.nd_answered),
        protocols(&d::UNKNOWN, counted.arp_unknown, counted.nd_unknown),
        Family::one(&d::STALE, counted.stale_answers),
        Family::one(&d::TOO_BIG, counted.too_big_answered),
    ]);
    out
}

fn workers(workers: &[(Arc<WorkerReport>, Vec<QueueName>)]) -> [Family; 6] {
    let (mut umem, mut size) = (Family::new(&d::UMEM), Family::new(&d::UMEM_SIZE));
    let (mut staged, mut turns) = (Family::new(&d::STAGED), Family::new(&d::TURNS));
    let (mut bursts, mut sleeps) = (Family::new(&d::BURSTS), Family::new(&d::SLEEPS));
    for (report, _) in workers {
        let worker = &*report.worker.to_string();
        let Census {
            total,
            free,
            receiving,
            sending,
            held,
        } = report.census;
        for (place, count) in [
            ("free", free),
            ("receiving", receiving),
            ("sending", sending),
            ("held", held),
        ] {
            umem.add([worker, place], count);
        }
        size.add([worker], total);
        staged.add([worker], report.staged);
        turns.add([worker, "busy"], report.turns.busy);
        turns.add([worker, "idle"], report.turns.idle);
        bursts.add([worker, "underlay"], report.turns.underlay_bursts);
        bursts.add([worker, "access"], report.turns.access_bursts);
        sleeps.add([worker], report.turns.sleeps);
    }
    [umem, size, staged, turns, bursts, sleeps]
}

fn recovery(counted: &RecoveryView) -> impl Iterator<Item = Family> {
    plain([
        (&d::WORKER_STALLS, counted.worker_stalls),
        (&d::QUEUE_STALLS, counted.queue_stalls),
        (&d::REOPENED, counted.reopened),
        (&d::REATTACHED, counted.reattached),
        (&d::UNSOUND, counted.unsound),
    ])
}

fn stages(workers: &[(Arc<WorkerReport>, Vec<QueueName>)]) -> [Family; 4] {
    let spread = |latency: &Latency| Spread::of(latency.buckets());
    let (mut wait, mut through) = (Family::new(&d::WAIT), Family::new(&d::THROUGH));
    let (mut work, mut send) = (Family::new(&d::WORK), Family::new(&d::SEND));
    for (report, names) in workers {
        for (QueueName { port, .. }, queue) in names.iter().zip(&report.queues) {
            let number = queue.counters.queue.to_string();
            if queue.counters.stamped {
                wait.add([port, &number], spread(&queue.wait));
            }
            through.add([port, &number], spread(&queue.through));
        }
        let worker = &*report.worker.to_string();
        work.add([worker], spread(&report.work));
        send.add([worker], spread(&report.send));
    }
    [wait, through, work, send]
}

fn nuclei(nuclei: &[NucleusView]) -> [Family; 6] {
    let mut connected = Family::new(&d::NUCLEUS_UP);
    let mut registered = Family::new(&d::NUCLEUS_REGISTERED);
    let mut complete = Family::new(&d::NUCLEUS_COMPLETE);
    let mut revision = Family::new(&d::NUCLEUS_REVISION);
    let mut age = Family::new(&d::NUCLEUS_AGE);
    let mut doubted = Family::new(&d::NUCLEUS_DOUBTED);
    for nucleus in nuclei {
        let endpoint = &*nucleus.endpoint;
        connected.add([endpoint], nucleus.state == "connected");
        registered.add([endpoint], nucleus.registered);
        complete.add([endpoint], nucleus.complete);
        revision.add([endpoint], nucleus.revision);
        if let Some(seconds) = nucleus.heard_seconds {
            age.add([endpoint], seconds);
        }
        doubted.add([endpoint], nucleus.not_believed);
    }
    [connected, registered, complete, revision, age, doubted]
}

#[cfg(test)]
mod tests;
