//! The verdict table of the underlay program: what it does with which frame.
//!
//! Nothing is attached: the kernel runs the programs on frames given to it. Needs root.

use omni_xdp_redirect::{Action, Kind};

use crate::support::bench::{Bench, PORT, address, boottime_ns, v4, v6};
use crate::support::frame::{CUSTOMER_TAG, Frame, SERVICE_TAG};

/// A frame, and what is to become of it.
struct Case {
    about: String,
    frame: Vec<u8>,
    expected: Action,
}

fn case(about: impl Into<String>, frame: &Frame, expected: Action) -> Case {
    Case {
        about: about.into(),
        frame: frame.octets(),
        expected,
    }
}

fn steered(about: impl Into<String>, frame: &Frame) -> Case {
    case(about, frame, Action::Redirect)
}

fn passed(about: impl Into<String>, frame: &Frame) -> Case {
    case(about, frame, Action::Pass)
}

/// Checks verdict, frame, metadata and counters of every case.
fn check_underlay(bench: &Bench, cases: &[Case]) {
    let mut expected = bench.program.counters().unwrap();
    for Case {
        about,
        frame,
        expected: action,
    } in cases
    {
        let before = boottime_ns();
        let after = bench.program.dry_run(frame).unwrap();
        assert_eq!(after.action, *action, "{about}");
        assert_eq!(after.frame, *frame, "{about}: the frame was changed");
        match after.meta {
            Some(meta) => {
                assert_eq!((meta.room, meta.flags, meta.rx_queue), (0, 0, 0), "{about}");
                assert!((before..=boottime_ns()).contains(&meta.stamp_ns), "{about}");
            }
            None => assert_ne!(*action, Action::Redirect, "{about}: no metadata"),
        }
        expected.steered += u64::from(*action == Action::Redirect);
        assert_eq!(bench.program.counters().unwrap(), expected, "{about}");
    }
}

#[test]
fn data_messages_for_us_are_steered() {
    let mut cases = vec![
        steered("IPv4", &v4()),
        steered("IPv6", &v6()),
        steered(
            "IPv4 without DF",
            &Frame {
                fragment: 0,
                ..v4()
            },
        ),
        steered(
            "the session's number and no more",
            &Frame {
                payload: vec![0, 0, 0, 1],
                ..v4()
            },
        ),
        steered(
            "the same over IPv6",
            &Frame {
                payload: vec![0, 0, 0, 1],
                ..v6()
            },
        ),
        steered(
            "one option word",
            &Frame {
                options: vec![1; 4],
                ..v4()
            },
        ),
        steered(
            "as many options as there can be",
            &Frame {
                options: vec![1; 40],
                ..v4()
            },
        ),
        steered(
            "octets behind the datagram",
            &Frame {
                padding: vec![7; 20],
                ..v4()
            },
        ),
        steered(
            "the same over IPv6",
            &Frame {
                padding: vec![7; 20],
                ..v6()
            },
        ),
        steered(
            "UDP ends before IP does",
            &Frame {
                ip_len: Some(100),
                ..v4()
            },
        ),
    ];
    for tag in [CUSTOMER_TAG, SERVICE_TAG] {
        let tags = vec![tag];
        cases.push(steered(
            format!("IPv4, tag {tag:#x}"),
            &Frame {
                tags: tags.clone(),
                ..v4()
            },
        ));
        cases.push(steered(
            format!("IPv6, tag {tag:#x}"),
            &Frame {
                tags: tags.clone(),
                ..v6()
            },
        ));
        let options = vec![1; 40];
        let both = Frame {
            tags,
            options,
            ..v4()
        };
        cases.push(steered(format!("tag {tag:#x} and options"), &both));
    }
    for octet in 0..4 {
        let mut payload = vec![0; 32];
        payload[octet] = 0x80;
        cases.push(steered(
            format!("session's octet {octet}"),
            &Frame { payload, ..v4() },
        ));
    }
    check_underlay(&Bench::new(Kind::Underlay), &cases);
}

#[test]
fn messages_without_a_session_pass_to_the_control_thread() {
    let mut initiation = vec![0; 168];
    initiation[4..8].copy_from_slice(&[1, 0, 0, 1]);
    let cases = [
        passed(
            "initiation over IPv4",
            &Frame {
                payload: initiation.clone(),
                ..v4()
            },
        ),
        passed(
            "initiation over IPv6",
            &Frame {
                payload: initiation.clone(),
                ..v6()
            },
        ),
        passed(
            "tagged",
            &Frame {
                tags: vec![CUSTOMER_TAG],
                payload: initiation,
                ..v4()
            },
        ),
    ];
    check_underlay(&Bench::new(Kind::Underlay), &cases);
}

