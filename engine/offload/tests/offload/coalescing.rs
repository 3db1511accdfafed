//! Frames of a burst made into super-frames.

use std::collections::BTreeMap;

use omni_offload::{Coalesced, Coalescer, FLOWS_MAX, PIECES_MAX, SuperFrame, VnetHeader};

use crate::dice::Dice;
use crate::frames::{ACK, CWR, ECE, FIN, Frame, PSH, RST, SYN, URG, stream, tags, tcp, udp};
use crate::reference::{self, Out};

/// Bursts that are compared with the reference.
const BURSTS: usize = 100_000;

/// Coalesces one burst, and checks that each super-frame can be written and read.
pub(crate) fn run(coalescer: &mut Coalescer, burst: &[Vec<u8>]) -> Vec<Out> {
    let mut made = Vec::new();
    let mut out = |coalesced: Coalesced<'_>| made.push(materialise(burst, &coalesced));
    for (number, frame) in burst.iter().enumerate() {
        coalescer.push(number as u32, frame, &mut out);
    }
    coalescer.flush(&mut out);
    made
}

fn materialise(burst: &[Vec<u8>], coalesced: &Coalesced<'_>) -> Out {
    let group = match coalesced {
        Coalesced::Frame(number) => {
            return Out {
                gso_type: 0,
                size: 0,
                octets: burst[*number as usize].clone(),
            };
        }
        Coalesced::Group(group) => group,
    };
    let mut octets = group.header().to_vec();
    for piece in group.pieces() {
        octets.extend(&burst[piece.number as usize][piece.range()]);
    }
    let vnet = group.vnet().emit();
    let read = VnetHeader::parse(&vnet, octets.len()).expect("a valid header");
    assert_eq!(usize::from(group.vnet().header_len), group.header().len());
    let size = usize::from(read.gso.expect("segments").size);
    let whole = SuperFrame::parse(&read, &octets, octets.len()).expect("a valid super-frame");
    assert_eq!(whole.count(), group.pieces().len());
    Out {
        gso_type: vnet[1],
        size,
        octets,
    }
}

/// How many frames each output has, of a burst that is taken apart again to be compared.
fn grouped_with(udp: bool, frames: &[Frame]) -> Vec<usize> {
    let burst: Vec<Vec<u8>> = frames.iter().map(Frame::octets).collect();
    let made = run(&mut Coalescer::new(udp), &burst);
    assert_eq!(made, reference::coalesce(&burst, udp));
    assert_eq!(by_flow(&restored(&made)), by_flow(&burst));
    made.iter().map(|out| apart(out).len()).collect()
}

fn grouped(frames: &[Frame]) -> Vec<usize> {
    grouped_with(false, frames)
}

/// The frames that an output stands for.
fn apart(out: &Out) -> Vec<Vec<u8>> {
    match out.gso_type {
        0 => vec![out.octets.clone()],
        _ => reference::segments(&out.octets, out.size),
    }
}

fn restored(made: &[Out]) -> Vec<Vec<u8>> {
    made.iter().flat_map(apart).collect()
}

/// The frames of each flow in their order, without what means nothing: identifications of packets
/// that nobody may fragment.
fn by_flow(frames: &[Vec<u8>]) -> BTreeMap<Vec<u8>, Vec<Vec<u8>>> {
    let mut flows: BTreeMap<Vec<u8>, Vec<Vec<u8>>> = BTreeMap::new();
    for frame in frames {
        let at = reference::places(frame);
        let addresses = if frame[at.ip] / 16 == 4 {
            &frame[at.ip + 12..at.ip + 20]
        } else {
            &frame[at.ip + 8..at.ip + 40]
        };
        let mut key = addresses.to_vec();
        key.push(at.protocol);
        key.extend(&frame[at.transport..at.transport + 4]);
        let mut frame = frame.clone();
        if frame[at.ip] / 16 == 4 && frame[at.ip + 6] & 0x40 != 0 {
            frame[at.ip + 4..at.ip + 6].fill(0);
            frame[at.ip + 10..at.ip + 12].fill(0);
        }
        flows.entry(key).or_default().push(frame);
    }
    flows
}

