//! The network between the hosts: what becomes of a message on its way.
//!
//! It hands every message on as it is, to the address that the message names, unless the weather
//! or a cut is against it. What was ever sent may be sent again by somebody else.

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use crate::random::Rng;

/// How many messages are kept for replay. A full archive forgets at random, so that some very old
/// ones stay.
const ARCHIVE: usize = 2048;
/// Where an untagged frame has its IPv4 source.
const IPV4_SOURCE: usize = 26;
/// Where an untagged frame has its IPv6 source.
const IPV6_SOURCE: usize = 22;

/// What the network does to messages. Chances are in millionths.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Weather {
    /// The shortest time on the way. Each pair of hosts has its own, from this to `latency_max`.
    pub latency_min: Duration,
    /// The longest time on the way of a message that is not held up.
    pub latency_max: Duration,
    /// Chance of being lost.
    pub loss: u32,
    /// Chance that a copy follows.
    pub duplication: u32,
    /// Chance of being held up, so that later ones overtake.
    pub reordering: u32,
    /// How long at most.
    pub held_up: Duration,
    /// Chance that bits flip.
    pub corruption: u32,
    /// Chance of being cut short.
    pub truncation: u32,
    /// Chance that anything that was ever sent follows.
    pub replay: u32,
}

impl Weather {
    /// Nothing is lost, and nothing overtakes.
    #[must_use]
    pub const fn clear() -> Self {
        Self {
            latency_min: Duration::from_micros(100),
            latency_max: Duration::from_millis(40),
            loss: 0,
            duplication: 0,
            reordering: 0,
            held_up: Duration::from_millis(50),
            corruption: 0,
            truncation: 0,
            replay: 0,
        }
    }

    /// One of several kinds, from clear to foul.
    pub(crate) fn draw(rng: &mut Rng) -> Self {
        let clear = Self::clear();
        match rng.below(7) {
            0 | 1 => clear,
            2 => Self {
                loss: 50_000,
                ..clear
            },
            3 => Self {
                loss: 300_000,
                ..clear
            },
            4 => Self {
                reordering: 300_000,
                duplication: 50_000,
                ..clear
            },
            5 => Self {
                corruption: 30_000,
                truncation: 10_000,
                replay: 50_000,
                ..clear
            },
            _ => Self {
                latency_max: Duration::from_millis(200),
                loss: 20_000,
                duplication: 20_000,
                reordering: 100_000,
                held_up: Duration::from_millis(400),
                corruption: 10_000,
                truncation: 5_000,
                replay: 20_000,
                ..clear
            },
        }
    }
}

/// Which socket of the receiver a message is for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Carried {
    /// A whole frame with its outer headers, for a worker.
    Data,
    /// The payload of a datagram, for the control thread.
    Handshake,
}

/// A message on its way.
#[derive(Clone, Debug)]
pub(crate) struct Envelope {
    pub(crate) carried: Carried,
    /// Who sent it; `None` when it is nobody of the fabric.
    pub(crate) from: Option<usize>,
    pub(crate) source: SocketAddr,
    pub(crate) destination: SocketAddr,
    pub(crate) octets: Vec<u8>,
    /// Whether the octets are those that its sender sent.
    pub(crate) genuine: bool,
}

/// The network.
#[derive(Debug)]
pub(crate) struct Network {
    pub(crate) weather: Weather,
    rng: Rng,
    /// Hosts that reach nobody, and pairs that do not reach each other.
    cuts: BTreeSet<(usize, Option<usize>)>,
    archive: Vec<Envelope>,
    /// Every message, while that is wanted.
    pub(crate) tape: Option<Vec<Envelope>>,
    /// What makes the latency of a pair its own.
    salt: u64,
}

impl Network {
    pub(crate) fn new(weather: Weather, mut rng: Rng) -> Self {
        let salt = rng.next();
        Self {
            weather,
            rng,
            cuts: BTreeSet::new(),
            archive: Vec::new(),
            tape: None,
            salt,
        }
    }

    /// Separates a host from all others, or from one.
    pub(crate) fn cut(&mut self, one: usize, other: Option<usize>) {
        self.cuts.insert((one, other));
    }

    /// Ends a cut.
    pub(crate) fn heal(&mut self, one: usize, other: Option<usize>) {
        self.cuts.remove(&(one, other));
    }

    /// Ends all cuts.
    pub(crate) fn heal_all(&mut self) {
        self.cuts.clear();
    }

