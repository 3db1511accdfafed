use core::net::{IpAddr, SocketAddr};

use omni_wire::MacAddr;
use proptest::prelude::*;

use super::*;
use crate::key::{PrivateKey, PublicKey};
use crate::signing::AuthorityKey;

mod format;
mod robustness;

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

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn certificate() -> Certificate {
    Certificate {
        public_key: node(),
        name: "alpha".to_owned(),
        serial: 7,
        not_before: 1000,
        not_after: Some(2000),
        grants: Grants {
            vlans: VlanRanges::new([0..=0, 20..=30]),
            macs: Some([MacAddr([2, 0, 0, 0, 0, 1]), MacAddr([2, 0, 0, 0, 0, 2])].into()),
            addresses: ["10.7.0.1/32", "2001:db8::/32"]
                .map(|text| {
                    let (address, len) = text.split_once('/').unwrap();
                    IpPrefix::new(ip(address), len.parse().unwrap()).unwrap()
                })
                .into_iter()
                .collect::<std::collections::BTreeSet<_>>()
                .into(),
        },
    }
}

fn revocation() -> Revocation {
    Revocation {
        public_key: node(),
        serial: 7,
        issued_at: 1500,
        reason: "lost in a train".to_owned(),
    }
}

fn registration() -> Registration {
    let endpoint = |text: &str, kind| Endpoint {
        address: text.parse().unwrap(),
        kind,
    };
    Registration {
        public_key: node(),
        sequence: 1_700_000_000_000,
        endpoints: vec![
            endpoint("192.0.2.1:51820", EndpointKind::Configured),
            endpoint("[2001:db8::1]:51820", EndpointKind::Local),
            endpoint("198.51.100.7:40000", EndpointKind::Reflexive),
        ],
        lanes: 4,
        max_frame: 1440,
        vlans: VlanRanges::new([0..=4094]),
        certificate: Some(
            certificate()
                .sign(&fabric(), &authority())
                .unwrap()
                .octets()
                .to_vec(),
        ),
        expires: 1600,
        name: "alpha".to_owned(),
    }
}

fn binding() -> Binding {
    Binding {
        public_key: node(),
        vlan: 20,
        mac: MacAddr([2, 0, 0, 0, 0, 1]),
        ip: Some(ip("10.7.0.1")),
        sequence: 3,
        expires: 1600,
        withdrawn: true,
        release_to: Some(PublicKey([9; 32])),
    }
}

/// A good record of every kind, as octets.
fn samples() -> [(Kind, Vec<u8>); 4] {
    let (fabric, authority, private) = (fabric(), authority(), private());
    let certificate = certificate().sign(&fabric, &authority).unwrap();
    let revocation = revocation().sign(&fabric, &authority).unwrap();
    let registration = registration().sign(&fabric, &private).unwrap();
    let binding = binding().sign(&fabric, &private).unwrap();
    [
        (Kind::Certificate, certificate.octets().to_vec()),
        (Kind::Revocation, revocation.octets().to_vec()),
        (Kind::Registration, registration.octets().to_vec()),
        (Kind::Binding, binding.octets().to_vec()),
    ]
}

/// Verifies octets as a kind; gives the octets that are passed on.
fn verify(kind: Kind, octets: &[u8], fabric: &FabricName) -> Result<Vec<u8>, RecordError> {
    let authority = authority().public_key();
    let octets = match kind {
        Kind::Certificate => Certificate::verify(octets, fabric, &authority)?.octets,
        Kind::Revocation => Revocation::verify(octets, fabric, &authority)?.octets,
        Kind::Registration => Registration::verify(octets, fabric)?.octets,
        Kind::Binding => Binding::verify(octets, fabric)?.octets,
    };
    Ok(octets)
}

/// Signs any body as a record of any kind.
fn signed(kind: Kind, body: Vec<u8>) -> Vec<u8> {
    let message = covered(kind.as_str(), &fabric(), &body);
    let signature = match kind {
        Kind::Certificate | Kind::Revocation => authority().sign(&message),
        Kind::Registration | Kind::Binding => private().sign(&message),
    };
    encode(body, &signature)
}

fn field_error<T: core::fmt::Debug>(result: Result<T, RecordError>) -> &'static str {
    match result {
        Err(RecordError::Field { field, .. }) => field,
        other => panic!("{other:?}"),
    }
}

