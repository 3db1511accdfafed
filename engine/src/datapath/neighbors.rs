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
use core::time::Duration;

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

/// For how long a host is likely to go by an answer before it asks again (RFC 4861 s.10 has 30 s
/// for IPv6, Linux up to 45 s for both).
const ANSWER_LIFE: Duration = Duration::from_secs(60);

/// Where an IP address is, and when that was last given as an answer.
#[derive(Clone, Copy, Debug)]
struct Place {
    mac: MacAddr,
    answered_at: Option<Instant>,
}

impl Place {
    const fn at(mac: MacAddr) -> Self {
        Self {
            mac,
            answered_at: None,
        }
    }
}

impl PartialEq for Place {
    /// Whether it is the same place.
    fn eq(&self, other: &Self) -> bool {
        self.mac == other.mac
    }
}

/// One worker's bindings.
#[derive(Debug)]
pub(super) struct Neighbors {
    table: OwnedTable<Key, Place>,
    /// Answers that turned out to be wrong soon after they were given.
    stale_answers: u64,
}

impl Default for Neighbors {
    fn default() -> Self {
        Self {
            table: OwnedTable::new(DropReason::BindingNotOwned),
            stale_answers: 0,
        }
    }
}

impl Neighbors {
    /// Sets a binding whatever was there: the control thread has decided.
    pub(super) fn insert(&mut self, now: Instant, key: Key, owner: Owner, mac: MacAddr) {
        let known = self.table.get(&key);
        if known.is_some_and(|known| known.value.mac != mac) {
            self.regret(now, &key);
        }
        self.table.insert(now, key, owner, Place::at(mac));
    }

    pub(super) fn remove(&mut self, now: Instant, key: &Key) {
        self.regret(now, key);
        self.table.remove(key);
    }

    /// A binding holds no more: whoever was answered with it a moment ago goes by it for a while.
    fn regret(&mut self, now: Instant, key: &Key) {
        let answered = self
            .table
            .get(key)
            .and_then(|known| known.value.answered_at);
        let is_recent = answered.is_some_and(|at| now.since(at) < ANSWER_LIFE);
        self.stale_answers += u64::from(is_recent);
    }

    /// How many bindings changed or went soon after they were given as an answer.
    pub(super) const fn stale_answers(&self) -> u64 {
        self.stale_answers
    }

    /// The next message of its owner is wanted.
    pub(super) fn unreport(&mut self, key: &Key) {
        self.table.unreport(key);
    }

    pub(super) fn remove_owner(&mut self, owner: Owner) {
        self.table.remove_owner(owner);
    }

    pub(super) fn set_limit(&mut self, owner: Owner, limit: usize) {
        self.table.set_limit(owner, limit);
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
        match self.table.admit(now, key, owner, Place::at(mac)) {
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
            self.table.unreport(&key);
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
        if self.table.contest(now, &key) {
            // The next message says it again.
            let _ = raise(upcalls, told);
        }
        DropReason::BindingNotOwned
    }

    fn find(&mut self, context: Context<'_>, target: IpAddr) -> Asked {
        let key = (context.vlan, target);
        let Some(entry) = self.table.get(&key) else {
            return Asked::Unknown;
        };
        let (mac, owner) = (entry.value.mac, entry.owner);
        if mac == context.ethernet.source {
            return Asked::PassOn;
        }
        if owner == context.owner {
            return Asked::Nearby;
        }
        if let Some(place) = self.table.value_mut(&key) {
            place.answered_at = Some(context.now);
        }
        Asked::Known(mac)
    }
}

/// Whether this is the limited broadcast address (RFC 919 s.7).
fn is_broadcast(ip: IpAddr) -> bool {
    matches!(ip, IpAddr::V4(v4) if v4.is_broadcast())
}
