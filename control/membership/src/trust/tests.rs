use super::*;
use crate::key::PrivateKey;
use crate::signing::AuthorityKey;

const NOW: u64 = 1500;

fn fabric() -> FabricName {
    FabricName::new("home").unwrap()
}

fn authority() -> AuthorityKey {
    AuthorityKey::from_seed(&[1; 32])
}

fn private() -> PrivateKey {
    PrivateKey([2; 32])
}

fn node() -> PublicKey {
    PublicKey::from_private(&private())
}

fn trust() -> Trust {
    Trust {
        fabric: fabric(),
        authority: Some(authority().public_key()),
        members: BTreeSet::new(),
    }
}

fn certificate() -> Certificate {
    Certificate {
        public_key: node(),
        name: "certified".to_owned(),
        serial: 7,
        not_before: 1000,
        not_after: Some(2000),
        grants: Grants::default(),
    }
}

fn registration(certificate: Option<&Certificate>) -> Registration {
    let signed = certificate.map(|it| it.sign(&fabric(), &authority()).unwrap());
    Registration {
        public_key: node(),
        sequence: 1,
        endpoints: Vec::new(),
        lanes: 1,
        max_frame: 1514,
        vlans: None,
        certificate: signed.map(|signed| signed.octets().to_vec()),
        expires: 1600,
        name: "self-named".to_owned(),
    }
}

fn revoked(serial: u64) -> Signed<Revocation> {
    let revocation = Revocation {
        public_key: node(),
        serial,
        issued_at: 1400,
        reason: String::new(),
    };
    revocation.sign(&fabric(), &authority()).unwrap()
}

/// Why a registration with this certificate is refused at [`NOW`], nothing being revoked.
fn refusal(trust: &Trust, registration: &Registration) -> Option<Refusal> {
    let octets = registration.sign(&fabric(), &private()).unwrap();
    let admitted = trust.admit(octets.octets(), &Revocations::new(), NOW);
    admitted.err()
}

#[test]
fn a_certified_node_is_admitted_with_the_name_and_grants_of_its_certificate() {
    let octets = registration(Some(&certificate()))
        .sign(&fabric(), &private())
        .unwrap();
    let member = trust()
        .admit(octets.octets(), &Revocations::new(), NOW)
        .unwrap();
    assert_eq!(member.registration, octets);
    assert_eq!(member.certificate.as_deref(), Some(&certificate()));
    assert_eq!(
        (member.name(), member.grants()),
        ("certified", Some(&Grants::default()))
    );
}

#[test]
fn a_listed_node_is_admitted_without_limits_whatever_it_shows() {
    let mut trust = trust();
    trust.members.insert(node());
    let mut expired = certificate();
    expired.not_after = Some(1100);
    for certificate in [None, Some(&expired), Some(&certificate())] {
        let octets = registration(certificate)
            .sign(&fabric(), &private())
            .unwrap();
        let member = trust
            .admit(octets.octets(), &Revocations::new(), NOW)
            .unwrap();
        assert_eq!((member.name(), member.grants()), ("self-named", None));
        assert_eq!(member.certificate, None);
    }
}

