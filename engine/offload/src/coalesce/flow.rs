//! What is open of one flow, and the super-frame that becomes of it.

use core::ops::Range;

use omni_wire::checksum;

use super::Coalesced;
use super::candidate::{Candidate, Transport, addresses};
use crate::layout::{
    CWR, Family, HEADERS_MAX, IPV4_CHECKSUM, IPV4_TOTAL_LEN, IPV6_LEN, IPV6_PAYLOAD_LEN, PSH,
    TCP_ACKNOWLEDGMENT, TCP_CHECKSUM, TCP_FLAGS, TCP_OFFSET, TCP_URGENT, TCP_WINDOW, UDP_CHECKSUM,
    UDP_LENGTH, set_word,
};
use crate::vnet::{Gso, GsoKind, PartialChecksum, VnetHeader};

/// Frames of a super-frame at most.
pub const PIECES_MAX: usize = 64;

/// Octets of an IP packet at most. IPv6's length field leaves its header out, but not every reader
/// of a tap has room for that.
const PACKET_MAX: usize = 65_535;

/// The payload of a frame that was pushed.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Piece {
    /// The frame's number.
    pub number: u32,
    /// Where its payload begins in it, in octets.
    pub start: u32,
    /// Where it ends: the frame's length.
    pub end: u32,
}

impl Piece {
    /// Which octets of the frame are its payload.
    #[inline]
    #[must_use]
    pub fn range(&self) -> Range<usize> {
        self.start as usize..self.end as usize
    }
}

/// A super-frame: what `writev` is given, one after the other.
#[derive(Debug)]
pub struct Group {
    vnet: VnetHeader,
    header: [u8; HEADERS_MAX],
    header_len: usize,
    pieces: [Piece; PIECES_MAX],
    count: usize,
}

impl Group {
    /// The header before the frame.
    #[inline]
    #[must_use]
    pub const fn vnet(&self) -> &VnetHeader {
        &self.vnet
    }

    /// All headers of the frame, Ethernet to transport.
    #[inline]
    #[must_use]
    pub fn header(&self) -> &[u8] {
        &self.header[..self.header_len]
    }

    /// Where the payloads are: 2 to [`PIECES_MAX`].
    #[inline]
    #[must_use]
    pub fn pieces(&self) -> &[Piece] {
        &self.pieces[..self.count]
    }
}

/// The open frames of a flow.
#[derive(Debug)]
pub(super) struct Flow {
    /// The headers are those of the first frame until [`Flow::give`].
    group: Group,
    family: Family,
    protocol: Transport,
    ip: usize,
    transport: usize,
    ports: u32,
    /// The running sum of the pseudo-header without a length.
    pseudo: u64,
    /// Octets of payload of the first frame.
    size: usize,
    /// Octets of payload of all.
    payload_len: usize,
    /// TCP: the sequence number after what is here.
    sequence: u32,
    /// TCP: the flags of all.
    flags: u8,
    /// IPv4: the identification after the last one.
    id: u16,
    /// Whether the last frame is one that ends a group.
    complete: bool,
}

impl Flow {
    /// Of nothing.
    pub(super) const VACANT: Self = Self {
        group: Group {
            vnet: VnetHeader {
                checksum: None,
                gso: None,
                header_len: 0,
            },
            header: [0; HEADERS_MAX],
            header_len: 0,
            pieces: [Piece {
                number: 0,
                start: 0,
                end: 0,
            }; PIECES_MAX],
            count: 0,
        },
        family: Family::V4,
        protocol: Transport::Tcp,
        ip: 0,
        transport: 0,
        ports: 0,
        pseudo: 0,
        size: 0,
        payload_len: 0,
        sequence: 0,
        flags: 0,
        id: 0,
        complete: false,
    };

    /// Opens with a first frame.
    #[inline]
    pub(super) fn start(&mut self, number: u32, first: &Candidate<'_>) {
        let header = &first.frame[..first.header_len];
        self.group.header[..header.len()].copy_from_slice(header);
        self.group.header_len = header.len();
        self.group.count = 0;
        self.family = first.family;
        self.protocol = first.protocol;
        self.ip = first.ip;
        self.transport = first.transport;
        self.ports = first.ports;
        self.pseudo = first.pseudo_header(0);
        self.size = first.payload_len();
        self.payload_len = 0;
        self.sequence = first.sequence;
        self.flags = first.flags;
        self.complete = false;
        self.add(number, first);
    }

    /// Whether a frame is of this flow, by its 5-tuple.
    #[inline]
    pub(super) fn is_of(&self, other: &Candidate<'_>) -> bool {
        self.ports == other.ports
            && self.protocol == other.protocol
            && self.is_between(other.addresses())
    }

    /// Whether this flow is between these addresses, in this direction.
    #[inline]
    pub(super) fn is_between(&self, pair: &[u8]) -> bool {
        addresses(&self.group.header, self.ip, self.family) == pair
    }

