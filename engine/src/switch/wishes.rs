//! IP addresses that a local host says to have and that are a peer's: the peer is sent our
//! announcement, as a wish. It asks the host that it has there, and withdraws the address when
//! that one is silent (`disputes`); our host, the rival, gets it then.

use std::time::Duration;

use omni_control::message::{Owner, PeerId};
use omni_wire::Instant;
use omni_wire::record::Announcement;

use super::Switch;
use super::announce::pack;
use super::bindings::{BINDING_LIFETIME, BindKey};
use super::deadlines::{Bucket, News};

/// An address is wished for no more often than this. Each wish is told twice.
const WISH_INTERVAL: Duration = Duration::from_secs(2);
/// Wishes a second, and at once: as many as a peer looks into.
const WISHES: (u32, u32) = (64, 64);

/// All of them.
#[derive(Debug)]
pub(super) struct Wishes {
    news: News<BindKey>,
    allowed: Bucket,
}

impl Default for Wishes {
    fn default() -> Self {
        let (rate, burst) = WISHES;
        Self {
            news: News::default(),
            allowed: Bucket::new(rate, burst),
        }
    }
}

impl Wishes {
    pub(super) fn next_timeout(&self) -> Option<Instant> {
        self.news.next()
    }

    pub(super) fn handle_timeout(&mut self, now: Instant) {
        self.news.handle_timeout(now);
    }
}

impl Switch {
    /// A local host says to have an address that is a peer's.
    pub(super) fn wish(&mut self, now: Instant, key: BindKey) {
        let Some(held) = self.bindings.get(key) else {
            return;
        };
        let last = held.wished.map(|(at, _)| at);
        if last.is_some_and(|at| now.since(at) < WISH_INTERVAL) || !self.wishes.allowed.take(now) {
            return;
        }
        let sequence = self.bindings.next_sequence(now);
        if let Some(held) = self.bindings.get_mut(key) {
            held.wished = Some((now, sequence));
            self.wishes.news.changed(now, key);
        }
    }

    fn wish_for(&self, key: BindKey) -> Option<(PeerId, Announcement)> {
        let held = self.bindings.get(key)?;
        let (_, rival) = held.rival?;
        let (_, sequence) = held.wished?;
        let (vlan, ip) = key;
        match (held.word.owner, rival.owner) {
            (Owner::Peer(holder), Owner::Local(_)) => Some((
                holder,
                Announcement {
                    vlan,
                    sequence,
                    lifetime: BINDING_LIFETIME.as_secs() as u16,
                    mac: rival.mac,
                    ip,
                },
            )),
            _ => None,
        }
    }

    /// A record of wishes to one peer.
    pub(super) fn next_wish(&mut self) -> Option<(PeerId, Box<[u8]>)> {
        let mut to = None;
        let record = pack::<Announcement>(|writer| {
            while let Some(key) = self.wishes.news.first() {
                let Some((holder, wish)) = self.wish_for(key) else {
                    self.wishes.news.told(&key);
                    continue;
                };
                let fits = *to.get_or_insert(holder) == holder && writer.push(&wish);
                if fits {
                    self.wishes.news.told(&key);
                }
                return fits;
            }
            false
        });
        to.zip(record)
    }
}