/// Three segments of 100 octets, the middle one changed.
fn middle_changed(first: &Frame, change: impl FnOnce(&mut Frame)) -> Vec<usize> {
    let mut frames = stream(first, &[100, 100, 100]);
    change(&mut frames[1]);
    grouped_with(true, &frames)
}

#[test]
fn a_stream_of_either_version_with_any_tags_is_one_super_frame() {
    for vlans in [&[][..], &[7], &[7, 8]] {
        for first in [tcp(&[]), tcp(&[]).over_v6(), udp(&[]), udp(&[]).over_v6()] {
            let tags = tags(vlans);
            let first = Frame { tags, ..first };
            assert_eq!(grouped_with(true, &stream(&first, &[100; 10])), [10]);
        }
    }
}

#[test]
fn udp_is_left_alone_unless_asked_for() {
    let frames = stream(&udp(&[]), &[100; 3]);
    assert_eq!(grouped_with(false, &frames), [1, 1, 1]);
    assert_eq!(grouped_with(true, &frames), [3]);
}

#[test]
fn a_shorter_segment_closes_and_a_longer_one_opens() {
    let lengths = [100, 100, 50, 50, 50, 100, 100];
    assert_eq!(grouped(&stream(&tcp(&[]), &lengths)), [3, 2, 2]);
    let datagrams = stream(&udp(&[]), &lengths);
    assert_eq!(grouped_with(true, &datagrams), [3, 2, 2]);
}

#[test]
fn psh_closes_and_is_kept() {
    let mut frames = stream(&tcp(&[]), &[100; 5]);
    frames[1].flags |= PSH;
    assert_eq!(grouped(&frames), [2, 3]);
    frames[0].flags |= PSH;
    assert_eq!(grouped(&frames), [1, 1, 3]);
}

#[test]
fn flags_that_are_said_once_go_alone() {
    for flag in [FIN, SYN, RST, URG] {
        let made = middle_changed(&tcp(&[]), |frame| frame.flags |= flag);
        assert_eq!(made, [1, 1, 1], "{flag:#04x}");
    }
    let made = middle_changed(&tcp(&[]), |frame| frame.flags = ACK | ECE);
    assert_eq!(made, [1, 1, 1], "ECE differs");
}

#[test]
fn cwr_is_on_the_first_frame_only_and_told() {
    let mut frames = stream(&tcp(&[]), &[100; 4]);
    frames[2].flags |= CWR;
    assert_eq!(grouped(&frames), [2, 2]);
    let burst: Vec<Vec<u8>> = frames.iter().map(Frame::octets).collect();
    let made = run(&mut Coalescer::new(false), &burst);
    let types: Vec<u8> = made.iter().map(|out| out.gso_type).collect();
    assert_eq!(types, [1, 0x81]);
}

