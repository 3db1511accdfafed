//! What a frame is to a flow.

use omni_wire::checksum;
use omni_wire::ethernet::{ETHERTYPE_IPV4, ETHERTYPE_IPV6, Ethernet};
use omni_wire::ip::{PROTOCOL_ICMPV6, PROTOCOL_TCP, PROTOCOL_UDP};

use crate::layout::{
    FIN, Family, HEADERS_MAX, IPV4_ADDRESSES, IPV4_DONT_FRAGMENT, IPV4_FLAGS, IPV4_FRAGMENT,
    IPV4_ID, IPV4_LEN, IPV4_PROTOCOL, IPV4_TOTAL_LEN, IPV6_ADDRESSES, IPV6_LEN, IPV6_NEXT_HEADER,
    IPV6_PAYLOAD_LEN, PSH, RST, SYN, TCP_FLAGS, TCP_LEN, TCP_OFFSET, TCP_SEQUENCE, UDP_CHECKSUM,
    UDP_LEN, UDP_LENGTH, URG, double_word, word,
};

/// What was found in a frame.
pub(super) enum Look<'a> {
    /// Nothing of a flow that could be open.
    Foreign,
    /// A part of a flow between these addresses, but it cannot be told of which.
    Opaque(&'a [u8]),
    /// A segment or datagram.
    Segment(Candidate<'a>),
}

/// Protocols whose frames are coalesced.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Transport {
    Tcp,
    Udp,
}

/// A segment or datagram that was found in a frame.
#[derive(Clone, Copy)]
pub(super) struct Candidate<'a> {
    pub(super) frame: &'a [u8],
    pub(super) family: Family,
    pub(super) protocol: Transport,
    /// Where the IP header begins.
    pub(super) ip: usize,
    /// Where the transport header begins.
    pub(super) transport: usize,
    /// Where the payload begins. Never beyond the frame's end.
    pub(super) header_len: usize,
    /// Source and destination port.
    pub(super) ports: u32,
    /// TCP: the sequence number.
    pub(super) sequence: u32,
    /// TCP: the flags.
    pub(super) flags: u8,
    /// IPv4: the identification. IPv6: 0.
    pub(super) id: u16,
    /// Whether no router may fragment it, so that its identification means nothing.
    pub(super) dont_fragment: bool,
    /// Whether it has the form of what can be appended: known headers alone, a payload, no padding.
    has_form: bool,
}

/// What an IP header says.
struct Packet<'a> {
    family: Family,
    addresses: &'a [u8],
    protocol: u8,
    header_len: usize,
    packet_len: usize,
    /// Whether the transport header is in here, right behind.
    has_transport: bool,
    /// Whether the header is nothing but the fixed one.
    is_plain: bool,
    id: u16,
    dont_fragment: bool,
}

impl<'a> Candidate<'a> {
    /// Looks at a frame. Its checksums are not verified.
    #[inline]
    pub(super) fn look(frame: &'a [u8], udp: bool) -> Look<'a> {
        let Ok(ethernet) = Ethernet::parse(frame) else {
            return Look::Foreign;
        };
        let ip = ethernet.payload_offset;
        let packet = frame.get(ip..).and_then(|packet| match ethernet.ethertype {
            ETHERTYPE_IPV4 => Packet::parse_v4(packet),
            ETHERTYPE_IPV6 => Packet::parse_v6(packet),
            _ => None,
        });
        let Some(packet) = packet else {
            return Look::Foreign;
        };
        let transport = ip + packet.header_len;
        let Some(segment) = frame.get(transport..ip + packet.packet_len) else {
            return Look::Foreign;
        };
        let found = match packet.protocol {
            PROTOCOL_TCP => Self::tcp(frame, segment, transport, &packet),
            PROTOCOL_UDP if udp => Self::udp(frame, segment, transport, &packet),
            // What there is behind extension headers is not looked for.
            protocol if packet.family == Family::V6 && may_be_extension(protocol) => None,
            _ => return Look::Foreign,
        };
        match found.filter(|_| packet.has_transport) {
            Some(mut candidate) => {
                candidate.ip = ip;
                candidate.has_form &= packet.is_plain && ip + packet.packet_len == frame.len();
                Look::Segment(candidate)
            }
            None => Look::Opaque(packet.addresses),
        }
    }

    #[inline]
    fn tcp(frame: &'a [u8], segment: &[u8], at: usize, packet: &Packet<'a>) -> Option<Self> {
        let header: &[u8; TCP_LEN] = segment.first_chunk()?;
        let len = usize::from(header[TCP_OFFSET] >> 4) * 4;
        let fits = (TCP_LEN..segment.len()).contains(&len);
        Some(Self {
            protocol: Transport::Tcp,
            header_len: at + len.min(segment.len()),
            sequence: double_word(header, TCP_SEQUENCE)?,
            flags: header[TCP_FLAGS],
            has_form: fits && at + len <= HEADERS_MAX,
            ..Self::bare(frame, header, at, packet)?
        })
    }

    #[inline]
    fn udp(frame: &'a [u8], segment: &[u8], at: usize, packet: &Packet<'a>) -> Option<Self> {
        let header: &[u8; UDP_LEN] = segment.first_chunk()?;
        let len = usize::from(word(header, UDP_LENGTH)?);
        let fits = len == segment.len() && len > UDP_LEN;
        let has_checksum = word(header, UDP_CHECKSUM)? != 0;
        Some(Self {
            protocol: Transport::Udp,
            header_len: at + UDP_LEN,
            has_form: fits && has_checksum,
            ..Self::bare(frame, header, at, packet)?
        })
    }

    /// What is common to both protocols.
    #[inline]
    fn bare(frame: &'a [u8], header: &[u8], at: usize, packet: &Packet<'a>) -> Option<Self> {
        Some(Self {
            frame,
            family: packet.family,
            protocol: Transport::Udp,
            ip: 0,
            transport: at,
            header_len: at,
            ports: double_word(header, 0)?,
            sequence: 0,
            flags: 0,
            id: packet.id,
            dont_fragment: packet.dont_fragment,
            has_form: false,
        })
    }

    /// Its source and destination address, one after the other.
    #[inline]
    pub(super) fn addresses(&self) -> &'a [u8] {
        addresses(self.frame, self.ip, self.family)
    }

