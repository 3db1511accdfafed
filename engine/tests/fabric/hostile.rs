//! Someone on the underlay's wire who sees every message and sends what they like.

use std::thread;
use std::time::Duration;

use omni_engine::show::Show;
use omni_wire::DropReason;

use crate::support::dice::Dice;
use crate::support::lab::{Lab, Plan, Side, Wire};
use crate::support::ledger::{assert_memory_idle, is_complete};
use crate::support::packet::PacketSocket;
use crate::support::tools::ping_all;
use crate::support::{seconds, wait_until};

/// Datagrams sent at the node.
const DATAGRAMS: u64 = 1_000_000;
/// Sent without a pause: fewer than a veth's ring holds, so that all reach the node.
const VOLLEY: u64 = 100;
/// Between two volleys.
const PAUSE: Duration = Duration::from_millis(2);
/// No frame comes for this long: all are here.
const QUIET: Duration = Duration::from_millis(200);
/// A node tells its peer no more than this in a minute, when nothing changes.
const RECORDS: usize = 64;
/// Where the UDP header begins: after Ethernet and an IPv4 header without options.
const UDP: usize = 14 + 20;
/// Where the message begins.
const MESSAGE: usize = UDP + 8;
/// Octets of the message's header.
const HEADER: usize = 32;

/// The attacker: genuine data messages from b to a, and dice.
struct Forger {
    genuine: Vec<Vec<u8>>,
    dice: Dice,
}

impl Forger {
    /// A frame that must be dropped by a.
    fn forge(&mut self) -> Vec<u8> {
        let pick = self.dice.below(self.genuine.len());
        let template = self.genuine[pick].clone();
        let message = self.spoil(&template[MESSAGE..]);
        wrap(&template, &message)
    }

    /// One of the ways to be wrong.
    fn spoil(&mut self, genuine: &[u8]) -> Vec<u8> {
        let mut message = genuine.to_vec();
        match self.dice.below(8) {
            0 => return self.noise(),
            // A replay, as it was.
            1 => {}
            // Another session.
            2 => message[..4].copy_from_slice(&self.session_id()),
            // A nonce that was not used yet, below the limit: the tag cannot fit.
            3 => {
                message[8] = 0;
                message[9] = 1 + self.dice.roll() as u8 % 200;
            }
            // A bit of the tag or of the ciphertext, under a new nonce.
            4 => {
                message[10] ^= 0x80;
                let at = 16 + self.dice.below(message.len() - 16);
                message[at] ^= 1 << self.dice.below(8);
            }
            // A lane that was not announced.
            5 => message[6] = 0x7f,
            // Unknown types and flags; a control message that was data has no fitting tag.
            6 => {
                message[4] = 6 + self.dice.roll() as u8 % 200;
                message[5] = self.dice.roll() as u8;
            }
            // Cut off anywhere behind the session.
            _ => message.truncate(5 + self.dice.below(message.len() - 5)),
        }
        message
    }

    fn noise(&mut self) -> Vec<u8> {
        let len = 1 + self.dice.below(1400);
        [self.session_id().to_vec(), self.dice.octets(len)].concat()
    }

    /// Not 0, which would be a message for the control thread.
    fn session_id(&mut self) -> [u8; 4] {
        (self.dice.roll() as u32 | 1).to_be_bytes()
    }
}

/// `message` in the outer headers of `template`, with lengths and checksum that fit.
fn wrap(template: &[u8], message: &[u8]) -> Vec<u8> {
    let mut frame = [&template[..MESSAGE], message].concat();
    let total = ((frame.len() - 14) as u16).to_be_bytes();
    frame[16..18].copy_from_slice(&total);
    let datagram = ((frame.len() - UDP) as u16).to_be_bytes();
    frame[UDP + 4..UDP + 6].copy_from_slice(&datagram);
    // No UDP checksum (RFC 768).
    frame[UDP + 6..UDP + 8].copy_from_slice(&[0, 0]);
    frame[24..26].copy_from_slice(&[0, 0]);
    let words = frame[14..UDP]
        .chunks(2)
        .map(|w| u32::from(u16::from_be_bytes([w[0], w[1]])));
    let mut sum: u32 = words.sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    frame[24..26].copy_from_slice(&(!(sum as u16)).to_be_bytes());
    frame
}

/// The type of a message in a session that has content, where a frame is UDP over IPv4 with one.
fn message_type(frame: &[u8]) -> Option<u8> {
    let is_one = frame.len() > MESSAGE + HEADER
        && frame[12..14] == [8, 0]
        && frame[23] == 17
        && frame[MESSAGE..MESSAGE + 4] != [0; 4];
    is_one.then(|| frame[MESSAGE + 4])
}

fn is_data(frame: &[u8]) -> bool {
    message_type(frame) == Some(4)
}

/// That next to nothing left a node on its own account: what it has to tell its peer anyhow, and
/// a keepalive.
fn assert_silent(sent: &[Vec<u8>]) {
    let is_record = |frame: &[u8]| message_type(frame) == Some(5);
    let records = sent.iter().filter(|frame| is_record(frame)).count();
    assert!(records <= RECORDS, "{records} records to the peer");
    let other = sent
        .iter()
        .filter(|frame| frame[12..14] == [8, 0] && !is_data(frame) && !is_record(frame));
    assert!(
        other.clone().count() <= 1,
        "beside a keepalive: {:02x?}",
        other.collect::<Vec<_>>()
    );
}

fn drop_of(show: &Show, reason: DropReason) -> u64 {
    show.drops.get(reason.as_str()).copied().unwrap_or(0)
}

fn all_drops(show: &Show) -> u64 {
    show.drops.values().sum()
}

