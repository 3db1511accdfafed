//! What one worker knows, naively: sessions, peers, addresses; and a count of what passed it.

use std::collections::BTreeMap;
use std::net::IpAddr;

use omni_control::message::{Command, FdbKey, Owner, PeerId, PortId};
use omni_engine::datapath::TableCommand;
use omni_engine::datapath::owned::PORT_ADDRESSES_MAX;
use omni_engine::datapath::policy::PEER_ADDRESSES_MAX;
use omni_engine::io::FrameIo;
use omni_engine::switch::Neighbor;
use omni_wire::limits::STAGED_MIN;
use omni_wire::{DropReason, MacAddr};

use super::is_multicast;
use super::neighbors::{Judged, Neighbors};
use crate::control::Control;
use crate::frame::{self, Arp};
use crate::host::{HostWorker, engine_mac};

/// Sessions that a worker may know of one peer at a time: to send in, the one before, one that
/// waits for confirmation, and two for what is still in flight.
const SESSIONS_MAX: usize = 5;

/// What a frame's headers say, read by hand.
#[derive(Clone, Copy, Debug)]
pub(super) struct Entry {
    pub(super) vlan: u16,
    pub(super) source: MacAddr,
    destination: MacAddr,
    arp: Option<Arp>,
}

impl Entry {
    /// Reads a frame of [`crate::frame`]: at most one tag.
    pub(super) fn read(octets: &[u8]) -> Self {
        Self {
            vlan: frame::vlan(octets),
            source: frame::mac_at(octets, 6),
            destination: frame::mac_at(octets, 0),
            arp: frame::read_arp(octets),
        }
    }

    pub(super) fn is_broadcast(&self) -> bool {
        self.destination == MacAddr::BROADCAST
    }

    pub(super) fn source_key(&self) -> FdbKey {
        FdbKey {
            vlan: self.vlan,
            mac: self.source,
        }
    }
}

/// What becomes of a station's frame.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Fate {
    /// It is dropped.
    Refused,
    /// It goes to these peers.
    Sent(Vec<PeerId>),
    /// It becomes the answer to who sent it: this address.
    Answered(MacAddr),
    /// It was for the engine, or for a station that has it already.
    Taken,
}

/// What passed a worker. What came in and what went out must balance.
#[derive(Debug, Default)]
pub(super) struct Flow {
    pub(super) received: u64,
    /// What the frames of stations made: one for each that they go to, and one for each frame
    /// that goes to nobody.
    entered: u64,
    /// Messages and frames of the engine's own: keepalives, records, questions to stations.
    own: u64,
    answered: u64,
    pub(super) sealed: u64,
    pub(super) delivered: u64,
    pub(super) consumed: u64,
}

/// One worker's tables.
#[derive(Debug, Default)]
pub(super) struct WorkerTables {
    worker: usize,
    /// By our index.
    sessions: BTreeMap<u32, PeerId>,
    /// How many with each peer.
    counts: BTreeMap<PeerId, usize>,
    /// Whether a handshake with the peer can be started.
    peers: BTreeMap<PeerId, bool>,
    owners: BTreeMap<FdbKey, Owner>,
    neighbors: Neighbors,
    /// The engine's own address.
    engine_mac: MacAddr,
    pub(super) flow: Flow,
}

impl WorkerTables {
    /// Those of all workers of a host, empty.
    pub(super) fn all(host: usize, lanes: u16) -> Vec<Self> {
        let tables = |worker| Self {
            worker,
            engine_mac: engine_mac(host),
            ..Self::default()
        };
        (0..usize::from(lanes)).map(tables).collect()
    }

    pub(super) fn order(&mut self, order: &TableCommand) {
        match order {
            TableCommand::Install(shared) => {
                self.sessions.insert(shared.session_id, shared.peer);
                *self.counts.entry(shared.peer).or_default() += 1;
            }
            TableCommand::SetMaxFrame(_)
            | TableCommand::SetPeerPolicy(..)
            | TableCommand::SetTap(_) => {}
            TableCommand::Control(command) => self.control(command),
        }
    }