#[test]
fn what_was_signed_reads_back_with_the_same_octets() {
    let (fabric, authority) = (fabric(), authority().public_key());
    let [certificate_, revocation_, registration_, binding_] = samples().map(|(_, octets)| octets);
    let read = Certificate::verify(&certificate_, &fabric, &authority).unwrap();
    assert_eq!((&*read, read.octets()), (&certificate(), &certificate_[..]));
    let read = Revocation::verify(&revocation_, &fabric, &authority).unwrap();
    assert_eq!((&*read, read.octets()), (&revocation(), &revocation_[..]));
    let read = Registration::verify(&registration_, &fabric).unwrap();
    assert_eq!(
        (&*read, read.octets()),
        (&registration(), &registration_[..])
    );
    let read = Binding::verify(&binding_, &fabric).unwrap();
    assert_eq!((&*read, read.octets()), (&binding(), &binding_[..]));
    assert_eq!(Certificate::unverified(&certificate_), Ok(certificate()));
    assert_eq!(Revocation::unverified(&revocation_), Ok(revocation()));
    assert_eq!(Registration::unverified(&registration_), Ok(registration()));
    assert_eq!(Binding::unverified(&binding_), Ok(binding()));
}

#[test]
fn a_record_is_good_in_its_own_fabric_only() {
    let others = ["homes", "hone", "h"].map(|name| FabricName::new(name).unwrap());
    for (kind, octets) in samples() {
        assert_eq!(verify(kind, &octets, &fabric()), Ok(octets.clone()));
        for other in &others {
            let refused = verify(kind, &octets, other);
            assert_eq!(refused, Err(RecordError::BadSignature(kind)));
        }
    }
}

#[test]
fn a_record_is_good_as_its_own_kind_only() {
    for (kind, octets) in samples() {
        for (other, _) in samples() {
            let verified = verify(other, &octets, &fabric());
            assert_eq!(verified.is_ok(), kind == other, "{kind} as {other}");
        }
    }
    // Without fields in the way it is the signature alone that tells kinds apart.
    let body = message::Binding {
        public_key: node().0.to_vec(),
        ..Default::default()
    };
    let octets = signed(Kind::Certificate, body.encode_to_vec());
    let opened = open::<Bare>(&octets, &fabric(), |_, message, signature| {
        authority().public_key().verify(message, signature)
    });
    assert_eq!(
        opened.err(),
        Some(RecordError::BadSignature(Kind::Revocation))
    );
}

/// A body of which every octet string of protobuf is good.
struct Bare;

impl Body for Bare {
    const KIND: Kind = Kind::Revocation;
    type Message = ();

    fn check((): ()) -> Result<Self, RecordError> {
        Ok(Self)
    }

    fn message(&self) {}
}

#[test]
fn a_record_is_good_by_its_own_signer_only() {
    let (fabric, stranger) = (fabric(), AuthorityKey::from_seed(&[8; 32]));
    let octets = certificate().sign(&fabric, &stranger).unwrap().octets;
    let refused = verify(Kind::Certificate, &octets, &fabric);
    assert_eq!(refused, Err(RecordError::BadSignature(Kind::Certificate)));
    let octets = revocation().sign(&fabric, &stranger).unwrap().octets;
    let refused = verify(Kind::Revocation, &octets, &fabric);
    assert_eq!(refused, Err(RecordError::BadSignature(Kind::Revocation)));

    let stranger = PrivateKey([8; 32]);
    let body = binding().message().encode_to_vec();
    let signature = stranger.sign(&covered("binding", &fabric, &body));
    let refused = verify(Kind::Binding, &encode(body, &signature), &fabric);
    assert_eq!(refused, Err(RecordError::BadSignature(Kind::Binding)));
    let refused = binding().sign(&fabric, &stranger);
    assert_eq!(refused, Err(RecordError::BadSignature(Kind::Binding)));
    let refused = registration().sign(&fabric, &stranger);
    assert_eq!(refused, Err(RecordError::BadSignature(Kind::Registration)));
}

#[test]
fn no_flipped_bit_goes_unnoticed() {
    for (kind, octets) in samples() {
        for bit in 0..octets.len() * 8 {
            let mut changed = octets.clone();
            changed[bit / 8] ^= 1 << (bit % 8);
            assert!(
                verify(kind, &changed, &fabric()).is_err(),
                "{kind}, bit {bit}"
            );
        }
        for len in 0..octets.len() {
            assert!(
                verify(kind, &octets[..len], &fabric()).is_err(),
                "{kind}, {len} octets"
            );
        }
    }
}

#[test]
fn unknown_fields_survive_being_passed_on() {
    for (kind, octets) in samples() {
        let mut body = message::Signed::decode(&octets[..]).unwrap().body;
        // Field 1000, a text, and field 1001, a group with a number in it.
        body.extend(b"\xc2\x3e\x05later\xcb\x3e\x08\x07\xcc\x3e");
        let octets = signed(kind, body);
        let passed_on = verify(kind, &octets, &fabric()).unwrap();
        assert_eq!(passed_on, octets);
        assert_eq!(verify(kind, &passed_on, &fabric()), Ok(octets));
    }
}