    /// Appends a frame of this flow whose checksums are right, unless it does not fit to what is
    /// here.
    #[inline]
    pub(super) fn append(&mut self, number: u32, next: &Candidate<'_>) -> bool {
        let packet_len = self.group.header_len - self.ip + self.payload_len;
        let fits = next.payload_len() <= self.size
            && packet_len + next.payload_len() <= PACKET_MAX
            && self.group.count < PIECES_MAX
            && self.continues(next);
        if fits {
            self.flags |= next.flags & PSH;
            self.complete = next.payload_len() < self.size || next.ends_a_flight();
            self.add(number, next);
        }
        fits
    }

    /// Whether nothing may be appended any more.
    #[inline]
    pub(super) fn is_complete(&self) -> bool {
        self.complete
    }

    /// Gives away what is here.
    #[inline]
    pub(super) fn give(&mut self, out: &mut impl FnMut(Coalesced<'_>)) {
        if let [only] = self.group.pieces() {
            out(Coalesced::Frame(only.number));
        } else {
            self.finish();
            out(Coalesced::Group(&self.group));
        }
    }

    /// Whether a frame's headers differ from the first one's only as those of the next segment do.
    #[inline]
    fn continues(&self, next: &Candidate<'_>) -> bool {
        let (ours, theirs) = (self.group.header(), &next.frame[..next.header_len]);
        let (ip, transport) = (self.ip, self.transport);
        let same = |range: Range<usize>| ours[range.clone()] == theirs[range];
        if (ip, transport, ours.len()) != (next.ip, next.transport, theirs.len()) || !same(0..ip) {
            return false;
        }
        let ip_matches = match self.family {
            // Version and DS field; flags, TTL and protocol. Addresses were compared before.
            Family::V4 => {
                let is_next = next.dont_fragment || self.id == next.id;
                is_next && same(ip..ip + 2) && same(ip + 6..ip + 10)
            }
            // Version, traffic class and flow label; next header and hop limit.
            Family::V6 => same(ip..ip + 4) && same(ip + 6..ip + 8),
        };
        let tcp_matches = || {
            let differing = (self.flags ^ next.flags) & !(PSH | CWR);
            self.sequence == next.sequence
                && (differing | next.flags & CWR) == 0
                && same(transport + TCP_ACKNOWLEDGMENT..transport + TCP_OFFSET + 1)
                && same(transport + TCP_WINDOW..transport + TCP_CHECKSUM)
                && same(transport + TCP_URGENT..ours.len())
        };
        ip_matches && (self.protocol == Transport::Udp || tcp_matches())
    }

    /// Takes a frame whose headers fit.
    #[inline]
    fn add(&mut self, number: u32, next: &Candidate<'_>) {
        // Frames are below 2^32 octets: an IP packet, and no padding.
        self.group.pieces[self.group.count] = Piece {
            number,
            start: next.header_len as u32,
            end: next.frame.len() as u32,
        };
        self.group.count += 1;
        self.payload_len += next.payload_len();
        self.sequence = next.sequence.wrapping_add(next.payload_len() as u32);
        self.id = next.id.wrapping_add(1);
    }

    /// Makes the first frame's headers those of the super-frame.
    fn finish(&mut self) {
        let (ip, transport, header_len) = (self.ip, self.transport, self.group.header_len);
        // Both are at most PACKET_MAX.
        let packet_len = header_len - ip + self.payload_len;
        let segment_len = packet_len - (transport - ip);
        let header = &mut self.group.header[..header_len];
        match self.family {
            Family::V4 => {
                set_word(header, ip + IPV4_TOTAL_LEN, packet_len as u16);
                set_word(header, ip + IPV4_CHECKSUM, 0);
                let sum = !checksum::fold(checksum::add(0, &header[ip..transport]));
                set_word(header, ip + IPV4_CHECKSUM, sum);
            }
            Family::V6 => {
                set_word(
                    header,
                    ip + IPV6_PAYLOAD_LEN,
                    (packet_len - IPV6_LEN) as u16,
                );
            }
        }
        let (kind, offset) = match (self.protocol, self.family) {
            (Transport::Tcp, Family::V4) => (GsoKind::TcpV4, TCP_CHECKSUM),
            (Transport::Tcp, Family::V6) => (GsoKind::TcpV6, TCP_CHECKSUM),
            (Transport::Udp, _) => (GsoKind::Udp, UDP_CHECKSUM),
        };
        match self.protocol {
            Transport::Tcp => header[transport + TCP_FLAGS] = self.flags,
            Transport::Udp => set_word(header, transport + UDP_LENGTH, segment_len as u16),
        }
        let partial = checksum::fold(self.pseudo + segment_len as u64);
        set_word(header, transport + offset, partial);
        self.group.vnet = VnetHeader {
            checksum: Some(PartialChecksum {
                start: transport as u16,
                offset: offset as u16,
            }),
            gso: Some(Gso {
                kind,
                size: self.size as u16,
                ecn: self.flags & CWR != 0,
            }),
            header_len: header_len as u16,
        };
    }
}
