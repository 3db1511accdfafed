//! Super-frames cut into frames that fit the access MTU.
//!
//! ```text
//!  | Ethernet | tags | IP | TCP | payload 0 | payload 1 | ... | payload n |    super-frame
//!  | headers 0 | payload 0 |    | headers 1 | payload 1 |   ...                segments
//! ```
//!
//! [`SuperFrame`] keeps the headers and never touches a payload: [`SuperFrame::write_header`] makes
//! the headers of a segment wherever there is room for them, given the payload to sum, wherever
//! that lies. So it serves who copies payloads ([`SuperFrame::copy`]), and who had them read
//! straight to where they belong.
//!
//! Every segment is what the kernel's own segmentation makes (`tcp_gso_segment`,
//! `__udp_gso_segment`). The sum over pseudo-header and headers is taken once, without what differs
//! between segments, and that is added for each.

use core::ops::Range;

use omni_wire::checksum;
use omni_wire::ethernet::{ETHERTYPE_IPV4, ETHERTYPE_IPV6, Ethernet};
use omni_wire::ip::{PROTOCOL_TCP, PROTOCOL_UDP};
use thiserror::Error;

use crate::layout::{
    CWR, FIN, Family, HEADERS_MAX, IPV4_CHECKSUM, IPV4_FLAGS, IPV4_FRAGMENT, IPV4_ID, IPV4_LEN,
    IPV4_PROTOCOL, IPV4_TOTAL_LEN, IPV6_LEN, IPV6_NEXT_HEADER, IPV6_PAYLOAD_LEN, PSH, RST, SYN,
    TCP_CHECKSUM, TCP_FLAGS, TCP_LEN, TCP_OFFSET, TCP_SEQUENCE, UDP_CHECKSUM, UDP_LEN, UDP_LENGTH,
    double_word, set_word, word,
};
use crate::vnet::{GsoKind, VnetHeader};

/// Segments of a super-frame at most. 64 KB in segments of 536 octets, the least that TCP uses
/// over IPv4 by default, are 123; more only cost time.
pub const SEGMENTS_MAX: usize = 128;

/// Extension headers that are walked at most, as in frames that are inspected.
const EXTENSIONS_MAX: usize = 8;

/// IPv6 extension headers that may stand before a segment, for they are the same in each of them
/// (IANA, "IPv6 Extension Header Types"): hop-by-hop options, routing, destination options.
const HOP_BY_HOP: u8 = 0;
const ROUTING: u8 = 43;
const DESTINATION: u8 = 60;

/// Why a super-frame is refused. The kernel makes none of these.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Error)]
#[non_exhaustive]
pub enum SegmentError {
    /// The header before it says that it is an ordinary frame.
    #[error("not a super-frame")]
    NotSuper,
    /// The Ethernet header is cut off, or has tags that are not carried.
    #[error("invalid Ethernet header")]
    Ethernet,
    /// What it carries is not what the header before it says.
    #[error("not the protocol that gso_type says")]
    Protocol,
    /// A header is cut off, or says that it is shorter than it can be.
    #[error("headers cut short")]
    HeadersCut,
    /// There are more octets of headers than [`HEADERS_MAX`].
    #[error("headers too long")]
    HeadersTooLong,
    /// A length of IP or UDP is not that of the frame.
    #[error("a length that is not the frame's")]
    Length,
    /// It is a fragment.
    #[error("a fragment")]
    Fragment,
    /// The partial checksum is not that of its transport header.
    #[error("the partial checksum is not the transport's")]
    Checksum,
    /// It has SYN or RST, which are not said of one segment after another.
    #[error("SYN or RST")]
    Flags,
    /// It would be more than [`SEGMENTS_MAX`] segments.
    #[error("more than {SEGMENTS_MAX} segments")]
    TooMany,
}

/// A super-frame that was looked at, and how it is cut.
#[derive(Clone, Debug)]
pub struct SuperFrame {
    /// The headers, with 0 in all fields that differ between segments.
    template: [u8; HEADERS_MAX],
    /// Octets of `template` in use.
    header_len: usize,
    /// Where the IP header begins.
    ip: usize,
    family: Family,
    /// Where the transport header begins.
    transport: usize,
    /// The sum of the IPv4 header of the template.
    ip_sum: u64,
    /// The sum of the transport header of the template, and of the pseudo-header without a length.
    sum: u64,
    /// IPv4's identification of the first segment.
    id: u16,
    varying: Varying,
    /// Octets of payload of a segment, the last may have less.
    size: usize,
    /// Octets of payload of all.
    payload_len: usize,
    /// Segments.
    count: usize,
}

