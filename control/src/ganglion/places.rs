//! Where peers are, and from which address of ours they are spoken to.
//!
//! Both change together, by what verified and is newest: the workers tell it. A message to a peer
//! leaves from the address that the peer last spoke to, as a host with several addresses would
//! otherwise answer from one that the peer, or what stands between, never heard of.

use core::net::{IpAddr, SocketAddr};
use core::time::Duration;

use omni_wire::Now;
use omni_wire::outer::Path;

use super::{Ganglion, GanglionEvent, Route};
use crate::message::{Command, PeerId};
use crate::peer::Peer;

/// The most places that a peer is looked for at.
const PLACES_MAX: usize = 16;
/// A peer that was heard within this time is there.
const QUIET: Duration = Duration::from_secs(5);

impl Ganglion {
    /// Takes in how messages reach `endpoint`; `None` when they do not now.
    ///
    /// To be called when an event asked for it, and again whenever that changes. Ignored when the
    /// peer is elsewhere by now. When the path does not leave from the address that the event
    /// named, that address is no longer asked for.
    pub fn handle_path(
        &mut self,
        now: Now,
        peer: PeerId,
        endpoint: SocketAddr,
        path: Option<Path>,
    ) {
        let Some(known) = self.peers.get_mut(&peer) else {
            return;
        };
        if known.endpoint != Some(endpoint) {
            return;
        }
        if let Some(path) = path {
            known.local.take_if(|local| *local != path.source);
        }
        if known.path == path {
            return;
        }
        let awaits_us = path.is_some() && std::mem::take(&mut known.awaits_us);
        let source = |path: &Path| (path.source, path.source_port);
        let before = known.path.as_ref().map(source);
        let speaks_from_elsewhere = path.is_some() && path.as_ref().map(source) != before;
        known.path = path;
        self.commands.push_back(Command::SetPath { peer, path });
        if (speaks_from_elsewhere || awaits_us) && known.sessions.current.is_some() {
            // What should have confirmed the session had no way to leave before, or the peer
            // still sends to where we were: only a message on lane 0 tells it where we are.
            self.commands.push_back(Command::SendKeepalive { peer });
        }
        if speaks_from_elsewhere && before.is_some() && known.sessions.next.is_some() {
            // The peer may already send in a session that it confirms to where we were. It would
            // follow no message in an older one, and in this one nothing can be sent.
            self.start_handshake(peer, now);
        }
        self.follow_path(peer, now);
    }

    /// Takes in that we do not have this address any more. The ways of all that it was used for
    /// are to be found anew.
    pub fn handle_address_gone(&mut self, _now: Now, address: IpAddr) {
        let uses = |peer: &Peer| {
            let by_path = peer.path.is_some_and(|path| path.source == address);
            by_path || peer.local == Some(address)
        };
        let touched = self.peers.iter().filter(|(_, peer)| uses(peer));
        for id in touched.map(|(&id, _)| id).collect::<Vec<_>>() {
            if let Some(peer) = self.peers.get_mut(&id) {
                peer.local.take_if(|local| *local == address);
            }
            self.ask_for_path(id);
        }
    }

    /// Messages for the peer go to `endpoint` from now on, and leave from `local`. The workers
    /// keep the old path until the new one is known.
    pub(super) fn move_to(&mut self, id: PeerId, endpoint: SocketAddr, local: Option<IpAddr>) {
        let local = local.filter(|local| local.is_ipv4() == endpoint.is_ipv4());
        let Some(peer) = self.peers.get_mut(&id) else {
            return;
        };
        if (peer.endpoint, peer.local) == (Some(endpoint), local) {
            return;
        }
        peer.local = local;
        match peer.endpoint.replace(endpoint) {
            Some(before) => {
                self.by_endpoint.remove(&(before, id));
            }
            None => self.commands.push_back(Command::SetReachable {
                peer: id,
                reachable: true,
            }),
        }
        self.by_endpoint.insert((endpoint, id));
        self.ask_for_path(id);
    }

