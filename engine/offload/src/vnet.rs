//! The header before each frame of a tap with `IFF_VNET_HDR`: `struct virtio_net_hdr` of
//! `linux/virtio_net.h`, VIRTIO 1.2 s.5.1.6.
//!
//! ```text
//!  0       1          2         4          6            8             10
//!  | flags | gso_type | hdr_len | gso_size | csum_start | csum_offset | num_buffers |
//! ```
//!
//! Numbers are little-endian, as after `TUNSETVNETLE`, which little-endian machines do anyhow.
//! `hdr_len` is the kernel's hint how much of a frame is not payload, and wrong as often as not: it
//! is written and never read. So is `num_buffers`, which a tap has no use for and leaves unset.

use omni_wire::checksum;
use thiserror::Error;

/// Octets of the header as `TUNSETVNETHDRSZ` has it by default.
pub const VNET_LEN: usize = 10;
/// Octets of the header with `num_buffers` (`virtio_net_hdr_mrg_rxbuf`), which VIRTIO 1 devices
/// always have.
pub const VNET_LEN_MERGEABLE: usize = 12;

/// `VIRTIO_NET_HDR_F_NEEDS_CSUM`: the checksum is left to do.
const NEEDS_CSUM: u8 = 1;
/// `VIRTIO_NET_HDR_F_DATA_VALID`: the checksum was verified. Nothing follows from it here.
const DATA_VALID: u8 = 2;

/// `VIRTIO_NET_HDR_GSO_*`.
const GSO_NONE: u8 = 0;
const GSO_TCPV4: u8 = 1;
const GSO_TCPV6: u8 = 4;
const GSO_UDP_L4: u8 = 5;
/// `VIRTIO_NET_HDR_GSO_ECN`, beside one of the TCP types: the first segment has CWR.
const GSO_ECN: u8 = 0x80;

/// A checksum that is left to do: the field has the pseudo-header's sum, not inverted.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct PartialChecksum {
    /// Where it begins to cover the frame: the transport header. Octets from the frame's start.
    pub start: u16,
    /// Where its field is, in octets from `start`.
    pub offset: u16,
}

/// What a super-frame is made of.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum GsoKind {
    /// TCP over IPv4.
    TcpV4,
    /// TCP over IPv6.
    TcpV6,
    /// UDP over either: datagrams of one length, the last of them maybe shorter.
    Udp,
}

/// How a super-frame is to be cut.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Gso {
    /// What it is made of.
    pub kind: GsoKind,
    /// Octets of payload of each segment, the last may have less. Not 0.
    pub size: u16,
    /// Whether the first segment has CWR. Of TCP only.
    pub ecn: bool,
}

/// What the header says.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub struct VnetHeader {
    /// The checksum that is left to do.
    pub checksum: Option<PartialChecksum>,
    /// How the frame is to be cut, if it is a super-frame. Needs a `checksum`.
    pub gso: Option<Gso>,
    /// Octets of all headers, as a hint for who reads it. 0 when parsed.
    pub header_len: u16,
}

/// Why a header is refused.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Error)]
#[non_exhaustive]
pub enum VnetError {
    /// It has less than [`VNET_LEN`] octets.
    #[error("the header is cut short")]
    Cut,
    /// It has flags that were never asked for, and would change what it means.
    #[error("unknown flags {0:#04x}")]
    Flags(u8),
    /// It has another kind of super-frame than those that were asked for.
    #[error("unknown gso_type {0:#04x}")]
    GsoType(u8),
    /// A super-frame has segments of no octets.
    #[error("gso_size is 0")]
    GsoSize,
    /// A super-frame's checksum is not left to do, so nobody can make those of its segments.
    #[error("a super-frame without a partial checksum")]
    GsoWithoutChecksum,
    /// The checksum's field is not inside the frame.
    #[error("checksum at {start} + {offset}, outside the frame")]
    ChecksumOutside {
        /// `csum_start`.
        start: u16,
        /// `csum_offset`.
        offset: u16,
    },
}

