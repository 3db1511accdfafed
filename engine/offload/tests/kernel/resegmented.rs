//! What was coalesced goes to the kernel, which has to cut it for a tap that takes frames only:
//! those must be the frames that it was made of, octet by octet.
//!
//! ```text
//!  frames -> Coalescer -> tap in ---- bridge ---- tap out (no offloads) -> frames
//! ```

use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use omni_offload::{Coalesced, Coalescer, VNET_LEN, VnetHeader};
use omni_wire::checksum;
use rustix::event::{PollFd, PollFlags, Timespec, poll};

use crate::namespace::Namespace;
use crate::tap::{ALL_OFFLOADS, Tap};

/// Nothing here takes longer.
const PATIENCE: Duration = Duration::from_secs(10);
/// Addresses that no interface of the test has.
const MACS: [u8; 12] = [2, 0x0f, 0, 0, 0, 2, 2, 0x0f, 0, 0, 0, 1];

/// What frames are made of.
#[derive(Clone, Copy, Debug)]
struct Kind {
    v6: bool,
    udp: bool,
    tagged: bool,
    /// TCP: whether the first of them has CWR.
    reduced: bool,
}

/// A segment or datagram with a payload of `len` octets, number `at` of its flow.
fn frame(kind: Kind, at: usize, before: usize, len: usize) -> Vec<u8> {
    let Kind {
        v6,
        udp,
        tagged,
        reduced,
    } = kind;
    let mut segment = vec![0x9c, 0x40, 0x01, 0xbb];
    if udp {
        segment.extend((8 + len as u16).to_be_bytes());
        segment.extend([0, 0]);
    } else {
        segment.extend((before as u32).wrapping_sub(5000).to_be_bytes());
        let flags = if reduced && at == 0 { 0x90 } else { 0x10 };
        segment.extend([1, 2, 3, 4, 0x80, flags, 0x12, 0x34, 0, 0, 0, 0]);
        segment.extend([1, 1, 8, 10, 0, 0, 0, 1, 0, 0, 0, 2]);
    }
    segment.extend((0..len).map(|octet| (octet * 13 + at) as u8));
    let protocol = if udp { 17 } else { 6 };
    let mut packet = if v6 {
        let mut header = vec![0x60, 0, 0x12, 0x34];
        header.extend((segment.len() as u16).to_be_bytes());
        header.extend([protocol, 64]);
        for host in [1, 2] {
            header.extend([0xfd, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, host]);
        }
        header
    } else {
        let mut header = vec![0x45, 0];
        header.extend((20 + segment.len() as u16).to_be_bytes());
        header.extend((at as u16).wrapping_sub(3).to_be_bytes());
        header.extend([0, 0, 64, protocol, 0, 0, 10, 9, 0, 1, 10, 9, 0, 2]);
        let sum = !checksum::fold(checksum::add(0, &header));
        header[10..12].copy_from_slice(&sum.to_be_bytes());
        header
    };
    let addresses = if v6 { &packet[8..40] } else { &packet[12..20] };
    let pseudo = checksum::add(u64::from(protocol) + segment.len() as u64, addresses);
    let sum = !checksum::fold(checksum::add(pseudo, &segment));
    let field = if udp { 6 } else { 16 };
    segment[field..field + 2].copy_from_slice(&sum.to_be_bytes());
    packet.extend(segment);
    let ethertype: [u8; 2] = if v6 { [0x86, 0xdd] } else { [0x08, 0x00] };
    let tag: &[u8] = if tagged { &[0x81, 0, 0, 7] } else { &[] };
    [&MACS[..], tag, &ethertype, &packet].concat()
}

/// Frames of that kind that make one super-frame: equally long, and a shorter one.
fn flight(kind: Kind) -> Vec<Vec<u8>> {
    let lengths = [1200; 39].into_iter().chain([77]);
    let made = lengths.enumerate();
    made.map(|(at, len)| frame(kind, at, at * 1200, len))
        .collect()
}

/// Frames of ours that come out of a tap, so many.
fn collect(tap: &mut Tap, count: usize) -> Vec<Vec<u8>> {
    let deadline = Instant::now() + PATIENCE;
    let mut frames = Vec::new();
    while frames.len() < count && Instant::now() < deadline {
        let pause = Timespec {
            tv_sec: 0,
            tv_nsec: 50_000_000,
        };
        let mut waiting = [PollFd::from_borrowed_fd(tap.as_fd(), PollFlags::IN)];
        poll(&mut waiting, Some(&pause)).expect("an open file");
        while let Some((vnet, frame)) = tap.read() {
            if frame.starts_with(&MACS) {
                let header = VnetHeader::parse(vnet, frame.len());
                assert_eq!(header, Ok(VnetHeader::default()), "an ordinary frame");
                frames.push(frame.to_vec());
            }
        }
    }
    frames
}

#[test]
fn the_kernel_cuts_what_was_coalesced_into_what_it_was() {
    let namespace = Namespace::new("r");
    let mut taps = [("in", ALL_OFFLOADS), ("out", 0)]
        .map(|(name, offloads)| Tap::open(&namespace, name, VNET_LEN, offloads));
    namespace.ip("link add bridge type bridge mcast_snooping 0");
    for port in ["in", "out"] {
        namespace.ip(&format!("link set {port} master bridge up"));
    }
    namespace.ip("link set bridge up");
    let [tap_in, tap_out] = &mut taps;
    let mut coalescer = Coalescer::new(true);
    for case in 0..16 {
        let kind = Kind {
            v6: case & 1 != 0,
            udp: case & 2 != 0,
            tagged: case & 4 != 0,
            reduced: case & 8 != 0,
        };
        let sent = flight(kind);
        let mut written = 0;
        let mut out = |coalesced: Coalesced<'_>| {
            let Coalesced::Group(group) = coalesced else {
                panic!("a frame alone: {coalesced:?}");
            };
            let payloads = group.pieces().iter();
            let payloads = payloads.map(|piece| &sent[piece.number as usize][piece.range()]);
            let pieces: Vec<&[u8]> = [group.header()].into_iter().chain(payloads).collect();
            tap_in.write(group.vnet(), &pieces);
            written += 1;
        };
        for (number, frame) in (0..).zip(&sent) {
            coalescer.push(number, frame, &mut out);
        }
        coalescer.flush(&mut out);
        assert_eq!(written, 1, "one super-frame");
        let received = collect(tap_out, sent.len());
        assert_eq!(received.len(), sent.len(), "{kind:?}");
        for (at, (received, sent)) in received.iter().zip(&sent).enumerate() {
            assert_eq!(received, sent, "{kind:?}: {at}");
        }
    }
}
