//! Messages of neighbour discovery: what a host takes, and each single thing that it must not.

use std::vec;
use std::vec::Vec;

use proptest::prelude::*;

use super::*;

const MAC: MacAddr = MacAddr([2, 0, 0, 0, 0, 1]);
const HOST: Ipv6Addr = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0xff, 0xfe00, 1);
const OTHER: Ipv6Addr = Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0x12, 0x3456);

/// The option of a MAC address.
fn option(kind: u8, mac: MacAddr) -> Vec<u8> {
    let mut option = vec![kind, 1];
    option.extend(mac.0);
    option
}

/// A message of this type with these octets from the fifth on, its checksum right.
fn message(kind: u8, ip: &Ipv6, rest: &[&[u8]]) -> Vec<u8> {
    let mut message = vec![kind, 0, 0, 0];
    message.extend(rest.concat());
    complete(ip.source, ip.destination, &mut message);
    message
}

fn ip(source: Ipv6Addr, destination: Ipv6Addr) -> Ipv6 {
    Ipv6 {
        source,
        destination,
        next_header: 58,
        hop_limit: HOP_LIMIT,
        payload_len: 0,
    }
}

fn solicited(target: Ipv6Addr, options: &[u8]) -> Vec<u8> {
    let ip = ip(HOST, solicited_node(target));
    message(
        NEIGHBOUR_SOLICITATION,
        &ip,
        &[&[0; 4], &target.octets(), options],
    )
}

#[test]
fn addresses_are_made_as_the_documents_say() {
    assert_eq!(
        solicited_node(Ipv6Addr::new(0x4037, 0, 0, 0, 1, 0x800, 0x200e, 0x8c6c)),
        Ipv6Addr::new(0xff02, 0, 0, 0, 0, 1, 0xff0e, 0x8c6c),
        "the example of RFC 4291 s.2.7.1"
    );
    assert_eq!(
        link_local(MacAddr([0x34, 0x56, 0x78, 0x9a, 0xbc, 0xde])),
        Ipv6Addr::new(0xfe80, 0, 0, 0, 0x3656, 0x78ff, 0xfe9a, 0xbcde),
        "the example of RFC 2464 s.4"
    );
    assert_eq!(
        group_mac(solicited_node(OTHER)),
        MacAddr([0x33, 0x33, 0xff, 0x12, 0x34, 0x56])
    );
    assert_eq!(group_mac(ALL_NODES), MacAddr([0x33, 0x33, 0, 0, 0, 1]));
}

#[test]
fn a_solicitation_reads_as_it_was_made() {
    let to = ip(HOST, solicited_node(OTHER));
    let with = solicited(OTHER, &option(1, MAC));
    let expected = Solicitation {
        source: HOST,
        target: OTHER,
        link_layer: Some(MAC),
    };
    assert_eq!(parse(&to, &with), Some(Message::Solicitation(expected)));
    assert!(!expected.is_dad());
    let without = Solicitation {
        link_layer: None,
        ..expected
    };
    assert_eq!(
        parse(&to, &solicited(OTHER, &[])),
        Some(Message::Solicitation(without))
    );
    for made in [expected, without] {
        let (octets, len) = made.emit(to.destination);
        assert_eq!(
            parse(&to, &octets[..len]),
            Some(Message::Solicitation(made))
        );
    }
    assert_eq!(expected.emit(to.destination).0[..], with);
    // An option of the other kind, and one that nobody knows, are passed over.
    let others = [option(2, MAC), vec![14, 2], vec![7; 14], option(1, MAC)].concat();
    assert_eq!(
        parse(&to, &solicited(OTHER, &others)),
        Some(Message::Solicitation(expected))
    );
}

