//! The control plane of a node: the Ganglion, which has sessions with peers, and the Switch, which
//! knows what is behind whom; and what these two have to say to each other.
//!
//! ```text
//! upcalls of workers ---+--> Ganglion --commands--+--> orders for workers
//!                       |        | sessions       |
//! time -----------------+--> Switch --orders------+
//!                                  --records, frames to hosts--> as orders for one worker
//! ```
//!
//! Like both it has no I/O. Whoever runs it takes orders after everything that changes something.

use core::net::IpAddr;
use std::collections::BTreeMap;

use omni_control::message::{Command, Owner, PeerId, PortId, Role, Upcall};
use omni_control::{Ganglion, PublicKey};
use omni_wire::{Instant, MacAddr, Now, ask, tell};

use crate::switch::{Audience, Bound, GroupReport, PeerLimits, Send, Switch};

/// No frame to hosts that is written here is longer.
const FRAME_MAX: usize = 128;

/// Ganglion and Switch.
pub struct ControlPlane {
    /// The sessions.
    pub ganglion: Ganglion,
    /// The tables.
    pub switch: Switch,
    /// What hosts are asked from.
    mac: MacAddr,
    /// How much of the tables each peer may fill.
    limits: BTreeMap<PublicKey, PeerLimits>,
    /// Whose sessions there are, by our index, and whether something was heard in them.
    sessions: BTreeMap<u32, (PeerId, bool)>,
}

impl core::fmt::Debug for ControlPlane {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("ControlPlane").finish_non_exhaustive()
    }
}

impl ControlPlane {
    /// Both, and the address that hosts are asked from.
    #[must_use]
    pub fn new(ganglion: Ganglion, switch: Switch, mac: MacAddr) -> Self {
        Self {
            ganglion,
            switch,
            mac,
            limits: BTreeMap::new(),
            sessions: BTreeMap::new(),
        }
    }

    /// Takes in what a worker has to say.
    pub fn handle_upcall(&mut self, now: Now, worker: usize, upcall: Upcall) {
        let (switch, at) = (&mut self.switch, now.instant);
        match upcall {
            Upcall::Learned { key, owner } => switch.learned(at, worker, key, owner),
            Upcall::Contested { key, claimant } => switch.contested(at, key, claimant),
            Upcall::Bound {
                vlan,
                ip,
                mac,
                owner,
            } => switch.bound(
                at,
                Bound {
                    vlan,
                    ip,
                    mac,
                    owner,
                },
            ),
            Upcall::Group {
                vlan,
                port,
                group,
                join,
            } => switch.group(
                at,
                GroupReport {
                    vlan,
                    port,
                    group,
                    join,
                },
            ),
            Upcall::Querier { vlan, port } => switch.querier(at, vlan, port),
            Upcall::Strayed { key, peer } => switch.strayed(at, key, peer),
            Upcall::Record { peer, record } => {
                if !self.ganglion.handle_record(now, peer, &record) {
                    switch.record(at, peer, &record);
                }
            }
            Upcall::NeedSession { .. }
            | Upcall::RekeySoon { .. }
            | Upcall::Confirmed { .. }
            | Upcall::Moved { .. } => self.ganglion.handle_upcall(now, &upcall),
        }
    }

    /// Does what is due.
    pub fn handle_timeout(&mut self, now: Now) {
        self.ganglion.handle_timeout(now);
        let due = self.switch.poll_timeout();
        if due.is_some_and(|due| due <= now.instant) {
            self.switch.handle_timeout(now.instant);
        }
    }

    /// When [`ControlPlane::handle_timeout`] is to be called next.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Instant> {
        let due = [self.ganglion.poll_timeout(), self.switch.poll_timeout()];
        due.into_iter().flatten().min()
    }

    /// The part of [`ControlPlane::poll_timeout`] that is not to be late by a fraction of a second:
    /// lists that are told to peers piece by piece.
    #[must_use]
    pub fn poll_urgent(&self) -> Option<Instant> {
        self.switch.poll_urgent()
    }

    /// Sets how much of the tables a peer may fill.
    pub fn set_limits(&mut self, now: Instant, public_key: PublicKey, limits: PeerLimits) {
        self.limits.insert(public_key, limits);
        if let Some(peer) = self.ganglion.peer(&public_key) {
            self.switch.add_peer(now, peer, public_key, limits);
        }
    }

    /// The next order for workers, and for which of them.
    pub fn poll_order(&mut self, now: Instant) -> Option<(Audience, Command)> {
        if let Some(command) = self.ganglion.poll_command() {
            self.follow(now, &command);
            return Some((Audience::All, command));
        }
        if let Some(order) = self.switch.poll_order() {
            return Some(order);
        }
        let command = match self.switch.poll_send()? {
            Send::Record { peer, record } => Command::SendRecord {
                peer,
                record: record.into(),
            },
            Send::Ask {
                port,
                vlan,
                mac,
                ip,
            } => frame(port, |out| match ip {
                IpAddr::V4(ip) => ask::arp_request(out, vlan, self.mac, mac, ip),
                IpAddr::V6(ip) => ask::solicitation(out, vlan, self.mac, mac, ip),
            }),
            Send::Tell {
                port,
                vlan,
                mac,
                ip,
            } => frame(port, |out| match ip {
                IpAddr::V4(ip) => tell::arp_announcement(out, vlan, mac, ip),
                IpAddr::V6(ip) => tell::advertisement(out, vlan, mac, ip),
            }),
            Send::Query { port, vlan, ipv6 } => frame(port, |out| {
                if ipv6 {
                    ask::mld_query(out, vlan, self.mac, None)
                } else {
                    ask::igmp_query(out, vlan, self.mac, None)
                }
            }),
        };
        Some((Audience::Only(0), command))
    }

    /// The Switch has to know of peers, and when they can be spoken to.
    fn follow(&mut self, now: Instant, command: &Command) {
        match command {
            Command::AddPeer {
                peer, public_key, ..
            } => {
                let limits = self.limits.get(public_key).copied().unwrap_or_default();
                self.switch.add_peer(now, *peer, *public_key, limits);
            }
            Command::RemovePeer { peer } => {
                self.sessions.retain(|_, (other, _)| other != peer);
                self.switch.remove_owner(now, Owner::Peer(*peer));
            }
            Command::InstallSession(install) => {
                let is_usable = install.role == Role::Initiator;
                let session = (install.peer, is_usable);
                self.sessions.insert(install.session_id, session);
                if is_usable {
                    self.switch.peer_up(now, install.peer);
                }
            }
            Command::ConfirmSession { session_id } => {
                if let Some((peer, is_usable)) = self.sessions.get_mut(session_id) {
                    *is_usable = true;
                    self.switch.peer_up(now, *peer);
                }
            }
            Command::EraseSession { session_id } => {
                if let Some((peer, _)) = self.sessions.remove(session_id) {
                    self.look_after(peer);
                }
            }
            _ => {}
        }
    }

    /// A session with a peer has ended: without another one nothing can be told to it.
    fn look_after(&mut self, peer: PeerId) {
        let mut others = self.sessions.values();
        if !others.any(|&(other, is_usable)| other == peer && is_usable) {
            self.switch.peer_down(peer);
        }
    }
}

/// A frame of ours for the hosts behind a port.
fn frame(port: PortId, write: impl FnOnce(&mut [u8]) -> usize) -> Command {
    let mut octets = [0; FRAME_MAX];
    let len = write(&mut octets);
    Command::SendFrame {
        port,
        frame: octets[..len.min(FRAME_MAX)].into(),
    }
}
