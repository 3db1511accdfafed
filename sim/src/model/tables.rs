//! What one worker knows, naively: sessions, peers, addresses; and a count of what passed it.

use std::collections::BTreeMap;

use omni_control::message::{Command, FdbKey, Owner, PeerId, PortId};
use omni_engine::datapath::TableCommand;
use omni_engine::datapath::owned::PORT_ADDRESSES_MAX;
use omni_engine::datapath::policy::PEER_ADDRESSES_MAX;
use omni_engine::io::FrameIo;
use omni_wire::MacAddr;
use omni_wire::limits::STAGED_MIN;

use super::is_multicast;
use crate::host::HostWorker;

/// Sessions that a worker may know of one peer at a time: to send in, the one before, one that
/// waits for confirmation, and two for what is still in flight.
const SESSIONS_MAX: usize = 5;

/// What a frame's headers say, read by hand.
#[derive(Clone, Copy, Debug)]
pub(super) struct Entry {
    vlan: u16,
    source: MacAddr,
    destination: MacAddr,
}

impl Entry {
    /// Reads a frame of [`crate::frame`]: at most one tag.
    pub(super) fn read(frame: &[u8]) -> Self {
        let mac = |at: usize| {
            let mut octets = [0; 6];
            octets.copy_from_slice(&frame[at..at + 6]);
            MacAddr(octets)
        };
        let tagged = frame[12..14] == [0x81, 0];
        Self {
            vlan: if tagged {
                u16::from_be_bytes([frame[14], frame[15]]) & 0xfff
            } else {
                0
            },
            source: mac(6),
            destination: mac(0),
        }
    }
}

/// What passed a worker. What came in and what went out must balance.
#[derive(Debug, Default)]
pub(super) struct Flow {
    pub(super) received: u64,
    /// What the frames of stations made: one for each that they go to, and one for each frame
    /// that goes to nobody.
    entered: u64,
    keepalives: u64,
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
    /// Whether a handshake with the peer can be started.
    peers: BTreeMap<PeerId, bool>,
    owners: BTreeMap<FdbKey, Owner>,
    pub(super) flow: Flow,
}

impl WorkerTables {
    /// Those of all workers of a host, empty.
    pub(super) fn all(lanes: u16) -> Vec<Self> {
        let tables = |worker| Self {
            worker,
            ..Self::default()
        };
        (0..usize::from(lanes)).map(tables).collect()
    }

    pub(super) fn order(&mut self, order: &TableCommand) {
        match order {
            TableCommand::Install(shared) => {
                self.sessions.insert(shared.session_id, shared.peer);
            }
            TableCommand::SetMaxFrame(_) | TableCommand::SetPeerPolicy(..) => {}
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
                self.sessions.remove(session_id);
            }
            Command::SendKeepalive { .. } if self.worker == 0 => self.flow.keepalives += 1,
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

    /// A frame comes from a station: to which peers it goes.
    pub(super) fn enters(&mut self, frame: &Entry) -> Vec<PeerId> {
        let targets = self.targets(frame);
        self.flow.entered += targets.len().max(1) as u64;
        targets
    }

    fn targets(&mut self, frame: &Entry) -> Vec<PeerId> {
        if !self.admits(frame, Owner::Local(PortId(0))) {
            return Vec::new();
        }
        match self.owner(frame.vlan, frame.destination) {
            Some(Owner::Peer(peer)) => vec![peer],
            Some(Owner::Local(_)) => Vec::new(),
            None => {
                let reachable = self.peers.iter().filter(|(_, reachable)| **reachable);
                reachable.map(|(&peer, _)| peer).collect()
            }
        }
    }

    /// Whether a peer's frame may come out.
    pub(super) fn may_leave(&mut self, frame: &Entry, peer: PeerId) -> bool {
        self.admits(frame, Owner::Peer(peer))
            && !matches!(
                self.owner(frame.vlan, frame.destination),
                Some(Owner::Peer(_))
            )
    }

    /// The first who speaks from an address owns it.
    fn admits(&mut self, frame: &Entry, owner: Owner) -> bool {
        let key = FdbKey {
            vlan: frame.vlan,
            mac: frame.source,
        };
        *self.owners.entry(key).or_insert(owner) == owner
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
        let dropped = worker.datapath.drops().total();
        let taken = flow.received + flow.entered + flow.keepalives;
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
        let mut each: BTreeMap<PeerId, usize> = BTreeMap::new();
        for peer in self.sessions.values() {
            *each.entry(*peer).or_default() += 1;
        }
        match each.iter().find(|(_, count)| **count > SESSIONS_MAX) {
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
