//! Super-frames cut into segments.

use omni_offload::{
    Gso, GsoKind, HEADERS_MAX, PartialChecksum, SEGMENTS_MAX, SegmentError, SuperFrame,
    complete_checksum,
};

use crate::dice::Dice;
use crate::frames::{ACK, CWR, ECE, FIN, Frame, PSH, RST, SYN, URG, tags, tcp, udp};
use crate::reference;

/// Super-frames that are compared with the reference.
const FRAMES: usize = 100_000;

/// Cuts a super-frame in both ways, which must agree.
fn cut(frame: &Frame, size: usize) -> Result<Vec<Vec<u8>>, SegmentError> {
    let octets = frame.partial();
    let whole = SuperFrame::parse(&frame.vnet(size), &octets, octets.len())?;
    // All that has to be known of the frame to begin with are its headers.
    let head = &octets[..whole.header_len()];
    let by_head = SuperFrame::parse(&frame.vnet(size), head, octets.len())?;
    assert_eq!(whole.header_len(), frame.header_len());
    assert_eq!(whole.payload(whole.count() - 1).end, octets.len());
    let mut made = Vec::new();
    for index in 0..whole.count() {
        let mut copied = vec![0xee; whole.longest()];
        let len = whole.copy(index, &octets, &mut copied);
        copied.truncate(len.expect("room"));
        let payload = &octets[whole.payload(index)];
        let mut in_place = vec![0xee; head.len()];
        let len = by_head.write_header(index, payload, &mut in_place);
        assert_eq!(len, Some(head.len()));
        assert_eq!([&in_place, payload].concat(), copied, "segment {index}");
        made.push(copied);
    }
    Ok(made)
}

fn error(frame: &Frame, size: usize) -> Option<SegmentError> {
    cut(frame, size).err()
}

/// The error for a frame some octets of which were changed.
fn error_with(frame: &Frame, change: impl FnOnce(&mut Vec<u8>)) -> Option<SegmentError> {
    let mut octets = frame.partial();
    change(&mut octets);
    SuperFrame::parse(&frame.vnet(1448), &octets, octets.len()).err()
}

/// Any super-frame that a stack could make.
fn any_frame(dice: &mut Dice, payload_max: usize) -> Frame {
    let vlans = [100, 4094];
    let payload_len = dice.below(payload_max + 1);
    let mut frame = tcp(&dice.octets(payload_len));
    frame.udp = dice.once_in(3);
    frame.v6 = dice.once_in(2);
    frame.tags = tags(&vlans[..dice.below(3)]);
    frame.ds_field = dice.roll() as u8;
    frame.ttl = dice.roll() as u8;
    frame.id = dice.roll() as u16;
    frame.dont_fragment = dice.once_in(2);
    frame.label = dice.roll() as u16;
    frame.hosts = [dice.roll() as u8, dice.roll() as u8];
    frame.ports = [dice.roll() as u16, dice.roll() as u16];
    frame.sequence = dice.roll() as u32;
    frame.acknowledgment = dice.roll() as u32;
    frame.flags = dice.roll() as u8 & !(SYN | RST);
    frame.window = dice.roll() as u16;
    let options = 4 * dice.below(11);
    frame.tcp_options = dice.octets(options);
    if frame.v6 && dice.once_in(3) {
        for number in [0, 60] {
            let words = 1 + dice.below(3);
            let mut body = dice.octets(8 * words);
            body[1] = (body.len() / 8 - 1) as u8;
            frame.extensions.push((number, body));
        }
    } else if !frame.v6 && dice.once_in(3) {
        let options = 4 * dice.below(11);
        frame.ip_options = dice.octets(options);
    }
    frame
}

#[test]
fn a_hundred_thousand_super_frames_are_cut_as_the_reference_does() {
    let mut dice = Dice(0x9e37_79b9_7f4a_7c15);
    let mut many = 0;
    for _ in 0..FRAMES {
        // A few are as long as they can be.
        let limit = if dice.once_in(500) { 65_000 } else { 2_000 };
        let frame = any_frame(&mut dice, limit);
        let least = frame.payload.len().div_ceil(SEGMENTS_MAX).max(1);
        let size = least + dice.below(1500);
        let made = cut(&frame, size).expect("a valid super-frame");
        assert_eq!(made, reference::segments(&frame.partial(), size));
        many += usize::from(made.len() > 10);
    }
    assert!(many > FRAMES / 50, "only {many} had more than ten segments");
}

