//! What every message begins with, and the header of data messages.
//!
//! ```text
//!  0          4    5     6      8               16              32
//!  +----------+----+-----+------+----------------+--------------+----
//!  |session_id|type|flags| lane |     nonce      |   auth_tag   | sealed frame
//!  +----------+----+-----+------+----------------+--------------+----
//!  |<--------- authenticated as it is ---------->|
//!                        |<---- AEAD nonce ----->|  after two zero octets
//! ```
//!
//! All integers are big-endian. Not in here: the tag, which belongs to whoever seals and opens.

use crate::DropReason;
use crate::limits::{AAD_LEN, HEADER_LEN};

/// Type of a handshake initiation.
pub const INITIATION: u8 = 1;
/// Type of a handshake response.
pub const RESPONSE: u8 = 2;
/// Type of a cookie reply.
pub const COOKIE_REPLY: u8 = 3;
/// Type of a message that carries an inner frame, or nothing (keepalive).
pub const DATA: u8 = 4;
/// Type of a message that carries a record between the control threads of two peers.
pub const CONTROL: u8 = 5;
/// Type of a node's question for its own address as a Nucleus sees it.
pub const REFLECT_PROBE: u8 = 16;
/// Type of a Nucleus' answer to that.
pub const REFLECT_ANSWER: u8 = 17;

/// Where a message has its session id: the receiver's index, 4 octets, 0 = no session.
pub(crate) const SESSION_ID: usize = 0;
/// Where a message has its type, 1 octet.
pub(crate) const TYPE: usize = 4;
/// Where a message has its flags, 1 octet.
pub(crate) const FLAGS: usize = 5;
/// Where a message has its lane, or without a session the protocol version, 2 octets.
pub(crate) const LANE: usize = 6;
/// Where a data message has its nonce, 8 octets.
const NONCE: usize = 8;

/// The type of a message, from its fifth octet.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[repr(u8)]
pub enum MessageType {
    /// First message of a handshake.
    Initiation = INITIATION,
    /// Second message of a handshake.
    Response = RESPONSE,
    /// A cookie instead of a response, from a node under load.
    CookieReply = COOKIE_REPLY,
    /// An inner frame, or nothing.
    Data = DATA,
    /// A record between control threads.
    Control = CONTROL,
    /// A node asks a Nucleus for its own address.
    ReflectProbe = REFLECT_PROBE,
    /// The Nucleus answers.
    ReflectAnswer = REFLECT_ANSWER,
}

impl TryFrom<u8> for MessageType {
    type Error = DropReason;

    /// Fails with [`DropReason::HeaderBadType`] for every other octet.
    fn try_from(octet: u8) -> Result<Self, DropReason> {
        match octet {
            INITIATION => Ok(Self::Initiation),
            RESPONSE => Ok(Self::Response),
            COOKIE_REPLY => Ok(Self::CookieReply),
            DATA => Ok(Self::Data),
            CONTROL => Ok(Self::Control),
            REFLECT_PROBE => Ok(Self::ReflectProbe),
            REFLECT_ANSWER => Ok(Self::ReflectAnswer),
            _ => Err(DropReason::HeaderBadType),
        }
    }
}

/// What a message in a session carries.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[repr(u8)]
pub enum DataKind {
    /// An inner frame, or nothing (keepalive).
    Data = DATA,
    /// A record between control threads.
    Control = CONTROL,
}

/// The header of a message in a session, without its tag.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct DataHeader {
    /// The receiver's index of the session, not 0.
    pub session_id: u32,
    /// What the message carries.
    pub kind: DataKind,
    /// The sender's counter space that `nonce` is from.
    pub lane: u16,
    /// How many messages the sender has sent on this lane of this session before.
    pub nonce: u64,
}

impl DataHeader {
    /// Reads the header of a message, the payload of a UDP datagram. The tag is not verified.
    ///
    /// # Errors
    /// [`DropReason::HeaderTooShort`] below 32 octets, [`DropReason::HeaderBadType`] when it is
    /// neither data nor control, [`DropReason::HeaderBadFlags`] for flags other than 0,
    /// [`DropReason::UnknownSession`] for session id 0, in this order.
    #[inline]
    pub fn parse(message: &[u8]) -> Result<Self, DropReason> {
        let octets: &[u8; HEADER_LEN] = message.first_chunk().ok_or(DropReason::HeaderTooShort)?;
        let kind = match octets[TYPE] {
            DATA => DataKind::Data,
            CONTROL => DataKind::Control,
            _ => return Err(DropReason::HeaderBadType),
        };
        if octets[FLAGS] != 0 {
            return Err(DropReason::HeaderBadFlags);
        }
        let [
            s0,
            s1,
            s2,
            s3,
            _,
            _,
            l0,
            l1,
            n0,
            n1,
            n2,
            n3,
            n4,
            n5,
            n6,
            n7,
            ..,
        ] = *octets;
        let session_id = u32::from_be_bytes([s0, s1, s2, s3]);
        if session_id == 0 {
            return Err(DropReason::UnknownSession);
        }
        let lane = u16::from_be_bytes([l0, l1]);
        let nonce = u64::from_be_bytes([n0, n1, n2, n3, n4, n5, n6, n7]);
        Ok(Self {
            session_id,
            kind,
            lane,
            nonce,
        })
    }

