//! Any octets as a frame from a tap with the header before it, cut and coalesced.

use omni_offload::{
    Coalesced, Coalescer, SEGMENTS_MAX, SuperFrame, VNET_LEN, VnetHeader, complete_checksum,
};

/// Runs the target: the header before a frame, then the frame.
pub fn run(octets: &[u8]) {
    coalesce(octets);
    let Some((vnet, frame)) = octets.split_first_chunk::<VNET_LEN>() else {
        return;
    };
    let Ok(header) = VnetHeader::parse(vnet, frame.len()) else {
        return;
    };
    if let Some(partial) = header.checksum {
        let done = complete_checksum(partial, &mut frame.to_vec());
        assert_eq!(done, Ok(()), "the header was checked for this frame");
    }
    for cut in [frame.len() / 2, 60] {
        let _ = SuperFrame::parse(&header, &frame[..cut.min(frame.len())], frame.len());
    }
    let Ok(whole) = SuperFrame::parse(&header, frame, frame.len()) else {
        return;
    };
    assert!((1..=SEGMENTS_MAX).contains(&whole.count()));
    let mut end = whole.header_len();
    for index in 0..whole.count() {
        let mut out = vec![0; whole.longest()];
        assert_eq!(whole.payload(index).start, end, "no octet is left out");
        end = whole.payload(index).end;
        let len = whole.copy(index, frame, &mut out).expect("room");
        assert_eq!(len, whole.header_len() + whole.payload(index).len());
    }
    assert_eq!(end, frame.len());
}

/// The octets as a burst: frames of as many octets as two octets before each say.
fn coalesce(octets: &[u8]) {
    let mut frames = Vec::new();
    let mut rest = octets;
    while let Some((&len, after)) = rest.split_first_chunk::<2>() {
        let len = usize::from(u16::from_be_bytes(len) % 2048).min(after.len());
        let (frame, after) = after.split_at(len);
        frames.push(frame);
        rest = after;
    }
    let mut numbers = Vec::new();
    let mut payload = 0;
    let mut out = |coalesced: Coalesced<'_>| match coalesced {
        Coalesced::Frame(number) => numbers.push(number),
        Coalesced::Group(group) => {
            assert!(group.pieces().len() >= 2 && group.vnet().gso.is_some());
            for piece in group.pieces() {
                let frame = frames[piece.number as usize];
                payload += frame.get(piece.range()).expect("octets of the frame").len();
                assert!(piece.range().end <= frame.len());
                numbers.push(piece.number);
            }
        }
    };
    let mut coalescer = Coalescer::new(octets.len().is_multiple_of(2));
    for (number, frame) in (0..).zip(&frames) {
        coalescer.push(number, frame, &mut out);
    }
    coalescer.flush(&mut out);
    assert!(payload <= octets.len());
    numbers.sort_unstable();
    assert!(
        numbers.iter().copied().eq(0..frames.len() as u32),
        "each comes out once"
    );
}
