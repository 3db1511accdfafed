//! What a flood is made of: a ring of messages, made before the first is sent, so that making them
//! costs nothing while something is measured. What must differ each time is patched in.

use blake2::digest::consts::U16;
use blake2::digest::{KeyInit, Mac as _};
use blake2::{Blake2s256, Blake2sMac, Digest as _};
use clap::ValueEnum;
use omni_control::PublicKey;
use omni_wire::handshake::{INITIATION_LEN, INITIATION_NOISE_LEN, MAC_LEN};
use omni_wire::header::{DATA, INITIATION};
use omni_wire::limits::{HEADER_LEN, PROTOCOL_VERSION};

use crate::Failure;

/// Distinct messages in a ring.
pub(crate) const RING_LEN: usize = 4096;
/// Where mac1 begins in an initiation.
const MAC1: usize = INITIATION_LEN - 2 * MAC_LEN;
/// Where the nonce is in a data message.
const NONCE: std::ops::Range<usize> = 8..16;
/// The longest junk, in octets: beyond the longest handshake message.
const JUNK_MAX: usize = 200;
/// Forged nonces begin here: beyond what a session in use has come to, below the reject limit.
const FIRST_NONCE: u64 = 1 << 40;

/// Kinds of messages.
#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
pub(crate) enum Kind {
    /// Random octets without a session id, of random length.
    Junk,
    /// Initiations of the right form whose mac1 is random.
    BadMac,
    /// Initiations whose mac1 is right, and nothing else.
    ValidMac,
    /// Data in a given session under nonces that are not used yet: the tag must be computed.
    ForgedData,
    /// Data in sessions that do not exist.
    UnknownSession,
    /// Messages of a file, again and again.
    Recorded,
}

/// What the kinds need to know.
#[derive(Debug, Default)]
pub(crate) struct Recipe {
    /// For [`Kind::ValidMac`]: the receiver's.
    pub(crate) target_key: Option<PublicKey>,
    /// For [`Kind::ForgedData`]: the receiver's index of a session.
    pub(crate) session_id: Option<u32>,
    /// For both kinds of data.
    pub(crate) lane: u16,
    /// Octets of a data message, its header included.
    pub(crate) length: usize,
    /// For [`Kind::Recorded`].
    pub(crate) recorded: Vec<Vec<u8>>,
}

/// The messages, and what changes about them.
#[derive(Debug)]
pub(crate) struct Ring {
    /// All of them; never empty.
    pub(crate) messages: Vec<Vec<u8>>,
    /// The next nonce, where each message has its own.
    next_nonce: Option<u64>,
}

impl Ring {
    /// Makes a ring.
    ///
    /// # Errors
    /// When the recipe lacks something.
    pub(crate) fn new(kind: Kind, recipe: Recipe) -> Result<Self, Failure> {
        let mut dice = Dice::new();
        let repeat = |make: &mut dyn FnMut() -> Vec<u8>| (0..RING_LEN).map(|_| make()).collect();
        let length = recipe.length.max(HEADER_LEN);
        let messages: Vec<Vec<u8>> = match kind {
            Kind::Junk => repeat(&mut || junk(&mut dice)),
            Kind::BadMac => repeat(&mut || initiation(&mut dice)),
            Kind::ValidMac => {
                let key = recipe.target_key.ok_or("valid-mac needs --target-key")?;
                let key = mac1_key(&key);
                repeat(&mut || with_mac1(initiation(&mut dice), &key))
            }
            Kind::ForgedData => {
                let session_id = recipe.session_id.ok_or("forged-data needs --session-id")?;
                repeat(&mut || data(&mut dice, session_id, recipe.lane, length))
            }
            Kind::UnknownSession => repeat(&mut || {
                let session_id = dice.roll() as u32 | 1;
                data(&mut dice, session_id, recipe.lane, length)
            }),
            Kind::Recorded => recipe.recorded,
        };
        if messages.is_empty() {
            return Err("recorded needs --messages, with at least one in it".into());
        }
        let counts = matches!(kind, Kind::ForgedData | Kind::UnknownSession);
        Ok(Self {
            messages,
            next_nonce: counts.then_some(FIRST_NONCE),
        })
    }

