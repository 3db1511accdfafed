//! A node says nothing to strangers, whatever they send.
//!
//! Node a runs and has a session, its peer is gone. Strangers send from everywhere, and each
//! answer would find its way: a's default route leads to a neighbour that is there.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::thread;
use std::time::Duration;

use blake2::digest::consts::U16;
use blake2::digest::{KeyInit, Mac as _};
use blake2::{Blake2s256, Blake2sMac, Digest as _};
use omni_engine::show::Show;
use omni_wire::header::{DataHeader, MessageType};
use omni_wire::outer::{Outer, Path, Template};
use omni_wire::{DropReason, MacAddr, handshake};

use crate::support::dice::Dice;
use crate::support::lab::{Lab, PORT, Plan, Side, Wire, public_key};
use crate::support::node::{Node, NodeSpec};
use crate::support::packet::PacketSocket;
use crate::support::tools::{ping_all, resumes};
use crate::support::{seconds, wait_until};

/// Datagrams at the silent node.
/// The longest frame of an underlay of 1500 octets.
const UNDERLAY_FRAME_MAX: usize = 1514;
const DATAGRAMS: usize = 100_000;
/// Sent without a pause: fewer than rings and sockets hold.
const VOLLEY: usize = 50;
/// Between two volleys.
const PAUSE: Duration = Duration::from_millis(1);
/// No frame comes for this long: all are here.
const QUIET: Duration = Duration::from_millis(200);
/// Nothing comes for this long: what was to be told twice was.
const SETTLED: Duration = Duration::from_millis(1500);
/// The neighbour that strangers are behind.
const GATEWAY: MacAddr = MacAddr([2, 0, 0, 0, 0, 0xfe]);

/// Node a without its peer, and what was said while the peer was there.
struct Scene {
    lab: Lab,
    a: Node,
    /// The bridge's end of a's cable.
    wire: PacketSocket,
    mac: MacAddr,
    handshakes: Vec<Vec<u8>>,
    data: Vec<Vec<u8>>,
}

impl Scene {
    /// With or without the driver's filter, which keeps most of it from the engine.
    fn new(filter: bool) -> Self {
        let lab = Lab::new(Plan {
            wire: Wire::Bridged,
            ..Plan::default()
        });
        for (family, gateway) in [("-4", "192.0.2.254"), ("-6", "2001:db8:0:a::fe")] {
            let neighbour = format!("neigh add {gateway} lladdr {GATEWAY} dev ua nud permanent");
            lab.a.ip(&format!("{family} {neighbour}"));
            let route = format!("route add default via {gateway} dev ua");
            lab.a.ip(&format!("{family} {route}"));
        }
        let middle = lab.middle.as_ref().expect("a bridge");
        let [wire, from_b] = ["ra", "rb"].map(|end| PacketSocket::open(middle, end));
        let start = |side| {
            NodeSpec {
                filter,
                ..lab.spec(side)
            }
            .start()
        };
        let (a, b) = (start(Side::A), start(Side::B));
        // The host behind a has nothing to say of itself.
        lab.a.sysctl("ipv6/conf/omni0/disable_ipv6", "1");
        ping_all(&lab.a, Side::B.inner_v4().into(), "");
        assert!(b.terminate().success());
        let mut frames = [wire.drain(QUIET), from_b.drain(QUIET)].concat();
        // What changed is told again after a second, also to a peer that is gone.
        wait_until("a has said all", seconds(10), || {
            let said = wire.drain(SETTLED);
            let is_silent = said.iter().all(|frame| is_neighbourly(frame));
            frames.extend(said);
            is_silent
        });
        let messages = frames.iter().filter_map(|frame| message_of(frame));
        let (handshakes, data): (Vec<_>, Vec<_>) = messages
            .map(<[u8]>::to_vec)
            .partition(|message| message.starts_with(&[0; 4]));
        let counts = (handshakes.len(), data.len());
        assert!(counts.0 >= 2 && counts.1 >= 10, "{counts:?} were captured");
        Self {
            mac: mac(&lab.a.mac("ua")),
            lab,
            a,
            wire,
            handshakes,
            data,
        }
    }

