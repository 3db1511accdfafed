//! What the two sides of a handshake say of themselves, sealed in its Noise messages.

use super::{field, field_mut};
use crate::DropReason;
use crate::limits::MAX_LANES;

/// Length of a TAI64N timestamp.
const TIMESTAMP_LEN: usize = 12;
/// Length of the number of lanes.
const LANES_LEN: usize = 2;
/// Length of the largest inner frame.
const MAX_FRAME_LEN: usize = 2;
/// Length of the capabilities.
const CAPABILITIES_LEN: usize = 4;

const INITIATION_LANES: usize = TIMESTAMP_LEN;
const INITIATION_MAX_FRAME: usize = INITIATION_LANES + LANES_LEN;
const INITIATION_CAPABILITIES: usize = INITIATION_MAX_FRAME + MAX_FRAME_LEN;
const INITIATION_RESERVED: usize = INITIATION_CAPABILITIES + CAPABILITIES_LEN;

const RESPONSE_LANES: usize = 0;
const RESPONSE_MAX_FRAME: usize = RESPONSE_LANES + LANES_LEN;
const RESPONSE_CAPABILITIES: usize = RESPONSE_MAX_FRAME + MAX_FRAME_LEN;
const RESPONSE_RESERVED: usize = RESPONSE_CAPABILITIES + CAPABILITIES_LEN;

/// Length of the payload of a Noise message 1, before sealing.
pub const INITIATION_PAYLOAD_LEN: usize = INITIATION_RESERVED + 8;
/// Length of the payload of a Noise message 2, before sealing.
pub const RESPONSE_PAYLOAD_LEN: usize = RESPONSE_RESERVED + 12;

/// What an initiator says of itself, sealed in Noise message 1.
///
/// # Layout
/// timestamp (12), lanes (2), largest inner frame (2), capabilities (4), reserved zero (8).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct InitiationPayload {
    /// When, as a [`Tai64n`](super::Tai64n); greater than in every initiation before.
    pub timestamp: [u8; TIMESTAMP_LEN],
    /// How many lanes it sends on, 1..=256.
    pub lanes: u16,
    /// The longest inner frame that it accepts, in octets from the destination MAC on.
    pub max_frame: u16,
    /// What it can do beyond version 1, one bit each.
    pub capabilities: u32,
}

impl InitiationPayload {
    /// Reads an opened payload. Reserved octets are ignored.
    ///
    /// # Errors
    /// [`DropReason::HandshakeBadPayload`] for lanes of 0 or over 256.
    pub fn parse(octets: &[u8; INITIATION_PAYLOAD_LEN]) -> Result<Self, DropReason> {
        Ok(Self {
            timestamp: *field::<0, _, _>(octets),
            lanes: lanes(*field::<INITIATION_LANES, _, _>(octets))?,
            max_frame: u16::from_be_bytes(*field::<INITIATION_MAX_FRAME, _, _>(octets)),
            capabilities: u32::from_be_bytes(*field::<INITIATION_CAPABILITIES, _, _>(octets)),
        })
    }

    /// The payload to be sealed.
    #[must_use]
    pub fn emit(&self) -> [u8; INITIATION_PAYLOAD_LEN] {
        let mut out = [0; INITIATION_PAYLOAD_LEN];
        *field_mut::<0, _, _>(&mut out) = self.timestamp;
        *field_mut::<INITIATION_LANES, _, _>(&mut out) = self.lanes.to_be_bytes();
        *field_mut::<INITIATION_MAX_FRAME, _, _>(&mut out) = self.max_frame.to_be_bytes();
        *field_mut::<INITIATION_CAPABILITIES, _, _>(&mut out) = self.capabilities.to_be_bytes();
        out
    }
}

/// What a responder says of itself, sealed in Noise message 2.
///
/// # Layout
/// lanes (2), largest inner frame (2), capabilities (4), reserved zero (12).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ResponsePayload {
    /// How many lanes it sends on, 1..=256.
    pub lanes: u16,
    /// The longest inner frame that it accepts, in octets from the destination MAC on.
    pub max_frame: u16,
    /// What it can do beyond version 1, one bit each.
    pub capabilities: u32,
}

