//! Messages of the channel on a stream: two octets of length, big-endian, and the message.

use omni_control::channel::MESSAGE_MAX;

/// Octets of the length.
pub(super) const LENGTH: usize = 2;

/// A message with its length before it. Messages have at most 65,535 octets.
pub(super) fn framed(message: &[u8]) -> Vec<u8> {
    debug_assert!(message.len() <= MESSAGE_MAX);
    let len = (message.len() as u16).to_be_bytes();
    [&len, message].concat()
}

/// What came of a stream, as far as it was not taken.
#[derive(Debug, Default)]
pub(super) struct Incoming {
    octets: Vec<u8>,
    /// How many of them were taken.
    taken: usize,
}

impl Incoming {
    /// Where to read into. It holds a message and a piece of the next one at most, if nothing is
    /// read while there is a whole one.
    pub(super) fn room(&mut self) -> &mut Vec<u8> {
        self.octets.drain(..self.taken);
        self.taken = 0;
        if self.octets.is_empty() {
            // A node that was told much and says little again.
            self.octets.shrink_to(READ);
        }
        self.octets.reserve(READ);
        &mut self.octets
    }

    /// The next whole message.
    pub(super) fn next(&mut self) -> Option<&[u8]> {
        let waiting = &self.octets[self.taken..];
        let (len, rest) = waiting.split_first_chunk::<LENGTH>()?;
        let message = rest.get(..usize::from(u16::from_be_bytes(*len)))?;
        self.taken += LENGTH + message.len();
        Some(message)
    }

    /// Whether a part of a message is there.
    pub(super) fn is_partial(&self) -> bool {
        self.octets.len() > self.taken
    }
}

/// Octets that are read at once.
const READ: usize = 4096;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_come_whole_however_the_stream_is_cut() {
        let messages: [&[u8]; 4] = [b"one", b"", b"three", &[7; 70_000 - 4465]];
        let stream: Vec<u8> = messages
            .iter()
            .flat_map(|message| framed(message))
            .collect();
        for cut in [1, 2, 3, 1000, stream.len()] {
            let mut incoming = Incoming::default();
            let mut seen = Vec::new();
            for piece in stream.chunks(cut) {
                incoming.room().extend_from_slice(piece);
                while let Some(message) = incoming.next() {
                    seen.push(message.to_vec());
                }
            }
            assert_eq!(seen, messages);
            assert!(!incoming.is_partial());
        }
    }

    #[test]
    fn a_part_is_not_a_message() {
        let mut incoming = Incoming::default();
        incoming.room().extend_from_slice(&[0, 2, 1]);
        assert_eq!(incoming.next(), None);
        assert!(incoming.is_partial());
    }
}