#[test]
fn what_is_around_a_body_is_not_passed_on() {
    for (kind, octets) in samples() {
        let padded = [&octets[..], b"\xc2\x3e\x05later"].concat();
        assert_eq!(verify(kind, &padded, &fabric()), Ok(octets));
    }
}

#[test]
fn the_bound_on_length_is_checked_before_anything_is_decoded() {
    let mut octets = vec![0xff; MAX_RECORD_LEN + 1];
    let too_long = |kind, max| {
        let len = MAX_RECORD_LEN + 1;
        Err(RecordError::TooLong { kind, len, max })
    };
    for (kind, max) in [
        (Kind::Certificate, MAX_CERTIFICATE_LEN),
        (Kind::Revocation, MAX_REVOCATION_LEN),
        (Kind::Registration, MAX_RECORD_LEN),
        (Kind::Binding, MAX_BINDING_LEN),
    ] {
        assert_eq!(verify(kind, &octets, &fabric()), too_long(kind, max));
    }
    octets.truncate(MAX_BINDING_LEN);
    let refused = verify(Kind::Binding, &octets, &fabric());
    assert_eq!(refused, Err(RecordError::Malformed(Kind::Binding)));
}

#[test]
fn the_largest_certificate_fits_into_the_largest_registration() {
    let every_second = || VlanRanges::new((0..1024).map(|n| 2 * n + 128..=2 * n + 128));
    let mut largest = certificate();
    largest.name = "x".repeat(64);
    largest.grants.vlans = None;
    largest.grants.macs = Some((0..1024).map(mac_number).collect());
    let v4 = |n: u32| IpPrefix::new(IpAddr::V4((0x0a00_0000 + n).into()), 32).unwrap();
    largest.grants.addresses = Some((0..1024).map(v4).collect());
    let signed = largest.sign(&fabric(), &authority()).unwrap();
    assert!(signed.octets().len() <= MAX_CERTIFICATE_LEN);

    let mut registration = registration();
    registration.vlans = every_second();
    registration.endpoints = vec![registration.endpoints[1]; MAX_ENDPOINTS];
    registration.name = "x".repeat(64);
    registration.certificate = Some(vec![0; MAX_CERTIFICATE_LEN]);
    assert!(registration.sign(&fabric(), &private()).is_ok());
    registration.certificate = Some(vec![0; MAX_RECORD_LEN]);
    let refused = registration.sign(&fabric(), &private()).map(|_| ());
    assert!(
        matches!(refused, Err(RecordError::TooLong { .. })),
        "{refused:?}"
    );

    let v6 = |n: u128| IpPrefix::new(IpAddr::V6(((0x2001 << 112) + n).into()), 128).unwrap();
    largest.grants.addresses = Some((0..1024).map(v6).collect());
    let refused = largest.sign(&fabric(), &authority()).map(|_| ());
    assert!(
        matches!(refused, Err(RecordError::TooLong { .. })),
        "{refused:?}"
    );
}

fn mac_number(n: u16) -> MacAddr {
    let [high, low] = n.to_be_bytes();
    MacAddr([2, 0, 0, 0, high, low])
}

/// What is wrong with a certificate after `change`, found when it is read.
fn wrong_certificate(change: impl FnOnce(&mut message::Certificate)) -> &'static str {
    let mut message = certificate().message();
    change(&mut message);
    let octets = signed(Kind::Certificate, message.encode_to_vec());
    field_error(verify(Kind::Certificate, &octets, &fabric()))
}

#[test]
fn every_field_of_a_certificate_is_checked() {
    type Change = fn(&mut message::Certificate);
    let cases: [(&str, Change); 18] = [
        ("public_key", |it| it.public_key.clear()),
        ("public_key", |it| it.public_key.push(0)),
        ("public_key", |it| it.public_key = vec![0; 32]),
        ("name", |it| it.name.clear()),
        ("name", |it| it.name = "x".repeat(65)),
        ("name", |it| it.name = "a\u{1b}[2J".to_owned()),
        ("not_after", |it| it.not_after = it.not_before - 1),
        ("vlans", |it| vlans(it, &[(4095, 4095)])),
        ("vlans", |it| vlans(it, &[(65536, 65537)])),
        ("vlans", |it| vlans(it, &[(2, 1)])),
        ("vlans", |it| vlans(it, &[(1, 5), (5, 6)])),
        ("vlans", |it| vlans(it, &[(0, 0); 1025])),
        ("macs", |it| macs(it, &[&[2; 5]])),
        ("macs", |it| macs(it, &[&[3; 6]])),
        ("macs", |it| macs(it, &[&[2; 6][..]; 1025])),
        ("addresses", |it| addresses(it, &[(&[10, 0, 0, 1], 24)])),
        ("addresses", |it| addresses(it, &[(&[10, 0, 0, 1], 33)])),
        ("addresses", |it| {
            addresses(it, &[(&[10, 0, 0, 1][..], 32); 1025])
        }),
    ];
    for (n, (field, change)) in cases.into_iter().enumerate() {
        assert_eq!(wrong_certificate(change), field, "case {n}");
    }
    let mapped = |it: &mut message::Certificate| {
        let octets: std::net::Ipv6Addr = "::ffff:10.0.0.1".parse().unwrap();
        addresses(it, &[(&octets.octets(), 128)]);
    };
    assert_eq!(wrong_certificate(mapped), "addresses");
}