impl ResponsePayload {
    /// Reads an opened payload. Reserved octets are ignored.
    ///
    /// # Errors
    /// [`DropReason::HandshakeBadPayload`] for lanes of 0 or over 256.
    pub fn parse(octets: &[u8; RESPONSE_PAYLOAD_LEN]) -> Result<Self, DropReason> {
        Ok(Self {
            lanes: lanes(*field::<RESPONSE_LANES, _, _>(octets))?,
            max_frame: u16::from_be_bytes(*field::<RESPONSE_MAX_FRAME, _, _>(octets)),
            capabilities: u32::from_be_bytes(*field::<RESPONSE_CAPABILITIES, _, _>(octets)),
        })
    }

    /// The payload to be sealed.
    #[must_use]
    pub fn emit(&self) -> [u8; RESPONSE_PAYLOAD_LEN] {
        let mut out = [0; RESPONSE_PAYLOAD_LEN];
        *field_mut::<RESPONSE_LANES, _, _>(&mut out) = self.lanes.to_be_bytes();
        *field_mut::<RESPONSE_MAX_FRAME, _, _>(&mut out) = self.max_frame.to_be_bytes();
        *field_mut::<RESPONSE_CAPABILITIES, _, _>(&mut out) = self.capabilities.to_be_bytes();
        out
    }
}

/// A number of lanes within its limits.
fn lanes(octets: [u8; LANES_LEN]) -> Result<u16, DropReason> {
    let lanes = u16::from_be_bytes(octets);
    if (1..=MAX_LANES).contains(&lanes) {
        Ok(lanes)
    } else {
        Err(DropReason::HandshakeBadPayload)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn lanes_must_be_1_to_256() {
        for lanes in 0..=u16::MAX {
            let first = InitiationPayload {
                timestamp: [7; TIMESTAMP_LEN],
                lanes,
                max_frame: 1440,
                capabilities: 0,
            };
            let second = ResponsePayload {
                lanes,
                max_frame: 1440,
                capabilities: 0,
            };
            let (first_read, second_read) = (
                InitiationPayload::parse(&first.emit()),
                ResponsePayload::parse(&second.emit()),
            );
            if (1..=256).contains(&lanes) {
                assert_eq!((first_read, second_read), (Ok(first), Ok(second)));
            } else {
                assert_eq!(first_read, Err(DropReason::HandshakeBadPayload), "{lanes}");
                assert_eq!(second_read, Err(DropReason::HandshakeBadPayload), "{lanes}");
            }
        }
    }

    #[test]
    fn fields_lie_where_the_document_says() {
        let octets = core::array::from_fn(|at| if at == 12 { 0 } else { at as u8 });
        let payload = InitiationPayload::parse(&octets).expect("13 lanes");
        assert_eq!(payload.timestamp[..], octets[..12]);
        assert_eq!((payload.lanes, payload.max_frame), (13, 0x0e0f));
        assert_eq!(payload.capabilities, 0x1011_1213);
        let octets = core::array::from_fn(|at| at as u8);
        let payload = ResponsePayload::parse(&octets).expect("1 lane");
        assert_eq!((payload.lanes, payload.max_frame), (1, 0x0203));
        assert_eq!(payload.capabilities, 0x0405_0607);
    }

    proptest! {
        #[test]
        fn initiation_payloads_read_back_whatever_is_reserved(
            timestamp: [u8; 12],
            lanes in 1u16..=256,
            max_frame: u16,
            capabilities: u32,
            reserved: [u8; 8],
        ) {
            let payload = InitiationPayload { timestamp, lanes, max_frame, capabilities };
            let mut octets = payload.emit();
            prop_assert_eq!(&octets[INITIATION_RESERVED..], [0u8; 8]);
            octets[INITIATION_RESERVED..].copy_from_slice(&reserved);
            prop_assert_eq!(InitiationPayload::parse(&octets), Ok(payload));
        }

        #[test]
        fn response_payloads_read_back_whatever_is_reserved(
            lanes in 1u16..=256,
            max_frame: u16,
            capabilities: u32,
            reserved: [u8; 12],
        ) {
            let payload = ResponsePayload { lanes, max_frame, capabilities };
            let mut octets = payload.emit();
            prop_assert_eq!(&octets[RESPONSE_RESERVED..], [0u8; 12]);
            octets[RESPONSE_RESERVED..].copy_from_slice(&reserved);
            prop_assert_eq!(ResponsePayload::parse(&octets), Ok(payload));
        }
    }
}
