//! Frames that the engine asks hosts with: whether a host is still there, and which groups are
//! listened to.
//!
//! Every function writes a whole frame, tagged where `vlan` is not 0, padded to Ethernet's least
//! length, and gives its length: at most [`LEN_MAX`]. It gives 0 when `out` is shorter.

use core::net::{Ipv4Addr, Ipv6Addr};

use crate::MacAddr;
use crate::arp::{Arp, Operation};
use crate::checksum;
use crate::ethernet::{ETHERTYPE_ARP, ETHERTYPE_IPV4, ETHERTYPE_IPV6};
use crate::extension::HOP_BY_HOP;
use crate::icmpv6::{self, LISTENER_QUERY};
use crate::ip::{IPV4_CHECKSUM, Ipv4, Ipv6, PROTOCOL_ICMPV6};
use crate::limits::{ETHERNET_LEN, IPV4_LEN, IPV6_LEN, VLAN_TAG_LEN};
use crate::membership::{self, IGMP_QUERY, PROTOCOL_IGMP};
use crate::nd::{self, Solicitation};
use crate::write::Writer;

/// The longest frame that is written here: an MLD query with a tag.
pub const LEN_MAX: usize =
    ETHERNET_LEN + VLAN_TAG_LEN + IPV6_LEN + MLD_ROUTER_ALERT.len() + MLD_QUERY_LEN;

/// Time that listeners have to answer a general query: 10 s (RFC 3376 s.8.3, RFC 3810 s.9.3).
const ANSWER_GENERAL_MS: u16 = 10_000;
/// Time that they have to answer a query for one group: 1 s (RFC 3376 s.8.8, RFC 3810 s.9.8).
const ANSWER_SPECIFIC_MS: u16 = 1_000;
/// Robustness variable: reports are repeated once (RFC 3376 s.8.1).
const ROBUSTNESS: u8 = 2;
/// Seconds from one general query to the next (RFC 3376 s.8.2).
const QUERY_INTERVAL: u8 = 125;

/// DSCP CS6, "internetwork control": queries go before data (RFC 3376 s.4).
const DS_FIELD: u8 = 0xc0;
/// Option for IPv4: routers look into the packet (RFC 2113 s.2.1). IGMP has it (RFC 3376 s.4).
const IGMP_ROUTER_ALERT: [u8; 4] = [0x94, 4, 0, 0];
/// Extension header for IPv6 that says the same of MLD (RFC 2711 s.2.1, RFC 3810 s.5), with 2
/// octets of padding.
const MLD_ROUTER_ALERT: [u8; 8] = [PROTOCOL_ICMPV6, 0, 5, 2, 0, 0, 1, 0];

/// Length of an IGMPv3 query without sources (RFC 3376 s.4.1).
const IGMP_QUERY_LEN: usize = 12;
/// Length of an MLDv2 query without sources (RFC 3810 s.5.1).
const MLD_QUERY_LEN: usize = 28;

/// All hosts of the link (RFC 1112 s.4).
const ALL_HOSTS: Ipv4Addr = Ipv4Addr::new(224, 0, 0, 1);

/// Asks the host at `destination` whether it still has `target`. The engine has no IP address, so
/// it asks as in a probe, which hosts answer and do not remember (RFC 5227 s.2.1.1).
#[must_use]
pub fn arp_request(
    out: &mut [u8],
    vlan: u16,
    source: MacAddr,
    destination: MacAddr,
    target: Ipv4Addr,
) -> usize {
    let request = Arp {
        operation: Operation::Request,
        sender_mac: source,
        sender_ip: Ipv4Addr::UNSPECIFIED,
        target_mac: MacAddr::ZERO,
        target_ip: target,
    };
    let mut frame = Writer::new(out);
    frame
        .ethernet(destination, source, vlan, ETHERTYPE_ARP)
        .and_then(|()| frame.put(&request.emit()))
        .and_then(|()| frame.finish())
        .unwrap_or(0)
}

/// Asks the host at `destination` whether it still has `target`, from the link-local address that
/// the MAC address `source` makes, to which hosts send their answer.
#[must_use]
pub fn solicitation(
    out: &mut [u8],
    vlan: u16,
    source: MacAddr,
    destination: MacAddr,
    target: Ipv6Addr,
) -> usize {
    let asker = Solicitation {
        source: nd::link_local(source),
        target,
        // Without it the host would have to ask for ours first.
        link_layer: Some(source),
    };
    let (message, len) = asker.emit(target);
    let ip = Ipv6 {
        source: asker.source,
        destination: target,
        next_header: PROTOCOL_ICMPV6,
        hop_limit: nd::HOP_LIMIT,
        payload_len: len,
    };
    let mut frame = Writer::new(out);
    frame
        .ethernet(destination, source, vlan, ETHERTYPE_IPV6)
        .and_then(|()| frame.put(&ip.emit()))
        .and_then(|()| frame.put(&message[..len]))
        .and_then(|()| frame.finish())
        .unwrap_or(0)
}