    /// Whether nothing gets from one host to another.
    pub(crate) fn is_cut(&self, from: Option<usize>, to: usize) -> bool {
        let isolated = |host| self.cuts.contains(&(host, None));
        isolated(to)
            || from.is_some_and(|from| {
                isolated(from)
                    || self.cuts.contains(&(from, Some(to)))
                    || self.cuts.contains(&(to, Some(from)))
            })
    }

    /// Sends a message. Says what arrives of it, if nothing else is in its way, and after how
    /// long: nothing, itself, or more.
    pub(crate) fn carry(&mut self, envelope: Envelope) -> Vec<(Duration, Envelope)> {
        let weather = self.weather;
        let latency = self.latency(&envelope);
        let mut arriving = Vec::new();
        if self.rng.chance(weather.duplication) {
            let again = latency + self.rng.span(Duration::ZERO, weather.held_up);
            arriving.push((again, envelope.clone()));
        }
        if self.rng.chance(weather.replay)
            && let Some(old) = self.recall()
        {
            arriving.push((latency, old));
        }
        self.keep(&envelope);
        if self.rng.chance(weather.loss) {
            return arriving;
        }
        let held_up = if self.rng.chance(weather.reordering) {
            self.rng.span(Duration::ZERO, weather.held_up)
        } else {
            Duration::ZERO
        };
        let mut envelope = envelope;
        if self.rng.chance(weather.corruption) {
            self.flip(&mut envelope);
        }
        if self.rng.chance(weather.truncation) {
            self.truncate(&mut envelope);
        }
        arriving.push((latency + held_up, envelope));
        arriving
    }

    /// A copy of anything that was ever sent. Some seem to come from elsewhere.
    pub(crate) fn recall(&mut self) -> Option<Envelope> {
        if self.archive.is_empty() {
            return None;
        }
        let at = self.rng.below(self.archive.len());
        let mut old = self.archive[at].clone();
        old.from = None;
        if self.rng.chance(100_000) {
            self.disguise(&mut old);
        }
        Some(old)
    }

    /// Something that looks like a message of the fabric, and is none.
    pub(crate) fn forge(&mut self) -> Option<Envelope> {
        let mut forged = self.recall()?;
        match self.rng.below(4) {
            0 => self.truncate(&mut forged),
            1 => {
                // All but the first header, so that it still finds its way.
                let from = self.rng.below(forged.octets.len());
                for octet in &mut forged.octets[from..] {
                    *octet = self.rng.next() as u8;
                }
                forged.genuine = false;
            }
            _ => self.flip(&mut forged),
        }
        Some(forged)
    }

    /// The time on the way, which every message from one address to another takes unless it is
    /// held up: what is not held up stays in order.
    fn latency(&self, envelope: &Envelope) -> Duration {
        let number = |address: SocketAddr| match address.ip() {
            IpAddr::V4(ip) => u64::from(ip.to_bits()),
            IpAddr::V6(ip) => ip.to_bits() as u64,
        };
        let ends = number(envelope.source) << 32 ^ number(envelope.destination);
        let Weather {
            latency_min,
            latency_max,
            ..
        } = self.weather;
        Rng::new(self.salt, ends).span(latency_min, latency_max)
    }

    fn keep(&mut self, envelope: &Envelope) {
        if let Some(tape) = &mut self.tape {
            tape.push(envelope.clone());
        }
        if self.archive.len() < ARCHIVE {
            self.archive.push(envelope.clone());
        } else {
            let at = self.rng.below(ARCHIVE);
            self.archive[at] = envelope.clone();
        }
    }

    fn flip(&mut self, envelope: &mut Envelope) {
        for _ in 0..=self.rng.below(3) {
            let at = self.rng.below(envelope.octets.len());
            if let Some(octet) = envelope.octets.get_mut(at) {
                *octet ^= 1 << self.rng.below(8);
                envelope.genuine = false;
            }
        }
    }

    fn truncate(&mut self, envelope: &mut Envelope) {
        let len = self.rng.below(envelope.octets.len());
        envelope.octets.truncate(len);
        envelope.genuine = false;
    }

    /// Gives a message a source that is nobody's.
    fn disguise(&mut self, envelope: &mut Envelope) {
        let octet = self.rng.next() as u8;
        if envelope.carried == Carried::Data {
            let at = if envelope.source.is_ipv4() {
                IPV4_SOURCE
            } else {
                IPV6_SOURCE
            };
            if let Some(first) = envelope.octets.get_mut(at) {
                *first = octet;
            }
        } else if let IpAddr::V4(ip) = envelope.source.ip() {
            let [_, b, c, d] = ip.octets();
            envelope.source.set_ip(IpAddr::from([octet, b, c, d]));
        } else {
            envelope.source.set_port(u16::from(octet) + 1);
        }
    }
}
