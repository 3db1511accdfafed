//! What the underlay's XDP program lets through.
//!
//! Data of sessions that there are, and handshakes: of peers at their endpoints, and of everyone
//! else as many as a flood may cost. The program drops the rest before it is copied, or walks
//! through the host's network stack. So a session must be in its table before anybody can send in
//! it: before our half of the handshake leaves.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};

use omni_control::message::{Command, PeerId};
use omni_xdp_redirect::{Redirect, RedirectError};
use tracing::{debug, error, warn};

/// A session that is to be let through.
#[derive(Clone, Copy, Debug)]
struct Live {
    peer: PeerId,
    lanes: u16,
}

/// What there is to be let through, and whether the program is to look.
#[derive(Debug)]
pub(super) struct Filter {
    wanted: bool,
    sessions: BTreeMap<u32, Live>,
    endpoints: BTreeMap<PeerId, SocketAddr>,
    /// Peers of which little is let through.
    throttled: BTreeSet<PeerId>,
    /// The program's table did not take a session: sessions are not checked, or that one would be
    /// cut.
    incomplete: bool,
}

impl Filter {
    pub(super) fn new(wanted: bool) -> Self {
        Self {
            wanted,
            sessions: BTreeMap::new(),
            endpoints: BTreeMap::new(),
            throttled: BTreeSet::new(),
            incomplete: false,
        }
    }

    /// Prepares a program that is about to be attached.
    ///
    /// # Errors
    /// What the kernel refuses.
    pub(super) fn prepare(&mut self, program: &mut Redirect) -> Result<(), RedirectError> {
        for (&session_id, live) in &self.sessions {
            self.set_session(session_id, *live, program)?;
        }
        for &endpoint in self.endpoints.values() {
            add_endpoint(endpoint, program);
        }
        program.set_session_check(self.wanted)?;
        program.set_handshake_check(self.wanted)
    }

    /// Switches the checks on or off.
    pub(super) fn set_wanted(&mut self, wanted: bool, program: Option<&mut Redirect>) {
        self.wanted = wanted;
        let Some(program) = program else {
            return;
        };
        let sessions = program.set_session_check(wanted && !self.incomplete);
        if let Err(error) = sessions.and_then(|()| program.set_handshake_check(wanted)) {
            error!(%error, "cannot switch the filter");
        }
    }

    /// Follows a command of the Ganglion. To be called before the workers are told.
    pub(super) fn follow(&mut self, command: &Command, program: Option<&mut Redirect>) {
        match command {
            Command::InstallSession(install) => {
                let (peer, lanes) = (install.peer, install.peer_lanes);
                let live = Live { peer, lanes };
                self.sessions.insert(install.session_id, live);
                self.add_session(install.session_id, live, program);
            }
            Command::EraseSession { session_id } => {
                self.sessions.remove(session_id);
                remove_sessions([*session_id], program);
            }
            Command::RemovePeer { peer } => self.forget(*peer, program),
            _ => {}
        }
    }

    /// A peer is at `endpoint` from now on.
    pub(super) fn set_endpoint(
        &mut self,
        peer: PeerId,
        endpoint: SocketAddr,
        program: Option<&mut Redirect>,
    ) {
        let before = self.endpoints.insert(peer, endpoint);
        let Some(program) = program else {
            return;
        };
        if let Some(before) = before.filter(|&before| before != endpoint) {
            self.remove_endpoint(before, program);
        }
        if before != Some(endpoint) {
            add_endpoint(endpoint, program);
        }
        if before.map(|before| before.ip()) != Some(endpoint.ip()) {
            self.set_sessions(peer, Some(program));
        }
    }

    /// From now on, or from now on no more, most of what a peer sends is dropped.
    pub(super) fn set_throttled(&mut self, peer: PeerId, on: bool, program: Option<&mut Redirect>) {
        let changed = if on {
            self.throttled.insert(peer)
        } else {
            self.throttled.remove(&peer)
        };
        if changed {
            self.set_sessions(peer, program);
        }
    }

    /// Whether most of what a peer sends is dropped.
    pub(super) fn is_throttled(&self, peer: PeerId) -> bool {
        self.throttled.contains(&peer)
    }

    /// Tells the program anew what it has to know of a peer's sessions.
    fn set_sessions(&mut self, peer: PeerId, mut program: Option<&mut Redirect>) {
        let its = self.sessions.iter().filter(|(_, live)| live.peer == peer);
        let its: Vec<_> = its.map(|(&id, &live)| (id, live)).collect();
        for (session_id, live) in its {
            self.add_session(session_id, live, program.as_deref_mut());
        }
    }

    /// Where a peer's data comes from.
    fn address_of(&self, peer: PeerId) -> Option<IpAddr> {
        self.endpoints.get(&peer).map(|endpoint| endpoint.ip())
    }

    fn forget(&mut self, peer: PeerId, program: Option<&mut Redirect>) {
        let gone = self.sessions.iter().filter(|(_, live)| live.peer == peer);
        let gone: Vec<u32> = gone.map(|(&id, _)| id).collect();
        self.sessions.retain(|_, live| live.peer != peer);
        let endpoint = self.endpoints.remove(&peer);
        self.throttled.remove(&peer);
        let Some(program) = program else {
            return;
        };
        if let Some(endpoint) = endpoint {
            self.remove_endpoint(endpoint, program);
        }
        remove_sessions(gone, Some(program));
    }

    fn set_session(
        &self,
        session_id: u32,
        live: Live,
        program: &mut Redirect,
    ) -> Result<(), RedirectError> {
        let Live { peer, lanes } = live;
        if self.is_throttled(peer) {
            program.throttle_session(session_id, lanes)
        } else {
            program.add_session(session_id, lanes, self.address_of(peer))
        }
    }

    fn add_session(&mut self, session_id: u32, live: Live, program: Option<&mut Redirect>) {
        let Some(program) = program else {
            return;
        };
        if let Err(error) = self.set_session(session_id, live, program) {
            if !self.incomplete {
                warn!(%error, "sessions are not checked in the driver any more");
            }
            self.incomplete = true;
            if let Err(error) = program.set_session_check(false) {
                error!(%error, "cannot switch the check of sessions off");
            }
        }
    }

    /// Several peers may be behind one endpoint.
    fn remove_endpoint(&self, endpoint: SocketAddr, program: &mut Redirect) {
        if self.endpoints.values().any(|&other| other == endpoint) {
            return;
        }
        if let Err(error) = program.remove_endpoint(endpoint) {
            debug!(%endpoint, %error, "cannot take an endpoint out of the filter");
        }
    }
}

/// A peer without a share of its own gets through with everyone else.
fn add_endpoint(endpoint: SocketAddr, program: &mut Redirect) {
    if let Err(error) = program.add_endpoint(endpoint) {
        debug!(%endpoint, %error, "cannot put an endpoint into the filter");
    }
}

/// One that stays costs a copy of a forged message, no more.
fn remove_sessions(gone: impl IntoIterator<Item = u32>, program: Option<&mut Redirect>) {
    let Some(program) = program else {
        return;
    };
    for session_id in gone {
        if let Err(error) = program.remove_session(session_id) {
            warn!(%error, "cannot take a session out of the filter");
        }
    }
}
