//! What no kernel writes and no host sends, made on purpose.

use omni_offload::{
    Coalesced, Coalescer, PartialChecksum, SEGMENTS_MAX, SuperFrame, VNET_LEN, VnetHeader,
    complete_checksum,
};

use crate::coalescing::{any_burst, run};
use crate::dice::Dice;
use crate::frames::{Frame, tags, tcp, udp};
use crate::reference;

/// Super-frames and headers that are tried.
const TRIES: usize = 300_000;
/// Bursts that are tried.
const BURSTS: usize = 20_000;

/// Changes some octets, more of them in the first headers, and may cut.
fn mutate(octets: &mut Vec<u8>, dice: &mut Dice) {
    for _ in 0..dice.below(5) {
        let limit = match dice.below(3) {
            0 => octets.len(),
            _ => octets.len().min(80),
        };
        if limit == 0 {
            return;
        }
        let at = dice.below(limit);
        octets[at] = match dice.below(4) {
            0 => octets[at] ^ 1 << dice.below(8),
            1 => 0,
            2 => 0xff,
            _ => dice.roll() as u8,
        };
    }
    if dice.once_in(8) {
        octets.truncate(dice.below(octets.len() + 1));
    }
}

fn originals() -> Vec<Frame> {
    let extension = vec![(0, vec![0; 8]), (60, vec![0; 8])];
    let plain = [tcp(&[5; 3000]), udp(&[5; 3000])];
    let mut all = Vec::new();
    for frame in plain {
        for vlans in [&[][..], &[7], &[7, 8]] {
            let tags = tags(vlans);
            all.push(Frame {
                tags,
                ..frame.clone()
            });
        }
        all.push(frame.clone().over_v6());
        all.push(Frame {
            extensions: extension.clone(),
            ..frame.clone().over_v6()
        });
        all.push(Frame {
            ip_options: vec![1; 12],
            tcp_options: vec![1; 12],
            ..frame
        });
    }
    all
}

/// Does with a frame from a tap all that can be done with it; how many segments it gave.
fn follow(vnet: &[u8], octets: &[u8]) -> usize {
    let Ok(header) = VnetHeader::parse(vnet, octets.len()) else {
        return 0;
    };
    if let Some(partial) = header.checksum {
        let done = complete_checksum(partial, &mut octets.to_vec());
        assert_eq!(done, Ok(()), "the header was checked for this frame");
    }
    // Anything but what the header was made for may follow it, too.
    for cut in [octets.len() / 2, 60] {
        let _ = SuperFrame::parse(&header, &octets[..cut.min(octets.len())], octets.len());
    }
    let Ok(whole) = SuperFrame::parse(&header, octets, octets.len()) else {
        return 0;
    };
    assert!((1..=SEGMENTS_MAX).contains(&whole.count()));
    let mut end = whole.header_len();
    for index in 0..whole.count() {
        let mut out = vec![0; whole.longest()];
        assert_eq!(whole.payload(index).start, end, "no octet is left out");
        end = whole.payload(index).end;
        let len = whole.copy(index, octets, &mut out).expect("room");
        assert_eq!(len, whole.header_len() + whole.payload(index).len());
        let ip = reference::places(&out[..len]).ip;
        if out[ip] / 16 == 4 {
            let transport = ip + usize::from(out[ip] % 16) * 4;
            let sum = reference::sum(&out[ip..transport]);
            assert_eq!(reference::complement(sum), 0);
        }
    }
    assert_eq!(end, octets.len());
    whole.count()
}

#[test]
fn changed_super_frames_are_survived() {
    let mut dice = Dice(0x9e37_79b9_7f4a_7c15);
    let originals = originals();
    let (mut cut, mut refused) = (0, 0);
    for _ in 0..TRIES {
        let frame = &originals[dice.below(originals.len())];
        let mut vnet = frame.vnet(1000 + dice.below(1000)).emit().to_vec();
        let mut octets = frame.partial();
        if dice.once_in(3) {
            mutate(&mut vnet, &mut dice);
        } else {
            mutate(&mut octets, &mut dice);
        }
        match follow(&vnet, &octets) {
            0 => refused += 1,
            _ => cut += 1,
        }
    }
    assert!(cut > TRIES / 10 && refused > TRIES / 10, "{cut} {refused}");
}

#[test]
fn random_octets_are_survived() {
    let mut dice = Dice(0x2545_f491_4f6c_dd1d);
    let mut coalescer = Coalescer::new(true);
    for _ in 0..TRIES {
        let (vnet_len, len) = (dice.below(VNET_LEN + 3), dice.below(200));
        let mut vnet = dice.octets(vnet_len);
        let mut octets = dice.octets(len);
        // Often enough the first steps are passed.
        if let ([flags, kind, ..], true) = (&mut vnet[..], dice.once_in(2)) {
            (*flags, *kind) = (1, [0, 1, 4, 5][dice.below(4)]);
        }
        if octets.len() > 40 && dice.once_in(2) {
            octets[12..15].copy_from_slice(&[0x08, 0x00, 0x45]);
            octets[23] = 6;
        }
        follow(&vnet, &octets);
        let mut out = |_: Coalesced<'_>| {};
        coalescer.push(0, &octets, &mut out);
        coalescer.flush(&mut out);
        let (start, offset) = (dice.below(300) as u16, dice.roll() as u16);
        let partial = PartialChecksum { start, offset };
        let _ = complete_checksum(partial, &mut octets);
    }
}

#[test]
fn every_changed_frame_comes_out_once_and_is_never_repaired() {
    let mut dice = Dice(0x1405_7b7e_f767_814f);
    let mut coalescer = Coalescer::new(true);
    let mut merged = 0;
    for _ in 0..BURSTS {
        let mut burst = any_burst(&mut dice);
        for frame in &mut burst {
            if dice.once_in(3) {
                mutate(frame, &mut dice);
            }
        }
        let made = run(&mut coalescer, &burst);
        assert_eq!(made, reference::coalesce(&burst, true));
        merged += made.iter().filter(|out| out.gso_type != 0).count();
        let mut numbers = Vec::new();
        let mut out = |coalesced: Coalesced<'_>| match coalesced {
            Coalesced::Frame(number) => numbers.push(number),
            Coalesced::Group(group) => {
                numbers.extend(group.pieces().iter().map(|piece| piece.number));
            }
        };
        for (number, frame) in (0..).zip(&burst) {
            coalescer.push(number, frame, &mut out);
        }
        coalescer.flush(&mut out);
        numbers.sort_unstable();
        assert!(numbers.iter().copied().eq(0..burst.len() as u32));
    }
    assert!(merged > BURSTS / 4, "only {merged} super-frames");
}