    /// Sets where a peer is looked for, the likeliest place first. One whose place was not known
    /// can be spoken to from then on; no handshake is begun but with one that called before it was
    /// known here. False when there is no such peer.
    pub fn set_places(&mut self, now: Now, peer: PeerId, places: &[SocketAddr]) -> bool {
        let Some(known) = self.peers.get(&peer) else {
            return false;
        };
        let public_key = known.public_key;
        let is_lost = known.endpoint.is_none();
        let places = &places[..places.len().min(PLACES_MAX)];
        self.set_candidates(peer, places.iter().copied());
        if let Some(&first) = places.first().filter(|_| is_lost) {
            self.move_to(peer, first, None);
        }
        if self.knocks.take(now.instant, &public_key) {
            self.call(now, peer);
        }
        true
    }

    /// The peer asks by others to be spoken to: a handshake with it begins, unless there is a
    /// session or it is not known where it is.
    pub fn call(&mut self, now: Now, peer: PeerId) {
        let has_session = self
            .peers
            .get(&peer)
            .is_none_or(|peer| peer.sessions.current.is_some());
        if !has_session {
            self.start_handshake(peer, now);
        }
    }

    /// Finds out whether a peer is there: unless it was heard lately, a handshake begins, also
    /// where there is a session.
    pub fn check(&mut self, now: Now, peer: PeerId) {
        let Some(known) = self.peers.get(&peer) else {
            return;
        };
        let heard = known.heard();
        let is_quiet = heard.is_none_or(|at| now.instant.since(at) >= QUIET);
        if is_quiet {
            self.start_handshake(peer, now);
        }
    }

    /// Sets where else a peer is looked for when it does not answer at its endpoint.
    pub(super) fn set_candidates(
        &mut self,
        id: PeerId,
        candidates: impl IntoIterator<Item = SocketAddr>,
    ) {
        if let Some(peer) = self.peers.get_mut(&id) {
            peer.candidates = candidates.into_iter().collect();
        }
    }

    /// The peer answered from `route`. That moves it only to a place where it was looked for; any
    /// other is followed when a message in the session shows it.
    pub(super) fn found_at(&mut self, id: PeerId, route: Route) {
        let Some(peer) = self.peers.get_mut(&id) else {
            return;
        };
        if peer.endpoint != Some(route.remote) && peer.candidates.contains(&route.remote) {
            peer.awaits_us = true;
            self.move_to(id, route.remote, route.local);
        }
    }

    /// It is not known where the peer is, and there is nothing to send to it.
    pub(super) fn lose_sight(&mut self, id: PeerId) {
        let Some(peer) = self.peers.get_mut(&id) else {
            return;
        };
        peer.local = None;
        let Some(before) = peer.endpoint.take() else {
            return;
        };
        if peer.path.take().is_some() {
            self.commands.push_back(Command::SetPath {
                peer: id,
                path: None,
            });
        }
        self.commands.push_back(Command::SetReachable {
            peer: id,
            reachable: false,
        });
        self.by_endpoint.remove(&(before, id));
        self.forget_event(id);
    }

    /// The peer whose endpoint this is. Of several, the one that was added first.
    pub(super) fn peer_at(&mut self, endpoint: SocketAddr) -> Option<&mut Peer> {
        let from = (endpoint, PeerId(0));
        let &(found, id) = self.by_endpoint.range(from..).next()?;
        (found == endpoint).then(|| self.peers.get_mut(&id))?
    }

    /// How to speak to a peer at its endpoint: from the address that its messages in sessions
    /// leave from.
    pub(super) fn route_to(peer: &Peer) -> Option<Route> {
        let remote = peer.endpoint?;
        let path = peer.path.filter(|path| path.endpoint == remote);
        Some(Route {
            remote,
            local: peer.local.or(path.map(|path| path.source)),
        })
    }

    fn ask_for_path(&mut self, id: PeerId) {
        let Some(peer) = self.peers.get(&id) else {
            return;
        };
        let (source, Some(endpoint)) = (peer.local, peer.endpoint) else {
            return;
        };
        self.forget_event(id);
        self.events.push_back(GanglionEvent::ResolvePath {
            peer: id,
            endpoint,
            source,
        });
    }

    pub(super) fn forget_event(&mut self, id: PeerId) {
        self.events
            .retain(|GanglionEvent::ResolvePath { peer, .. }| *peer != id);
    }
}
