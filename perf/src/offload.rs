//! Super-frames: what cutting one costs, and coalescing a burst, beside a copy of the same octets.
//!
//! The copy moves all octets once. Cutting does that too, to a slot for each segment, and sums
//! every payload. Coalescing copies headers only, and sums everything to verify it.

use std::hint::black_box;
use std::time::{Duration, Instant as Clock};

use omni_offload::{
    Coalesced, Coalescer, Gso, GsoKind, PartialChecksum, SuperFrame, VnetHeader, complete_checksum,
};
use omni_wire::checksum;
use omni_wire::ip::{Ipv4, Ipv6, PROTOCOL_TCP, PROTOCOL_UDP, pseudo_header};

use crate::Failure;
use crate::rounds::take_turns;

/// Octets of payload of a segment: an MTU of 1500, with timestamps in TCP.
const SIZE: usize = 1448;
/// Segments of the longest super-frame over IPv4.
const SEGMENTS: usize = 45;
/// Frames of a burst.
const BURST: usize = 44;
/// Octets of a segment's slot.
const SLOT: usize = 2048;
/// Super-frames or bursts of a round.
const REPEATED: u32 = 16;

/// A super-frame with what a tap says of it.
struct Sample {
    vnet: VnetHeader,
    octets: Vec<u8>,
}

impl Sample {
    /// So many segments from a port, over IPv4 or IPv6.
    fn new(kind: GsoKind, v6: bool, port: u16, segments: usize) -> Self {
        let payload = segments * SIZE;
        let mut segment = port.to_be_bytes().to_vec();
        segment.extend(443u16.to_be_bytes());
        let (protocol, offset) = if kind == GsoKind::Udp {
            segment.extend((8 + payload as u16).to_be_bytes());
            segment.extend([0, 0]);
            (PROTOCOL_UDP, 6)
        } else {
            segment.extend([1, 2, 3, 4, 5, 6, 7, 8, 0x80, 0x10, 0x12, 0x34, 0, 0, 0, 0]);
            segment.extend([1, 1, 8, 10, 0, 0, 0, 1, 0, 0, 0, 2]);
            (PROTOCOL_TCP, 16)
        };
        segment.extend((0..payload).map(|at| (at * 31 + at / 251) as u8));
        let mut octets = vec![2; 12];
        let ip = Headers::new(v6, protocol, segment.len());
        octets.extend(ip.octets);
        let start = octets.len();
        let sum = checksum::fold(ip.pseudo).to_be_bytes();
        segment[offset..offset + 2].copy_from_slice(&sum);
        octets.extend(segment);
        let size = SIZE as u16;
        let (start, offset) = (start as u16, offset as u16);
        let vnet = VnetHeader {
            checksum: Some(PartialChecksum { start, offset }),
            gso: Some(Gso {
                kind,
                size,
                ecn: false,
            }),
            header_len: 0,
        };
        Self { vnet, octets }
    }

    fn parse(&self) -> Result<SuperFrame, Failure> {
        Ok(SuperFrame::parse(
            &self.vnet,
            &self.octets,
            self.octets.len(),
        )?)
    }

    /// Its segments.
    fn segments(&self) -> Result<Vec<Vec<u8>>, Failure> {
        let whole = self.parse()?;
        let segment = |index| {
            let mut out = vec![0; whole.longest()];
            let len = whole.copy(index, &self.octets, &mut out);
            out.truncate(len.ok_or("a segment could not be copied")?);
            Ok(out)
        };
        (0..whole.count()).map(segment).collect()
    }
}

/// EtherType and IP header.
struct Headers {
    octets: Vec<u8>,
    /// The running sum of the pseudo-header.
    pseudo: u64,
}

impl Headers {
    fn new(v6: bool, protocol: u8, payload_len: usize) -> Self {
        let (source, destination);
        let octets = if v6 {
            let ip = Ipv6 {
                source: [0xfd; 16].into(),
                destination: [0xfe; 16].into(),
                next_header: protocol,
                hop_limit: 64,
                payload_len,
            };
            (source, destination) = (ip.source.into(), ip.destination.into());
            [&[0x86, 0xdd][..], &ip.emit()].concat()
        } else {
            let ip = Ipv4 {
                source: [10, 0, 0, 1].into(),
                destination: [10, 0, 0, 2].into(),
                protocol,
                ttl: 64,
                dont_fragment: true,
                fragment: false,
                header_len: 20,
                total_len: 20 + payload_len,
            };
            (source, destination) = (ip.source.into(), ip.destination.into());
            [&[0x08, 0x00][..], &ip.emit()].concat()
        };
        let pseudo = pseudo_header(source, destination, protocol, payload_len);
        Self { octets, pseudo }
    }
}

