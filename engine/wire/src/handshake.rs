//! Messages without a session: handshake initiation and response, and the cookie reply.
//!
//! ```text
//!  0        8        12                           L-32   L-16    L
//!  | prefix | sender |           noise            | mac1 | mac2 |    initiation, L = 168
//!  | prefix | sender | receiver |      noise      | mac1 | mac2 |    response,   L = 116
//!  | prefix | receiver | nonce (24) |       sealed cookie (32)       | cookie reply, 68
//! ```
//!
//! Views borrow a message of the right length and type; builders return one. Not in here: what
//! is inside the Noise messages before they are opened, and every key.

use crate::DropReason;
use crate::header::{FLAGS, LANE, MessageType, SESSION_ID, TYPE};
use crate::limits::{PREFIX_LEN, PROTOCOL_VERSION, TAG_LEN};

mod payload;
mod tai64n;

pub use payload::{
    INITIATION_PAYLOAD_LEN, InitiationPayload, RESPONSE_PAYLOAD_LEN, ResponsePayload,
};
pub use tai64n::Tai64n;

/// Length of a session index.
const SESSION_LEN: usize = 4;
/// Length of a public key of X25519 (RFC 7748 s.5).
const KEY_LEN: usize = 32;
/// Length of the token of a reflection probe.
const REFLECT_TOKEN_LEN: usize = 16;

/// Length of mac1 and mac2.
pub const MAC_LEN: usize = 16;
/// Length of a Noise message 1: ephemeral key, sealed static key, sealed payload.
pub const INITIATION_NOISE_LEN: usize = KEY_LEN + sealed(KEY_LEN) + sealed(INITIATION_PAYLOAD_LEN);
/// Length of a Noise message 2: ephemeral key, sealed payload.
pub const RESPONSE_NOISE_LEN: usize = KEY_LEN + sealed(RESPONSE_PAYLOAD_LEN);
/// Length of the nonce of a cookie reply (XChaCha20-Poly1305).
pub const COOKIE_NONCE_LEN: usize = 24;
/// Length of a cookie.
pub const COOKIE_LEN: usize = 16;
/// Length of a sealed cookie.
pub const SEALED_COOKIE_LEN: usize = sealed(COOKIE_LEN);

const SENDER: usize = PREFIX_LEN;
const INITIATION_NOISE: usize = SENDER + SESSION_LEN;
const INITIATION_MAC1: usize = INITIATION_NOISE + INITIATION_NOISE_LEN;
const INITIATION_MAC2: usize = INITIATION_MAC1 + MAC_LEN;

const RESPONSE_RECEIVER: usize = SENDER + SESSION_LEN;
const RESPONSE_NOISE: usize = RESPONSE_RECEIVER + SESSION_LEN;
const RESPONSE_MAC1: usize = RESPONSE_NOISE + RESPONSE_NOISE_LEN;
const RESPONSE_MAC2: usize = RESPONSE_MAC1 + MAC_LEN;

const COOKIE_RECEIVER: usize = PREFIX_LEN;
const COOKIE_NONCE: usize = COOKIE_RECEIVER + SESSION_LEN;
const COOKIE_SEALED: usize = COOKIE_NONCE + COOKIE_NONCE_LEN;

/// Length of an initiation.
pub const INITIATION_LEN: usize = INITIATION_MAC2 + MAC_LEN;
/// Length of a response.
pub const RESPONSE_LEN: usize = RESPONSE_MAC2 + MAC_LEN;
/// Length of a cookie reply.
pub const COOKIE_REPLY_LEN: usize = COOKIE_SEALED + SEALED_COOKIE_LEN;
/// Least length of a reflection probe: prefix and token. Its padding is up to the sender.
pub const REFLECT_PROBE_MIN: usize = PREFIX_LEN + REFLECT_TOKEN_LEN;
/// Least length of a reflection answer: prefix, token, IPv4 address, port.
pub const REFLECT_ANSWER_MIN: usize = REFLECT_PROBE_MIN + 4 + 2;

