//! Frames by description, with nothing of the crate's own in their making.

use omni_offload::{Gso, GsoKind, PartialChecksum, VnetHeader};

use crate::reference::{complement, pseudo_header, sum};

pub(crate) const FIN: u8 = 0x01;
pub(crate) const SYN: u8 = 0x02;
pub(crate) const RST: u8 = 0x04;
pub(crate) const PSH: u8 = 0x08;
pub(crate) const ACK: u8 = 0x10;
pub(crate) const URG: u8 = 0x20;
pub(crate) const ECE: u8 = 0x40;
pub(crate) const CWR: u8 = 0x80;

/// A TCP segment or UDP datagram in a frame.
#[derive(Clone, Debug)]
pub(crate) struct Frame {
    pub(crate) macs: [u8; 12],
    /// Raw, 4 octets each.
    pub(crate) tags: Vec<u8>,
    pub(crate) v6: bool,
    pub(crate) ds_field: u8,
    pub(crate) ttl: u8,
    pub(crate) id: u16,
    pub(crate) dont_fragment: bool,
    /// IPv6's flow label.
    pub(crate) label: u16,
    pub(crate) ip_options: Vec<u8>,
    /// IPv6: numbers and octets of extension headers, whose own next header is filled in.
    pub(crate) extensions: Vec<(u8, Vec<u8>)>,
    /// The last octets of the addresses.
    pub(crate) hosts: [u8; 2],
    pub(crate) ports: [u16; 2],
    pub(crate) udp: bool,
    pub(crate) sequence: u32,
    pub(crate) acknowledgment: u32,
    pub(crate) flags: u8,
    pub(crate) window: u16,
    pub(crate) tcp_options: Vec<u8>,
    pub(crate) payload: Vec<u8>,
}

/// A segment that nothing is special about.
pub(crate) fn tcp(payload: &[u8]) -> Frame {
    Frame {
        macs: [2, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, 1],
        tags: Vec::new(),
        v6: false,
        ds_field: 0,
        ttl: 64,
        id: 0xfffe,
        dont_fragment: true,
        label: 0,
        ip_options: Vec::new(),
        extensions: Vec::new(),
        hosts: [1, 2],
        ports: [40_000, 443],
        udp: false,
        sequence: 0xffff_fff0,
        acknowledgment: 0x0102_0304,
        flags: ACK,
        window: 0x1234,
        tcp_options: Vec::new(),
        payload: payload.to_vec(),
    }
}

/// A datagram that nothing is special about.
pub(crate) fn udp(payload: &[u8]) -> Frame {
    Frame {
        udp: true,
        ..tcp(payload)
    }
}

impl Frame {
    /// The same over IPv6.
    pub(crate) fn over_v6(self) -> Self {
        Self { v6: true, ..self }
    }

    /// The frame with every checksum complete.
    pub(crate) fn octets(&self) -> Vec<u8> {
        let mut octets = self.partial();
        let (start, field) = (self.transport(), self.transport() + self.checksum_offset());
        let covered = sum(&octets[start..]);
        let value = match complement(covered) {
            0 if self.udp => 0xffff,
            value => value,
        };
        octets[field..field + 2].copy_from_slice(&value.to_be_bytes());
        octets
    }

    /// The frame with the pseudo-header's sum in place of the transport's checksum.
    pub(crate) fn partial(&self) -> Vec<u8> {
        let mut octets = self.network();
        let segment = self.segment();
        octets.extend(&segment);
        let (ip, start) = (14 + self.tags.len(), self.transport());
        let field = start + self.checksum_offset();
        let pseudo = pseudo_header(&octets[ip..], if self.udp { 17 } else { 6 }, segment.len());
        let value = !complement(pseudo);
        octets[field..field + 2].copy_from_slice(&value.to_be_bytes());
        octets
    }

    /// What a tap says of the frame as a super-frame in segments of `size` octets.
    pub(crate) fn vnet(&self, size: usize) -> VnetHeader {
        let kind = match (self.udp, self.v6) {
            (true, _) => GsoKind::Udp,
            (false, false) => GsoKind::TcpV4,
            (false, true) => GsoKind::TcpV6,
        };
        VnetHeader {
            checksum: Some(self.partial_checksum()),
            gso: Some(Gso {
                kind,
                size: size as u16,
                ecn: self.flags & CWR != 0 && !self.udp,
            }),
            header_len: 0,
        }
    }