#[test]
fn traffic_of_others_passes() {
    let port = |port| Frame { port, ..v4() };
    let to = |text| Frame::to(address(text), PORT);
    let ethertype = |ethertype| Frame {
        ethertype: Some(ethertype),
        ..v4()
    };
    let protocol = |protocol| Frame { protocol, ..v4() };
    let cases = [
        passed("next lower port", &port(PORT - 1)),
        passed("port zero", &port(0)),
        passed("port in the wrong byte order", &port(PORT.swap_bytes())),
        passed("IPv6, wrong port", &Frame { port: 53, ..v6() }),
        passed("another IPv4 address", &to("192.0.2.2")),
        passed("broadcast", &to("255.255.255.255")),
        passed("another IPv6 address", &to("2001:db8::2")),
        passed("multicast", &to("ff02::1")),
        passed(
            "our IPv4 address in an IPv6 header",
            &to("::ffff:192.0.2.1"),
        ),
        passed("our IPv4 address, deprecated form", &to("::192.0.2.1")),
        passed("ARP", &ethertype(0x0806)),
        passed("802.3 length in place of a type", &ethertype(64)),
        passed("LLDP", &ethertype(0x88cc)),
        passed(
            "IPv4 type, IPv6 header",
            &Frame {
                ethertype: Some(0x0800),
                ..v6()
            },
        ),
        passed("IPv6 type, IPv4 header", &ethertype(0x86dd)),
        passed("TCP", &protocol(6)),
        passed("ICMP", &protocol(1)),
        passed("UDP-Lite", &protocol(136)),
        passed(
            "TCP over IPv6",
            &Frame {
                protocol: 6,
                ..v6()
            },
        ),
    ];
    check_underlay(&Bench::new(Kind::Underlay), &cases);
}

#[test]
fn fragments_pass_so_that_the_kernel_can_join_them() {
    let fragment = |fragment| Frame { fragment, ..v4() };
    let mut cases = vec![
        passed("first", &fragment(0x2000)),
        passed("middle", &fragment(0x2000 | 64)),
        passed("last", &fragment(128)),
        passed("last, with DF", &fragment(0x4000 | 128)),
        passed("first, with DF", &fragment(0x6000)),
    ];
    for bit in 0..13 {
        cases.push(passed(format!("offset {}", 1 << bit), &fragment(1 << bit)));
    }
    check_underlay(&Bench::new(Kind::Underlay), &cases);
}

#[test]
fn ipv6_extension_headers_pass() {
    let behind = |protocol, extension: [u8; 8]| Frame {
        protocol,
        extension: extension.to_vec(),
        ..v6()
    };
    let cases = [
        passed("hop-by-hop options", &behind(0, [17, 0, 1, 4, 0, 0, 0, 0])),
        passed("routing", &behind(43, [17, 0, 4, 0, 0, 0, 0, 0])),
        passed("first fragment", &behind(44, [17, 0, 0, 1, 0, 0, 0, 9])),
        passed("last fragment", &behind(44, [17, 0, 0, 8, 0, 0, 0, 9])),
        passed("the only fragment", &behind(44, [17, 0, 0, 0, 0, 0, 0, 9])),
        passed(
            "destination options",
            &behind(60, [17, 0, 1, 4, 0, 0, 0, 0]),
        ),
        passed("no next header", &behind(59, [0; 8])),
    ];
    check_underlay(&Bench::new(Kind::Underlay), &cases);
}

#[test]
fn more_than_one_tag_passes() {
    let mut cases = Vec::new();
    for tags in [
        vec![CUSTOMER_TAG, CUSTOMER_TAG],
        vec![SERVICE_TAG, CUSTOMER_TAG],
        vec![SERVICE_TAG, SERVICE_TAG],
        vec![SERVICE_TAG, CUSTOMER_TAG, CUSTOMER_TAG],
    ] {
        let about = format!("{tags:x?}");
        cases.push(passed(
            format!("IPv4 {about}"),
            &Frame {
                tags: tags.clone(),
                ..v4()
            },
        ));
        cases.push(passed(format!("IPv6 {about}"), &Frame { tags, ..v6() }));
    }
    let tags = vec![CUSTOMER_TAG];
    let arp = Frame {
        tags,
        ethertype: Some(0x0806),
        ..v4()
    };
    cases.push(passed("tagged ARP", &arp));
    check_underlay(&Bench::new(Kind::Underlay), &cases);
}