    /// Changes what must be another each time in `message`, which is one of the ring's.
    pub(crate) fn refresh(next_nonce: &mut Option<u64>, message: &mut [u8]) {
        if let (Some(nonce), Some(field)) = (next_nonce, message.get_mut(NONCE)) {
            field.copy_from_slice(&nonce.to_be_bytes());
            *nonce += 1;
        }
    }

    /// The messages, and the nonce to give to [`Ring::refresh`].
    pub(crate) fn into_parts(self) -> (Vec<Vec<u8>>, Option<u64>) {
        (self.messages, self.next_nonce)
    }
}

/// Messages as text: one a line, in hex.
pub(crate) fn to_lines(messages: &[Vec<u8>]) -> String {
    let mut lines = String::new();
    for message in messages {
        let hex: String = message.iter().map(|octet| format!("{octet:02x}")).collect();
        lines += &hex;
        lines.push('\n');
    }
    lines
}

/// The opposite of [`to_lines`].
///
/// # Errors
/// Names the first line that is no hex.
pub(crate) fn from_lines(text: &str) -> Result<Vec<Vec<u8>>, Failure> {
    let parse = |(number, line): (usize, &str)| {
        let octets: Option<Vec<u8>> = line
            .as_bytes()
            .chunks(2)
            .map(|pair| {
                let digits = std::str::from_utf8(pair).ok().filter(|d| d.len() == 2)?;
                u8::from_str_radix(digits, 16).ok()
            })
            .collect();
        octets.ok_or_else(|| Failure::from(format!("line {number} is not octets in hex")))
    };
    (1..).zip(text.lines()).map(parse).collect()
}

/// Numbers that look random and are the same each time (xorshift64, Marsaglia 2003).
#[derive(Debug)]
pub(crate) struct Dice(u64);

impl Dice {
    /// The one sequence there is.
    pub(crate) const fn new() -> Self {
        Self(0x6f6d_6e69_6e65_7276)
    }

