//! Who has which IP address: what ARP and neighbour discovery tell, and who is answered from it.
//!
//! A binding says that an IP address is at a MAC address behind an owner. It comes from a message
//! of its owner whose hardware address is the one that it was sent from, and belongs to the first
//! who says so, as MAC addresses do; so nobody answers for an address of somebody else. Of two
//! hosts behind one owner the first one has it as well. The rules of what is answered are those of
//! RFC 9161:
//!
//! - only broadcasts and multicasts: a unicast poll asks whether the host itself is alive;
//! - never for an address behind the port that asks, where its host has heard the question, and
//!   where that ends therefore; nor to an asker about itself;
//! - a probe (RFC 5227, RFC 4862 s.5.4) only when another host has the address;
//! - never an announcement, which updates and goes on;
//! - never for a link-local IPv6 address: it may be a router's, and an answer that does not say so
//!   would take it from the host's default routers (RFC 4861 s.7.2.5);
//! - what is not known is flooded.

use core::net::IpAddr;

use omni_control::message::{Owner, Upcall};
use omni_membership::Grants;
use omni_wire::arp::{Arp, Operation};
use omni_wire::ethernet::Ethernet;
use omni_wire::nd::{Advertisement, Solicitation};
use omni_wire::{DropReason, Instant, MacAddr};

use super::owned::{Admission, OwnedTable};
use super::raise;

/// VLAN and IP address.
type Key = (u16, IpAddr);

/// What becomes of a message about addresses.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Asked {
    /// It goes on like any other frame.
    PassOn,
    /// It asks for an address that is at this one.
    Known(MacAddr),
    /// It asks for an address behind the port that it came in at.
    Nearby,
    /// It asks for an address of which nothing is known.
    Unknown,
}

/// A message about addresses, and where it came from.
#[derive(Clone, Copy, Debug)]
pub(super) struct Context<'a> {
    pub(super) now: Instant,
    /// On the fabric.
    pub(super) vlan: u16,
    pub(super) ethernet: &'a Ethernet,
    pub(super) owner: Owner,
    /// What the owner may have, where that is limited.
    pub(super) grants: Option<&'a Grants>,
}

/// One worker's bindings.
#[derive(Debug)]
pub(super) struct Neighbors(OwnedTable<Key, MacAddr>);

impl Default for Neighbors {
    fn default() -> Self {
        Self(OwnedTable::new(DropReason::BindingNotOwned))
    }
}

impl Neighbors {
    /// Sets a binding whatever was there: the control thread has decided.
    pub(super) fn insert(&mut self, now: Instant, key: Key, owner: Owner, mac: MacAddr) {
        self.0.insert(now, key, owner, mac);
    }

    pub(super) fn remove(&mut self, key: &Key) {
        self.0.remove(key);
    }

    /// The next message of its owner is wanted.
    pub(super) fn unreport(&mut self, key: &Key) {
        self.0.unreport(key);
    }

    pub(super) fn remove_owner(&mut self, owner: Owner) {
        self.0.remove_owner(owner);
    }

    pub(super) fn set_limit(&mut self, owner: Owner, limit: usize) {
        self.0.set_limit(owner, limit);
    }

    /// Judges an ARP message, and learns from it (RFC 826, RFC 5227).
    ///
    /// # Errors
    /// `NeighborSpoofed` when its sender is another one than the frame's, `BindingNotOwned` when
    /// the address that it claims is somebody else's, be it behind the same owner, `LearnRate`.
    pub(super) fn arp(
        &mut self,
        context: Context<'_>,
        arp: &Arp,
        upcalls: &mut Vec<Upcall>,
    ) -> Result<Asked, DropReason> {
        if arp.sender_mac != context.ethernet.source {
            return Err(DropReason::NeighborSpoofed);
        }
        if !arp.is_probe() {
            self.learn(context, arp.sender_ip.into(), arp.sender_mac, upcalls)?;
        }
        let asks = arp.operation == Operation::Request
            && !arp.is_announcement()
            && context.ethernet.destination.is_broadcast();
        if !asks {
            return Ok(Asked::PassOn);
        }
        Ok(self.find(context, arp.target_ip.into()))
    }

