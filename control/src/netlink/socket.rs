//! One request, one socket: rtnetlink transactions.
//!
//! A request has a socket of its own, so that requests need no order among each other, one that
//! is given up leaves nothing behind, and no notification can crowd out an answer. The kernel
//! works on a request inside the `send` call; answers are there when it returns.

use std::time::Duration;

use netlink_packet_core::{
    NLM_F_ACK, NLM_F_DUMP, NLM_F_DUMP_INTR, NLM_F_REQUEST, NetlinkBuffer, NetlinkMessage,
};
use netlink_packet_route::RouteNetlinkMessage;
use rtnetlink::MulticastGroup;
use rtnetlink::proto::sys::AsyncSocketExt;
use rtnetlink::sys::protocols::NETLINK_ROUTE;
use rtnetlink::sys::{AsyncSocket, SocketAddr, TokioSocket};

use super::decode;
use super::error::NetlinkError;

/// How long an answer may take. The kernel answers at once; only its own lock (rtnl), held by
/// somebody who changes thousands of interfaces, delays it.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(5);

/// How often a list is asked for again when it changed while the kernel wrote it.
const DUMP_ATTEMPTS: usize = 5;

/// Receive buffer for notifications, in octets: some thousand of them. The kernel cuts it to
/// net.core.rmem_max.
const NOTIFICATION_BUFFER: u32 = 1 << 20;

const SEQUENCE: u32 = 1;
const NLMSG_ERROR: u16 = 2;
const NLMSG_DONE: u16 = 3;
const NLMSG_HEADER_LEN: usize = 16;
const ERRNO_LEN: usize = 4;
const NLMSGERR_ATTR_MSG: u16 = 1;

/// A message from the kernel: its type (`RTM_*`) and what follows the netlink header.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Reply {
    pub(super) kind: u16,
    pub(super) body: Vec<u8>,
}

/// What one netlink message is.
#[derive(Clone, PartialEq, Eq, Debug)]
enum Item {
    Message(Reply),
    /// The end: 0 for success or a positive errno, and the kernel's words if any.
    End(i32, Option<String>),
}

/// Asks for one object, or for a change, and returns what arrived before the acknowledgement.
pub(super) async fn request(
    action: &str,
    message: RouteNetlinkMessage,
    flags: u16,
) -> Result<Vec<Reply>, NetlinkError> {
    transact(action, message, flags | NLM_F_REQUEST | NLM_F_ACK)
        .await
        .map(|(replies, _)| replies)
}

/// Asks for a list.
pub(super) async fn dump(
    action: &str,
    message: RouteNetlinkMessage,
) -> Result<Vec<Reply>, NetlinkError> {
    let mut attempt = 1;
    loop {
        let flags = NLM_F_REQUEST | NLM_F_DUMP;
        let (replies, interrupted) = transact(action, message.clone(), flags).await?;
        if !interrupted || attempt == DUMP_ATTEMPTS {
            return Ok(replies);
        }
        attempt += 1;
    }
}

async fn transact(
    action: &str,
    message: RouteNetlinkMessage,
    flags: u16,
) -> Result<(Vec<Reply>, bool), NetlinkError> {
    let exchange = exchange(action, encode(message, flags));
    tokio::time::timeout(ANSWER_TIMEOUT, exchange)
        .await
        .unwrap_or_else(|_| {
            Err(NetlinkError::Timeout {
                action: action.to_owned(),
                seconds: ANSWER_TIMEOUT.as_secs(),
            })
        })
}

fn encode(message: RouteNetlinkMessage, flags: u16) -> Vec<u8> {
    let mut message = NetlinkMessage::from(message);
    message.header.flags = flags;
    message.header.sequence_number = SEQUENCE;
    message.finalize();
    let mut octets = vec![0; message.buffer_len()];
    message.serialize(&mut octets);
    octets
}

async fn exchange(action: &str, octets: Vec<u8>) -> Result<(Vec<Reply>, bool), NetlinkError> {
    let failed = |source| NetlinkError::Socket {
        action: action.to_owned(),
        source,
    };
    let socket = TokioSocket::new(NETLINK_ROUTE).map_err(failed)?;
    // Both are conveniences of the answer: words for errors, and no echo of the request in them.
    let _ = socket.socket_ref().set_ext_ack(true);
    let _ = socket.socket_ref().set_cap_ack(true);
    let kernel = SocketAddr::new(0, 0);
    socket.send_to(&octets, &kernel).await.map_err(failed)?;
    let mut replies = Vec::new();
    let mut interrupted = false;
    loop {
        let (datagram, sender) = socket.recv_from_full().await.map_err(failed)?;
        if sender.port_number() != 0 {
            continue;
        }
        for (sequence, flags, item) in items(&datagram) {
            if sequence != SEQUENCE {
                continue;
            }
            interrupted |= flags & NLM_F_DUMP_INTR != 0;
            match item {
                Item::Message(reply) => replies.push(reply),
                Item::End(0, _) => return Ok((replies, interrupted)),
                Item::End(errno, detail) => {
                    return Err(NetlinkError::Refused {
                        action: action.to_owned(),
                        errno,
                        detail,
                    });
                }
            }
        }
    }
}