    /// Writes the first 16 octets of the message, which are also the associated data of its seal.
    #[inline]
    pub fn emit(&self, out: &mut [u8; AAD_LEN]) {
        out[SESSION_ID..TYPE].copy_from_slice(&self.session_id.to_be_bytes());
        out[TYPE] = self.kind as u8;
        out[FLAGS] = 0;
        out[LANE..NONCE].copy_from_slice(&self.lane.to_be_bytes());
        out[NONCE..].copy_from_slice(&self.nonce.to_be_bytes());
    }

    /// The nonce of the seal (RFC 8439 s.2.8): two zero octets, lane, nonce.
    #[inline]
    #[must_use]
    pub fn aead_nonce(&self) -> [u8; 12] {
        let mut out = [0; 12];
        out[2..4].copy_from_slice(&self.lane.to_be_bytes());
        out[4..].copy_from_slice(&self.nonce.to_be_bytes());
        out
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn message(header: DataHeader) -> [u8; HEADER_LEN] {
        let mut octets = [0xaa; HEADER_LEN];
        header.emit(
            octets
                .first_chunk_mut()
                .expect("the header is longer than its first part"),
        );
        octets
    }

    const SAMPLE: DataHeader = DataHeader {
        session_id: 0xa0b0_c0d0,
        kind: DataKind::Data,
        lane: 0x0102,
        nonce: 0x1112_1314_1516_1718,
    };

    #[test]
    fn fields_lie_where_the_document_says() {
        let octets = message(SAMPLE);
        let expected = [
            0xa0, 0xb0, 0xc0, 0xd0, 4, 0, 1, 2, 0x11, 0x12, 0x13, 0x14, 0x15, 0x16, 0x17, 0x18,
        ];
        assert_eq!(octets[..AAD_LEN], expected);
        assert_eq!(octets[AAD_LEN..], [0xaa; 16], "the tag is not touched");
        assert_eq!(SAMPLE.aead_nonce()[..2], [0, 0]);
        assert_eq!(SAMPLE.aead_nonce()[2..], expected[6..]);
    }

    #[test]
    fn shorter_than_the_header_is_refused_at_every_length() {
        let octets = message(SAMPLE);
        for len in 0..HEADER_LEN {
            assert_eq!(
                DataHeader::parse(&octets[..len]),
                Err(DropReason::HeaderTooShort)
            );
        }
        assert_eq!(DataHeader::parse(&octets), Ok(SAMPLE));
    }

    #[test]
    fn only_types_data_and_control_without_flags_pass() {
        for kind in 0..=u8::MAX {
            for flags in 0..=u8::MAX {
                let mut octets = message(SAMPLE);
                octets[TYPE] = kind;
                octets[FLAGS] = flags;
                let expected = match (kind, flags) {
                    (DATA, 0) => Ok(SAMPLE),
                    (CONTROL, 0) => Ok(DataHeader {
                        kind: DataKind::Control,
                        ..SAMPLE
                    }),
                    (DATA | CONTROL, _) => Err(DropReason::HeaderBadFlags),
                    _ => Err(DropReason::HeaderBadType),
                };
                assert_eq!(
                    DataHeader::parse(&octets),
                    expected,
                    "type {kind} flags {flags}"
                );
            }
        }
    }

    #[test]
    fn every_lane_reads_back_and_reaches_the_nonce() {
        for lane in 0..=u16::MAX {
            let header = DataHeader { lane, ..SAMPLE };
            assert_eq!(DataHeader::parse(&message(header)), Ok(header));
            assert_eq!(header.aead_nonce()[2..4], lane.to_be_bytes());
        }
    }

    #[test]
    fn session_zero_is_never_a_session() {
        let octets = message(DataHeader {
            session_id: 0,
            ..SAMPLE
        });
        assert_eq!(DataHeader::parse(&octets), Err(DropReason::UnknownSession));
    }

    #[test]
    fn every_type_octet_is_known_or_refused() {
        for octet in 0..=u8::MAX {
            match MessageType::try_from(octet) {
                Ok(kind) => assert_eq!(kind as u8, octet),
                Err(reason) => {
                    assert_eq!(reason, DropReason::HeaderBadType);
                    assert!(!matches!(octet, 1..=5 | 16 | 17));
                }
            }
        }
    }

    proptest! {
        #[test]
        fn emitted_headers_read_back(session_id in 1u32.., control: bool, lane: u16, nonce: u64) {
            let kind = if control { DataKind::Control } else { DataKind::Data };
            let header = DataHeader { session_id, kind, lane, nonce };
            prop_assert_eq!(DataHeader::parse(&message(header)), Ok(header));
        }

        #[test]
        fn accepted_octets_are_what_would_be_emitted(mut octets: [u8; HEADER_LEN]) {
            octets[TYPE] = DATA + (octets[TYPE] & 1);
            octets[FLAGS] = 0;
            octets[0] |= 1;
            let header = DataHeader::parse(&octets).expect("made valid");
            prop_assert_eq!(&message(header)[..AAD_LEN], &octets[..AAD_LEN]);
        }

        #[test]
        fn any_octets_give_a_value_or_a_reason(
            octets in proptest::collection::vec(any::<u8>(), 0..80),
        ) {
            let _ = DataHeader::parse(&octets);
        }
    }
}
