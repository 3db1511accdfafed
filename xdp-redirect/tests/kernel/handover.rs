//! The verdict table of the hand-over: what goes to the other device, and what stays the host's.

use omni_xdp_redirect::{Action, Device, Handed, Handover, Mode, Owner};

use crate::support::bench::{PORT, V4, V6, address, v4, v6};
use crate::support::frame::{CUSTOMER_TAG, Frame};
use crate::support::netns::{in_namespace, ip_ok, make_veth, wait_until};
use crate::support::ring::interface_index;

const TCP: u8 = 6;
const ICMPV6: u8 = 58;
const ARP: u16 = 0x0806;
const GROUP: &str = "ff02::1:ff00:1";

fn device(name: &str, mode: Mode) -> Device {
    Device {
        name: name.to_owned(),
        index: interface_index(name),
        mode,
    }
}

/// The programs on two veth pairs, `wire` and `other`, with the addresses of the tests.
fn between(owner: Owner) -> Handover {
    make_veth("wire", "network", 1);
    make_veth("other", "engine", 1);
    let mut handover = Handover::load().unwrap();
    handover.set_port(PORT).unwrap();
    handover.set_address(address(V4), owner).unwrap();
    handover.set_address(address(V6), owner).unwrap();
    handover
        .attach(
            &device("wire", Mode::Native),
            &device("other", Mode::Native),
        )
        .unwrap();
    handover
}

/// Whether a frame is handed over, which leaves it as it is; all else goes to the host.
fn is_handed_over(handover: &Handover, frame: &[u8]) -> bool {
    let after = handover.dry_run(frame).unwrap();
    assert_eq!(after.frame, frame, "the frame was changed");
    match after.action {
        Action::Redirect => true,
        Action::Pass => false,
        other => panic!("{other:?}"),
    }
}

fn initiation() -> Frame {
    Frame {
        payload: vec![0; 168],
        ..v4()
    }
}

/// An ARP message about `target`, asked or answered.
fn arp(target: [u8; 4]) -> Vec<u8> {
    let mut frame = vec![0xff; 6];
    frame.extend([2, 0, 0, 0, 0, 2]);
    frame.extend(ARP.to_be_bytes());
    frame.extend([0, 1, 8, 0, 6, 4, 0, 1]);
    frame.extend([2, 0, 0, 0, 0, 2, 192, 0, 2, 200]);
    frame.extend([0; 6]);
    frame.extend(target);
    frame.resize(60, 0);
    frame
}

/// A message of ICMPv6 to `to`, of this type, that is about `target`.
fn icmpv6(to: &str, kind: u8, target: &str) -> Vec<u8> {
    let std::net::IpAddr::V6(target) = address(target) else {
        panic!("{target} is no IPv6 address");
    };
    // In place of UDP's header, which Frame puts in between.
    let mut extension = vec![kind, 0, 0, 0, 0, 0, 0, 0];
    extension.extend(target.octets());
    Frame {
        extension,
        protocol: ICMPV6,
        ..Frame::to(address(to), PORT)
    }
    .octets()
}

/// What the fabric sends to an address, whoever has it.
fn messages() -> Vec<(&'static str, Frame)> {
    vec![
        ("data over IPv4", v4()),
        ("data over IPv6", v6()),
        ("a handshake", initiation()),
        (
            "tagged data",
            Frame {
                tags: vec![CUSTOMER_TAG],
                ..v4()
            },
        ),
        (
            "data behind options",
            Frame {
                options: vec![1; 40],
                ..v4()
            },
        ),
    ]
}

/// What else comes for an address.
fn rest() -> Vec<(&'static str, Vec<u8>)> {
    let of = |frame: Frame| frame.octets();
    vec![
        (
            "another port",
            of(Frame {
                port: PORT + 1,
                ..v4()
            }),
        ),
        (
            "TCP to the port",
            of(Frame {
                protocol: TCP,
                ..v6()
            }),
        ),
        (
            "a fragment",
            of(Frame {
                fragment: 0x2000,
                ..v4()
            }),
        ),
        ("who has it", arp([192, 0, 2, 1])),
        ("a solicitation", icmpv6(GROUP, 135, V6)),
        ("an advertisement", icmpv6(V6, 136, "2001:db8::7")),
    ]
}