/// What differs between the transport headers of segments.
#[derive(Clone, Copy, Debug)]
enum Varying {
    Tcp {
        /// The first segment's.
        sequence: u32,
        /// Those of all together.
        flags: u8,
    },
    Udp,
}

impl SuperFrame {
    /// Looks at a super-frame of `frame_len` octets, of which `head` is the beginning: all of its
    /// headers at the least.
    ///
    /// `vnet` must have been parsed for this frame.
    ///
    /// # Errors
    /// [`SegmentError`]; [`SegmentError::HeadersCut`] also when `head` ends within the headers.
    pub fn parse(vnet: &VnetHeader, head: &[u8], frame_len: usize) -> Result<Self, SegmentError> {
        let (Some(gso), Some(partial)) = (vnet.gso, vnet.checksum) else {
            return Err(SegmentError::NotSuper);
        };
        let layers = Layers::parse(head, frame_len)?;
        let (protocol, family, field) = match gso.kind {
            GsoKind::TcpV4 => (PROTOCOL_TCP, Family::V4, TCP_CHECKSUM),
            GsoKind::TcpV6 => (PROTOCOL_TCP, Family::V6, TCP_CHECKSUM),
            GsoKind::Udp => (PROTOCOL_UDP, layers.family, UDP_CHECKSUM),
        };
        if (layers.protocol, layers.family) != (protocol, family) {
            return Err(SegmentError::Protocol);
        }
        if (usize::from(partial.start), usize::from(partial.offset)) != (layers.transport, field) {
            return Err(SegmentError::Checksum);
        }
        let header_len = transport_end(head, frame_len, &layers)?;
        if header_len > HEADERS_MAX {
            return Err(SegmentError::HeadersTooLong);
        }
        let mut template = [0; HEADERS_MAX];
        let headers = head.get(..header_len).ok_or(SegmentError::HeadersCut)?;
        template[..header_len].copy_from_slice(headers);
        let (size, payload_len) = (usize::from(gso.size), frame_len - header_len);
        let count = match size {
            0 => usize::MAX,
            _ => payload_len.div_ceil(size).max(1),
        };
        if count > SEGMENTS_MAX {
            return Err(SegmentError::TooMany);
        }
        let mut made = Self {
            template,
            header_len,
            ip: layers.ip,
            family,
            transport: layers.transport,
            ip_sum: 0,
            sum: 0,
            id: 0,
            varying: Varying::Udp,
            size,
            payload_len,
            count,
        };
        made.prepare(protocol, frame_len)?;
        Ok(made)
    }

    /// Segments that come out: 1 to [`SEGMENTS_MAX`].
    #[inline]
    #[must_use]
    pub const fn count(&self) -> usize {
        self.count
    }

    /// Octets of all headers, the same in each segment.
    #[inline]
    #[must_use]
    pub const fn header_len(&self) -> usize {
        self.header_len
    }

    /// Octets of the longest segment, its headers included: what has to fit into the MTU, with 14
    /// octets of Ethernet and 4 for each tag.
    #[inline]
    #[must_use]
    pub fn longest(&self) -> usize {
        self.header_len + self.size.min(self.payload_len)
    }

    /// Which octets of the super-frame are a segment's payload. Empty beyond the last one.
    #[inline]
    #[must_use]
    pub fn payload(&self, index: usize) -> Range<usize> {
        let start = index.saturating_mul(self.size).min(self.payload_len);
        let end = start.saturating_add(self.size).min(self.payload_len);
        self.header_len + start..self.header_len + end
    }

    /// Writes the headers of a segment to the beginning of `out`, checksums complete, and gives
    /// their length. `payload` is the segment's payload, and only summed.
    ///
    /// `None`, and nothing written, when there is no such segment, its payload has another length,
    /// or `out` has no room.
    #[inline]
    pub fn write_header(&self, index: usize, payload: &[u8], out: &mut [u8]) -> Option<usize> {
        if index >= self.count || self.payload(index).len() != payload.len() {
            return None;
        }
        let out = out.get_mut(..self.header_len)?;
        out.copy_from_slice(&self.template[..self.header_len]);
        self.write_ip(index, payload.len(), out);
        self.write_transport(index, payload, out);
        Some(self.header_len)
    }

