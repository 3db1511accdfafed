//! What the node says of itself, and signs.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};

use omni_membership::{
    Binding, Endpoint, EndpointKind, FabricName, MAX_ENDPOINTS, PrivateKey, PublicKey, RecordError,
    Registration, Signed, VlanRanges,
};
use omni_wire::{MacAddr, Now};

use super::roster::Address;
use super::{AgentEvent, milliseconds, seconds};

/// A registration is good for so long, in seconds. It is long, as members outlive every Nucleus;
/// and renewed much more often.
const REGISTRATION_LIFETIME: u64 = 7 * 24 * 3600;
/// It is said anew after this time, in seconds.
const REGISTRATION_RENEWED: u64 = 24 * 3600;
/// A binding is good for so long, in seconds, and said anew in half the time.
const BINDING_LIFETIME: u64 = 3600;
/// The most addresses.
const BINDINGS_MAX: usize = 16 * 1024;

/// What hardly changes.
#[derive(Debug)]
pub(super) struct Profile {
    pub(super) name: String,
    pub(super) certificate: Option<Vec<u8>>,
    pub(super) lanes: u16,
    pub(super) max_frame: u16,
    pub(super) vlans: Option<VlanRanges>,
}

/// An address of a local host.
#[derive(Clone, Copy, Debug)]
struct Held {
    mac: MacAddr,
    sequence: u64,
    /// In seconds since 1970.
    expires: u64,
    withdrawn: bool,
}

/// What the node says of itself.
#[derive(Debug)]
pub(super) struct Own {
    fabric: FabricName,
    private: PrivateKey,
    public: PublicKey,
    profile: Profile,
    endpoints: Vec<Endpoint>,
    reflexive: Vec<SocketAddr>,
    /// The last that was used, or seen to be.
    sequence: u64,
    /// Of the registration, and when it was made, in seconds since 1970.
    registered: Option<(u64, u64)>,
    held: BTreeMap<Address, Held>,
}

impl Own {
    pub(super) fn new(
        fabric: FabricName,
        private: PrivateKey,
        profile: Profile,
    ) -> Result<Self, RecordError> {
        let own = Self {
            fabric,
            public: PublicKey::from_private(&private),
            private,
            profile,
            endpoints: Vec::new(),
            reflexive: Vec::new(),
            sequence: 0,
            registered: None,
            held: BTreeMap::new(),
        };
        own.sign_registration(0, 1).map(|_| own)
    }

    pub(super) const fn sequence(&self) -> u64 {
        self.sequence
    }

    /// Something that we signed once, perhaps in an earlier life with another clock.
    pub(super) fn observe(&mut self, sequence: u64) {
        if sequence > self.sequence {
            self.sequence = sequence;
            // What we say has to be newer.
            self.registered = None;
        }
    }

    fn next_sequence(&mut self, now: Now) -> u64 {
        self.sequence = milliseconds(now).max(self.sequence + 1);
        self.sequence
    }

    pub(super) fn set_endpoints(&mut self, now: Now, endpoints: impl Iterator<Item = Endpoint>) {
        let mut endpoints: Vec<Endpoint> = endpoints.collect();
        endpoints.sort_unstable_by_key(|endpoint| (endpoint.kind, endpoint.address));
        endpoints.dedup_by_key(|endpoint| endpoint.address);
        if endpoints != self.endpoints {
            self.endpoints = endpoints;
            self.say_anew(now);
        }
    }

    pub(super) fn set_reflexive(&mut self, now: Now, seen: impl Iterator<Item = SocketAddr>) {
        let mut seen: Vec<SocketAddr> = seen.collect();
        seen.sort_unstable();
        seen.dedup();
        if seen != self.reflexive {
            self.reflexive = seen;
            self.say_anew(now);
        }
    }

    fn say_anew(&mut self, now: Now) {
        let sequence = self.next_sequence(now);
        self.registered = Some((sequence, seconds(now)));
    }

    /// Says again what was said long ago.
    pub(super) fn renew(&mut self, now: Now) {
        let is_fresh = self
            .registered
            .is_some_and(|(_, at)| seconds(now).saturating_sub(at) < REGISTRATION_RENEWED);
        if !is_fresh {
            self.say_anew(now);
        }
    }

    /// The sequence of the registration that holds; `None` before the first [`Own::renew`].
    pub(super) fn registration_sequence(&self) -> Option<u64> {
        self.registered.map(|(sequence, _)| sequence)
    }

    /// The registration, signed. `None` when there is none yet.
    pub(super) fn registration(&self) -> Option<(u64, Vec<u8>)> {
        let (sequence, at) = self.registered?;
        let signed = self.sign_registration(sequence, at + REGISTRATION_LIFETIME);
        Some((sequence, signed.ok()?.octets().to_vec()))
    }