    /// Octets of payload.
    #[inline]
    pub(super) fn payload_len(&self) -> usize {
        self.frame.len() - self.header_len
    }

    /// Whether its headers say nothing that is said of one frame alone.
    #[inline]
    pub(super) fn is_ordinary(&self) -> bool {
        self.has_form && self.flags & (FIN | SYN | RST | URG) == 0
    }

    /// Whether nothing is to be appended behind it.
    #[inline]
    pub(super) fn ends_a_flight(&self) -> bool {
        self.flags & PSH != 0
    }

    /// Whether the checksums of a frame without padding are right, IP's and the transport's.
    #[inline]
    pub(super) fn verifies(&self) -> bool {
        let ip_header = &self.frame[self.ip..self.transport];
        let segment = &self.frame[self.transport..];
        let valid = |sum| checksum::fold(sum) == 0xffff;
        (self.family == Family::V6 || valid(checksum::add(0, ip_header)))
            && valid(checksum::add(self.pseudo_header(segment.len()), segment))
    }

    /// The running sum of the pseudo-header for a segment of this length.
    #[inline]
    pub(super) fn pseudo_header(&self, len: usize) -> u64 {
        let protocol = match self.protocol {
            Transport::Tcp => PROTOCOL_TCP,
            Transport::Udp => PROTOCOL_UDP,
        };
        checksum::add(u64::from(protocol) + len as u64, self.addresses())
    }
}

/// Source and destination address of a packet whose IP header was checked to be whole.
#[inline]
pub(super) fn addresses(octets: &[u8], ip: usize, family: Family) -> &[u8] {
    let range = match family {
        Family::V4 => IPV4_ADDRESSES,
        Family::V6 => IPV6_ADDRESSES,
    };
    &octets[ip + range.start..ip + range.end]
}

impl<'a> Packet<'a> {
    /// `None` for what no receiver takes for IPv4, or for whole.
    #[inline]
    fn parse_v4(packet: &'a [u8]) -> Option<Self> {
        let header: &[u8; IPV4_LEN] = packet.first_chunk()?;
        let header_len = usize::from(header[0] & 0x0f) * 4;
        let packet_len = usize::from(word(header, IPV4_TOTAL_LEN)?);
        let lengths = IPV4_LEN <= header_len && header_len <= packet_len;
        if header[0] >> 4 != 4 || !lengths || packet_len > packet.len() {
            return None;
        }
        let flags = word(header, IPV4_FLAGS)?;
        Some(Self {
            family: Family::V4,
            addresses: packet.get(IPV4_ADDRESSES)?,
            protocol: header[IPV4_PROTOCOL],
            header_len,
            packet_len,
            has_transport: flags & IPV4_FRAGMENT == 0,
            is_plain: header_len == IPV4_LEN,
            id: word(header, IPV4_ID)?,
            dont_fragment: flags & IPV4_DONT_FRAGMENT != 0,
        })
    }

    /// `None` for what no receiver takes for IPv6, or for whole.
    #[inline]
    fn parse_v6(packet: &'a [u8]) -> Option<Self> {
        let header: &[u8; IPV6_LEN] = packet.first_chunk()?;
        let packet_len = IPV6_LEN + usize::from(word(header, IPV6_PAYLOAD_LEN)?);
        if header[0] >> 4 != 6 || packet_len > packet.len() {
            return None;
        }
        Some(Self {
            family: Family::V6,
            addresses: packet.get(IPV6_ADDRESSES)?,
            protocol: header[IPV6_NEXT_HEADER],
            header_len: IPV6_LEN,
            packet_len,
            has_transport: true,
            is_plain: true,
            id: 0,
            dont_fragment: true,
        })
    }
}

/// Whether a number that is not TCP's may be that of an extension header, with TCP or UDP behind.
#[inline]
const fn may_be_extension(protocol: u8) -> bool {
    !matches!(protocol, PROTOCOL_UDP | PROTOCOL_ICMPV6)
}