    /// Copies a segment of `frame`, the super-frame, to the beginning of `out`: headers and
    /// payload. Gives its length.
    ///
    /// `None` when there is no such segment, `frame` is shorter than was said, or `out` has no
    /// room.
    #[inline]
    pub fn copy(&self, index: usize, frame: &[u8], out: &mut [u8]) -> Option<usize> {
        let payload = frame.get(self.payload(index))?;
        let end = self.header_len + payload.len();
        let (header, place) = out.get_mut(..end)?.split_at_mut(self.header_len);
        // Summed first, a payload is in the nearest cache when it is copied.
        self.write_header(index, payload, header)?;
        place.copy_from_slice(payload);
        Some(end)
    }

    /// Takes what differs between segments out of the template, and sums the rest.
    fn prepare(&mut self, protocol: u8, frame_len: usize) -> Result<(), SegmentError> {
        let (ip, transport) = (self.ip, self.transport);
        let header = &mut self.template[..self.header_len];
        if self.family == Family::V4 {
            self.id = word(header, ip + IPV4_ID).ok_or(SegmentError::HeadersCut)?;
            for field in [IPV4_TOTAL_LEN, IPV4_ID, IPV4_CHECKSUM] {
                set_word(header, ip + field, 0);
            }
            self.ip_sum = checksum::add(0, &header[ip..transport]);
        }
        let segment = &mut header[transport..];
        let field = if protocol == PROTOCOL_TCP {
            let flags = segment[TCP_FLAGS];
            if flags & (SYN | RST) != 0 {
                return Err(SegmentError::Flags);
            }
            let sequence = double_word(segment, TCP_SEQUENCE).ok_or(SegmentError::HeadersCut)?;
            self.varying = Varying::Tcp { sequence, flags };
            segment[TCP_SEQUENCE..TCP_SEQUENCE + 4].fill(0);
            segment[TCP_FLAGS] = 0;
            TCP_CHECKSUM
        } else {
            set_word(segment, UDP_LENGTH, 0);
            UDP_CHECKSUM
        };
        // The field has the pseudo-header's sum with the super-frame's length in it. A packet with
        // a routing header has another destination in its pseudo-header than in its IP header:
        // the field knows. Adding the complement takes the length out (RFC 1624 s.3).
        let pseudo = word(segment, field).ok_or(SegmentError::HeadersCut)?;
        let len = u16::try_from(frame_len - transport).map_err(|_| SegmentError::Length)?;
        set_word(segment, field, 0);
        self.sum = checksum::add(u64::from(pseudo) + u64::from(!len), segment);
        Ok(())
    }

    /// Writes the fields of the IP header that differ.
    #[inline]
    fn write_ip(&self, index: usize, payload_len: usize, out: &mut [u8]) {
        // Lengths are below 2^16, as those of the super-frame were.
        let packet_len = self.header_len - self.ip + payload_len;
        let ip = &mut out[self.ip..];
        match self.family {
            Family::V4 => {
                let id = self.id.wrapping_add(index as u16);
                let sum = self.ip_sum + packet_len as u64 + u64::from(id);
                set_word(ip, IPV4_TOTAL_LEN, packet_len as u16);
                set_word(ip, IPV4_ID, id);
                set_word(ip, IPV4_CHECKSUM, !checksum::fold(sum));
            }
            Family::V6 => set_word(ip, IPV6_PAYLOAD_LEN, (packet_len - IPV6_LEN) as u16),
        }
    }

    /// Writes the fields of the transport header that differ.
    #[inline]
    fn write_transport(&self, index: usize, payload: &[u8], out: &mut [u8]) {
        let len = self.header_len - self.transport + payload.len();
        let sum = checksum::add(self.sum + len as u64, payload);
        let segment = &mut out[self.transport..];
        match self.varying {
            Varying::Tcp { sequence, flags } => {
                let sequence = sequence.wrapping_add((index * self.size) as u32);
                let last = index + 1 == self.count;
                let flags = flags
                    & if index == 0 { 0xff } else { !CWR }
                    & if last { 0xff } else { !(FIN | PSH) };
                let sum = sum
                    + u64::from(sequence >> 16)
                    + u64::from(sequence & 0xffff)
                    + u64::from(flags);
                segment[TCP_SEQUENCE..TCP_SEQUENCE + 4].copy_from_slice(&sequence.to_be_bytes());
                segment[TCP_FLAGS] = flags;
                set_word(segment, TCP_CHECKSUM, !checksum::fold(sum));
            }
            Varying::Udp => {
                let sum = match !checksum::fold(sum + len as u64) {
                    0 => 0xffff,
                    sum => sum,
                };
                set_word(segment, UDP_LENGTH, len as u16);
                set_word(segment, UDP_CHECKSUM, sum);
            }
        }
    }
}