/// Length of `len` octets once sealed.
const fn sealed(len: usize) -> usize {
    len + TAG_LEN
}

/// Judges a datagram of the kernel's socket by its prefix and length, and says what it is.
///
/// # Errors
/// [`DropReason::MessageMalformed`] when there is no whole prefix; then, in this order,
/// [`DropReason::MessageUnsteered`] for a session id, [`DropReason::MessageVersion`] for another
/// version or flags, [`DropReason::MessageMalformed`] for an unknown type, one that belongs into a
/// session, or a length that the type does not have.
pub fn classify(message: &[u8]) -> Result<MessageType, DropReason> {
    let &[s0, s1, s2, s3, kind, flags, v0, v1] = message
        .first_chunk::<PREFIX_LEN>()
        .ok_or(DropReason::MessageMalformed)?;
    if [s0, s1, s2, s3] != [0; SESSION_LEN] {
        return Err(DropReason::MessageUnsteered);
    }
    if flags != 0 || u16::from_be_bytes([v0, v1]) != PROTOCOL_VERSION {
        return Err(DropReason::MessageVersion);
    }
    let kind = MessageType::try_from(kind).map_err(|_| DropReason::MessageMalformed)?;
    let fits = match kind {
        MessageType::Initiation => message.len() == INITIATION_LEN,
        MessageType::Response => message.len() == RESPONSE_LEN,
        MessageType::CookieReply => message.len() == COOKIE_REPLY_LEN,
        MessageType::ReflectProbe => message.len() >= REFLECT_PROBE_MIN,
        MessageType::ReflectAnswer => message.len() >= REFLECT_ANSWER_MIN,
        MessageType::Data | MessageType::Control => false,
    };
    if fits {
        Ok(kind)
    } else {
        Err(DropReason::MessageMalformed)
    }
}

/// A handshake initiation of the right length, type and version, from a sender that gave an index.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Initiation<'a>(&'a [u8; INITIATION_LEN]);

impl<'a> Initiation<'a> {
    /// Looks at a datagram as an initiation.
    ///
    /// # Errors
    /// Those of [`classify`]; [`DropReason::MessageMalformed`] for another type;
    /// [`DropReason::HandshakeBadPayload`] for a sender's index of 0.
    pub fn parse(message: &'a [u8]) -> Result<Self, DropReason> {
        let view = Self(whole(message, MessageType::Initiation)?);
        refuse_zero(view.sender_session())?;
        Ok(view)
    }

    /// The initiator's index of the session to be, not 0.
    #[must_use]
    pub fn sender_session(&self) -> u32 {
        u32::from_be_bytes(*field::<SENDER, _, _>(self.0))
    }

    /// The Noise message.
    #[must_use]
    pub fn noise(&self) -> &'a [u8; INITIATION_NOISE_LEN] {
        field::<INITIATION_NOISE, _, _>(self.0)
    }

    /// Proves that the sender knows whom it talks to.
    #[must_use]
    pub fn mac1(&self) -> &'a [u8; MAC_LEN] {
        field::<INITIATION_MAC1, _, _>(self.0)
    }

    /// Proves that the sender receives at its address, where that is asked for.
    #[must_use]
    pub fn mac2(&self) -> &'a [u8; MAC_LEN] {
        field::<INITIATION_MAC2, _, _>(self.0)
    }

    /// What mac1 covers.
    #[must_use]
    pub fn before_mac1(&self) -> &'a [u8; INITIATION_MAC1] {
        field::<0, _, _>(self.0)
    }

    /// What mac2 covers.
    #[must_use]
    pub fn before_mac2(&self) -> &'a [u8; INITIATION_MAC2] {
        field::<0, _, _>(self.0)
    }
}

/// A handshake response of the right length, type and version, from a sender that gave an index.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Response<'a>(&'a [u8; RESPONSE_LEN]);

