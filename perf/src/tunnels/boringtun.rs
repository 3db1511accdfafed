//! `boringtun`: packets are copied from a buffer to another.

use std::time::Duration;

use boringtun::noise::{Tunn, TunnResult};
use boringtun::x25519::{PublicKey, StaticSecret};

use super::{Tunnel, packet};
use crate::Failure;
use crate::counters::Meter;

/// Octets that a message is longer than its packet.
const OVERHEAD: usize = 32;
/// Octets that a buffer has at least, so that handshakes fit.
const BUFFER_MIN: usize = 148;

/// Both ends, and buffers for a round.
pub(super) struct Pair {
    sender: Tunn,
    receiver: Tunn,
    packet: Vec<u8>,
    messages: Vec<Vec<u8>>,
    /// Where packets come out, one behind the other.
    opened: Vec<Vec<u8>>,
}

impl Pair {
    pub(super) fn new(octets: usize, packets: usize) -> Result<Self, Failure> {
        let keys = [1, 2].map(|octet| StaticSecret::from([octet; 32]));
        let public = [&keys[0], &keys[1]].map(PublicKey::from);
        let [ours, theirs] = keys;
        let mut sender = Tunn::new(ours, public[1], None, None, 1, None);
        let mut receiver = Tunn::new(theirs, public[0], None, None, 2, None);
        let mut buffers = [[0; 256]; 3];
        let [initiation, response, keepalive] = &mut buffers;
        let initiation = to_network(sender.format_handshake_initiation(initiation, false))?;
        let response = to_network(receiver.decapsulate(None, initiation, response))?;
        let keepalive = to_network(sender.decapsulate(None, response, keepalive))?;
        if !matches!(
            receiver.decapsulate(None, keepalive, &mut [0; 256]),
            TunnResult::Done
        ) {
            return Err("boringtun: no session came about".into());
        }
        let len = (octets + OVERHEAD).max(BUFFER_MIN);
        Ok(Self {
            sender,
            receiver,
            packet: packet(octets)?,
            messages: vec![vec![0; len]; packets],
            opened: vec![vec![0; len]; packets],
        })
    }
}

fn to_network(result: TunnResult<'_>) -> Result<&[u8], Failure> {
    match result {
        TunnResult::WriteToNetwork(message) => Ok(message),
        other => Err(format!("boringtun: a message was expected, not {other:?}").into()),
    }
}

impl Tunnel for Pair {
    fn name(&self) -> &'static str {
        "boringtun"
    }

    fn encapsulate(&mut self, meter: &mut Meter) -> Result<(u32, Duration), Failure> {
        let Self {
            sender,
            packet,
            messages,
            ..
        } = self;
        let (count, mut sealed) = (messages.len() as u32, 0);
        let time = meter.time(count, &mut || {
            for message in &mut *messages {
                let result = sender.encapsulate(packet, message);
                sealed += u32::from(matches!(result, TunnResult::WriteToNetwork(_)));
            }
        });
        if sealed == count {
            Ok(time)
        } else {
            Err("boringtun: a packet was not sealed".into())
        }
    }

    fn decapsulate(&mut self, meter: &mut Meter) -> Result<(u32, Duration), Failure> {
        let Self {
            receiver,
            packet,
            messages,
            opened,
            ..
        } = self;
        let (count, mut received) = (messages.len() as u32, 0);
        let len = packet.len() + OVERHEAD;
        let time = meter.time(count, &mut || {
            for (message, packet) in messages.iter().zip(&mut *opened) {
                let result = receiver.decapsulate(None, &message[..len], packet);
                received += u32::from(matches!(result, TunnResult::WriteToTunnelV4(..)));
            }
        });
        if received == count {
            Ok(time)
        } else {
            Err("boringtun: a message was not opened".into())
        }
    }
}
