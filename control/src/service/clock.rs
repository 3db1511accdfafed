//! The clocks. Only a few loops at the edge of each program read them; all else is told.

use omni_wire::{Instant, Now, WallTime};
use rustix::time::{ClockId, clock_gettime};

/// Monotonic time, on the clock that XDP stamps frames with: `CLOCK_BOOTTIME`. It goes on while
/// the machine is suspended, so that a session is no younger for having slept.
#[must_use]
pub fn instant() -> Instant {
    Instant(nanoseconds(ClockId::Boottime))
}

/// Both clocks.
#[must_use]
pub fn now() -> Now {
    Now {
        instant: instant(),
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