impl<'a> Response<'a> {
    /// Looks at a datagram as a response.
    ///
    /// # Errors
    /// Those of [`classify`]; [`DropReason::MessageMalformed`] for another type;
    /// [`DropReason::HandshakeBadPayload`] for a sender's index of 0.
    pub fn parse(message: &'a [u8]) -> Result<Self, DropReason> {
        let view = Self(whole(message, MessageType::Response)?);
        refuse_zero(view.sender_session())?;
        Ok(view)
    }

    /// The responder's index of the session to be, not 0.
    #[must_use]
    pub fn sender_session(&self) -> u32 {
        u32::from_be_bytes(*field::<SENDER, _, _>(self.0))
    }

    /// The initiator's index, from the initiation that this answers.
    #[must_use]
    pub fn receiver_session(&self) -> u32 {
        u32::from_be_bytes(*field::<RESPONSE_RECEIVER, _, _>(self.0))
    }

    /// The Noise message.
    #[must_use]
    pub fn noise(&self) -> &'a [u8; RESPONSE_NOISE_LEN] {
        field::<RESPONSE_NOISE, _, _>(self.0)
    }

    /// Proves that the sender knows whom it talks to.
    #[must_use]
    pub fn mac1(&self) -> &'a [u8; MAC_LEN] {
        field::<RESPONSE_MAC1, _, _>(self.0)
    }

    /// Proves that the sender receives at its address, where that is asked for.
    #[must_use]
    pub fn mac2(&self) -> &'a [u8; MAC_LEN] {
        field::<RESPONSE_MAC2, _, _>(self.0)
    }

    /// What mac1 covers.
    #[must_use]
    pub fn before_mac1(&self) -> &'a [u8; RESPONSE_MAC1] {
        field::<0, _, _>(self.0)
    }

    /// What mac2 covers.
    #[must_use]
    pub fn before_mac2(&self) -> &'a [u8; RESPONSE_MAC2] {
        field::<0, _, _>(self.0)
    }
}

/// A cookie reply of the right length, type and version.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct CookieReply<'a>(&'a [u8; COOKIE_REPLY_LEN]);

impl<'a> CookieReply<'a> {
    /// Looks at a datagram as a cookie reply.
    ///
    /// # Errors
    /// Those of [`classify`]; [`DropReason::MessageMalformed`] for another type.
    pub fn parse(message: &'a [u8]) -> Result<Self, DropReason> {
        whole(message, MessageType::CookieReply).map(Self)
    }

    /// The index that the sender of the message gave which this answers.
    #[must_use]
    pub fn receiver_session(&self) -> u32 {
        u32::from_be_bytes(*field::<COOKIE_RECEIVER, _, _>(self.0))
    }

    /// The nonce of the seal.
    #[must_use]
    pub fn nonce(&self) -> &'a [u8; COOKIE_NONCE_LEN] {
        field::<COOKIE_NONCE, _, _>(self.0)
    }

    /// The sealed cookie.
    #[must_use]
    pub fn sealed(&self) -> &'a [u8; SEALED_COOKIE_LEN] {
        field::<COOKIE_SEALED, _, _>(self.0)
    }
}

/// An initiation around a Noise message; both macs are zero, see [`set_mac1`] and [`set_mac2`].
#[must_use]
pub fn initiation(sender_session: u32, noise: &[u8; INITIATION_NOISE_LEN]) -> [u8; INITIATION_LEN] {
    let mut out = started(MessageType::Initiation);
    *field_mut::<SENDER, _, _>(&mut out) = sender_session.to_be_bytes();
    *field_mut::<INITIATION_NOISE, _, _>(&mut out) = *noise;
    out
}

/// A response around a Noise message; both macs are zero, see [`set_mac1`] and [`set_mac2`].
#[must_use]
pub fn response(
    sender_session: u32,
    receiver_session: u32,
    noise: &[u8; RESPONSE_NOISE_LEN],
) -> [u8; RESPONSE_LEN] {
    let mut out = started(MessageType::Response);
    *field_mut::<SENDER, _, _>(&mut out) = sender_session.to_be_bytes();
    *field_mut::<RESPONSE_RECEIVER, _, _>(&mut out) = receiver_session.to_be_bytes();
    *field_mut::<RESPONSE_NOISE, _, _>(&mut out) = *noise;
    out
}