    fn control(&mut self, command: &Command) {
        match command {
            Command::AddPeer { peer, .. } => {
                self.peers.insert(*peer, false);
            }
            Command::SetReachable { peer, reachable } => {
                self.peers.insert(*peer, *reachable);
            }
            Command::EraseSession { session_id } => {
                if let Some(peer) = self.sessions.remove(session_id)
                    && let Some(count) = self.counts.get_mut(&peer)
                {
                    *count -= 1;
                }
            }
            Command::SendKeepalive { .. }
            | Command::SendRecord { .. }
            | Command::SendFrame { .. }
                if self.worker == 0 =>
            {
                self.flow.own += 1;
            }
            &Command::Bind {
                vlan,
                ip: IpAddr::V4(ip),
                mac,
                owner,
            } => self.neighbors.insert((vlan, ip.octets()), owner, mac),
            &Command::Unbind {
                vlan,
                ip: IpAddr::V4(ip),
            } => self.neighbors.remove((vlan, ip.octets())),
            Command::FdbInsert { key, owner } => {
                self.owners.insert(*key, *owner);
            }
            Command::FdbRemove { key } => {
                self.owners.remove(key);
            }
            _ => {}
        }
    }

    pub(super) fn knows(&self, session: u32) -> bool {
        self.sessions.contains_key(&session)
    }

    /// A frame comes from a station: where it goes.
    pub(super) fn enters(&mut self, frame: &Entry) -> Fate {
        let fate = self.fate(frame);
        let made = match &fate {
            Fate::Sent(targets) => targets.len().max(1) as u64,
            _ => 1,
        };
        self.flow.entered += made;
        self.flow.consumed += u64::from(fate == Fate::Taken);
        self.flow.answered += u64::from(matches!(fate, Fate::Answered(_)));
        fate
    }

    fn fate(&mut self, frame: &Entry) -> Fate {
        let local = Owner::Local(PortId(0));
        if !self.admits(frame, local) {
            return Fate::Refused;
        }
        let judged = frame
            .arp
            .map(|arp| self.neighbors.judge(frame, &arp, local));
        match judged {
            Some(Judged::Refused) => return Fate::Refused,
            Some(Judged::Known(mac)) => return Fate::Answered(mac),
            Some(Judged::Nearby) => return Fate::Taken,
            Some(Judged::PassOn) | None => {}
        }
        if frame.destination == self.engine_mac {
            return Fate::Taken;
        }
        match self.owner(frame.vlan, frame.destination) {
            Some(Owner::Peer(peer)) => Fate::Sent(vec![peer]),
            Some(Owner::Local(_)) => Fate::Refused,
            None => {
                let reachable = self.peers.iter().filter(|(_, reachable)| **reachable);
                Fate::Sent(reachable.map(|(&peer, _)| peer).collect())
            }
        }
    }

    /// Whether a peer's frame may come out.
    pub(super) fn may_leave(&mut self, frame: &Entry, peer: PeerId) -> bool {
        let owner = Owner::Peer(peer);
        if !self.admits(frame, owner) {
            return false;
        }
        let judged = frame
            .arp
            .map(|arp| self.neighbors.judge(frame, &arp, owner));
        judged != Some(Judged::Refused)
            && !matches!(
                self.owner(frame.vlan, frame.destination),
                Some(Owner::Peer(_))
            )
    }

    /// The first who speaks from an address owns it.
    fn admits(&mut self, frame: &Entry, owner: Owner) -> bool {
        *self.owners.entry(frame.source_key()).or_insert(owner) == owner
    }

    /// Behind whom the source of a frame is.
    pub(super) fn source_owner(&self, frame: &Entry) -> Option<Owner> {
        self.owners.get(&frame.source_key()).copied()
    }

    fn owner(&self, vlan: u16, mac: MacAddr) -> Option<Owner> {
        let key = FdbKey { vlan, mac };
        self.owners
            .get(&key)
            .copied()
            .filter(|_| !is_multicast(mac))
    }

    /// Whether the worker holds no more than it may, and lost nothing from the count.
    pub(super) fn balance(&self, worker: &HostWorker) -> Result<(), String> {
        let staged = worker.datapath.staged() as u64;
        let census = worker.io.census();
        if !census.is_complete() || census.held != staged {
            return Err(format!("{staged} frames staged, but {census:?}"));
        }
        let flow = &self.flow;
        let drops = worker.datapath.drops();
        // The model takes in every record; beyond a rate the worker does not.
        let dropped = drops.total() - drops.get(DropReason::ControlLimited);
        let taken = flow.received + flow.entered + flow.own;
        let given = flow.sealed + flow.delivered + flow.consumed + staged + dropped;
        if taken != given {
            let drops = worker
                .datapath
                .drops()
                .iter()
                .filter(|(_, count)| *count > 0);
            return Err(format!(
                "took in {taken} and accounts for {given}: {flow:?}, {staged} staged, {:?}",
                drops.collect::<Vec<_>>()
            ));
        }
        let answered = worker.datapath.counted().arp_answered;
        if answered != flow.answered {
            return Err(format!("{answered} questions answered: {flow:?}"));
        }
        self.limits(worker, staged)
    }