    /// Judges a neighbour solicitation, and learns from it (RFC 4861 s.7.2.3).
    ///
    /// # Errors
    /// As [`Neighbors::arp`].
    pub(super) fn solicitation(
        &mut self,
        context: Context<'_>,
        asked: &Solicitation,
        upcalls: &mut Vec<Upcall>,
    ) -> Result<Asked, DropReason> {
        if let Some(mac) = asked.link_layer {
            if mac != context.ethernet.source {
                return Err(DropReason::NeighborSpoofed);
            }
            self.learn(context, asked.source.into(), mac, upcalls)?;
        }
        if !context.ethernet.destination.is_multicast() || asked.target.is_unicast_link_local() {
            return Ok(Asked::PassOn);
        }
        Ok(self.find(context, asked.target.into()))
    }

    /// Judges a neighbour advertisement, and learns from it (RFC 4861 s.7.2.5).
    ///
    /// # Errors
    /// As [`Neighbors::arp`].
    pub(super) fn advertisement(
        &mut self,
        context: Context<'_>,
        told: &Advertisement,
        upcalls: &mut Vec<Upcall>,
    ) -> Result<(), DropReason> {
        // Hosts leave the option out where they answer a unicast solicitation (s.7.2.4).
        let source = context.ethernet.source;
        if told.link_layer.is_some_and(|mac| mac != source) {
            return Err(DropReason::NeighborSpoofed);
        }
        self.learn(context, told.target.into(), source, upcalls)
    }

    fn learn(
        &mut self,
        context: Context<'_>,
        ip: IpAddr,
        mac: MacAddr,
        upcalls: &mut Vec<Upcall>,
    ) -> Result<(), DropReason> {
        let Context {
            now,
            vlan,
            owner,
            grants,
            ..
        } = context;
        // Nobody has these.
        if ip.is_unspecified() || ip.is_multicast() || is_broadcast(ip) {
            return Err(DropReason::NeighborMalformed);
        }
        if grants.is_some_and(|grants| !grants.allows_address(vlan, ip)) {
            return Err(DropReason::AddressNotGranted);
        }
        let key = (vlan, ip);
        let told = Upcall::Bound {
            vlan,
            ip,
            mac,
            owner,
        };
        let is_ours = matches!(owner, Owner::Local(_));
        match self.0.admit(now, key, owner, mac) {
            Ok(Admission::Known) => return Ok(()),
            Ok(Admission::Report) => {}
            // The host that has it may be gone: the control thread finds out. What hosts of a peer
            // have of another's is for these two to find out.
            Ok(Admission::Differs) => return Err(self.contested(now, key, told, upcalls)),
            Err(DropReason::BindingNotOwned) if is_ours => {
                return Err(self.contested(now, key, told, upcalls));
            }
            Err(reason) => return Err(reason),
        }
        if raise(upcalls, told).is_err() {
            self.0.unreport(&key);
        }
        Ok(())
    }

    /// Somebody says to have what another has.
    fn contested(
        &mut self,
        now: Instant,
        key: Key,
        told: Upcall,
        upcalls: &mut Vec<Upcall>,
    ) -> DropReason {
        if self.0.contest(now, &key) {
            // The next message says it again.
            let _ = raise(upcalls, told);
        }
        DropReason::BindingNotOwned
    }

    fn find(&self, context: Context<'_>, target: IpAddr) -> Asked {
        match self.0.get(&(context.vlan, target)) {
            None => Asked::Unknown,
            Some(entry) if entry.value == context.ethernet.source => Asked::PassOn,
            Some(entry) if entry.owner == context.owner => Asked::Nearby,
            Some(entry) => Asked::Known(entry.value),
        }
    }
}

/// Whether this is the limited broadcast address (RFC 919 s.7).
fn is_broadcast(ip: IpAddr) -> bool {
    matches!(ip, IpAddr::V4(v4) if v4.is_broadcast())
}
