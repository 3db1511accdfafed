//! Giving up what a thread may do (`capabilities(7)`).
//!
//! The kernel keeps capabilities thread by thread: what is said here holds for the calling thread,
//! and for those that it starts from then on.

use std::io;

use rustix::io::Errno;
use rustix::thread::{
    CapabilitySets, capabilities, clear_ambient_capability_set,
    remove_capability_from_bounding_set, set_capabilities, set_no_new_privs,
};

pub use rustix::thread::CapabilitySet;

/// Capabilities are numbered from 0 to below this.
const COUNT: u32 = u64::BITS;

/// Keeps those of `wanted` that the thread has, and gives all others up for good: no program that
/// it executes gets any back, not even one that is set-user-ID or has file capabilities.
///
/// The bounding set follows where that is allowed (`CAP_SETPCAP`). Where it is not, the other sets
/// and `no_new_privs` bar the same ways. Gives what was kept.
///
/// # Errors
/// What the kernel refuses.
pub fn keep_only(wanted: CapabilitySet) -> io::Result<CapabilitySet> {
    let held = capabilities(None)?;
    let kept = held.permitted & wanted;
    if held.effective.contains(CapabilitySet::SETPCAP) {
        bound_by(wanted)?;
    }
    clear_ambient_capability_set()?;
    let sets = CapabilitySets {
        effective: kept,
        permitted: kept,
        inheritable: CapabilitySet::empty(),
    };
    set_capabilities(None, sets)?;
    set_no_new_privs(true)?;
    Ok(kept)
}

fn bound_by(wanted: CapabilitySet) -> io::Result<()> {
    let all = (0..COUNT).map(|number| CapabilitySet::from_bits_retain(1 << number));
    for capability in all.filter(|capability| !wanted.contains(*capability)) {
        match remove_capability_from_bounding_set(capability) {
            // Beyond the last one that this kernel knows.
            Err(Errno::INVAL) => return Ok(()),
            outcome => outcome?,
        }
    }
    Ok(())
}
