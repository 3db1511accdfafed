//! The data path: a pure function of tables, burst and time.
//!
//! ```text
//! ingress   underlay frame -> outer, header, session, replay -> open -> admit -> access port
//! egress    access frame -> source, FDB look-up, session -> seal -> outer -> underlay
//! ```
//!
//! A burst goes through in phases, one loop each, so that the AEAD sees all its messages at once.
//! Frames come in by value and leave into an [`Output`]: to a port, or free again; staged ones
//! stay. Nothing in here reads a clock, allocates per frame, locks, or knows a driver.

mod delivery;
mod egress;
pub mod fdb;
mod groups;
mod hash;
mod ingress;
mod judge;
mod neighbors;
pub mod owned;
mod peer;
pub mod policy;
mod sealing;
pub mod session;
pub mod storm;
mod tags;
mod tap;

use std::collections::HashMap;
use std::sync::Arc;

use omni_control::message::{Command, FdbKey, Owner, PeerId, PortId, Role, Upcall};
use omni_wire::ethernet::Ethernet;
use omni_wire::header::DataKind;
use omni_wire::outer::Path;
use omni_wire::{DropCounters, DropReason, Instant};

use crate::capture::Ring;
use crate::io::{Frame, FramePool};
use fdb::Fdb;
use groups::Groups;
use hash::BuildIdHasher;
use neighbors::Neighbors;
use peer::PeerTable;
use policy::{PeerPolicy, PortPolicy, SwitchPolicy};
use sealing::Leaving;
use session::{SessionTable, SharedSession};
use tap::Tap;

pub use judge::Counted;
pub use sealing::OVERHEAD_MAX;

/// The most frames that go through together.
pub const BURST_MAX: usize = 64;

/// What cannot change while a worker runs, but for `max_frame`.
#[derive(Clone, Debug)]
pub struct DatapathConfig {
    /// Index of the worker, and its lane.
    pub worker: u16,
    /// The longest inner frame carried, in octets from the destination MAC on, VLAN tags included.
    pub max_frame: usize,
    /// Frames from the access port may carry partial checksums, which are then completed.
    pub complete_checksums: bool,
    /// The most frames staged by this worker, for all peers together.
    pub staged_max: usize,
    /// Lanes but the first send from UDP source ports of their own, by which routers and receive
    /// queues deal them out. Not for paths with address translation.
    pub spread_ports: bool,
    /// What ports may do, and how frames are switched.
    pub policy: Arc<SwitchPolicy>,
}

impl DatapathConfig {
    /// The UDP source port of this worker's messages on a path.
    fn source_port(&self, path: &Path) -> u16 {
        if self.spread_ports {
            path.spread_source_port(self.worker)
        } else {
            path.source_port
        }
    }
}

/// A change of the tables, for one worker.
#[derive(Clone, Debug)]
pub enum TableCommand {
    /// From the Ganglion, all but a new session.
    Control(Command),
    /// A new session, its keys expanded once for all workers.
    Install(Arc<SharedSession>),
    /// The longest inner frame changed.
    SetMaxFrame(usize),
    /// What a peer may send and is sent.
    SetPeerPolicy(PeerId, Arc<PeerPolicy>),
    /// Copy frames for a capture, or no more.
    SetTap(Option<Arc<Ring>>),
}

/// Where frames go.
#[derive(Debug)]
pub struct Output<F> {
    /// To the access ports, by their index.
    pub access: Vec<Vec<F>>,
    /// To the underlay.
    pub underlay: Vec<F>,
    /// Back to the pool.
    pub free: Vec<F>,
}

impl<F> Output<F> {
    /// Nothing, for so many access ports.
    #[must_use]
    pub fn new(ports: usize) -> Self {
        let room = || Vec::with_capacity(4 * BURST_MAX);
        Self {
            access: (0..ports).map(|_| room()).collect(),
            underlay: room(),
            free: room(),
        }
    }
}

/// One worker's data path.
#[derive(Debug)]
pub struct Datapath<F> {
    config: DatapathConfig,
    sessions: SessionTable,
    peers: PeerTable<Leaving<F>>,
    fdb: Fdb,
    neighbors: Neighbors,
    groups: Groups,
    /// Where to send what is for an address that nobody was heard with.
    directory: HashMap<FdbKey, PeerId, BuildIdHasher>,
    drops: DropCounters,
    counted: Counted,
    upcalls: Vec<Upcall>,
    /// While there is a capture.
    tap: Option<Tap>,
    ingress: ingress::Scratch,
    egress: egress::Scratch<F>,
}

/// The most upcalls kept until the worker takes them.
const UPCALLS_MAX: usize = 256;

impl<F: Frame> Datapath<F> {
    /// Empty tables.
    #[must_use]
    pub fn new(config: DatapathConfig) -> Self {
        Self {
            peers: PeerTable::new(config.staged_max),
            config,
            sessions: SessionTable::default(),
            fdb: Fdb::default(),
            neighbors: Neighbors::default(),
            groups: Groups::default(),
            directory: HashMap::default(),
            drops: DropCounters::new(),
            counted: Counted::default(),
            upcalls: Vec::with_capacity(UPCALLS_MAX),
            tap: None,
            ingress: ingress::Scratch::default(),
            egress: egress::Scratch::default(),
        }
    }