    /// A frame for a's fabric port.
    fn frame(&self, source: SocketAddr, message: &[u8]) -> Vec<u8> {
        let (v4, v6) = self.lab.outer(Side::A);
        let to: IpAddr = if source.is_ipv4() {
            v4.into()
        } else {
            v6.into()
        };
        let path = Path {
            source_mac: GATEWAY,
            next_hop_mac: self.mac,
            vlan: None,
            source: source.ip(),
            source_port: source.port(),
            endpoint: (to, PORT).into(),
        };
        let template = Template::new(&path).expect("one family");
        // What was recorded as IPv4 may not fit behind an IPv6 header.
        let most = UNDERLAY_FRAME_MAX - template.len();
        let message = &message[..message.len().min(most)];
        let mut frame = [&vec![0; template.len()], message].concat();
        assert!(template.emit(&mut frame, source.port(), 0));
        frame
    }

    /// Anywhere: one in eight is the peer's own address.
    fn source(&self, dice: &mut Dice) -> SocketAddr {
        let (v4, v6) = self.lab.outer(Side::B);
        let (bits, port) = (dice.roll(), 1 + dice.below(65_535) as u16);
        let [.., x, y] = bits.to_be_bytes();
        match dice.below(16) {
            0 => (v4, PORT).into(),
            1 => (v6, PORT).into(),
            // Networks that are for tests and for documents.
            2..9 => ([198, 18, x, y], port).into(),
            _ => {
                let net = u128::from(Ipv6Addr::new(0x2001, 0xdb8, 0xf, 0, 0, 0, 0, 0));
                (Ipv6Addr::from(net | u128::from(bits)), port).into()
            }
        }
    }

    /// What a dropped, and its kernel, and the cable before it, so far.
    fn refused(&self) -> u64 {
        let cable = self.lab.middle.as_ref().expect("a bridge");
        let lost = cable.count("ra", "tx", "dropped");
        all_drops(&self.a.show()) + self.lab.a.udp_refused() + lost
    }

    /// Sends the frames and waits until each is accounted for; what a said meanwhile, without
    /// what every host says to its neighbours, and at most one keepalive for the peer.
    fn send(&self, frames: impl Iterator<Item = Vec<u8>>, pause: Duration) -> Vec<Vec<u8>> {
        self.wire.drain(QUIET);
        let before = self.refused();
        let mut sent = 0;
        for frame in frames {
            self.wire.send(&frame).expect("a frame sent");
            sent += 1;
            if sent % VOLLEY == 0 {
                thread::sleep(pause);
            }
        }
        let mut counted = 0;
        let what = format!("{sent} datagrams are dropped, each counted once");
        wait_until(&what, seconds(5), || {
            counted = self.refused() - before;
            counted >= sent as u64
        });
        assert_eq!(counted, sent as u64, "{what}");
        let mut said = self.wire.drain(QUIET);
        said.retain(|frame| !is_neighbourly(frame));
        let keepalive = said.iter().position(|frame| self.is_keepalive(frame));
        keepalive.map(|at| said.remove(at));
        said
    }

    /// Whether a frame is an empty data message for the peer.
    fn is_keepalive(&self, frame: &[u8]) -> bool {
        let (v4, _) = self.lab.outer(Side::B);
        let to_peer = Outer::parse(frame).is_ok_and(|o| o.destination == (v4, PORT).into());
        let message = message_of(frame).unwrap_or_default();
        to_peer && message.len() == 32 && DataHeader::parse(message).is_ok()
    }
}

/// The message of a frame that carries one from or to a fabric port.
fn message_of(frame: &[u8]) -> Option<&[u8]> {
    let outer = Outer::parse(frame).ok()?;
    let is_ours = [outer.source.port(), outer.destination.port()].contains(&PORT);
    is_ours.then(|| &frame[outer.payload..outer.end])
}

/// ARP, and what IPv6 hosts ask and tell their neighbours and routers (RFC 4861, RFC 9777).
fn is_neighbourly(frame: &[u8]) -> bool {
    const ICMPV6: u8 = 58;
    match frame[12..14] {
        [0x08, 0x06] => true,
        [0x86, 0xdd] => match frame[20] {
            ICMPV6 => matches!(frame[54], 133..=137),
            // With a hop-by-hop option before it: a report of multicast listeners.
            0 => frame[62] == 143,
            _ => false,
        },
        _ => false,
    }
}

fn mac(text: &str) -> MacAddr {
    let octets: Vec<u8> = text
        .split(':')
        .map(|octet| u8::from_str_radix(octet, 16).expect("hexadecimal"))
        .collect();
    MacAddr(octets.try_into().expect("six octets"))
}

fn all_drops(show: &Show) -> u64 {
    show.drops.values().sum()
}