    /// The next number.
    pub(crate) const fn roll(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn octets(&mut self, count: usize) -> Vec<u8> {
        (0..count).map(|_| (self.roll() >> 32) as u8).collect()
    }
}

fn junk(dice: &mut Dice) -> Vec<u8> {
    let count = dice.roll() as usize % (JUNK_MAX - 4);
    [vec![0; 4], dice.octets(count)].concat()
}

/// The right form; ephemeral key, sealed fields and mac1 are random, mac2 is zero.
fn initiation(dice: &mut Dice) -> Vec<u8> {
    let [v0, v1] = PROTOCOL_VERSION.to_be_bytes();
    let prefix = [0, 0, 0, 0, INITIATION, 0, v0, v1];
    let sender = (dice.roll() as u32 | 1).to_be_bytes();
    let noise = dice.octets(INITIATION_NOISE_LEN);
    let mac1 = dice.octets(MAC_LEN);
    [&prefix[..], &sender, &noise, &mac1, &[0; MAC_LEN]].concat()
}

/// The key of mac1 in messages to `receiver` (protocol, section 3).
fn mac1_key(receiver: &PublicKey) -> [u8; 32] {
    let hash = Blake2s256::new().chain_update(b"omni-mac1---");
    hash.chain_update(receiver.0).finalize().into()
}

fn with_mac1(mut initiation: Vec<u8>, key: &[u8; 32]) -> Vec<u8> {
    let (covered, macs) = initiation.split_at_mut(MAC1);
    let mac = <Blake2sMac<U16> as KeyInit>::new_from_slice(key)
        .unwrap_or_else(|_| unreachable!("BLAKE2s takes keys of 32 octets"));
    let mac1 = mac.chain_update(covered).finalize().into_bytes();
    macs[..MAC_LEN].copy_from_slice(&mac1);
    initiation
}

fn data(dice: &mut Dice, session_id: u32, lane: u16, length: usize) -> Vec<u8> {
    let (id, lane) = (session_id.to_be_bytes(), lane.to_be_bytes());
    let prefix = [&id[..], &[DATA, 0], &lane, &[0; 8]].concat();
    let rest = dice.octets(length - prefix.len());
    [prefix, rest].concat()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stranger::Stranger;
    use omni_control::PrivateKey;
    use omni_wire::handshake::{Initiation, classify};
    use omni_wire::header::{DataHeader, MessageType};

    fn recipe() -> Recipe {
        Recipe {
            target_key: Some(PublicKey([9; 32])),
            session_id: Some(0x0102_0304),
            lane: 3,
            length: 96,
            recorded: vec![vec![1, 2]],
        }
    }

    fn ring(kind: Kind) -> Vec<Vec<u8>> {
        Ring::new(kind, recipe()).expect("a ring").messages
    }

    #[test]
    fn mac1_is_the_one_that_nodes_make() {
        let (ours, theirs) = (PrivateKey([1; 32]), PublicKey([9; 32]));
        let there = ([127, 0, 0, 1], 1).into();
        let mut stranger = Stranger::new("test", ours, theirs, there).expect("a peer");
        let genuine = stranger.poll_transmit().expect("an initiation");
        let mut spoiled = genuine.clone();
        spoiled[MAC1..].fill(0xff);
        let mended = with_mac1(spoiled, &mac1_key(&theirs));
        assert_eq!(mended[..MAC1 + MAC_LEN], genuine[..MAC1 + MAC_LEN]);
    }

    #[test]
    fn initiations_have_the_right_form_and_differ() {
        for kind in [Kind::BadMac, Kind::ValidMac] {
            let mut messages = ring(kind);
            assert!(messages.iter().all(|m| Initiation::parse(m).is_ok()));
            messages.sort();
            messages.dedup();
            assert_eq!(messages.len(), RING_LEN);
        }
    }

    #[test]
    fn junk_has_no_session_id_and_is_no_handshake() {
        let messages = ring(Kind::Junk);
        assert!(messages.iter().all(|message| message.starts_with(&[0; 4])));
        let handshakes = messages.iter().filter(|message| {
            let kind = classify(message);
            matches!(kind, Ok(MessageType::Initiation | MessageType::Response))
        });
        assert_eq!(handshakes.count(), 0);
    }

    #[test]
    fn forged_data_is_in_the_session_and_no_nonce_comes_twice() {
        let ring = Ring::new(Kind::ForgedData, recipe()).expect("a ring");
        let (mut messages, mut next_nonce) = ring.into_parts();
        let mut last = 0;
        for message in messages.iter_mut() {
            Ring::refresh(&mut next_nonce, message);
            let header = DataHeader::parse(message).expect("a header");
            assert_eq!((header.session_id, header.lane), (0x0102_0304, 3));
            assert!(header.nonce > last);
            last = header.nonce;
            assert_eq!(message.len(), 96);
        }
    }

    #[test]
    fn what_is_recorded_is_not_changed() {
        let ring = Ring::new(Kind::Recorded, recipe()).expect("a ring");
        let (mut messages, mut next_nonce) = ring.into_parts();
        Ring::refresh(&mut next_nonce, &mut messages[0]);
        assert_eq!(messages, [[1, 2]]);
    }

    #[test]
    fn what_is_missing_is_named() {
        for (kind, named) in [
            (Kind::ValidMac, "--target-key"),
            (Kind::ForgedData, "--session-id"),
            (Kind::Recorded, "--messages"),
        ] {
            let refused = Ring::new(kind, Recipe::default()).err();
            let text = refused.map(|error| error.to_string()).unwrap_or_default();
            assert!(text.contains(named), "{text}");
        }
    }

    #[test]
    fn messages_survive_their_way_through_a_file() {
        let messages = vec![vec![0, 1, 0xff], vec![0x80]];
        let lines = to_lines(&messages);
        assert_eq!(lines, "0001ff\n80\n");
        assert_eq!(from_lines(&lines).expect("hex"), messages);
        for bad in ["0", "0g", "00\n1", "\u{e9}\u{e9}"] {
            assert!(from_lines(bad).is_err(), "{bad:?}");
        }
    }
}
