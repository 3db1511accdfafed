//! Where the fields of headers are, and how they are read and written.

/// Octets of all headers of a frame at most, Ethernet to TCP options: 22, 60 and 60 over IPv4, and
/// over IPv6 70 for extension headers.
pub const HEADERS_MAX: usize = 192;

/// Length of an IPv4 header without options (RFC 791 s.3.1).
pub(crate) const IPV4_LEN: usize = 20;
/// Total length, 2 octets.
pub(crate) const IPV4_TOTAL_LEN: usize = 2;
/// Identification, 2 octets.
pub(crate) const IPV4_ID: usize = 4;
/// Flags and fragment offset, 2 octets.
pub(crate) const IPV4_FLAGS: usize = 6;
/// What the payload is, 1 octet.
pub(crate) const IPV4_PROTOCOL: usize = 9;
/// Header checksum, 2 octets.
pub(crate) const IPV4_CHECKSUM: usize = 10;
/// Source and destination.
pub(crate) const IPV4_ADDRESSES: core::ops::Range<usize> = 12..20;
/// "Don't fragment", in the word of flags and offset.
pub(crate) const IPV4_DONT_FRAGMENT: u16 = 0x4000;
/// "More fragments" and the offset: not all zero means a fragment.
pub(crate) const IPV4_FRAGMENT: u16 = 0x3fff;

/// Length of an IPv6 header (RFC 8200 s.3).
pub(crate) const IPV6_LEN: usize = 40;
/// Payload length, 2 octets.
pub(crate) const IPV6_PAYLOAD_LEN: usize = 4;
/// What follows, 1 octet.
pub(crate) const IPV6_NEXT_HEADER: usize = 6;
/// Source and destination.
pub(crate) const IPV6_ADDRESSES: core::ops::Range<usize> = 8..40;

/// Length of a TCP header without options (RFC 9293 s.3.1).
pub(crate) const TCP_LEN: usize = 20;
/// Sequence number, 4 octets.
pub(crate) const TCP_SEQUENCE: usize = 4;
/// Acknowledgment number, 4 octets.
pub(crate) const TCP_ACKNOWLEDGMENT: usize = 8;
/// Data offset in the high half, 1 octet.
pub(crate) const TCP_OFFSET: usize = 12;
/// Flags, 1 octet.
pub(crate) const TCP_FLAGS: usize = 13;
/// Window, 2 octets.
pub(crate) const TCP_WINDOW: usize = 14;
/// Checksum, 2 octets.
pub(crate) const TCP_CHECKSUM: usize = 16;
/// Urgent pointer, 2 octets, after which options begin.
pub(crate) const TCP_URGENT: usize = 18;

/// No more data.
pub(crate) const FIN: u8 = 0x01;
/// Sequence numbers begin.
pub(crate) const SYN: u8 = 0x02;
/// The connection is gone.
pub(crate) const RST: u8 = 0x04;
/// The application is to be woken.
pub(crate) const PSH: u8 = 0x08;
/// There is urgent data.
pub(crate) const URG: u8 = 0x20;
/// The congestion window was reduced (RFC 3168 s.6.1): said once.
pub(crate) const CWR: u8 = 0x80;

/// Length of a UDP header (RFC 768).
pub(crate) const UDP_LEN: usize = 8;
/// Length of header and payload, 2 octets.
pub(crate) const UDP_LENGTH: usize = 4;
/// Checksum, 2 octets.
pub(crate) const UDP_CHECKSUM: usize = 6;

/// Internet protocol versions.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Family {
    V4,
    V6,
}

/// Reads a 16-bit word, `None` beyond the end.
#[inline]
pub(crate) fn word(octets: &[u8], at: usize) -> Option<u16> {
    let octets = octets.get(at..)?.first_chunk()?;
    Some(u16::from_be_bytes(*octets))
}

/// Reads a 32-bit word, `None` beyond the end.
#[inline]
pub(crate) fn double_word(octets: &[u8], at: usize) -> Option<u32> {
    let octets = octets.get(at..)?.first_chunk()?;
    Some(u32::from_be_bytes(*octets))
}

/// Writes a 16-bit word into headers that were checked to have it.
#[inline]
pub(crate) fn set_word(octets: &mut [u8], at: usize, value: u16) {
    octets[at..at + 2].copy_from_slice(&value.to_be_bytes());
}