    pub(crate) fn partial_checksum(&self) -> PartialChecksum {
        PartialChecksum {
            start: self.transport() as u16,
            offset: self.checksum_offset() as u16,
        }
    }

    /// Where the transport header begins.
    pub(crate) fn transport(&self) -> usize {
        let extensions: usize = self.extensions.iter().map(|(_, body)| body.len()).sum();
        let ip = if self.v6 { 40 } else { 20 };
        14 + self.tags.len() + ip + self.ip_options.len() + extensions
    }

    /// Octets of all headers.
    pub(crate) fn header_len(&self) -> usize {
        let header = if self.udp {
            8
        } else {
            20 + self.tcp_options.len()
        };
        self.transport() + header
    }

    fn checksum_offset(&self) -> usize {
        if self.udp { 6 } else { 16 }
    }

    /// Ethernet and IP headers.
    fn network(&self) -> Vec<u8> {
        let mut octets = self.macs.to_vec();
        octets.extend(&self.tags);
        let ethertype: u16 = if self.v6 { 0x86dd } else { 0x0800 };
        octets.extend(ethertype.to_be_bytes());
        let protocol = if self.udp { 17 } else { 6 };
        let behind = self.header_len() - self.transport() + self.payload.len();
        if self.v6 {
            let len = self.transport() - 54 - self.tags.len() + behind;
            octets.extend([0x60 | self.ds_field >> 4, self.ds_field << 4]);
            octets.extend(self.label.to_be_bytes());
            octets.extend((len as u16).to_be_bytes());
            let mut numbers = self.extensions.iter().map(|(number, _)| *number);
            octets.extend([numbers.next().unwrap_or(protocol), self.ttl]);
            for host in self.hosts {
                octets.extend([0xfd, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, host]);
            }
            for (_, body) in &self.extensions {
                octets.push(numbers.next().unwrap_or(protocol));
                octets.extend(&body[1..]);
            }
        } else {
            let header_len = 20 + self.ip_options.len();
            let mut header = vec![0x40 | (header_len / 4) as u8, self.ds_field];
            header.extend(((header_len + behind) as u16).to_be_bytes());
            header.extend(self.id.to_be_bytes());
            header.extend([if self.dont_fragment { 0x40 } else { 0 }, 0]);
            header.extend([self.ttl, protocol, 0, 0]);
            for host in self.hosts {
                header.extend([10, 0, 0, host]);
            }
            header.extend(&self.ip_options);
            let value = complement(sum(&header));
            header[10..12].copy_from_slice(&value.to_be_bytes());
            octets.extend(header);
        }
        octets
    }

    /// Transport header and payload, with a checksum of 0.
    fn segment(&self) -> Vec<u8> {
        let mut segment = Vec::new();
        for port in self.ports {
            segment.extend(port.to_be_bytes());
        }
        if self.udp {
            segment.extend((8 + self.payload.len() as u16).to_be_bytes());
            segment.extend([0, 0]);
        } else {
            segment.extend(self.sequence.to_be_bytes());
            segment.extend(self.acknowledgment.to_be_bytes());
            segment.push(((20 + self.tcp_options.len()) / 4 * 16) as u8);
            segment.push(self.flags);
            segment.extend(self.window.to_be_bytes());
            segment.extend([0, 0, 0, 0]);
            segment.extend(&self.tcp_options);
        }
        segment.extend(&self.payload);
        segment
    }
}

/// Raw tags of these VLANs, a service tag before a customer tag.
pub(crate) fn tags(vlans: &[u16]) -> Vec<u8> {
    let mut octets = Vec::new();
    for (at, vlan) in vlans.iter().enumerate() {
        let protocol: u16 = if at + 1 < vlans.len() { 0x88a8 } else { 0x8100 };
        octets.extend(protocol.to_be_bytes());
        octets.extend((0x6000 | vlan).to_be_bytes());
    }
    octets
}

/// The headers and payloads of a stream of segments with these lengths, one after the other.
pub(crate) fn stream(first: &Frame, lengths: &[usize]) -> Vec<Frame> {
    let mut frames: Vec<Frame> = Vec::new();
    for (at, len) in lengths.iter().enumerate() {
        let before: usize = lengths[..at].iter().sum();
        frames.push(Frame {
            sequence: first.sequence.wrapping_add(before as u32),
            id: first.id.wrapping_add(at as u16),
            payload: (0..*len).map(|octet| (octet * 7 + at) as u8).collect(),
            ..first.clone()
        });
    }
    frames
}