    fn limits(&self, worker: &HostWorker, staged: u64) -> Result<(), String> {
        if staged > (self.peers.len() * STAGED_MIN) as u64 {
            return Err(format!("{staged} frames staged"));
        }
        let addresses = worker.datapath.fdb().len();
        let most = PORT_ADDRESSES_MAX + self.peers.len() * PEER_ADDRESSES_MAX;
        if addresses != self.owners.len() || addresses > most {
            let known = self.owners.len();
            return Err(format!("{addresses} addresses instead of {known}"));
        }
        let bindings = self.neighbors.len();
        if bindings > most {
            return Err(format!("{bindings} bindings"));
        }
        match self.counts.iter().find(|(_, count)| **count > SESSIONS_MAX) {
            Some((peer, count)) => Err(format!("{count} sessions with {peer:?}")),
            None => Ok(()),
        }
    }

    /// Whether the worker's table of addresses is this one.
    pub(super) fn matches(&self, worker: &HostWorker) -> Result<(), String> {
        let fdb = worker.datapath.fdb();
        let other = self
            .owners
            .iter()
            .find(|(key, owner)| fdb.lookup(**key) != Some(**owner));
        other.map_or(Ok(()), |(key, owner)| {
            let found = fdb.lookup(*key);
            Err(format!("{key:?} is behind {found:?} instead of {owner:?}"))
        })
    }

    /// Whether the worker believes what the Switch does.
    pub(super) fn follows(&self, control: &Control) -> Result<(), String> {
        let owners: BTreeMap<FdbKey, Owner> = control.owners().collect();
        if owners != self.owners {
            let differs = |key: &&FdbKey| owners.get(key) != self.owners.get(key);
            let key = owners.keys().chain(self.owners.keys()).find(differs);
            return Err(format!(
                "{key:?} is behind {:?} and not where the switch says, {:?}",
                key.and_then(|key| self.owners.get(key)),
                key.and_then(|key| owners.get(key)),
            ));
        }
        let strays = |known: &Neighbor| {
            let (vlan, mac) = (known.bound.vlan, known.bound.mac);
            let owner = owners.get(&FdbKey { vlan, mac });
            owner.is_some_and(|&owner| owner != known.bound.owner)
        };
        if let Some(stray) = control.neighbors().find(strays) {
            return Err(format!("somebody else has the address of {stray:?}"));
        }
        let bindings = control.neighbors().filter_map(|neighbor| {
            let bound = neighbor.bound;
            match bound.ip {
                IpAddr::V4(ip) => Some(((bound.vlan, ip.octets()), (bound.owner, bound.mac))),
                IpAddr::V6(_) => None,
            }
        });
        let bindings: BTreeMap<_, _> = bindings.collect();
        let own: BTreeMap<_, _> = self.neighbors.iter().map(|(k, v)| (*k, *v)).collect();
        if bindings != own {
            let differs = |key: &&_| bindings.get(*key) != own.get(*key);
            let key = bindings.keys().chain(own.keys()).find(differs);
            return Err(format!(
                "{key:?} is at {:?} and not where the switch says, {:?}",
                key.and_then(|key| own.get(key)),
                key.and_then(|key| bindings.get(key)),
            ));
        }
        Ok(())
    }

    /// Whether no two workers believe an address behind different owners.
    pub(super) fn agree(tables: &[Self]) -> Result<(), String> {
        let mut all: BTreeMap<FdbKey, Owner> = BTreeMap::new();
        for (&key, &owner) in tables.iter().flat_map(|table| &table.owners) {
            let first = *all.entry(key).or_insert(owner);
            if first != owner {
                return Err(format!("{key:?} is behind {first:?} and behind {owner:?}"));
            }
        }
        Ok(())
    }
}
