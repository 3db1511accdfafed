//! How much work handshakes may cause: when we are under load, and how much of it one source gets.

use core::net::{IpAddr, Ipv6Addr};
use core::time::Duration;
use std::collections::BTreeMap;

use omni_wire::Instant;

/// Handshake messages with a valid mac1 that are worked on every second before cookies are asked
/// for. At half a millisecond of public-key work each, this is an eighth of a core.
const HANDSHAKES_PER_SECOND: u32 = 256;

/// As many at once before that: the peers of a whole fabric that start together, and no less than
/// the driver's filter lets through of a flood from everywhere before it has only its rate.
const HANDSHAKE_BURST: u32 = 512;

/// How long load lasts after the last message that was too many.
const LOAD_LINGERS: Duration = Duration::from_secs(1);

/// Handshake messages with a valid mac2 per second and source (WireGuard's figures).
const SOURCE_PER_SECOND: u32 = 20;

/// As many at once before that.
const SOURCE_BURST: u32 = 5;

/// Handshake messages per second that are worked on under load because they come from where a
/// peer is known to be. A peer sends one in five seconds; whoever forges its address takes no more
/// than its share.
const KNOWN_PER_SECOND: u32 = 1;

/// As many at once before that: both sides begin, and one message is repeated.
const KNOWN_BURST: u32 = 3;

/// Path MTU probes of one peer per second that are answered. A search sends two a second while
/// nothing comes back, and less than one per round trip otherwise.
const PROBES_PER_SECOND: u32 = 20;

/// As many at once before that.
const PROBE_BURST: u32 = 20;

/// The most sources that are told apart. Only addresses that answered a cookie get here.
const MAX_SOURCES: usize = 16 * 1024;

/// How often a full table is searched for entries that may go.
const SWEEP_EVERY: Duration = Duration::from_millis(100);

/// Gives `per_second` permits a second, and up to `burst` that were saved.
#[derive(Clone, Copy)]
struct TokenBucket {
    /// Time that was not yet spent, in nanoseconds.
    saved: u64,
    updated_at: Instant,
}

/// What a bucket gives.
struct Rate {
    /// Price of one permit in nanoseconds.
    price: u64,
    /// The most that can be saved, in nanoseconds.
    most: u64,
}

impl Rate {
    const fn new(per_second: u32, burst: u32) -> Self {
        let price = 1_000_000_000 / per_second as u64;
        Self {
            price,
            most: price * burst as u64,
        }
    }
}

const ALL_HANDSHAKES: Rate = Rate::new(HANDSHAKES_PER_SECOND, HANDSHAKE_BURST);
const ONE_SOURCE: Rate = Rate::new(SOURCE_PER_SECOND, SOURCE_BURST);
const ONE_KNOWN: Rate = Rate::new(KNOWN_PER_SECOND, KNOWN_BURST);
const PROBES: Rate = Rate::new(PROBES_PER_SECOND, PROBE_BURST);

impl TokenBucket {
    const fn full(rate: &Rate, now: Instant) -> Self {
        Self {
            saved: rate.most,
            updated_at: now,
        }
    }

    fn saved_at(&self, rate: &Rate, now: Instant) -> u64 {
        let elapsed = u64::try_from(now.since(self.updated_at).as_nanos()).unwrap_or(u64::MAX);
        self.saved.saturating_add(elapsed).min(rate.most)
    }

    fn take(&mut self, rate: &Rate, now: Instant) -> bool {
        let saved = self.saved_at(rate, now);
        self.updated_at = now;
        let left = saved.checked_sub(rate.price);
        self.saved = left.unwrap_or(saved);
        left.is_some()
    }
}

/// Judges load by the rate at which messages with a valid mac1 arrive.
pub(crate) struct LoadGauge {
    bucket: TokenBucket,
    loaded_until: Instant,
}

impl LoadGauge {
    pub(crate) const fn new(now: Instant) -> Self {
        Self {
            bucket: TokenBucket::full(&ALL_HANDSHAKES, now),
            loaded_until: now,
        }
    }

    /// Counts one message, and tells whether we are under load.
    pub(crate) fn count(&mut self, now: Instant) -> bool {
        if !self.bucket.take(&ALL_HANDSHAKES, now) {
            self.loaded_until = now + LOAD_LINGERS;
        }
        now < self.loaded_until
    }
}

/// Limits what comes from the endpoint of one peer without a cookie, while we are under load.
pub(crate) struct KnownEndpoint(TokenBucket);

impl KnownEndpoint {
    pub(crate) const fn new(now: Instant) -> Self {
        Self(TokenBucket::full(&ONE_KNOWN, now))
    }

    /// Whether one more message may be worked on now.
    pub(crate) fn admit(&mut self, now: Instant) -> bool {
        self.0.take(&ONE_KNOWN, now)
    }
}

/// Limits how many path MTU probes of one peer are answered.
pub(crate) struct ProbeLimiter(TokenBucket);