/// Asks all hosts which IPv4 groups they listen to, or whether they listen to `group`: an IGMPv3
/// query, which hosts of older versions answer too (RFC 3376 s.7.2.1), from 0.0.0.0, so that no
/// router takes this for one (RFC 4541 s.2.1.1).
#[must_use]
pub fn igmp_query(out: &mut [u8], vlan: u16, source: MacAddr, group: Option<Ipv4Addr>) -> usize {
    let destination = group.unwrap_or(ALL_HOSTS);
    let mut query = [0; IGMP_QUERY_LEN];
    query[0] = IGMP_QUERY;
    // In tenths of a second.
    query[1] = (answer_within_ms(group.is_some()) / 100) as u8;
    query[4..8].copy_from_slice(&group.unwrap_or(Ipv4Addr::UNSPECIFIED).octets());
    query[8] = ROBUSTNESS;
    query[9] = QUERY_INTERVAL;
    icmpv6::complete_over(0, &mut query);
    let destination_mac = membership::group_mac(destination);
    let mut frame = Writer::new(out);
    frame
        .ethernet(destination_mac, source, vlan, ETHERTYPE_IPV4)
        .and_then(|()| frame.put(&igmp_header(destination)))
        .and_then(|()| frame.put(&IGMP_ROUTER_ALERT))
        .and_then(|()| frame.put(&query))
        .and_then(|()| frame.finish())
        .unwrap_or(0)
}

/// Asks all hosts which IPv6 groups they listen to, or whether they listen to `group`: an MLDv2
/// query, which hosts of the older version answer too (RFC 3810 s.8.2.1), from the link-local
/// address that the MAC address `source` makes.
#[must_use]
pub fn mld_query(out: &mut [u8], vlan: u16, source: MacAddr, group: Option<Ipv6Addr>) -> usize {
    let ip = Ipv6 {
        source: nd::link_local(source),
        destination: group.unwrap_or(nd::ALL_NODES),
        next_header: HOP_BY_HOP,
        hop_limit: 1,
        payload_len: MLD_ROUTER_ALERT.len() + MLD_QUERY_LEN,
    };
    let mut query = [0; MLD_QUERY_LEN];
    query[0] = LISTENER_QUERY;
    query[4..6].copy_from_slice(&answer_within_ms(group.is_some()).to_be_bytes());
    query[8..24].copy_from_slice(&group.unwrap_or(Ipv6Addr::UNSPECIFIED).octets());
    query[24] = ROBUSTNESS;
    query[25] = QUERY_INTERVAL;
    icmpv6::complete(ip.source, ip.destination, &mut query);
    let destination_mac = nd::group_mac(ip.destination);
    let mut frame = Writer::new(out);
    frame
        .ethernet(destination_mac, source, vlan, ETHERTYPE_IPV6)
        .and_then(|()| frame.put(&ip.emit()))
        .and_then(|()| frame.put(&MLD_ROUTER_ALERT))
        .and_then(|()| frame.put(&query))
        .and_then(|()| frame.finish())
        .unwrap_or(0)
}

/// Within how many milliseconds listeners answer. Both protocols write such numbers as they are.
const fn answer_within_ms(one_group: bool) -> u16 {
    if one_group {
        ANSWER_SPECIFIC_MS
    } else {
        ANSWER_GENERAL_MS
    }
}

/// The IPv4 header of an IGMP query, which its option follows.
fn igmp_header(destination: Ipv4Addr) -> [u8; IPV4_LEN] {
    let mut header = Ipv4 {
        source: Ipv4Addr::UNSPECIFIED,
        destination,
        protocol: PROTOCOL_IGMP,
        ttl: 1,
        dont_fragment: true,
        fragment: false,
        header_len: IPV4_LEN + IGMP_ROUTER_ALERT.len(),
        total_len: IPV4_LEN + IGMP_ROUTER_ALERT.len() + IGMP_QUERY_LEN,
    }
    .emit();
    header[0] = 0x46;
    header[1] = DS_FIELD;
    header[IPV4_CHECKSUM..IPV4_CHECKSUM + 2].fill(0);
    let sum = checksum::add(checksum::add(0, &header), &IGMP_ROUTER_ALERT);
    header[IPV4_CHECKSUM..IPV4_CHECKSUM + 2].copy_from_slice(&(!checksum::fold(sum)).to_be_bytes());
    header
}

#[cfg(test)]
mod tests;
