//! A node's agent and a Nucleus that tells it anything: octets, records of members and strangers in
//! any order, caches. Nobody is believed to be a member, or to have an address, but by what was
//! signed.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::Duration;

use arbitrary::Unstructured;
use omni_membership::{
    AuthorityKey, Binding, Certificate, FabricName, Grants, PrivateKey, PublicKey, Registration,
    Revocation, VlanRanges,
};
use omni_nucleus::agent::{Agent, AgentConfig, AgentEvent};
use omni_nucleus::protocol::{Called, Changes, FromNucleus, Welcome, from_nucleus};
use omni_wire::{Instant, MacAddr, Now, WallTime};
use prost::Message;

/// Steps of one run.
const STEPS_MAX: usize = 24;
/// Seconds since 1970 at the start.
const START: u64 = 1_750_000_000;

/// Who there is: a peer of the configuration, a node with a certificate, a stranger, ourselves.
const KEYS: [u8; 4] = [3, 4, 5, 2];
const KNOWN: usize = 0;
const CERTIFIED: usize = 1;

/// Serials of certificates go up to here.
const SERIAL_MAX: u64 = 4;

/// An address as it is told: VLAN, IP address, MAC address, owner.
type Address = (u16, Option<IpAddr>, MacAddr, PublicKey);

/// Runs the target: a sequence of what a Nucleus says.
pub fn run(octets: &[u8]) {
    let mut choices = Unstructured::new(octets);
    let mut world = World::new();
    for _ in 0..STEPS_MAX {
        if choices.is_empty() || world.step(&mut choices).is_err() {
            break;
        }
        world.check();
    }
    world.restart();
}

struct World {
    agent: Agent,
    now: Now,
    fabric: FabricName,
    authority: AuthorityKey,
    /// What the events said.
    members: BTreeSet<PublicKey>,
    addresses: BTreeMap<(u16, Option<IpAddr>, MacAddr), PublicKey>,
    /// The highest serial that was taken back.
    revoked: Option<u64>,
}

fn private(who: usize) -> PrivateKey {
    PrivateKey([KEYS[who]; 32])
}

fn public(who: usize) -> PublicKey {
    PublicKey::from_private(&private(who))
}

fn agent(fabric: &FabricName, authority: &AuthorityKey) -> Agent {
    let config = AgentConfig {
        fabric: fabric.clone(),
        authority: Some(authority.public_key()),
        known: vec![public(KNOWN)],
        private_key: private(3),
        name: "node".to_owned(),
        certificate: None,
        lanes: 1,
        max_frame: 1440,
        vlans: None,
        nuclei: 1,
    };
    Agent::new(config).expect("all in range")
}

impl World {
    fn new() -> Self {
        let fabric = FabricName::new("home").expect("a name");
        let authority = AuthorityKey::from_seed(&[0x5a; 32]);
        let now = Now {
            instant: Instant(1_000_000_000_000),
            wall: WallTime(START * 1_000_000_000),
        };
        let mut agent = agent(&fabric, &authority);
        agent.connected(now, 0);
        Self {
            agent,
            now,
            fabric,
            authority,
            members: BTreeSet::new(),
            addresses: BTreeMap::new(),
            revoked: None,
        }
    }

    fn seconds(&self) -> u64 {
        self.now.wall.0 / 1_000_000_000
    }

    fn step(&mut self, choices: &mut Unstructured<'_>) -> arbitrary::Result<()> {
        match choices.int_in_range(0..=7)? {
            0..=3 => {
                let changes = self.changes(choices)?;
                self.hear(from_nucleus::What::Changes(changes));
            }
            4 => {
                let len = choices.int_in_range(0..=80_usize)?.min(choices.len());
                let octets = choices.bytes(len)?;
                self.agent.handle_message(self.now, 0, octets);
            }
            5 => {
                let who = choices.choose_index(KEYS.len())?;
                let public_key = public(who).0.to_vec();
                self.hear(from_nucleus::What::Called(Called { public_key }));
            }
            6 => {
                if choices.arbitrary()? {
                    self.agent.disconnected(0);
                    self.agent.connected(self.now, 0);
                }
                let mut welcome = Welcome::default();
                let len = choices.int_in_range(0..=20_usize)?.min(choices.len());
                // Whatever decodes.
                let _ = welcome.merge(choices.bytes(len)?);
                self.hear(from_nucleus::What::Welcome(welcome));
            }
            _ => {
                let span = Duration::from_secs(choices.arbitrary::<u16>()?.into());
                self.now = self.now.advanced(span);
                if self.agent.poll_timeout() <= self.now.instant {
                    self.agent.handle_timeout(self.now);
                }
            }
        }
        Ok(())
    }

    fn hear(&mut self, what: from_nucleus::What) {
        let octets = FromNucleus::from(what).encode_to_vec();
        self.agent.handle_message(self.now, 0, &octets);
    }

    fn changes(&mut self, choices: &mut Unstructured<'_>) -> arbitrary::Result<Changes> {
        let mut changes = Changes {
            incarnation: vec![choices.arbitrary()?; if choices.ratio(1, 8)? { 3 } else { 16 }],
            revision: choices.arbitrary::<u8>()?.into(),
            all: choices.arbitrary()?,
            ..Changes::default()
        };
        for _ in 0..choices.int_in_range(1..=3)? {
            match choices.int_in_range(0..=5)? {
                0 | 1 => changes.registrations.push(self.registration(choices)?),
                2..=4 => changes.bindings.push(self.binding(choices)?),
                _ => changes.revocations.push(self.revocation(choices)?),
            }
        }
        Ok(changes)
    }

