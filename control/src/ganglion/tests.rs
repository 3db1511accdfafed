use core::time::Duration;

use omni_wire::WallTime;
use omni_wire::handshake;

use super::*;
use crate::noise::tests::dh_count;

/// A generator for tests that counts up.
struct Counting(u64);

impl Random for Counting {
    fn fill(&mut self, out: &mut [u8]) {
        for chunk in out.chunks_mut(8) {
            self.0 += 1;
            chunk.copy_from_slice(&self.0.to_be_bytes()[8 - chunk.len()..]);
        }
    }
}

fn now() -> Now {
    Now {
        instant: Instant(1_000_000_000),
        wall: WallTime(1_750_000_000_000_000_000),
    }
}

fn ganglion(key: u8) -> Ganglion {
    let config = GanglionConfig {
        fabric: "lab".to_owned(),
        private_key: PrivateKey([key; 32]),
        lanes: 1,
        max_frame: 1440,
        capabilities: 0,
        workers: 1,
    };
    Ganglion::new(config, Box::new(Counting(u64::from(key) << 32)), now())
}

fn source() -> SocketAddr {
    "192.0.2.1:51820".parse().expect("an address and a port")
}

/// Two that have each other as peers, and the first one's initiation.
fn initiation() -> (Ganglion, Ganglion, Vec<u8>) {
    let (mut a, mut b) = (ganglion(1), ganglion(2));
    let peer = |key, endpoint| PeerConfig {
        public_key: key,
        preshared_key: None,
        endpoint,
    };
    let added = a.add_peer(now(), peer(b.public_key(), Some(source())));
    assert!(added.is_ok());
    assert!(b.add_peer(now(), peer(a.public_key(), None)).is_ok());
    let message = a.poll_transmit().expect("an initiation").payload;
    (a, b, message)
}

#[test]
fn a_ganglion_may_be_given_to_another_thread() {
    fn assert_send<T: Send>(_: &T) {}
    assert_send(&ganglion(1));
}

#[test]
fn a_wrong_mac1_costs_no_public_key_operation() {
    let (_, mut b, mut message) = initiation();
    let before = dh_count();
    for at in 8..message.len() - handshake::MAC_LEN {
        message[at] ^= 1;
        b.handle_datagram(now(), source(), &message);
        message[at] ^= 1;
    }
    assert_eq!(dh_count(), before);
    b.handle_datagram(now(), source(), &message);
    assert_eq!(dh_count(), before + 4, "es, ss, ee, se");
}

#[test]
fn a_replayed_initiation_costs_no_public_key_operation() {
    let (_, mut b, message) = initiation();
    b.handle_datagram(now(), source(), &message);
    let before = dh_count();
    for _ in 0..1000 {
        b.handle_datagram(now().advanced(Duration::from_secs(60)), source(), &message);
    }
    assert_eq!(dh_count(), before);
    assert_eq!(b.drops().get(DropReason::HandshakeReplayed), 1000);
}

#[test]
fn an_unexpected_response_costs_no_public_key_operation() {
    let (mut a, mut b, message) = initiation();
    b.handle_datagram(now(), source(), &message);
    let response = b.poll_transmit().expect("a response").payload;
    a.handle_datagram(now(), source(), &response);
    assert_eq!(a.drops().total(), 0);
    let before = dh_count();
    a.handle_datagram(now(), source(), &response);
    assert_eq!(dh_count(), before);
    assert_eq!(a.drops().get(DropReason::HandshakeUnexpected), 1);
}

#[test]
fn indices_are_unique_and_never_zero() {
    /// Gives zero, then the same number again and again, then others.
    struct Stubborn(u8);
    impl Random for Stubborn {
        fn fill(&mut self, out: &mut [u8]) {
            self.0 += 1;
            out.fill(if self.0 < 4 { 0 } else { self.0 / 4 });
        }
    }
    let (mut a, _, _) = initiation();
    a.rng = Box::new(Stubborn(0));
    for _ in 0..20 {
        let index = a.unused_index();
        assert_ne!(index, 0);
        assert!(a.indices.insert(index, PeerId(0)).is_none());
    }
}

#[test]
fn every_index_in_use_belongs_to_something() {
    let (mut a, mut b, message) = initiation();
    assert_eq!(a.indices.len(), 1);
    b.handle_datagram(now(), source(), &message);
    let response = b.poll_transmit().expect("a response").payload;
    a.handle_datagram(now(), source(), &response);
    assert_eq!((a.indices.len(), b.indices.len()), (1, 1));
    for ganglion in [&mut a, &mut b] {
        ganglion.handle_timeout(now().advanced(Duration::from_secs(180)));
        assert!(ganglion.indices.is_empty());
        assert!(
            ganglion
                .peers
                .values()
                .all(|peer| peer.sessions.are_empty())
        );
    }
}

#[test]
fn a_repeated_initiation_gives_its_old_index_back() {
    let (mut a, _, _) = initiation();
    for round in 1..10 {
        a.handle_timeout(now().advanced(Duration::from_millis(5400 * round)));
        assert!(a.poll_transmit().is_some());
        assert_eq!(a.indices.len(), 1);
    }
}