/// Where the headers of a frame are.
struct Layers {
    ip: usize,
    family: Family,
    transport: usize,
    protocol: u8,
}

impl Layers {
    /// Finds the transport header of a whole packet that fills its frame to the end.
    fn parse(head: &[u8], frame_len: usize) -> Result<Self, SegmentError> {
        let ethernet = Ethernet::parse(head).map_err(|_| SegmentError::Ethernet)?;
        let ip = ethernet.payload_offset;
        let packet = head.get(ip..).ok_or(SegmentError::HeadersCut)?;
        let packet_len = frame_len.checked_sub(ip).ok_or(SegmentError::Length)?;
        let (family, offset, protocol) = match ethernet.ethertype {
            ETHERTYPE_IPV4 => {
                let (offset, protocol) = ipv4(packet, packet_len)?;
                (Family::V4, offset, protocol)
            }
            ETHERTYPE_IPV6 => {
                let (offset, protocol) = ipv6(packet, packet_len)?;
                (Family::V6, offset, protocol)
            }
            _ => return Err(SegmentError::Protocol),
        };
        Ok(Self {
            ip,
            family,
            transport: ip + offset,
            protocol,
        })
    }
}

/// Length of an IPv4 header, and what follows.
fn ipv4(packet: &[u8], packet_len: usize) -> Result<(usize, u8), SegmentError> {
    let header: &[u8; IPV4_LEN] = packet.first_chunk().ok_or(SegmentError::HeadersCut)?;
    if header[0] >> 4 != 4 {
        return Err(SegmentError::Protocol);
    }
    let header_len = usize::from(header[0] & 0x0f) * 4;
    if header_len < IPV4_LEN || header_len > packet.len() {
        return Err(SegmentError::HeadersCut);
    }
    if word(header, IPV4_TOTAL_LEN).map(usize::from) != Some(packet_len) {
        return Err(SegmentError::Length);
    }
    if word(header, IPV4_FLAGS).is_none_or(|flags| flags & IPV4_FRAGMENT != 0) {
        return Err(SegmentError::Fragment);
    }
    Ok((header_len, header[IPV4_PROTOCOL]))
}

/// Length of an IPv6 header with extension headers, and what follows.
fn ipv6(packet: &[u8], packet_len: usize) -> Result<(usize, u8), SegmentError> {
    let header: &[u8; IPV6_LEN] = packet.first_chunk().ok_or(SegmentError::HeadersCut)?;
    if header[0] >> 4 != 6 {
        return Err(SegmentError::Protocol);
    }
    let payload_len = word(header, IPV6_PAYLOAD_LEN).map(usize::from);
    if payload_len.map(|len| len + IPV6_LEN) != Some(packet_len) {
        return Err(SegmentError::Length);
    }
    let (mut offset, mut next) = (IPV6_LEN, header[IPV6_NEXT_HEADER]);
    for _ in 0..=EXTENSIONS_MAX {
        if !matches!(next, HOP_BY_HOP | ROUTING | DESTINATION) {
            return Ok((offset, next));
        }
        let extension = packet.get(offset..).and_then(<[u8]>::first_chunk);
        let &[after, words] = extension.ok_or(SegmentError::HeadersCut)?;
        // Counted in words of 8 octets, without the first one (RFC 8200 s.4.3).
        offset += (usize::from(words) + 1) * 8;
        next = after;
    }
    Err(SegmentError::HeadersTooLong)
}

/// Where the transport header ends, counted from the frame's start.
fn transport_end(head: &[u8], frame_len: usize, layers: &Layers) -> Result<usize, SegmentError> {
    let segment = head.get(layers.transport..);
    let segment = segment.ok_or(SegmentError::HeadersCut)?;
    let end = if layers.protocol == PROTOCOL_TCP {
        let offset = *segment.get(TCP_OFFSET).ok_or(SegmentError::HeadersCut)?;
        let len = usize::from(offset >> 4) * 4;
        if len < TCP_LEN {
            return Err(SegmentError::HeadersCut);
        }
        layers.transport + len
    } else {
        let len = word(segment, UDP_LENGTH).ok_or(SegmentError::HeadersCut)?;
        if layers.transport + usize::from(len) != frame_len {
            return Err(SegmentError::Length);
        }
        layers.transport + UDP_LEN
    };
    if end > frame_len {
        return Err(SegmentError::HeadersCut);
    }
    Ok(end)
}