    fn sign_registration(
        &self,
        sequence: u64,
        expires: u64,
    ) -> Result<Signed<Registration>, RecordError> {
        let mut endpoints = self.endpoints.clone();
        for &address in &self.reflexive {
            if endpoints.iter().all(|known| known.address != address) {
                let kind = EndpointKind::Reflexive;
                endpoints.insert(0, Endpoint { address, kind });
            }
        }
        endpoints.truncate(MAX_ENDPOINTS);
        let Profile {
            name,
            certificate,
            lanes,
            max_frame,
            vlans,
        } = &self.profile;
        let registration = Registration {
            public_key: self.public,
            sequence,
            endpoints,
            lanes: *lanes,
            max_frame: *max_frame,
            vlans: vlans.clone(),
            certificate: certificate.clone(),
            expires,
            name: name.clone(),
        };
        registration.sign(&self.fabric, &self.private)
    }

    /// Takes in which addresses local hosts have. Says what changed.
    pub(super) fn set_bindings(
        &mut self,
        now: Now,
        bindings: impl IntoIterator<Item = (u16, Option<IpAddr>, MacAddr)>,
    ) -> Vec<Address> {
        let mut wanted: BTreeMap<Address, MacAddr> = BTreeMap::new();
        for (vlan, ip, mac) in bindings.into_iter().take(BINDINGS_MAX) {
            let address = match ip {
                Some(ip) => Address::Ip(vlan, ip),
                None => Address::Mac(vlan, mac),
            };
            wanted.insert(address, mac);
        }
        let mut changed = Vec::new();
        let gone: Vec<Address> = self
            .held
            .iter()
            .filter(|(address, held)| !held.withdrawn && !wanted.contains_key(address))
            .map(|(&address, _)| address)
            .collect();
        for address in gone {
            let mac = self.held.get(&address).map(|held| held.mac);
            if let Some(mac) = mac {
                self.hold(now, address, mac, true);
                changed.push(address);
            }
        }
        for (address, mac) in wanted {
            let known = self.held.get(&address);
            let is_same = known.is_some_and(|held| held.mac == mac && !held.withdrawn);
            if !is_same {
                self.hold(now, address, mac, false);
                changed.push(address);
            }
        }
        changed
    }

    fn hold(&mut self, now: Now, address: Address, mac: MacAddr, withdrawn: bool) {
        let held = Held {
            mac,
            sequence: self.next_sequence(now),
            expires: seconds(now) + BINDING_LIFETIME,
            withdrawn,
        };
        self.held.insert(address, held);
    }

    /// Somebody else said something of an address with this sequence. What we say of it holds only
    /// with a greater one.
    pub(super) fn outdo(&mut self, now: Now, address: &Address, sequence: u64) {
        let Some(held) = self.held.get(address).copied() else {
            return;
        };
        if !held.withdrawn && held.sequence <= sequence {
            self.sequence = self.sequence.max(sequence);
            self.hold(now, *address, held.mac, false);
        }
    }

    /// Says again what is half through its time, and forgets what was withdrawn long ago. Says
    /// what changed.
    pub(super) fn expire(&mut self, now: Now) -> Vec<Address> {
        let at = seconds(now);
        self.held
            .retain(|_, held| !held.withdrawn || held.expires > at);
        let old: Vec<(Address, MacAddr)> = self
            .held
            .iter()
            .filter(|(_, held)| !held.withdrawn && held.expires < at + BINDING_LIFETIME / 2)
            .map(|(&address, held)| (address, held.mac))
            .collect();
        for &(address, mac) in &old {
            self.hold(now, address, mac, false);
        }
        old.into_iter().map(|(address, _)| address).collect()
    }

    pub(super) fn addresses(&self) -> impl Iterator<Item = Address> + '_ {
        self.held.keys().copied()
    }

    /// An address that a Nucleus keeps for us, unless we have withdrawn it.
    pub(super) fn held(&self, address: &Address) -> Option<AgentEvent> {
        let held = self.held.get(address).filter(|held| !held.withdrawn)?;
        let (vlan, ip) = address.parts();
        let mac = held.mac;
        Some(AgentEvent::Kept { vlan, ip, mac })
    }

    /// The sequence of what is said of an address.
    pub(super) fn binding_sequence(&self, address: &Address) -> Option<u64> {
        self.held.get(address).map(|held| held.sequence)
    }

    /// What is said of an address, signed.
    pub(super) fn binding(&self, address: &Address) -> Option<(u64, Vec<u8>)> {
        let held = self.held.get(address)?;
        let (vlan, ip) = address.parts();
        let binding = Binding {
            public_key: self.public,
            vlan,
            mac: held.mac,
            ip,
            sequence: held.sequence,
            expires: held.expires,
            withdrawn: held.withdrawn,
            release_to: None,
        };
        let signed = binding.sign(&self.fabric, &self.private).ok()?;
        Some((held.sequence, signed.octets().to_vec()))
    }
}
