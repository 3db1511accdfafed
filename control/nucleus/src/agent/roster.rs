//! What others say of themselves: members, what was revoked, and addresses.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::IpAddr;
use std::time::Duration;

use omni_membership::{
    AuthorityPublicKey, Binding, EndpointKind, FabricName, Member, PublicKey, Registration,
    Revocation, Revocations, Signed, Trust,
};
use omni_wire::{MacAddr, Now};

use super::{AgentEvent, Bound, MemberView, milliseconds, seconds};

/// The most members.
const MEMBERS_MAX: usize = 65_535;
/// The most addresses of one member, and of all.
const ADDRESSES_MAX: (usize, usize) = (4096, 1 << 20);
/// A sequence this far ahead of our clock, in milliseconds, is not believed: nobody could ever
/// say anything newer.
const SEQUENCE_AHEAD: u64 = 10 * 60 * 1000;
/// Records that expire in one call.
const EXPIRED_MAX: usize = 1024;

/// What a binding is about.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub(super) enum Address {
    /// An IP address in a VLAN.
    Ip(u16, IpAddr),
    /// A MAC address in a VLAN.
    Mac(u16, MacAddr),
}

impl Address {
    pub(super) fn of(binding: &Binding) -> Self {
        match binding.ip {
            Some(ip) => Self::Ip(binding.vlan, ip),
            None => Self::Mac(binding.vlan, binding.mac),
        }
    }

    /// VLAN, and IP address if it is one.
    pub(super) const fn parts(self) -> (u16, Option<IpAddr>) {
        match self {
            Self::Ip(vlan, ip) => (vlan, Some(ip)),
            Self::Mac(vlan, _) => (vlan, None),
        }
    }
}

/// What became of a record.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Taken {
    /// It is news.
    New,
    /// It is news of this address, with this sequence.
    Address(Address, u64),
    /// It is not newer than what is known.
    Known,
    /// It is our own, with this sequence.
    Own(u64),
    /// It is not to be believed.
    Refused,
    /// There is no room for it.
    Full,
}

/// Everybody else.
#[derive(Debug)]
pub(super) struct Roster {
    trust: Trust,
    own: PublicKey,
    members: BTreeMap<PublicKey, Member>,
    revocations: Revocations,
    addresses: BTreeMap<Address, Signed<Binding>>,
    counts: BTreeMap<PublicKey, usize>,
    /// Addresses by when they expire, in seconds since 1970.
    expiring: BTreeSet<(u64, Address)>,
    /// The first member whose turn it is to be looked at.
    looked_at: Option<PublicKey>,
}

impl Roster {
    pub(super) fn new(
        fabric: FabricName,
        authority: Option<AuthorityPublicKey>,
        known: Vec<PublicKey>,
        own: PublicKey,
    ) -> Self {
        Self {
            trust: Trust {
                fabric,
                authority,
                members: known.into_iter().collect(),
            },
            own,
            members: BTreeMap::new(),
            revocations: Revocations::new(),
            addresses: BTreeMap::new(),
            counts: BTreeMap::new(),
            expiring: BTreeSet::new(),
            looked_at: None,
        }
    }

    pub(super) fn is_member(&self, public_key: &PublicKey) -> bool {
        self.members.contains_key(public_key)
    }

    pub(super) fn take_registration(
        &mut self,
        now: Now,
        octets: &[u8],
        events: &mut VecDeque<AgentEvent>,
    ) -> Taken {
        // What is known already need not be verified again.
        let Ok(said) = Registration::unverified(octets) else {
            return Taken::Refused;
        };
        let known = self.members.get(&said.public_key);
        if known.is_some_and(|known| said.sequence <= known.registration.sequence) {
            return Taken::Known;
        }
        if said.sequence > milliseconds(now) + SEQUENCE_AHEAD {
            return Taken::Refused;
        }
        if said.public_key == self.own {
            let ours = Registration::verify(octets, &self.trust.fabric);
            return ours.map_or(Taken::Refused, |ours| Taken::Own(ours.sequence));
        }
        let Ok(member) = self.trust.admit(octets, &self.revocations, seconds(now)) else {
            return Taken::Refused;
        };
        if known.is_none() && self.members.len() >= MEMBERS_MAX {
            return Taken::Full;
        }
        let grants_changed = known.is_some_and(|known| known.grants() != member.grants());
        let view = view(&member);
        self.members.insert(view.public_key, member);
        if grants_changed {
            self.trim(&view.public_key, events);
        }
        events.push_back(AgentEvent::Member(view));
        Taken::New
    }