#[test]
fn whatever_differs_in_a_header_goes_into_another_super_frame() {
    type Change = (&'static str, fn(&mut Frame));
    let both: [Change; 7] = [
        ("source MAC", |frame| frame.macs[11] = 9),
        ("destination MAC", |frame| frame.macs[5] = 9),
        ("VLAN", |frame| frame.tags = tags(&[8])),
        ("no tag", |frame| frame.tags.clear()),
        ("ECN", |frame| frame.ds_field = 3),
        ("DSCP", |frame| frame.ds_field = 0xb8),
        ("TTL", |frame| frame.ttl = 63),
    ];
    let of_tcp: [Change; 6] = [
        ("acknowledgment", |frame| frame.acknowledgment += 1),
        ("window", |frame| frame.window += 1),
        ("an option", |frame| frame.tcp_options[3] = 1),
        ("no option", |frame| frame.tcp_options.clear()),
        ("a later sequence number", |frame| frame.sequence += 1),
        ("an earlier sequence number", |frame| {
            frame.sequence = frame.sequence.wrapping_sub(100);
        }),
    ];
    let first = Frame {
        tags: tags(&[7]),
        tcp_options: vec![1, 1, 8, 10, 0, 0, 0, 1, 0, 0, 0, 2],
        ..tcp(&[])
    };
    for first in [first.clone(), first.over_v6()] {
        for (name, change) in both.iter().chain(&of_tcp) {
            assert_eq!(middle_changed(&first, change), [1, 1, 1], "{name}");
        }
        let datagrams = Frame { udp: true, ..first };
        for (name, change) in &both {
            assert_eq!(middle_changed(&datagrams, change), [1, 1, 1], "{name}");
        }
    }
    let label = |frame: &mut Frame| frame.label = 1;
    assert_eq!(middle_changed(&tcp(&[]).over_v6(), label), [1, 1, 1]);
}

#[test]
fn another_flow_is_no_reason_to_close() {
    type Change = fn(&mut Frame);
    let changes: [Change; 4] = [
        |frame| frame.hosts[0] = 9,
        |frame| frame.hosts[1] = 9,
        |frame| frame.ports[0] = 9,
        |frame| frame.ports[1] = 9,
    ];
    for change in changes {
        let mut frames = stream(&tcp(&[]), &[100; 3]);
        let mut other = frames[1].clone();
        change(&mut other);
        frames.insert(1, other);
        assert_eq!(grouped(&frames), [3, 1]);
    }
    let mut frames = stream(&tcp(&[]), &[100; 3]);
    frames.insert(1, udp(&[1; 100]));
    assert_eq!(grouped_with(true, &frames), [3, 1]);
}

#[test]
fn ids_count_up_or_mean_nothing() {
    let fragmentable = Frame {
        dont_fragment: false,
        ..tcp(&[])
    };
    assert_eq!(grouped(&stream(&fragmentable, &[100; 4])), [4]);
    let jump = |frame: &mut Frame| frame.id = 7;
    assert_eq!(middle_changed(&fragmentable, jump), [1, 1, 1]);
    assert_eq!(middle_changed(&tcp(&[]), jump), [3]);
    let differs = |frame: &mut Frame| frame.dont_fragment = false;
    assert_eq!(middle_changed(&tcp(&[]), differs), [1, 1, 1]);
}

#[test]
fn options_extension_headers_and_empty_segments_go_alone() {
    let options = |frame: &mut Frame| frame.ip_options = vec![1, 1, 1, 0];
    assert_eq!(middle_changed(&tcp(&[]), options), [1, 1, 1]);
    let all = Frame {
        ip_options: vec![1, 1, 1, 0],
        ..tcp(&[])
    };
    assert_eq!(grouped(&stream(&all, &[100; 3])), [1, 1, 1]);
    let extension = |frame: &mut Frame| frame.extensions = vec![(60, vec![0; 8])];
    assert_eq!(middle_changed(&tcp(&[]).over_v6(), extension), [1, 1, 1]);
    // An acknowledgment without data, between data.
    let mut frames = stream(&tcp(&[]), &[100, 100, 0, 100, 100]);
    assert_eq!(grouped(&frames), [2, 1, 2]);
    frames[2].udp = true;
    assert_eq!(grouped_with(true, &frames), [1, 4]);
}

/// What comes out of three segments of which the middle one is changed as octets.
fn damaged(first: &Frame, damage: impl FnOnce(&mut Vec<u8>)) -> Vec<Out> {
    let frames = stream(first, &[100, 100, 100]);
    let mut burst: Vec<Vec<u8>> = frames.iter().map(Frame::octets).collect();
    damage(&mut burst[1]);
    let made = run(&mut Coalescer::new(true), &burst);
    assert_eq!(made, reference::coalesce(&burst, true));
    let octets: Vec<&Vec<u8>> = made.iter().map(|out| &out.octets).collect();
    if made.len() == 3 {
        assert_eq!(octets, burst.iter().collect::<Vec<_>>(), "the order");
    }
    made
}

#[test]
fn a_bad_checksum_goes_alone_and_as_it_is() {
    let firsts = [tcp(&[]), tcp(&[]).over_v6(), udp(&[]), udp(&[]).over_v6()];
    for first in firsts {
        let (transport, len) = (first.transport(), first.header_len() + 100);
        for at in [transport + 4, len - 50, len - 1] {
            assert_eq!(damaged(&first, |frame| frame[at] ^= 0x10).len(), 3);
        }
        // All of it may be bad: nothing is merged then, and nothing is repaired.
        let mut burst: Vec<Vec<u8>> = stream(&first, &[100; 3])
            .iter()
            .map(Frame::octets)
            .collect();
        burst.iter_mut().for_each(|frame| frame[len - 1] ^= 1);
        let made = run(&mut Coalescer::new(true), &burst);
        assert_eq!(restored(&made), burst);
        assert_eq!(made.len(), 3);
    }
    // The IPv4 header's own.
    assert_eq!(damaged(&tcp(&[]), |frame| frame[25] ^= 1).len(), 3);
}

#[test]
fn a_datagram_without_a_checksum_goes_alone() {
    assert_eq!(damaged(&udp(&[]), |frame| frame[40..42].fill(0)).len(), 3);
    let other_length = |frame: &mut Vec<u8>| frame[39] -= 1;
    assert_eq!(damaged(&udp(&[]), other_length).len(), 3);
    // One that sums to ones without any: as if its 0 were a checksum that is right.
    let mut frames = stream(&udp(&[]), &[100; 3]);
    let is_all_ones = |frame: &Frame| frame.octets()[40..42] == [0xff, 0xff];
    let found = (0..=u16::MAX).any(|value| {
        frames[1].payload[..2].copy_from_slice(&value.to_be_bytes());
        is_all_ones(&frames[1])
    });
    assert!(found, "one of all words does");
    assert_eq!(grouped_with(true, &frames), [3]);
    let mut burst: Vec<Vec<u8>> = frames.iter().map(Frame::octets).collect();
    burst[1][40..42].fill(0);
    let made = run(&mut Coalescer::new(true), &burst);
    assert_eq!(restored(&made), burst);
    assert_eq!(made.len(), 3);
}

#[test]
fn padding_is_not_lost() {
    assert_eq!(damaged(&tcp(&[]), |frame| frame.extend([0; 6])).len(), 3);
    let first = tcp(&[]).over_v6();
    assert_eq!(damaged(&first, |frame| frame.push(0)).len(), 3);
}

#[test]
fn fragments_go_alone_and_close_what_is_open_between_their_hosts() {
    let fragment = |flags: u8, offset: u8| {
        move |frame: &mut Vec<u8>| {
            (frame[20], frame[21]) = (flags, offset);
            frame[24..26].fill(0);
            let sum = reference::complement(reference::sum(&frame[14..34]));
            frame[24..26].copy_from_slice(&sum.to_be_bytes());
        }
    };
    for first in [tcp(&[]), udp(&[])] {
        assert_eq!(damaged(&first, fragment(0x20, 0)).len(), 3, "the first");
        assert_eq!(damaged(&first, fragment(0, 10)).len(), 3, "the last");
    }
    // Between other hosts it closes nothing.
    let mut burst: Vec<Vec<u8>> = stream(&tcp(&[]), &[100; 2])
        .iter()
        .map(Frame::octets)
        .collect();
    let mut elsewhere = burst[0].clone();
    elsewhere[33] = 77;
    fragment(0x20, 0)(&mut elsewhere);
    burst.insert(1, elsewhere);
    let made = run(&mut Coalescer::new(false), &burst);
    let types: Vec<u8> = made.iter().map(|out| out.gso_type).collect();
    assert_eq!(types, [0, 1]);
}

#[test]
fn frames_that_are_no_packets_go_on_at_once() {
    let burst: Vec<Vec<u8>> = stream(&tcp(&[]), &[100; 2])
        .iter()
        .map(Frame::octets)
        .collect();
    let mut arp = vec![0xff; 12];
    arp.extend([0x08, 0x06]);
    arp.extend([0; 46]);
    let mut icmp = burst[0].clone();
    icmp[23] = 1;
    for other in [arp, icmp, Vec::new(), vec![0; 13]] {
        let burst = [burst[0].clone(), other.clone(), burst[1].clone()];
        let made = run(&mut Coalescer::new(false), &burst);
        assert_eq!(made.len(), 2);
        assert_eq!(made[0].octets, other);
    }
}

#[test]
fn a_super_frame_has_64_pieces_and_65535_octets_at_most() {
    let frames = stream(&tcp(&[]), &[100; 2 * PIECES_MAX + 1]);
    assert_eq!(grouped(&frames), [PIECES_MAX, PIECES_MAX, 1]);
    // Two headers and so many octets are 65,535 exactly, and one more than that.
    for (first, headers) in [(tcp(&[]), 40), (tcp(&[]).over_v6(), 60), (udp(&[]), 28)] {
        let fits = 65_535 - headers - 7 * 8_192;
        for (last, expected) in [(fits, &[8][..]), (fits + 1, &[7, 1])] {
            let mut lengths = vec![8_192; 7];
            lengths.push(last);
            assert_eq!(grouped_with(true, &stream(&first, &lengths)), expected);
        }
    }
}

#[test]
fn a_ninth_flow_closes_the_one_that_was_opened_first() {
    let flow = |port: usize| Frame {
        ports: [port as u16, 80],
        ..tcp(&[])
    };
    let streams: Vec<Vec<Frame>> = (0..=FLOWS_MAX)
        .map(|port| stream(&flow(port), &[100; 2]))
        .collect();
    let eight = |second: usize| streams[..FLOWS_MAX].iter().map(move |one| &one[second]);
    let all: Vec<Frame> = eight(0).chain(eight(1)).cloned().collect();
    assert_eq!(grouped(&all), [2; FLOWS_MAX]);
    let ninth = &streams[FLOWS_MAX][0];
    let with_ninth = eight(0).chain([ninth]).chain(eight(1).skip(1));
    let with_ninth: Vec<Frame> = with_ninth.cloned().collect();
    assert_eq!(grouped(&with_ninth), [1, 2, 2, 2, 2, 2, 2, 2, 1]);
}

#[test]
fn nothing_is_open_after_a_flush() {
    let mut coalescer = Coalescer::new(false);
    let burst: Vec<Vec<u8>> = stream(&tcp(&[]), &[100; 4])
        .iter()
        .map(Frame::octets)
        .collect();
    assert_eq!(run(&mut coalescer, &burst[..2]).len(), 1);
    assert_eq!(run(&mut coalescer, &burst[2..]).len(), 1);
    coalescer.flush(&mut |coalesced: Coalesced<'_>| panic!("{coalesced:?}"));
}

/// Frames of some flows, mixed, most of them in order and with little that is special.
pub(crate) fn any_burst(dice: &mut Dice) -> Vec<Vec<u8>> {
    let flows_max = if dice.once_in(4) { 12 } else { 3 };
    let count = 1 + dice.below(flows_max);
    let mut flows: Vec<Frame> = (0..count).map(|flow| any_flow(dice, flow)).collect();
    let frames_max = if dice.once_in(50) { 150 } else { 20 };
    let len = 1 + dice.below(frames_max);
    let mut burst = Vec::new();
    for _ in 0..len {
        let flow = dice.below(count);
        let frame = next(&mut flows[flow], dice);
        let mut octets = frame.octets();
        if dice.once_in(12) {
            spoil(&mut octets, &frame, dice);
        }
        burst.push(octets);
    }
    burst
}

fn any_flow(dice: &mut Dice, flow: usize) -> Frame {
    let mut frame = tcp(&[]);
    frame.udp = dice.once_in(3);
    frame.v6 = dice.once_in(2);
    let vlans = [7, 8];
    frame.tags = tags(&vlans[..dice.below(3)]);
    frame.dont_fragment = dice.once_in(2);
    frame.hosts[0] = dice.below(2) as u8;
    frame.ports[1] = (flow % 10) as u16;
    frame.sequence = dice.roll() as u32 | 0xffff_0000;
    frame.id = dice.roll() as u16 | 0xfff0;
    if dice.once_in(2) {
        frame.tcp_options = vec![1, 1, 8, 10, 0, 0, 0, 1, 0, 0, 0, 2];
    }
    frame.payload = vec![0; 1 + dice.below(120)];
    frame
}

/// The next frame of a flow, often with something that is special.
fn next(flow: &mut Frame, dice: &mut Dice) -> Frame {
    let len = match dice.below(12) {
        0 => 0,
        1 | 2 => dice.below(flow.payload.len() + 1),
        3 => dice.below(200),
        _ => flow.payload.len(),
    };
    let mut frame = flow.clone();
    frame.payload = dice.octets(len);
    match dice.below(60) {
        0..8 => frame.flags |= PSH,
        8 => frame.flags |= 1 << dice.below(8),
        9 => frame.flags |= CWR,
        10 => frame.ds_field ^= 1 << dice.below(8),
        11 => frame.ttl -= 1,
        12 => frame.id = dice.roll() as u16,
        13 => frame.dont_fragment = !frame.dont_fragment,
        14 => frame.window += 1,
        15 => frame.acknowledgment += 1,
        16 => frame.sequence = dice.roll() as u32,
        17 => frame.macs[dice.below(12)] ^= 4,
        18 => frame.label ^= 1,
        19 => frame.tcp_options = vec![1; 4],
        20 if !frame.v6 => frame.ip_options = vec![1; 4],
        20 => frame.extensions = vec![(60, vec![0; 8])],
        // What is special once may be so from then on.
        21 => flow.window += 1,
        22 => flow.flags ^= ECE,
        23 => flow.ds_field ^= 2,
        _ => {}
    }
    flow.sequence = frame.sequence.wrapping_add(len as u32);
    flow.id = frame.id.wrapping_add(1);
    frame
}

/// Changes a frame as no sender would.
fn spoil(octets: &mut Vec<u8>, frame: &Frame, dice: &mut Dice) {
    let ip = 14 + frame.tags.len();
    match dice.below(5) {
        0 => octets.extend([0; 4]),
        1 => {
            let at = ip + dice.below(octets.len() - ip);
            octets[at] ^= 1 << dice.below(8);
        }
        2 if !frame.v6 => octets[ip + 6] |= 0x20,
        3 if frame.udp => octets[frame.transport() + 6..][..2].fill(0),
        _ => *octets.last_mut().expect("a frame") ^= 1,
    }
}

#[test]
fn a_hundred_thousand_bursts_are_coalesced_as_the_reference_does() {
    let mut dice = Dice(0x9e37_79b9_7f4a_7c15);
    let mut coalescers = [false, true].map(Coalescer::new);
    let (mut frames, mut outputs, mut groups) = (0, 0, 0);
    for number in 0..BURSTS {
        let burst = any_burst(&mut dice);
        let udp = number % 2 == 1;
        let made = run(&mut coalescers[usize::from(udp)], &burst);
        assert_eq!(made, reference::coalesce(&burst, udp), "burst {number}");
        frames += burst.len();
        outputs += made.len();
        groups += made.iter().filter(|out| out.gso_type != 0).count();
    }
    assert!(groups > BURSTS, "only {groups} super-frames");
    assert!(
        outputs + 2 * BURSTS < frames,
        "{outputs} of {frames} frames"
    );
}

#[test]
fn what_was_coalesced_is_taken_apart_into_what_it_was() {
    let mut dice = Dice(0x2545_f491_4f6c_dd1d);
    let mut coalescer = Coalescer::new(true);
    for number in 0..BURSTS / 5 {
        let burst = any_burst(&mut dice);
        let is_packet = |frame: &&Vec<u8>| reference::is_whole(frame);
        let made = run(&mut coalescer, &burst);
        let mut out = Vec::new();
        for one in &made {
            if one.gso_type == 0 {
                out.push(one.octets.clone());
                continue;
            }
            let (octets, vnet) = (&one.octets, header_of(one));
            let whole = SuperFrame::parse(&vnet, octets, octets.len()).expect("valid");
            for index in 0..whole.count() {
                let mut segment = vec![0; whole.longest()];
                let len = whole.copy(index, octets, &mut segment).expect("room");
                segment.truncate(len);
                out.push(segment);
            }
        }
        let of = |frames: &[Vec<u8>]| {
            let packets: Vec<Vec<u8>> = frames.iter().filter(is_packet).cloned().collect();
            (by_flow(&packets), frames.len())
        };
        assert_eq!(of(&out), of(&burst), "burst {number}");
    }
}

/// The header before a super-frame, made anew.
fn header_of(out: &Out) -> VnetHeader {
    let at = reference::places(&out.octets);
    let mut vnet = [1, out.gso_type, 0, 0, 0, 0, 0, 0, 0, 0];
    vnet[4..6].copy_from_slice(&(out.size as u16).to_le_bytes());
    vnet[6..8].copy_from_slice(&(at.transport as u16).to_le_bytes());
    vnet[8] = if at.protocol == 6 { 16 } else { 6 };
    VnetHeader::parse(&vnet, out.octets.len()).expect("a valid header")
}