#[test]
fn every_segment_is_what_a_host_would_have_sent() {
    let first = Frame {
        payload: (0..4000u32).map(|octet| octet as u8).collect(),
        ..tcp(&[])
    };
    for frame in [
        first.clone(),
        first.clone().over_v6(),
        Frame {
            udp: true,
            ..first.clone()
        },
        Frame { udp: true, ..first }.over_v6(),
    ] {
        for (at, segment) in cut(&frame, 1000).expect("valid").iter().enumerate() {
            let alone = Frame {
                sequence: frame.sequence.wrapping_add(at as u32 * 1000),
                id: frame.id.wrapping_add(at as u16),
                payload: frame.payload[at * 1000..][..1000].to_vec(),
                ..frame.clone()
            };
            assert_eq!(*segment, alone.octets(), "segment {at}");
        }
    }
}

#[test]
fn fin_and_psh_are_on_the_last_segment_only_and_cwr_on_the_first() {
    let frame = Frame {
        flags: FIN | PSH | ACK | URG | ECE | CWR,
        ..tcp(&[7; 300])
    };
    let made = cut(&frame, 100).expect("valid");
    let flags: Vec<u8> = made.iter().map(|segment| segment[34 + 13]).collect();
    let all = ACK | URG | ECE;
    assert_eq!(flags, [all | CWR, all, all | FIN | PSH]);
    let made = cut(&frame, 300).expect("valid");
    assert_eq!(made[0][34 + 13], frame.flags, "one that is first and last");
}

#[test]
fn syn_and_rst_are_refused() {
    for flags in [SYN, RST, SYN | ACK, RST | ACK] {
        let frame = Frame {
            flags,
            ..tcp(&[7; 300])
        };
        assert_eq!(error(&frame, 100), Some(SegmentError::Flags));
    }
}

#[test]
fn more_than_128_segments_are_refused() {
    let frame = tcp(&[1; 1280]);
    assert_eq!(cut(&frame, 10).expect("valid").len(), SEGMENTS_MAX);
    assert_eq!(error(&frame, 9), Some(SegmentError::TooMany));
    let frame = tcp(&[1; 1281]);
    assert_eq!(error(&frame, 10), Some(SegmentError::TooMany));
    assert_eq!(error(&frame, 0), Some(SegmentError::TooMany));
}

#[test]
fn what_fits_into_one_segment_is_one() {
    for payload in [&[][..], &[1], &[1; 100]] {
        for frame in [tcp(payload), udp(payload)] {
            assert_eq!(cut(&frame, 100), Ok(vec![frame.octets()]));
        }
    }
}

#[test]
fn a_udp_checksum_of_zero_becomes_all_ones() {
    // Every value of two octets: one of them brings the sum to 0.
    let mut seen = 0;
    for value in 0..=u16::MAX {
        let frame = udp(&value.to_be_bytes());
        let made = cut(&frame, 2).expect("valid");
        let field = [made[0][40], made[0][41]];
        assert_ne!(field, [0, 0]);
        seen += usize::from(field == [0xff, 0xff]);
    }
    assert_eq!(seen, 1);
}

#[test]
fn the_pseudo_header_of_a_routing_header_is_the_senders() {
    // The checksum of a packet on its way covers the last destination, which is not in its IP
    // header (RFC 8200 s.8.1). The sender's partial sum has it.
    let mut routing = vec![0; 24];
    routing[1] = 2;
    routing[3] = 1;
    let mut frame = tcp(&[9; 2000]).over_v6();
    frame.extensions = vec![(43, routing)];
    let mut octets = frame.partial();
    let field = frame.transport() + 16;
    let sum = u16::from_be_bytes([octets[field], octets[field + 1]]);
    let other = (u32::from(sum) + 0x0101) % 0xffff;
    octets[field..field + 2].copy_from_slice(&(other as u16).to_be_bytes());
    let whole = SuperFrame::parse(&frame.vnet(1000), &octets, octets.len()).expect("valid");
    for index in 0..2 {
        let mut out = vec![0; whole.longest()];
        whole.copy(index, &octets, &mut out);
        let segment = &out[frame.transport()..];
        let pseudo = reference::pseudo_header(&out[14..], 6, segment.len()) + 0x0101;
        assert_eq!(reference::complement(pseudo + reference::sum(segment)), 0);
    }
}

