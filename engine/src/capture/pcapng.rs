//! pcapng, the file format of Wireshark (draft-ietf-opsawg-pcapng): written, and walked block by
//! block.
//!
//! A section header, an interface description before the first frame of each place, frames as
//! enhanced packets with a comment and their direction, and statistics of each interface at the
//! end. Everything is little-endian.

use std::io::{self, Read, Write};

/// Ethernet (LINKTYPE_ETHERNET).
const LINKTYPE: u16 = 1;
const SECTION: u32 = 0x0a0d_0d0a;
const INTERFACE: u32 = 1;
const STATISTICS: u32 = 5;
const PACKET: u32 = 6;
const BYTE_ORDER: u32 = 0x1a2b_3c4d;
/// Time stamps count 10^-9 s.
const NANOSECONDS: u8 = 9;

const OPTION_END: u16 = 0;
const OPTION_COMMENT: u16 = 1;
const OPTION_PROGRAM: u16 = 4;
const OPTION_NAME: u16 = 2;
const OPTION_DESCRIPTION: u16 = 3;
const OPTION_RESOLUTION: u16 = 9;
const OPTION_FLAGS: u16 = 2;
const OPTION_RECEIVED: u16 = 4;
const OPTION_LOST: u16 = 5;

/// The longest block that is read: a jumbo frame and its options.
const BLOCK_MAX: usize = 1 << 20;

/// A frame to be written.
#[derive(Clone, Copy, Debug)]
pub struct Packet<'a> {
    /// Number of its interface, in the order in which they were described.
    pub interface: u32,
    /// Nanoseconds since 1970.
    pub at: u64,
    /// What is kept of it.
    pub octets: &'a [u8],
    /// How long it was.
    pub len: u32,
    /// Whether it went into the engine, and not out of it.
    pub inbound: bool,
    /// What is said of it.
    pub comment: &'a str,
}

/// Writes blocks.
#[derive(Debug)]
pub struct Writer<W> {
    out: W,
    block: Vec<u8>,
}

impl<W: Write> Writer<W> {
    /// Begins a section, written by `program`.
    ///
    /// # Errors
    /// When the octets cannot be written, as with all others.
    pub fn new(out: W, program: &str) -> io::Result<Self> {
        let mut writer = Self {
            out,
            block: Vec::new(),
        };
        writer.put(&BYTE_ORDER.to_le_bytes());
        // Version 1.0, of unknown length.
        writer.put(&[1, 0, 0, 0]);
        writer.put(&[0xff; 8]);
        writer.option(OPTION_PROGRAM, program.as_bytes());
        writer.option(OPTION_END, &[]);
        writer.finish(SECTION)?;
        Ok(writer)
    }

    /// Describes the next interface, of which frames of at most `snaplen` octets are kept.
    ///
    /// # Errors
    /// See [`Writer::new`].
    pub fn interface(&mut self, name: &str, description: &str, snaplen: u32) -> io::Result<()> {
        self.put(&LINKTYPE.to_le_bytes());
        self.put(&[0, 0]);
        self.put(&snaplen.to_le_bytes());
        self.option(OPTION_NAME, name.as_bytes());
        self.option(OPTION_DESCRIPTION, description.as_bytes());
        self.option(OPTION_RESOLUTION, &[NANOSECONDS]);
        self.option(OPTION_END, &[]);
        self.finish(INTERFACE)
    }

    /// A frame.
    ///
    /// # Errors
    /// See [`Writer::new`].
    pub fn packet(&mut self, packet: Packet<'_>) -> io::Result<()> {
        let kept = u32::try_from(packet.octets.len()).unwrap_or(u32::MAX);
        let flags: u32 = if packet.inbound { 1 } else { 2 };
        self.put(&packet.interface.to_le_bytes());
        self.put(&time(packet.at));
        self.put(&kept.to_le_bytes());
        self.put(&packet.len.to_le_bytes());
        self.put(packet.octets);
        self.pad();
        self.option(OPTION_COMMENT, packet.comment.as_bytes());
        self.option(OPTION_FLAGS, &flags.to_le_bytes());
        self.option(OPTION_END, &[]);
        self.finish(PACKET)
    }

