//! Attaches programs to interfaces, as links that end with the process.

use std::fmt;
use std::thread;
use std::time::{Duration, Instant};

use aya::programs::links::FdLink;
use aya::programs::{ProgramError, Xdp, XdpMode};
use aya::util::KernelVersion;

use crate::error::{self, RedirectError};

/// How long an attachment waits for an interface that another program still holds.
///
/// The kernel lets go of the attachment of a killed process only after the process is gone, so a
/// restart at once finds the interface busy for some milliseconds.
pub const BUSY_RETRY: Duration = Duration::from_millis(500);

/// Pause between two attempts within [`BUSY_RETRY`].
const BUSY_PAUSE: Duration = Duration::from_millis(10);

/// Linux 5.9: the first with `bpf_link` for XDP. Before, an attachment outlives its process.
const FIRST_WITH_LINKS: KernelVersion = KernelVersion::new(5, 9, 0);

/// Where in the way of a frame the program runs.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Mode {
    /// In the driver, before the kernel spends anything on the frame.
    Native,
    /// In the kernel's network stack: slower, and works with any driver.
    Generic,
}

impl fmt::Display for Mode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Native => "native",
            Self::Generic => "generic",
        })
    }
}

/// Attaches a loaded program to an interface of the calling thread's network namespace. Blocks
/// for up to [`BUSY_RETRY`] while another program holds the interface.
pub(crate) fn attach(
    program: &mut Xdp,
    interface: &str,
    mode: Mode,
) -> Result<FdLink, RedirectError> {
    if !is_interface_name(interface) {
        return Err(RedirectError::UnknownInterface {
            interface: interface.to_owned(),
        });
    }
    if KernelVersion::current().is_ok_and(|running| running < FIRST_WITH_LINKS) {
        return Err(RedirectError::KernelTooOld);
    }
    let give_up = Instant::now() + BUSY_RETRY;
    let link = loop {
        match try_attach(program, interface, mode) {
            Err(refusal) if is_busy(&refusal) && Instant::now() < give_up => {
                thread::sleep(BUSY_PAUSE);
            }
            outcome => break outcome,
        }
    };
    // No kernel that this gets to offers anything but links.
    link.map_err(|refusal| RedirectError::attach(interface, mode, &refusal))?
        .ok_or(RedirectError::KernelTooOld)
}

/// Attaches, and takes the link out of the program's keeping; `None` for anything but a link.
fn try_attach(
    program: &mut Xdp,
    interface: &str,
    mode: Mode,
) -> Result<Option<FdLink>, ProgramError> {
    let mode = match mode {
        Mode::Native => XdpMode::Driver,
        Mode::Generic => XdpMode::Skb,
    };
    let id = program.attach(interface, mode)?;
    Ok(FdLink::try_from(program.take_link(id)?).ok())
}

fn is_busy(refusal: &ProgramError) -> bool {
    matches!(error::errno(refusal), Some(error::EBUSY | error::EEXIST))
}

/// What the kernel allows as a name: 1..=15 octets, none of them NUL.
fn is_interface_name(name: &str) -> bool {
    (1..16).contains(&name.len()) && !name.contains('\0')
}