impl ProbeLimiter {
    pub(crate) const fn new(now: Instant) -> Self {
        Self(TokenBucket::full(&PROBES, now))
    }

    /// Whether one more may be answered now.
    pub(crate) fn admit(&mut self, now: Instant) -> bool {
        self.0.take(&PROBES, now)
    }
}

/// Limits each source. Its table is bounded: when it is full, new sources have to wait.
pub(crate) struct SourceLimiter {
    sources: BTreeMap<IpAddr, TokenBucket>,
    swept_at: Option<Instant>,
}

impl SourceLimiter {
    pub(crate) const fn new() -> Self {
        Self {
            sources: BTreeMap::new(),
            swept_at: None,
        }
    }

    /// Whether one more message from `source` may be worked on now.
    pub(crate) fn admit(&mut self, source: IpAddr, now: Instant) -> bool {
        let key = site(source);
        if let Some(bucket) = self.sources.get_mut(&key) {
            return bucket.take(&ONE_SOURCE, now);
        }
        if self.sources.len() >= MAX_SOURCES {
            self.sweep(now);
        }
        if self.sources.len() >= MAX_SOURCES {
            return false;
        }
        let mut bucket = TokenBucket::full(&ONE_SOURCE, now);
        let admitted = bucket.take(&ONE_SOURCE, now);
        self.sources.insert(key, bucket);
        admitted
    }

    /// Drops entries that are full again: they say no more than a missing one would.
    fn sweep(&mut self, now: Instant) {
        if self.swept_at.is_some_and(|at| now.since(at) < SWEEP_EVERY) {
            return;
        }
        self.swept_at = Some(now);
        self.sources
            .retain(|_, bucket| bucket.saved_at(&ONE_SOURCE, now) < ONE_SOURCE.most);
    }
}

/// What counts as one source: an IPv4 address, or an IPv6 network of 64 bits, as whoever has one
/// address of it usually has them all.
fn site(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V4(address) => IpAddr::V4(address),
        IpAddr::V6(address) => IpAddr::V6(Ipv6Addr::from_bits(
            address.to_bits() & !u128::from(u64::MAX),
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const START: Instant = Instant(1_000_000_000_000);

    fn v4(n: u32) -> IpAddr {
        IpAddr::V4(n.into())
    }

    #[test]
    fn a_source_gets_its_burst_and_then_its_rate() {
        let mut limiter = SourceLimiter::new();
        let admitted = (0..100).filter(|_| limiter.admit(v4(1), START)).count();
        assert_eq!(admitted, 5);
        let later = (0..200)
            .filter(|n| limiter.admit(v4(1), START + Duration::from_millis(5 * (n + 1))))
            .count();
        assert_eq!(later, 20);
        assert!(
            limiter.admit(v4(2), START),
            "another source is not affected"
        );
    }

    #[test]
    fn a_known_endpoint_gets_three_at_once_and_then_one_a_second() {
        let mut known = KnownEndpoint::new(START);
        assert_eq!((0..100).filter(|_| known.admit(START)).count(), 3);
        let later = (1..=100)
            .filter(|n| known.admit(START + Duration::from_millis(100 * n)))
            .count();
        assert_eq!(later, 10);
    }

    #[test]
    fn addresses_of_one_ipv6_network_share_a_bucket() {
        let mut limiter = SourceLimiter::new();
        let host = |n: u128| IpAddr::V6(Ipv6Addr::from_bits((0x2001_0db8 << 96) | n));
        assert_eq!(
            (0..100).filter(|&n| limiter.admit(host(n), START)).count(),
            5
        );
        assert!(limiter.admit(host(1 << 64), START));
    }

    #[test]
    fn mapped_addresses_are_the_ipv4_source_they_stand_for() {
        let mut limiter = SourceLimiter::new();
        let mapped: IpAddr = "::ffff:192.0.2.1".parse().expect("an address");
        let plain: IpAddr = "192.0.2.1".parse().expect("an address");
        assert_eq!((0..10).filter(|_| limiter.admit(mapped, START)).count(), 5);
        assert!(!limiter.admit(plain, START));
    }

    #[test]
    fn the_table_of_sources_is_bounded_and_recovers() {
        let mut limiter = SourceLimiter::new();
        let sources = u32::try_from(MAX_SOURCES).expect("a small number");
        assert!((0..sources).all(|n| limiter.admit(v4(n), START)));
        assert!(!limiter.admit(v4(sources), START));
        assert_eq!(limiter.sources.len(), MAX_SOURCES);
        assert!(limiter.admit(v4(sources), START + Duration::from_secs(1)));
        assert_eq!(limiter.sources.len(), 1);
    }

    #[test]
    fn load_begins_after_the_burst_and_ends_a_second_after_the_flood() {
        let mut gauge = LoadGauge::new(START);
        assert!((0..HANDSHAKE_BURST).all(|_| !gauge.count(START)));
        assert!(gauge.count(START));
        assert!(gauge.count(START + Duration::from_millis(999)));
        assert!(!gauge.count(START + Duration::from_millis(2000)));
    }
}
