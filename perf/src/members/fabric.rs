//! A fabric made up for one run: its authority, its members, and what they sign.

use std::net::{IpAddr, Ipv4Addr};

use omni_control::Random as _;
use omni_engine::clock;
use omni_engine::random::SystemRandom;
use omni_membership::{
    AuthorityKey, AuthorityPublicKey, Binding, Certificate, FabricName, Grants, PrivateKey,
    PublicKey, RecordError, Registration,
};
use omni_nucleus::agent::AgentConfig;
use omni_wire::MacAddr;

use crate::Failure;

/// How long records are good for, in seconds: longer than any run.
const LIFETIME: u64 = 24 * 3600;

/// The fabric.
pub(super) struct Fabric {
    pub(super) name: FabricName,
    authority: AuthorityKey,
    /// Most of what keys of members are made of.
    seed: [u8; 28],
}

/// One of its members.
#[derive(Clone)]
pub(super) struct Member {
    pub(super) fabric: FabricName,
    authority: AuthorityPublicKey,
    pub(super) name: String,
    pub(super) private: PrivateKey,
    pub(super) public: PublicKey,
    pub(super) certificate: Vec<u8>,
    /// The address that it speaks from: one of its own, on loopback.
    pub(super) source: Ipv4Addr,
}

impl Fabric {
    /// A fabric that nobody else has.
    ///
    /// # Errors
    /// None in practice: the name is in its range.
    pub(super) fn random() -> Result<Self, Failure> {
        let mut seed = [0; 28];
        SystemRandom.fill(&mut seed);
        let [a, b, c, d, ..] = seed;
        Self::of(&format!("perf-{a:02x}{b:02x}{c:02x}{d:02x}"), seed)
    }

    /// The same fabric for each process that asks for it.
    ///
    /// # Errors
    /// None in practice: the name is in its range.
    pub(super) fn fixed() -> Result<Self, Failure> {
        Self::of("perf-scale", [0x5a; 28])
    }

    fn of(name: &str, seed: [u8; 28]) -> Result<Self, Failure> {
        let mut authority = [0; 32];
        authority[..28].copy_from_slice(&seed);
        authority[28..].fill(0xff);
        Ok(Self {
            name: FabricName::new(name)?,
            authority: AuthorityKey::from_seed(&authority),
            seed,
        })
    }

    pub(super) fn authority(&self) -> AuthorityPublicKey {
        self.authority.public_key()
    }

    /// The private key of a number, which is below 2^32 - 1.
    pub(super) fn key(&self, number: u32) -> PrivateKey {
        // Bits of the first octet and of the last one do not count (RFC 7748 s.5).
        let mut key = [0; 32];
        key[1..5].copy_from_slice(&number.to_be_bytes());
        key[5..31].copy_from_slice(&self.seed[..26]);
        PrivateKey(key)
    }

    /// A member that may use everything.
    ///
    /// # Errors
    /// When its certificate is out of range.
    pub(super) fn member(&self, number: u32) -> Result<Member, RecordError> {
        self.member_with(number, Grants::default())
    }

    /// A member with these grants.
    ///
    /// # Errors
    /// When its certificate is out of range.
    pub(super) fn member_with(&self, number: u32, grants: Grants) -> Result<Member, RecordError> {
        let private = self.key(number);
        let public = PublicKey::from_private(&private);
        let name = format!("node-{number}");
        let certificate = Certificate {
            public_key: public,
            name: name.clone(),
            serial: 1,
            not_before: seconds().saturating_sub(60),
            not_after: Some(seconds() + LIFETIME),
            grants,
        };
        let certificate = certificate.sign(&self.name, &self.authority)?;
        Ok(Member {
            fabric: self.name.clone(),
            authority: self.authority(),
            name,
            private,
            public,
            certificate: certificate.octets().to_vec(),
            source: source(number),
        })
    }
}

impl Member {
    /// What its agent is made from, with one Nucleus.
    pub(super) fn agent(&self) -> AgentConfig {
        AgentConfig {
            fabric: self.fabric.clone(),
            authority: Some(self.authority),
            known: Vec::new(),
            private_key: self.private.clone(),
            name: self.name.clone(),
            certificate: Some(self.certificate.clone()),
            lanes: 4,
            max_frame: 1440,
            vlans: None,
            nuclei: 1,
        }
    }