/// A cookie reply around a sealed cookie.
#[must_use]
pub fn cookie_reply(
    receiver_session: u32,
    nonce: &[u8; COOKIE_NONCE_LEN],
    sealed: &[u8; SEALED_COOKIE_LEN],
) -> [u8; COOKIE_REPLY_LEN] {
    let mut out = started(MessageType::CookieReply);
    *field_mut::<COOKIE_RECEIVER, _, _>(&mut out) = receiver_session.to_be_bytes();
    *field_mut::<COOKIE_NONCE, _, _>(&mut out) = *nonce;
    *field_mut::<COOKIE_SEALED, _, _>(&mut out) = *sealed;
    out
}

/// What mac1 covers, of an initiation or a response that is being built.
#[must_use]
pub fn before_mac1<const L: usize>(message: &[u8; L]) -> &[u8] {
    const { assert_has_macs(L) };
    &message[..L - 2 * MAC_LEN]
}

/// What mac2 covers, of an initiation or a response that is being built: mac1 included.
#[must_use]
pub fn before_mac2<const L: usize>(message: &[u8; L]) -> &[u8] {
    const { assert_has_macs(L) };
    &message[..L - MAC_LEN]
}

/// Writes mac1 of an initiation or a response.
pub fn set_mac1<const L: usize>(message: &mut [u8; L], mac: &[u8; MAC_LEN]) {
    const { assert_has_macs(L) };
    message[L - 2 * MAC_LEN..L - MAC_LEN].copy_from_slice(mac);
}

/// Writes mac2 of an initiation or a response.
pub fn set_mac2<const L: usize>(message: &mut [u8; L], mac: &[u8; MAC_LEN]) {
    const { assert_has_macs(L) };
    message[L - MAC_LEN..].copy_from_slice(mac);
}

/// The message as an array, if it is of this type.
fn whole<const L: usize>(message: &[u8], kind: MessageType) -> Result<&[u8; L], DropReason> {
    if classify(message)? != kind {
        return Err(DropReason::MessageMalformed);
    }
    message.try_into().map_err(|_| DropReason::MessageMalformed)
}

/// A message with nothing but its prefix.
fn started<const L: usize>(kind: MessageType) -> [u8; L] {
    let mut out = [0; L];
    *field_mut::<SESSION_ID, _, _>(&mut out) = [0; SESSION_LEN];
    *field_mut::<TYPE, 1, _>(&mut out) = [kind as u8];
    *field_mut::<FLAGS, 1, _>(&mut out) = [0];
    *field_mut::<LANE, _, _>(&mut out) = PROTOCOL_VERSION.to_be_bytes();
    out
}

fn refuse_zero(session: u32) -> Result<(), DropReason> {
    if session == 0 {
        Err(DropReason::HandshakeBadPayload)
    } else {
        Ok(())
    }
}

const fn assert_has_macs(len: usize) {
    assert!(
        len == INITIATION_LEN || len == RESPONSE_LEN,
        "only these two messages have macs"
    );
}

/// The field of `N` octets at `AT`. That it lies within the message is checked when compiling.
#[inline]
fn field<const AT: usize, const N: usize, const L: usize>(message: &[u8; L]) -> &[u8; N] {
    const { assert!(AT + N <= L, "the field lies within the message") };
    match message[AT..].first_chunk() {
        Some(field) => field,
        None => unreachable!("checked when compiling"),
    }
}

/// As [`field`], to be written.
#[inline]
fn field_mut<const AT: usize, const N: usize, const L: usize>(
    message: &mut [u8; L],
) -> &mut [u8; N] {
    const { assert!(AT + N <= L, "the field lies within the message") };
    match message[AT..].first_chunk_mut() {
        Some(field) => field,
        None => unreachable!("checked when compiling"),
    }
}

#[cfg(test)]
mod tests;