    /// What was dropped here so far.
    #[must_use]
    pub fn drops(&self) -> &DropCounters {
        &self.drops
    }

    /// What was counted here so far beside drops.
    #[must_use]
    pub fn counted(&self) -> Counted {
        Counted {
            stale_answers: self.neighbors.stale_answers(),
            ..self.counted
        }
    }

    /// Counts frames that the worker or its driver had to drop.
    pub fn count_drops(&mut self, reason: DropReason, frames: u64) {
        self.drops.add(reason, frames);
    }

    /// Hands the waiting upcalls to `take`, in order, until it refuses one: that and those behind
    /// it wait on.
    pub fn drain_upcalls(&mut self, mut take: impl FnMut(Upcall) -> Result<(), Upcall>) {
        let refused = self
            .upcalls
            .iter()
            .position(|upcall| take(upcall.clone()).is_err());
        self.upcalls.drain(..refused.unwrap_or(self.upcalls.len()));
    }

    /// Whether upcalls wait.
    #[must_use]
    pub fn has_upcalls(&self) -> bool {
        !self.upcalls.is_empty()
    }

    /// How many frames are staged.
    #[must_use]
    pub fn staged(&self) -> usize {
        self.peers.staged()
    }

    /// The forwarding table.
    #[must_use]
    pub fn fdb(&self) -> &Fdb {
        &self.fdb
    }

    /// Applies a change of the tables. Frames that waited for it leave into `out`.
    pub fn apply(
        &mut self,
        now: Instant,
        command: TableCommand,
        pool: &mut impl FramePool<Frame = F>,
        out: &mut Output<F>,
    ) {
        if let Some(tap) = &mut self.tap {
            tap.begin(now);
        }
        match command {
            TableCommand::Install(shared) => self.install(now, shared, out),
            TableCommand::SetMaxFrame(octets) => {
                if octets > self.config.max_frame {
                    self.egress.too_big_from = now + egress::TOO_BIG_PAUSE;
                }
                self.config.max_frame = octets;
            }
            TableCommand::SetPeerPolicy(id, policy) => self.set_peer_policy(id, policy),
            TableCommand::SetTap(ring) => self.tap = ring.map(|ring| Tap::new(ring, now)),
            TableCommand::Control(command) => self.apply_control(now, command, pool, out),
        }
    }

    fn apply_control(
        &mut self,
        now: Instant,
        command: Command,
        pool: &mut impl FramePool<Frame = F>,
        out: &mut Output<F>,
    ) {
        match command {
            Command::AddPeer { peer, traffic, .. } => self.peers.add(peer, traffic),
            Command::RemovePeer { peer } => {
                self.sessions.remove_peer(peer);
                self.fdb.remove_owner(Owner::Peer(peer));
                self.neighbors.remove_owner(Owner::Peer(peer));
                self.groups.remove_owner(Owner::Peer(peer));
                self.directory.retain(|_, other| *other != peer);
                let staged = self.peers.remove(peer);
                self.discard(staged, Some(peer), DropReason::StagedExpired, out);
            }
            Command::SetPath { peer, path } => {
                let source_port = path.map_or(0, |path| self.config.source_port(&path));
                self.peers.set_path(peer, path, source_port);
                self.send_staged(now, peer, out);
            }
            // Sessions come expanded; one that is not yet is expanded here.
            Command::InstallSession(install) => {
                self.install(now, Arc::new(SharedSession::new(&install)), out);
            }
            Command::ConfirmSession { session_id } => self.confirm(now, session_id, out),
            Command::EraseSession { session_id } => {
                if let Some((slot, session)) = self.sessions.remove(session_id) {
                    self.peers.session_erased(session.shared.peer, slot);
                }
            }
            // One message suffices, and lane 0 is the one that tells where we are.
            Command::SendKeepalive { peer } if self.config.worker == 0 => {
                self.send_keepalive(now, peer, pool, out);
            }
            Command::SendKeepalive { .. } => {}
            Command::DropStaged { peer } => {
                let staged = self.peers.take_staged(peer);
                self.discard(staged, Some(peer), DropReason::StagedExpired, out);
            }
            Command::SetReachable { peer, reachable } => {
                let staged = self.peers.set_reachable(peer, reachable);
                self.discard(staged, Some(peer), DropReason::NoEndpoint, out);
            }
            Command::FdbInsert { key, owner } => self.fdb.insert(now, key, owner),
            Command::FdbRemove { key } => self.fdb.remove(key),
            Command::FdbWatch { key } => self.fdb.unreport(key),
            other => self.apply_switching(now, other, pool, out),
        }
    }