/// A socket on the bridge's side of A's wire, and genuine messages from A to B.
fn tap(lab: &Lab) -> (PacketSocket, Vec<Vec<u8>>) {
    let middle = lab.middle.as_ref().expect("a bridge");
    let (from_a, from_b) = (
        PacketSocket::open(middle, "ra"),
        PacketSocket::open(middle, "rb"),
    );
    ping_all(&lab.a, Side::B.inner_v4().into(), "");
    let mut genuine = from_b.drain(QUIET);
    genuine.retain(|frame| is_data(frame));
    (from_a, genuine)
}

#[test]
fn forged_and_replayed_messages_change_nothing_but_counters() {
    let lab = Lab::alone(Plan {
        wire: Wire::Bridged,
        ..Plan::default()
    });
    let (a, b) = lab.start();
    let middle = lab.middle.as_ref().expect("a bridge");
    let (from_a, genuine) = tap(&lab);
    assert!(
        genuine.len() >= 5,
        "the wire is tapped: {} messages",
        genuine.len()
    );
    from_a.drain(QUIET);
    let (a_before, b_before) = (a.show(), b.show());
    let host_before = lab.a.count("omni0", "rx", "packets");
    let lost_before = middle.count("ra", "tx", "dropped");

    let mut forger = Forger {
        genuine,
        dice: Dice(0x6f6d_6e69),
    };
    for sent in 0..DATAGRAMS {
        from_a.send(&forger.forge()).expect("a frame sent");
        if sent % VOLLEY == VOLLEY - 1 {
            thread::sleep(PAUSE);
        }
    }

    let lost = middle.count("ra", "tx", "dropped") - lost_before;
    assert!(lost < DATAGRAMS / 2, "{lost} never reached the node");
    wait_until("every forgery that arrived is counted", seconds(3), || {
        all_drops(&a.show()) - all_drops(&a_before) == DATAGRAMS - lost
    });
    let (a_after, b_after) = (a.show(), b.show());
    let expected = [
        DropReason::HeaderTooShort,
        DropReason::HeaderBadType,
        DropReason::UnknownSession,
        DropReason::LaneUnknown,
        DropReason::NonceReplayed,
        DropReason::BadTag,
    ];
    for reason in expected {
        assert!(
            drop_of(&a_after, reason) > 0,
            "{}: {:?}",
            reason.as_str(),
            a_after.drops
        );
    }
    let (peer_before, peer) = (&a_before.peers[0], &a_after.peers[0]);
    let genuine = b_after.peers[0].tx_frames - b_before.peers[0].tx_frames;
    let verified = peer.rx_frames - peer_before.rx_frames;
    assert_eq!(verified, genuine, "only what b sent verified");
    let delivered = lab.a.count("omni0", "rx", "packets") - host_before;
    assert!(
        delivered <= genuine,
        "{delivered} frames were delivered, b sent {genuine}"
    );
    assert_eq!(
        peer.endpoint, peer_before.endpoint,
        "the endpoint did not move"
    );
    assert!(
        peer.last_handshake_seconds >= peer_before.last_handshake_seconds,
        "a new session"
    );
    assert!(is_complete(&a_after.umem), "{:?}", a_after.umem);

    // What left a meanwhile is its hosts' own: no answer, no complaint.
    let sent = peer.tx_frames - peer_before.tx_frames;
    let answers = from_a.drain(QUIET);
    let data = answers.iter().filter(|frame| is_data(frame)).count() as u64;
    assert!(data <= sent, "{data} data messages, {sent} frames to send");
    assert_silent(&answers);

    ping_all(&lab.a, Side::B.inner_v4().into(), "");
    ping_all(&lab.b, Side::A.inner_v4().into(), "");
    assert_memory_idle(&a, &b);
}

/// Handshakes that are none go to the control thread by the kernel's stack.
#[test]
fn messages_without_a_session_that_are_no_handshake_get_no_answer() {
    let lab = Lab::alone(Plan {
        wire: Wire::Bridged,
        ..Plan::default()
    });
    let (a, b) = lab.start();
    let (from_a, genuine) = tap(&lab);
    let template = genuine.first().expect("the wire is tapped");
    from_a.drain(QUIET);
    let before = a.show();

    let mut dice = Dice(0x6e_6572_7675);
    // Message types with their lengths, wrong lengths, wrong types and wrong versions.
    let kinds = [
        (1, 168, 1),
        (2, 116, 1),
        (3, 68, 1),
        (1, 167, 1),
        (9, 168, 1),
        (1, 168, 2),
    ];
    let count = 240;
    for (kind, len, version) in kinds.into_iter().cycle().take(count) {
        let message = [vec![0, 0, 0, 0, kind, 0, 0, version], dice.octets(len - 8)].concat();
        from_a
            .send(&wrap(template, &message))
            .expect("a frame sent");
        thread::sleep(Duration::from_micros(500));
    }
    wait_until("every message is counted", seconds(3), || {
        all_drops(&a.show()) - all_drops(&before) == count as u64
    });
    let after = a.show();
    let expected = [
        DropReason::MessageMalformed,
        DropReason::MessageVersion,
        DropReason::HandshakeBadMac,
    ];
    for reason in expected {
        assert!(
            drop_of(&after, reason) > 0,
            "{}: {:?}",
            reason.as_str(),
            after.drops
        );
    }
    assert_silent(&from_a.drain(QUIET));
    assert_eq!(after.peers[0].endpoint, before.peers[0].endpoint);
    ping_all(&lab.a, Side::B.inner_v4().into(), "");
    assert_memory_idle(&a, &b);
}
