//! One way: reads, impairs and sends.

use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use serde::Serialize;

use super::frames::{Cut, Cutter};
use super::queue::Queue;
use super::settings::Impairment;
use super::socket::{BURST_MAX, Buffers, Port};
use crate::Failure;
use crate::workload::{Times, wake_precisely};

/// How often it looks whether it is to end.
const LOOK: Duration = Duration::from_millis(50);

/// What passed one way, in frames as on a wire: what came, and copies that were made, was sent,
/// lost, dropped, refused, or waits still.
#[derive(Debug, Default, Serialize)]
pub(super) struct Way {
    frames_in: u64,
    octets_in: u64,
    frames_out: u64,
    octets_out: u64,
    lost: u64,
    tail_dropped: u64,
    duplicated: u64,
    reordered: u64,
    /// Frames that the kernel did not send: too long for the interface, or no room.
    refused: u64,
    /// Frames that waited at the end.
    left_in_queue: u64,
    /// Messages of the kernel that were cut into more than one frame.
    super_frames: u64,
    /// Messages that could not be made sense of; no frames came of them.
    malformed: u64,
    /// Messages that the kernel dropped before they were read: this program had no core.
    overruns: u64,
    /// How much later than due frames were sent.
    lateness: Times,
}

impl Way {
    /// Whether each frame is accounted for.
    pub(super) const fn adds_up(&self) -> bool {
        let gone = self.lost + self.tail_dropped + self.refused + self.left_in_queue;
        self.frames_in + self.duplicated == self.frames_out + gone
    }
}

/// What one way needs.
pub(super) struct Forwarder<'a> {
    pub(super) from: &'a Port,
    pub(super) to: &'a Port,
    pub(super) impairment: Impairment,
    pub(super) seed: u64,
    /// Tells the ways of a seed apart.
    pub(super) stream: u64,
    /// Never sleep.
    pub(super) spin: bool,
}

impl Forwarder<'_> {
    /// Forwards until `is_over`.
    ///
    /// # Errors
    /// When an interface is gone.
    pub(super) fn run(&self, is_over: &AtomicBool) -> Result<Way, Failure> {
        wake_precisely();
        let mut queue = Queue::new(self.impairment, self.seed, self.stream);
        let (mut buffers, mut cutter) = (Buffers::new(), Cutter::new());
        let mut way = Way::default();
        let start = Instant::now();
        let now_ns = || start.elapsed().as_nanos() as u64;
        while !is_over.load(Ordering::Relaxed) {
            let received = self.from.receive(&mut buffers, |message| {
                let came_ns = now_ns();
                match cutter.cut(message, |frame| queue.push(came_ns, frame)) {
                    Cut::Frame => {}
                    Cut::Super => way.super_frames += 1,
                    Cut::Malformed => way.malformed += 1,
                }
            })?;
            let sent = self.send_due(&mut queue, &mut way, now_ns())?;
            if received == 0 && !sent && !self.spin {
                let next_ns = queue.next_due_ns().unwrap_or(u64::MAX);
                self.rest(Duration::from_nanos(next_ns.saturating_sub(now_ns())))?;
            }
        }
        let counts = queue.counts;
        Ok(Way {
            frames_in: counts.frames,
            octets_in: counts.octets,
            lost: counts.lost,
            tail_dropped: counts.tail_dropped,
            duplicated: counts.duplicated,
            reordered: counts.reordered,
            left_in_queue: queue.len(),
            overruns: self.from.overruns()?,
            ..way
        })
    }

    /// Sends a burst of what is due, and says whether anything was.
    fn send_due(&self, queue: &mut Queue, way: &mut Way, now_ns: u64) -> io::Result<bool> {
        let mut frames = Vec::new();
        while frames.len() < BURST_MAX
            && let Some((due_ns, frame)) = queue.pop(now_ns)
        {
            way.lateness.record(now_ns - due_ns);
            frames.push(frame);
        }
        let sent = self.to.send(&frames)?;
        way.frames_out += sent.0;
        way.octets_out += sent.1;
        way.refused += frames.len() as u64 - sent.0;
        Ok(!frames.is_empty())
    }

    /// Sleeps until something comes, or `at_most` has passed.
    fn rest(&self, at_most: Duration) -> Result<(), Failure> {
        let timeout = Timespec::try_from(at_most.min(LOOK))?;
        match poll(&mut [PollFd::new(self.from, PollFlags::IN)], Some(&timeout)) {
            Ok(_) | Err(rustix::io::Errno::INTR) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }
}