    pub(super) fn take_revocation(
        &mut self,
        octets: &[u8],
        events: &mut VecDeque<AgentEvent>,
    ) -> Taken {
        let Some(authority) = &self.trust.authority else {
            return Taken::Refused;
        };
        let Ok(revocation) = Revocation::verify(octets, &self.trust.fabric, authority) else {
            return Taken::Refused;
        };
        let (public_key, serial) = (revocation.public_key, revocation.serial);
        match self.revocations.insert(revocation) {
            Ok(true) => {}
            Ok(false) => return Taken::Known,
            Err(_) => return Taken::Full,
        }
        let certificate = self.members.get(&public_key);
        let certificate = certificate.and_then(|member| member.certificate.as_ref());
        if certificate.is_some_and(|certificate| certificate.serial <= serial) {
            self.remove(&public_key, true, events);
        }
        Taken::New
    }

    pub(super) fn take_binding(
        &mut self,
        now: Now,
        octets: &[u8],
        events: &mut VecDeque<AgentEvent>,
    ) -> Taken {
        let Ok(said) = Binding::unverified(octets) else {
            return Taken::Refused;
        };
        let address = Address::of(&said);
        let known = self.addresses.get(&address);
        if known.is_some_and(|known| said.sequence <= known.sequence) {
            return Taken::Known;
        }
        if said.sequence > milliseconds(now) + SEQUENCE_AHEAD || said.expires <= seconds(now) {
            return Taken::Refused;
        }
        let Ok(binding) = Binding::verify(octets, &self.trust.fabric) else {
            return Taken::Refused;
        };
        let owner = binding.public_key;
        if owner == self.own {
            return Taken::Own(binding.sequence);
        }
        if !self.may_have(&binding) {
            return Taken::Refused;
        }
        let before = known.map(|known| known.public_key);
        let count = self.counts.get(&owner).copied().unwrap_or(0);
        let (own_max, all_max) = ADDRESSES_MAX;
        let is_new = before != Some(owner);
        if is_new && (count >= own_max || before.is_none() && self.addresses.len() >= all_max) {
            return Taken::Full;
        }
        self.forget(&address, events);
        if !binding.withdrawn {
            events.push_back(AgentEvent::Bound(bound(&binding, now)));
        }
        *self.counts.entry(owner).or_default() += 1;
        let sequence = binding.sequence;
        self.expiring.insert((binding.expires, address));
        self.addresses.insert(address, binding);
        Taken::Address(address, sequence)
    }

    fn may_have(&self, binding: &Binding) -> bool {
        let Binding { vlan, mac, ip, .. } = *binding;
        self.members
            .get(&binding.public_key)
            .is_some_and(|member| match member.grants() {
                Some(grants) => {
                    grants.allows_mac(vlan, mac)
                        && ip.is_none_or(|ip| grants.allows_address(vlan, ip))
                }
                None => true,
            })
    }

    /// Forgets an address. Who follows the events hears of it, unless somebody has it next.
    fn forget(&mut self, address: &Address, events: &mut VecDeque<AgentEvent>) {
        let Some(binding) = self.addresses.remove(address) else {
            return;
        };
        self.expiring.remove(&(binding.expires, *address));
        if let Some(count) = self.counts.get_mut(&binding.public_key) {
            *count -= 1;
            if *count == 0 {
                self.counts.remove(&binding.public_key);
            }
        }
        if !binding.withdrawn {
            events.push_back(AgentEvent::Unbound {
                vlan: binding.vlan,
                ip: binding.ip,
                mac: binding.mac,
                owner: binding.public_key,
            });
        }
    }

    fn remove(&mut self, public_key: &PublicKey, revoked: bool, events: &mut VecDeque<AgentEvent>) {
        self.members.remove(public_key);
        for address in self.of(public_key) {
            self.forget(&address, events);
        }
        events.push_back(AgentEvent::MemberGone {
            public_key: *public_key,
            revoked,
        });
    }