#[test]
fn each_reason_to_refuse_has_its_name() {
    let trust = trust();
    let with = |change: fn(&mut Certificate)| {
        let mut certificate = certificate();
        change(&mut certificate);
        refusal(&trust, &registration(Some(&certificate)))
    };
    assert_eq!(with(|_| {}), None);
    assert_eq!(
        with(|it| it.public_key = PublicKey([9; 32])),
        Some(Refusal::OtherKey)
    );
    assert_eq!(
        with(|it| it.not_before = 1501),
        Some(Refusal::NotYetValid { not_before: 1501 })
    );
    assert_eq!(
        with(|it| it.not_after = Some(1499)),
        Some(Refusal::CertificateExpired { not_after: 1499 })
    );
    assert_eq!(
        refusal(&trust, &registration(None)),
        Some(Refusal::NoCertificate)
    );

    let mut late = registration(Some(&certificate()));
    late.expires = 1499;
    assert_eq!(
        refusal(&trust, &late),
        Some(Refusal::RegistrationExpired { expires: 1499 })
    );

    let mut alone = trust.clone();
    alone.authority = None;
    assert_eq!(
        refusal(&alone, &registration(Some(&certificate()))),
        Some(Refusal::NotListed)
    );

    let mut other = trust.clone();
    other.authority = Some(AuthorityKey::from_seed(&[3; 32]).public_key());
    let bad = RecordError::BadSignature(crate::Kind::Certificate);
    assert_eq!(
        refusal(&other, &registration(Some(&certificate()))),
        Some(Refusal::Certificate(bad))
    );

    let elsewhere = FabricName::new("elsewhere").unwrap();
    let foreign = certificate().sign(&elsewhere, &authority()).unwrap();
    let mut registration = registration(None);
    registration.certificate = Some(foreign.octets().to_vec());
    assert_eq!(
        refusal(&trust, &registration),
        Some(Refusal::Certificate(bad))
    );
    let octets = registration.sign(&elsewhere, &private()).unwrap();
    let bad = RecordError::BadSignature(crate::Kind::Registration);
    assert_eq!(
        trust.admit(octets.octets(), &Revocations::new(), NOW),
        Err(Refusal::Registration(bad))
    );
}

#[test]
fn a_revocation_voids_all_serials_up_to_its_own_and_no_later_one() {
    let octets = registration(Some(&certificate()))
        .sign(&fabric(), &private())
        .unwrap();
    let admit = |serial| {
        let mut revocations = Revocations::new();
        revocations.insert(revoked(serial)).unwrap();
        trust().admit(octets.octets(), &revocations, NOW).err()
    };
    assert_eq!(admit(6), None);
    let refusal = |revoked| Some(Refusal::Revoked { serial: 7, revoked });
    assert_eq!(admit(7), refusal(7));
    assert_eq!(admit(u64::MAX), refusal(u64::MAX));
}

#[test]
fn of_a_keys_revocations_the_one_with_the_highest_serial_is_kept() {
    let mut revocations = Revocations::new();
    let inserted = [5, 7, 6, 7].map(|serial| revocations.insert(revoked(serial)));
    assert_eq!(inserted, [Ok(true), Ok(true), Ok(false), Ok(false)]);
    assert_eq!(revocations.serial(&node()), Some(7));
    assert_eq!(revocations.serial(&PublicKey([9; 32])), None);
    assert!(revocations.iter().eq([&revoked(7)]));
}

#[test]
fn no_revocation_makes_room_for_another() {
    let mut revocations = Revocations::new();
    let kept = revoked(7);
    for n in 0..MAX_REVOCATIONS {
        let mut key = [1; 32];
        key[..8].copy_from_slice(&(n as u64).to_le_bytes());
        revocations.0.insert(PublicKey(key), kept.clone());
    }
    assert_eq!(revocations.insert(revoked(8)), Err(RevocationsFull));
    revocations.0.pop_first();
    assert_eq!(revocations.insert(revoked(8)), Ok(true));
    assert_eq!(
        revocations.insert(revoked(9)),
        Ok(true),
        "of a key that is known"
    );
}

#[test]
fn refusals_say_what_is_wrong_in_one_line() {
    let revoked = Refusal::Revoked {
        serial: 7,
        revoked: 9,
    };
    assert_eq!(
        revoked.to_string(),
        "its certificate has serial 7, and all up to 9 are revoked"
    );
    let bad = Refusal::Certificate(RecordError::BadSignature(crate::Kind::Certificate));
    assert_eq!(
        bad.to_string(),
        "its certificate is refused: the certificate's signature does not verify: another signer, \
         another fabric, or changed"
    );
}