impl VnetHeader {
    /// Reads the header before a frame of `frame_len` octets. Octets after it are not looked at.
    ///
    /// # Errors
    /// [`VnetError`], for everything that cannot be followed.
    #[inline]
    pub fn parse(octets: &[u8], frame_len: usize) -> Result<Self, VnetError> {
        let &[flags, kind, _, _, g0, g1, s0, s1, o0, o1] =
            octets.first_chunk::<VNET_LEN>().ok_or(VnetError::Cut)?;
        if flags & !(NEEDS_CSUM | DATA_VALID) != 0 {
            return Err(VnetError::Flags(flags));
        }
        let checksum = (flags & NEEDS_CSUM != 0).then_some(PartialChecksum {
            start: u16::from_le_bytes([s0, s1]),
            offset: u16::from_le_bytes([o0, o1]),
        });
        if let Some(PartialChecksum { start, offset }) = checksum
            && usize::from(start) + usize::from(offset) + 2 > frame_len
        {
            return Err(VnetError::ChecksumOutside { start, offset });
        }
        let gso = gso(kind, u16::from_le_bytes([g0, g1]))?;
        if gso.is_some() && checksum.is_none() {
            return Err(VnetError::GsoWithoutChecksum);
        }
        Ok(Self {
            checksum,
            gso,
            header_len: 0,
        })
    }

    /// The header's octets, of which a tap takes the first [`VNET_LEN`] or all, as it was told.
    #[inline]
    #[must_use]
    pub fn emit(&self) -> [u8; VNET_LEN_MERGEABLE] {
        let mut out = [0; VNET_LEN_MERGEABLE];
        if let Some(PartialChecksum { start, offset }) = self.checksum {
            out[0] = NEEDS_CSUM;
            out[6..8].copy_from_slice(&start.to_le_bytes());
            out[8..10].copy_from_slice(&offset.to_le_bytes());
        }
        if let Some(Gso { kind, size, ecn }) = self.gso {
            out[1] = match kind {
                GsoKind::TcpV4 => GSO_TCPV4,
                GsoKind::TcpV6 => GSO_TCPV6,
                GsoKind::Udp => GSO_UDP_L4,
            } | if ecn { GSO_ECN } else { 0 };
            out[4..6].copy_from_slice(&size.to_le_bytes());
        }
        out[2..4].copy_from_slice(&self.header_len.to_le_bytes());
        out
    }
}

/// What `gso_type` and `gso_size` say.
#[inline]
fn gso(octet: u8, size: u16) -> Result<Option<Gso>, VnetError> {
    let ecn = octet & GSO_ECN != 0;
    let kind = match (octet & !GSO_ECN, ecn) {
        (GSO_NONE, false) => return Ok(None),
        (GSO_TCPV4, _) => GsoKind::TcpV4,
        (GSO_TCPV6, _) => GsoKind::TcpV6,
        (GSO_UDP_L4, false) => GsoKind::Udp,
        _ => return Err(VnetError::GsoType(octet)),
    };
    if size == 0 {
        return Err(VnetError::GsoSize);
    }
    Ok(Some(Gso { kind, size, ecn }))
}