    /// Forgets what a member may not have any more.
    fn trim(&mut self, public_key: &PublicKey, events: &mut VecDeque<AgentEvent>) {
        for address in self.of(public_key) {
            let binding = self.addresses.get(&address);
            if !binding.is_some_and(|binding| self.may_have(binding)) {
                self.forget(&address, events);
            }
        }
    }

    fn of(&self, public_key: &PublicKey) -> Vec<Address> {
        if !self.counts.contains_key(public_key) {
            return Vec::new();
        }
        let all = self.addresses.iter();
        let its = all.filter(|(_, binding)| binding.public_key == *public_key);
        its.map(|(&address, _)| address).collect()
    }

    /// Forgets what expired. Says whether there may be more.
    pub(super) fn expire(&mut self, now: Now, events: &mut VecDeque<AgentEvent>) -> bool {
        let seconds = seconds(now);
        for _ in 0..EXPIRED_MAX {
            let Some(&(expires, address)) = self.expiring.first() else {
                break;
            };
            if expires >= seconds {
                break;
            }
            self.forget(&address, events);
        }
        self.expire_members(seconds, events);
        self.expiring
            .first()
            .is_some_and(|&(expires, _)| expires < seconds)
    }

    /// Looks at some members, in turn.
    fn expire_members(&mut self, seconds: u64, events: &mut VecDeque<AgentEvent>) {
        use std::ops::Bound::{Excluded, Unbounded};
        let from = self.looked_at.map_or(Unbounded, Excluded);
        let some: Vec<PublicKey> = self
            .members
            .range((from, Unbounded))
            .take(EXPIRED_MAX)
            .map(|(&public_key, _)| public_key)
            .collect();
        self.looked_at = some.last().copied().filter(|_| some.len() == EXPIRED_MAX);
        for public_key in some {
            let Some(member) = self.members.get(&public_key) else {
                continue;
            };
            let is_good = |certificate| {
                let checked = self.trust.check(certificate, &self.revocations, seconds);
                checked.is_ok()
            };
            let certified = member.certificate.as_ref().is_none_or(is_good);
            if !certified {
                self.remove(&public_key, true, events);
            } else if member.registration.expires < seconds {
                self.remove(&public_key, false, events);
            }
        }
    }

    pub(super) fn members(&self) -> impl Iterator<Item = MemberView> + '_ {
        self.members.values().map(view)
    }

    pub(super) fn bindings(&self, now: Now) -> impl Iterator<Item = Bound> + '_ {
        let held = self.addresses.values().filter(|binding| !binding.withdrawn);
        held.map(move |binding| bound(binding, now))
    }

    /// Everything as it came: registrations, bindings, revocations.
    pub(super) fn records(&self) -> [Vec<Vec<u8>>; 3] {
        let registrations = self.members.values().map(|m| m.registration.octets());
        let bindings = self.addresses.values().map(Signed::octets);
        let revocations = self.revocations.iter().map(Signed::octets);
        [
            registrations.map(<[u8]>::to_vec).collect(),
            bindings.map(<[u8]>::to_vec).collect(),
            revocations.map(<[u8]>::to_vec).collect(),
        ]
    }
}

fn bound(binding: &Binding, now: Now) -> Bound {
    let left = binding.expires.saturating_sub(seconds(now));
    Bound {
        vlan: binding.vlan,
        ip: binding.ip,
        mac: binding.mac,
        owner: binding.public_key,
        sequence: binding.sequence,
        expires: now.instant + Duration::from_secs(left),
    }
}

fn view(member: &Member) -> MemberView {
    let registration = &member.registration;
    let mut endpoints = registration.endpoints.clone();
    endpoints.sort_by_key(|endpoint| match endpoint.kind {
        EndpointKind::Configured => 0,
        EndpointKind::Reflexive => 1,
        EndpointKind::Local => 2,
    });
    MemberView {
        public_key: registration.public_key,
        name: member.name().to_owned(),
        endpoints: endpoints.iter().map(|endpoint| endpoint.address).collect(),
        grants: member.grants().cloned(),
        vlans: registration.vlans.clone(),
    }
}