#[test]
fn payloads_too_short_for_a_session_pass_even_when_padded() {
    let mut cases = Vec::new();
    for len in 0..4 {
        for base in [v4(), v6()] {
            let short = Frame {
                payload: vec![9; len],
                ..base
            };
            cases.push(passed(format!("{len} octets"), &short));
            // What pads a frame to 60 octets looks like a session's number, and is none.
            let padded = Frame {
                padding: vec![9; 46],
                ..short
            };
            cases.push(passed(format!("{len} octets, padded"), &padded));
        }
    }
    check_underlay(&Bench::new(Kind::Underlay), &cases);
}

#[test]
fn lengths_that_contradict_each_other_pass() {
    let mut cases = Vec::new();
    for udp_len in (0..12).chain([73, 1000, u16::MAX]) {
        let about = format!("UDP length {udp_len}");
        cases.push(passed(
            &about,
            &Frame {
                udp_len: Some(udp_len),
                ..v4()
            },
        ));
        cases.push(passed(
            &about,
            &Frame {
                udp_len: Some(udp_len),
                ..v6()
            },
        ));
    }
    for granted in (0..12).chain([71]) {
        let about = format!("IP grants {granted}");
        cases.push(passed(
            &about,
            &Frame {
                ip_len: Some(20 + granted),
                ..v4()
            },
        ));
        cases.push(passed(
            &about,
            &Frame {
                ip_len: Some(granted),
                ..v6()
            },
        ));
    }
    for ip_len in [0, 1, 19, 59] {
        let options = vec![1; 40];
        let about = format!("IPv4 ends in its own header, at {ip_len}");
        cases.push(passed(
            about,
            &Frame {
                ip_len: Some(ip_len),
                options,
                ..v4()
            },
        ));
    }
    for words in 0..5 {
        let about = format!("IPv4 header of {words} words");
        cases.push(passed(
            about,
            &Frame {
                header_words: Some(words),
                ..v4()
            },
        ));
    }
    for version in (0..16).filter(|version| ![4, 6].contains(version)) {
        let about = format!("version {version}");
        cases.push(passed(
            &about,
            &Frame {
                version: Some(version),
                ..v4()
            },
        ));
        cases.push(passed(
            &about,
            &Frame {
                version: Some(version),
                ..v6()
            },
        ));
    }
    check_underlay(&Bench::new(Kind::Underlay), &cases);
}

#[test]
fn a_frame_cut_off_anywhere_before_the_sessions_end_passes() {
    let tags = || vec![CUSTOMER_TAG];
    let mut cases = Vec::new();
    for (about, whole) in [
        ("IPv4", v4()),
        (
            "IPv4 with options",
            Frame {
                options: vec![1; 40],
                ..v4()
            },
        ),
        ("IPv6", v6()),
        (
            "tagged IPv4",
            Frame {
                tags: tags(),
                ..v4()
            },
        ),
        (
            "tagged IPv4 with options",
            Frame {
                tags: tags(),
                options: vec![1; 12],
                ..v4()
            },
        ),
        (
            "tagged IPv6",
            Frame {
                tags: tags(),
                ..v6()
            },
        ),
    ] {
        let frame = whole.octets();
        let decisive = whole.decisive_len();
        // The kernel runs no program on less than an Ethernet header.
        for len in 14..frame.len() {
            let expected = if len < decisive {
                Action::Pass
            } else {
                Action::Redirect
            };
            let about = format!("{about}, {len} of {decisive} octets");
            cases.push(Case {
                about,
                frame: frame[..len].to_vec(),
                expected,
            });
        }
    }
    check_underlay(&Bench::new(Kind::Underlay), &cases);
}

#[test]
fn frames_of_several_buffers_are_steered_and_passed_alike() {
    let bench = Bench::new(Kind::Underlay);
    assert!(
        bench.program.multi_buffer(),
        "this kernel takes no frames of several buffers"
    );
    let mut cases = Vec::new();
    for len in [3400, 3500, 4096, 8900, 9100] {
        for (family, base) in [("IPv4", v4()), ("IPv6", v6())] {
            let mut payload: Vec<u8> = (0..len).map(|nth| (nth % 251) as u8).collect();
            payload[3] = 1;
            let about = format!("{family}, {len} octets");
            cases.push(steered(
                &about,
                &Frame {
                    payload: payload.clone(),
                    ..base.clone()
                },
            ));
            payload[..4].fill(0);
            cases.push(passed(
                format!("{about}, no session"),
                &Frame { payload, ..base },
            ));
        }
    }
    check_underlay(&bench, &cases);
}
