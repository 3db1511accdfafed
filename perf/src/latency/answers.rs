//! What is in a datagram, and which answers were there already.

/// Octets of a datagram that the sender fills in.
pub(super) const HEADER_LEN: usize = 24;

/// The octets at a datagram's start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Header {
    /// Counts the datagrams of a flow.
    pub(super) sequence: u64,
    /// Tells this run from others.
    pub(super) token: u64,
    /// Counts flows.
    pub(super) flow: u64,
}

impl Header {
    /// Writes it at the start of `datagram`, which is long enough.
    pub(super) fn emit(self, datagram: &mut [u8]) {
        let fields = [self.sequence, self.token, self.flow];
        for (field, place) in fields.iter().zip(datagram.chunks_exact_mut(8)) {
            place.copy_from_slice(&field.to_le_bytes());
        }
    }

    /// Reads it, if the datagram is long enough.
    pub(super) fn parse(datagram: &[u8]) -> Option<Self> {
        let fields = datagram.as_chunks::<8>().0;
        let mut fields = fields.iter().map(|field| u64::from_le_bytes(*field));
        Some(Self {
            sequence: fields.next()?,
            token: fields.next()?,
            flow: fields.next()?,
        })
    }
}

/// Notes which datagrams of a flow were answered.
#[derive(Debug)]
pub(super) struct Answers {
    /// A bit for each.
    seen: Vec<u64>,
    count: u64,
    /// One above the highest that was seen.
    next: u64,
    /// Answers, each once.
    pub(super) received: u64,
    /// Copies of those.
    pub(super) duplicates: u64,
    /// Those that came after a later one.
    pub(super) reordered: u64,
}

impl Answers {
    /// For a flow of `count` datagrams.
    pub(super) fn new(count: u64) -> Self {
        Self {
            seen: vec![0; count.div_ceil(64) as usize],
            count,
            next: 0,
            received: 0,
            duplicates: 0,
            reordered: 0,
        }
    }

    /// Notes an answer, and says whether it is the first one to that datagram.
    pub(super) fn note(&mut self, sequence: u64) -> bool {
        if sequence >= self.count {
            return false;
        }
        let (word, bit) = ((sequence / 64) as usize, 1 << (sequence % 64));
        if self.seen[word] & bit != 0 {
            self.duplicates += 1;
            return false;
        }
        self.seen[word] |= bit;
        self.received += 1;
        self.reordered += u64::from(sequence < self.next);
        self.next = self.next.max(sequence + 1);
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_header_is_read_as_it_was_written() {
        let header = Header {
            sequence: 7,
            token: u64::MAX,
            flow: 3,
        };
        let mut datagram = [0xff; 30];
        header.emit(&mut datagram);
        assert_eq!(Header::parse(&datagram), Some(header));
        assert_eq!(Header::parse(&datagram[..23]), None);
    }

    #[test]
    fn copies_and_late_ones_are_told_apart() {
        let mut answers = Answers::new(100);
        let first: Vec<bool> = [0, 2, 1, 2, 99, 98, 100, u64::MAX]
            .map(|sequence| answers.note(sequence))
            .to_vec();
        assert_eq!(first, [true, true, true, false, true, true, false, false]);
        let counts = (answers.received, answers.duplicates, answers.reordered);
        assert_eq!(counts, (5, 1, 2));
    }
}