fn drop_of(show: &Show, reason: DropReason) -> u64 {
    show.drops.get(reason.as_str()).copied().unwrap_or(0)
}

/// Every type with every length that something has or nearly has, with and without a session.
fn every_kind(dice: &mut Dice) -> Vec<Vec<u8>> {
    const LENGTHS: [usize; 13] = [0, 1, 7, 8, 9, 31, 32, 33, 68, 116, 168, 200, 1400];
    let mut messages = Vec::new();
    for kind in 0..=u8::MAX {
        for len in LENGTHS {
            for session in [0, dice.roll() as u32 | 1] {
                let prefix = [&session.to_be_bytes()[..], &[kind, 0, 0, 1]].concat();
                let mut message = [prefix, dice.octets(len)].concat();
                message.truncate(len);
                messages.push(message);
            }
        }
    }
    messages
}

/// A message that a must drop without a word.
fn arbitrary(scene: &Scene, dice: &mut Dice) -> Vec<u8> {
    let pick = |messages: &[Vec<u8>], dice: &mut Dice| messages[dice.below(messages.len())].clone();
    let flip = |mut message: Vec<u8>, dice: &mut Dice| {
        let at = dice.below(message.len());
        message[at] ^= 1 << dice.below(8);
        message
    };
    match dice.below(8) {
        0 => {
            let len = dice.below(1400);
            dice.octets(len)
        }
        1 => {
            let (kind, len) = [(1, 168), (2, 116), (3, 68)][dice.below(3)];
            [vec![0, 0, 0, 0, kind, 0, 0, 1], dice.octets(len - 8)].concat()
        }
        2 => {
            let (session, len) = (dice.roll() as u32 | 1, 24 + dice.below(1300));
            let kind = 4 + dice.below(2) as u8;
            [
                &session.to_be_bytes()[..],
                &[kind, 0, 0, 0],
                &dice.octets(len),
            ]
            .concat()
        }
        3 => {
            // Flags and versions that are not ours.
            let mut message = pick(&scene.handshakes, dice);
            message[5..8].copy_from_slice(&[dice.roll() as u8, 0, 2 + dice.below(200) as u8]);
            message
        }
        4 => flip(pick(&scene.handshakes, dice), dice),
        5 => pick(&scene.handshakes, dice),
        6 => flip(pick(&scene.data, dice), dice),
        _ => pick(&scene.data, dice),
    }
}

#[test]
fn a_hundred_thousand_strange_datagrams_get_no_answer() {
    strange_datagrams_get_no_answer(
        false,
        &[
            DropReason::HeaderTooShort,
            DropReason::HeaderBadType,
            DropReason::HeaderBadFlags,
            DropReason::UnknownSession,
            DropReason::LaneUnknown,
            DropReason::NonceReplayed,
            DropReason::BadTag,
            DropReason::MessageMalformed,
            DropReason::MessageVersion,
            DropReason::HandshakeBadMac,
            DropReason::HandshakeReplayed,
            DropReason::HandshakeUnexpected,
        ],
    );
}

#[test]
fn a_hundred_thousand_strange_datagrams_get_no_answer_from_the_driver_either() {
    strange_datagrams_get_no_answer(
        true,
        &[
            DropReason::UnknownSession,
            DropReason::LaneUnknown,
            DropReason::NonceReplayed,
            DropReason::BadTag,
            DropReason::MessageMalformed,
            DropReason::HandshakeRateLimited,
            DropReason::HandshakeBadMac,
        ],
    );
}

fn strange_datagrams_get_no_answer(filter: bool, expected: &[DropReason]) {
    let scene = Scene::new(filter);
    let mut dice = Dice(0x7369_6c65_6e74);
    let before = scene.a.show();
    // From both families, each.
    let mut frames = Vec::with_capacity(DATAGRAMS);
    for message in every_kind(&mut dice) {
        let v4: SocketAddr = ([198, 18, 0, 1], 1 + dice.below(65_535) as u16).into();
        let v6 = (Ipv6Addr::new(0x2001, 0xdb8, 0xf, 0, 0, 0, 0, 1), PORT).into();
        frames.extend([v4, v6].map(|source| scene.frame(source, &message)));
    }
    while frames.len() < DATAGRAMS {
        let message = arbitrary(&scene, &mut dice);
        frames.push(scene.frame(scene.source(&mut dice), &message));
    }
    let refused_by_kernel = scene.lab.a.udp_refused();
    let said = scene.send(frames.into_iter(), PAUSE);
    assert!(said.is_empty(), "{} frames, {:02x?}", said.len(), said[0]);

    let after = scene.a.show();
    let by_engine = all_drops(&after) - all_drops(&before);
    let by_kernel = scene.lab.a.udp_refused() - refused_by_kernel;
    assert!(
        by_engine > DATAGRAMS as u64 / 2,
        "the engine saw {by_engine}, its socket had no room for {by_kernel}"
    );
    for &reason in expected {
        let count = drop_of(&after, reason) - drop_of(&before, reason);
        assert!(count > 0, "{}: {:?}", reason.as_str(), after.drops);
    }
    let (peer_before, peer) = (&before.peers[0], &after.peers[0]);
    assert_eq!(peer.rx_frames, peer_before.rx_frames, "nothing verified");
    assert_eq!(peer.endpoint, peer_before.endpoint);

    let _b = scene.lab.spec(Side::B).start();
    resumes(&scene.lab.b, Side::A.inner_v4().into(), seconds(8));
}

