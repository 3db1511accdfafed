//! Answers on behalf of hosts elsewhere: ARP replies and neighbour advertisements, written over
//! the frame that asked.
//!
//! The answer goes to whoever sent the frame, comes from the MAC address that was asked for, and
//! keeps the frame's VLAN tags. Not in here: whether to answer, and what.

use crate::MacAddr;
use crate::arp::{Arp, Operation};
use crate::ethernet::Ethernet;
use crate::ip::{Ipv6, PROTOCOL_ICMPV6};
use crate::nd::{self, Advertisement, Solicitation};

/// Where a frame has its source address.
const SOURCE: usize = 6;
/// Where the addresses of a frame end.
const ADDRESSES_END: usize = 12;

/// Turns the frame of a request into the reply that the target has `mac`. The frame keeps its
/// length.
///
/// A probe is answered as Linux does, to 0.0.0.0 (RFC 5227 s.2.1.1). False, and nothing written,
/// when the frame is not as long as the request that was read from it.
pub fn arp(frame: &mut [u8], ethernet: &Ethernet, request: &Arp, mac: MacAddr) -> bool {
    let reply = Arp {
        operation: Operation::Reply,
        sender_mac: mac,
        sender_ip: request.target_ip,
        target_mac: request.sender_mac,
        target_ip: request.sender_ip,
    };
    write(frame, ethernet, ethernet.source, mac, &[&reply.emit()]).is_some()
}

/// Writes the advertisement that the target has `mac` at the start of the frame that solicited it,
/// and gives the frame's new length: 86 octets, and 4 for each tag.
///
/// It is solicited and goes to who asked; after duplicate address detection it is not, and goes to
/// all nodes (RFC 4861 s.7.2.4). It never overrides, as the answer of whoever speaks for others
/// must not replace the owner's own (RFC 4861 s.7.2.8). `None`, and nothing written, when `frame`
/// is shorter than that.
#[must_use = "the frame's length changes"]
pub fn solicitation(
    frame: &mut [u8],
    ethernet: &Ethernet,
    request: &Solicitation,
    mac: MacAddr,
    router: bool,
) -> Option<usize> {
    let dad = request.is_dad();
    let (destination, destination_mac) = if dad {
        (nd::ALL_NODES, nd::group_mac(nd::ALL_NODES))
    } else {
        (request.source, ethernet.source)
    };
    let (message, len) = Advertisement {
        source: request.target,
        destination,
        target: request.target,
        link_layer: Some(mac),
        router,
        solicited: !dad,
        overrides: false,
    }
    .emit();
    let ip = Ipv6 {
        source: request.target,
        destination,
        next_header: PROTOCOL_ICMPV6,
        hop_limit: nd::HOP_LIMIT,
        payload_len: len,
    };
    let pieces = [&ip.emit()[..], &message[..len]];
    write(frame, ethernet, destination_mac, mac, &pieces)
}

/// Writes addresses and payload around the tags that a frame has, and gives where it ends.
fn write(
    frame: &mut [u8],
    ethernet: &Ethernet,
    destination: MacAddr,
    source: MacAddr,
    payload: &[&[u8]],
) -> Option<usize> {
    let len: usize = payload.iter().map(|piece| piece.len()).sum();
    let mut end = ethernet.payload_offset + len;
    let room = frame.get_mut(..end)?;
    for piece in payload.iter().rev() {
        end -= piece.len();
        room[end..end + piece.len()].copy_from_slice(piece);
    }
    room[..SOURCE].copy_from_slice(&destination.0);
    room[SOURCE..ADDRESSES_END].copy_from_slice(&source.0);
    Some(room.len())
}

#[cfg(test)]
mod tests;