/// What is for others, and never handed over.
fn of_others() -> Vec<(&'static str, Vec<u8>)> {
    let of = |to: &str| Frame::to(address(to), PORT).octets();
    vec![
        ("data to another address", of("192.0.2.2")),
        ("data to another IPv6 address", of("2001:db8::2")),
        ("our address in mapped form", of("::ffff:192.0.2.1")),
        ("who has another", arp([192, 0, 2, 2])),
        (
            "a solicitation of another",
            icmpv6(GROUP, 135, "2001:db8::2"),
        ),
        ("an advertisement to all", icmpv6("ff02::1", 136, V6)),
        ("a router's advertisement", icmpv6("ff02::1", 134, V6)),
        ("nothing but a header", arp([0; 4])[..14].to_vec()),
    ]
}

#[test]
fn of_a_shared_address_the_fabrics_datagrams_are_handed_over_and_nothing_else() {
    in_namespace(|| {
        let handover = between(Owner::Shared);
        for (about, frame) in messages() {
            assert!(is_handed_over(&handover, &frame.octets()), "{about}");
        }
        for (about, frame) in rest().into_iter().chain(of_others()) {
            assert!(!is_handed_over(&handover, &frame), "{about}");
        }
        let expected = Handed {
            data: messages().len() as u64 - 1,
            handshakes: 1,
            ..Handed::default()
        };
        assert_eq!(handover.counters().unwrap(), expected);
    });
}

#[test]
fn of_the_engines_own_address_everything_is_handed_over() {
    in_namespace(|| {
        let mut handover = between(Owner::Engine);
        for (about, frame) in messages() {
            assert!(is_handed_over(&handover, &frame.octets()), "{about}");
        }
        for (about, frame) in rest() {
            assert!(is_handed_over(&handover, &frame), "{about}");
        }
        for (about, frame) in of_others() {
            assert!(!is_handed_over(&handover, &frame), "{about}");
        }
        let expected = Handed {
            data: messages().len() as u64 - 1,
            handshakes: 1,
            rest: rest().len() as u64,
            ..Handed::default()
        };
        assert_eq!(handover.counters().unwrap(), expected);
        handover.remove_address(address(V4)).unwrap();
        assert!(!is_handed_over(&handover, &v4().octets()), "removed");
        assert!(is_handed_over(&handover, &v6().octets()), "still there");
    });
}

#[test]
fn frames_cut_anywhere_are_judged_and_never_refused() {
    in_namespace(|| {
        let handover = between(Owner::Engine);
        for whole in [
            v4().octets(),
            v6().octets(),
            arp([192, 0, 2, 1]),
            icmpv6(GROUP, 135, V6),
        ] {
            // The kernel takes no frame that is shorter than an Ethernet header.
            for len in 14..whole.len() {
                is_handed_over(&handover, &whole[..len]);
            }
        }
    });
}

#[test]
fn a_device_that_is_gone_leaves_the_frames_to_the_host() {
    in_namespace(|| {
        let handover = between(Owner::Shared);
        assert!(is_handed_over(&handover, &v4().octets()));
        ip_ok("link del dev other");
        // The map lets go of the device after the command has returned.
        wait_until("the host gets its frames", || {
            !is_handed_over(&handover, &v4().octets())
        });
        assert!(handover.counters().unwrap().no_device > 0);
    });
}

#[test]
fn an_attachment_that_fails_leaves_nothing_attached() {
    in_namespace(|| {
        for mode in [Mode::Native, Mode::Generic] {
            make_veth("wire", "network", 1);
            make_veth("other", "engine", 1);
            let shown = |name: &str| ip_ok(&format!("-details link show dev {name}"));
            let is_free = |name: &str| !shown(name).contains(" prog/xdp ");
            let mut holder = Handover::load().unwrap();
            holder
                .attach(&device("wire", mode), &device("network", mode))
                .unwrap();
            let mut second = Handover::load().unwrap();
            let refused = second
                .attach(&device("wire", mode), &device("other", mode))
                .unwrap_err();
            assert!(refused.to_string().contains("wire: another"), "{refused}");
            wait_until("the other device is free", || is_free("other"));
            assert!(!is_free("wire"), "the first goes on");
            drop(holder);
            wait_until("both are free", || is_free("wire") && is_free("network"));
            ip_ok("link del dev wire");
            ip_ok("link del dev other");
        }
    });
}