    /// Its registration of a sequence, signed.
    ///
    /// # Errors
    /// When it is out of range.
    pub(super) fn registration(&self, sequence: u64) -> Result<Vec<u8>, RecordError> {
        let endpoint = |kind| omni_membership::Endpoint {
            address: (self.source, 51_820).into(),
            kind,
        };
        let registration = Registration {
            public_key: self.public,
            sequence,
            endpoints: vec![endpoint(omni_membership::EndpointKind::Local)],
            lanes: 4,
            max_frame: 1440,
            vlans: None,
            certificate: Some(self.certificate.clone()),
            expires: seconds() + LIFETIME,
            name: self.name.clone(),
        };
        let signed = registration.sign(&self.fabric, &self.private)?;
        Ok(signed.octets().to_vec())
    }

    /// Its binding of an address, or the end of that, signed.
    ///
    /// # Errors
    /// When it is out of range.
    pub(super) fn binding(
        &self,
        ip: IpAddr,
        sequence: u64,
        withdrawn: bool,
    ) -> Result<Vec<u8>, RecordError> {
        let binding = Binding {
            public_key: self.public,
            vlan: VLAN,
            mac: mac_of(ip),
            ip: Some(ip),
            sequence,
            expires: seconds() + LIFETIME,
            withdrawn,
            release_to: None,
        };
        let signed = binding.sign(&self.fabric, &self.private)?;
        Ok(signed.octets().to_vec())
    }
}

/// The VLAN of all addresses.
pub(super) const VLAN: u16 = 7;

/// The address of a number, below 2^24.
pub(super) fn ip(number: u32) -> IpAddr {
    Ipv4Addr::from_bits(0x0a00_0000 + number % (1 << 24)).into()
}

/// The MAC address of the machine that has an IP address. It takes it along when it moves.
pub(super) fn mac_of(ip: IpAddr) -> MacAddr {
    let octets = match ip {
        IpAddr::V4(ip) => ip.octets(),
        IpAddr::V6(ip) => {
            let [.., a, b, c, d] = ip.octets();
            [a, b, c, d]
        }
    };
    let [a, b, c, d] = octets;
    MacAddr([2, 0, a, b, c, d])
}

/// A loopback address of a number's own: a Nucleus counts connections by source.
pub(super) fn source(number: u32) -> Ipv4Addr {
    Ipv4Addr::from_bits(0x7f01_0000 + number % 0x00f0_0000)
}

/// Seconds since 1970.
pub(super) fn seconds() -> u64 {
    clock::now().wall.0 / 1_000_000_000
}

/// Milliseconds since 1970.
pub(super) fn milliseconds() -> u64 {
    clock::now().wall.0 / 1_000_000
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_number_has_a_key_an_address_and_a_source_of_its_own() {
        let fabric = Fabric::random().expect("a fabric");
        let numbers: Vec<u32> = (0..600).chain([10_000, 20_000, 60_000]).collect();
        let keys = numbers
            .iter()
            .map(|&it| PublicKey::from_private(&fabric.key(it)));
        assert_eq!(keys.collect::<BTreeSet<_>>().len(), numbers.len());
        let addresses = numbers.iter().map(|&it| (ip(it), source(it)));
        assert_eq!(addresses.collect::<BTreeSet<_>>().len(), numbers.len());
    }

    #[test]
    fn members_are_admitted_by_their_certificates() {
        let fabric = Fabric::random().expect("a fabric");
        let trust = omni_membership::Trust {
            fabric: fabric.name.clone(),
            authority: Some(fabric.authority()),
            members: BTreeSet::new(),
        };
        let revocations = omni_membership::Revocations::new();
        let member = fabric.member(3).expect("a member");
        let registration = member.registration(7).expect("a registration");
        assert!(trust.admit(&registration, &revocations, seconds()).is_ok());
        let stranger = Fabric::random().and_then(|it| Ok(it.member(3)?));
        let registration = stranger.expect("one").registration(7).expect("one as well");
        assert!(trust.admit(&registration, &revocations, seconds()).is_err());
    }
}