/// Does the checksum of a frame that is no super-frame, in place: over all octets from its start
/// on, as the kernel does (`skb_checksum_help`).
///
/// A sum of 0 is written as 0xffff, which UDP asks for and TCP takes.
///
/// # Errors
/// [`VnetError::ChecksumOutside`] when the field is not inside the frame.
#[inline]
pub fn complete_checksum(partial: PartialChecksum, frame: &mut [u8]) -> Result<(), VnetError> {
    let PartialChecksum { start, offset } = partial;
    let outside = VnetError::ChecksumOutside { start, offset };
    let covered = frame.get_mut(usize::from(start)..).ok_or(outside)?;
    let sum = match !checksum::fold(checksum::add(0, covered)) {
        0 => 0xffff,
        sum => sum,
    };
    let offset = usize::from(offset);
    let field = covered.get_mut(offset..offset + 2).ok_or(outside)?;
    field.copy_from_slice(&sum.to_be_bytes());
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// NEEDS_CSUM, TCPv4 with ECN, segments of 1448 octets, checksum at 34 + 16.
    const TCP: [u8; VNET_LEN_MERGEABLE] = [1, 0x81, 66, 0, 0xa8, 5, 34, 0, 16, 0, 0, 0];

    fn with(changes: &[(usize, u8)]) -> [u8; VNET_LEN_MERGEABLE] {
        let mut octets = TCP;
        for (at, value) in changes {
            octets[*at] = *value;
        }
        octets
    }

    fn parsed(octets: &[u8]) -> Result<VnetHeader, VnetError> {
        VnetHeader::parse(octets, 65_000)
    }

    fn tcp() -> VnetHeader {
        VnetHeader {
            checksum: Some(PartialChecksum {
                start: 34,
                offset: 16,
            }),
            gso: Some(Gso {
                kind: GsoKind::TcpV4,
                size: 1448,
                ecn: true,
            }),
            header_len: 66,
        }
    }

    #[test]
    fn a_header_is_read_and_written_octet_by_octet() {
        let expected = VnetHeader {
            header_len: 0,
            ..tcp()
        };
        assert_eq!(parsed(&TCP), Ok(expected));
        assert_eq!(parsed(&TCP[..VNET_LEN]), Ok(expected));
        assert_eq!(tcp().emit(), TCP);
        assert_eq!(VnetHeader::default().emit(), [0; VNET_LEN_MERGEABLE]);
    }

    #[test]
    fn hdr_len_num_buffers_and_data_valid_are_never_looked_at() {
        let changes = [(0, 3), (2, 0xff), (3, 0xff), (10, 0xff), (11, 0xff)];
        assert_eq!(parsed(&with(&changes)), parsed(&TCP));
    }

    #[test]
    fn every_flag_and_type_is_known_or_refused() {
        for flags in 0..=u8::MAX {
            let expected = match flags {
                1 | 3 => parsed(&TCP),
                0 | 2 => Err(VnetError::GsoWithoutChecksum),
                _ => Err(VnetError::Flags(flags)),
            };
            assert_eq!(parsed(&with(&[(0, flags)])), expected);
        }
        for octet in 0..=u8::MAX {
            let kind = parsed(&with(&[(1, octet)])).map(|header| header.gso.map(|gso| gso.kind));
            let expected = match octet {
                0 => Ok(None),
                1 | 0x81 => Ok(Some(GsoKind::TcpV4)),
                4 | 0x84 => Ok(Some(GsoKind::TcpV6)),
                5 => Ok(Some(GsoKind::Udp)),
                _ => Err(VnetError::GsoType(octet)),
            };
            assert_eq!(kind, expected);
        }
    }

    #[test]
    fn a_size_of_zero_and_a_short_header_are_refused() {
        assert_eq!(parsed(&with(&[(4, 0), (5, 0)])), Err(VnetError::GsoSize));
        for len in 0..VNET_LEN {
            assert_eq!(parsed(&TCP[..len]), Err(VnetError::Cut));
        }
    }

    #[test]
    fn a_checksum_outside_the_frame_is_refused() {
        let outside = |start, offset| VnetError::ChecksumOutside { start, offset };
        assert!(VnetHeader::parse(&TCP, 52).is_ok());
        assert_eq!(VnetHeader::parse(&TCP, 51), Err(outside(34, 16)));
        let far = with(&[(6, 0xff), (7, 0xff), (8, 0xff), (9, 0xff)]);
        assert_eq!(parsed(&far), Err(outside(0xffff, 0xffff)));
        let (start, offset) = (34, 16);
        let partial = PartialChecksum { start, offset };
        for len in 0..52 {
            let done = complete_checksum(partial, &mut [0; 52][..len]);
            assert_eq!(done, Err(outside(34, 16)), "{len}");
        }
        assert_eq!(complete_checksum(partial, &mut [0; 52]), Ok(()));
    }

    #[test]
    fn a_completed_sum_of_zero_is_written_as_all_ones() {
        let partial = PartialChecksum {
            start: 2,
            offset: 0,
        };
        let mut frame = [7, 7, 0x12, 0x34, 0xed, 0xcb];
        assert_eq!(complete_checksum(partial, &mut frame), Ok(()));
        assert_eq!(frame, [7, 7, 0xff, 0xff, 0xed, 0xcb]);
        let mut frame = [7, 7, 0x12, 0x34, 1, 2, 3];
        assert_eq!(complete_checksum(partial, &mut frame), Ok(()));
        // 0x1234 + 0x0102 + 0x0300 = 0x1636, whose complement it is.
        assert_eq!(frame, [7, 7, 0xe9, 0xc9, 1, 2, 3]);
    }
}