/// Measures both ways, prints a table, and fails where a median is more than `most` copies.
pub(crate) fn run(rounds: u32, most: f64) -> Result<(), Failure> {
    println!(
        "{rounds} rounds of {REPEATED}, contenders in turn; ns a super-frame or burst: median \
         [quartiles]; at most x {most} of the copy"
    );
    println!(
        "{:>34}  {:>26}  {:>26}  {:>6}",
        "", "copy", "offload", "ratio"
    );
    let mut slow = Vec::new();
    let mut show = |name: &str, octets: &[u8], work: &mut dyn FnMut() -> (u32, Duration)| {
        let mut copy = copying(octets);
        let measured = take_turns(rounds, &mut [&mut copy, work]);
        let ratio = measured[1].median / measured[0].median;
        println!(
            "{name:>34}  {:>26}  {:>26}  {ratio:>6.2}",
            measured[0].shown(0),
            measured[1].shown(0)
        );
        if ratio > most {
            slow.push(name.to_owned());
        }
    };
    for (name, kind, v6) in [
        ("cut, TCP over IPv4", GsoKind::TcpV4, false),
        ("cut, TCP over IPv6", GsoKind::TcpV6, true),
        ("cut, UDP over IPv4", GsoKind::Udp, false),
    ] {
        let sample = Sample::new(kind, v6, 1000, SEGMENTS);
        sample.parse()?;
        show(name, &sample.octets, &mut cutting(&sample));
    }
    let mut partial = Sample::new(GsoKind::TcpV4, false, 1000, SEGMENTS);
    let octets = partial.octets.clone();
    show(
        "complete one checksum",
        &octets,
        &mut completing(&mut partial),
    );
    for (name, kind, v6, flows, expected) in [
        ("coalesce, TCP over IPv4", GsoKind::TcpV4, false, 1, 1),
        ("coalesce, TCP over IPv6", GsoKind::TcpV6, true, 1, 1),
        ("coalesce, UDP over IPv4", GsoKind::Udp, false, 1, 1),
        (
            "coalesce, four flows, interleaved",
            GsoKind::TcpV4,
            false,
            4,
            4,
        ),
        (
            "coalesce, 44 flows: nothing",
            GsoKind::TcpV4,
            false,
            BURST,
            BURST,
        ),
    ] {
        let burst = burst(kind, v6, flows)?;
        let outputs = coalesce(&mut Coalescer::new(true), &burst);
        if outputs != expected {
            return Err(format!("{name}: {outputs} outputs, not {expected}").into());
        }
        show(name, &burst.concat(), &mut coalescing(&burst));
    }
    if slow.is_empty() {
        Ok(())
    } else {
        Err(format!("more than x {most}: {}", slow.join("; ")).into())
    }
}

/// A burst of frames, one of each flow in turn.
fn burst(kind: GsoKind, v6: bool, flows: usize) -> Result<Vec<Vec<u8>>, Failure> {
    let streams: Result<Vec<_>, _> = (0..flows)
        .map(|flow| Sample::new(kind, v6, 1000 + flow as u16, BURST / flows).segments())
        .collect();
    let streams = streams?;
    let rounds = 0..BURST / flows;
    Ok(rounds
        .flat_map(|at| streams.iter().map(move |stream| stream[at].clone()))
        .collect())
}

/// Copies octets once.
fn copying(octets: &[u8]) -> impl FnMut() -> (u32, Duration) {
    let mut out = vec![0; octets.len()];
    timed(move || {
        black_box(&mut out[..]).copy_from_slice(black_box(octets));
    })
}

/// Cuts a super-frame into slots.
fn cutting(sample: &Sample) -> impl FnMut() -> (u32, Duration) {
    let mut slots = vec![[0; SLOT]; SEGMENTS];
    timed(move || {
        let Sample { vnet, octets } = black_box(sample);
        let Ok(whole) = SuperFrame::parse(vnet, octets, octets.len()) else {
            return;
        };
        for (index, slot) in slots.iter_mut().enumerate() {
            black_box(whole.copy(index, octets, slot));
        }
    })
}

/// Completes one checksum over all octets.
fn completing(sample: &mut Sample) -> impl FnMut() -> (u32, Duration) {
    timed(|| {
        if let Some(partial) = sample.vnet.checksum {
            let _ = black_box(complete_checksum(partial, &mut sample.octets));
        }
    })
}

/// Coalesces a burst.
fn coalescing(burst: &[Vec<u8>]) -> impl FnMut() -> (u32, Duration) {
    let mut coalescer = Coalescer::new(true);
    timed(move || {
        black_box(coalesce(&mut coalescer, black_box(burst)));
    })
}

/// How many outputs a burst gives.
fn coalesce(coalescer: &mut Coalescer, burst: &[Vec<u8>]) -> usize {
    let mut outputs = 0;
    let mut out = |coalesced: Coalesced<'_>| {
        black_box(&coalesced);
        outputs += 1;
    };
    for (number, frame) in (0..).zip(burst) {
        coalescer.push(number, frame, &mut out);
    }
    coalescer.flush(&mut out);
    outputs
}

/// Does something as often as a round has it.
fn timed(mut work: impl FnMut()) -> impl FnMut() -> (u32, Duration) {
    move || {
        let start = Clock::now();
        for _ in 0..REPEATED {
            work();
        }
        (REPEATED, start.elapsed())
    }
}
