//! Peers as one worker sees them: session to send in, path, staged frames.

use std::collections::VecDeque;
use std::sync::Arc;

use omni_control::message::{PeerId, PeerTraffic, VlanBits};
use omni_wire::limits::STAGED_MIN;
use omni_wire::outer::{Path, Template};

use super::policy::PeerPolicy;
use super::session::SessionSlot;
use super::storm::Bucket;
use core::net::{IpAddr, SocketAddr};

/// Control records that a peer may send a second, and at once: two of its tables in full.
const RECORD_RATE: (u64, u64) = (500, 128);

/// A peer in one worker's table.
#[derive(Debug)]
pub(super) struct Peer<F> {
    /// Where this worker counts for the peer.
    pub(super) traffic: Arc<PeerTraffic>,
    /// The session to send in.
    pub(super) current: Option<SessionSlot>,
    /// Outer headers, prepared; `None` while the next hop is not known.
    pub(super) template: Option<Template>,
    /// UDP source port of this worker's messages.
    pub(super) source_port: u16,
    /// A handshake can be started.
    pub(super) reachable: bool,
    /// The Ganglion was asked for a session and none came yet.
    pub(super) asked: bool,
    /// The addresses, the peer's and ours, that a move was last reported to, until the path
    /// follows.
    pub(super) moved_to: Option<(SocketAddr, IpAddr)>,
    /// The longest inner frame that the way there carries, as far as is known.
    pub(super) frame_limit: usize,
    /// What it may send and is sent.
    pub(super) policy: Arc<PeerPolicy>,
    /// The VLANs that there are behind it.
    pub(super) carried: Arc<VlanBits>,
    /// Control records that it may send.
    pub(super) records: Bucket,
    staged: VecDeque<F>,
}

/// All peers, and the frames that wait for sessions with them.
#[derive(Debug)]
pub(super) struct PeerTable<F> {
    peers: Vec<Option<Peer<F>>>,
    staged: usize,
    staged_max: usize,
}

impl<F> PeerTable<F> {
    pub(super) fn new(staged_max: usize) -> Self {
        Self {
            peers: Vec::new(),
            staged: 0,
            staged_max,
        }
    }

    pub(super) fn add(&mut self, id: PeerId, traffic: Arc<PeerTraffic>) {
        let at = usize::from(id.0);
        if self.peers.len() <= at {
            self.peers.resize_with(at + 1, || None);
        }
        self.peers[at].get_or_insert_with(|| Peer {
            traffic,
            current: None,
            template: None,
            source_port: 0,
            reachable: false,
            asked: false,
            moved_to: None,
            frame_limit: usize::MAX,
            policy: Arc::default(),
            carried: Arc::new(VlanBits::ALL),
            records: Bucket::new(RECORD_RATE.0, RECORD_RATE.1),
            staged: VecDeque::new(),
        });
    }

    /// Forgets a peer and gives back what was staged for it.
    pub(super) fn remove(&mut self, id: PeerId) -> Vec<F> {
        let staged = self.take_staged(id);
        if let Some(slot) = self.peers.get_mut(usize::from(id.0)) {
            *slot = None;
        }
        staged
    }

    #[inline]
    pub(super) fn get(&self, id: PeerId) -> Option<&Peer<F>> {
        self.peers.get(usize::from(id.0)).and_then(Option::as_ref)
    }

    #[inline]
    pub(super) fn get_mut(&mut self, id: PeerId) -> Option<&mut Peer<F>> {
        self.peers
            .get_mut(usize::from(id.0))
            .and_then(Option::as_mut)
    }