/// A socket that hears of changes.
pub(super) fn subscribe() -> Result<TokioSocket, NetlinkError> {
    let action = "watch the kernel's network";
    let failed = |source| NetlinkError::Socket {
        action: action.to_owned(),
        source,
    };
    let mut socket = TokioSocket::new(NETLINK_ROUTE).map_err(failed)?;
    let groups = [
        MulticastGroup::Link,
        MulticastGroup::Neigh,
        MulticastGroup::Ipv4Ifaddr,
        MulticastGroup::Ipv6Ifaddr,
        MulticastGroup::Ipv4Route,
        MulticastGroup::Ipv6Route,
        MulticastGroup::Ipv4Rule,
        MulticastGroup::Ipv6Rule,
    ];
    let mask = groups
        .iter()
        .fold(0, |mask, group| mask | 1 << (*group as u32 - 1));
    socket
        .socket_mut()
        .bind(&SocketAddr::new(0, mask))
        .map_err(failed)?;
    if let Err(error) = socket.socket_ref().set_rx_buf_sz(NOTIFICATION_BUFFER) {
        tracing::debug!(%error, "the netlink receive buffer keeps its size");
    }
    Ok(socket)
}

/// Changes of neighbours are told on the socket, or not.
pub(super) fn tell_neighbors(socket: &mut TokioSocket, tell: bool) -> std::io::Result<()> {
    let (socket, group) = (socket.socket_mut(), MulticastGroup::Neigh as u32);
    if tell {
        socket.add_membership(group)
    } else {
        socket.drop_membership(group)
    }
}

/// The notifications in one datagram.
pub(super) fn notifications(datagram: &[u8]) -> impl Iterator<Item = Reply> {
    items(datagram).filter_map(|(_, _, item)| match item {
        Item::Message(reply) => Some(reply),
        Item::End(..) => None,
    })
}

/// The messages in one datagram, each with its sequence number and flags. What is cut off ends it.
fn items(datagram: &[u8]) -> impl Iterator<Item = (u32, u16, Item)> {
    let mut rest = datagram;
    core::iter::from_fn(move || {
        let message = NetlinkBuffer::new_checked(rest).ok()?;
        let length = message.length() as usize;
        let body = rest.get(NLMSG_HEADER_LEN..length)?;
        let item = match message.message_type() {
            NLMSG_ERROR | NLMSG_DONE => end(body),
            kind => Item::Message(Reply {
                kind,
                body: body.to_vec(),
            }),
        };
        let found = (message.sequence_number(), message.flags(), item);
        rest = rest.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some(found)
    })
}

/// # Layout
/// errno, negated (4 octets, host order) | the request's netlink header (16) | attributes.
/// The end of a list has no header in between and may be empty.
fn end(body: &[u8]) -> Item {
    let code = body
        .first_chunk()
        .map_or(0, |octets| i32::from_ne_bytes(*octets));
    let attributes = body.get(ERRNO_LEN + NLMSG_HEADER_LEN..).unwrap_or_default();
    let detail = decode::attributes(attributes)
        .find(|(kind, _)| *kind == NLMSGERR_ATTR_MSG)
        .map(|(_, value)| decode::text(value));
    Item::End(code.wrapping_neg(), detail)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(kind: u16, flags: u16, body: &[u8]) -> Vec<u8> {
        let length = (NLMSG_HEADER_LEN + body.len()) as u32;
        let mut octets = length.to_ne_bytes().to_vec();
        octets.extend(kind.to_ne_bytes());
        octets.extend(flags.to_ne_bytes());
        octets.extend(SEQUENCE.to_ne_bytes());
        octets.extend(0_u32.to_ne_bytes());
        octets.extend(body);
        octets.resize(octets.len().next_multiple_of(4), 0);
        octets
    }

    fn items_of(datagram: &[u8]) -> Vec<Item> {
        items(datagram).map(|(_, _, item)| item).collect()
    }

    #[test]
    fn two_messages_of_one_datagram_are_both_seen() {
        let mut datagram = message(16, 2, &[1, 2, 3]);
        datagram.extend(message(NLMSG_DONE, 2, &0_i32.to_ne_bytes()));
        let reply = Reply {
            kind: 16,
            body: vec![1, 2, 3],
        };
        assert_eq!(
            items_of(&datagram),
            [Item::Message(reply), Item::End(0, None)]
        );
    }

    #[test]
    fn a_refusal_carries_the_kernels_words() {
        let mut body = (-22_i32).to_ne_bytes().to_vec();
        body.extend([0; NLMSG_HEADER_LEN]);
        body.extend([8, 0, 1, 0]);
        body.extend(b"no!\0");
        let datagram = message(NLMSG_ERROR, 0, &body);
        assert_eq!(items_of(&datagram), [Item::End(22, Some("no!".to_owned()))]);
    }

    #[test]
    fn an_empty_end_of_a_list_is_success() {
        assert_eq!(items_of(&message(NLMSG_DONE, 0, &[])), [Item::End(0, None)]);
    }

    #[test]
    fn cut_off_datagrams_end_without_a_panic() {
        let mut datagram = message(16, 0, &[7; 20]);
        datagram.extend(message(NLMSG_ERROR, 0, &[0xff; 40]));
        for length in 0..datagram.len() {
            assert!(items_of(&datagram[..length]).len() <= 1);
        }
        let mut lying = message(16, 0, &[]);
        lying[0] = 3;
        assert!(items_of(&lying).is_empty());
    }
}
