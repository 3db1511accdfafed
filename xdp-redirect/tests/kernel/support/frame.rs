//! Frames to feed to the programs, built field by field.

use std::net::IpAddr;

/// EtherTypes.
pub(crate) const CUSTOMER_TAG: u16 = 0x8100;
pub(crate) const SERVICE_TAG: u16 = 0x88a8;
const IPV4: u16 = 0x0800;
const IPV6: u16 = 0x86dd;

/// IP protocols.
pub(crate) const UDP: u8 = 17;

/// A UDP datagram in an Ethernet frame. Fields that are `None` are what they should be.
#[derive(Clone)]
pub(crate) struct Frame {
    pub(crate) tags: Vec<u16>,
    pub(crate) ethertype: Option<u16>,
    pub(crate) version: Option<u8>,
    pub(crate) header_words: Option<u8>,
    pub(crate) options: Vec<u8>,
    pub(crate) fragment: u16,
    pub(crate) protocol: u8,
    pub(crate) ip_len: Option<u16>,
    pub(crate) source: Option<IpAddr>,
    pub(crate) destination: IpAddr,
    pub(crate) extension: Vec<u8>,
    pub(crate) source_port: u16,
    pub(crate) port: u16,
    pub(crate) udp_len: Option<u16>,
    pub(crate) payload: Vec<u8>,
    pub(crate) padding: Vec<u8>,
}

impl Frame {
    /// A data message of the fabric: session 0x01020304 and 60 more octets.
    pub(crate) fn to(destination: IpAddr, port: u16) -> Self {
        Self {
            tags: Vec::new(),
            ethertype: None,
            version: None,
            header_words: None,
            options: Vec::new(),
            fragment: 0x4000,
            protocol: UDP,
            ip_len: None,
            source: None,
            destination,
            extension: Vec::new(),
            source_port: 51_000,
            port,
            udp_len: None,
            payload: (1..=64).collect(),
            padding: Vec::new(),
        }
    }

    /// Octets up to and including the session's number: the least that can be steered.
    pub(crate) fn decisive_len(&self) -> usize {
        let ip = if self.destination.is_ipv4() {
            20 + self.options.len()
        } else {
            40
        };
        14 + 4 * self.tags.len() + ip + self.extension.len() + 8 + 4
    }

    pub(crate) fn octets(&self) -> Vec<u8> {
        let mut frame = vec![2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2];
        for (nth, tag) in self.tags.iter().enumerate() {
            frame.extend(tag.to_be_bytes());
            frame.extend([0x20, 100 + nth as u8]);
        }
        let natural = if self.destination.is_ipv4() {
            IPV4
        } else {
            IPV6
        };
        frame.extend(self.ethertype.unwrap_or(natural).to_be_bytes());
        match self.destination {
            IpAddr::V4(to) => frame.extend(self.ipv4_header(to.octets())),
            IpAddr::V6(to) => frame.extend(self.ipv6_header(to.octets())),
        }
        frame.extend(&self.extension);
        frame.extend(self.source_port.to_be_bytes());
        frame.extend(self.port.to_be_bytes());
        frame.extend(self.udp_len.unwrap_or(self.natural_udp_len()).to_be_bytes());
        frame.extend([0, 0]);
        frame.extend(&self.payload);
        frame.extend(&self.padding);
        frame
    }

    fn natural_udp_len(&self) -> u16 {
        8 + self.payload.len() as u16
    }

    fn ipv4_header(&self, destination: [u8; 4]) -> Vec<u8> {
        let header_len = 20 + self.options.len();
        let words = self.header_words.unwrap_or((header_len / 4) as u8);
        let natural = (header_len + self.extension.len()) as u16 + self.natural_udp_len();
        let mut header = vec![self.version.unwrap_or(4) << 4 | words, 0];
        header.extend(self.ip_len.unwrap_or(natural).to_be_bytes());
        header.extend([0x12, 0x34]);
        header.extend(self.fragment.to_be_bytes());
        header.extend([64, self.protocol, 0, 0]);
        header.extend(match self.source {
            Some(IpAddr::V4(source)) => source.octets(),
            _ => [192, 0, 2, 200],
        });
        header.extend(destination);
        header.extend(&self.options);
        let checksum = ones_complement_sum(&header);
        header[10..12].copy_from_slice(&checksum.to_be_bytes());
        header
    }

    fn ipv6_header(&self, destination: [u8; 16]) -> Vec<u8> {
        let natural = self.extension.len() as u16 + self.natural_udp_len();
        let mut header = vec![self.version.unwrap_or(6) << 4, 0, 0, 0];
        header.extend(self.ip_len.unwrap_or(natural).to_be_bytes());
        header.extend([self.protocol, 64]);
        header.extend(match self.source {
            Some(IpAddr::V6(source)) => source.octets(),
            _ => [0x20, 1, 0x0d, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xc8],
        });
        header.extend(destination);
        header
    }
}

/// The Internet checksum (RFC 1071) of an even number of octets.
fn ones_complement_sum(octets: &[u8]) -> u16 {
    let words = octets
        .chunks_exact(2)
        .map(|pair| u32::from(u16::from_be_bytes([pair[0], pair[1]])));
    let sum = words.fold(0, |sum, word| (sum + word) % 0xffff);
    !(sum as u16)
}
