//! The secure channel between a node and a Nucleus: `Noise_IK_25519_ChaChaPoly_BLAKE2s` (Noise
//! revision 34) over a stream, as in section 6 of the protocol.
//!
//! ```text
//!   node (initiator)                                  Nucleus (responder)
//!   Opening::start  --- e, es, s, ss --------------->  Welcoming::read
//!   Opening::finish <-- e, ee, se -------------------  Welcoming::respond
//!   Channel         <== sealed messages, in order ==>  Channel
//! ```
//!
//! Not in here: the stream, and the two octets of length before each message on it. The first
//! message may be a copy: only what the [`Channel`] opens shows that the node is there now.

use core::fmt;

use omni_wire::limits::TAG_LEN;
use snow::{HandshakeState, TransportState};

use crate::noise::Resolver;
use omni_membership::{PrivateKey, PublicKey, SymmetricKey};

/// The pattern and the primitives. They do not vary.
const PROTOCOL: &str = "Noise_IK_25519_ChaChaPoly_BLAKE2s";

/// What the prologue begins with. The fabric's name follows.
const PROLOGUE: &str = "OmniNervous nucleus v1 ";

/// The longest message on the stream, in octets (Noise revision 34 s.3).
pub const MESSAGE_MAX: usize = 65_535;

/// The longest plaintext of a message, in octets.
pub const PLAINTEXT_MAX: usize = MESSAGE_MAX - TAG_LEN;

/// Length of the first message: ephemeral key, sealed static key, tag of an empty payload.
pub const FIRST_LEN: usize = 32 + 32 + TAG_LEN + TAG_LEN;

/// Length of the second message: ephemeral key, tag of an empty payload.
pub const SECOND_LEN: usize = 32 + TAG_LEN;

/// A message did not verify, or a key was refused. The channel is of no use any more.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("a message of the channel does not verify: another key, another fabric, or changed")]
pub struct ChannelError;

impl From<snow::Error> for ChannelError {
    fn from(_: snow::Error) -> Self {
        Self
    }
}

fn prologue(fabric: &str) -> Vec<u8> {
    [PROLOGUE.as_bytes(), fabric.as_bytes()].concat()
}

/// A node that has sent the first message.
pub struct Opening(Box<HandshakeState>);

impl Opening {
    /// Begins a channel to the Nucleus `remote`. `ephemeral` are 32 random octets that are used
    /// for nothing else.
    ///
    /// # Errors
    /// When `remote` is a point of low order.
    pub fn start(
        fabric: &str,
        private: &PrivateKey,
        remote: &PublicKey,
        ephemeral: &SymmetricKey,
    ) -> Result<(Self, [u8; FIRST_LEN]), ChannelError> {
        let builder = Resolver::builder_of(PROTOCOL, ephemeral).map_err(|_| ChannelError)?;
        let mut state = builder
            .local_private_key(&private.0)?
            .remote_public_key(&remote.0)?
            .prologue(&prologue(fabric))?
            .build_initiator()?;
        let mut message = [0; FIRST_LEN];
        state.write_message(&[], &mut message)?;
        Ok((Self(Box::new(state)), message))
    }

    /// Reads the second message.
    ///
    /// # Errors
    /// When it does not verify.
    pub fn finish(mut self, message: &[u8]) -> Result<Channel, ChannelError> {
        if message.len() != SECOND_LEN {
            return Err(ChannelError);
        }
        self.0.read_message(message, &mut [])?;
        Ok(Channel(self.0.into_transport_mode()?))
    }
}

impl fmt::Debug for Opening {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Opening(..)")
    }
}

/// A Nucleus that has read a first message.
pub struct Welcoming(Box<HandshakeState>);

impl Welcoming {
    /// Reads the first message, and tells whose it is, or is a copy of. `ephemeral` are 32 random
    /// octets that are used for nothing else.
    ///
    /// # Errors
    /// When it does not verify, or holds a point of low order.
    pub fn read(
        fabric: &str,
        private: &PrivateKey,
        ephemeral: &SymmetricKey,
        message: &[u8],
    ) -> Result<(Self, PublicKey), ChannelError> {
        if message.len() != FIRST_LEN {
            return Err(ChannelError);
        }
        let builder = Resolver::builder_of(PROTOCOL, ephemeral).map_err(|_| ChannelError)?;
        let mut state = builder
            .local_private_key(&private.0)?
            .prologue(&prologue(fabric))?
            .build_responder()?;
        state.read_message(message, &mut [])?;
        let remote = state.get_remote_static().and_then(<[u8]>::first_chunk);
        let remote = PublicKey(*remote.ok_or(ChannelError)?);
        Ok((Self(Box::new(state)), remote))
    }

    /// Writes the second message.
    ///
    /// # Errors
    /// When the node's ephemeral key is a point of low order.
    pub fn respond(mut self) -> Result<(Channel, [u8; SECOND_LEN]), ChannelError> {
        let mut message = [0; SECOND_LEN];
        self.0.write_message(&[], &mut message)?;
        Ok((Channel(self.0.into_transport_mode()?), message))
    }
}

impl fmt::Debug for Welcoming {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Welcoming(..)")
    }
}

