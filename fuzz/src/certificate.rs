//! Who is admitted: certificates, registrations and revocations that say anything, signed rightly,
//! against what admission means; and what is changed after it was signed.

use std::collections::BTreeSet;

use omni_membership::{
    AuthorityKey, Certificate, FabricName, Member, PrivateKey, PublicKey, Refusal, Registration,
    Revocation, Revocations, Trust,
};

use crate::membership::signed;

/// Seconds since 1970 of all that is decided here.
const NOW: u64 = 1_750_000_000;

/// Runs the target: an octet that chooses, the length of a certificate's body in two, that body,
/// and the body of a registration or a revocation.
pub fn run(octets: &[u8]) {
    let Some((&[choice, l0, l1], bodies)) = octets.split_first_chunk() else {
        return;
    };
    let len = usize::from(u16::from_be_bytes([l0, l1])).min(bodies.len());
    let (certificate, other) = bodies.split_at(len);
    let world = World::new();
    world.refuses(bodies);
    let Some(certificate) = world.certificate(choice, certificate) else {
        return;
    };
    let mut revocations = Revocations::new();
    if choice & 1 == 1
        && let Ok(value) = Revocation::unverified(&signed(other))
    {
        let signed = value.sign(&world.fabric, &world.authority);
        let signed = signed.expect("what reads can be signed");
        revocations.insert(signed).expect("room for one");
    }
    let Ok(mut registration) = Registration::unverified(&signed(other)) else {
        return;
    };
    registration.public_key = PublicKey::from_private(&world.private);
    registration.certificate = (choice & 2 == 0).then_some(certificate);
    let registration = registration.sign(&world.fabric, &world.private);
    // With a long certificate in it, it may be too long.
    let Ok(registration) = registration else {
        return;
    };
    let admitted = world.trust.admit(registration.octets(), &revocations, NOW);
    world.judge(&registration, &revocations, &admitted);
}

struct World {
    fabric: FabricName,
    authority: AuthorityKey,
    private: PrivateKey,
    trust: Trust,
}

impl World {
    fn new() -> Self {
        let fabric = FabricName::new("home").expect("a name");
        // Nothing that is kept beside the tests is signed by it.
        let authority = AuthorityKey::from_seed(&[0x5a; 32]);
        Self {
            trust: Trust {
                fabric: fabric.clone(),
                authority: Some(authority.public_key()),
                members: BTreeSet::new(),
            },
            fabric,
            authority,
            private: PrivateKey([2; 32]),
        }
    }

    /// What nobody signed is nobody's.
    fn refuses(&self, octets: &[u8]) {
        let authority = self.authority.public_key();
        for record in [octets.to_vec(), signed(octets)] {
            assert!(self.trust.admit(&record, &Revocations::new(), NOW).is_err());
            assert!(Certificate::verify(&record, &self.fabric, &authority).is_err());
            assert!(Revocation::verify(&record, &self.fabric, &authority).is_err());
        }
    }

    /// A certificate with this body, of the node or of whom the body names.
    fn certificate(&self, choice: u8, body: &[u8]) -> Option<Vec<u8>> {
        let mut value = Certificate::unverified(&signed(body)).ok()?;
        if choice & 4 == 0 {
            value.public_key = PublicKey::from_private(&self.private);
        }
        let signed = value.sign(&self.fabric, &self.authority);
        let signed = signed.expect("what reads can be signed");
        let verify = |octets: &[u8]| {
            let authority = self.authority.public_key();
            Certificate::verify(octets, &self.fabric, &authority)
        };
        assert_eq!(verify(signed.octets()).as_ref(), Ok(&signed));
        // With another octet somewhere it is no longer signed.
        let mut changed = signed.octets().to_vec();
        let at = usize::from(choice) * 7 % changed.len();
        changed[at] ^= 1 << (choice % 8);
        assert!(verify(&changed).is_err(), "octet {at}");
        Some(signed.octets().to_vec())
    }

    /// Whether the decision is the one that the rules give.
    fn judge(
        &self,
        registration: &Registration,
        revocations: &Revocations,
        admitted: &Result<Member, Refusal>,
    ) {
        let certificate = registration.certificate.as_ref().map(|octets| {
            let authority = self.authority.public_key();
            Certificate::verify(octets, &self.fabric, &authority).expect("it was signed here")
        });
        let is_good = certificate.is_some_and(|certificate| {
            let revoked = revocations.serial(&certificate.public_key);
            certificate.public_key == registration.public_key
                && revoked.is_none_or(|revoked| revoked < certificate.serial)
                && certificate.not_before <= NOW
                && certificate.not_after.is_none_or(|last| NOW <= last)
        });
        let expected = is_good && registration.expires >= NOW;
        assert_eq!(admitted.is_ok(), expected, "{admitted:?}");
    }
}