#[test]
fn lengths_that_contradict_the_frame_are_refused() {
    let length = Some(SegmentError::Length);
    for frame in [tcp(&[1; 3000]), tcp(&[1; 3000]).over_v6(), udp(&[1; 3000])] {
        assert_eq!(error_with(&frame, |octets| octets.push(0)), length);
        let shorter = |octets: &mut Vec<u8>| octets.truncate(octets.len() - 1);
        assert_eq!(error_with(&frame, shorter), length);
    }
    // A UDP length of its own, in a packet whose length is right.
    let frame = udp(&[1; 3000]);
    assert_eq!(error_with(&frame, |octets| octets[39] ^= 1), length);
    // A super-frame that does not say how long it is (RFC 2675) is none that was asked for.
    let jumbo = |octets: &mut Vec<u8>| octets[18..20].fill(0);
    assert_eq!(error_with(&tcp(&[1; 3000]).over_v6(), jumbo), length);
}

#[test]
fn headers_cut_short_are_refused_wherever_they_end() {
    let mut with_extension = tcp(&[]).over_v6();
    let extension = vec![0; 16];
    with_extension.extensions = vec![(0, extension)];
    with_extension.extensions[0].1[1] = 1;
    for mut frame in [tcp(&[]), tcp(&[]).over_v6(), udp(&[]), with_extension] {
        frame.tags = tags(&[7]);
        frame.payload = vec![1; 3000];
        let octets = frame.partial();
        let vnet = frame.vnet(1448);
        for len in 0..frame.header_len() {
            let refused = SuperFrame::parse(&vnet, &octets[..len], octets.len()).err();
            let expected = if len < 18 {
                SegmentError::Ethernet
            } else {
                SegmentError::HeadersCut
            };
            assert_eq!(refused, Some(expected), "at {len}");
        }
    }
}

#[test]
fn headers_that_say_they_are_too_short_or_too_long_are_refused() {
    let cut_short = Some(SegmentError::HeadersCut);
    let frame = tcp(&[1; 3000]);
    assert_eq!(error_with(&frame, |octets| octets[14] = 0x44), cut_short);
    assert_eq!(error_with(&frame, |octets| octets[46] = 0x40), cut_short);
    // TCP options beyond the end.
    let short = tcp(&[1; 3]);
    assert_eq!(error_with(&short, |octets| octets[46] = 0xf0), cut_short);
    let mut long = tcp(&[1; 3000]).over_v6();
    let mut body = vec![0; 96];
    body[1] = 11;
    long.extensions = vec![(0, body.clone()), (60, body)];
    assert!(long.header_len() > HEADERS_MAX);
    assert_eq!(error(&long, 1000), Some(SegmentError::HeadersTooLong));
    let mut many = tcp(&[1; 3000]).over_v6();
    many.extensions = vec![(60, vec![0; 8]); 8];
    assert_eq!(error(&many, 1000), None);
    many.extensions.push((60, vec![0; 8]));
    assert_eq!(error(&many, 1000), Some(SegmentError::HeadersTooLong));
}

#[test]
fn octets_behind_the_frame_are_no_headers_of_it() {
    let frame = Frame {
        tcp_options: vec![1; 40],
        ..tcp(&[1; 3])
    };
    let mut octets = frame.partial();
    let frame_len = frame.header_len() - 4;
    octets[16..18].copy_from_slice(&(frame_len as u16 - 14).to_be_bytes());
    let refused = SuperFrame::parse(&frame.vnet(1000), &octets, frame_len).err();
    assert_eq!(refused, Some(SegmentError::HeadersCut));
}

