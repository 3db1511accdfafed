//! The clocks and the randomness of the operating system. Nothing else reads them.

use omni_control::Random;
use omni_membership::SymmetricKey;
use omni_wire::{Instant, Now, WallTime};
use rustix::time::{ClockId, clock_gettime};

/// Both clocks. The monotonic one goes on while the machine is suspended.
pub(super) fn now() -> Now {
    Now {
        instant: Instant(nanoseconds(ClockId::Boottime)),
        wall: WallTime(nanoseconds(ClockId::Realtime)),
    }
}

fn nanoseconds(clock: ClockId) -> u64 {
    let time = clock_gettime(clock);
    let seconds = u64::try_from(time.tv_sec).unwrap_or(0);
    seconds
        .saturating_mul(1_000_000_000)
        .saturating_add(u64::try_from(time.tv_nsec).unwrap_or(0))
}

/// The operating system's randomness.
#[derive(Debug)]
pub(super) struct SystemRandom;

impl Random for SystemRandom {
    fn fill(&mut self, out: &mut [u8]) {
        // Without randomness there are no keys; nothing good can come of going on.
        getrandom::fill(out).expect("the kernel gives randomness");
    }
}

/// A fresh key.
pub(super) fn fresh_key() -> SymmetricKey {
    let mut key = SymmetricKey([0; 32]);
    SystemRandom.fill(&mut key.0);
    key
}