    fn apply_switching(
        &mut self,
        now: Instant,
        command: Command,
        pool: &mut impl FramePool<Frame = F>,
        out: &mut Output<F>,
    ) {
        match command {
            Command::Bind {
                vlan,
                ip,
                mac,
                owner,
            } => self.neighbors.insert(now, (vlan, ip), owner, mac),
            Command::Unbind { vlan, ip } => self.neighbors.remove(now, &(vlan, ip)),
            Command::BindWatch { vlan, ip } => self.neighbors.unreport(&(vlan, ip)),
            Command::SetDirectory { key, peer } => {
                match peer {
                    Some(peer) => self.directory.insert(key, peer),
                    None => self.directory.remove(&key),
                };
            }
            Command::SetCarried { peer, vlans } => {
                if let Some(peer) = self.peers.get_mut(peer) {
                    peer.carried = vlans;
                }
            }
            Command::SetGroup {
                vlan,
                group,
                members,
            } => self.groups.set(vlan, group, members),
            Command::SetWantsAll { owner, vlan, wants } => {
                self.groups.set_wants_all(owner, vlan, wants);
            }
            Command::SetFrameLimit { peer, octets } => {
                if let Some(peer) = self.peers.get_mut(peer) {
                    peer.frame_limit = octets.into();
                }
            }
            // As with keepalives, one worker suffices.
            Command::SendRecord { peer, record } if self.config.worker == 0 => {
                self.send_own(now, peer, DataKind::Control, &record, pool, out);
            }
            Command::SendFrame { port, frame } if self.config.worker == 0 => {
                self.send_to_host(port, &frame, pool, out);
            }
            // The others were applied before.
            _ => {}
        }
    }

    fn send_to_host(
        &mut self,
        port: PortId,
        octets: &[u8],
        pool: &mut impl FramePool<Frame = F>,
        out: &mut Output<F>,
    ) {
        let Ok(ethernet) = Ethernet::parse(octets) else {
            return;
        };
        let Some(mut frame) = pool.alloc(octets.len()) else {
            return self.drops.count(DropReason::NoFreeFrame);
        };
        frame.bytes_mut().copy_from_slice(octets);
        self.deliver(frame, 0, ethernet.tags, port, out);
    }

    fn set_peer_policy(&mut self, id: PeerId, policy: Arc<PeerPolicy>) {
        let owner = Owner::Peer(id);
        if let Some(peer) = self.peers.get_mut(id) {
            self.fdb.set_limit(owner, policy.macs_max);
            self.neighbors.set_limit(owner, policy.addresses_max);
            peer.policy = policy;
        }
    }

    /// What an access port may do.
    fn port(&self, port: PortId) -> Option<&PortPolicy> {
        self.config.policy.ports.get(usize::from(port.0))
    }

    fn install(&mut self, now: Instant, shared: Arc<SharedSession>, out: &mut Output<F>) {
        let (peer, role) = (shared.peer, shared.role);
        if self.peers.get(peer).is_none() {
            return;
        }
        let slot = self.sessions.insert(shared);
        if role == Role::Initiator {
            self.peers.set_current(peer, slot);
            self.send_staged(now, peer, out);
        }
    }

    /// A responder's session was confirmed: it is the one to send in.
    fn confirm(&mut self, now: Instant, session_id: u32, out: &mut Output<F>) {
        let Some(slot) = self.sessions.find(session_id) else {
            return;
        };
        let Some(session) = self.sessions.get_mut(slot) else {
            return;
        };
        if !session.confirmed {
            session.confirmed = true;
            let peer = session.shared.peer;
            self.peers.set_current(peer, slot);
            self.send_staged(now, peer, out);
        }
    }

    /// Gives all frames that wait for something back, as nobody may hold any.
    pub fn discard_staged(&mut self, reason: DropReason, out: &mut Output<F>) {
        let staged = self.peers.take_all_staged();
        self.discard(staged, None, reason, out);
    }

    /// Gives up what waited, for a peer or for several.
    fn discard(
        &mut self,
        staged: Vec<Leaving<F>>,
        peer: Option<PeerId>,
        reason: DropReason,
        out: &mut Output<F>,
    ) {
        self.drops.add(reason, staged.len() as u64);
        if let (Some(_), Some(peer)) = (&self.tap, peer) {
            for leaving in &staged {
                self.tap_unsent(peer, reason, leaving);
            }
        }
        out.free
            .extend(staged.into_iter().map(|leaving| leaving.frame));
    }
}

/// Keeps an upcall for the worker to take. Refused when too many wait: then whatever raised it
/// raises it again with a later frame.
fn raise(upcalls: &mut Vec<Upcall>, upcall: Upcall) -> Result<(), Upcall> {
    if upcalls.len() < UPCALLS_MAX {
        upcalls.push(upcall);
        Ok(())
    } else {
        Err(upcall)
    }
}

/// The forwarding key of an inner frame's address.
fn fdb_key(vlan: u16, mac: omni_wire::MacAddr) -> FdbKey {
    FdbKey { vlan, mac }
}