#[test]
fn duplicate_address_detection_has_rules_of_its_own() {
    let rest: [&[u8]; 2] = [&[0; 4], &OTHER.octets()];
    let asked = |destination: Ipv6Addr, options: &[u8]| {
        let ip = ip(Ipv6Addr::UNSPECIFIED, destination);
        let octets = message(NEIGHBOUR_SOLICITATION, &ip, &[rest[0], rest[1], options]);
        parse(&ip, &octets)
    };
    let expected = Solicitation {
        source: Ipv6Addr::UNSPECIFIED,
        target: OTHER,
        link_layer: None,
    };
    assert!(expected.is_dad());
    let group = solicited_node(OTHER);
    assert_eq!(asked(group, &[]), Some(Message::Solicitation(expected)));
    // With the nonce of RFC 7527, as Linux sends it.
    assert_eq!(
        asked(group, &option(14, MAC)),
        Some(Message::Solicitation(expected))
    );
    assert_eq!(asked(group, &option(1, MAC)), None, "with an address");
    assert_eq!(asked(OTHER, &[]), None, "to one host");
    assert_eq!(asked(ALL_NODES, &[]), None, "to another group");
}

#[test]
fn an_advertisement_reads_as_it_was_made() {
    for bits in 0u8..8 {
        for link_layer in [None, Some(MAC)] {
            let made = Advertisement {
                source: OTHER,
                destination: HOST,
                target: OTHER,
                link_layer,
                router: bits & 1 != 0,
                solicited: bits & 2 != 0,
                overrides: bits & 4 != 0,
            };
            let (octets, len) = made.emit();
            let flags = (bits & 1) << 7 | (bits & 2) << 5 | (bits & 4) << 3;
            assert_eq!(octets[4], flags);
            let parsed = parse(&ip(OTHER, HOST), &octets[..len]);
            assert_eq!(parsed, Some(Message::Advertisement(made)));
            let to_all = Advertisement {
                destination: ALL_NODES,
                ..made
            };
            let (octets, len) = to_all.emit();
            let parsed = parse(&ip(OTHER, ALL_NODES), &octets[..len]);
            let expected = (!to_all.solicited).then_some(Message::Advertisement(to_all));
            assert_eq!(parsed, expected, "solicited by nobody");
        }
    }
}

#[test]
fn routers_messages_are_told_by_their_kind() {
    let all = ip(HOST, ALL_NODES);
    let advertised = message(ROUTER_ADVERTISEMENT, &all, &[&[0; 12], &option(1, MAC)]);
    assert_eq!(parse(&all, &advertised), Some(Message::RouterAdvertisement));
    let asked = message(ROUTER_SOLICITATION, &all, &[&[0; 4], &option(1, MAC)]);
    assert_eq!(parse(&all, &asked), Some(Message::RouterSolicitation));
    let one = ip(HOST, OTHER);
    for target in [HOST, OTHER] {
        let rest: [&[u8]; 4] = [&[0; 4], &target.octets(), &OTHER.octets(), &option(2, MAC)];
        let redirect = message(REDIRECT, &one, &rest);
        assert_eq!(parse(&one, &redirect), Some(Message::Redirect));
    }
}

#[test]
fn routers_messages_that_hosts_must_not_take_are_refused() {
    let parsed = |kind: u8, ip: &Ipv6, rest: &[&[u8]]| parse(ip, &message(kind, ip, rest));
    let global = ip(OTHER, ALL_NODES);
    assert_eq!(parsed(ROUTER_ADVERTISEMENT, &global, &[&[0; 12]]), None);
    let local = ip(HOST, ALL_NODES);
    assert_eq!(parsed(ROUTER_ADVERTISEMENT, &local, &[&[0; 11]]), None);
    let nobody = ip(Ipv6Addr::UNSPECIFIED, ALL_NODES);
    let with: [&[u8]; 2] = [&[0; 4], &option(1, MAC)];
    assert_eq!(parsed(ROUTER_SOLICITATION, &nobody, &with), None);
    assert!(parsed(ROUTER_SOLICITATION, &nobody, &with[..1]).is_some());
    let (host, other) = (HOST.octets(), OTHER.octets());
    let group = ALL_NODES.octets();
    let global = ip(OTHER, HOST);
    let local = ip(HOST, OTHER);
    let rest: [&[u8]; 3] = [&[0; 4], &host, &other];
    assert_eq!(parsed(REDIRECT, &global, &rest), None);
    assert_eq!(parsed(REDIRECT, &local, &[&[0; 4], &host, &group]), None);
    let elsewhere = Ipv6Addr::LOCALHOST.octets();
    assert_eq!(
        parsed(REDIRECT, &local, &[&[0; 4], &elsewhere, &other]),
        None
    );
    assert_eq!(
        parsed(REDIRECT, &local, &[&[0; 4], &host, &other[..15]]),
        None
    );
}

