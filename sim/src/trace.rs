//! What is kept of a run: a digest of everything, and the last steps in words.

use std::collections::VecDeque;
use std::hash::{Hash, Hasher};
use std::net::SocketAddr;
use std::time::Duration;

use omni_wire::Instant;

use crate::network::Weather;

/// How many steps a report shows.
const SHOWN: usize = 30;

/// Something that happened.
#[derive(Clone, Debug, Hash)]
pub(crate) enum Step {
    Frame {
        number: u64,
        host: usize,
        worker: usize,
        to: Option<usize>,
        vlan: Option<u16>,
    },
    Sealed {
        from: usize,
        to: usize,
        session: u32,
        lane: u16,
        nonce: u64,
    },
    Handshake {
        from: usize,
        to: SocketAddr,
        kind: u8,
    },
    Arrived {
        host: usize,
        from: Option<usize>,
        len: usize,
        genuine: bool,
    },
    Lost {
        from: Option<usize>,
        to: SocketAddr,
        why: &'static str,
    },
    Delivered {
        host: usize,
        number: u64,
    },
    Told {
        host: usize,
        octets: Vec<u8>,
    },
    Session {
        host: usize,
        peer: usize,
        id: u32,
        initiator: bool,
    },
    Erased {
        host: usize,
        id: u32,
    },
    Answered {
        host: usize,
        to: SocketAddr,
    },
    Path {
        host: usize,
        peer: usize,
        to: SocketAddr,
    },
    Changed(Weather),
    Moved {
        station: usize,
        to: usize,
    },
    Replaced {
        station: usize,
    },
    Roamed {
        host: usize,
        to: SocketAddr,
    },
    Injected {
        copies: usize,
        forged: bool,
    },
    Cut {
        one: usize,
        other: Option<usize>,
        span: Duration,
    },
    Healed {
        one: usize,
        other: Option<usize>,
    },
    Restarted {
        host: usize,
        down: Duration,
    },
    Booted {
        host: usize,
    },
    Clock {
        host: usize,
        ahead_s: i64,
    },
    Stopped {
        host: usize,
        span: Duration,
    },
    Resumed {
        host: usize,
    },
    FaultsEnd,
}

/// A digest of all that happened, in order.
#[derive(Debug)]
pub(crate) struct Trace {
    digest: Digest,
    steps: u64,
    last: VecDeque<(Instant, Step)>,
}

impl Trace {
    pub(crate) fn new(seed: u64) -> Self {
        let mut digest = Digest::default();
        digest.write_u64(seed);
        Self {
            digest,
            steps: 0,
            last: VecDeque::with_capacity(SHOWN),
        }
    }

    /// Takes in a step.
    pub(crate) fn note(&mut self, at: Instant, step: Step) {
        at.hash(&mut self.digest);
        step.hash(&mut self.digest);
        self.steps += 1;
        if self.last.len() == SHOWN {
            self.last.pop_front();
        }
        self.last.push_back((at, step));
    }

    /// Takes in octets that went over the wire.
    pub(crate) fn octets(&mut self, octets: &[u8]) {
        self.digest.write(octets);
    }

    /// The digest so far.
    pub(crate) fn digest(&self) -> u64 {
        self.digest.finish()
    }

    /// How many steps there were.
    pub(crate) fn steps(&self) -> u64 {
        self.steps
    }

    /// The last steps, oldest first, one line each.
    pub(crate) fn tail(&self) -> Vec<String> {
        let line = |(at, step): &(Instant, Step)| format!("{at:?}  {step:?}");
        self.last.iter().map(line).collect()
    }
}

/// A 64-bit hash of octets, the same on every machine. Each round is a bijection of the state, so
/// two texts of one length that differ in a single word never collide.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Digest(u64);

impl Default for Digest {
    fn default() -> Self {
        Self(0x243f_6a88_85a3_08d3)
    }
}

impl Digest {
    /// The digest of `octets` alone.
    pub(crate) fn of(octets: &[u8]) -> u64 {
        let mut digest = Self::default();
        digest.write(octets);
        digest.0
    }

    fn round(&mut self, word: u64) {
        self.0 = (self.0 ^ word).wrapping_mul(0x9fb2_1c65_1e98_df25);
        self.0 ^= self.0 >> 31;
    }
}

impl Hasher for Digest {
    fn write(&mut self, bytes: &[u8]) {
        let (words, rest) = bytes.as_chunks::<8>();
        for word in words {
            self.round(u64::from_le_bytes(*word));
        }
        let mut last = [0; 8];
        last[..rest.len()].copy_from_slice(rest);
        self.round(u64::from_le_bytes(last));
        self.round(bytes.len() as u64);
    }

    fn finish(&self) -> u64 {
        self.0
    }
}