    /// Every peer's index.
    pub(super) fn ids(&self) -> impl Iterator<Item = PeerId> + '_ {
        let known = self
            .peers
            .iter()
            .enumerate()
            .filter(|(_, peer)| peer.is_some());
        known.map(|(at, _)| PeerId(at as u16))
    }

    pub(super) fn set_path(&mut self, id: PeerId, path: Option<Path>, source_port: u16) {
        if let Some(peer) = self.get_mut(id) {
            peer.template = path.as_ref().and_then(Template::new);
            peer.source_port = source_port;
            peer.moved_to = None;
        }
    }

    pub(super) fn set_current(&mut self, id: PeerId, slot: SessionSlot) {
        if let Some(peer) = self.get_mut(id) {
            peer.current = Some(slot);
            peer.asked = false;
            peer.moved_to = None;
        }
    }

    /// A session is gone: if it was the one to send in, there is none now.
    pub(super) fn session_erased(&mut self, id: PeerId, slot: SessionSlot) {
        if let Some(peer) = self.get_mut(id)
            && peer.current == Some(slot)
        {
            peer.current = None;
        }
    }

    /// Sets whether handshakes can be started, and gives back what can wait no longer.
    pub(super) fn set_reachable(&mut self, id: PeerId, reachable: bool) -> Vec<F> {
        if let Some(peer) = self.get_mut(id) {
            peer.reachable = reachable;
        }
        if reachable {
            Vec::new()
        } else {
            self.take_staged(id)
        }
    }

    /// Keeps a frame until there is a session. Gives back the one that had to make room: the
    /// peer's oldest, or the frame itself when all peers together hold too many.
    pub(super) fn stage(&mut self, id: PeerId, frame: F) -> Option<F> {
        let full = self.staged >= self.staged_max;
        let Some(peer) = self.get_mut(id) else {
            return Some(frame);
        };
        let displaced = if peer.staged.len() >= STAGED_MIN || full {
            peer.staged.pop_front()
        } else {
            None
        };
        if full && displaced.is_none() {
            return Some(frame);
        }
        peer.staged.push_back(frame);
        self.staged += usize::from(displaced.is_none());
        displaced
    }

    /// Everything staged for a peer, oldest first.
    pub(super) fn take_staged(&mut self, id: PeerId) -> Vec<F> {
        let Some(peer) = self.get_mut(id) else {
            return Vec::new();
        };
        peer.asked = false;
        let frames = Vec::from(std::mem::take(&mut peer.staged));
        self.staged -= frames.len();
        frames
    }

    /// Everything staged for anybody.
    pub(super) fn take_all_staged(&mut self) -> Vec<F> {
        let ids = (0..self.peers.len()).map(|id| PeerId(id as u16));
        ids.flat_map(|id| self.take_staged(id)).collect()
    }

    pub(super) fn has_staged(&self, id: PeerId) -> bool {
        self.get(id).is_some_and(|peer| !peer.staged.is_empty())
    }

    pub(super) fn staged(&self) -> usize {
        self.staged
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn staging_is_bounded_and_drops_the_oldest() {
        let mut table = PeerTable::new(STAGED_MIN + 10);
        table.add(PeerId(0), PeerTraffic::new(1));
        table.add(PeerId(1), PeerTraffic::new(1));
        for n in 0..STAGED_MIN {
            assert_eq!(table.stage(PeerId(0), n), None);
        }
        assert_eq!(
            table.stage(PeerId(0), STAGED_MIN),
            Some(0),
            "the peer's oldest makes room"
        );
        for n in 0..10 {
            assert_eq!(table.stage(PeerId(1), n), None);
        }
        assert_eq!(
            table.stage(PeerId(1), 10),
            Some(0),
            "all together are bounded too"
        );
        assert_eq!(table.staged(), STAGED_MIN + 10);
        assert_eq!(
            table.take_staged(PeerId(0)),
            (1..=STAGED_MIN).collect::<Vec<_>>()
        );
        assert_eq!(table.staged(), 10);
        assert_eq!(table.remove(PeerId(1)), (1..=10).collect::<Vec<_>>());
        assert_eq!(table.stage(PeerId(1), 0), Some(0), "no such peer");
        assert_eq!(table.staged(), 0);
    }
}
