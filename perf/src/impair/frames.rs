//! What the kernel hands over, made into frames as they are on a wire.

use omni_offload::{SuperFrame, VNET_LEN, VnetHeader, complete_checksum};

/// The longest frame that is made: what an MTU of 9216 gives, with a tag.
const FRAME_MAX: usize = 9234;

/// Cuts super-frames and completes checksums.
#[derive(Debug)]
pub(super) struct Cutter {
    segment: Vec<u8>,
}

/// What a message was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Cut {
    /// A frame, maybe with its checksum to do.
    Frame,
    /// A super-frame.
    Super,
    /// Nothing that could be made sense of.
    Malformed,
}

impl Cutter {
    /// One that works in memory of its own.
    pub(super) fn new() -> Self {
        Self {
            segment: vec![0; FRAME_MAX],
        }
    }

    /// Calls `each` with the frames of a message of a packet socket: a header and a frame, which
    /// is changed.
    pub(super) fn cut(&mut self, message: &mut [u8], mut each: impl FnMut(&[u8])) -> Cut {
        let Some((header, frame)) = message.split_at_mut_checked(VNET_LEN) else {
            return Cut::Malformed;
        };
        let Ok(vnet) = VnetHeader::parse(header, frame.len()) else {
            return Cut::Malformed;
        };
        if vnet.gso.is_none() {
            let partial = vnet.checksum;
            if partial.is_some_and(|partial| complete_checksum(partial, frame).is_err()) {
                return Cut::Malformed;
            }
            each(frame);
            return Cut::Frame;
        }
        let parsed = SuperFrame::parse(&vnet, frame, frame.len());
        let Some(whole) = parsed.ok().filter(|whole| whole.longest() <= FRAME_MAX) else {
            return Cut::Malformed;
        };
        for index in 0..whole.count() {
            if let Some(length) = whole.copy(index, frame, &mut self.segment) {
                each(&self.segment[..length]);
            }
        }
        Cut::Super
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// UDP over IPv4 from 10.0.0.1 to 10.0.0.2 with `payload`, the checksum left to do.
    fn datagram(payload: &[u8]) -> Vec<u8> {
        let mut frame = vec![2; 12];
        frame.extend([8, 0, 0x45, 0]);
        frame.extend((28 + payload.len() as u16).to_be_bytes());
        frame.extend([0, 0, 0x40, 0, 64, 17, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2]);
        frame.extend([0, 7, 0, 7]);
        let udp_len = 8 + payload.len() as u16;
        frame.extend(udp_len.to_be_bytes());
        // The pseudo-header's sum, as the kernel leaves it.
        frame.extend((0x0a00 + 1 + 0x0a00 + 2 + 17 + udp_len).to_be_bytes());
        frame.extend(payload);
        frame
    }

    /// The sum over the UDP part and its pseudo-header, which a right checksum makes 0xffff.
    fn sum(frame: &[u8]) -> u32 {
        let udp = &frame[34..];
        let words = udp.chunks(2).map(|word| {
            u32::from(word[0]) << 8 | u32::from(word.get(1).copied().unwrap_or_default())
        });
        let sum = words.sum::<u32>() + 2 * 0x0a00 + 3 + 17 + udp.len() as u32;
        (sum & 0xffff) + (sum >> 16)
    }

    fn cut(header: [u8; VNET_LEN], frame: &[u8]) -> (Cut, Vec<Vec<u8>>) {
        let mut message = header.to_vec();
        message.extend(frame);
        let mut frames = Vec::new();
        let cut = Cutter::new().cut(&mut message, |frame| frames.push(frame.to_vec()));
        (cut, frames)
    }

    #[test]
    fn whole_frames_pass_and_checksums_are_done() {
        let frame = datagram(b"hello");
        assert_eq!(cut([0; 10], &frame), (Cut::Frame, vec![frame.clone()]));
        assert_ne!(sum(&frame), 0xffff);
        let (cut, frames) = cut([1, 0, 0, 0, 0, 0, 34, 0, 6, 0], &frame);
        assert_eq!(
            (cut, frames.len(), sum(&frames[0])),
            (Cut::Frame, 1, 0xffff)
        );
    }

    #[test]
    fn super_frames_come_out_in_parts() {
        let frame = datagram(&[7; 250]);
        let (cut, frames) = cut([1, 5, 42, 0, 100, 0, 34, 0, 6, 0], &frame);
        assert_eq!(cut, Cut::Super);
        assert_eq!(
            frames.iter().map(Vec::len).collect::<Vec<_>>(),
            [142, 142, 92]
        );
        assert!(frames.iter().all(|frame| sum(frame) == 0xffff));
    }

    #[test]
    fn nonsense_is_told() {
        assert_eq!(Cutter::new().cut(&mut [0; 9], |_| {}), Cut::Malformed);
        let frame = datagram(b"hello");
        assert_eq!(
            cut([1, 0, 0, 0, 0, 0, 255, 0, 6, 0], &frame).0,
            Cut::Malformed
        );
        assert_eq!(
            cut([1, 1, 42, 0, 100, 0, 34, 0, 16, 0], &frame).0,
            Cut::Malformed
        );
    }
}