#[test]
fn each_thing_that_makes_a_message_invalid_does() {
    let to = ip(HOST, solicited_node(OTHER));
    let valid = solicited(OTHER, &option(1, MAC));
    assert!(parse(&to, &valid).is_some());
    for hop_limit in [0, 1, 64, 254] {
        assert_eq!(parse(&Ipv6 { hop_limit, ..to }, &valid), None);
    }
    let mut coded = valid.clone();
    coded[1] = 1;
    complete(to.source, to.destination, &mut coded);
    assert_eq!(parse(&to, &coded), None, "a code");
    for at in 0..valid.len() {
        let mut damaged = valid.clone();
        damaged[at] ^= 0x10;
        assert_eq!(parse(&to, &damaged), None, "octet {at} is damaged");
    }
    for len in 0..valid.len() {
        let mut cut = Vec::from(&valid[..len]);
        complete(to.source, to.destination, &mut cut);
        assert_eq!(parse(&to, &cut).is_some(), len == TARGET_END, "{len}");
    }
    for target in [ALL_NODES, Ipv6Addr::UNSPECIFIED] {
        let to = ip(HOST, solicited_node(target));
        assert_eq!(parse(&to, &solicited(target, &[])), None, "{target}");
    }
    let group = ip(ALL_NODES, solicited_node(OTHER));
    let octets = message(NEIGHBOUR_SOLICITATION, &group, &[&[0; 4], &OTHER.octets()]);
    assert_eq!(parse(&group, &octets), None, "from a group");
}

#[test]
fn options_that_hosts_refuse_or_read_differently_are_refused() {
    let to = ip(HOST, solicited_node(OTHER));
    let another = MacAddr([2, 0, 0, 0, 0, 9]);
    for (name, options) in [
        ("length 0", vec![14, 0, 0, 0, 0, 0, 0, 0]),
        ("length 0 at the end", [option(1, MAC), vec![0; 8]].concat()),
        ("half an option", vec![14, 1, 0, 0, 0, 0, 0]),
        ("one octet", vec![1]),
        ("longer than the message", vec![14, 2, 0, 0, 0, 0, 0, 0]),
        (
            "an address of 14 octets",
            vec![1, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0],
        ),
        (
            "two addresses",
            [option(1, MAC), option(1, another)].concat(),
        ),
    ] {
        assert_eq!(parse(&to, &solicited(OTHER, &options)), None, "{name}");
    }
}

#[test]
fn other_types_are_none_of_discovery() {
    let to = ip(HOST, OTHER);
    for kind in 0..=u8::MAX {
        assert_eq!(is_discovery(kind), (133..138).contains(&kind), "{kind}");
        let octets = message(kind, &to, &[&[0; 36]]);
        if !is_discovery(kind) {
            assert_eq!(parse(&to, &octets), None, "{kind}");
        }
    }
}

proptest! {
    #[test]
    fn any_octets_give_a_message_or_nothing(
        source: [u8; 16],
        kind in 130u8..140,
        mut octets: Vec<u8>,
    ) {
        let to = ip(source.into(), ALL_NODES);
        let _ = parse(&to, &octets);
        octets.splice(..0, [kind, 0, 0, 0]);
        complete(to.source, to.destination, &mut octets);
        if let Some(Message::Solicitation(read)) = parse(&to, &octets) {
            prop_assert!(!read.target.is_multicast() && octets.len() >= TARGET_END);
        }
    }

    #[test]
    fn any_options_give_an_address_or_nothing(options: Vec<u8>, wanted in 0u8..4) {
        if let Some(Some(mac)) = link_layer(&options, wanted) {
            prop_assert!(options.windows(6).any(|octets| octets == mac.0));
        }
    }
}