    /// What was seen of an interface until a time, and how much of that was lost.
    ///
    /// # Errors
    /// See [`Writer::new`].
    pub fn statistics(&mut self, interface: u32, at: u64, seen: u64, lost: u64) -> io::Result<()> {
        self.put(&interface.to_le_bytes());
        self.put(&time(at));
        self.option(OPTION_RECEIVED, &seen.to_le_bytes());
        self.option(OPTION_LOST, &lost.to_le_bytes());
        self.option(OPTION_END, &[]);
        self.finish(STATISTICS)
    }

    /// Hands on what is kept back.
    ///
    /// # Errors
    /// See [`Writer::new`].
    pub fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }

    fn put(&mut self, octets: &[u8]) {
        self.block.extend_from_slice(octets);
    }

    /// Up to a multiple of four octets.
    fn pad(&mut self) {
        self.block.resize(self.block.len().next_multiple_of(4), 0);
    }

    fn option(&mut self, code: u16, value: &[u8]) {
        // A comment is never as long.
        let len = u16::try_from(value.len()).unwrap_or(u16::MAX);
        self.put(&code.to_le_bytes());
        self.put(&len.to_le_bytes());
        self.put(&value[..usize::from(len)]);
        self.pad();
    }

    /// Writes what was put as the body of a block.
    fn finish(&mut self, kind: u32) -> io::Result<()> {
        let len = (self.block.len() + 12) as u32;
        self.out.write_all(&kind.to_le_bytes())?;
        self.out.write_all(&len.to_le_bytes())?;
        self.out.write_all(&self.block)?;
        self.block.clear();
        self.out.write_all(&len.to_le_bytes())
    }
}

/// The upper half first.
fn time(at: u64) -> [u8; 8] {
    let (high, low) = ((at >> 32) as u32, at as u32);
    let mut octets = [0; 8];
    octets[..4].copy_from_slice(&high.to_le_bytes());
    octets[4..].copy_from_slice(&low.to_le_bytes());
    octets
}

/// A block as it was read.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Block {
    /// All of it, lengths included.
    pub octets: Vec<u8>,
}

impl Block {
    /// The next block of what [`Writer`] wrote; `None` at the end, also within a block.
    ///
    /// # Errors
    /// When the octets cannot be read, or are no block.
    pub fn read(from: &mut impl Read) -> io::Result<Option<Self>> {
        let mut head = [0; 8];
        if !fill(from, &mut head)? {
            return Ok(None);
        }
        let [_, _, _, _, length @ ..] = head;
        let len = u32::from_le_bytes(length) as usize;
        if !(12..=BLOCK_MAX).contains(&len) || !len.is_multiple_of(4) {
            return Err(io::Error::other("not a block of pcapng"));
        }
        let mut octets = vec![0; len];
        octets[..8].copy_from_slice(&head);
        let whole = fill(from, &mut octets[8..])?;
        Ok(whole.then_some(Self { octets }))
    }

    fn word(&self, at: usize) -> u32 {
        let octets = self.octets.get(at..at + 4).and_then(<[u8]>::first_chunk);
        octets.map_or(0, |octets| u32::from_le_bytes(*octets))
    }

    /// Whether it is a frame.
    #[must_use]
    pub fn is_packet(&self) -> bool {
        self.word(0) == PACKET
    }

    /// How many frames of an interface were lost, if that is what it says.
    #[must_use]
    pub fn lost(&self) -> Option<u64> {
        if self.word(0) != STATISTICS {
            return None;
        }
        let value = self.find_option(20, OPTION_LOST)?;
        value
            .first_chunk()
            .map(|octets| u64::from_le_bytes(*octets))
    }