#[test]
fn what_gso_type_does_not_say_is_refused() {
    let protocol = Some(SegmentError::Protocol);
    let kinds = [GsoKind::TcpV4, GsoKind::TcpV6, GsoKind::Udp];
    for frame in [tcp(&[1; 3000]), tcp(&[1; 3000]).over_v6()] {
        for kind in kinds {
            let octets = frame.partial();
            let mut vnet = frame.vnet(1000);
            let is_right = vnet.gso.map(|gso| gso.kind) == Some(kind);
            vnet.gso = vnet.gso.map(|gso| Gso { kind, ..gso });
            let refused = SuperFrame::parse(&vnet, &octets, octets.len()).err();
            assert_eq!(refused, protocol.filter(|_| !is_right), "{kind:?}");
        }
    }
    let frame = tcp(&[1; 3000]);
    for (at, value) in [(13, 6), (14, 0x65), (23, 47)] {
        let refused = error_with(&frame, |octets| octets[at] = value);
        assert_eq!(refused, protocol, "octet {at}");
    }
    let mut fragment_header = tcp(&[1; 3000]).over_v6();
    fragment_header.extensions = vec![(44, vec![0; 8])];
    assert_eq!(error(&fragment_header, 1000), protocol);
    let vlan = |octets: &mut Vec<u8>| octets[15] = 0xff;
    let mut tagged = tcp(&[1; 3000]);
    tagged.tags = tags(&[0x0f00]);
    assert_eq!(error_with(&tagged, vlan), Some(SegmentError::Ethernet));
}

#[test]
fn fragments_are_refused() {
    let fragment = Some(SegmentError::Fragment);
    for (at, value) in [(20, 0x20), (20, 0x60), (21, 1), (20, 0x1f)] {
        let refused = error_with(&tcp(&[1; 3000]), |octets| octets[at] = value);
        assert_eq!(refused, fragment);
    }
}

#[test]
fn a_partial_checksum_of_something_else_is_refused() {
    let frame = tcp(&[1; 3000]);
    let octets = frame.partial();
    let PartialChecksum { start, offset } = frame.partial_checksum();
    for (start, offset) in [(start + 1, offset), (start, 6), (start - 2, offset + 2)] {
        let mut vnet = frame.vnet(1000);
        vnet.checksum = Some(PartialChecksum { start, offset });
        let refused = SuperFrame::parse(&vnet, &octets, octets.len()).err();
        assert_eq!(refused, Some(SegmentError::Checksum));
    }
    let mut vnet = frame.vnet(1000);
    vnet.gso = None;
    let refused = SuperFrame::parse(&vnet, &octets, octets.len()).err();
    assert_eq!(refused, Some(SegmentError::NotSuper));
}

#[test]
fn nothing_is_written_where_it_does_not_fit() {
    let frame = tcp(&[1; 2500]);
    let octets = frame.partial();
    let whole = SuperFrame::parse(&frame.vnet(1000), &octets, octets.len()).expect("valid");
    assert_eq!((whole.count(), whole.longest()), (3, 1054));
    let mut out = [0; 1053];
    assert_eq!(whole.copy(0, &octets, &mut out), None);
    assert_eq!(whole.copy(2, &octets, &mut out), Some(554));
    assert_eq!(whole.copy(3, &octets, &mut out), None);
    assert_eq!(whole.copy(2, &octets[..2553], &mut out), None);
    let mut out = [0; 54];
    assert_eq!(whole.write_header(0, &[0; 999], &mut out), None);
    assert_eq!(whole.write_header(3, &[], &mut out), None);
    assert_eq!(whole.write_header(0, &[0; 1000], &mut out[..53]), None);
    assert_eq!(out, [0; 54]);
    assert!(whole.payload(usize::MAX).is_empty());
}

#[test]
fn a_partial_checksum_without_segments_is_completed() {
    let mut dice = Dice(0x2545_f491_4f6c_dd1d);
    for _ in 0..10_000 {
        let frame = any_frame(&mut dice, 1500);
        let mut octets = frame.partial();
        complete_checksum(frame.partial_checksum(), &mut octets).expect("inside");
        let expected = frame.octets();
        let field = frame.transport() + usize::from(frame.partial_checksum().offset);
        // Of the two forms of nothing the kernel writes this one.
        if expected[field..field + 2] == [0, 0] {
            assert_eq!(octets[field..field + 2], [0xff, 0xff]);
        } else {
            assert_eq!(octets, expected);
        }
    }
}
