//! Path MTU discovery with peers: when it is told what changed, and its records.

use omni_wire::{DropReason, Now};

use super::Ganglion;
use crate::message::PeerId;
use crate::pmtu::{Hands, PathMtu, Record, Way};

impl Ganglion {
    /// Takes in a control record (`PROTOCOL` section 5) that verified. False when records of its
    /// kind are not for the Ganglion; nothing changed then.
    ///
    /// Probes of the path MTU are answered, at most 20 a second per peer. What is malformed, too
    /// much, or answers nothing is counted as [`DropReason::ProbeRefused`].
    pub fn handle_record(&mut self, now: Now, peer: PeerId, record: &[u8]) -> bool {
        if !Record::is_of_kind(record) {
            return false;
        }
        let accepted = match Record::parse(record) {
            Some(Record::Probe { token, octets }) => {
                let answer = Record::Answer { token, octets };
                self.answer_probe(now, peer, answer)
            }
            Some(Record::Answer { token, octets }) => self
                .with_path_mtu(peer, |path_mtu, hands| {
                    path_mtu.handle_answer(now.instant, token, octets, hands)
                })
                .unwrap_or(false),
            None => false,
        };
        if !accepted {
            self.drops.count(DropReason::ProbeRefused);
        }
        true
    }

    /// A session, the path or a frame limit changed: it may be to be found out anew how long frames
    /// to the peer can be.
    pub(super) fn follow_path(&mut self, id: PeerId, now: Now) {
        let Some(peer) = self.peers.get(&id).filter(|_| self.path_mtu) else {
            return;
        };
        let (Some(session), Some(path)) = (&peer.sessions.current, peer.path) else {
            return;
        };
        let most = session.peer_max_frame.min(self.announced.max_frame);
        self.with_path_mtu(id, |path_mtu, hands| {
            path_mtu.follow(now.instant, Way { path, most }, hands);
        });
    }

    /// Does what is due about the path MTU.
    pub(super) fn probe_path(&mut self, id: PeerId, now: Now) {
        let Some(peer) = self.peers.get(&id) else {
            return;
        };
        let data_at = peer.watch.last_tx_data;
        self.with_path_mtu(id, |path_mtu, hands| {
            path_mtu.handle_timeout(now.instant, data_at, hands);
        });
    }

    fn answer_probe(&mut self, now: Now, id: PeerId, answer: Record) -> bool {
        let Some(peer) = self.peers.get_mut(&id) else {
            return false;
        };
        let admitted = peer.probes.admit(now.instant);
        if admitted {
            self.commands.push_back(answer.to(id));
        }
        admitted
    }

    fn with_path_mtu<T>(
        &mut self,
        id: PeerId,
        act: impl FnOnce(&mut PathMtu, &mut Hands<'_>) -> T,
    ) -> Option<T> {
        let peer = self.peers.get_mut(&id)?;
        let mut hands = Hands {
            peer: id,
            rng: &mut *self.rng,
            commands: &mut self.commands,
        };
        Some(act(&mut peer.path_mtu, &mut hands))
    }
}
