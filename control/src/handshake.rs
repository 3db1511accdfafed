//! The handshake's four steps, each a type that is made by a verb and consumed by the next:
//!
//! ```text
//!     initiator                                    responder
//!     CreatedInitiation  ------ initiation ----->  ConsumedInitiation
//!     ConsumedResponse   <------ response -------  CreatedResponse
//! ```
//!
//! Not in here: macs, cookies, time-outs, timestamps, and who the peers are.

use std::collections::{BTreeSet, VecDeque};

use omni_wire::handshake::{
    INITIATION_LEN, Initiation, InitiationPayload, RESPONSE_LEN, Response, ResponsePayload, Tai64n,
};
use omni_wire::{DropReason, handshake};

use crate::cookie::Mac;
use crate::message::Role;
use crate::noise::{Identity, Initiator, NoiseError, Responder, TransportKeys};
use omni_membership::{PublicKey, SymmetricKey};

impl From<NoiseError> for DropReason {
    fn from(_: NoiseError) -> Self {
        Self::HandshakeInvalid
    }
}

/// What both sides know when the handshake is done.
#[derive(Debug)]
pub(crate) struct Agreement {
    pub(crate) session_id: u32,
    pub(crate) remote_session_id: u32,
    pub(crate) role: Role,
    pub(crate) receive_key: SymmetricKey,
    pub(crate) send_key: SymmetricKey,
    pub(crate) peer_lanes: u16,
    pub(crate) peer_max_frame: u16,
    /// As the peer announced them.
    pub(crate) peer_capabilities: u32,
}

/// We sent an initiation, and wait for the response.
#[derive(Debug)]
pub(crate) struct CreatedInitiation {
    session_id: u32,
    noise: Initiator,
}

impl CreatedInitiation {
    /// Creates an initiation; its macs are still missing.
    ///
    /// # Errors
    /// When `remote` is a point of low order.
    pub(crate) fn create(
        identity: &Identity,
        (remote, preshared_key): (&PublicKey, &SymmetricKey),
        ephemeral: &SymmetricKey,
        session_id: u32,
        payload: &InitiationPayload,
    ) -> Result<(Self, [u8; INITIATION_LEN]), NoiseError> {
        let (noise, message) =
            Initiator::start(identity, remote, preshared_key, ephemeral, &payload.emit())?;
        Ok((
            Self { session_id, noise },
            handshake::initiation(session_id, &message),
        ))
    }

    /// Our index.
    pub(crate) const fn session_id(&self) -> u32 {
        self.session_id
    }

    /// Consumes the response.
    ///
    /// # Errors
    /// [`DropReason::HandshakeInvalid`] when it does not verify: another one still may.
    /// [`DropReason::HandshakeBadPayload`] when it verified but makes no sense.
    pub(crate) fn consume_response(
        &mut self,
        response: &Response<'_>,
    ) -> Result<ConsumedResponse, DropReason> {
        let (payload, keys) = self.noise.finish(response.noise())?;
        let payload = ResponsePayload::parse(&payload)?;
        let TransportKeys {
            initiator_to_responder,
            responder_to_initiator,
        } = keys;
        Ok(ConsumedResponse {
            agreement: Agreement {
                session_id: self.session_id,
                remote_session_id: response.sender_session(),
                role: Role::Initiator,
                receive_key: responder_to_initiator,
                send_key: initiator_to_responder,
                peer_lanes: payload.lanes,
                peer_max_frame: payload.max_frame,
                peer_capabilities: payload.capabilities,
            },
        })
    }
}

/// A response verified: the session may be used for sending at once.
#[derive(Debug)]
pub(crate) struct ConsumedResponse {
    pub(crate) agreement: Agreement,
}

/// An initiation verified: its sender holds the private key of `remote`, or replays someone who
/// does.
#[derive(Debug)]
pub(crate) struct ConsumedInitiation {
    noise: Responder,
    remote_session_id: u32,
    payload: InitiationPayload,
    pub(crate) remote: PublicKey,
}

impl ConsumedInitiation {
    /// Consumes an initiation. `ephemeral` is for the response.
    ///
    /// # Errors
    /// [`DropReason::HandshakeInvalid`] when it does not verify,
    /// [`DropReason::HandshakeBadPayload`] when it does but makes no sense.
    pub(crate) fn consume(
        identity: &Identity,
        ephemeral: &SymmetricKey,
        initiation: &Initiation<'_>,
    ) -> Result<Self, DropReason> {
        let (noise, remote, payload) = Responder::read(identity, ephemeral, initiation.noise())?;
        let payload = InitiationPayload::parse(&payload)?;
        let remote_session_id = initiation.sender_session();
        Ok(Self {
            noise,
            remote_session_id,
            payload,
            remote,
        })
    }

    /// When it was created, says the peer.
    pub(crate) const fn timestamp(&self) -> Tai64n {
        Tai64n(self.payload.timestamp)
    }

    /// Creates the response; its macs are still missing.
    ///
    /// # Errors
    /// [`DropReason::HandshakeInvalid`] when the initiator's ephemeral key is of low order.
    pub(crate) fn create_response(
        self,
        preshared_key: &SymmetricKey,
        session_id: u32,
        payload: &ResponsePayload,
    ) -> Result<CreatedResponse, DropReason> {
        let (message, keys) = self.noise.respond(preshared_key, &payload.emit())?;
        let TransportKeys {
            initiator_to_responder,
            responder_to_initiator,
        } = keys;
        Ok(CreatedResponse {
            message: handshake::response(session_id, self.remote_session_id, &message),
            agreement: Agreement {
                session_id,
                remote_session_id: self.remote_session_id,
                role: Role::Responder,
                receive_key: initiator_to_responder,
                send_key: responder_to_initiator,
                peer_lanes: self.payload.lanes,
                peer_max_frame: self.payload.max_frame,
                peer_capabilities: self.payload.capabilities,
            },
        })
    }
}

/// We sent a response: nothing may be sent in the session before something verified in it.
#[derive(Debug)]
pub(crate) struct CreatedResponse {
    pub(crate) message: [u8; RESPONSE_LEN],
    pub(crate) agreement: Agreement,
}

/// The most initiations that are recognised without any public-key operation.
const REPLAYS_KNOWN: usize = 1024;

/// Recognises copies of the last initiations that were consumed, so that replaying them costs
/// a look-up. Older copies are refused by their timestamps.
#[derive(Debug, Default)]
pub(crate) struct ReplayGate {
    known: BTreeSet<Mac>,
    order: VecDeque<Mac>,
}

impl ReplayGate {
    /// Whether the initiation with this mac1 was consumed before.
    pub(crate) fn knows(&self, mac1: &Mac) -> bool {
        self.known.contains(mac1)
    }

    /// Remembers an initiation that was consumed.
    pub(crate) fn remember(&mut self, mac1: &Mac) {
        if !self.known.insert(*mac1) {
            return;
        }
        self.order.push_back(*mac1);
        if self.order.len() > REPLAYS_KNOWN
            && let Some(oldest) = self.order.pop_front()
        {
            self.known.remove(&oldest);
        }
    }
}

#[cfg(test)]
mod tests;
