//! VLAN tags put in and taken out, and frames moved to where they can be sent from.

use omni_wire::ethernet::ETHERTYPE_VLAN;
use omni_wire::limits::VLAN_TAG_LEN;

use crate::io::Frame;

/// Octets of both addresses, which stand before a tag.
const ADDRESSES: usize = 12;

/// Puts a tag into the frame that begins at `start`. Where it begins then; `None` without room.
pub(super) fn push_tag(octets: &mut [u8], start: usize, vlan: u16) -> Option<usize> {
    let begin = start.checked_sub(VLAN_TAG_LEN)?;
    octets.copy_within(start..start + ADDRESSES, begin);
    let tag = octets.get_mut(begin + ADDRESSES..start + ADDRESSES)?;
    let [t0, t1] = ETHERTYPE_VLAN.to_be_bytes();
    let [v0, v1] = vlan.to_be_bytes();
    tag.copy_from_slice(&[t0, t1, v0, v1]);
    Some(begin)
}

/// Gives the first tag of a frame another VLAN id; its priority stays.
pub(super) fn set_vid(frame: &mut [u8], vlan: u16) {
    if let Some([c0, c1]) = frame.get_mut(ADDRESSES + 2..ADDRESSES + 4) {
        let [v0, v1] = vlan.to_be_bytes();
        *c0 = *c0 & 0xf0 | v0;
        *c1 = v1;
    }
}

/// Moves the frame that begins at `start` to the start of its buffer, and takes its first tag out
/// if `untag`: only from there it can be sent.
pub(super) fn move_to_start<F: Frame>(frame: &mut F, start: usize, untag: bool) {
    if start == 0 && !untag {
        return;
    }
    let octets = frame.bytes_mut();
    let len = octets.len();
    if untag {
        octets.copy_within(start..start + ADDRESSES, 0);
        octets.copy_within(start + ADDRESSES + VLAN_TAG_LEN..len, ADDRESSES);
        frame.set_len(len - start - VLAN_TAG_LEN);
    } else {
        octets.copy_within(start..len, 0);
        frame.set_len(len - start);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::io::mem::MemFrame;

    fn untagged() -> Vec<u8> {
        let mut frame: Vec<u8> = (1..=12).collect();
        frame.extend([0x08, 0x00]);
        frame.extend(100..150);
        frame
    }

    #[test]
    fn a_tag_that_was_put_in_is_taken_out_again() {
        let mut frame = MemFrame::new(98, &untagged(), None);
        let start = push_tag(frame.bytes_mut(), 98, 0x0abc).expect("there is room");
        assert_eq!(start, 94);
        let mut tagged = untagged();
        tagged.splice(12..12, [0x81, 0, 0x0a, 0xbc]);
        assert_eq!(&frame.bytes()[start..], tagged);
        move_to_start(&mut frame, start, true);
        assert_eq!(frame.bytes(), untagged());
        assert_eq!(push_tag(frame.bytes_mut(), 3, 1), None);
    }

    #[test]
    fn a_vlan_id_changes_and_the_priority_stays() {
        let mut frame = untagged();
        frame.splice(12..12, [0x81, 0, 0xb0, 0]);
        set_vid(&mut frame, 0x0123);
        assert_eq!(frame[12..16], [0x81, 0, 0xb1, 0x23]);
    }

    #[test]
    fn a_frame_is_moved_to_the_start_of_its_buffer() {
        for start in [0, 74] {
            let mut frame = MemFrame::new(start, &untagged(), None);
            move_to_start(&mut frame, start, false);
            assert_eq!(frame.bytes(), untagged());
        }
    }
}
