//! Which sessions the underlay's XDP program lets through.
//!
//! The program drops messages of all others before they are copied. So a session must be in its
//! table before anybody can send in it: before our half of the handshake leaves.

use std::collections::BTreeMap;

use omni_control::message::{Command, PeerId};
use omni_xdp_redirect::{Redirect, RedirectError};
use tracing::{error, warn};

/// A session that is to be let through.
#[derive(Clone, Copy, Debug)]
struct Live {
    peer: PeerId,
    lanes: u16,
}

/// The sessions that there are, and whether the program is to look at them.
#[derive(Debug)]
pub(super) struct SessionFilter {
    wanted: bool,
    live: BTreeMap<u32, Live>,
    /// The program's table did not take a session: the check is off, or that one would be cut.
    incomplete: bool,
}

impl SessionFilter {
    pub(super) fn new(wanted: bool) -> Self {
        Self {
            wanted,
            live: BTreeMap::new(),
            incomplete: false,
        }
    }

    /// Prepares a program that is about to be attached.
    ///
    /// # Errors
    /// What the kernel refuses.
    pub(super) fn prepare(&mut self, program: &mut Redirect) -> Result<(), RedirectError> {
        self.incomplete = false;
        for (&session_id, live) in &self.live {
            program.add_session(session_id, live.lanes)?;
        }
        program.set_session_check(self.wanted)
    }

    /// Switches the check on or off.
    pub(super) fn set_wanted(&mut self, wanted: bool, program: Option<&mut Redirect>) {
        self.wanted = wanted;
        if let Some(program) = program
            && let Err(error) = program.set_session_check(wanted && !self.incomplete)
        {
            error!(%error, "cannot switch the session filter");
        }
    }

    /// Follows a command of the Ganglion. To be called before the workers are told.
    pub(super) fn follow(&mut self, command: &Command, program: Option<&mut Redirect>) {
        match command {
            Command::InstallSession(install) => {
                let (peer, lanes) = (install.peer, install.peer_lanes);
                self.live.insert(install.session_id, Live { peer, lanes });
                self.add(install.session_id, lanes, program);
            }
            Command::EraseSession { session_id } => {
                self.live.remove(session_id);
                remove([*session_id], program);
            }
            Command::RemovePeer { peer } => {
                let gone = self.live.iter().filter(|(_, live)| live.peer == *peer);
                let gone: Vec<u32> = gone.map(|(&id, _)| id).collect();
                self.live.retain(|_, live| live.peer != *peer);
                remove(gone, program);
            }
            _ => {}
        }
    }

    fn add(&mut self, session_id: u32, lanes: u16, program: Option<&mut Redirect>) {
        let Some(program) = program else {
            return;
        };
        if let Err(error) = program.add_session(session_id, lanes) {
            if !self.incomplete {
                warn!(%error, "the session filter is switched off: it cannot hold all sessions");
            }
            self.incomplete = true;
            if let Err(error) = program.set_session_check(false) {
                error!(%error, "cannot switch the session filter off");
            }
        }
    }
}

fn remove(gone: impl IntoIterator<Item = u32>, program: Option<&mut Redirect>) {
    let Some(program) = program else {
        return;
    };
    for session_id in gone {
        // One that stays costs a copy of a forged message, no more.
        if let Err(error) = program.remove_session(session_id) {
            warn!(%error, "cannot take a session out of the filter");
        }
    }
}