    /// What a record is once a Nucleus had it in its hands.
    fn passed_on(octets: &[u8], choices: &mut Unstructured<'_>) -> arbitrary::Result<Vec<u8>> {
        let mut octets = octets.to_vec();
        if choices.ratio(1, 8)? {
            let at = choices.choose_index(octets.len())?;
            octets[at] ^= choices.int_in_range(1..=255)?;
        }
        Ok(octets)
    }

    fn registration(&self, choices: &mut Unstructured<'_>) -> arbitrary::Result<Vec<u8>> {
        let who = choices.choose_index(KEYS.len())?;
        let now = self.seconds();
        let certificate = Certificate {
            public_key: public(CERTIFIED),
            name: "certified".to_owned(),
            serial: choices.int_in_range(1..=SERIAL_MAX)?,
            not_before: 0,
            not_after: choices.arbitrary::<bool>()?.then_some(now + 1000),
            grants: Grants {
                vlans: VlanRanges::new([0..=0]),
                ..Grants::default()
            },
        };
        let certificate = certificate
            .sign(&self.fabric, &self.authority)
            .expect("in range");
        let value = Registration {
            public_key: public(who),
            sequence: choices.arbitrary::<u8>()?.into(),
            endpoints: Vec::new(),
            lanes: 1,
            max_frame: 1440,
            vlans: None,
            // A stranger shows somebody else's.
            certificate: (who != KNOWN).then(|| certificate.octets().to_vec()),
            expires: now + u64::from(choices.arbitrary::<u16>()?),
            name: "node".to_owned(),
        };
        let signed = value.sign(&self.fabric, &private(who)).expect("in range");
        Self::passed_on(signed.octets(), choices)
    }

    fn binding(&self, choices: &mut Unstructured<'_>) -> arbitrary::Result<Vec<u8>> {
        let who = choices.choose_index(KEYS.len())?;
        let octet = choices.arbitrary::<u8>()?;
        let release_to = choices.ratio(1, 8)?.then(|| public(CERTIFIED));
        let value = Binding {
            public_key: public(who),
            vlan: u16::from(octet >> 7),
            mac: MacAddr([2, 0, 0, 0, 0, octet & 7]),
            ip: (octet & 0x40 == 0).then(|| IpAddr::from([10, 0, 0, octet >> 3 & 7])),
            sequence: choices.arbitrary::<u8>()?.into(),
            expires: self.seconds() + u64::from(choices.arbitrary::<u16>()?),
            withdrawn: release_to.is_some() || choices.ratio(1, 4)?,
            release_to,
        };
        match value.sign(&self.fabric, &private(who)) {
            Ok(signed) => Self::passed_on(signed.octets(), choices),
            Err(_) => Ok(Vec::new()),
        }
    }

    fn revocation(&mut self, choices: &mut Unstructured<'_>) -> arbitrary::Result<Vec<u8>> {
        let value = Revocation {
            public_key: public(CERTIFIED),
            serial: choices.int_in_range(1..=SERIAL_MAX)?,
            issued_at: self.seconds(),
            reason: String::new(),
        };
        let signed = value.sign(&self.fabric, &self.authority).expect("in range");
        let octets = Self::passed_on(signed.octets(), choices)?;
        if octets == signed.octets() {
            self.revoked = self.revoked.max(Some(value.serial));
        }
        Ok(octets)
    }

    fn check(&mut self) {
        while self.agent.poll_send(self.now, 0).is_some() {}
        while let Some(event) = self.agent.poll_event() {
            self.follow(event);
        }
        let members: Vec<PublicKey> = self.agent.members().map(|it| it.public_key).collect();
        assert!(members.iter().eq(&self.members), "events tell all");
        let may_be = [public(KNOWN), public(CERTIFIED)];
        assert!(members.iter().all(|member| may_be.contains(member)));
        let is_void = self.revoked == Some(SERIAL_MAX);
        assert!(
            !is_void || !self.members.contains(&public(CERTIFIED)),
            "it was revoked"
        );
        let told: Vec<Address> = self
            .agent
            .bindings(self.now)
            .map(|it| (it.vlan, it.ip, it.mac, it.owner))
            .collect();
        for (vlan, ip, mac, owner) in told {
            assert!(members.contains(&owner), "an address of nobody");
            assert!(
                vlan == 0 || owner != public(CERTIFIED),
                "its certificate has VLAN 0 alone"
            );
            let heard = self.addresses.get(&(vlan, ip, mac));
            assert_eq!(heard, Some(&owner), "events tell all");
        }
    }

    fn follow(&mut self, event: AgentEvent) {
        match event {
            AgentEvent::Member(view) => {
                self.members.insert(view.public_key);
            }
            AgentEvent::MemberGone { public_key, .. } => {
                assert!(self.members.remove(&public_key), "gone, and never there");
            }
            AgentEvent::Bound(bound) => {
                self.addresses
                    .insert((bound.vlan, bound.ip, bound.mac), bound.owner);
            }
            AgentEvent::Unbound { vlan, ip, mac, .. } => {
                self.addresses.remove(&(vlan, ip, mac));
            }
            AgentEvent::Called(caller) => {
                assert!(self.agent.is_member(&caller), "a stranger calls");
            }
            AgentEvent::Kept { .. } => {}
        }
    }

    /// What was kept on disk gives the same.
    fn restart(&mut self) {
        let cache = self.agent.cache();
        let mut again = agent(&self.fabric, &self.authority);
        again.load(self.now, &cache).expect("it was written here");
        let members = |agent: &Agent| agent.members().collect::<Vec<_>>();
        assert_eq!(members(&again), members(&self.agent));
    }
}
