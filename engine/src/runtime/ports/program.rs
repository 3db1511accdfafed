//! A steering program on an interface.

use omni_config::XdpMode;
use omni_wire::{DropCounters, DropReason};
use omni_xdp_redirect::{Mode, Redirect, RedirectError};
use tracing::warn;

/// A port's program and how it runs. Dropped, it is detached.
pub(super) struct Attached {
    pub(super) program: Redirect,
    mode: Mode,
}

impl Attached {
    /// Attaches a program, in the driver where that is wanted and possible.
    pub(super) fn new(
        mut program: Redirect,
        interface: &str,
        wanted: XdpMode,
    ) -> Result<Self, RedirectError> {
        let mode = attach(&mut program, interface, wanted)?;
        Ok(Self { program, mode })
    }

    /// Attaches the program to an interface in place of the one that it was on, or anew.
    pub(super) fn again(&mut self, interface: &str, wanted: XdpMode) -> Result<(), RedirectError> {
        self.mode = attach(&mut self.program, interface, wanted)?;
        Ok(())
    }

    /// What the program dropped.
    pub(super) fn count_drops(&self, drops: &mut DropCounters) {
        let Ok(counted) = self.program.counters() else {
            return;
        };
        drops.add(DropReason::NoSocket, counted.no_socket);
        drops.add(DropReason::XdpNoHeadroom, counted.no_headroom);
        drops.add(DropReason::UnknownSession, counted.no_session);
        drops.add(DropReason::LaneUnknown, counted.no_lane);
        drops.add(DropReason::Elsewhere, counted.elsewhere);
        drops.add(DropReason::PeerThrottled, counted.too_much);
        drops.add(DropReason::MessageMalformed, counted.not_handshake);
        drops.add(DropReason::HandshakeRateLimited, counted.too_many);
    }

    /// How it runs, as `omni show` prints it.
    pub(super) fn mode_name(attached: Option<&Self>) -> &'static str {
        match attached.map(|attached| attached.mode) {
            Some(Mode::Native) => "native",
            Some(Mode::Generic) => "generic",
            None => "detached",
        }
    }
}

/// Attaches a program; says how it runs.
fn attach(program: &mut Redirect, interface: &str, wanted: XdpMode) -> Result<Mode, RedirectError> {
    let mode = match wanted {
        XdpMode::Native | XdpMode::Auto => Mode::Native,
        XdpMode::Generic => Mode::Generic,
    };
    match (program.attach(interface, mode), wanted) {
        (Ok(()), _) => Ok(mode),
        (Err(refused @ RedirectError::Permission { .. }), _) => Err(refused),
        (Err(refused), XdpMode::Auto) => {
            let mode = Mode::Generic;
            program.attach(interface, mode)?;
            warn!(interface, %refused, "no native XDP here: generic mode is slower");
            Ok(mode)
        }
        (Err(refused), _) => Err(refused),
    }
}
