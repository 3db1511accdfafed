//! Telling the service manager that the program is ready (`sd_notify(3)`).

use std::env;
use std::io;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};

use tracing::warn;

/// Sends `READY=1` where a service manager asked for it.
pub fn ready() {
    tell(b"READY=1");
}

/// Sends `WATCHDOG=1` where a service manager asked to hear from this process now and then
/// (`WatchdogSec=` of a unit): to be called only while all is well.
pub fn alive() {
    let own = env::var("WATCHDOG_PID").map_or(true, |pid| pid == std::process::id().to_string());
    if own && env::var_os("WATCHDOG_USEC").is_some() {
        tell(b"WATCHDOG=1");
    }
}

fn tell(what: &[u8]) {
    let Some(target) = env::var_os("NOTIFY_SOCKET") else {
        return;
    };
    if let Err(error) = send(target.as_bytes(), what) {
        warn!(%error, "cannot tell the service manager");
    }
}

fn send(target: &[u8], what: &[u8]) -> io::Result<()> {
    let address = match target {
        [b'@', name @ ..] => SocketAddr::from_abstract_name(name)?,
        path => SocketAddr::from_pathname(std::ffi::OsStr::from_bytes(path))?,
    };
    UnixDatagram::unbound()?
        .send_to_addr(what, &address)
        .map(|_| ())
}