/// mac1 of a message to a, as anybody can make it who knows a's public key.
fn set_mac1(message: &mut [u8]) {
    let key = Blake2s256::new()
        .chain_update(b"omni-mac1---")
        .chain_update(public_key(Side::A).0);
    let mac = <Blake2sMac<U16> as KeyInit>::new_from_slice(&key.finalize()).expect("32 octets");
    let covered = message.len() - 2 * handshake::MAC_LEN;
    let mac = mac.chain_update(&message[..covered]).finalize();
    message[covered..covered + handshake::MAC_LEN].copy_from_slice(&mac.into_bytes());
}

/// An initiation or a response that says it is from `sender`, with a mac1 that is right.
fn handshake_of_nobody(sender: u32, dice: &mut Dice) -> Vec<u8> {
    let (kind, len) = if sender.is_multiple_of(4) {
        (2, handshake::RESPONSE_LEN)
    } else {
        (1, handshake::INITIATION_LEN)
    };
    let prefix = [0, 0, 0, 0, kind, 0, 0, 1];
    let rest = dice.octets(len - 12);
    let mut message = [&prefix[..], &sender.to_be_bytes(), &rest].concat();
    set_mac1(&mut message);
    message
}

/// Only who knows a's public key is answered, only under load, and with less than they sent.
#[test]
fn under_load_a_cookie_is_all_that_strangers_get_and_shorter_than_its_cause() {
    const HANDSHAKES: u32 = 2400;
    let scene = Scene::new(false);
    let mut dice = Dice(0x636f_6f6b_6965);
    let before = scene.a.show();
    // What may be answered, by its sender's index: where it is from, and its length.
    let mut causes = BTreeMap::new();
    let mut frames = Vec::new();
    for sender in 1..=HANDSHAKES {
        let mut message = handshake_of_nobody(sender, &mut dice);
        let source = scene.source(&mut dice);
        if sender.is_multiple_of(5) {
            message[20] ^= 1;
        } else {
            causes.insert(sender, (source, scene.frame(source, &message).len()));
        }
        frames.push(scene.frame(source, &message));
    }
    let (octets_in, count_in) = (frames.iter().map(Vec::len).sum::<usize>(), causes.len());
    let said = scene.send(frames.into_iter(), 25 * PAUSE);

    let no_cookie = DropReason::HandshakeNoCookie;
    let asked = || drop_of(&scene.a.show(), no_cookie) - drop_of(&before, no_cookie);
    assert!(
        said.len() > 300,
        "{} answers, {} were due",
        said.len(),
        asked()
    );
    // What is shown may be a second old.
    wait_until("each answer had a cause", seconds(2), || {
        said.len() as u64 <= asked()
    });
    assert!(said.len() < count_in, "no answer before there is load");
    assert!(said.iter().map(Vec::len).sum::<usize>() < octets_in / 2);
    for frame in said {
        let message = message_of(&frame).expect("a message");
        let kind = handshake::classify(message).expect("a whole message");
        assert_eq!(kind, MessageType::CookieReply, "{message:02x?}");
        let reply = handshake::CookieReply::parse(message).expect("a cookie reply");
        // Taken out: each cause is answered once.
        let cause = causes.remove(&reply.receiver_session());
        let (source, len) = cause.expect("a mac1 that was right");
        let outer = Outer::parse(&frame).expect("a datagram");
        assert_eq!(outer.destination, source);
        assert!(frame.len() <= len, "{} octets for {len}", frame.len());
    }
}