    /// The comment on a frame.
    #[must_use]
    pub fn comment(&self) -> Option<String> {
        if !self.is_packet() {
            return None;
        }
        let options = 28 + (self.word(20) as usize).next_multiple_of(4);
        let value = self.find_option(options, OPTION_COMMENT)?;
        Some(String::from_utf8_lossy(value).into_owned())
    }

    /// What is kept of a frame.
    #[must_use]
    pub fn frame(&self) -> Option<&[u8]> {
        let kept = 28..28 + self.word(20) as usize;
        self.octets.get(kept).filter(|_| self.is_packet())
    }

    /// An option of those that begin at `at`.
    fn find_option(&self, mut at: usize, wanted: u16) -> Option<&[u8]> {
        loop {
            let &[a, b, c, d] = self.octets.get(at..at + 4)?.first_chunk()?;
            let (code, len) = (u16::from_le_bytes([a, b]), u16::from_le_bytes([c, d]));
            let len = usize::from(len);
            match code {
                OPTION_END => return None,
                code if code == wanted => return self.octets.get(at + 4..at + 4 + len),
                _ => at += 4 + len.next_multiple_of(4),
            }
        }
    }
}

/// Reads all of `out`; false when it ends before.
fn fill(from: &mut impl Read, out: &mut [u8]) -> io::Result<bool> {
    match from.read_exact(out) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(false),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written() -> Vec<u8> {
        let mut file = Vec::new();
        let mut writer = Writer::new(&mut file, "omni-engine 1").expect("memory");
        writer
            .interface("omni0", "access port", 262_144)
            .expect("memory");
        let packet = Packet {
            interface: 0,
            at: (5 << 32) | 7,
            octets: &[1, 2, 3, 4, 5],
            len: 60,
            inbound: true,
            comment: "from hosts",
        };
        writer.packet(packet).expect("memory");
        writer.statistics(0, 9, 3, 2).expect("memory");
        file
    }

    #[test]
    fn a_section_is_laid_out_as_the_format_has_it() {
        let file = written();
        assert_eq!(
            file[..12],
            [10, 13, 13, 10, 52, 0, 0, 0, 0x4d, 0x3c, 0x2b, 0x1a]
        );
        let packet = &file[52 + 60..];
        let want = [
            // Kind, length, interface, time, kept, long.
            6, 0, 0, 0, 68, 0, 0, 0, 0, 0, 0, 0, 5, 0, 0, 0, 7, 0, 0, 0, 5, 0, 0, 0, 60, 0, 0, 0,
            // The frame, and padding.
            1, 2, 3, 4, 5, 0, 0, 0, // A comment.
            1, 0, 10, 0, b'f', b'r', b'o', b'm', b' ', b'h', b'o', b's', b't', b's', 0, 0,
            // Inbound, the end, and the length again.
            2, 0, 4, 0, 1, 0, 0, 0, 0, 0, 0, 0, 68, 0, 0, 0,
        ];
        assert_eq!(packet[..68], want);
    }

    #[test]
    fn blocks_are_read_back_whole_or_not_at_all() {
        let file = written();
        let mut from = &file[..];
        let mut blocks = Vec::new();
        while let Some(block) = Block::read(&mut from).expect("blocks") {
            blocks.push(block);
        }
        let together = blocks.iter().flat_map(|block| block.octets.clone());
        assert_eq!(together.collect::<Vec<u8>>(), file);
        let packets: Vec<_> = blocks.iter().map(Block::is_packet).collect();
        assert_eq!(packets, [false, false, true, false]);
        assert_eq!(blocks[2].comment().as_deref(), Some("from hosts"));
        assert_eq!(blocks[2].frame(), Some(&[1, 2, 3, 4, 5][..]));
        assert_eq!((blocks[2].lost(), blocks[3].lost()), (None, Some(2)));
        let mut cut = &file[..file.len() - 1];
        let whole = std::iter::from_fn(|| Block::read(&mut cut).expect("blocks")).count();
        assert_eq!(whole, 3);
        assert!(Block::read(&mut &[0u8; 16][..]).is_err());
    }
}