/// An open channel. Messages are to be opened in the order in which they were sealed, each once.
pub struct Channel(TransportState);

impl Channel {
    /// Seals a message of at most [`PLAINTEXT_MAX`] octets.
    ///
    /// # Errors
    /// When it is longer, or 2^64 - 1 messages were sealed.
    pub fn seal(&mut self, plaintext: &[u8]) -> Result<Vec<u8>, ChannelError> {
        if plaintext.len() > PLAINTEXT_MAX {
            return Err(ChannelError);
        }
        let mut message = vec![0; plaintext.len() + TAG_LEN];
        let len = self.0.write_message(plaintext, &mut message)?;
        message.truncate(len);
        Ok(message)
    }

    /// Opens a message.
    ///
    /// # Errors
    /// When it does not verify.
    pub fn open(&mut self, message: &[u8]) -> Result<Vec<u8>, ChannelError> {
        if message.len() < TAG_LEN || message.len() > MESSAGE_MAX {
            return Err(ChannelError);
        }
        let mut plaintext = vec![0; message.len()];
        let len = self.0.read_message(message, &mut plaintext)?;
        plaintext.truncate(len);
        Ok(plaintext)
    }
}

impl fmt::Debug for Channel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Channel(..)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FABRIC: &str = "lab";

    fn node() -> PrivateKey {
        PrivateKey([1; 32])
    }

    fn nucleus() -> PrivateKey {
        PrivateKey([2; 32])
    }

    fn key(octet: u8) -> SymmetricKey {
        SymmetricKey([octet; 32])
    }

    fn opening() -> (Opening, [u8; FIRST_LEN]) {
        let remote = PublicKey::from_private(&nucleus());
        Opening::start(FABRIC, &node(), &remote, &key(3)).expect("a sound key")
    }

    fn channels() -> (Channel, Channel) {
        let (opening, first) = opening();
        let (welcoming, who) = Welcoming::read(FABRIC, &nucleus(), &key(4), &first).expect("ours");
        assert_eq!(who, PublicKey::from_private(&node()));
        let (theirs, second) = welcoming.respond().expect("sound keys");
        (opening.finish(&second).expect("theirs"), theirs)
    }

    #[test]
    fn both_ends_hear_each_other_in_order() {
        let (mut ours, mut theirs) = channels();
        for text in [&b"one"[..], b"", &[7; PLAINTEXT_MAX]] {
            let sealed = ours.seal(text).expect("it fits");
            assert_eq!(theirs.open(&sealed).expect("in order"), text);
            let sealed = theirs.seal(text).expect("it fits");
            assert_eq!(ours.open(&sealed).expect("in order"), text);
        }
        assert!(ours.seal(&[0; PLAINTEXT_MAX + 1]).is_err());
    }

    #[test]
    fn nothing_is_opened_twice_or_out_of_order_or_changed() {
        let (mut ours, mut theirs) = channels();
        let [first, second] = [b"one", b"two"].map(|text| ours.seal(text).expect("it fits"));
        assert!(theirs.open(&second).is_err());
        let mut changed = first.clone();
        changed[0] ^= 1;
        assert!(theirs.open(&changed).is_err());
        assert!(theirs.open(&first).is_ok());
        assert!(theirs.open(&first).is_err());
        for len in [0, 1, TAG_LEN - 1] {
            assert!(theirs.open(&second[..len]).is_err());
        }
    }

    #[test]
    fn another_fabric_or_key_or_a_changed_message_opens_nothing() {
        let (_, first) = opening();
        let read = |fabric, private: &PrivateKey, message: &[u8]| {
            Welcoming::read(fabric, private, &key(4), message).is_ok()
        };
        assert!(read(FABRIC, &nucleus(), &first));
        assert!(!read("other", &nucleus(), &first));
        assert!(!read(FABRIC, &node(), &first));
        for place in 0..FIRST_LEN {
            let mut changed = first;
            // The highest bit of a key is not looked at (RFC 7748 s.5).
            changed[place] ^= 1;
            assert!(!read(FABRIC, &nucleus(), &changed), "octet {place}");
        }
        assert!(!read(FABRIC, &nucleus(), &first[..FIRST_LEN - 1]));
        assert!(!read(FABRIC, &nucleus(), &[]));

        let (opening, first) = opening();
        let (welcoming, _) =
            Welcoming::read(FABRIC, &nucleus(), &key(4), &first).expect("it is ours");
        let (_, mut second) = welcoming.respond().expect("sound keys");
        second[SECOND_LEN - 1] ^= 1;
        assert!(opening.finish(&second).is_err());
    }

    #[test]
    fn who_has_another_key_than_the_pinned_one_cannot_answer() {
        let (opening, first) = opening();
        let other = PrivateKey([9; 32]);
        assert!(Welcoming::read(FABRIC, &other, &key(4), &first).is_err());
        assert!(opening.finish(&[0; SECOND_LEN]).is_err());
    }

    #[test]
    fn keys_of_low_order_are_refused() {
        let remote = PublicKey([0; 32]);
        assert!(Opening::start(FABRIC, &node(), &remote, &key(3)).is_err());
    }
}
