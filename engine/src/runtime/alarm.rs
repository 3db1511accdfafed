//! A timer of the kernel's that the control thread sleeps by.
//!
//! The runtime's own timers wake twice for whatever is more than 64 ms away: at the end of a slot
//! of their wheel, and when it is due. On machines with many nodes that is half of what idle nodes
//! cost.

use std::io;
use std::os::fd::OwnedFd;
use std::time::Duration;

use rustix::fs::Timespec;
use rustix::time::{
    Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, timerfd_create, timerfd_settime,
};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// A timer for one at a time to wait by.
#[derive(Debug)]
pub(super) struct Alarm(AsyncFd<OwnedFd>);

impl Alarm {
    #[expect(
        deprecated,
        reason = "what replaces it is for the kernel's edge, and this descriptor is owned and kept"
    )]
    pub(super) fn new() -> io::Result<Self> {
        let flags = TimerfdFlags::CLOEXEC | TimerfdFlags::NONBLOCK;
        let timer = timerfd_create(TimerfdClockId::Monotonic, flags)?;
        Ok(Self(AsyncFd::with_interest(timer, Interest::READABLE)?))
    }

    /// Waits for so long. May be given up, and begun anew with another time.
    pub(super) async fn wait(&self, time: Duration) -> io::Result<()> {
        // Zero would stop it.
        let time = time.max(Duration::from_nanos(1));
        let once = Itimerspec {
            it_interval: Timespec::default(),
            it_value: Timespec {
                tv_sec: i64::try_from(time.as_secs()).unwrap_or(i64::MAX),
                tv_nsec: time.subsec_nanos().into(),
            },
        };
        timerfd_settime(self.0.get_ref(), TimerfdTimerFlags::empty(), &once)?;
        loop {
            let mut ready = self.0.readable().await?;
            let mut expirations = [0; 8];
            let read = ready.try_io(|timer| {
                rustix::io::read(timer.get_ref(), &mut expirations).map_err(io::Error::from)
            });
            match read {
                Ok(read) => return read.map(drop),
                // It expired before it was set anew.
                Err(_would_block) => {}
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;

    const SHORT: Duration = Duration::from_millis(20);

    #[tokio::test(flavor = "current_thread")]
    async fn waits_as_long_as_asked_also_after_one_that_was_given_up() {
        let alarm = Alarm::new().expect("a timer");
        for _ in 0..5 {
            let given_up = tokio::time::timeout(SHORT, alarm.wait(Duration::from_secs(3600)));
            assert!(given_up.await.is_err(), "an hour");
            let began = Instant::now();
            alarm.wait(SHORT).await.expect("a timer");
            assert!(began.elapsed() >= SHORT);
            alarm.wait(Duration::ZERO).await.expect("a timer");
        }
    }

    /// It expires while nobody waits, and the next one waits for its own time.
    #[tokio::test(flavor = "current_thread")]
    async fn an_expiry_that_nobody_took_counts_for_nothing() {
        let alarm = Alarm::new().expect("a timer");
        for _ in 0..5 {
            tokio::select! {
                biased;
                never = alarm.wait(Duration::from_nanos(1)) => never.expect("a timer"),
                () = std::future::ready(()) => {}
            }
            tokio::time::sleep(Duration::from_millis(2)).await;
            let began = Instant::now();
            alarm.wait(SHORT).await.expect("a timer");
            assert!(began.elapsed() >= SHORT);
        }
    }
}
