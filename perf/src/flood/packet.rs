//! UDP over IPv4 with any source address: headers written here, sent by a raw socket.
//!
//! A raw socket takes the IP header as it is given, but for its checksum, which the kernel fills
//! in (raw(7)). So every packet has a source of its own, and nothing about the sending host needs
//! to allow that.

use std::io::IoSlice;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::os::fd::OwnedFd;
use std::str::FromStr;

use arrayvec::ArrayVec;
use omni_wire::limits::{IPV4_LEN, UDP_LEN};
use rustix::net::{
    AddressFamily, MMsgHdr, SendAncillaryBuffer, SendFlags, SocketFlags, SocketType, connect,
    ipproto, sendmmsg, socket_with,
};

use super::messages::Dice;
use super::pace::BURST_MAX;

/// Octets before the message.
pub(crate) const HEADERS_LEN: usize = IPV4_LEN + UDP_LEN;
/// Where the IPv4 source address is (RFC 791 s.3.1).
const SOURCE_ADDRESS: usize = 12;
/// Where the UDP source port is.
const SOURCE_PORT: usize = IPV4_LEN;
/// The least source port: those below are servers'.
const FIRST_PORT: u16 = 1024;

/// Where packets claim to come from.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Sources {
    network: Ipv4Addr,
    /// The bits of an address that are the host's.
    hosts: u32,
    /// The one port, or all of them.
    port: Option<u16>,
}

impl FromStr for Sources {
    type Err = String;

    /// `ADDRESS/LENGTH`, a network to choose from; or `ADDRESS:PORT`, always the same.
    fn from_str(text: &str) -> Result<Self, String> {
        if let Ok(one) = text.parse::<SocketAddrV4>() {
            return Ok(Self {
                network: *one.ip(),
                hosts: 0,
                port: Some(one.port()),
            });
        }
        let wanted = || "expected is IPv4/LENGTH or IPv4:PORT".to_owned();
        let (network, length) = text.split_once('/').ok_or_else(wanted)?;
        let network: Ipv4Addr = network.parse().map_err(|_| wanted())?;
        let length: u32 = length.parse().map_err(|_| wanted())?;
        let hosts = u32::MAX.checked_shr(length).unwrap_or(0);
        if length > 32 || network.to_bits() & hosts != 0 {
            return Err(wanted());
        }
        Ok(Self {
            network,
            hosts,
            port: None,
        })
    }
}

impl Sources {
    fn choose(&self, dice: &mut Dice) -> SocketAddrV4 {
        let roll = dice.roll();
        let address = self.network.to_bits() | ((roll >> 32) as u32 & self.hosts);
        let port = self.port.unwrap_or((roll as u16).max(FIRST_PORT));
        SocketAddrV4::new(address.into(), port)
    }
}

/// Puts the headers before a message. Its source is to be set for each sending.
pub(crate) fn wrap(target: SocketAddrV4, message: &[u8]) -> Vec<u8> {
    // Messages are read from a file at the longest; a UDP datagram of IPv4 holds fewer octets.
    let total = u16::try_from(HEADERS_LEN + message.len()).unwrap_or(u16::MAX);
    let udp_len = total - IPV4_LEN as u16;
    let mut packet = Vec::with_capacity(HEADERS_LEN + message.len());
    // Version 4, five words of header; an identification that the kernel need not choose; DF;
    // 64 hops, UDP.
    packet.extend([0x45, 0]);
    packet.extend(total.to_be_bytes());
    packet.extend([0, 1, 0x40, 0, 64, 17, 0, 0]);
    packet.extend([0; 4]);
    packet.extend(target.ip().octets());
    packet.extend([0; 2]);
    packet.extend(target.port().to_be_bytes());
    packet.extend(udp_len.to_be_bytes());
    // No UDP checksum (RFC 768): with a network card, verifying it costs the receiver nothing.
    packet.extend([0; 2]);
    packet.extend(message);
    packet
}

/// Sets where a packet claims to come from.
pub(crate) fn set_source(packet: &mut [u8], sources: &Sources, dice: &mut Dice) {
    let source = sources.choose(dice);
    packet[SOURCE_ADDRESS..SOURCE_ADDRESS + 4].copy_from_slice(&source.ip().octets());
    packet[SOURCE_PORT..SOURCE_PORT + 2].copy_from_slice(&source.port().to_be_bytes());
}

/// A raw socket towards one host. Needs CAP_NET_RAW.
#[derive(Debug)]
pub(crate) struct RawSocket(OwnedFd);

impl RawSocket {
    /// Opens it.
    ///
    /// # Errors
    /// The kernel's.
    pub(crate) fn open(target: SocketAddrV4) -> rustix::io::Result<Self> {
        let (family, flags) = (AddressFamily::INET, SocketFlags::CLOEXEC);
        let socket = socket_with(family, SocketType::RAW, flags, Some(ipproto::RAW))?;
        connect(&socket, &target)?;
        Ok(Self(socket))
    }

    /// Sends up to [`BURST_MAX`] packets by one system call, and says how many left.
    ///
    /// # Errors
    /// The kernel's, when not even the first could leave.
    pub(crate) fn send(&self, packets: &[Vec<u8>]) -> rustix::io::Result<usize> {
        let packets = packets.iter().take(BURST_MAX);
        let slices: ArrayVec<[IoSlice<'_>; 1], BURST_MAX> = packets
            .clone()
            .map(|packet| [IoSlice::new(packet)])
            .collect();
        let controls = packets.map(|_| SendAncillaryBuffer::default());
        let mut controls: ArrayVec<SendAncillaryBuffer<'_, '_, '_>, BURST_MAX> = controls.collect();
        let mut headers: ArrayVec<MMsgHdr<'_>, BURST_MAX> = slices
            .iter()
            .zip(controls.iter_mut())
            .map(|(slice, control)| MMsgHdr::new(slice, control))
            .collect();
        sendmmsg(&self.0, &mut headers, SendFlags::empty())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use omni_wire::checksum;
    use omni_wire::outer::Outer;

    #[test]
    fn sources_are_a_network_or_one_endpoint() {
        let network: Sources = "198.18.0.0/15".parse().expect("a network");
        let mut dice = Dice::new();
        for _ in 0..1000 {
            let source = network.choose(&mut dice);
            assert_eq!(source.ip().to_bits() >> 17, 0xc612_0000 >> 17);
            assert!(source.port() >= FIRST_PORT);
        }
        let one: Sources = "192.0.2.1:7".parse().expect("an endpoint");
        assert_eq!(one.choose(&mut dice).to_string(), "192.0.2.1:7");
        for bad in ["", "192.0.2.1", "192.0.2.1/24", "192.0.2.0/33", "::1/64"] {
            assert!(bad.parse::<Sources>().is_err(), "{bad:?}");
        }
    }

    #[test]
    fn a_packet_is_what_a_node_takes_for_udp_from_there() {
        let target = SocketAddrV4::new([192, 0, 2, 1].into(), 51820);
        let mut packet = wrap(target, b"0123456789");
        let source = "192.0.2.9:4321".parse().expect("an endpoint");
        set_source(&mut packet, &source, &mut Dice::new());
        // The kernel does this part.
        let sum = !checksum::fold(checksum::add(0, &packet[..IPV4_LEN]));
        packet[10..12].copy_from_slice(&sum.to_be_bytes());
        let frame = [&[0; 12][..], &[8, 0], &packet].concat();
        let outer = Outer::parse(&frame).expect("UDP");
        assert_eq!(outer.source.to_string(), "192.0.2.9:4321");
        assert_eq!(&frame[outer.payload..outer.end], b"0123456789");
    }
}
