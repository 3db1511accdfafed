//! `gotatun`: a packet is a buffer that is handed over; sealing allocates another.

use std::time::Duration;

use gotatun::noise::index_table::IndexTable;
use gotatun::noise::rate_limiter::RateLimiter;
use gotatun::noise::{Tunn, TunnResult};
use gotatun::packet::{Packet, WgKind};
use gotatun::x25519::{PublicKey, StaticSecret};

use super::{Tunnel, packet};
use crate::Failure;
use crate::counters::Meter;

/// Handshakes a second that either end takes part in.
const HANDSHAKES: u64 = 10;

/// Both ends, and the messages of a round.
pub(super) struct Pair {
    sender: Tunn,
    receiver: Tunn,
    packet: Vec<u8>,
    messages: Vec<WgKind>,
    count: usize,
}

impl Pair {
    pub(super) fn new(octets: usize, packets: usize) -> Result<Self, Failure> {
        let keys = [1, 2].map(|octet| StaticSecret::from([octet; 32]));
        let public = [&keys[0], &keys[1]].map(PublicKey::from);
        let [ours, theirs] = keys;
        let end = |key, own, other| {
            let limiter = RateLimiter::new(&own, HANDSHAKES).into();
            Tunn::new(key, other, None, None, IndexTable::from_os_rng(), limiter)
        };
        let mut sender = end(ours, public[0], public[1]);
        let mut receiver = end(theirs, public[1], public[0]);
        let initiation = sender.format_handshake_initiation(false);
        let initiation = initiation.ok_or("gotatun: no handshake was begun")?;
        let response = to_network(receiver.handle_incoming_packet(initiation.into()))?;
        let keepalive = to_network(sender.handle_incoming_packet(response))?;
        // Confirms the session; it is a packet of no octets.
        if !matches!(
            receiver.handle_incoming_packet(keepalive),
            TunnResult::WriteToTunnel(_)
        ) {
            return Err("gotatun: no session came about".into());
        }
        Ok(Self {
            sender,
            receiver,
            packet: packet(octets)?,
            messages: Vec::new(),
            count: packets,
        })
    }
}

fn to_network(result: TunnResult) -> Result<WgKind, Failure> {
    match result {
        TunnResult::WriteToNetwork(message) => Ok(message),
        other => Err(format!("gotatun: a message was expected, not {other:?}").into()),
    }
}

impl Tunnel for Pair {
    fn name(&self) -> &'static str {
        "gotatun"
    }

    fn encapsulate(&mut self, meter: &mut Meter) -> Result<(u32, Duration), Failure> {
        let Self {
            sender,
            packet,
            messages,
            count,
            ..
        } = self;
        let received: Vec<Packet> = (0..*count)
            .map(|_| Packet::copy_from(&packet[..]))
            .collect();
        let mut received = received.into_iter();
        messages.clear();
        messages.reserve(*count);
        let time = meter.time(*count as u32, &mut || {
            for packet in &mut received {
                messages.extend(sender.handle_outgoing_packet(packet, None));
            }
        });
        let is_data = |message: &WgKind| matches!(message, WgKind::Data(_));
        if messages.len() == *count && messages.iter().all(is_data) {
            Ok(time)
        } else {
            Err("gotatun: a packet was not sealed".into())
        }
    }

    fn decapsulate(&mut self, meter: &mut Meter) -> Result<(u32, Duration), Failure> {
        let Self {
            receiver,
            packet,
            messages,
            count,
            ..
        } = self;
        let datagrams = messages.drain(..).map(|message| match message {
            WgKind::Data(message) => message.into_bytes(),
            WgKind::HandshakeInit(message) => message.into_bytes(),
            WgKind::HandshakeResp(message) => message.into_bytes(),
            WgKind::CookieReply(message) => message.into_bytes(),
        });
        // Emptied here, so that the memory is given back outside of what is measured.
        let datagrams: Vec<Packet> = datagrams.collect();
        let mut datagrams = datagrams.into_iter();
        let mut opened: Vec<Packet> = Vec::with_capacity(*count);
        let time = meter.time(*count as u32, &mut || {
            for datagram in &mut datagrams {
                let result = datagram.try_into_wg();
                let result = result.map(|message| receiver.handle_incoming_packet(message));
                if let Ok(TunnResult::WriteToTunnel(packet)) = result {
                    opened.push(packet);
                }
            }
        });
        if opened.len() == *count && opened.iter().all(|opened| opened.len() == packet.len()) {
            Ok(time)
        } else {
            Err("gotatun: a message was not opened".into())
        }
    }
}