fn vlans(message: &mut message::Certificate, ranges: &[(u32, u32)]) {
    let range = |&(first, last): &(u32, u32)| message::VlanRange { first, last };
    let ranges = ranges.iter().map(range).collect();
    message.vlans = Some(message::VlanList { ranges });
}

fn macs(message: &mut message::Certificate, macs: &[&[u8]]) {
    let macs = macs.iter().map(|mac| mac.to_vec()).collect();
    message.macs = Some(message::MacList { macs });
}

fn addresses(message: &mut message::Certificate, prefixes: &[(&[u8], u32)]) {
    let prefix = |&(address, length): &(&[u8], u32)| message::Prefix {
        address: address.to_vec(),
        length,
    };
    let prefixes = prefixes.iter().map(prefix).collect();
    message.addresses = Some(message::PrefixList { prefixes });
}

#[test]
fn what_would_be_refused_is_not_signed() {
    let mut wrong = certificate();
    wrong.not_after = Some(999);
    assert_eq!(
        field_error(wrong.sign(&fabric(), &authority())),
        "not_after"
    );
    let mut wrong = revocation();
    wrong.reason = "two\nlines".to_owned();
    assert_eq!(field_error(wrong.sign(&fabric(), &authority())), "reason");
    wrong.reason = "é".repeat(MAX_REASON + 1);
    assert_eq!(field_error(wrong.sign(&fabric(), &authority())), "reason");
    wrong.reason = "é".repeat(MAX_REASON);
    assert!(wrong.sign(&fabric(), &authority()).is_ok());
    let mut wrong = registration();
    wrong.endpoints = vec![wrong.endpoints[0]; MAX_ENDPOINTS + 1];
    assert_eq!(field_error(wrong.sign(&fabric(), &private())), "endpoints");
    let mut wrong = registration();
    wrong.lanes = 0;
    assert_eq!(field_error(wrong.sign(&fabric(), &private())), "lanes");
    wrong.lanes = 257;
    assert_eq!(field_error(wrong.sign(&fabric(), &private())), "lanes");
    for address in [
        "0.0.0.0:1",
        "224.0.0.1:1",
        "255.255.255.255:1",
        "[ff02::1]:1",
        "10.0.0.1:0",
    ] {
        let mut wrong = registration();
        wrong.endpoints[0].address = address.parse::<SocketAddr>().unwrap();
        assert_eq!(
            field_error(wrong.sign(&fabric(), &private())),
            "endpoints",
            "{address}"
        );
    }
    let mut wrong = binding();
    wrong.vlan = 4095;
    assert_eq!(field_error(wrong.sign(&fabric(), &private())), "vlan");
    let mut wrong = binding();
    wrong.mac = MacAddr::BROADCAST;
    assert_eq!(field_error(wrong.sign(&fabric(), &private())), "mac");
    let mut wrong = binding();
    wrong.ip = Some(ip("ff02::1"));
    assert_eq!(field_error(wrong.sign(&fabric(), &private())), "ip");
    let mut wrong = binding();
    wrong.release_to = Some(PublicKey([0; 32]));
    assert_eq!(field_error(wrong.sign(&fabric(), &private())), "release_to");
}

#[test]
fn endpoints_of_unknown_kinds_are_left_out() {
    let mut message = registration().message();
    message.endpoints[0].kind = 77;
    message.endpoints[0].ip = vec![1, 2, 3];
    message.endpoints[1].kind = 0;
    let octets = signed(Kind::Registration, message.encode_to_vec());
    let read = Registration::verify(&octets, &fabric()).unwrap();
    assert_eq!(read.endpoints, registration().endpoints[2..]);
}

#[test]
fn a_certificate_is_valid_from_its_first_to_its_last_second() {
    let mut certificate = certificate();
    let valid = [999, 1000, 2000, 2001].map(|now| certificate.is_valid_at(now));
    assert_eq!(valid, [false, true, true, false]);
    certificate.not_after = None;
    assert!(certificate.is_valid_at(u64::MAX));
}
