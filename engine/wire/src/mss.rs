//! The maximum segment size of TCP (RFC 9293 s.3.7.1), lowered so that the segments of a connection
//! fit through the fabric.
//!
//! ```text
//!  2    4    size                                   the option, in segments with SYN
//! ```

use crate::checksum;
use crate::ethernet::{ETHERTYPE_IPV4, ETHERTYPE_IPV6, Ethernet};
use crate::extension::{Part, upper_layer};
use crate::ip::{IPV4_PROTOCOL, Ipv4, Ipv6, PROTOCOL_TCP};
use crate::limits::{IPV4_LEN, IPV6_LEN};

/// Length of a TCP header without options (RFC 9293 s.3.1).
const TCP_LEN: usize = 20;
/// Where a TCP header has its length, in words of 4 octets, in the high half.
const TCP_OFFSET: usize = 12;
/// Where it has its flags.
const TCP_FLAGS: usize = 13;
/// Where it has its checksum.
const TCP_CHECKSUM: usize = 16;
/// The flag of a segment that opens a connection, or accepts it.
const SYN: u8 = 0x02;

/// Kinds of options (RFC 9293 s.3.2).
const END: u8 = 0;
const NO_OPERATION: u8 = 1;
const MSS: u8 = 2;
/// Length of the option with the segment size.
const MSS_LEN: usize = 4;

/// Lowers the segment size that a TCP segment with SYN allows to what fits into packets of `mtu`
/// octets, without options of IP or TCP (RFC 6691 s.2); says whether it did.
///
/// The checksum is brought up to date, and must be complete. Segments without the option stay as
/// they are, as do fragments.
#[inline]
pub fn clamp(frame: &mut [u8], ethernet: &Ethernet, mtu: usize) -> bool {
    let Some(packet) = frame.get_mut(ethernet.payload_offset..) else {
        return false;
    };
    match ethernet.ethertype {
        ETHERTYPE_IPV4 => clamp_ipv4(packet, mtu),
        ETHERTYPE_IPV6 => clamp_ipv6(packet, mtu),
        _ => None,
    }
    .is_some()
}

fn clamp_ipv4(packet: &mut [u8], mtu: usize) -> Option<()> {
    if *packet.get(IPV4_PROTOCOL)? != PROTOCOL_TCP {
        return None;
    }
    let ip = Ipv4::parse(packet).filter(|ip| !ip.fragment)?;
    let segment = packet.get_mut(ip.header_len..ip.total_len)?;
    clamp_segment(segment, mtu.checked_sub(IPV4_LEN + TCP_LEN)?)
}

fn clamp_ipv6(packet: &mut [u8], mtu: usize) -> Option<()> {
    let ip = Ipv6::parse(packet)?;
    let upper = upper_layer(packet, &ip)?;
    if upper.protocol != PROTOCOL_TCP || upper.part != Part::Whole {
        return None;
    }
    let offset = upper.offset;
    let segment = packet.get_mut(offset..IPV6_LEN + ip.payload_len)?;
    clamp_segment(segment, mtu.checked_sub(IPV6_LEN + TCP_LEN)?)
}

/// Lowers the size to `most`. `None`: nothing to lower.
fn clamp_segment(segment: &mut [u8], most: usize) -> Option<()> {
    let header: &[u8; TCP_LEN] = segment.first_chunk()?;
    if header[TCP_FLAGS] & SYN == 0 {
        return None;
    }
    let sum = u16::from_be_bytes([header[TCP_CHECKSUM], header[TCP_CHECKSUM + 1]]);
    let header_len = usize::from(header[TCP_OFFSET] >> 4) * 4;
    let at = TCP_LEN + mss_offset(segment.get(TCP_LEN..header_len)?)?;
    let field: &mut [u8; 2] = segment.get_mut(at..)?.first_chunk_mut()?;
    let size = u16::from_be_bytes(*field);
    let most = u16::try_from(most).ok().filter(|most| *most < size)?;
    *field = most.to_be_bytes();
    // At an odd offset its octets are in the other halves of two words, whose sum is the same.
    let sum = if at.is_multiple_of(2) {
        checksum::replace(sum, size, most)
    } else {
        checksum::replace(sum, size.swap_bytes(), most.swap_bytes())
    };
    let field = segment.get_mut(TCP_CHECKSUM..TCP_CHECKSUM + 2)?;
    field.copy_from_slice(&sum.to_be_bytes());
    Some(())
}

/// Where in these options the segment size is. There are 40 octets of options at most, and each
/// takes one at least.
fn mss_offset(options: &[u8]) -> Option<usize> {
    let mut at = 0;
    loop {
        let rest = options.get(at..)?;
        at += match *rest.first()? {
            END => return None,
            NO_OPERATION => 1,
            kind => {
                let len = usize::from(*rest.get(1)?);
                if kind == MSS {
                    return (len == MSS_LEN && rest.len() >= MSS_LEN).then_some(at + 2);
                }
                if len < 2 {
                    return None;
                }
                len
            }
        };
    }
}

#[cfg(test)]
mod tests;
